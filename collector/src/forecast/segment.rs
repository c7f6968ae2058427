//! From one reset to the next: a reset is a reboot, or a fall in one row that is far larger than what rows do here.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::hours::{DAY, HOUR};

/// Teeth that are kept.
const KEPT: usize = 12;
/// How long a tooth says something, seconds.
const REMEMBERED: f64 = 28.0 * DAY;
/// The floor of a segment is its least within this time after the reset, seconds.
const SETTLING: f64 = 2.0 * HOUR;

/// The time since the last reset.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Segment {
    /// Steady instant of the reset, or of the first row.
    pub since: f64,
    /// The least that was used within the first two hours.
    pub floor: f64,
    /// The most that was used.
    pub peak: f64,
    /// Level that was held before the reset, to which use may come back without being a surge.
    pub before: f64,
}

/// A segment that a reset ended before the limit was reached.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Tooth {
    /// Steady instant of its beginning.
    pub begin: f64,
    /// Steady instant of the reset that ended it.
    pub end: f64,
    /// As of the segment.
    pub floor: f64,
    /// As of the segment.
    pub peak: f64,
    /// Whether its beginning was a reset as well, not the first row of all.
    pub whole: bool,
    /// Whether it had come to rest at its peak.
    pub rested: bool,
}

impl Tooth {
    /// Seconds from reset to reset.
    pub fn length(&self) -> f64 {
        self.end - self.begin
    }

    /// Growth per second.
    pub fn rate(&self) -> f64 {
        (self.peak - self.floor) / self.length().max(HOUR)
    }
}

/// The teeth of the last four weeks since the limit was last reached, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Teeth {
    teeth: VecDeque<Tooth>,
}

impl Segment {
    /// Begins anew at a reset.
    pub fn begin(&mut self, now: f64, used: f64, before: f64) {
        *self = Self { since: now, floor: used, peak: used, before };
    }

    /// A row within it.
    pub fn see(&mut self, now: f64, used: f64) {
        self.peak = self.peak.max(used);
        if now - self.since < SETTLING {
            self.floor = self.floor.min(used);
        }
    }
}

impl Teeth {
    /// Adds a tooth and forgets old ones.
    pub fn push(&mut self, tooth: Tooth) {
        while self.teeth.front().is_some_and(|t| self.teeth.len() >= KEPT || tooth.end - t.end > REMEMBERED) {
            self.teeth.pop_front();
        }
        self.teeth.push_back(tooth);
    }

    /// Forgets all: the limit was reached, so resets did not save it.
    pub fn clear(&mut self) {
        self.teeth.clear();
    }

    /// The teeth.
    pub fn all(&self) -> &VecDeque<Tooth> {
        &self.teeth
    }

    /// Whether level and age are what resets ended before, or the level is one at which it came to rest, so that growth is
    /// no news.
    pub fn know(&self, now: f64, since: f64, level: f64, margin: f64) -> bool {
        if self.teeth.iter().any(|t| t.rested && now - t.end < REMEMBERED && level < t.peak + margin) {
            return true;
        }
        let whole = || self.teeth.iter().filter(|t| now - t.end < REMEMBERED && t.whole);
        if self.teeth.len() < 3 || whole().count() < 2 {
            return false;
        }
        let peak = self.teeth.iter().fold(0.0, |most: f64, t| most.max(t.peak));
        let length = whole().fold(0.0, |most: f64, t| most.max(t.length()));
        level < peak + margin && now - since < 1.3 * length
    }
}

/// Whether a fall from `before` to `used` in one row freed everything that had gathered: a quarter of it and 8 % of the
/// limit at least, four units, and far more than rows moved by in the last two hours.
pub fn is_reset(before: f64, used: f64, limit: f64, greatest_jump: f64) -> bool {
    let fall = before - used;
    fall >= 4.0 && fall > (0.08 * limit).max(0.25 * before) && fall > 2.5 * greatest_jump
}
