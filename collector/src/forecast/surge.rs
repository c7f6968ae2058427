//! Growth within minutes: as steady and steep a rise as this series never had, that reaches the limit soon.

use serde::{Deserialize, Serialize};

use super::eta::{Forecast, Growth, Kind, Spread};
use super::hours::{DAY, HOUR};
use super::past::Past;

/// Lengths of time over which a rise is looked for, seconds.
const WINDOWS: [f64; 10] = [300.0, 600.0, 1_200.0, 1_800.0, 2_400.0, 3_600.0, 4_800.0, 7_200.0, 10_200.0, 13_800.0];
/// A rise over more than this may be part of a daily cycle, seconds.
const MORNING: f64 = 4_800.0;
/// How long a surge that went quiet is held, seconds.
const HELD: f64 = 3.0 * HOUR;
/// How long after a reset use may come back to where it was, seconds.
const REFILL: f64 = 3.0 * HOUR;

/// The surge that is on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Surge {
    on: Option<On>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct On {
    since: f64,
    level: f64,
    forecast: Forecast,
}

impl Surge {
    /// What it says now.
    pub fn forecast(&self) -> Option<Forecast> {
        self.on.map(|on| on.forecast)
    }

    /// Ends it: everything was freed, or the limit is another one.
    pub fn end(&mut self) {
        self.on = None;
    }

    /// Looks at the last minutes.
    pub fn look(&mut self, past: &Past) {
        let seen = WINDOWS.iter().filter_map(|w| rise(past, *w)).min_by(|a, b| a.eta.total_cmp(&b.eta));
        self.on = match (seen, self.on) {
            (Some(forecast), on) => Some(On { since: on.map_or(past.now, |on| on.since), level: past.used, forecast }),
            (None, Some(on))
                if past.now - on.since > HELD.max(on.forecast.growth.over)
                    || past.used < on.level - 0.05 * past.limit =>
            {
                None
            }
            (None, on) => on,
        };
    }
}

/// A rise over a window that is steady, reaches the cap within one and a half times the window, and has no precedent.
fn rise(past: &Past, window: f64) -> Option<Forecast> {
    let points = past.minutes.points();
    let first = points.iter().rposition(|p| p.at <= past.now - window)?;
    let base = points.get(first)?.used;
    let rise = past.used - base;
    if rise < (0.10 * past.limit).max(6.0) || !steady(past, first, rise) {
        return None;
    }
    let left = (past.cap() - past.used) / rise * window;
    let refill = past.now - past.segment.since < REFILL && past.used < past.segment.before + 0.10 * past.limit;
    let known = past.hour_precedent().is_some_and(|peak| past.used < peak + 0.03 * past.limit);
    // A rise of hours may be any morning's, as long as no day was seen.
    let strange = window > MORNING && f64::from(past.hours.known()) < (DAY + window) / HOUR;
    if left > 1.5 * window + 300.0 || refill || known || strange {
        return None;
    }
    let span = (1..4_i32).find(|hours| window <= f64::from(*hours) * HOUR).unwrap_or(4).into();
    if rise < 1.5 * past.greatest_rise(span, past.hours.last() - span) {
        return None;
    }
    let growth = Growth { per_day: rise / window * DAY, over: window };
    Some(Forecast::new(Kind::Surge, past.now, left, Spread::SURGE, growth))
}

/// Most steps go up, none makes most of it, and little of it is lost again.
fn steady(past: &Past, first: usize, rise: f64) -> bool {
    let points = past.minutes.points();
    let steps = points.range(first..).zip(points.range(first..).skip(1)).map(|(a, b)| b.used - a.used);
    let (mut count, mut up, mut greatest, mut lost) = (0, 0, 0.0_f64, 0.0);
    for step in steps {
        count += 1;
        if step > 0.0 {
            up += 1;
            greatest = greatest.max(step);
        } else {
            lost -= step;
        }
    }
    count >= 4 && up * 10 >= count * 7 && greatest <= 0.4 * rise && lost <= 0.15 * rise
}
