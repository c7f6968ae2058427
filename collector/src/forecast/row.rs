//! What comes in: one sample of one resource.

use serde::{Deserialize, Serialize};

/// What a sample says besides its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An ordinary sample or a heartbeat.
    #[default]
    Sample,
    /// The last knowledge before the host fell silent; nothing is known until the next row.
    GapStart,
    /// The first sample after a gap.
    GapEnd,
    /// The first sample of a new boot: everything held before is gone.
    Reboot,
    /// The first sample with a new limit.
    LimitChange,
}

/// A sample of one resource. Its value holds until the next row, except across a gap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Unix seconds by the host's clock, which may jump.
    pub at: f64,
    /// How much of the resource is taken: arrays for SEMMNI, semaphores for SEMMNS.
    pub used: u64,
    /// The limit that holds; may be below `used` after it was lowered.
    pub limit: u64,
    /// What else the row says.
    pub event: Event,
}
