//! Looks for secrets in whatever spelling: as they are, hexadecimal, base64 at any offset, percent-encoded, as a list of
//! bytes.

use std::fmt::Write as _;

/// A secret and what it is called when it is found.
#[derive(Clone)]
pub(super) struct Secret {
    name: String,
    spellings: Vec<(&'static str, String)>,
}

/// Something that is searched, as text in which each byte is one character.
pub(super) struct Place {
    pub(super) name: String,
    text: String,
    /// Without line breaks, also those that a log has escaped: base64 is wrapped.
    joined: String,
}

impl Secret {
    pub(super) fn new(name: &str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 8, "{name} is too short to be told from chance");
        Self { name: name.to_owned(), spellings: spellings(bytes) }
    }
}

impl Place {
    /// Fails unless the marker, which must be there, is found: else nothing would be, and the test would say all is
    /// well.
    #[track_caller]
    pub(super) fn new(name: &str, bytes: &[u8], marker: &str) -> Self {
        let text = characters(bytes);
        let joined = text.replace("\\n", "").replace(['\n', '\r'], "");
        let place = Self { name: name.to_owned(), text, joined };
        assert!(place.text.contains(marker), "{name}: no {marker:?} in {} bytes", bytes.len());
        place
    }

    /// Which secrets are in it, and how they are spelled there.
    pub(super) fn holds(&self, secrets: &[Secret]) -> Vec<String> {
        let mut found = Vec::new();
        for secret in secrets {
            for (spelled, text) in &secret.spellings {
                if self.text.contains(text.as_str()) || self.joined.contains(text.as_str()) {
                    found.push(format!("{}: {} ({spelled})", self.name, secret.name));
                }
            }
        }
        found.extend(tokens_in(&self.text).into_iter().map(|token| format!("{}: a token {token}...", self.name)));
        found
    }
}

/// Beginnings of whole tokens of either kind: also of those that nobody but the programs knows.
fn tokens_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("hw1.").chain(text.match_indices("hwo1.")) {
        let mut parts = text[at..].splitn(3, '.');
        let (_, id, rest) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let secret = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric()) && secret >= 32 {
            found.push(text[at..].chars().take(12).collect());
        }
    }
    found
}

fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn spellings(bytes: &[u8]) -> Vec<(&'static str, String)> {
    let hex = bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    });
    let percent = |plain: fn(u8) -> bool| {
        bytes.iter().fold(String::new(), |mut out, byte| {
            let _ = if plain(*byte) { write!(out, "{}", char::from(*byte)) } else { write!(out, "%{byte:02X}") };
            out
        })
    };
    let list = format!("{bytes:?}");
    let mut all = vec![
        ("as it is", characters(bytes)),
        ("hexadecimal", hex.clone()),
        ("hexadecimal", hex.to_uppercase()),
        ("percent-encoded", percent(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))),
        ("percent-encoded", percent(|_| false)),
        ("a list", list.trim_matches(['[', ']']).to_owned()),
    ];
    for offset in 0..3 {
        let text = base64_at(offset, bytes);
        all.push(("base64", text.replace('+', "-").replace('/', "_")));
        all.push(("base64", text));
    }
    all
}

/// The digits of base64 that these bytes alone decide, if they begin at this offset of three.
fn base64_at(offset: usize, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |n: usize| {
        let byte = (n / 8).checked_sub(offset).and_then(|at| bytes.get(at)).copied().unwrap_or(0);
        usize::from(byte >> (7 - n % 8) & 1)
    };
    let (first, last) = ((offset * 8).div_ceil(6), (offset + bytes.len()) * 8 / 6);
    let digit = |n: usize| (0..6).fold(0, |value, i| value << 1 | bit(n * 6 + i));
    (first..last).map(|n| char::from(DIGITS[digit(n)])).collect()
}

#[test]
fn a_secret_is_found_however_it_is_spelled_and_a_token_that_nobody_planted_too() {
    let bytes = b"pl4nted:P@ss/word\xff";
    let secret = [Secret::new("it", bytes)];
    let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    let texts: [Vec<u8>; 11] = [
        bytes.to_vec(),
        hex.to_lowercase().into_bytes(),
        hex.into_bytes(),
        b"pl4nted%3AP%40ss%2Fword%FF".to_vec(),
        format!("{bytes:?}").into_bytes(),
        // `printf 'pl4nted:P@ss/word\xff' | base64`, behind nothing, one byte and two.
        b"cGw0bnRlZDpQQHNzL3dvcmT/".to_vec(),
        b"AHBsNG50ZWQ6UEBzcy93b3Jk/w==".to_vec(),
        b"AABwbDRudGVkOlBAc3Mvd29yZP8=".to_vec(),
        b"cGw0bnRlZDpQQHNzL3dvcmT_".to_vec(),
        b"cGw0bnRlZDpQQ\nHNzL3dvcmT/".to_vec(),
        b"cGw0bnRlZDpQQ\\nHNzL3dvcmT/".to_vec(),
    ];
    for text in texts {
        let place = Place::new("a text", &[b"before ".as_slice(), &text, b" after"].concat(), "before");
        assert!(!place.holds(&secret).is_empty(), "{}", characters(&text));
    }
    assert!(Place::new("a text", b"before pl4nted:P@ss/wor", "before").holds(&secret).is_empty());
    for token in [format!("hwo1.a1b2.{}", "f".repeat(64)), format!("hw1.a1.{}.{}", "f".repeat(64), "0".repeat(64))] {
        assert_eq!(Place::new("a text", format!("before={token}").as_bytes(), "before").holds(&[]).len(), 1);
    }
    assert!(Place::new("a text", b"before hwo1.a1.*** hw1.a1.***.00", "before").holds(&[]).is_empty());
}

#[test]
#[should_panic(expected = "no \"marker\"")]
fn a_place_without_its_marker_fails() {
    Place::new("an empty log", b"", "marker");
}
