//! What happened between two samples, as the kernel's trace events tell it: refused calls, and objects made and removed
//! with the process that did it.
//!
//! It travels with the sample that follows (in its keyframe or delta), so that a reader can put a name to what that sample
//! shows. Acts of one process of one sort are one row with a count: a loop of `semget` and `IPC_RMID` must not make the
//! stream heavy. Sources: the tracefs events `syscalls:sys_{enter,exit}_{sem,shm,msg}{get,ctl}`.

use alloc::vec::Vec;

use crate::limits::Usage;
use crate::object::{Key, Kind};
use crate::snapshot::NamespaceId;
use crate::text::HostText;

/// What happened since the sample before.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Activity {
    /// In order of their first time; at most [`Activity::MAX_ACTS`].
    pub acts: Vec<Act>,
    /// Calls that are in none of `acts` because the bound was reached.
    pub more: u64,
    /// Events the kernel dropped because its buffer was full (overruns): what they said is not known.
    pub lost: u64,
    /// Namespaces in which more was in use between the two samples than either shows; at most
    /// [`Activity::MAX_PEAKS`], in order of the namespace.
    pub peaks: Vec<Peak>,
}

impl Activity {
    /// The most rows of acts.
    pub const MAX_ACTS: usize = 256;
    /// The most peaks.
    pub const MAX_PEAKS: usize = 256;
    /// The most ids of one act.
    pub const MAX_IDS: usize = 64;

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The true high-water mark of one namespace between two samples, where it exceeds both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Where.
    pub namespace: NamespaceId,
    /// When, microseconds since boot.
    pub boot_us: u64,
    /// Most semaphore arrays in use at once.
    pub sem_arrays: u64,
    /// Most semaphores in use at once.
    pub semaphores: u64,
}

/// Calls of one process that did the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// What they did.
    pub did: Did,
    /// To which kind of object.
    pub kind: Kind,
    /// In which namespace; `None` = the process was gone before it could be asked.
    pub namespace: Option<NamespaceId>,
    /// Who.
    pub by: Actor,
    /// First call, microseconds since boot.
    pub first_us: u64,
    /// Last call, microseconds since boot.
    pub last_us: u64,
    /// How many calls.
    pub count: u64,
    /// Key of the first call; 0 (IPC_PRIVATE) for removals.
    pub key: Key,
    /// Of the first call: semaphores asked for (nsems), or bytes of a segment; 0 for queues and removals.
    pub size: u64,
    /// Ids made or removed, in order, at most [`Activity::MAX_IDS`]; none for refusals.
    pub ids: Vec<i32>,
    /// Of a refusal for want of room (ENOSPC): the limit that bound, as it stood at the first call; `None` = not known.
    pub bound_by: Option<Usage>,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Did {
    /// It made an object.
    Created,
    /// It removed an object (IPC_RMID).
    Removed,
    /// It was refused with that errno (ENOSPC 28, ENOSYS 38, ENOMEM 12, EINVAL 22 over SEMMSL, ..).
    Refused(u32),
}

/// A process as the kernel named it at the call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Actor {
    /// Its pid in the initial pid namespace.
    pub pid: i32,
    /// Its comm.
    pub comm: HostText,
    /// Its effective uid; `None` = it was gone before it could be asked.
    pub uid: Option<u32>,
    /// Comm of its parent: who ran it (cron, sshd, a script's shell). Empty = not known, process 1, or of the same comm.
    pub parent: HostText,
}
