//! How fast a drift is, since when, and whether it speeds up.

use super::eta::{Forecast, Growth, Kind, Spread};
use super::hours::{DAY, HOUR, hour_of};
use super::past::Past;

/// Means of days that are looked at, half a day apart, newest first: 13 days.
const POINTS: i64 = 27;
/// Halves of days of rest that growth may take before it counts as begun anew.
const REST: usize = 5;
/// Points before the growth that tell where it began.
const FOOT: usize = 6;
/// What is known of the exponent is a little more than what the points show: the early ones hold the level before.
const SHARPER: f64 = 1.3;
/// How uneven growth is taken to be before that can be told.
const UNKNOWN: f64 = 0.3;
/// Hours in which half of what the last hours were off by is gone.
const FADES: f64 = 12.0;
/// An exponent below which growth slows down for sure.
const SLOWER: f64 = 0.8;
/// Spans of growth that must have been seen before a rest of one is news.
const SPANS_SEEN: i64 = 5;
/// Hours from which on a span is looked at against yesterday's: of fewer the difference scatters too much.
const AGAINST: i64 = 8;
/// What is farther away is told as this, seconds.
const FOREVER: f64 = 90.0 * DAY;
/// Seconds between two points.
const HALF_DAY: f64 = DAY / 2.0;

/// Growth since it began: `height * (t / age) ^ power`.
#[derive(Clone, Copy, Debug)]
pub struct Trend {
    /// Seconds since it began, at the middle of the newest day.
    age: f64,
    /// Units it has grown by.
    height: f64,
    /// 1 = steady, 2 = the rate itself grows steadily, below 1 = it slows down.
    power: f64,
    /// How uneven its half days are: standard deviation over mean.
    uneven: f64,
    /// Units a day over the fastest of several spans.
    fastest: f64,
}

impl Trend {
    /// Reads it off the means of days; `pace` is today's growth over yesterday, for as long as there is little else.
    pub fn of(past: &Past, pace: f64) -> Self {
        let points = points(past);
        let ago = |halves: usize| Some((points.first()? - points.get(halves)?) / halves as f64 * 2.0);
        let fastest = [2, 4, 6, 10, 14].into_iter().filter_map(ago).fold(0.0, f64::max);
        let start = Self { age: DAY, height: pace.max(1e-9), power: 1.0, uneven: UNKNOWN, fastest };
        if points.len() < 4 {
            return start;
        }
        let foot = foot(&points);
        let (newest, oldest) = (points[0], points[foot]);
        let height = newest - oldest;
        if foot < 2 || height <= 0.01 * past.limit {
            return start;
        }
        let power = power(&points[..=foot]);
        Self { age: foot as f64 * HALF_DAY, height, power, uneven: uneven(&points[..=foot]), ..start }
    }

    /// Units by which it grows from now until `seconds` from now; negative for the past.
    fn growth(&self, seconds: f64) -> f64 {
        let age = (1.0 + seconds / self.age).max(0.0);
        self.height * (age.powf(self.power) - 1.0)
    }

    /// Seconds until it has grown by so much from now on.
    fn until(&self, units: f64) -> f64 {
        self.age * ((1.0 + units / self.height).max(0.0).powf(1.0 / self.power) - 1.0)
    }

    /// Units a day at present.
    pub fn per_day(&self) -> f64 {
        self.height * self.power / self.age * DAY
    }

    /// Whether it grows at all now.
    pub fn moves(&self, newest: f64, rate: Option<f64>) -> bool {
        newest > 0.25 * rate.unwrap_or(0.0).max(self.per_day().min(self.fastest.max(1e-9)))
    }

    /// Whether it rests as it never did while it grew: no growth over a span of hours, each of which brought some before, as
    /// the hours are or, over a longer one, against yesterday's, which grew as usual.
    pub fn rests(&self, past: &Past) -> bool {
        let last = past.hours.last();
        let begun = last - hour_of(self.age);
        [6, 8, 12, 18, 24].into_iter().any(|span: i64| {
            let usual = self.per_day() * span as f64 / 24.0;
            let plain = |n: i64| Some(past.hours.mean(n)? - past.hours.mean(n - span)?);
            let against = |n: i64| Some(plain(n)? - plain(n - 24)? + usual);
            let stops = |change: &dyn Fn(i64) -> Option<f64>, from: i64| {
                let before = || (from..=last - span).filter_map(change);
                change(last).is_some_and(|change| change < 0.1 * usual)
                    && before().map(|_| 1_i64).sum::<i64>() >= SPANS_SEEN * span
                    && before().all(|change| change > 0.4 * usual)
            };
            stops(&plain, begun + span + 12) || span >= AGAINST && stops(&against, begun + span + 24)
        })
    }

