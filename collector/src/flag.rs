//! Flags: what is going wrong with a host's limits, or went; as they are judged, stored and shown.

use highwater_ipc::limits::Resource;
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::NamespaceId;
use serde::{Deserialize, Serialize};

use crate::host::HostId;

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

/// What makes use grow, where the events show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// What sort of event.
    pub kind: CauseKind,
    /// The program, escaped.
    pub comm: String,
    /// What each adds of what the limit counts.
    pub per_event: f64,
    /// How many were seen that added something.
    pub seen: u32,
    /// Of so many of the sort.
    pub of: u32,
    /// How many more there can be.
    pub left: u64,
    /// How many there are in a day of time seen.
    pub per_day: f64,
    /// When there will have been as many as are left.
    pub days_left: Days,
}

/// Days from when it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Days {
    /// Most likely.
    pub likely: f64,
    /// Lower end of the 80 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A sort of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CauseKind {
    /// The same process makes as many again, with time between: a reload, or a job of a running service.
    Reload,
    /// The same process makes some, not as many each time.
    Recurring,
    /// Each time another process of the program makes some, and nothing says that the earlier ones are gone.
    Process,
    /// The program starts again, and what it made before stays.
    Restart,
    /// The same, and nobody holds what its processes before made: they were killed, or ended without removing it.
    Killed,
    /// The same, again and again within minutes.
    CrashLoop,
}

impl CauseKind {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Reload, Self::Recurring, Self::Process, Self::Restart, Self::Killed, Self::CrashLoop];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Recurring => "recurring",
            Self::Process => "process",
            Self::Restart => "restart",
            Self::Killed => "killed",
            Self::CrashLoop => "crash_loop",
        }
    }

    /// What that word means.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
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
    /// What makes it grow; `None` = the events show nothing of the kind.
    pub cause: Option<Cause>,
    /// The flag of the other limit on the same objects, which is reached first: it is told in place of this one.
    pub follows: Option<FlagId>,
    /// Whether receivers are told of it: its host's policy may keep it quiet.
    pub notify: bool,
    /// In words.
    pub why: String,
    /// What to do, in order.
    pub remedy: Vec<Remedy>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// What it does.
    pub step: String,
    /// For a root shell of the host; `None` = there is no command for it.
    pub command: Option<String>,
    /// What can go wrong.
    pub risk: String,
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
    pub epoch: EpochNo,
    /// Likewise.
    pub seq: Seq,
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

/// What people see of a flag's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagState {
    /// It is up.
    Open,
    /// It is up, and somebody knows.
    Acknowledged,
    /// It is up, and nobody is told for a while.
    Silenced,
    /// It is over.
    Cleared,
}

impl FlagState {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            FlagState::Open => "open",
            FlagState::Acknowledged => "acknowledged",
            FlagState::Silenced => "silenced",
            FlagState::Cleared => "cleared",
        }
    }
}

/// What an operator said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The words.
    pub text: String,
    /// Who.
    pub by: String,
    /// When, collector's clock, milliseconds.
    pub at_ms: i64,
}

/// A flag as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFlag {
    /// Its host's name, escaped.
    pub host: String,
    /// As it was judged last.
    pub flag: Flag,
    /// What people see of its life.
    pub state: FlagState,
    /// What somebody said of it.
    pub note: Option<Note>,
    /// Until when its host is silenced, and why.
    pub silence: Option<(i64, String)>,
}

/// A transition as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// When, host's clock, milliseconds.
    pub at_ms: i64,
    /// What happened: raised, worsened, eased, cleared.
    pub what: String,
    /// How urgent it was since.
    pub severity: String,
}

/// Which flags are wanted.
#[derive(Clone, Debug, Default)]
pub struct FlagFilter {
    /// Only this host's.
    pub host: Option<HostId>,
    /// Those that are over, too.
    pub all: bool,
    /// Those after this one: when it was raised, and its number.
    pub after: Option<(i64, FlagId)>,
}

/// A flag that went up or down, as a timeline tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagTold {
    /// Which one.
    pub id: FlagId,
    /// When, host's wall clock, milliseconds.
    pub at_ms: i64,
    /// Whether it went up.
    pub raised: bool,
    /// Where.
    pub namespace: NamespaceId,
    /// Whether that is the host's own.
    pub own: bool,
    /// Of which limit.
    pub resource: String,
    /// What sort of trouble it is, or was.
    pub kind: String,
    /// How urgent it was then.
    pub severity: String,
    /// In words, as it was judged last.
    pub why: String,
}
