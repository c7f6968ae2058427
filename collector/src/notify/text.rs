//! The words of a notice, for people. Pure. Whoever puts them into a format escapes them for it.

use highwater_ipc::time::format_rfc3339_ms;

use super::notice::{Flag, Notice, Owner, Transition};

/// A notice about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// What is told.
    pub notice: &'a Notice,
    /// The collector's clock, milliseconds.
    pub now_ms: i64,
    /// Where people read what to do, with `{kind}`, `{resource}` and `{severity}` for the flag's.
    pub runbook_url: Option<&'a str>,
    /// Whether the receiver was told before and is only reminded.
    pub again: bool,
}

impl Sending<'_> {
    /// The address of what to do about this flag.
    pub fn runbook(&self) -> Option<String> {
        let flag = &self.notice.flag;
        let fill = |url: &str| {
            url.replace("{kind}", &flag.kind)
                .replace("{resource}", &flag.resource)
                .replace("{severity}", flag.severity.name())
        };
        self.runbook_url.map(fill)
    }
}

/// What it is about, the same for all notices of a flag: `SEMMNI on web-17 (trend)`.
pub fn subject(flag: &Flag) -> String {
    one_line(&format!("{} on {} ({})", flag.resource, flag.host, flag.kind))
}

/// What happened, in a line: `critical: SEMMNI on web-17: 121 of 128 used, full 2026-11-24T05:48:00.000Z`.
pub fn summary(notice: &Notice) -> String {
    let flag = &notice.flag;
    let head = match notice.transition {
        Transition::Raised => flag.severity.name().to_owned(),
        Transition::Worsened => format!("{}, worse", flag.severity.name()),
        Transition::Eased => format!("{}, better", flag.severity.name()),
        Transition::Cleared => "cleared".to_owned(),
        Transition::Test => "test".to_owned(),
    };
    let mut line = format!("{head}: {} on {}", flag.resource, flag.host);
    if let Some(used) = used(flag) {
        line.push_str(&format!(": {used}"));
    }
    if let (Some(eta), false) = (flag.eta_ms, notice.transition == Transition::Cleared) {
        line.push_str(&format!(", full {}", format_rfc3339_ms(eta)));
    }
    one_line(&line)
}

/// `121 of 128 used`.
pub fn used(flag: &Flag) -> Option<String> {
    match (flag.used, flag.limit) {
        (Some(used), Some(limit)) => Some(format!("{used} of {limit} used")),
        (Some(used), None) => Some(format!("{used} used")),
        _ => None,
    }
}

/// When the limit is reached, and the interval of that; nothing of what is cleared.
pub fn eta(notice: &Notice) -> Option<String> {
    let flag = &notice.flag;
    if notice.transition == Transition::Cleared {
        return None;
    }
    let eta = format_rfc3339_ms(flag.eta_ms?);
    Some(match (flag.eta_low_ms, flag.eta_high_ms) {
        (None, None) => eta,
        (low, high) => {
            let bound = |ms: Option<i64>| ms.map_or("?".to_owned(), format_rfc3339_ms);
            format!("{eta} ({} .. {})", bound(low), bound(high))
        }
    })
}

/// `apache (uid 48), httpd: 117 held, 96 orphaned`.
pub fn owner(owner: &Owner) -> String {
    let user = owner.user.as_deref().unwrap_or("no name");
    let comm = owner.comm.as_deref().map_or(String::new(), |comm| format!(", {comm}"));
    one_line(&format!("{user} (uid {}){comm}: {} held, {} orphaned", owner.uid, owner.arrays, owner.orphans))
}

/// What to do, a line a step and one for its command; nothing about what is cleared.
pub fn remedy(notice: &Notice) -> Option<String> {
    let flag = &notice.flag;
    if notice.transition == Transition::Cleared || flag.remedy.is_empty() {
        return None;
    }
    let mut lines = Vec::new();
    for (n, step) in flag.remedy.iter().enumerate() {
        let risk = if step.risk.is_empty() { String::new() } else { format!(" (risk: {})", step.risk) };
        lines.push(one_line(&format!("{}. {}{risk}", n + 1, step.step)));
        lines.extend(step.command.iter().map(|command| format!("   {}", one_line(command))));
    }
    Some(lines.join("\n"))
}

/// Without what would end a line or move a terminal: each control character becomes a blank. Texts of hosts are escaped
/// long before; this is the fence behind that.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::notice::samples::full;
    use super::*;

    #[test]
    fn the_words_say_what_where_how_much_and_when() {
        let notice = full(1, Transition::Raised);
        assert_eq!(subject(&notice.flag), "SEMMNI on web-17<!channel> (trend)");
        assert_eq!(
            summary(&notice),
            "critical: SEMMNI on web-17<!channel>: 121 of 128 used, full 2026-11-25T01:08:00.000Z"
        );
        assert_eq!(summary(&full(2, Transition::Cleared)), "cleared: SEMMNI on web-17<!channel>: 121 of 128 used");
        assert!(eta(&notice).unwrap().ends_with(" (2026-11-25T00:20:00.000Z .. 2026-11-25T02:33:20.000Z)"));
        let over = full(2, Transition::Cleared);
        assert_eq!((eta(&over), remedy(&over)), (None, None));
        assert!(remedy(&notice).unwrap().starts_with("1. remove the 96 certain orphans (risk: none"));
    }

    #[test]
    fn no_text_makes_a_second_line() {
        let mut notice = full(1, Transition::Raised);
        notice.flag.host = "a\r\nBcc: everybody\u{1b}[2J\u{2028}b".to_owned();
        for text in [subject(&notice.flag), summary(&notice)] {
            assert!(text.contains("a  Bcc: everybody [2J b"), "{text}");
        }
    }

    #[test]
    fn a_runbook_is_found_by_kind_and_resource() {
        let notice = full(1, Transition::Raised);
        let url = Some("https://wiki/{kind}/{resource}#{severity}");
        let sending = Sending { notice: &notice, now_ms: 0, runbook_url: url, again: false };
        assert_eq!(sending.runbook().as_deref(), Some("https://wiki/trend/SEMMNI#critical"));
    }
}
