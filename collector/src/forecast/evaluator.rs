//! Rows in, transitions out.

use serde::{Deserialize, Serialize};

use super::alarm::{Alarm, Transition};
use super::climb::Climb;
use super::clock::Clock;
use super::drift::Drift;
use super::eta::Forecast;
use super::hours::{HOUR, KEPT};
use super::past::Past;
use super::peaks::Peaks;
use super::policy::Policy;
use super::row::Row;
use super::sawtooth::Sawtooth;
use super::surge::Surge;

/// The evaluator of one series. Its state is plain data of bounded size.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Evaluator {
    clock: Clock,
    past: Past,
    surge: Surge,
    climb: Climb,
    drift: Drift,
    peaks: Peaks,
    sawtooth: Sawtooth,
    alarm: Alarm,
}

impl Evaluator {
    /// Takes a row and tells what changes for whoever asks by that policy. Transitions at whole hours before the row come out now, dated by their hour:
    /// that a value held is known once the next row comes.
    pub fn take(&mut self, row: &Row, policy: &Policy, mut tell: impl FnMut(Transition)) {
        self.past.policy = *policy;
        let passed = self.clock.until(row.at);
        if !self.past.begun() {
            self.past.begin(self.clock.now, row);
            self.say(&mut tell);
            return;
        }
        self.past.known &= passed.heard;
        self.pass(passed.seconds, &mut tell);
        let turn = self.past.see(row);
        if turn.reset || turn.new_limit {
            self.surge.end();
            self.climb.end();
            self.peaks.end();
        }
        if turn.new_limit {
            self.drift.limit_changed(&self.past);
            self.sawtooth.end();
        }
        if turn.reset {
            self.drift.end();
            self.sawtooth.look(&self.past);
        }
        if !self.past.known {
            self.past.minutes.clear();
        } else if self.past.minutes.add(self.past.now, self.past.used) {
            self.surge.look(&self.past);
        }
        self.say(&mut tell);
    }

    /// Lets time pass, hour by hour.
    fn pass(&mut self, seconds: f64, tell: &mut impl FnMut(Transition)) {
        let until = self.past.now + seconds;
        if seconds > KEPT as f64 * HOUR {
            self.clock.advance(seconds);
            self.past.now = until;
            self.past.hours.skip_to(until);
            return;
        }
        while self.past.now < until {
            let end = self.past.hours.end();
            let step = until.min(end) - self.past.now;
            self.past.hold(step);
            self.clock.advance(step);
            if self.past.now >= end {
                self.past.close_hour();
                if self.past.known {
                    self.look();
                    self.say(tell);
                }
            }
        }
    }

    fn look(&mut self) {
        self.sawtooth.look(&self.past);
        self.climb.look(&self.past);
        self.drift.look(&self.past);
        self.peaks.look(&self.past);
    }

    /// What the most telling reader says: minutes before all, teeth where there are any, days before hours.
    fn forecast(&self) -> Option<Forecast> {
        if self.past.limit <= 0.0 {
            return None;
        }
        let days = match (self.drift.forecast(), self.climb.forecast()) {
            (Some(days), Some(hours)) if hours.eta < days.eta => Some(days.between(hours, self.past.now)),
            (days, hours) => days.or(hours),
        };
        self.surge.forecast().or_else(|| self.sawtooth.forecast()).or(days).or_else(|| self.peaks.forecast())
    }

    fn say(&mut self, tell: &mut impl FnMut(Transition)) {
        let wall = self.clock.wall_at(0.0);
        if let Some(transition) = self.alarm.decide(&self.past, self.forecast(), wall) {
            tell(transition);
        }
    }
}
