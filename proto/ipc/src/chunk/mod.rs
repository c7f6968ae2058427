//! Chunks: consecutive stored records of one stretch, in few bytes and exact.

mod crc;
mod directory;
mod error;
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
