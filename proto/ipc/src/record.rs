//! What a stream carries: records of one epoch, in order, chained.
//!
//! `(host, epoch, seq)` names a record. An **epoch** is at most one agent process run; **seq** counts from 0 in it.
//! Each record carries in `chain` what its predecessors amount to, so that a receiver can tell a resend from a fork
//! without keeping state: `chain(0) = 0` and `chain(n+1) = first 8 bytes of SHA-256(chain(n) ‖ body(n))`, but a
//! heartbeat hands its own chain on unchanged. (The hash itself lives in `highwater-proto`: this crate has no
//! dependencies.) The body begins with the sample's time, so two machines woken from one memory image differ in their
//! first change.

use alloc::vec::Vec;

use crate::activity::Activity;
use crate::delta::Delta;
use crate::snapshot::State;
use crate::time::At;

/// Number of an epoch: a counter in the agent's state directory, fsynced before the epoch's first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EpochNo(pub u64);

impl EpochNo {
    /// From here on numbers are those of imported history; an agent counts below, and a hello that does not is refused.
    pub const IMPORTED: EpochNo = EpochNo(1 << 62);

    /// Whether its records came from a file, not from an agent.
    pub fn is_imported(self) -> bool {
        self >= Self::IMPORTED
    }
}

/// Random id of an epoch: tells two epochs with one number apart (a copied state directory).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EpochId(pub u64);

/// An epoch by number and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// The counter; history is ordered by it.
    pub no: EpochNo,
    /// The random id.
    pub id: EpochId,
}

/// Position of a record in its epoch, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The position after this one; saturates (2^64 samples do not happen, a hostile peer can claim them).
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

/// What the records before this one amount to: first 8 bytes of SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Chain(pub [u8; 8]);

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// Whole state; the only kind that may follow a jump in seq.
    Keyframe,
    /// What changed since the record before.
    Delta,
    /// A sample that read what the one before read. Consecutive ones may travel merged as `first_seq..=seq`.
    Heartbeat,
    /// Something that happened beside the samples.
    Event,
    /// Why no samples follow for a while; a coming keyframe closes that gap.
    GapReason,
}

impl RecordKind {
    /// All kinds.
    pub const ALL: [RecordKind; 5] =
        [RecordKind::Keyframe, RecordKind::Delta, RecordKind::Heartbeat, RecordKind::Event, RecordKind::GapReason];

    /// Whether such a record waits for no other to travel with.
    pub fn is_urgent(self) -> bool {
        !matches!(self, RecordKind::Heartbeat | RecordKind::Delta)
    }

    /// Number in spool, wire and database; never reused.
    pub fn code(self) -> u8 {
        match self {
            RecordKind::Keyframe => 1,
            RecordKind::Delta => 2,
            RecordKind::Heartbeat => 3,
            RecordKind::Event => 4,
            RecordKind::GapReason => 5,
        }
    }

    /// The kind of that number.
    pub fn from_code(code: u8) -> Option<RecordKind> {
        RecordKind::ALL.into_iter().find(|k| k.code() == code)
    }
}

/// One record: its place, and its packed body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the body is.
    pub kind: RecordKind,
    /// First position it stands for: equal to `seq` but for merged heartbeats.
    pub first_seq: Seq,
    /// Its position; for merged heartbeats the last one, whose time the body carries.
    pub seq: Seq,
    /// What came before.
    pub chain: Chain,
    /// Why the sender no longer has the records just before it, where a keyframe jumps over them: known only when it is
    /// sent, so it is no part of the body, and the chain does not cover it. `None` for any other record.
    pub missing: Option<GapReason>,
    /// [`Body`], packed by [`crate::codec`]; at most [`Record::MAX_BODY`] bytes.
    pub body: Vec<u8>,
}

impl Record {
    /// The most bytes a body may have: a keyframe at the object budget fits several times over.
    pub const MAX_BODY: usize = 16 << 20;
}

/// A record's body, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// When the sample began, or the event happened.
    pub at: At,
    /// What it says.
    pub content: Content,
}

/// What a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Whole state.
    Keyframe(Keyframe),
    /// What changed.
    Delta(Delta),
    /// Nothing changed.
    Heartbeat,
    /// Something happened.
    Event(Event),
    /// Why nothing will follow for a while.
    GapReason(GapReason),
}

