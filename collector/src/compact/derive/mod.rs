//! What follows from the states of one epoch, sample by sample. Pure.
//!
//! A step of compaction hands over consecutive samples; how a stream is cut into steps changes nothing of what the tables
//! say in the end. For that, every row says only what is true of the samples seen, and what was there is merged: the
//! highest by maximum, the last by order.
//!
//! D1. A slot's highest is that of all values in force in it: those its samples read, the one that was in force when it
//!     began, if its stretch spans that, and traced peaks.
//! D2. A slot in which nothing changed has no row, but for the first slot of a partition (a month, a year) that a stretch
//!     reaches: there each series has one, so that partitions before it can be dropped.
//! D3. What could not be read is `None`, never 0 and never "all gone".
//! D4. A series whose namespace is gone ends with a row of `None`s, also where that went in a gap or with a boot: else what
//!     was last read of it would be in use for ever.

mod baseline;
mod owners;
mod parts;
#[cfg(test)]
pub(super) mod tests;
mod usage;

use std::collections::BTreeSet;

use highwater_ipc::activity::Activity;
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::{Namespace, State};

use crate::host::HostId;
use crate::store::gap_part::{GapPart, PartEnd, StretchEnd};
use crate::store::owner_usage::OwnerRow;
use crate::store::usage::UsageRow;

pub use self::owners::merge;

/// The most namespaces of a host whose use is kept, the host's own first.
pub const MAX_NAMESPACES: usize = 64;

/// The state in force before the first sample of a step: in the same stretch, or at the end of the one before.
#[derive(Clone, Copy, Debug)]
pub struct Before<'s> {
    /// What the last sample before read.
    pub state: &'s State,
    /// Its wall time as stored, milliseconds.
    pub wall_ms: i64,
}

/// One sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// Its place in the epoch.
    pub seq: Seq,
    /// Its wall time as stored, milliseconds: never falls within a stretch.
    pub wall_ms: i64,
    /// Its boot time, microseconds.
    pub boot_us: u64,
    /// Wall time of the sample before it in the epoch, heartbeats too; `None` = the epoch's first.
    pub prev_wall_ms: Option<i64>,
    /// Whether a stretch begins with it: nothing is known of the time before.
    pub begins_stretch: bool,
    /// What it read.
    pub state: &'s State,
    /// What was traced since the sample before it.
    pub activity: &'s Activity,
}

/// What follows from the samples of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Use by ten minutes, in order of slot and namespace.
    pub usage: Vec<UsageRow>,
    /// Use by hour.
    pub usage_hour: Vec<UsageRow>,
    /// Owners by hour.
    pub owners: Vec<OwnerRow>,
    /// A step that begins with a stretch: whatever earlier steps left open in the epoch ended with the stretch before. To
    /// be stored before `parts`.
    pub stretch_end: Option<StretchEnd>,
    /// Ends of single spans that an earlier step began, likewise.
    pub part_ends: Vec<PartEnd>,
    /// Spans in which a kind could not be read.
    pub parts: Vec<GapPart>,
}

/// Derives, sample by sample, in order.
#[derive(Clone, Debug)]
pub struct Deriver {
    host: HostId,
    usage: usage::Usage,
    owners: owners::Owners,
    parts: parts::Parts,
    /// Wall time of the last sample of the stretch.
    last_ms: Option<i64>,
}

impl Deriver {
    /// Begins a step. `before` is `None` where its first sample begins a stretch.
    pub fn new(host: HostId, epoch: EpochNo, before: Option<Before<'_>>) -> Self {
        let mut new = Self {
            host,
            usage: usage::Usage::default(),
            owners: owners::Owners::new(host),
            parts: parts::Parts::new(host, epoch),
            last_ms: None,
        };
        if let Some(before) = before {
            new.usage.resume(before.state, before.wall_ms);
            new.owners.resume(before.state, before.wall_ms);
            new.parts.resume(before.state);
            new.last_ms = Some(before.wall_ms);
        }
        new
    }

    /// Where the first sample begins a stretch: what the last one of the stretch before read, so that it can be said which of
    /// its namespaces are gone.
    #[must_use]
    pub fn following(mut self, earlier: Option<Before<'_>>) -> Self {
        if let Some(earlier) = earlier {
            self.usage.resume(earlier.state, earlier.wall_ms);
        }
        self
    }

    /// Takes the next sample.
    pub fn sample(&mut self, sample: &Sample<'_>) {
        let since_ms = self.last_ms.filter(|_| !sample.begins_stretch);
        self.usage.sample(since_ms, sample);
        self.owners.sample(since_ms, sample);
        self.parts.sample(since_ms.is_some(), self.last_ms, sample);
        self.last_ms = Some(sample.wall_ms);
    }

    /// Says that what the last sample read was still so at `wall_ms`: for heartbeats, which have no record. Only when no
    /// record follows, for else the next sample is nearer.
    pub fn covered(&mut self, wall_ms: i64) {
        if let Some(since_ms) = self.last_ms {
            self.usage.reach(since_ms, wall_ms);
            self.owners.reach(since_ms, wall_ms);
        }
    }

    /// Says that the epoch is over, and was covered until `wall_ms`.
    pub fn ended(&mut self, wall_ms: i64) {
        self.covered(wall_ms);
        self.parts.end_all(wall_ms);
    }

    /// What to store.
    pub fn finish(self) -> Derived {
        let [usage, usage_hour] = self.usage.finish(self.host);
        let (stretch_end, part_ends, parts) = self.parts.finish();
        Derived { usage, usage_hour, owners: self.owners.finish(), stretch_end, part_ends, parts }
    }
}

/// When a slot begins.
fn slot_of(wall_ms: i64, length_ms: i64) -> i64 {
    wall_ms.div_euclid(length_ms).saturating_mul(length_ms)
}

/// Whether what was read at `since_ms` was in force in the slot that begins at `slot_ms` and in which another value was
/// read at `wall_ms`: not if the new one was read in the instant in which the slot begins.
fn was_in_force(slot_ms: i64, since_ms: i64, wall_ms: i64) -> bool {
    since_ms >= slot_ms || wall_ms > slot_ms
}

/// The namespaces that are kept, the host's own first, each once: a list that names one twice is not believed twice.
fn kept(state: &State) -> impl Iterator<Item = (usize, &Namespace)> {
    let mut seen = BTreeSet::new();
    state.namespaces.iter().take(MAX_NAMESPACES).enumerate().filter(move |(_, n)| seen.insert(n.id))
}
