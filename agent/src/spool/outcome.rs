//! What the spool answers.

use std::io;

use super::frame::{Entry, Position};
use super::policy::FsyncPolicy;
use super::segment::{Label, Segment};

/// How large a spool may get, and when it is forced to the device.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of all segments together.
    pub bytes: u64,
    /// When entries are forced to the device.
    pub fsync: FsyncPolicy,
}

/// An entry that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The position after it.
    pub next: Position,
    /// Where it is.
    pub kept: Kept,
    /// What is durable now; `None` = nothing new.
    pub synced: Option<Synced>,
    /// What had to go.
    pub dropped: Option<Dropped>,
}

/// Where an entry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In a segment.
    Disk,
    /// In memory: the disk refused ([`Spool::trouble`] says why).
    Memory,
    /// Nowhere: the memory is full too, or it is larger than the whole spool.
    Nowhere,
}

/// All entries on disk before this position survive a crash of the machine. Made only after the device said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced(Position);

impl Synced {
    /// Only for the spool, after the device said so.
    pub(super) fn proven(before: Position) -> Self {
        Self(before)
    }

    /// The position before which all is durable.
    pub fn position(self) -> Position {
        self.0
    }
}

/// Entries that were dropped unacknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The first of them.
    pub from: Position,
    /// The position after the last.
    pub to: Position,
    /// Bytes they took.
    pub bytes: u64,
}

/// Why the next entry must be a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyframeDue {
    /// A new segment begins with it; nothing is missing before it.
    Segment,
    /// Entries before it were dropped.
    Overflow,
}

/// An entry that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The entry.
    pub entry: Entry,
    /// Why entries are missing before it, if some are.
    pub hole: Option<Hole>,
}

/// Why entries are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// The spool was full.
    Overflow,
    /// The spool was damaged.
    Damaged,
    /// They were acknowledged and freed: whoever asks for them had them and has lost them.
    Acked,
}

/// Entries that went unacknowledged, up to the end of a segment.
#[derive(Clone, Debug)]
pub(super) struct Lost {
    pub(super) label: Label,
    pub(super) from_seq: u64,
    pub(super) next_seq: u64,
    pub(super) why: Hole,
}

impl Lost {
    /// All of a segment.
    pub(super) fn of(segment: &Segment, why: Hole) -> Self {
        Self { label: segment.label, from_seq: segment.first_seq, next_seq: segment.next_seq, why }
    }

    /// The position after them.
    pub(super) fn end(&self) -> Position {
        Position { epoch_no: self.label.epoch_no, seq: self.next_seq }
    }
}

/// What the spool holds of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// The epoch.
    pub label: Label,
    /// The first position held.
    pub first_seq: u64,
    /// The position after the last one held.
    pub next_seq: u64,
}

/// Why the spool cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory cannot be read.
    #[error("the spool: {0}")]
    Io(#[from] io::Error),
    /// A keyframe must come first ([`Spool::keyframe_due`] said so).
    #[error("the spool takes only a keyframe at {at}")]
    NeedsKeyframe {
        /// The entry that was refused.
        at: Position,
    },
    /// An entry lies before one that was taken already, or belongs to another epoch.
    #[error("{at} does not follow {last}, the spool's last position")]
    OutOfOrder {
        /// The entry that was refused.
        at: Position,
        /// Where the spool is.
        last: Position,
    },
}
