//! What an event is: something that happened on one host, with the instant and where it is known who did it.

use std::sync::Arc;

use highwater_ipc::activity::{Act, Actor, Did, Peak};
use highwater_ipc::limits::Limits;
use highwater_ipc::object::Kind;
use highwater_ipc::record::EpochNo;
use highwater_ipc::risk::Risk;
use highwater_ipc::snapshot::{BootId, NamespaceId, Snapshot};
use highwater_ipc::text::HostText;

use super::change::What;
use super::gap::Gap;
use crate::flag::FlagTold;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// First sample that shows it, host's wall clock, milliseconds.
    pub at_ms: i64,
    /// Last sample that does not show it; `None` = the instant is exact.
    pub after_ms: Option<i64>,
    /// Where, for what belongs to one namespace.
    pub namespace: Option<NamespaceId>,
    /// What that namespace is.
    pub place: Place,
    /// What.
    pub happened: Happened,
}

/// What a namespace is to a person.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// Whether it is the host's own; `None` = that is not known.
    pub own: Option<bool>,
    /// Its name, as claimed.
    pub name: Option<HostText>,
}

/// The kinds of events of the contract that this version can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the event of that name")]
pub enum EventKind {
    Created,
    Removed,
    Changed,
    Refused,
    LimitChanged,
    Reboot,
    ClockStep,
    Gap,
    FlagRaised,
    FlagCleared,
    AgentStarted,
    AgentStopped,
    NamespaceAppeared,
    NamespaceGone,
    Peak,
    Lost,
    RiskRaised,
    RiskCleared,
}

impl EventKind {
    /// All kinds with their words: those of the contract, then those added to it.
    pub const ALL: [(EventKind, &'static str); 18] = [
        (EventKind::Created, "created"),
        (EventKind::Removed, "removed"),
        (EventKind::Changed, "changed"),
        (EventKind::Refused, "refused"),
        (EventKind::LimitChanged, "limit_changed"),
        (EventKind::Reboot, "reboot"),
        (EventKind::ClockStep, "clock_step"),
        (EventKind::Gap, "gap"),
        (EventKind::FlagRaised, "flag_raised"),
        (EventKind::FlagCleared, "flag_cleared"),
        (EventKind::AgentStarted, "agent_started"),
        (EventKind::AgentStopped, "agent_stopped"),
        (EventKind::NamespaceAppeared, "namespace_appeared"),
        (EventKind::NamespaceGone, "namespace_gone"),
        (EventKind::Peak, "peak"),
        (EventKind::Lost, "lost"),
        (EventKind::RiskRaised, "risk_raised"),
        (EventKind::RiskCleared, "risk_cleared"),
    ];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(k, _)| *k == self).map_or("", |(_, name)| name)
    }

    /// The kind of that word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(k, _)| *k)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An object, a limit or a namespace changed.
    Change {
        /// How.
        what: What,
        /// The state whose names of users and groups apply: the one in which the object was last seen.
        names: Names,
        /// Who did it, where that was traced.
        by: Option<Actor>,
    },
    /// Calls of one process that no sample shows in its objects: refused ones, and objects that it made or removed
    /// between two samples.
    Acted {
        /// What, who, how often.
        act: Box<Act>,
        /// When its last call was, host's wall clock, milliseconds; the first one is the event's instant.
        last_ms: i64,
        /// Of objects made or removed: whether they are known to have come and gone between two samples.
        transient: bool,
        /// Limits of its namespace, where that is known.
        limits: Option<Limits>,
        /// The names of users.
        names: Names,
    },
    /// More was in use between two samples than either shows.
    Peak {
        /// When and how much.
        peak: Peak,
        /// Limits of its namespace.
        limits: Option<Limits>,
    },
    /// What was traced between two samples is not whole.
    Lost {
        /// Events that the kernel dropped.
        lost: u64,
        /// Calls beyond what one sample carries.
        more: u64,
    },
    /// Something threatens the host that did not.
    RiskRaised(Risk),
    /// That is over.
    RiskCleared(Risk),
    /// The host started again.
    Reboot {
        /// The boot that ended.
        before: BootId,
        /// The boot that began.
        after: BootId,
        /// When it began: wall clock minus time since boot, milliseconds.
        booted_ms: i64,
        /// How many objects went with it, by kind in the order of [`Kind::ALL`].
        lost: [usize; 3],
    },
    /// The wall clock moved against the boot clock.
    ClockStep {
        /// By how much, milliseconds.
        by_ms: i64,
    },
    /// Samples are missing.
    Gap(Gap),
    /// There were samples, but one kind of objects of the namespace could not be read. An open one was not over by the end
    /// of what was told.
    Unread {
        /// Which.
        kind: Kind,
        /// Since when and until when.
        gap: Gap,
    },
    /// An agent process began to sample.
    AgentStarted {
        /// Its epoch.
        epoch: EpochNo,
    },
    /// The agent was stopped in order.
    AgentStopped,
    /// A flag went up or down.
    Flag(Box<FlagTold>),
}

