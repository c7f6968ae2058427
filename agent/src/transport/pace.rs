//! When to send and when to try again. Pure: time and randomness are handed in.

use std::time::Duration;

/// Shortest wait before another connection.
const SHORTEST: Duration = Duration::from_millis(500);
/// Longest one where nobody answers: a collector that is back has its fleet back within this.
const LONGEST: Duration = Duration::from_secs(10);
/// Longest one where the collector refuses: only a person can lift that.
const LONGEST_REFUSED: Duration = Duration::from_secs(60);
/// Failures after which the bound has grown to the longest wait.
const GROWS: u32 = 16;
/// Longest time a record waits for others to travel with.
const HOLD_MOST: Duration = Duration::from_secs(2);
/// The present is told this often while history is behind, microseconds.
const NOW_EVERY_US: u64 = 10_000_000;

/// How long to wait before the next attempt: random between half a second and a bound that grows by half up to ten
/// seconds. So a fleet whose collector restarts does not come back as one, and after an outage of some seconds each is
/// back in less than it took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after another failure.
    pub fn wait(&mut self, random: u64) -> Duration {
        let mut bound = SHORTEST * 2;
        for _ in 0..self.failures.min(GROWS) {
            bound = (bound + bound / 2).min(LONGEST);
        }
        self.failures = self.failures.saturating_add(1);
        between(SHORTEST, bound, random)
    }

    /// The wait after a refusal that only a person can lift.
    pub fn wait_long(&mut self, random: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        between(LONGEST_REFUSED / 2, LONGEST_REFUSED, random)
    }

    /// Something was acknowledged: the next failure is a first one.
    pub fn progress(&mut self) {
        self.failures = 0;
    }
}

fn between(least: Duration, most: Duration, random: u64) -> Duration {
    let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
    least + Duration::from_micros(random % span.saturating_add(1))
}

/// How long a steady agent may let a record wait for the next: one interval, at most 2 s.
pub fn hold(interval_ms: u32) -> Duration {
    Duration::from_millis(interval_ms.into()).min(HOLD_MOST)
}

/// Whether history is behind: its oldest record that is not acked is older than three intervals and 10 s. Times are wall
/// clock, milliseconds; a clock set back does not make it so.
pub fn is_behind(oldest_ms: i64, now_ms: i64, interval_ms: u32) -> bool {
    now_ms.saturating_sub(oldest_ms) > (i64::from(interval_ms) * 3).max(10_000)
}

/// When the present is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct NowTimer {
    next_us: u64,
}

impl NowTimer {
    /// Whether it is time to look, at this boot time in microseconds; then the next time is 10 s later. The first time
    /// is at once.
    pub fn due(&mut self, boot_us: u64) -> bool {
        let due = boot_us >= self.next_us;
        if due {
            self.next_us = boot_us.saturating_add(NOW_EVERY_US);
        }
        due
    }

    /// How long until then.
    pub fn wait(&self, boot_us: u64) -> Duration {
        Duration::from_micros(self.next_us.saturating_sub(boot_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_grow_to_ten_seconds_and_start_over_after_progress() {
        let mut backoff = Backoff::default();
        let longest: Vec<Duration> = (0..20)
            .map(|_| {
                let most = (0..2000_u64).map(|r| backoff.clone().wait(r * 30_011)).max();
                backoff.wait(0);
                most.unwrap()
            })
            .collect();
        assert!(longest.windows(2).all(|w| w[0] <= w[1] + Duration::from_millis(100)), "{longest:?}");
        assert!(longest[0] <= Duration::from_secs(1) && longest[19] > Duration::from_secs(9), "{longest:?}");
        backoff.progress();
        assert!(backoff.wait(u64::MAX) <= Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn every_wait_is_within_its_bounds(randoms in proptest::collection::vec(any::<u64>(), 1..100)) {
            let mut backoff = Backoff::default();
            for random in randoms {
                prop_assert!((SHORTEST..=LONGEST).contains(&backoff.wait(random)));
                prop_assert!((LONGEST_REFUSED / 2..=LONGEST_REFUSED).contains(&backoff.wait_long(random)));
            }
        }
    }

    #[test]
    fn a_record_waits_one_interval_and_at_most_two_seconds() {
        assert_eq!(hold(100), Duration::from_millis(100));
        assert_eq!(hold(3_600_000), Duration::from_secs(2));
    }

    #[test]
    fn behind_is_more_than_three_intervals_and_ten_seconds() {
        assert!(!is_behind(0, 10_000, 1000));
        assert!(is_behind(0, 10_001, 1000));
        assert!(!is_behind(0, 30_000, 10_000));
        assert!(!is_behind(i64::MAX, i64::MIN, 100));
    }

    #[test]
    fn the_present_is_told_at_once_and_every_ten_seconds() {
        let mut timer = NowTimer::default();
        assert!(timer.due(5));
        assert!(!timer.due(10_000_004));
        assert_eq!(timer.wait(10_000_004), Duration::from_micros(1));
        assert!(timer.due(10_000_005));
    }
}
