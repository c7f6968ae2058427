//! Growth over days: today's hours against the same hours of yesterday, so that a daily cycle cancels out.

use serde::{Deserialize, Serialize};

use super::eta::{Forecast, cross};
use super::past::Past;
use super::trend::{Trend, grown, points};

/// Hours in a row that must show the growth before it is believed.
const BELIEVED: u32 = 3;
/// Hours without growth over the last day after which it rests: that many, more of them the more its hours scatter in
/// comparison with a day's growth, and the most.
const QUIET: (f64, f64, f64) = (8.0, 20.0, 14.0);
/// Hours after it came to rest in which yesterday still tells of the growth, so that only what comes now counts.
const FRESH: u32 = 24;
/// Hours of rest after which it is over and not only asleep: over a weekend and more.
const REST: u32 = 96;
/// Exhaustion is far away that is so many times beyond what is asked for.
const FAR_AWAY: f64 = 1.4;
/// Hours for which exhaustion may look far away before the growth is let go.
const FAR: u32 = 6;
/// Hours that tell its pace now, how many times beyond what is asked for exhaustion must be at that pace alone to be far
/// away, and the share of the usual growth below which the hours fell, which is no pace.
const PACE: (usize, f64, f64) = (9, 4.0, 0.05);
/// The share of a day's growth by which hours lie below yesterday's that fell: a weekend is no rest.
const FELL: f64 = 0.5;
/// Spans of which the last one brought hardly any of the growth that is over, hours.
const ENDED: [i64; 3] = [8, 12, 16];
/// The share of a day's growth by which use must be above all that it was up to a day ago.
const HIGHER: f64 = 0.3;

/// The drift that is on, or how near to one it is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Drift {
    signs: u32,
    on: Option<On>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct On {
    /// Mean of the day when it was first believed, and the highest since.
    level: f64,
    top: f64,
    /// Hours without growth, and hours with exhaustion far away.
    quiet: u32,
    far: u32,
    /// Units a day by which it grew when it last did.
    rate: Option<f64>,
    /// Units a day by which it grew before it came to rest, if it rests, and hours since.
    slept: Option<f64>,
    rest: u32,
    /// Mean of the hour in which it came to rest, and what its hours scattered by while it grew.
    rested_at: f64,
    noise: f64,
    forecast: Option<Forecast>,
}

impl Drift {
    /// What it says now.
    pub fn forecast(&self) -> Option<Forecast> {
        self.on.and_then(|on| on.forecast)
    }

    /// Ends it.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// The limit is another one: ends it if that is far away now.
    pub fn limit_changed(&mut self, past: &Past) {
        if let Some(forecast) = self.forecast()
            && cross(past, forecast.growth.per_day) > past.policy.warning
        {
            self.end();
        }
    }

    /// Looks at the last days.
    pub fn look(&mut self, past: &Past) {
        self.signs = if sign(past) { self.signs.saturating_add(1) } else { 0 };
        let level = past.day(past.hours.last());
        if self.on.is_none() && self.signs >= BELIEVED {
            let left = Differences::of(past).trend(past).left(past, 0.0);
            let level = level.unwrap_or(past.used);
            let on = On { level, top: level, ..On::default() };
            self.on = (left < past.policy.warning).then_some(on);
        }
        if let (Some(on), Some(level)) = (self.on, level) {
            self.on = hold(past, on, level);
            if self.on.is_none() {
                self.signs = 0;
            }
        }
    }
}

/// Today's hours against the same hours of yesterday, newest first, for up to two days.
struct Differences(Vec<f64>);

impl Differences {
    fn of(past: &Past) -> Self {
        let (first, last) = (past.first_hour(), past.hours.last());
        let difference = |n: i64| Some(past.hours.mean(n)? - past.hours.mean(n - 24)?);
        Self((first + 24..=last).rev().filter_map(difference).take(48).collect())
    }

