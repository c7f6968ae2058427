//! When the next sample is due: at fixed distances on the boot clock, without drift; missed ticks are skipped.

use std::time::Duration;

/// The schedule of one sampler. Pure: boot time (microseconds) is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    interval_us: u64,
    due_us: u64,
    taken_us: Option<u64>,
}

impl Cadence {
    /// Due at once, then every `interval_ms` (at least 1).
    pub fn new(interval_ms: u32, boot_us: u64) -> Self {
        Self { interval_us: microseconds(interval_ms), due_us: boot_us, taken_us: None }
    }

    /// How long until the next sample is due; zero = now.
    pub fn wait(&self, boot_us: u64) -> Duration {
        Duration::from_micros(self.due_us.saturating_sub(boot_us))
    }

    /// A sample begins now: the next one is due at the first multiple of the interval that still lies ahead.
    pub fn taken(&mut self, boot_us: u64) {
        let late = boot_us.saturating_sub(self.due_us);
        let ticks = late / self.interval_us + 1;
        self.due_us = self.due_us.saturating_add(ticks.saturating_mul(self.interval_us));
        self.taken_us = Some(boot_us);
    }

    /// Another interval, of which the sample just taken tells: the next one is due when it has passed since that one.
    pub fn pace(&mut self, interval_ms: u32, boot_us: u64) {
        let interval_us = microseconds(interval_ms);
        if interval_us != self.interval_us {
            self.interval_us = interval_us;
            self.due_us = self.taken_us.unwrap_or(boot_us).saturating_add(interval_us);
        }
    }

    /// A sample is due at once, but no sooner than so long after the one before.
    pub fn hurry(&mut self, floor_ms: u32, boot_us: u64) {
        let soonest = self.taken_us.map_or(boot_us, |taken| taken.saturating_add(microseconds(floor_ms)));
        self.due_us = self.due_us.min(soonest.max(boot_us));
    }

    /// Another interval, and a sample at once: whoever reads the stream learns the interval from it, and the ticks
    /// count from it.
    pub fn set_interval(&mut self, interval_ms: u32, boot_us: u64) {
        *self = Self { taken_us: self.taken_us, ..Self::new(interval_ms, boot_us) };
    }
}

fn microseconds(interval_ms: u32) -> u64 {
    u64::from(interval_ms.max(1)) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_late_sample_does_not_move_the_ticks() {
        let mut cadence = Cadence::new(1000, 5_000_000);
        assert_eq!(cadence.wait(5_000_000), Duration::ZERO);
        cadence.taken(5_000_300);
        assert_eq!(cadence.wait(5_000_300), Duration::from_micros(999_700));
    }

    #[test]
    fn missed_ticks_are_skipped() {
        let mut cadence = Cadence::new(1000, 0);
        cadence.taken(3_700_000);
        assert_eq!(cadence.wait(3_700_000), Duration::from_micros(300_000));
    }

    #[test]
    fn another_interval_samples_at_once() {
        let mut cadence = Cadence::new(10_000, 0);
        cadence.taken(0);
        cadence.set_interval(1000, 2_500_000);
        assert_eq!(cadence.wait(2_500_000), Duration::ZERO);
        cadence.taken(2_500_000);
        assert_eq!(cadence.wait(2_500_000), Duration::from_secs(1));
    }

    #[test]
    fn a_pace_counts_from_the_sample_that_tells_of_it() {
        let mut cadence = Cadence::new(10_000, 0);
        cadence.taken(0);
        cadence.pace(1000, 20_000);
        assert_eq!(cadence.wait(20_000), Duration::from_millis(980));
        cadence.taken(1_000_000);
        cadence.pace(1000, 1_020_000);
        assert_eq!(cadence.wait(1_020_000), Duration::from_millis(980), "the same pace moves nothing");
        cadence.pace(10_000, 1_020_000);
        assert_eq!(cadence.wait(1_020_000), Duration::from_millis(9980));
    }

    #[test]
    fn a_hurry_is_at_once_but_no_faster_than_the_floor() {
        let mut cadence = Cadence::new(10_000, 0);
        cadence.taken(0);
        cadence.hurry(1000, 300_000);
        assert_eq!(cadence.wait(300_000), Duration::from_millis(700));
        cadence.taken(1_000_000);
        assert_eq!(cadence.wait(1_000_000), Duration::from_secs(10));
        cadence.hurry(1000, 5_000_000);
        assert_eq!(cadence.wait(5_000_000), Duration::ZERO);
        cadence.taken(5_000_000);
        cadence.hurry(20_000, 6_000_000);
        assert_eq!(cadence.wait(6_000_000), Duration::from_secs(9), "a hurry is never later than the tick");
    }

    proptest! {
        #[test]
        fn the_next_sample_is_ahead_by_at_most_one_interval(interval in 0_u32..=3_600_000, start in 0..=u64::MAX / 2, late in 0..=u64::MAX / 2) {
            let mut cadence = Cadence::new(interval, start);
            cadence.taken(start + late);
            let wait = cadence.wait(start + late);
            prop_assert!(wait > Duration::ZERO && wait <= Duration::from_millis(u64::from(interval.max(1))));
        }
    }
}
