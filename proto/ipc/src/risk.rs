//! What will go wrong on a host although nothing has yet.

use crate::text::HostText;

/// One risk of one host: a fact, change-only like availability.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Risk {
    /// Which.
    pub kind: RiskKind,
    /// What was found, e.g. whose objects.
    pub why: HostText,
    /// What a person can do.
    pub remedy: HostText,
}

impl Risk {
    /// The most risks a sample carries.
    pub const MAX: usize = 16;
}

/// The kinds of risks a host can see itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RiskKind {
    /// `RemoveIPC=yes` in logind.conf and a login uid (not a system one) holds objects: they go when its last session
    /// ends (`logind.conf(5)`).
    RemoveIpc,
}

impl RiskKind {
    /// All kinds, with their number in records (never reused) and their word in JSON.
    pub const ALL: [(RiskKind, u8, &'static str); 1] = [(RiskKind::RemoveIpc, 1, "removeipc")];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(k, ..)| *k == self).map_or("", |(_, _, name)| name)
    }
}
