//! How far back the samples reach of which something is still known, so that a telling can be taken up in the middle. Pure.
//!
//! Mostly that is the last sample: it says everything that is there. But a list that cannot be read is carried forward
//! from the last sample that read it, and an act may wait for a sample that shows what it made. Then whoever goes on must
//! be told the samples since then once more. That costs reading them, so nothing is carried further than
//! [`MOST_CARRIED`] samples: there it is forgotten, by whoever goes on and by whoever never paused, so that pages are what
//! the whole is.

use std::collections::VecDeque;

use super::walk::Position;

/// The most samples with changes over which something is carried forward: a tenth of the records that one answer reads.
pub const MOST_CARRIED: u64 = 20_000;

/// Where a telling must begin to know what another one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The first record; what was there before it opens the walk.
    pub from: Position,
    /// Whether the other one was opened there, too, and so did not know what the state there had shown already.
    pub opened: bool,
}

/// The samples in reach at which nothing was known but what they say.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// With their numbers, the oldest first.
    rests: VecDeque<(u64, Anchor)>,
    /// Counts samples.
    sample: u64,
}

impl Trail {
    /// The last one before all that is still remembered.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.rests.front().map(|(_, anchor)| *anchor)
    }

    /// All that is known is known from here.
    pub(super) fn begin(&mut self, anchor: Anchor) {
        self.rests.clear();
        self.rests.push_back((self.sample, anchor));
    }

    /// A sample was told: with the place after it if nothing is known but what it says; and so many samples back,
    /// that one included, acts are remembered. `false` = that reaches too far back.
    pub(super) fn sample(&mut self, rests: Option<Position>, behind: u64) -> bool {
        self.sample = self.sample.saturating_add(1);
        self.rests.extend(rests.map(|from| (self.sample, Anchor { from, opened: false })));
        let reaches = |number: u64| number.saturating_add(behind) <= self.sample;
        while self.rests.get(1).is_some_and(|(number, _)| reaches(*number)) {
            self.rests.pop_front();
        }
        self.rests.front().is_some_and(|(number, _)| self.sample.saturating_sub(*number) <= MOST_CARRIED)
    }
}
