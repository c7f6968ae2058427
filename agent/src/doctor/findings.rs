//! What was found by trying.

use highwater_ipc::availability::Availability;
use highwater_ipc::risk::Risk;

use super::needs::Capability;
use crate::sys::errno::Errno;

/// Everything that was tried, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// `CapEff:` of this process; `None` = `/proc/self/status` cannot be read.
    pub capabilities: Option<u64>,
    /// Whether this host can do System V IPC.
    pub availability: Availability,
    /// IPC namespaces of the processes that `/proc` shows.
    pub namespaces: Namespaces,
    /// GETPID of the arrays of this namespace.
    pub last_users: LastUsers,
    /// Whether all processes are seen.
    pub sight: Sight,
    /// Trace events.
    pub trace: Trace,
    /// What threatens this host.
    pub risks: Vec<Risk>,
    /// The state directory; `None` = none was named and there is none at its usual place.
    pub state: Option<State>,
    /// The clock.
    pub clock: Clock,
}

impl Findings {
    /// Whether this process has that capability; `None` = not known.
    pub fn has(&self, capability: Capability) -> Option<bool> {
        self.capabilities.map(|set| set & capability.bit() != 0)
    }
}

/// IPC namespaces as found through `/proc/PID/ns/ipc`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// Processes that `/proc` shows.
    pub processes: usize,
    /// Those whose namespace may not be read, and the first refusal.
    pub unreadable: usize,
    /// The first refusal.
    pub refusal: Option<Errno>,
    /// Namespaces found other than the agent's own.
    pub others: usize,
    /// What entering one of them gave; `None` = there was none to try.
    pub entered: Option<Result<(), Errno>>,
    /// Whether the agent's own is process 1's; `None` = not known.
    pub is_hosts: Option<bool>,
}

/// GETPID of the arrays of the agent's own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LastUsers {
    /// Arrays asked.
    pub asked: usize,
    /// Refused (EACCES).
    pub refused: usize,
}

/// What hides processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sight {
    /// `/proc` is mounted with hidepid; `None` = not known.
    pub hidepid: Option<bool>,
    /// This process is in the initial pid namespace; `None` = not known.
    pub initial: Option<bool>,
}

/// Trace events, as tried.
#[derive(Clone, Debug, PartialEq)]
pub enum Trace {
    /// The configuration turns them off.
    Off,
    /// They can be had, at this price.
    Works(Price),
    /// They cannot, and why.
    Refused(String),
}

/// What tracing costs, as measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Nanoseconds that each system call of the host takes longer.
    pub per_call_ns: f64,
    /// Nanoseconds of the cheapest system call without.
    pub call_ns: f64,
    /// Bytes of the buffers, all processors together.
    pub buffer_bytes: u64,
    /// Somebody else traces such calls just now, so that the price is paid already.
    pub others: bool,
}

/// The state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Where.
    pub path: String,
    /// Who this host is at which collector; `Ok(None)` = it was never enrolled.
    pub enrolment: Result<Option<Enrolled>, String>,
    /// What dialling the collector gave; `None` = none is named.
    pub dialled: Option<Result<String, String>>,
    /// What waits to be sent.
    pub spool: Result<Spool, String>,
}

/// An enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The host's id.
    pub host_id: String,
    /// End of the certificate's life, milliseconds since 1970.
    pub not_after_ms: i64,
}

/// The spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Spool {
    /// Bytes that wait.
    pub bytes: u64,
    /// The most it may hold.
    pub limit: u64,
    /// Records that wait.
    pub records: u64,
    /// Damaged places.
    pub damaged: u32,
    /// Time of the newest record, milliseconds since 1970.
    pub newest_ms: Option<i64>,
}

/// The host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Clock {
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
    /// Whether the kernel calls it synchronized (`adjtimex(2)`: no STA_UNSYNC); `None` = not known.
    pub synchronized: Option<bool>,
}
