//! The three kinds of System V IPC objects, as one line of `/proc/sysvipc/{sem,shm,msg}` shows them.
//!
//! Sources: `ipc/sem.c` (`sysvipc_sem_proc_show`), `ipc/shm.c`, `ipc/msg.c`; `proc(5)`. Ids of users and groups are
//! what the reader's user namespace shows: 4294967295 and 65534 are values, not errors. Times are seconds since
//! 1970, 0 = never, and can be any `time64_t`.

use core::fmt;

/// The three kinds, in the order in which everything here lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Semaphore arrays, `/proc/sysvipc/sem`.
    Sem,
    /// Shared memory segments, `/proc/sysvipc/shm`.
    Shm,
    /// Message queues, `/proc/sysvipc/msg`.
    Msg,
}

impl Kind {
    /// All kinds in listing order.
    pub const ALL: [Kind; 3] = [Kind::Sem, Kind::Shm, Kind::Msg];

    /// `sem`, `shm` or `msg`, the name of its file in `/proc/sysvipc`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sem => "sem",
            Kind::Shm => "shm",
            Kind::Msg => "msg",
        }
    }
}

/// An IPC key (`key_t`); 0 is IPC_PRIVATE. The kernel prints it signed, people know it as `0x%08x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub i32);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0.cast_unsigned())
    }
}

/// Permission bits as `/proc/sysvipc` prints them in octal; for shared memory with SHM_DEST and SHM_LOCKED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Perms(pub u32);

impl Perms {
    /// SHM_DEST: the segment goes when its last user detaches.
    pub const DEST: u32 = 0o1000;
    /// SHM_LOCKED: the segment's pages are locked in memory.
    pub const LOCKED: u32 = 0o2000;

    /// Whether SHM_DEST is set.
    pub fn dest(self) -> bool {
        self.0 & Self::DEST != 0
    }

    /// Whether SHM_LOCKED is set.
    pub fn locked(self) -> bool {
        self.0 & Self::LOCKED != 0
    }
}

impl fmt::Display for Perms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:o}", self.0)
    }
}

/// Owner and creator of an object (`struct ipc_perm`), as the reader's user namespace shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Owner {
    /// Owner's user id.
    pub uid: u32,
    /// Owner's group id.
    pub gid: u32,
    /// Creator's user id.
    pub cuid: u32,
    /// Creator's group id.
    pub cgid: u32,
}

/// A semaphore array, one line of `/proc/sysvipc/sem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SemArray {
    /// The key it was made with.
    pub key: Key,
    /// The id that `semop(2)` takes.
    pub semid: i32,
    /// Permissions.
    pub perms: Perms,
    /// Semaphores in the array, 1 to SEMMSL.
    pub nsems: u32,
    /// Owner and creator.
    pub owner: Owner,
    /// Last `semop(2)`, seconds since 1970, 0 = never.
    pub otime: i64,
    /// Last change (creation, IPC_SET, SETVAL, SETALL), seconds since 1970. It moves: no part of the identity.
    pub ctime: i64,
}

/// A shared memory segment, one line of `/proc/sysvipc/shm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShmSegment {
    /// The key it was made with; IPC_RMID on an attached segment turns it into 0.
    pub key: Key,
    /// The id that `shmat(2)` takes.
    pub shmid: i32,
    /// Permissions, with SHM_DEST and SHM_LOCKED.
    pub perms: Perms,
    /// Size in bytes, up to 2^64-1.
    pub size: u64,
    /// Process that made it; 0 seen from another pid namespace.
    pub cpid: i32,
    /// Process that attached or detached last; 0 = none.
    pub lpid: i32,
    /// Attachments now.
    pub nattch: u64,
    /// Owner and creator.
    pub owner: Owner,
    /// Last attach, seconds since 1970, 0 = never.
    pub atime: i64,
    /// Last detach, seconds since 1970, 0 = never.
    pub dtime: i64,
    /// Last change, seconds since 1970.
    pub ctime: i64,
    /// Bytes resident in memory.
    pub rss: u64,
    /// Bytes in swap.
    pub swap: u64,
}

