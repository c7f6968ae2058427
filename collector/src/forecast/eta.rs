//! From growth to an instant and an 80 % interval for it.

use serde::{Deserialize, Serialize};

use super::hours::{DAY, HOUR};
use super::past::Past;

/// Which reader saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Within minutes.
    Surge,
    /// Within hours.
    Climb,
    /// Over days.
    Drift,
    /// From one day's peak to the next.
    Peaks,
    /// From restart to restart.
    Sawtooth,
}

/// The growth that a forecast rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Units a day.
    pub per_day: f64,
    /// Over how long it was seen, seconds.
    pub over: f64,
}

/// When the next allocation will fail.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Which reader saw it.
    pub kind: Kind,
    /// Steady instant.
    pub eta: f64,
    /// Lower end of the 80 % interval, steady.
    pub low: f64,
    /// Upper end, steady.
    pub high: f64,
    /// What it rests on.
    pub growth: Growth,
}

/// An 80 % interval: factors of what is left, and seconds for what does not shrink with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Factor and seconds less.
    pub low: (f64, f64),
    /// Factor and seconds more.
    pub high: (f64, f64),
}

impl Spread {
    /// Of a surge: its end is near and its pace steady.
    pub const SURGE: Self = Self { low: (0.85, 0.0), high: (1.25, 300.0) };
    /// Of growing teeth: one tooth sooner or two later.
    pub const TEETH: Self = Self { low: (0.40, 2.0 * HOUR), high: (1.50, 11.0 * HOUR) };

    /// Of growth seen for so many days. The shorter it was seen, the likelier it takes longer; the less even its days
    /// are (standard deviation over mean), the likelier it comes sooner; the hour of the day is open in any case.
    pub fn of(days: f64, uneven: f64) -> Self {
        let low = (0.74 - 0.38 * uneven).max(0.25);
        Self { low: (low, 2.0 * HOUR), high: (1.05 + 1.2 / days.max(0.4), 11.0 * HOUR) }
    }
}

impl Forecast {
    /// A forecast `left` seconds from `now`.
    pub fn new(kind: Kind, now: f64, left: f64, spread: Spread, growth: Growth) -> Self {
        let low = (left * spread.low.0 - spread.low.1).max(0.0);
        Self { kind, eta: now + left, low: now + low, high: now + left * spread.high.0 + spread.high.1, growth }
    }

    /// Half way, by ratio, to what another reader says; the interval of the wider of both.
    pub fn between(self, other: Self, now: f64) -> Self {
        let eta = now + ((self.eta - now).max(60.0) * (other.eta - now).max(60.0)).sqrt();
        Self { eta, low: self.low.min(other.low), high: self.high, ..self }
    }
}

/// Seconds until yesterday's hours, moved up by `per_day` each day, cross the cap.
pub fn cross(past: &Past, per_day: f64) -> f64 {
    let (last, cap) = (past.hours.last(), past.cap());
    let mut soonest = f64::INFINITY;
    for ahead in 0..24_i32 {
        let Some(level) = past.hours.smooth(last - 23 + i64::from(ahead)) else { continue };
        let days = ((cap - level) / per_day).max(0.0);
        let within = (f64::from(ahead) + 0.5) * HOUR;
        soonest = soonest.min(if days <= 1.0 { within } else { (days - 1.0) * DAY + within });
    }
    soonest
}