    /// Mean of the newest ones: growth a day.
    fn newest(&self, count: usize) -> f64 {
        let newest = &self.0[..self.0.len().min(count)];
        newest.iter().sum::<f64>() / newest.len().max(1) as f64
    }

    /// The `share` quantile of the newest ones; 0 if there are none.
    fn quantile(&self, count: usize, share: f64) -> f64 {
        let mut newest = self.0[..self.0.len().min(count)].to_vec();
        newest.sort_by(f64::total_cmp);
        let rank = (newest.len().saturating_sub(1) as f64 * share).round();
        newest.iter().enumerate().find(|(i, _)| *i as f64 >= rank).map_or(0.0, |(_, value)| *value)
    }

    /// What the hours of a day scatter by, as a standard deviation: a normal one has 2.56 of it from 10 % to 90 %, and
    /// a difference has 1.41 of that of its parts.
    fn noise(&self) -> f64 {
        (self.quantile(24, 0.9) - self.quantile(24, 0.1)).max(0.0) / 3.6
    }

    fn trend(&self, past: &Past) -> Trend {
        Trend::of(past, self.newest(8))
    }
}

/// Whether nearly all hours are above yesterday's, the level is beyond what came back by itself and beyond what there was,
/// no reset is due that always came, the limit is within the horizon, also at the pace of the newest hours, and it is
/// neither one leap or two nor over already.
fn sign(past: &Past) -> bool {
    let Some(level) = past.day(past.hours.last()) else { return false };
    let differences = Differences::of(past);
    if differences.0.len() < 16 {
        return false;
    }
    let middle = differences.quantile(24, 0.5);
    middle > 0.01 * past.limit
        && differences.quantile(24, 0.2) > 0.25 * middle
        && differences.quantile(48, 0.2) > 0.2 * middle
        && past.day_precedent().is_none_or(|peak| level > peak + 0.04 * past.limit)
        && !past.teeth.know(past.now, past.segment.since, past.used, 0.08 * past.limit)
        && cross(past, middle.min(differences.newest(6)).max(1e-9)) < past.policy.warning
        && middle > 1.3 * restless(past)
        && greatest_piece(past) < 0.5
        && !is_over(past, middle)
        && is_higher(past, level, middle)
}

/// Whether the mean of the day is above all that it was up to a day ago: what moves below that moves without growing.
fn is_higher(past: &Past, level: f64, per_day: f64) -> bool {
    let first = past.first_hour().max(past.hours.oldest());
    let before = (first..=past.hours.last() - 24).filter_map(|n| past.day(n));
    level - before.fold(f64::NEG_INFINITY, f64::max) > HIGHER * per_day
}

/// The share of the growth of the last days that came within three hours: of a deployment it is all.
fn greatest_piece(past: &Past) -> f64 {
    let last = past.hours.last();
    let halves = i64::try_from(grown(&points(past))).unwrap_or(0);
    let from = (last - (12 * (halves + 1)).max(48)).max(past.first_hour());
    let mean = |n: i64| past.hours.mean(n);
    let (Some(first), Some(now)) = ((from..last).find_map(mean), mean(last)) else { return 0.0 };
    let pieces = (from + 3..=last).filter_map(|n| Some(mean(n)? - mean(n - 3)?));
    pieces.fold(0.0, f64::max) / (now - first).max(1e-9)
}

/// Whether growth by `per_day` seems over: hardly any of it came in the last hours, as they are and against yesterday's.
fn is_over(past: &Past, per_day: f64) -> bool {
    let last = past.hours.last();
    let level = |n: i64| {
        let hours = || (n - 2..=n).filter_map(|n| past.hours.mean(n));
        let count = hours().map(|_| 1.0).sum::<f64>();
        (count > 1.0).then(|| hours().sum::<f64>() / count)
    };
    ENDED.into_iter().any(|span| {
        let usual = per_day * span as f64 / 24.0;
        let change = |n: i64| Some(level(n)? - level(n - span)?);
        change(last).is_some_and(|now| {
            let against = change(last - 24).map_or(0.0, |before| now - before + usual);
            now.max(against) < 0.3 * usual
        })
    })
}

