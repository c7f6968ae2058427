//! What agent and collector tell each other when a stream begins, and the present of a host that is behind.

use alloc::vec::Vec;

use crate::record::{Chain, Epoch, EpochNo, Seq};
use crate::snapshot::{BootId, State};
use crate::text::HostText;
use crate::time::At;

/// What an agent knows of its host beside IPC. Facts, not identity: the certificate says who this is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Version of the agent.
    pub agent_version: HostText,
    /// `/etc/machine-id`; containers and clones share it.
    pub machine_id: HostText,
    /// The boot the agent runs in.
    pub boot_id: BootId,
    /// `gethostname(2)`.
    pub hostname: HostText,
    /// `uname(2)` release.
    pub kernel: HostText,
    /// `uname(2)` machine.
    pub arch: HostText,
    /// PRETTY_NAME of `/etc/os-release`, or empty.
    pub distro: HostText,
}

/// The agent's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The host.
    pub facts: HostFacts,
    /// The host's clocks as it was sent.
    pub now: At,
    /// Epochs whose records are spooled, ascending, and the current one even if it has none: it is the last.
    pub epochs: Vec<SpooledEpoch>,
}

/// What the spool holds of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpooledEpoch {
    /// Which.
    pub epoch: Epoch,
    /// The boot it was sampled in.
    pub boot_id: BootId,
    /// First record still held.
    pub first: Seq,
    /// Position after the last record made.
    pub next: Seq,
    /// The chain that the record at `next` carries or will carry.
    pub chain: Chain,
}

/// The collector's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Number of this session; the next hello of this host fences it.
    pub session: u64,
    /// The collector's wall clock, milliseconds since 1970.
    pub server_wall_ms: i64,
    /// Interval wanted, milliseconds; `None` = as the agent is configured.
    pub interval_ms: Option<u32>,
    /// Each epoch of the hello, in its order.
    pub epochs: Vec<StoredEpoch>,
}

/// What the collector holds of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredEpoch {
    /// Which.
    pub no: EpochNo,
    /// Position after the last record stored.
    pub next: Seq,
    /// The chain that the record at `next` must carry.
    pub chain: Chain,
    /// What the agent must do.
    pub verdict: Verdict,
}

/// What becomes of an epoch after hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send from `next` on.
    Continue,
    /// What is stored is not this epoch: close it and open a new one that says `forked`.
    Forked,
    /// The collector lost what it had acked: close it and open a new one that says `history_restored`.
    HistoryRestored,
}

/// The present of a host whose history is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time of the oldest record not yet acked, wall clock, milliseconds since 1970.
    pub backlog_from_ms: i64,
    /// When the newest sample began.
    pub at: At,
    /// That sample without its objects: limits, totals, availability.
    pub state: State,
}
