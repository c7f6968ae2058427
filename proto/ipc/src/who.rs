//! Who holds the objects of a namespace, and which of them nobody holds any more.
//!
//! The kernel keeps a uid with every object, and pids only where it happens to (`GETPID` of a semaphore, cpid and lpid of
//! a segment, lspid and lrpid of a queue). The rest is found by a scan of `/proc` on a cadence of its own: a change here
//! is stored like a change of a limit (absolute, change-only) and is no event. Live pids are not in it: their churn would
//! turn every heartbeat into a change; the pids of an orphan are those of the dead, which do not move.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::object::Kind;
use crate::text::HostText;

/// What the latest scan found about the objects of one namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Who {
    /// By uid, for each uid that owns an object here and has a process in this namespace: the distinct comms of those
    /// processes, ascending, at most [`Who::MAX_COMMS`].
    pub comms: BTreeMap<u32, Vec<HostText>>,
    /// By kind and id, what is known of an object beside its row; an object of which nothing is known is not in it.
    pub objects: BTreeMap<(Kind, i32), Known>,
}

impl Who {
    /// The most comms told of one uid.
    pub const MAX_COMMS: usize = 8;
    /// The most pids told of one object.
    pub const MAX_PIDS: usize = 8;

    /// How many entries it has: counted against [`crate::snapshot::State::MAX_ENTRIES`].
    pub fn entries(&self) -> usize {
        self.comms.values().map(|comms| 1 + comms.len()).sum::<usize>() + self.objects.len()
    }
}

/// What is known of one object beside its row.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Known {
    /// Comm of the process that made it, or else that used it last, as it was seen while that process lived.
    pub comm: Option<HostText>,
    /// Whether nobody seems to hold it any more.
    pub orphan: Option<Orphan>,
}

/// An object that nobody seems to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// How sure that is, by what a mistake would destroy.
    pub grade: Grade,
    /// What keeps it from a higher grade; of a certain one [`Doubt::None`].
    pub doubt: Doubt,
    /// The dead processes that used it last, ascending, at most [`Who::MAX_PIDS`].
    pub last_pids: Vec<i32>,
}

/// How sure it is that nobody holds an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Semaphore arrays only: everything that can be asked says so, and has for the whole waiting period. A remedy may
    /// name it.
    Certain,
    /// Those who used it last are dead, but something ([`Doubt`]) forbids to be certain.
    Likely,
    /// A segment with nattch 0: it may be a cache kept between jobs, however dead its maker.
    Unattached,
}

impl Grade {
    /// All grades, with their number in records (never reused) and their word in JSON.
    pub const ALL: [(Grade, u8, &'static str); 3] =
        [(Grade::Certain, 1, "certain"), (Grade::Likely, 2, "likely"), (Grade::Unattached, 3, "unattached")];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(g, ..)| *g == self).map_or("", |(_, _, name)| name)
    }
}

/// What keeps an orphan from being certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Nothing: it is certain.
    None,
    /// It has not been so for the whole waiting period yet.
    Waiting,
    /// A process of its uid lives (or is a zombie not reaped yet).
    OwnerLives,
    /// A process with its maker's comm, that started before the array was changed last, lives.
    MakerLives,
    /// The agent does not see all processes (hidepid, a pid namespace of its own).
    NotAllSeen,
    /// A segment: those who made and used it last are dead.
    MayBeCache,
    /// A segment: one who made it or used it last still lives.
    UserLives,
    /// Who made it was never seen, so that nobody knows whether that process lives.
    MakerUnknown,
    /// The pid of one that used it last is in use, by a process that seems to have started later.
    PidInUse,
}

impl Doubt {
    /// All doubts, with their number in records (never reused) and the words that people read.
    pub const ALL: [(Doubt, u8, &'static str); 9] = [
        (
            Doubt::None,
            1,
            "every process that used it last is dead, no process of its uid or with its maker's name lives",
        ),
        (Doubt::Waiting, 2, "every process that used it last is dead; not yet for the whole waiting period"),
        (Doubt::OwnerLives, 3, "every process that used it last is dead, but a process of its uid lives"),
        (Doubt::MakerLives, 4, "every process that used it last is dead, but one with its maker's name lives"),
        (Doubt::NotAllSeen, 5, "no process that used it last is seen, but the agent does not see all processes"),
        (Doubt::MayBeCache, 6, "nothing is attached and its maker is dead; it may be a cache kept between jobs"),
        (Doubt::UserLives, 7, "nothing is attached now, but a process that made or used it lives"),
        (Doubt::MakerUnknown, 8, "every process that used it last is dead, but its maker was never seen and may live"),
        (
            Doubt::PidInUse,
            9,
            "a process that used it last may live: its pid is in use, by one that seems to be younger",
        ),
    ];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Doubt::None => "none",
            Doubt::Waiting => "waiting",
            Doubt::OwnerLives => "owner_lives",
            Doubt::MakerLives => "maker_lives",
            Doubt::NotAllSeen => "not_all_seen",
            Doubt::MayBeCache => "may_be_cache",
            Doubt::UserLives => "user_lives",
            Doubt::MakerUnknown => "maker_unknown",
            Doubt::PidInUse => "pid_in_use",
        }
    }

    /// The words that people read, as `reason` in JSON.
    pub fn reason(self) -> &'static str {
        Self::ALL.iter().find(|(d, ..)| *d == self).map_or("", |(_, _, words)| words)
    }
}