impl Content {
    /// The record kind of this content.
    pub fn kind(&self) -> RecordKind {
        match self {
            Content::Keyframe(_) => RecordKind::Keyframe,
            Content::Delta(_) => RecordKind::Delta,
            Content::Heartbeat => RecordKind::Heartbeat,
            Content::Event(_) => RecordKind::Event,
            Content::GapReason(_) => RecordKind::GapReason,
        }
    }
}

/// A whole state, and why the agent believes nothing came just before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyframe {
    /// Why samples are missing before this one, as far as the agent knows; whether any *are* missing is the
    /// collector's finding. `None` for a keyframe amid continuous sampling.
    pub gap: Option<GapReason>,
    /// How long the reads took, microseconds.
    pub took_us: u32,
    /// What happened since the sample before, as far as it was traced; empty = nothing, or nothing is traced.
    pub activity: Activity,
    /// Everything the sample read.
    pub state: State,
}

/// Something that happened on the host beside the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The wall clock moved by more than 500 ms against the boot clock. The keyframe before this event begins the new
    /// stretch.
    ClockStep {
        /// The last sample before the step.
        before: At,
        /// Milliseconds by which the wall clock moved; negative = back.
        by_ms: i64,
    },
}

/// Why samples are missing. One list for agent, collector, database and JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// The agent was stopped in order.
    AgentStopped,
    /// The agent ended without saying so (SIGKILL, crash).
    AgentKilled,
    /// The host was off: the next sample is of another boot.
    HostDown,
    /// The host slept: boot time ran on, nothing was scheduled.
    Suspended,
    /// The agent was not scheduled, or a read hung, for more than three intervals.
    Stalled,
    /// The spool was full; its oldest segments were dropped.
    SpoolOverflow,
    /// The spool was damaged; reading resumed at the next keyframe.
    SpoolDamaged,
    /// The collector could not be reached and nothing was kept.
    Unreachable,
    /// The stream forked: a virtual machine was restored from a memory image.
    Forked,
    /// The agent's state directory was lost and it enrolled again.
    StateLost,
    /// The collector's database was restored from an older backup.
    HistoryRestored,
    /// A record could not be stored.
    RefusedRecord,
    /// A source could not be read.
    Unreadable,
    /// The host was quarantined as a clone.
    Quarantined,
    /// History before this was dropped by retention.
    Retention,
    /// Before the host's first sample.
    BeforeFirst,
    /// Nobody knows.
    Unexplained,
}

impl GapReason {
    /// All reasons, with their number in spool, wire and database (never reused) and their word in JSON.
    pub const ALL: [(GapReason, u8, &'static str); 17] = [
        (GapReason::AgentStopped, 1, "agent_stopped"),
        (GapReason::AgentKilled, 2, "agent_killed"),
        (GapReason::HostDown, 3, "host_down"),
        (GapReason::Suspended, 4, "suspended"),
        (GapReason::Stalled, 5, "stalled"),
        (GapReason::SpoolOverflow, 6, "spool_overflow"),
        (GapReason::SpoolDamaged, 7, "spool_damaged"),
        (GapReason::Unreachable, 8, "unreachable"),
        (GapReason::Forked, 9, "forked"),
        (GapReason::StateLost, 10, "state_lost"),
        (GapReason::HistoryRestored, 11, "history_restored"),
        (GapReason::RefusedRecord, 12, "refused_record"),
        (GapReason::Unreadable, 13, "unreadable"),
        (GapReason::Quarantined, 14, "quarantined"),
        (GapReason::Retention, 15, "retention"),
        (GapReason::BeforeFirst, 16, "before_first"),
        (GapReason::Unexplained, 17, "unexplained"),
    ];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(r, ..)| *r == self).map_or("unexplained", |(_, _, name)| name)
    }

    /// The number in spool, wire and database.
    pub fn code(self) -> u8 {
        Self::ALL.iter().find(|(r, ..)| *r == self).map_or(17, |(_, code, _)| *code)
    }

    /// The reason of that number.
    pub fn from_code(code: u8) -> Option<GapReason> {
        Self::ALL.iter().find(|(_, c, _)| *c == code).map(|(r, ..)| *r)
    }
}