/// The greatest change from day to day, up or down, before the growth of now began.
fn restless(past: &Past) -> f64 {
    let points = points(past);
    if points.len() < 4 {
        return 0.0;
    }
    let before = points.iter().skip(grown(&points) + 1);
    before.clone().zip(before.skip(2)).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()))
}

/// Goes on while it grows, and rests while it does not; it is over when it fell back, stays far from the limit, or
/// rested too long.
fn hold(past: &Past, on: On, level: f64) -> Option<On> {
    let differences = Differences::of(past);
    let (trend, noise, newest) = (differences.trend(past), differences.noise(), differences.newest(6));
    let full = past.hours.get(past.hours.last()).is_some_and(|h| f64::from(h.most) >= 0.9 * past.limit);
    let top = on.top.max(level);
    let fallen = top - level > (0.25 * (top - on.level)).max(0.05 * past.limit);
    let left = trend.left(past, noise);
    let is_far = left > FAR_AWAY * past.policy.warning || is_slow(past, on.rate, differences.newest(PACE.0));
    let far = if is_far && !full { on.far + 1 } else { 0 };
    if fallen || far > FAR || on.rest > REST {
        return None;
    }
    if on.slept.is_some_and(|rate| !full && !wakes(past, &on, (rate, newest, noise))) {
        return Some(On { top, far, rest: on.rest + 1, forecast: None, ..on });
    }
    let quiet = match on.rate {
        _ if full || trend.moves(newest, on.rate) => 0,
        Some(rate) if newest < -FELL * rate => on.quiet,
        _ => on.quiet + 1,
    };
    let most = on.rate.map_or(QUIET.2, |rate| (QUIET.0 + QUIET.1 * on.noise / rate.max(1e-9)).min(QUIET.2));
    if !full && (f64::from(quiet) > most || trend.rests(past)) {
        let slept = Some(on.forecast.map_or(newest, |f| f.growth.per_day));
        let rested_at = past.hours.mean(past.hours.last()).unwrap_or(level);
        return Some(On { top, quiet: 0, far, slept, rest: 0, rested_at, forecast: None, ..on });
    }
    let rate = if quiet == 0 { Some(trend.per_day()) } else { on.rate };
    // Growth that is about to end scatters the differences: what counts is how they were before.
    let is_steady = quiet == 0 && newest > 0.7 * trend.per_day();
    let noise = if is_steady || on.rate.is_none() { noise } else { on.noise };
    Some(On { top, quiet, far, rate, slept: None, rest: 0, noise, forecast: Some(trend.forecast(past, left)), ..on })
}

/// Whether at its pace now, which used to be `rate`, exhaustion is far away.
fn is_slow(past: &Past, rate: Option<f64>, pace: f64) -> bool {
    pace > -PACE.2 * rate.unwrap_or(0.0) && cross(past, pace.max(1e-9)) > PACE.1 * past.policy.warning
}

/// Whether what rests grows again, `newest` units a day by the newest hours: as it grew before, beyond what hours scatter
/// by, and above all that was there.
fn wakes(past: &Past, on: &On, (rate, newest, noise): (f64, f64, f64)) -> bool {
    if on.rest >= FRESH {
        let level = past.day(past.hours.last());
        return newest >= 0.5 * rate.max(4.0 * noise) && level.is_some_and(|level| is_higher(past, level, newest));
    }
    let last = past.hours.last();
    let rested = last - i64::from(on.rest);
    let top = (rested - 24..=rested).filter_map(|n| past.hours.mean(n)).fold(on.rested_at, f64::max);
    past.hours.mean(last).is_some_and(|now| now - top > (0.5 * rate).max(4.0 * on.noise))
}
