//! How near to its limits the fleet is, was and will be; and what other limits, or more growth, would have refused.
//!
//! [`gather`] reads, everything else is pure: [`pack`] and [`marks`] are what is read, [`measure`] and [`growth`] say what it amounts to,
//! [`what_if`] what would have been, [`tell`] makes the answer of it.
//!
//! What holds for every number here:
//! 1. It is of hours of the host's clock. An hour without a row is one in which nothing changed.
//! 2. Of hours in which a namespace could not be read, or was gone, nothing is known and nothing is said.
//! 3. The host's own namespace is one place across its boots; another one is gone with its processes, and not told then.
//! 4. The present is the host's newest sample, not its newest row.

use highwater_ipc::limits::Resource;

pub mod gather;
pub mod growth;
pub mod marks;
pub mod measure;
pub mod pack;
pub mod summary;
pub mod tell;
pub mod what_if;

pub use gather::{Gathered, gather};
pub use growth::{DaysLeft, Growth, Trend};
pub use summary::{GroupBy, Summary};
pub use tell::{Asked, Capacity, Entry, Rank, tell};
pub use what_if::{Ceiling, WhatIf};

/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// From then on, collector's clock, milliseconds.
    pub since_ms: i64,
    /// Only these; none = all.
    pub resources: Vec<Resource>,
    /// Only hosts with all of these labels.
    pub labels: Vec<(String, String)>,
    /// Sums by what.
    pub group_by: Option<GroupBy>,
    /// What would have been.
    pub what_if: WhatIf,
    /// The most entries wanted.
    pub most: usize,
    /// Those that rank after this one.
    pub after: Option<Rank>,
}
