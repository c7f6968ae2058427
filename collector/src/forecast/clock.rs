//! One steady time out of the rows' own, which jump when a clock is set.

use serde::{Deserialize, Serialize};

/// Rows come at least every 10 minutes: a longer silence that no gap announced is no knowledge, seconds.
const SILENCE: f64 = 1800.0;

/// The time since the first row, and the host's wall clock beside it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Steady seconds: never go back.
    pub now: f64,
    /// The host's clock at `now`, unix seconds.
    pub wall: f64,
    /// By how much the clock was set back and not forward again, seconds.
    behind: f64,
    begun: bool,
}

/// What a row says about the time since the one before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passed {
    /// Steady seconds, never negative.
    pub seconds: f64,
    /// Whether so short a time that the value before can be taken to have held.
    pub heard: bool,
}

impl Clock {
    /// How much time passed until a row at `at`. A clock that was set back stands still for one row; setting it forward
    /// again is recognised and counts as no time. Not finite counts as no time.
    pub fn until(&mut self, at: f64) -> Passed {
        if !at.is_finite() {
            return Passed { seconds: 0.0, heard: true };
        }
        if !self.begun {
            *self = Self { now: at.max(0.0), wall: at, behind: 0.0, begun: true };
        }
        let ahead = at - self.wall;
        if ahead < 0.0 {
            self.behind -= ahead;
            self.wall = at;
            return Passed { seconds: 0.0, heard: true };
        }
        if ahead > SILENCE && self.behind > 0.0 {
            let undone = self.behind.min(ahead);
            self.behind -= undone;
            self.wall += undone;
        }
        let seconds = at - self.wall;
        Passed { seconds, heard: seconds <= SILENCE }
    }

    /// Moves both times on.
    pub fn advance(&mut self, seconds: f64) {
        self.now += seconds;
        self.wall += seconds;
    }

    /// The host's clock at a steady instant, as far as it is set now.
    pub fn wall_at(&self, steady: f64) -> f64 {
        steady + (self.wall - self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(rows: &[f64]) -> Vec<f64> {
        let mut clock = Clock::default();
        let mut times = Vec::new();
        for at in rows {
            let passed = clock.until(*at);
            clock.advance(passed.seconds);
            times.push(clock.now);
            assert!(at.is_nan() || (clock.wall - at).abs() < 1e-6, "{clock:?}");
        }
        times
    }

    #[test]
    fn time_never_goes_back_and_goes_on_after_a_step_back() {
        assert_eq!(steady(&[1000.0, 1300.0, 400.0, 700.0]), [1000.0, 1300.0, 1300.0, 1600.0]);
    }

    #[test]
    fn a_step_back_that_is_undone_took_no_time() {
        assert_eq!(steady(&[10_000.0, 2_800.0, 3_100.0, 10_600.0]), [10_000.0, 10_000.0, 10_300.0, 10_600.0]);
    }

    #[test]
    fn what_is_no_time_counts_as_none() {
        assert_eq!(steady(&[1000.0, f64::NAN, 1060.0]), [1000.0, 1000.0, 1060.0]);
    }

    #[test]
    fn a_long_silence_is_not_heard() {
        let mut clock = Clock::default();
        clock.until(0.0);
        assert_eq!(clock.until(1801.0), Passed { seconds: 1801.0, heard: false });
    }
}
