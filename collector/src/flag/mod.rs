//! Flags: what is going wrong with a host's limits, or went. Pure but for [`store`](crate::store::flag), which keeps them.
//!
//! [`feed`] makes the rows of each series from samples, live and for `backtest` alike; [`judge`] gives them to the
//! forecaster and keeps one flag for each series; [`words`] says why; [`state`] packs a judge between two steps.

pub mod desk;
pub mod feed;
pub mod judge;
pub mod state;
#[cfg(test)]
mod tests;
pub mod words;

use highwater_ipc::limits::Resource;
use highwater_ipc::snapshot::NamespaceId;
use serde::{Deserialize, Serialize};

use crate::host::HostId;
use crate::query::remedy::Step;

/// A flag's number: random-looking, positive, the same whenever the same records are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlagId(pub i64);

impl FlagId {
    /// Reads what `Display` wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        HostId::parse(text).map(|same| Self(same.0))
    }
}

impl std::fmt::Display for FlagId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What sort of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Little room is left, without growth.
    Tight,
    /// It grows towards its limit.
    Trend,
    /// Calls are being refused.
    Refusing,
}

impl Kind {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tight => "tight",
            Kind::Trend => "trend",
            Kind::Refusing => "refusing",
        }
    }

    /// What that word means.
    pub fn from_name(name: &str) -> Option<Self> {
        [Kind::Tight, Kind::Trend, Kind::Refusing].into_iter().find(|kind| kind.name() == name)
    }
}

/// How urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Exhaustion is likely within days, or little room is left.
    Warning,
    /// Exhaustion is likely within a day, or calls are refused already.
    Critical,
}

impl Severity {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// What that word means.
    pub fn from_name(name: &str) -> Option<Self> {
        [Severity::Warning, Severity::Critical].into_iter().find(|severity| severity.name() == name)
    }
}

/// When the limit will be reached, host's wall clock, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eta {
    /// Most likely.
    pub at_ms: Option<i64>,
    /// Lower end of the 80 % interval.
    pub low_ms: Option<i64>,
    /// Upper end; `None` with a lower one = it may never come.
    pub high_ms: Option<i64>,
}

/// Who holds most of what is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose.
    pub uid: u32,
    /// That uid's name, escaped.
    pub user: Option<String>,
    /// The program, escaped; `None` = not known, or several.
    pub comm: Option<String>,
    /// How many objects.
    pub objects: u64,
    /// Objects that nobody seems to hold any more, of any grade.
    pub orphans: u64,
}

/// A flag as it is judged last.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    /// Whose.
    pub host: HostId,
    /// Which one.
    pub id: FlagId,
    /// Where.
    pub namespace: NamespaceId,
    /// Whether that is the host's own.
    pub own: bool,
    /// Of which limit.
    pub resource: Resource,
    /// What sort of trouble.
    pub kind: Kind,
    /// How urgent.
    pub severity: Severity,
    /// When it was raised, host's wall clock, milliseconds.
    pub raised_ms: i64,
    /// When it was cleared; `None` = it is up.
    pub cleared_ms: Option<i64>,
    /// What was used.
    pub used: u64,
    /// The limit.
    pub limit: u64,
    /// Growth that it rests on; `None` = it says nothing of growth.
    pub growth_per_hour: Option<f64>,
    /// When the limit will be reached.
    pub eta: Eta,
    /// Who holds most; `None` = not known.
    pub holder: Option<Holder>,
    /// In words.
    pub why: String,
    /// What to do, in order.
    pub remedy: Vec<Step>,
}

/// A transition of a flag, for timelines and notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagEvent {
    /// Whose.
    pub host: HostId,
    /// Of which flag.
    pub flag: FlagId,
    /// Counts from 0 within the flag.
    pub no: u32,
    /// When, host's wall clock, milliseconds.
    pub at_ms: i64,
    /// Where in the stream it was decided: the record.
    pub epoch: highwater_ipc::record::EpochNo,
    /// Likewise.
    pub seq: highwater_ipc::record::Seq,
    /// What happened.
    pub what: What,
    /// How urgent it is since, or was when it was cleared.
    pub severity: Severity,
}

/// What happened to a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It went up.
    Raised,
    /// It became critical.
    Worsened,
    /// It is only a warning any more.
    Eased,
    /// It went down.
    Cleared,
}

impl What {
    /// All, in order of their codes.
    pub const ALL: [What; 4] = [What::Raised, What::Worsened, What::Eased, What::Cleared];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            What::Raised => "raised",
            What::Worsened => "worsened",
            What::Eased => "eased",
            What::Cleared => "cleared",
        }
    }
}