/// A message queue, one line of `/proc/sysvipc/msg`, and `msg_qbytes` from MSG_STAT_ANY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsgQueue {
    /// The key it was made with.
    pub key: Key,
    /// The id that `msgsnd(2)` takes.
    pub msqid: i32,
    /// Permissions.
    pub perms: Perms,
    /// Bytes in the queue now.
    pub cbytes: u64,
    /// Messages in the queue now.
    pub qnum: u64,
    /// Bytes the queue may hold (`msg_qbytes`); `None` where MSG_STAT_ANY did not answer: the file lacks it.
    pub qbytes: Option<u64>,
    /// Process of the last `msgsnd(2)`, 0 = none.
    pub lspid: i32,
    /// Process of the last `msgrcv(2)`, 0 = none.
    pub lrpid: i32,
    /// Owner and creator.
    pub owner: Owner,
    /// Last send, seconds since 1970, 0 = never.
    pub stime: i64,
    /// Last receive, seconds since 1970, 0 = never.
    pub rtime: i64,
    /// Last change, seconds since 1970.
    pub ctime: i64,
}

/// What the three kinds share: an id, a key, an owner, and what creation fixes.
pub trait Object: Copy + PartialEq {
    /// Which kind this is.
    const KIND: Kind;

    /// semid, shmid or msqid.
    fn id(&self) -> i32;

    /// The IPC key as sampled.
    fn key(&self) -> Key;

    /// Owner and creator as sampled.
    fn owner(&self) -> &Owner;

    /// Permissions as sampled.
    fn perms(&self) -> Perms;

    /// Last change, seconds since 1970.
    fn ctime(&self) -> i64;

    /// Whether `self` and an earlier `before` *with the same id* can be one object: nothing that creation fixes
    /// differs. The same semid returns after 4,194,240 create and remove cycles (four seconds), so an equal id alone
    /// is no identity; a new object with equal fixed fields is told apart only if a complete sample lacked the id.
    fn is_same_as(&self, before: &Self) -> bool;
}

impl Object for SemArray {
    const KIND: Kind = Kind::Sem;
    fn id(&self) -> i32 {
        self.semid
    }
    fn key(&self) -> Key {
        self.key
    }
    fn owner(&self) -> &Owner {
        &self.owner
    }
    fn perms(&self) -> Perms {
        self.perms
    }
    fn ctime(&self) -> i64 {
        self.ctime
    }
    fn is_same_as(&self, before: &Self) -> bool {
        (self.semid, self.key, self.nsems, self.owner.cuid, self.owner.cgid)
            == (before.semid, before.key, before.nsems, before.owner.cuid, before.owner.cgid)
    }
}

impl Object for ShmSegment {
    const KIND: Kind = Kind::Shm;
    fn id(&self) -> i32 {
        self.shmid
    }
    fn key(&self) -> Key {
        self.key
    }
    fn owner(&self) -> &Owner {
        &self.owner
    }
    fn perms(&self) -> Perms {
        self.perms
    }
    fn ctime(&self) -> i64 {
        self.ctime
    }
    fn is_same_as(&self, before: &Self) -> bool {
        (self.shmid, self.size, self.cpid, self.owner.cuid, self.owner.cgid)
            == (before.shmid, before.size, before.cpid, before.owner.cuid, before.owner.cgid)
    }
}

impl Object for MsgQueue {
    const KIND: Kind = Kind::Msg;
    fn id(&self) -> i32 {
        self.msqid
    }
    fn key(&self) -> Key {
        self.key
    }
    fn owner(&self) -> &Owner {
        &self.owner
    }
    fn perms(&self) -> Perms {
        self.perms
    }
    fn ctime(&self) -> i64 {
        self.ctime
    }
    fn is_same_as(&self, before: &Self) -> bool {
        (self.msqid, self.key, self.owner.cuid, self.owner.cgid)
            == (before.msqid, before.key, before.owner.cuid, before.owner.cgid)
    }
}
