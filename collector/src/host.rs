//! Which host, inside the collector.

use std::fmt;

/// A host's id: random, positive, given at enrolment and named by its certificate. Opaque to everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub i64);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl HostId {
    /// Reads what `Display` wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
            return None;
        }
        i64::from_str_radix(text, 16).ok().filter(|id| *id > 0).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        assert_eq!(HostId::parse(&HostId(0x1234).to_string()), Some(HostId(0x1234)));
        for other in ["", "0", "0000000000000000", "ffffffffffffffff", "+000000000000012", "00000000000000AB"] {
            assert_eq!(HostId::parse(other), None, "{other}");
        }
    }
}
