//! Text from hosts: bytes, never trusted, shown without losing one of them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// Bytes that a host calls text (comm, user, group, container or host name, error text), at most
/// [`HostText::MAX`] of them.
///
/// Not a `String`: the kernel cuts a comm at 15 bytes, in the middle of a character if need be, and a passwd file
/// holds what its author put there. `Display` and [`HostText::escaped`] turn it into one safe line. A clone shares the
/// bytes: each sample states every name again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HostText(Arc<[u8]>);

impl HostText {
    /// The most bytes one text may have, on the wire and in a record.
    pub const MAX: usize = 256;

    /// Takes the first [`HostText::MAX`] bytes; the rest is cut, as the kernel cuts a comm.
    pub fn cut(bytes: &[u8]) -> Self {
        Self(bytes.get(..Self::MAX).unwrap_or(bytes).into())
    }

    /// The bytes as the host gave them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Printable text in which every byte that is not printable UTF-8 stands as `\xHH`, the backslash as `\\`.
    ///
    /// Control characters, bidi controls, zero-width characters and line separators count as not printable, so
    /// the result can go to a terminal, a log line, SQL text or JSON as it is. [`HostText::from_escaped`] is its
    /// inverse.
    pub fn escaped(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c == '\\' {
                    out.push_str("\\\\");
                } else if is_shown(c) {
                    out.push(c);
                } else {
                    let mut buf = [0; 4];
                    for b in c.encode_utf8(&mut buf).bytes() {
                        push_hex(&mut out, b);
                    }
                }
            }
            for b in chunk.invalid() {
                push_hex(&mut out, *b);
            }
        }
        out
    }

    /// The bytes that [`HostText::escaped`] showed; `None` for a broken escape or more than [`HostText::MAX`] bytes.
    pub fn from_escaped(text: &str) -> Option<Self> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if *first != b'\\' {
                out.push(*first);
                continue;
            }
            match rest {
                [b'\\', tail @ ..] => {
                    out.push(b'\\');
                    rest = tail;
                }
                [b'x', high, low, tail @ ..] => {
                    out.push(hex(*high)? << 4 | hex(*low)?);
                    rest = tail;
                }
                _ => return None,
            }
        }
        (out.len() <= Self::MAX).then(|| Self(out.into()))
    }
}

impl fmt::Display for HostText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.escaped())
    }
}

impl fmt::Debug for HostText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escaped())
    }
}

impl From<&str> for HostText {
    fn from(text: &str) -> Self {
        Self::cut(text.as_bytes())
    }
}

/// Whether a character may reach a screen as it is: no control, no format or bidi control, no separator but the space.
fn is_shown(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
            | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..='\u{10ffff}')
}

fn push_hex(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push_str("\\x");
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shows_escapes_as_hex_and_keeps_letters() {
        assert_eq!(HostText::cut(b"a\n\x1b[31m\xff\xc3\xa9\\").escaped(), "a\\x0a\\x1b[31m\\xff\u{e9}\\\\");
        assert_eq!(HostText::from("\u{202e}x").escaped(), "\\xe2\\x80\\xaex");
    }

    #[test]
    fn of_host_text_256_bytes_are_kept_and_no_more() {
        assert_eq!(HostText::cut(&[b'a'; 256]).escaped().len(), 256);
        assert_eq!(HostText::cut(&[b'a'; 257]), HostText::cut(&[b'a'; 256]));
    }

    #[test]
    fn refuses_a_broken_escape() {
        assert_eq!(HostText::from_escaped("\\x0"), None);
        assert_eq!(HostText::from_escaped("\\n"), None);
    }

    proptest! {
        #[test]
        fn escaping_loses_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..=HostText::MAX)) {
            let text = HostText::cut(&bytes);
            prop_assert_eq!(HostText::from_escaped(&text.escaped()), Some(text));
        }
    }
}
