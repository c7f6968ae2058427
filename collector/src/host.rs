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

/// Why a newcomer is kept apart. The one that writes as this host stays untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quarantined: {}; {}", self.why(), self.remedy())]
pub enum Quarantine {
    /// A boot that another one had superseded is back: two machines, or one set back, use one certificate.
    BootReturned,
    /// Another agent with this certificate is connected, here or to another collector, and lives.
    OtherIsLive,
    /// Another boot on a machine that says it is another one.
    OtherMachine,
}

impl Quarantine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BootReturned, Self::OtherIsLive, Self::OtherMachine];

    /// A word for the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::BootReturned => "boot_returned",
            Self::OtherIsLive => "other_is_live",
            Self::OtherMachine => "other_machine",
        }
    }

    /// Reads what `name` said.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|q| q.name() == name)
    }

    /// What was found.
    pub fn why(self) -> &'static str {
        match self {
            Self::BootReturned => {
                "a later boot of this host has written already, so this is a copy of it or was set back"
            }
            Self::OtherIsLive => "another agent with this host's certificate is connected and answers",
            Self::OtherMachine => "machine-id and boot are not those of this host",
        }
    }

    /// What a person does about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::BootReturned => {
                "enrol it with a token of its own (`highwater token create`) and a state directory of its own"
            }
            Self::OtherIsLive => {
                "enrol this copy with a token of its own (`highwater token create`), and give it its own state directory"
            }
            Self::OtherMachine => {
                "enrol a copy with `highwater token create`, a replacement with `highwater token create --host HOST` \
                 (if each boot changes /etc/machine-id, first make it lasting or empty)"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quarantine_names_a_remedy_and_reads_back_from_its_word() {
        for quarantine in Quarantine::ALL {
            assert!(quarantine.to_string().contains("highwater token create"), "{quarantine}");
            assert_eq!(Quarantine::from_name(quarantine.name()), Some(quarantine));
            // What is logged begins with the host, and what is longer than a text of the wire is cut.
            let logged = format!("host {}: {quarantine}", HostId(i64::MAX));
            assert!(logged.len() <= highwater_ipc::text::HostText::MAX, "{} bytes: {logged}", logged.len());
        }
        // Enrolling alone would help such a host until its next boot.
        assert!(Quarantine::OtherMachine.remedy().contains("if each boot changes /etc/machine-id"));
        assert_eq!(Quarantine::from_name("no such word"), None);
    }

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        assert_eq!(HostId::parse(&HostId(0x1234).to_string()), Some(HostId(0x1234)));
        for other in ["", "0", "0000000000000000", "ffffffffffffffff", "+000000000000012", "00000000000000AB"] {
            assert_eq!(HostId::parse(other), None, "{other}");
        }
    }
}
