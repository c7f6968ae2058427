//! Times, and what is said of them.

use std::time::{Duration, Instant};

/// Many times of one thing.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, begun: Instant) {
        self.0.push(begun.elapsed());
    }

    /// The time that so many percent of them took at most, milliseconds.
    pub fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let place = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(place - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    /// One line of a table.
    pub fn say(&mut self, what: &str, goal: &str) {
        let [half, most, all] = [50, 99, 100].map(|percent| self.percentile(percent));
        println!("{what:52} {:6} {half:9.2} {most:9.2} {all:9.2}  {goal}", self.0.len());
    }

    pub fn head() {
        println!("{:52} {:>6} {:>9} {:>9} {:>9}  goal", "", "times", "p50 ms", "p99 ms", "most ms");
    }
}
