//! Growth from one day's peak to the next: the nights stay as they were, so that most hours say nothing of it.

use serde::{Deserialize, Serialize};

use super::eta::{Forecast, Growth, Kind, Spread};
use super::hours::{DAY, HOUR};
use super::past::{PRECEDENT, Past};

/// Days that must show the growth.
const RISES: usize = 3;
/// Days that are looked at: two weeks of hours hold so many whole ones at any hour.
const DAYS: i64 = 13;
/// Hours of a day that must have been seen for its peak to count.
const OF_A_DAY: usize = 18;
/// Hours without growth of the peak after which it is over.
const QUIET: u32 = 6;
/// And where the peak is nearly at the limit: one day more.
const PATIENCE: u32 = 30;
/// Hours for which too little may be seen of the last days until it is over as well.
const UNKNOWN: u32 = 24;
/// Exhaustion is far away that is so many times beyond what is asked for.
const FAR_AWAY: f64 = 1.4;
/// How uneven days are taken to be: the peak of one holds all its noise.
const UNEVEN: f64 = 0.3;

/// The growth of the peaks that is on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Peaks {
    on: Option<On>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct On {
    /// The peak from which it grew, and the highest since.
    base: f64,
    top: f64,
    /// Units a day.
    rate: f64,
    /// Hours without growth.
    quiet: u32,
    forecast: Forecast,
}

/// The highest and the lowest hour of a day.
#[derive(Clone, Copy, Debug)]
struct Range {
    most: f64,
    least: f64,
}

impl Peaks {
    /// What it says now.
    pub fn forecast(&self) -> Option<Forecast> {
        self.on.map(|on| on.forecast)
    }

    /// Ends it: everything was freed, or the limit is another one.
    pub fn end(&mut self) {
        self.on = None;
    }

    /// Looks at the last days.
    pub fn look(&mut self, past: &Past) {
        let days = days(past);
        self.on = match self.on {
            Some(on) => hold(past, &days, on),
            None => sign(past, &days),
        };
    }
}

/// The last days, newest first, each of the 24 hours that end now or so many days ago, as far back as this segment was seen.
fn days(past: &Past) -> Vec<Range> {
    let (first, last) = (past.first_hour(), past.hours.last());
    let day = |ago: i64| {
        let until = last - 24 * ago;
        let hours = || (until - 23..=until).filter_map(|n| past.hours.mean(n));
        let nothing = Range { most: f64::NEG_INFINITY, least: f64::INFINITY };
        let range = hours().fold(nothing, |r, mean| Range { most: r.most.max(mean), least: r.least.min(mean) });
        (until - 23 >= first && hours().count() >= OF_A_DAY).then_some(range)
    };
    (0..DAYS).map_while(day).collect()
}

/// Whether the peak rose each day and by more than it ever moved before, to where it never was, while the quiet hours did
/// not rise with it: else it is the matter of the readers of hours.
fn sign(past: &Past, days: &[Range]) -> Option<On> {
    let (newest, base) = (days.first()?, days.get(RISES)?);
    let rise = newest.most - base.most;
    let mean = rise / RISES as f64;
    let changes = |from: usize| days.windows(2).skip(from).map(|pair| pair[0].most - pair[1].most);
    let steady = changes(0).take(RISES).all(|rise| rise > 0.3 * mean && rise < 1.8 * mean);
    let restless = changes(RISES).fold(0.0, |most: f64, change| most.max(change.abs()));
    if mean < (0.01 * past.limit).max(1.3 * restless) || !steady || newest.least - base.least > 0.5 * rise {
        return None;
    }
    let since = past.now - RISES as f64 * DAY - HOUR;
    let precedent = past.swings.highest_between(past.now - PRECEDENT, since).unwrap_or(0.0);
    let before = days.iter().skip(RISES).fold(precedent, |most, day| most.max(day.most));
    let forecast = forecast(past, newest.most, mean, RISES);
    let is_soon = forecast.eta - past.now < past.policy.warning;
    let on = On { base: base.most, top: newest.most, rate: mean, quiet: 0, forecast };
    (newest.most > before + 0.04 * past.limit && is_soon).then_some(on)
}

/// Goes on while the peak grows; it is over when it grew no more, fell back by a quarter, is far from the limit, or
/// nobody knows.
fn hold(past: &Past, days: &[Range], on: On) -> Option<On> {
    let (Some(newest), Some(before)) = (days.first(), days.get(1)) else {
        return (on.quiet < UNKNOWN).then_some(On { quiet: on.quiet + 1, ..on });
    };
    let top = on.top.max(newest.most);
    let quiet = if newest.most - before.most > 0.25 * on.rate { 0 } else { on.quiet + 1 };
    let grown = days.iter().take_while(|day| day.most > on.base).count();
    let over = grown.min(RISES);
    let recent = days.get(over).map(|day| (newest.most - day.most) / over.max(1) as f64);
    let rate = if quiet == 0 { recent.unwrap_or(on.rate).max(0.0) } else { on.rate };
    let forecast = forecast(past, newest.most, rate, grown);
    let fallen = top - newest.most > (0.25 * (top - on.base)).max(0.05 * past.limit);
    let far = forecast.eta - past.now > FAR_AWAY * past.policy.warning;
    let patience = if newest.most >= 0.9 * past.limit { PATIENCE } else { QUIET };
    (!fallen && quiet <= patience && !far).then_some(On { top, rate, quiet, forecast, ..on })
}

/// The cap is reached at the hour of the peak of the day on which the peak would be as high.
fn forecast(past: &Past, height: f64, rate: f64, days: usize) -> Forecast {
    let last = past.hours.last();
    let highest = (last - 23..=last).filter_map(|n| Some((n, past.hours.mean(n)?))).max_by(|a, b| a.1.total_cmp(&b.1));
    let ago = highest.map_or(0, |(n, _)| last - n) as f64 * HOUR;
    let more = ((past.cap() - height) / rate.max(1e-9)).ceil().clamp(1.0, 90.0) * DAY;
    let over = days.max(1) as f64;
    let growth = Growth { per_day: rate, over: over * DAY };
    Forecast::new(Kind::Peaks, past.now, (more - ago).max(HOUR), Spread::of(over, UNEVEN), growth)
}
