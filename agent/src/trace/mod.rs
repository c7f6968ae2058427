//! What happens between two samples, from the kernel's trace events: refused calls, objects made and removed, and who
//! did it. No BPF, no daemon: a private instance of tracefs, twelve events of the calls that make and remove objects.
//!
//! [`format`] reads the kernel's description of its events, [`page`] the raw pages they come in, [`event`] one event,
//! [`pair`] joins the beginning of a call with its end, [`replay`] and [`ledger`] turn calls and samples into an
//! [`Activity`](highwater_ipc::activity::Activity): all pure. [`tracefs`] and [`caller`] are the files, [`reader`] the thread that waits on them, [`cost`]
//! measures what it costs.
//!
//! What must hold:
//!
//! - **T1** Nothing but the calls in question is recorded: the kernel filters, and no event carries memory of a process.
//! - **T2** The instance is this process's own. It is named `highwater-PID-STARTTIME` (and `-PIDNS` outside the initial
//!   pid namespace); one of that pattern whose owner is dead is removed at the start, no other instance is touched, and
//!   its own is removed however the agent ends, but for SIGKILL: then its buffers are freed at once (`free_buffer`), and
//!   the next start removes the rest.
//! - **T3** Idle costs nothing: the thread sleeps in `poll(2)` without a timeout, and a sample asks one `poll(2)`.
//! - **T4** Whatever the pages hold, nothing panics, and every table is bounded; what does not fit is counted.
//! - **T5** A process is asked who it is while it lives (a zombie counts); one that began after its event is another.
//! - **T6** What the kernel dropped is counted and said, and a peak is then a lower bound.
//! - **T7** A call that found an object is no creation, a call that failed removed nothing.
//! - **T8** Where nothing can be traced everything else goes on, and [`unseen`](Watch::unseen) says why and what to do.
//!
//! Not seen: kernels without CONFIG_SYSVIPC or CONFIG_FTRACE_SYSCALLS (they have no such events), calls of 32-bit
//! programs on a 64-bit kernel (the kernel does not trace them as these events), and removals that are no call: the end
//! of a namespace, and of a segment that lost its last user after IPC_RMID.
//!
//! Why these events: what was asked for (nsems, bytes, IPC_RMID) is known at a call's beginning, what came of it (an id,
//! an errno) at its end, and who called at both. The price of a traced call is paid by every call of the host once a
//! beginning or an end is traced at all (7-14 ns), however many events there are and whatever their filters say, so
//! leaving out an event would save nothing but the few bytes of the calls in question.

pub mod caller;
pub mod cost;
pub mod event;
pub mod format;
pub mod ledger;
pub mod page;
pub mod pair;
pub mod reader;
pub mod replay;
pub mod tracefs;

use std::sync::Arc;

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::Unreadable;
use highwater_ipc::text::HostText;

pub use ledger::Ledger;
pub use reader::{Off, Tracer, Wake};

/// Where the sampler hears of calls; the seam between it and [`Tracer`].
pub trait Watch: Send {
    /// What was called since this was asked last.
    fn collect(&mut self) -> Calls;

    /// Why nothing is traced, or not all of it; `None` = everything is.
    fn unseen(&mut self) -> Option<Unreadable>;
}

/// What was called since the last time this was asked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Calls {
    /// The calls; in no order, at most [`Calls::MAX`].
    pub calls: Vec<Call>,
    /// Calls beyond that bound.
    pub more: u64,
    /// Events that the kernel dropped.
    pub lost: u64,
}

impl Calls {
    /// The most calls kept between two samples: past half of it the sampler is woken.
    pub const MAX: usize = 16_384;
}

/// One call that made, removed or was refused something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When it began (or ended, where only its end is known), nanoseconds since boot.
    pub at_ns: u64,
    /// Which kind of object.
    pub kind: Kind,
    /// What it was.
    pub what: What,
    /// Who called.
    pub by: Arc<Caller>,
}

/// What a call was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// `semget`, `shmget`, `msgget` that may have made an object.
    Get {
        /// What was asked for; `None` where the beginning of the call was not seen (a seccomp filter answered it, or it
        /// was lost).
        asked: Option<Asked>,
        /// An id, or `-errno`.
        answer: i64,
    },
    /// IPC_RMID of that id, as far as known done.
    Remove(i32),
}

/// The arguments of a get call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The key; 0 = IPC_PRIVATE.
    pub key: i32,
    /// `nsems` of an array, bytes of a segment, 0 for a queue.
    pub size: u64,
    /// IPC_CREAT, IPC_EXCL and mode.
    pub flags: i32,
}

impl Asked {
    const IPC_EXCL: i32 = 0o2000;

    /// Whether a call that succeeds has made its object: nothing else can have had that name.
    pub fn surely_makes(&self) -> bool {
        self.key == 0 || self.flags & Self::IPC_EXCL != 0
    }
}

/// A process as far as it could be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Caller {
    /// Its pid (of the process, not of the thread that called), or the thread's where it was gone.
    pub pid: i32,
    /// Its comm; empty = not known.
    pub comm: HostText,
    /// Its effective uid.
    pub uid: Option<u32>,
    /// Its IPC namespace.
    pub place: Option<Place>,
    /// Comm of its parent; empty = not known, process 1, or of the same comm.
    pub parent: HostText,
}

/// An IPC namespace as a process names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Inode of `/proc/PID/ns/ipc`.
    pub inode: u64,
    /// `ioctl(NS_GET_ID)`; `None` before Linux 6.18.
    pub instance: Option<u64>,
}