/// Names of users and groups, shared.
#[derive(Clone, Debug)]
pub struct Names(pub Arc<Snapshot>);

impl Names {
    /// The name of a uid.
    pub fn user(&self, uid: u32) -> Option<&HostText> {
        self.0.state.users.get(&uid)
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.0.state.users == other.0.state.users && self.0.state.groups == other.0.state.groups
    }
}

impl Eq for Names {}

impl Event {
    /// The object it happened to.
    pub fn subject(&self) -> Option<(Kind, i32)> {
        match &self.happened {
            Happened::Change { what: What::Created(o) | What::Removed(o), .. } => Some((o.kind(), o.id())),
            Happened::Change { what: What::Changed { after, .. }, .. } => Some((after.kind(), after.id())),
            _ => None,
        }
    }

    /// Whether it may say something of that object: it happened to it, or to no one object.
    pub fn concerns(&self, object: (Kind, i32)) -> bool {
        match &self.happened {
            Happened::Acted { act, .. } => act.kind == object.0 && act.ids.contains(&object.1),
            Happened::Unread { kind, .. } => *kind == object.0,
            _ => self.subject().is_none_or(|subject| subject == object),
        }
    }

    /// Which kind this is.
    pub fn kind(&self) -> EventKind {
        match &self.happened {
            Happened::Change { what, .. } => match what {
                What::Created(_) => EventKind::Created,
                What::Removed(_) => EventKind::Removed,
                What::Changed { .. } => EventKind::Changed,
                What::LimitChanged { .. } => EventKind::LimitChanged,
                What::NamespaceAppeared(_) => EventKind::NamespaceAppeared,
                What::NamespaceGone { .. } => EventKind::NamespaceGone,
            },
            Happened::Reboot { .. } => EventKind::Reboot,
            Happened::ClockStep { .. } => EventKind::ClockStep,
            Happened::Gap(_) | Happened::Unread { .. } => EventKind::Gap,
            Happened::AgentStarted { .. } => EventKind::AgentStarted,
            Happened::AgentStopped => EventKind::AgentStopped,
            Happened::Flag(told) if told.raised => EventKind::FlagRaised,
            Happened::Flag(_) => EventKind::FlagCleared,
            Happened::Acted { act, .. } => match act.did {
                Did::Created => EventKind::Created,
                Did::Removed => EventKind::Removed,
                Did::Refused(_) => EventKind::Refused,
            },
            Happened::Peak { .. } => EventKind::Peak,
            Happened::Lost { .. } => EventKind::Lost,
            Happened::RiskRaised(_) => EventKind::RiskRaised,
            Happened::RiskCleared(_) => EventKind::RiskCleared,
        }
    }
}

/// The limit that a refused call met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Its kernel name, e.g. `SEMMNI`.
    pub resource: &'static str,
    /// In use at the call; of a limit of one object: asked for.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// The limit that a refused call met: as it was traced, or the limit of one object that the call went beyond (`semget(2)`:
/// EINVAL if nsems > SEMMSL; `shmget(2)`: EINVAL if size > SHMMAX).
pub fn bound_by(act: &Act, limits: Option<&Limits>) -> Option<Bound> {
    if let Some(usage) = &act.bound_by {
        return Some(Bound { resource: usage.resource.name(), used: usage.used, limit: usage.limit });
    }
    let limits = limits.filter(|_| act.did == Did::Refused(EINVAL))?;
    let (resource, limit) = match act.kind {
        Kind::Sem => ("SEMMSL", limits.semmsl),
        Kind::Shm => ("SHMMAX", limits.shmmax),
        Kind::Msg => return None,
    };
    (act.size > limit).then_some(Bound { resource, used: act.size, limit })
}

/// `errno(3)`: a call's argument is not valid.
const EINVAL: u32 = 22;
