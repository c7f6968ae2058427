//! A mail (RFC 5322). Pure.
//!
//! All mails of a flag are one thread: the first has the Message-Id `<FLAG-1@DOMAIN>`, later ones name it in In-Reply-To and
//! References and keep its subject, whether or not it ever arrived. No header holds a line end that we did not write, and
//! what is not ASCII is an encoded word (RFC 2047); the body is quoted-printable, so no line is too long for any server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::notice::{Notice, Transition};
use super::text::{self, Sending, one_line};

/// The most bytes of an encoded line of the body, without its end.
const LINE: usize = 76;
/// Bytes of text in one encoded word: 75 characters at most, with its frame of 12.
const WORD: usize = 45;

/// Who writes to whom.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The sender's address.
    pub from: &'a str,
    /// The addresses.
    pub to: &'a [String],
}

/// The mail, lines ended by CR LF.
pub fn message(sending: &Sending<'_>, envelope: Envelope<'_>) -> String {
    let notice = sending.notice;
    let mut lines = vec![
        format!("From: Highwater <{}>", one_line(envelope.from)),
        format!("To: {}", envelope.to.iter().map(|to| one_line(to)).collect::<Vec<_>>().join(",\r\n ")),
        format!("Subject: {}", header_text(&subject(notice))),
        format!("Date: {}", date(sending.now_ms)),
    ];
    lines.extend(thread(notice, domain(envelope.from)));
    lines.extend([
        "Auto-Submitted: auto-generated".to_owned(),
        format!("X-Highwater-Id: {}", notice.id()),
        format!("X-Highwater-Transition: {}", notice.transition.name()),
        format!("X-Highwater-Severity: {}", notice.flag.severity.name()),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "Content-Transfer-Encoding: quoted-printable".to_owned(),
    ]);
    format!("{}\r\n\r\n{}", lines.join("\r\n"), quoted_printable(&body(sending)))
}

fn subject(notice: &Notice) -> String {
    let subject = text::subject(&notice.flag);
    match notice.transition {
        Transition::Test => "Highwater: test".to_owned(),
        _ if notice.number <= 1 => format!("Highwater: {subject}"),
        _ => format!("Re: Highwater: {subject}"),
    }
}

fn thread(notice: &Notice, domain: &str) -> Vec<String> {
    let mut lines = vec![format!("Message-ID: <{}@{domain}>", notice.id())];
    if notice.number > 1 {
        let first = format!("<{}-1@{domain}>", notice.flag.id());
        lines.push(format!("In-Reply-To: {first}"));
        lines.push(format!("References: {first}"));
    }
    lines
}

fn domain(from: &str) -> &str {
    let domain = from.rsplit_once('@').map_or("", |(_, domain)| domain);
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if domain.is_empty() || !domain.chars().all(is_name) { "highwater.invalid" } else { domain }
}

fn body(sending: &Sending<'_>) -> String {
    let flag = &sending.notice.flag;
    let mut out = format!("{}\n\n{}\n", text::summary(sending.notice), paragraph(&flag.why));
    if let Some(eta) = text::eta(sending.notice) {
        out.push_str(&format!("Full: {eta}\n"));
    }
    if let Some(owner) = &flag.owner {
        out.push_str(&format!("Holder: {}\n", text::owner(owner)));
    }
    if let Some(remedy) = text::remedy(sending.notice) {
        out.push_str(&format!("\nWhat to do:\n{remedy}\n"));
    }
    if let Some(url) = sending.runbook() {
        out.push_str(&format!("\n{}\n", one_line(&url)));
    }
    out.push_str(&format!("\nhighwater flag show {}\n", flag.id()));
    out
}

/// Our own line ends stay, other control characters go.
fn paragraph(text: &str) -> String {
    text.lines().map(one_line).collect::<Vec<_>>().join("\n")
}

