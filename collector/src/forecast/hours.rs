//! Two weeks of hours: what was used in each, and how much of it was seen.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Seconds of an hour.
pub const HOUR: f64 = 3600.0;
/// Seconds of a day.
pub const DAY: f64 = 86_400.0;
/// Hours that are kept: two weeks, the longest growth that is looked back on.
pub const KEPT: i64 = 14 * 24;
/// An hour of which less than this was seen says nothing, seconds.
const SEEN: f32 = 600.0;
/// Hours of a day that must have been seen for its mean to count.
const OF_A_DAY: u16 = 16;

/// One hour. Single precision: 7 digits are more than a forecast rests on, and a fleet keeps many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// Mean of what was used, over the time seen.
    pub mean: f32,
    /// Most that was used.
    pub most: f32,
    /// Mean of the 24 hours that end with this one, as far as they lie after the last reset.
    pub day: Option<f32>,
    /// Seconds of it that were seen.
    pub seen: f32,
}

/// The hour that is being filled.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Filling {
    sum: f64,
    most: f64,
    seen: f64,
}

/// The hours up to now. An hour is named by its number: steady seconds over 3,600.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Hours {
    ring: VecDeque<Hour>,
    filling: Filling,
    /// Number of the hour that is being filled.
    current: i64,
    /// Hours ever seen well enough, at most 2^32 - 1.
    known: u32,
}

/// The number of the hour that holds a steady instant.
#[expect(clippy::cast_possible_truncation, reason = "saturates; an instant is below 2^53")]
pub fn hour_of(seconds: f64) -> i64 {
    (seconds / HOUR).floor() as i64
}

impl Hours {
    /// Begins at a steady instant.
    pub fn begin(&mut self, now: f64) {
        *self = Self { current: hour_of(now), ..Self::default() };
    }

    /// The steady instant at which the current hour ends.
    pub fn end(&self) -> f64 {
        (self.current + 1) as f64 * HOUR
    }

    /// The number of the last whole hour.
    pub fn last(&self) -> i64 {
        self.current - 1
    }

    /// Hours ever seen well enough.
    pub fn known(&self) -> u32 {
        self.known
    }

    /// `used` held for `seconds` of the current hour.
    pub fn hold(&mut self, used: f64, seconds: f64) {
        if seconds > 0.0 {
            let filling = &mut self.filling;
            filling.most = if filling.seen > 0.0 { filling.most.max(used) } else { used };
            filling.sum += used * seconds;
            filling.seen += seconds;
        }
    }

    /// Ends the current hour; its day's mean counts hours from `since` on.
    #[expect(clippy::cast_possible_truncation, reason = "see Hour: single precision")]
    pub fn close(&mut self, since: i64) {
        let filling = std::mem::take(&mut self.filling);
        let mean = if filling.seen > 0.0 { filling.sum / filling.seen } else { 0.0 };
        let hour = Hour { mean: mean as f32, most: filling.most as f32, day: None, seen: filling.seen as f32 };
        self.ring.push_back(hour);
        if hour.seen > SEEN {
            self.known = self.known.saturating_add(1);
        }
        if self.kept() > KEPT {
            self.ring.pop_front();
        }
        self.current += 1;
        let day = self.mean_of_day(since);
        if let Some(hour) = self.ring.back_mut() {
            hour.day = day;
        }
    }

    /// Passes over so long a silence that nothing of what was seen is within two weeks.
    pub fn skip_to(&mut self, now: f64) {
        self.ring.clear();
        self.filling = Filling::default();
        self.current = hour_of(now);
    }

    /// An hour that was seen well enough.
    pub fn get(&self, number: i64) -> Option<&Hour> {
        let index = usize::try_from(number - self.oldest()).ok()?;
        self.ring.get(index).filter(|hour| hour.seen > SEEN)
    }

    /// Mean of an hour that was seen well enough.
    pub fn mean(&self, number: i64) -> Option<f64> {
        self.get(number).map(|hour| f64::from(hour.mean))
    }

    /// Mean of an hour and the ones beside it: what the hour is like without its own noise.
    pub fn smooth(&self, number: i64) -> Option<f64> {
        let middle = self.mean(number)?;
        let (mut sum, mut count) = (2.0 * middle, 2.0);
        for beside in [number - 1, number + 1] {
            if let Some(mean) = self.mean(beside) {
                sum += mean;
                count += 1.0;
            }
        }
        Some(sum / count)
    }

    /// Mean of the 24 hours that end with that one.
    pub fn day(&self, number: i64) -> Option<f64> {
        self.get(number).and_then(|hour| hour.day).map(f64::from)
    }

    /// The oldest hour that is kept.
    pub fn oldest(&self) -> i64 {
        self.current - self.kept()
    }

    fn kept(&self) -> i64 {
        i64::try_from(self.ring.len()).unwrap_or(KEPT)
    }

    #[expect(clippy::cast_possible_truncation, reason = "see Hour: single precision")]
    fn mean_of_day(&self, since: i64) -> Option<f32> {
        let last = self.last();
        let (mut sum, mut count) = (0.0, 0_u16);
        for number in since.max(last - 23)..=last {
            if let Some(mean) = self.mean(number) {
                sum += mean;
                count += 1;
            }
        }
        (count >= OF_A_DAY).then(|| (sum / f64::from(count)) as f32)
    }
}
