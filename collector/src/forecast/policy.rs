//! How far ahead somebody wants to be told.

use super::hours::DAY;

/// When a series is a danger to whoever asks. It is asked for with each row, and no part of what is remembered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Exhaustion is a warning when it is likely within this time, seconds.
    pub warning: f64,
    /// It is critical when it is likely within this time, seconds.
    pub critical: f64,
    /// Share of the limit from which a series is tight even without growth, 0..1; above 1 = never.
    pub tight: f64,
}

impl Default for Policy {
    /// A week, a day, and nine tenths.
    fn default() -> Self {
        Self { warning: 7.0 * DAY, critical: DAY, tight: 0.90 }
    }
}