/// Header text: as it is where it is ASCII, else as encoded words on lines of their own.
fn header_text(text: &str) -> String {
    let text = one_line(text);
    if text.is_ascii() && text.len() <= 900 && !text.contains("=?") {
        return text;
    }
    let mut words = vec![String::new()];
    for c in text.chars() {
        if words.last().is_some_and(|word| word.len() + c.len_utf8() > WORD) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let encoded = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

fn date(now_ms: i64) -> String {
    let at = Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    jiff::fmt::rfc2822::to_string(&at.to_zoned_datetime(TimeZone::UTC)).unwrap_or_default()
}

/// RFC 2045, 6.7.
fn quoted_printable(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut length = 0;
        let bytes = line.as_bytes();
        for (n, byte) in bytes.iter().enumerate() {
            let blank_at_end = *byte == b' ' && n + 1 == bytes.len();
            // A dot that begins a line is the transport's to double; encoded, it is nobody's.
            let plain = (b' '..=b'~').contains(byte) && *byte != b'=' && !blank_at_end && !(*byte == b'.' && n == 0);
            let piece = if plain { char::from(*byte).to_string() } else { format!("={byte:02X}") };
            if length + piece.len() > LINE - 1 {
                out.push_str("=\r\n");
                length = 0;
            }
            length += piece.len();
            out.push_str(&piece);
        }
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::notice::samples::full;
    use super::*;

    fn sent(notice: &Notice) -> String {
        let to = ["ops@example.org".to_owned(), "night@example.org".to_owned()];
        let envelope = Envelope { from: "highwater@example.org", to: &to };
        let runbook_url = Some("https://wiki.example.org/highwater/{kind}");
        message(&Sending { notice, now_ms: 1_795_558_861_000, runbook_url, again: false }, envelope)
    }

    #[test]
    fn a_mail_reads_as_its_golden_text() {
        super::super::golden::check("mail.txt", &sent(&full(1, Transition::Raised)));
        super::super::golden::check("mail_cleared.txt", &sent(&full(3, Transition::Cleared)));
    }

    #[test]
    fn all_mails_of_a_flag_are_one_thread() {
        let [first, later] = [full(1, Transition::Raised), full(4, Transition::Worsened)].map(|n| sent(&n));
        assert!(
            first.contains("\r\nMessage-ID: <000000001234abcd-1@example.org>\r\n") && !first.contains("In-Reply-To")
        );
        assert!(later.contains("\r\nIn-Reply-To: <000000001234abcd-1@example.org>\r\n"));
        let subject = |mail: &str| mail.lines().find_map(|l| l.strip_prefix("Subject: ").map(str::to_owned)).unwrap();
        assert_eq!(subject(&later), format!("Re: {}", subject(&first)));
    }

    #[test]
    fn no_name_of_a_host_makes_a_header() {
        for name in ["x\r\nBcc: everybody@example.org", "né\r\n\r\nBody", "=?utf-8?B?AAAA?=", &"é".repeat(2_000)] {
            let mut notice = full(1, Transition::Raised);
            notice.flag.host = (*name).to_owned();
            notice.flag.why = (*name).to_owned();
            let mail = sent(&notice);
            let (head, body) = mail.split_once("\r\n\r\n").unwrap();
            assert!(!head.to_lowercase().contains("\r\nbcc:"), "{head}");
            assert!(head.is_ascii() && body.is_ascii());
            assert!(head.contains("\r\nContent-Transfer-Encoding: quoted-printable"), "{head}");
            assert!(mail.split("\r\n").all(|line| line.len() < 998 && !line.contains(['\r', '\n'])), "{mail}");
        }
    }

    #[test]
    fn the_body_has_short_lines_and_reads_back() {
        let text = format!("{}\n.\n trailing \né=\n", "long ".repeat(60));
        let encoded = quoted_printable(&text);
        assert!(encoded.split("\r\n").all(|line| line.len() <= LINE && !line.starts_with('.') && !line.ends_with(' ')));
        let mut bytes = Vec::new();
        let joined = encoded.replace("=\r\n", "").replace("\r\n", "\n");
        let mut rest = joined.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            if *first == b'=' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                rest = &after[2..];
            } else {
                bytes.push(*first);
                rest = after;
            }
        }
        assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }
}
