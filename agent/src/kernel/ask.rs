//! The seam between the agent and the kernel it samples.

use highwater_ipc::object::{MsgQueue, SemArray, ShmSegment};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;

use crate::sys::errno::Errno;
use crate::sys::host::Uname;
use crate::sys::sysvipc::{MsgLimits, MsgUse, SemLimits, SemUse, ShmLimits, ShmUse};

/// What a sample asks of a kernel. All answers are for the IPC namespace of the calling thread; nothing is changed.
///
/// The thread that asks is at home (in the IPC namespace it began in) except between [`Kernel::enter`] and
/// [`Kernel::home`]. Away from home nothing may start a thread, which would be born in that namespace and keep its memory
/// alive: names are asked at home only.
pub trait Kernel: Send {
    /// Reads the file of that absolute path into `into`, which is cleared first, until `read(2)` returns 0 or `limit`
    /// bytes are there (a size from `stat(2)` is 0 or wrong for files of /proc). Returns whether all of it was read.
    fn read(&mut self, path: &str, limit: usize, into: &mut Vec<u8>) -> Result<bool, Errno>;

    /// The names in a directory, ascending, at most the first thousand that the kernel gives.
    fn list(&mut self, path: &str) -> Result<Vec<Vec<u8>>, Errno>;

    /// Target of a symbolic link, as bytes.
    fn read_link(&mut self, path: &str) -> Result<Vec<u8>, Errno>;

    /// SEM_INFO.
    fn sem_info(&mut self) -> Result<SemUse, Errno>;
    /// SHM_INFO.
    fn shm_info(&mut self) -> Result<ShmUse, Errno>;
    /// MSG_INFO.
    fn msg_info(&mut self) -> Result<MsgUse, Errno>;

    /// IPC_INFO of semaphores.
    fn sem_limits(&mut self) -> Result<SemLimits, Errno>;
    /// IPC_INFO of shared memory.
    fn shm_limits(&mut self) -> Result<ShmLimits, Errno>;
    /// IPC_INFO of message queues.
    fn msg_limits(&mut self) -> Result<MsgLimits, Errno>;

    /// SEM_STAT_ANY; EINVAL where there is no array at that index.
    fn sem_stat(&mut self, index: u32) -> Result<SemArray, Errno>;
    /// SHM_STAT_ANY; EINVAL where there is no segment at that index. Resident and swapped bytes are not in this
    /// answer and read 0.
    fn shm_stat(&mut self, index: u32) -> Result<ShmSegment, Errno>;
    /// MSG_STAT_ANY; EINVAL where there is no queue at that index.
    fn msg_stat(&mut self, index: u32) -> Result<MsgQueue, Errno>;

    /// `semctl(semid, index, GETPID)`: the process that did the last operation on that semaphore (`semop`, SETVAL, SETALL),
    /// 0 = none, or one of a pid namespace that the caller does not see. EACCES without the right to read the array.
    fn sem_pid(&mut self, semid: i32, index: u32) -> Result<i32, Errno>;

    /// GETNCNT + GETZCNT: how many processes wait for that semaphore to grow or to be 0.
    fn sem_waiters(&mut self, semid: i32, index: u32) -> Result<u64, Errno>;

    /// What `stat(2)` says of `/proc/PID`, much cheaper than reading a file in it. ENOENT and ESRCH: no such process.
    fn process(&mut self, pid: i32) -> Result<Entry, Errno>;

    /// The pids that `/proc` shows, in its order; `into` is cleared first.
    fn pids(&mut self, into: &mut Vec<i32>) -> Result<(), Errno>;

    /// Moves the calling thread into the IPC namespace of that process, and says which one it is. No file stays open on
    /// it: from [`Kernel::home`] on, the agent does not keep it alive. ENOENT and ESRCH: there is no such process (any
    /// more); EACCES: it may not be looked at (CAP_SYS_PTRACE); EPERM: its namespace may not be entered
    /// (CAP_SYS_ADMIN). After an error the thread is where it was.
    fn enter(&mut self, pid: i32) -> Result<Seen, Errno>;

    /// Moves the calling thread back to where it was before the first [`Kernel::enter`] and makes sure that it is there;
    /// does nothing if it never left. A thread that cannot get home would report one namespace as another: the process
    /// is aborted.
    fn home(&mut self);

    /// The IPC namespace the calling thread is in. ENOENT where the kernel has no IPC namespaces.
    fn namespace(&mut self) -> Result<NamespaceId, Errno>;

    /// `uname(2)`.
    fn uname(&mut self) -> Result<Uname, Errno>;

    /// Bytes in a page.
    fn page_size(&mut self) -> u32;

    /// Makes ready for a sample's [`Kernel::name`] questions: notices that names may have changed.
    fn refresh_names(&mut self, boot_us: u64);

    /// Name of a user or group as `getpwuid(3)` and `getgrgid(3)` answer it on this host; `None` = it has none, or no
    /// answer came in time (a later sample asks again).
    fn name(&mut self, account: Account) -> Option<HostText>;
}

/// Inode of the IPC namespace the kernel boots with (`PROC_IPC_INIT_INO` of `linux/nsfs.h`).
pub const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFF;

/// What the kernel says of an IPC namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Its inode, which another one may have after it.
    pub inode: u64,
    /// `ioctl(NS_GET_ID)`, which no other one of this boot has; `None` before Linux 6.18.
    pub id: Option<u64>,
}

/// The directory of a process in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Inode and time of the directory: while both stay, the pid stands for the same process. (Both are new also when
    /// the kernel dropped the directory from its cache and made it anew.)
    pub mark: (u64, i128),
    /// Effective uid of the process.
    pub uid: u32,
}

/// Whose name is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// A uid.
    User(u32),
    /// A gid.
    Group(u32),
}
