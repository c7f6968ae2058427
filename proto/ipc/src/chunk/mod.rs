//! Chunks: consecutive stored records of one stretch, exact and in few bytes. Version 1.
//!
//! ```text
//! chunk     = version directory segments
//! version   = byte 1
//! directory = N count (1 to 65,536),
//!             (N seq, Z wall_ms, N length, 4 bytes CRC-32 of its bytes) each segment; seq and wall_ms of its first record,
//!             less those of the segment before (the first: less 0),
//!             4 bytes CRC-32 of all bytes before
//! segments  = their bytes, one after the other
//! N = LEB128, up to 64 bits.   Z = N of the zigzag (0, -1, 1, -2 ..).   CRC-32 of ISO 3309, low byte first.
//! ```
//!
//! **A segment** is one run of a range coder (`range.rs`) over yes-or-no decisions. Each decision has a context, which is a
//! probability of 22 bits that begins at one half and moves after each decision by 1/1.5, 1/2.5 .. 1/128.5 of what is
//! missing. All contexts are new in each segment. A range of 64 bits is divided at `(range >> 16) * p`, p the upper 16 bits
//! of the probability with the lowest set; yes is the lower part. It is widened by 32 bits when it falls below 2^32. The end
//! is the shortest that decides all; behind it a reader finds zeros.
//!
//! ```text
//! segment  = record, (yes, record) each, no          the first record is a sample
//! record   = head, beside, of a sample: [first] namespaces others
//! head     = kind (2 bits), seq less the next, boot clock, wall clock, stored time, time before, received
//! beside   = took_us, gap? reason | time before, by_ms | reason
//! first    = a part: the state without its rows, its totals less what these add (packed as in a keyframe, `codec`)
//! namespaces = which are touched, then of each: sem, msg, shm list, totals
//! list     = changed at all? which rows are touched; of each: gone? else the set of columns that changed, and those;
//!            then of each new row: another?, id, place, columns
//! totals   = as the rows foretell? else column by column
//! others   = whatever else changed? a part: a difference with the activity (packed as in a delta)
//! part     = length, bytes, each by six bits of the one before
//! ```
//!
//! **What foretells what.** Numbers are told by how many binary digits they have, then digit by digit, of which each goes
//! by those before it (`number.rs`). What is left to tell:
//! - *seq* one more; *boot clock* an interval more; *wall clock* as far ahead of the boot clock as before; *stored time* the
//!   wall clock, but never less than before; *time before* the record before or an interval; *received* as long after the
//!   stored time as before, or together with the record before.
//! - *which rows*: blocks of 16, 256 .. by what they did the last three times; a row by how many samples ago it was
//!   touched (where that is not known, by its latest time) and how that stands to the time before (`tree.rs`).
//! - *gone*: by the age of the row. *which columns*: one of the last twelve sets of the kind, by the last of the row and by
//!   what it can no more do (an empty queue gives nothing).
//! - *times*: seconds before the sample. *pids*: one of eight of late, or after the youngest. *bytes*: pages. *cbytes*: as
//!   many a message as the last time. The rest: the difference.
//! - *new rows*: the next free id in the kernel's order, which tells the place; the key after the last one; owner, size,
//!   nsems and perms among the twelve most frequent; cpid after the youngest of the sample before. In a first state the
//!   times of the row before.
//!
//! Measured on the peers' busy day (65 objects, 34,000 changed rows, 2,176 objects replaced; 666 kB of record bodies): 60 kB
//! in one chunk of seven segments, each read in 1.3 ms on a shared core; 62 kB in chunks of 4 h, 76 kB in chunks of 1 h.
//! Nearly half of it is the second within the minute in which something was used. `proto/benches/chunk.rs` measures that, and says
//! where the bits go.
//!
//! **Invariants**
//! - K1 What is read is what was written: every head, clock, activity and state, order of rows and what could not be read
//!   included. A writer and a reader run the same text over the same memory.
//! - K2 A segment needs no other to be read.
//! - K3 Whoever reads one state reads at most one segment: about 90,000 decisions and twice its first record.
//! - K4 No input panics, and every changed bit is an error: of the directory at once, of a segment when it is begun.
//! - K5 Memory is taken as rows and bytes are decided, never as a count claims; a state has at most `State::MAX_ENTRIES`
//!   rows, and a part 64 MiB.
//! - K6 A record costs time by what changed and by the blocks of rows, not by how many rows there are, unless rows came or
//!   went or others changed.
//! - K7 The same records give the same bytes.
//! - K8 The bytes of `testdata/chunk/v1` can be read for ever once a version is released.
//!
//! **Versions.** Whatever changes a decision, its context or its order is a new version byte with its own golden bytes; a
//! reader keeps every version that was released.

mod crc;
mod directory;
mod error;
#[cfg(test)]
mod golden;
mod head;
mod list;
mod model;
mod number;
mod plan;
mod range;
mod reader;
mod row;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod world;
mod writer;

pub use directory::{Directory, Segment};
pub use error::ChunkError;
pub use reader::ChunkReader;
pub use writer::ChunkWriter;

use alloc::sync::Arc;

use crate::activity::Activity;
use crate::record::{Event, GapReason, RecordKind, Seq};
use crate::time::At;

/// Where a record stands in its stretch, and when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its position in the epoch.
    pub seq: Seq,
    /// A keyframe, a delta, an event or a gap reason; heartbeats are no records of a chunk.
    pub kind: RecordKind,
    /// Its time as stored, milliseconds since 1970: never falls within a stretch.
    pub wall_ms: i64,
    /// The time of the sample before it in the epoch, heartbeats included, likewise; `None` if there was none.
    pub prev_wall_ms: Option<i64>,
    /// When the collector received it, milliseconds since 1970.
    pub received_ms: i64,
}

/// What a record says besides the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A keyframe or a delta.
    Sample {
        /// How long its reads took, microseconds.
        took_us: u32,
        /// Of a keyframe, why samples are missing before it as far as the agent knew.
        gap: Option<GapReason>,
        /// What happened since the sample before.
        activity: Arc<Activity>,
    },
    /// Something happened beside the samples.
    Event(Event),
    /// Why no samples follow for a while.
    GapReason(GapReason),
}

/// One record as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it stands.
    pub head: Head,
    /// The clock as the record says it.
    pub at: At,
    /// What it says; the state is the reader's.
    pub told: Told,
}