    /// Seconds until one of yesterday's hours, moved up by the growth since, reaches the cap at that hour of a day.
    pub fn left(&self, past: &Past, noise: f64) -> f64 {
        let (last, cap) = (past.hours.last(), past.cap());
        let off = self.off(past);
        let mut soonest = f64::INFINITY;
        for ahead in 0..24_i32 {
            let Some(level) = past.hours.mean(last - 23 + i64::from(ahead)) else { continue };
            let within = (f64::from(ahead) + 0.5) * HOUR;
            let need = cap - level - 0.25 * noise + self.growth(within - DAY);
            let mut days = ((self.until(need) - within) / DAY).ceil().max(0.0);
            if days == 0.0 && need > off.min(0.0) * (-f64::from(ahead) / FADES).exp2() + self.growth(within) {
                days = 1.0;
            }
            soonest = soonest.min(within + days * DAY);
        }
        (soonest * (1.0 - 0.1 * self.uneven)).min(FOREVER)
    }

    /// By how much the last hours are off from where yesterday and the growth since would have them.
    fn off(&self, past: &Past) -> f64 {
        let last = past.hours.last();
        let (mut sum, mut count) = (0.0, 0.0);
        for back in 0..4_i32 {
            let number = last - i64::from(back);
            if let (Some(now), Some(before)) = (past.hours.mean(number), past.hours.mean(number - 24)) {
                let since = -f64::from(back) * HOUR;
                sum += now - before - (self.growth(since) - self.growth(since - DAY));
                count += 1.0;
            }
        }
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// As a forecast.
    pub fn forecast(&self, past: &Past, left: f64) -> Forecast {
        let growth = Growth { per_day: self.per_day(), over: self.age };
        Forecast::new(Kind::Drift, past.now, left, Spread::of(self.age / DAY, self.uneven), growth)
    }
}

/// Means of days, half a day apart, newest first, as far back as this segment was seen.
pub fn points(past: &Past) -> Vec<f64> {
    (0..POINTS).map_while(|k| past.day(past.hours.last() - 12 * k)).collect()
}

/// Where growth began: the corner of the best line that is flat before and rises after, not behind a long rest.
fn foot(points: &[f64]) -> usize {
    let oldest = (grown(points) + 4).min(points.len() - 1);
    let mut best = (f64::INFINITY, 2);
    for corner in 2..=oldest {
        let before = &points[corner..points.len().min(oldest + FOOT)];
        let base = before.iter().sum::<f64>() / before.len().max(1) as f64;
        let rising = || points[..corner].iter().enumerate().map(|(i, p)| ((corner - i) as f64, p - base));
        let slope = rising().map(|(x, y)| x * y).sum::<f64>() / rising().map(|(x, _)| x * x).sum::<f64>();
        let flat: f64 = before.iter().map(|p| (p - base).powi(2)).sum();
        let error = flat + rising().map(|(x, y)| (y - slope * x).powi(2)).sum::<f64>();
        if error < best.0 {
            best = (error, corner);
        }
    }
    best.1
}

/// Since how many points it has been growing, over rests of two days.
pub fn grown(points: &[f64]) -> usize {
    let newest = points[0];
    let (mut grown, mut rest) = (2, 0);
    for (k, pair) in points.windows(3).enumerate().skip(2) {
        let mean = (newest - pair[2]) / (k + 2) as f64;
        if mean > 0.0 && pair[0] - pair[2] > 0.5 * mean {
            grown = k + 2;
            rest = 0;
        } else {
            rest += 1;
            if rest > REST {
                break;
            }
        }
    }
    grown
}

/// The exponent: from when a quarter, a half and three quarters of the height were reached. Only what shows in all of
/// the three counts, be it that growth speeds up or that it slows down.
fn power(points: &[f64]) -> f64 {
    let foot = points.len() - 1;
    let (base, height) = (points[foot], points[0] - points[foot]);
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for share in [0.25, 0.5, 0.75_f64] {
        let level = base + share * height;
        let Some(below) = points.iter().position(|p| *p <= level) else { continue };
        let (above, under) = (points[below.saturating_sub(1)], points[below]);
        let part = if above > under { (level - under) / (above - under) } else { 0.0 };
        let age = (1.0 - (below as f64 - part) / foot as f64).clamp(0.03, 0.97);
        least = least.min(share.ln() / age.ln());
        most = most.max(share.ln() / age.ln());
    }
    match () {
        () if !least.is_finite() => 1.0,
        () if least > 1.0 => least.min(6.0).powf(SHARPER),
        () if most < SLOWER => most.max(0.2),
        () => 1.0,
    }
}

/// How uneven the halves of days are.
fn uneven(points: &[f64]) -> f64 {
    let count = (points.len() - 1) as f64;
    let mean = (points[0] - points[points.len() - 1]) / count;
    let square = points.windows(2).map(|pair| (pair[0] - pair[1] - mean).powi(2)).sum::<f64>() / count;
    (square.sqrt() / mean).min(1.5)
}
