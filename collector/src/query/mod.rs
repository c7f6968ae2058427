//! Questions to answers; knows no HTTP, no SQL and no clock (the present is handed in).
//!
//! [`as_of`] is what one host held at an instant, or the gap that instant lies in; [`past`] reads records wherever they are,
//! [`fold`] makes states of them, [`change`] says what happened between two of them. [`walk`] hands over everything that was recorded
//! between two instants, [`timeline`], [`diff`] and [`export`] tell it. [`fleet`], [`fleet_blame`] and [`capacity`] are about all hosts, [`host`] is
//! who a name means, [`owners`] who holds what.
//!
//! What holds for every answer: it is made in one snapshot of the database; it is never a guess across a gap; a part
//! that could not be read is never "all removed".

pub mod as_of;
pub mod blame;
#[cfg(test)]
mod blame_tests;
pub mod capacity;
pub mod change;
#[cfg(test)]
mod deed_model_tests;
#[cfg(test)]
mod deed_tests;
mod deeds;
pub mod diff;
pub mod event;
pub mod explain;
pub mod export;
pub mod find;
pub mod fleet;
pub mod fleet_blame;
pub mod fold;
pub mod gap;
pub mod holder;
pub mod host;
pub mod owners;
pub mod past;
pub mod raw;
pub mod remedy;
#[cfg(test)]
mod scenes;
pub mod status;
pub mod story;
#[cfg(test)]
mod story_tests;
pub mod timeline;
pub mod trail;
pub mod unread;
pub mod walk;

pub use crate::store::fleet::{HostName, TurnedAway};
pub use crate::store::history::{ClosedGap, Reading};
pub use crate::store::keep::Keep;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A stored record makes no state.
    #[error(transparent)]
    Fold(#[from] fold::FoldError),
    /// The instant has not come yet on that host.
    #[error("that instant has not come yet: the host's clock is at {host_now_ms} ms")]
    Future {
        /// Asked for, host's wall clock, milliseconds.
        asked_ms: i64,
        /// The host's wall clock now, as far as the collector knows, milliseconds.
        host_now_ms: i64,
    },
    /// The second instant is before the first one.
    #[error("from is later than to")]
    Backwards {
        /// The first, host's wall clock, milliseconds.
        from_ms: i64,
        /// The second.
        to_ms: i64,
    },
    /// The question spans more than one answer can hold.
    #[error("that span holds more than {most} {what}; ask for a shorter span")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many an answer holds.
        most: usize,
    },
}
