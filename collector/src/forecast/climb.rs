//! Growth within hours: between a surge and a drift, by the same rule.

use serde::{Deserialize, Serialize};

use super::eta::{Forecast, Growth, Kind, Spread};
use super::hours::{DAY, HOUR};
use super::past::Past;

/// Lengths over which a rise is looked for, hours.
const SPANS: [i64; 6] = [4, 6, 9, 12, 18, 24];

/// Hours after which days tell more.
const LONG: i64 = 72;

/// The climb that is on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Climb {
    on: Option<On>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct On {
    /// Number of the hour at the foot of the rise.
    foot: i64,
    /// Mean of the hour at the foot.
    base: f64,
    /// Number of the hour that was highest, and its mean.
    top: (i64, f64),
    forecast: Forecast,
}

impl Climb {
    /// What it says now.
    pub fn forecast(&self) -> Option<Forecast> {
        self.on.map(|on| on.forecast)
    }

    /// Ends it: everything was freed, or the limit is another one.
    pub fn end(&mut self) {
        self.on = None;
    }

    /// Looks at the last hours.
    pub fn look(&mut self, past: &Past) {
        self.on = match self.on {
            Some(on) => hold(past, on),
            None => SPANS.iter().find_map(|span| rise(past, *span)),
        };
    }
}

/// A rise over a span that is steady, reaches the cap within twice the span, and has no precedent.
fn rise(past: &Past, span: i64) -> Option<On> {
    let last = past.hours.last();
    let foot = last - span;
    let enough = if span == 24 { 24 } else { 24 + span };
    if foot < past.first_hour() || i64::from(past.hours.known()) < enough {
        return None;
    }
    let (level, base) = (past.hours.mean(last)?, past.hours.mean(foot)?);
    let rise = level - base;
    let hours = span as f64;
    let left = (past.cap() - level) / rise * hours * HOUR;
    if rise < (0.10 * past.limit).max(6.0)
        || left > (2.0 * hours * HOUR).min(past.policy.warning)
        || !steady(past, foot, span, rise)
    {
        return None;
    }
    let refill = foot - past.first_hour() < 3 && level < past.segment.before + 0.10 * past.limit;
    if refill || past.hour_precedent().is_some_and(|peak| level < peak + 0.03 * past.limit) {
        return None;
    }
    if span < 24 && rise < 1.5 * past.greatest_rise(span, foot) {
        return None;
    }
    if past.teeth.know(past.now, past.segment.since, level, 0.08 * past.limit) {
        return None;
    }
    let growth = Growth { per_day: rise / hours * 24.0, over: hours * HOUR };
    let forecast = Forecast::new(Kind::Climb, past.now, left.max(0.0), Spread::of(growth.over / DAY, 0.0), growth);
    Some(On { foot, base, top: (last, level), forecast })
}

/// Each quarter makes at least half its share.
fn steady(past: &Past, foot: i64, span: i64, rise: f64) -> bool {
    (0..4).all(|part| {
        let (from, to) = (foot + span * part / 4, foot + span * (part + 1) / 4);
        match (past.hours.mean(from), past.hours.mean(to)) {
            (Some(a), Some(b)) => b - a >= 0.5 * rise * (to - from) as f64 / span as f64,
            _ => false,
        }
    })
}

/// Goes on while it grows; it is over when it fell back by a third, or grew no more for as long as it had grown.
fn hold(past: &Past, on: On) -> Option<On> {
    let last = past.hours.last();
    let Some(level) = past.hours.mean(last) else { return Some(on) };
    let top = if level > on.top.1 { (last, level) } else { on.top };
    let fallen = top.1 - level > (0.33 * (top.1 - on.base)).max(0.04 * past.limit);
    let half = ((last - on.foot) / 2).clamp(3, 24);
    let mean = (level - on.base) / (last - on.foot).max(1) as f64;
    let quiet = past.hours.mean(last - half).is_some_and(|before| level - before < 0.25 * mean * half as f64);
    let long = last - on.foot > LONG;
    if fallen || long || quiet && level < 0.9 * past.limit {
        return None;
    }
    // The rate over a time like the one that is left.
    let room = (past.cap() - level).max(0.0);
    let mut rate = (level - on.base) / (last - on.foot).max(1) as f64;
    let mut over = last - on.foot;
    for span in 2..(last - on.foot) {
        let Some(before) = past.hours.mean(last - span) else { continue };
        let recent = (level - before) / span as f64;
        if recent > 0.0 && room / recent <= span as f64 {
            (rate, over) = (recent, span);
            break;
        }
    }
    let left = room / rate.max(1e-9) * HOUR;
    let growth = Growth { per_day: rate * 24.0, over: over as f64 * HOUR };
    let forecast = Forecast::new(Kind::Climb, past.now, left, Spread::of(growth.over / DAY, 0.0), growth);
    (left < 2.0 * past.policy.warning).then_some(On { top, forecast, ..on })
}
