//! Who made an object, and whether that process, or somebody it may have left behind, lives.
//!
//! The kernel keeps the creator's uid of an array and not the process. The maker of one is known
//! - from the trace, which names the process of every `semget` that made one;
//! - or because nobody did a `semop` on it yet and exactly one process is recorded with its semaphores: who initialised
//!   it with SETVAL or SETALL;
//! - or, where the array's uid is its creator's and not root's, from a process of that uid seen alive that used it last.
//!   It need not be the maker, but the maker cannot shed that uid (only root can), so that the question whether a process
//!   of the uid lives covers the maker too; what it adds is the comm.
//!
//! For an array that was there before the agent began, and whose last users are dead, none of these holds: it is never
//! certain. The creator's uid cannot stand for the maker: of root, who made Apache's, there is always a process.
//!
//! A maker is *not gone* while any of these lives:
//! - itself, by pid and start;
//! - a process with its comm that started before the array was changed last: it may be the maker under another number;
//! - a process whose parent died (so its parent now is one that takes in orphans) that may descend from the maker: it
//!   started after it, and is of its session, or has its comm, or, where the maker's session is not known, did not begin
//!   a session of its own. A descendant whose parent lives needs no look: either that parent is one of these, or it leads
//!   to the maker itself.
//!
//! Not covered: a descendant that began a session of its own and took another comm, of a maker that died; and orphans
//! taken in by a process other than pid 1 of a pid namespace (PR_SET_CHILD_SUBREAPER), which the kernel does not show.

use highwater_ipc::text::HostText;

use super::roster::{Process, Roster};

/// The most makers an object may have (several processes may have made objects between two samples, of which it is one).
pub const MAX_MAKERS: usize = 8;

/// A process that made an object, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maker {
    /// Its pid.
    pub pid: i32,
    /// Its comm when it made the object.
    pub comm: HostText,
    /// It made the object at this time or later, microseconds since boot; its own start where nothing better is known.
    pub from_us: u64,
    /// It made the object at this time or before, microseconds since boot, so it started before.
    pub until_us: u64,
    /// What was seen of it while it lived.
    pub seen: Option<Seen>,
    /// Whether it only stands for a maker of the same uid.
    pub stands_in: bool,
}

/// What tells a living process from one that has its pid later, and from whose family it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it started, microseconds since boot.
    pub start_us: u64,
    /// Its session.
    pub session: i32,
}

impl Maker {
    /// A process that is seen alive.
    pub fn living(process: &Process, stands_in: bool) -> Self {
        let seen = Some(Seen { start_us: process.start_us, session: process.session });
        let (from_us, comm) = (process.start_us, process.comm.clone());
        Self { pid: process.pid, comm, from_us, until_us: u64::MAX, seen, stands_in }
    }

    /// Whether it or somebody it may have left behind lives; `changed_by_us` = the array was not changed after that, and
    /// `own` = the agent itself, which made none and was made by none.
    pub fn lives(&self, roster: &Roster, changed_by_us: u64, own: i32) -> bool {
        let itself = roster.get(self.pid).is_some_and(|process| match self.seen {
            Some(seen) => process.start_us == seen.start_us,
            None => process.start_us <= self.until_us,
        });
        let namesake = || roster.oldest(&self.comm).is_some_and(|start_us| start_us <= changed_by_us);
        itself || namesake() || roster.taken_in().any(|process| process.pid != own && self.may_have_left(process))
    }

    fn may_have_left(&self, orphan: &Process) -> bool {
        // The kernel cuts a start to 10 ms: one that seems to have started before may have started after.
        if orphan.start_us.saturating_add(TICK_US) < self.from_us {
            return false;
        }
        orphan.comm == self.comm
            || match self.seen {
                Some(seen) => orphan.session == seen.session,
                None => orphan.session == self.pid || orphan.session != orphan.pid,
            }
    }
}

/// Precision of a process's start, microseconds.
const TICK_US: u64 = 10_000;
