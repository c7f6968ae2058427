//! What is known of a series: its use now and before, cut into segments, with the heights it came back from.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::hours::{DAY, HOUR, Hours, hour_of};
use super::minutes::Minutes;
use super::policy::Policy;
use super::row::{Event, Row};
use super::segment::{Segment, Teeth, Tooth, is_reset};
use super::swing::Swings;

/// How long a height that was left by itself stays a precedent: long enough for the end of two months.
pub const PRECEDENT: f64 = 62.0 * DAY;
/// The share of the limit, and of what gathered since a reset, that the last day may bring of what came to rest.
const RESTED: (f64, f64) = (0.01, 0.1);
/// Runs into the limit that are kept apart from what came back by itself.
const RUNS: usize = 4;

/// What a row did to the series besides its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Everything that had gathered was freed.
    pub reset: bool,
    /// The limit is another one.
    pub new_limit: bool,
}

/// All that is known of a series. Its size has a bound: two weeks of hours, two hours of half minutes, 12 teeth, 128
/// peaks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Past {
    /// Steady now.
    pub now: f64,
    /// What is used.
    pub used: f64,
    /// The limit that holds.
    pub limit: f64,
    /// `used` and `limit` as they were sampled, to the last unit.
    pub sampled: (u64, u64),
    /// Whether the value is known to hold: not within a gap.
    pub known: bool,
    /// What is a danger to whoever asks.
    #[serde(skip)]
    pub policy: Policy,
    /// Two weeks of hours.
    pub hours: Hours,
    /// Two hours of half minutes.
    pub minutes: Minutes,
    /// Since the last reset.
    pub segment: Segment,
    /// What resets ended.
    pub teeth: Teeth,
    /// Heights of the mean over a day.
    pub days: Swings,
    /// Heights of the hours.
    pub swings: Swings,
    /// Steady instant at which the next allocation last failed.
    pub full_at: Option<f64>,
    /// Greatest common divisor of all that was used: the size of one allocation.
    unit: u64,
    runs: VecDeque<(i64, i64)>,
    begun: bool,
}

impl Past {
    /// Whether there was a row before.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// The first row.
    pub fn begin(&mut self, now: f64, row: &Row) {
        self.begun = true;
        self.now = now;
        self.hours.begin(now);
        let used = row.used as f64;
        self.segment.begin(now, used, used);
        self.take(row);
    }

    /// A row at `now`.
    pub fn see(&mut self, row: &Row) -> Turn {
        let (before, used, limit) = (self.used, row.used as f64, row.limit as f64);
        let new_limit = limit != self.limit;
        let was_full = self.segment.peak >= self.cap();
        let reset = row.event == Event::Reboot || is_reset(before, used, limit, self.minutes.greatest_jump(self.now));
        if reset {
            self.reset(before, used, was_full);
        }
        if new_limit && limit > self.limit {
            self.full_at = None;
        }
        self.take(row);
        Turn { reset, new_limit }
    }

    /// The value holds for a while within the current hour.
    pub fn hold(&mut self, seconds: f64) {
        if self.known {
            self.hours.hold(self.used, seconds);
        }
        self.now += seconds;
    }

    /// The current hour is over.
    pub fn close_hour(&mut self) {
        self.hours.close(self.first_hour());
        if !self.known {
            return;
        }
        let last = self.hours.last();
        if let Some(level) = self.hours.day(last) {
            self.days.follow(self.now, level, 0.04 * self.limit, 0.25);
        }
        // The height of an hour first: a spike within it has come back already.
        let levels = self.hours.get(last).map(|hour| [f64::from(hour.most), f64::from(hour.mean)]);
        for level in levels.into_iter().flatten() {
            self.swings.follow(self.now, level, 0.08 * self.limit, 0.4);
        }
    }

    /// The first whole hour of this segment.
    pub fn first_hour(&self) -> i64 {
        hour_of(self.segment.since) + 1
    }

    /// The mean over a day, if enough of that day lies in this segment.
    pub fn day(&self, number: i64) -> Option<f64> {
        if number < self.first_hour() + 15 {
            return None;
        }
        self.hours.day(number)
    }

    /// Use from which on the next allocation fails.
    pub fn cap(&self) -> f64 {
        let unit = if self.unit > 1 && (self.unit as f64) < 0.2 * self.limit { self.unit as f64 } else { 1.0 };
        self.limit - unit + 1.0
    }

    /// Used over limit; a limit of 0 switches the resource off and is no danger.
    pub fn share(&self) -> f64 {
        if self.limit > 0.0 { self.used / self.limit } else { 0.0 }
    }

    /// The highest mean over a day that came back by itself.
    pub fn day_precedent(&self) -> Option<f64> {
        self.days.highest_since(self.now - PRECEDENT)
    }

    /// The highest hour that came back by itself.
    pub fn hour_precedent(&self) -> Option<f64> {
        self.swings.highest_since(self.now - PRECEDENT)
    }

    /// The greatest rise within `span` hours that is on record up to an hour, but for runs into the limit.
    pub fn greatest_rise(&self, span: i64, up_to: i64) -> f64 {
        let mut greatest = 0.0_f64;
        for number in self.hours.oldest()..=up_to {
            if self.runs.iter().any(|(from, to)| (*from..=*to).contains(&number)) {
                continue;
            }
            let Some(hour) = self.hours.get(number) else { continue };
            let low = (number - span..=number).filter_map(|n| self.hours.mean(n)).fold(f64::INFINITY, f64::min);
            greatest = greatest.max(f64::from(hour.most) - low);
        }
        greatest
    }

    fn take(&mut self, row: &Row) {
        self.used = row.used as f64;
        self.limit = row.limit as f64;
        self.sampled = (row.used, row.limit);
        self.unit = gcd(self.unit, row.used);
        self.segment.see(self.now, self.used);
        self.known = row.event != Event::GapStart;
        if self.limit > 0.0 && self.used >= self.cap() {
            self.full_at = Some(self.now);
        }
    }

    fn reset(&mut self, before: f64, used: f64, was_full: bool) {
        let segment = self.segment;
        if was_full {
            self.teeth.clear();
            self.forget_run();
        } else {
            let whole = !self.teeth.all().is_empty();
            self.teeth.push(Tooth {
                begin: segment.since,
                end: self.now,
                floor: segment.floor,
                peak: segment.peak,
                whole,
                rested: self.has_rested(),
            });
        }
        self.segment.begin(self.now, used, if was_full { segment.floor } else { before });
        self.minutes.clear();
        self.days.restart();
        self.swings.restart();
        self.full_at = None;
    }

    /// Whether what gathered since the last reset came to rest: a day brought hardly any more, by its mean.
    fn has_rested(&self) -> bool {
        let last = self.hours.last();
        let gathered = self.segment.peak - self.segment.floor;
        let most = (RESTED.0 * self.limit).min(RESTED.1 * gathered);
        self.day(last).zip(self.day(last - 24)).is_some_and(|(now, before)| now - before < most)
    }

    /// The growth that ended at the limit is no precedent: back to the last hour at its foot.
    fn forget_run(&mut self) {
        let (first, last) = (self.first_hour().max(self.hours.oldest()), self.hours.last());
        let means = || (first..=last).filter_map(|n| self.hours.mean(n).map(|mean| (n, mean)));
        let low = means().map(|(_, mean)| mean).fold(f64::INFINITY, f64::min);
        let foot = low + 0.1 * (self.cap() - low);
        let from = means().filter(|(_, mean)| *mean <= foot).map(|(n, _)| n).next_back().unwrap_or(first);
        if self.runs.len() >= RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back((from, last + 1));
        let since = from as f64 * HOUR;
        self.days.forget_since(since);
        self.swings.forget_since(since);
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
