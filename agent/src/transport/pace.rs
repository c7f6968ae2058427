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
/// Records that are on their way are acknowledged within this, as a rule within a tenth of a second.
const UNHEARD_US: u64 = 10_000_000;
/// That they are not is said this often.
const UNHEARD_EVERY_US: u64 = 60_000_000;

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

/// How long a steady agent may let a record wait for the next: one interval, so that two travel together. Where the next
/// is more than two seconds away it does not wait at all.
pub fn hold(interval_ms: u32) -> Duration {
    let interval = Duration::from_millis(interval_ms.into());
    if interval > HOLD_MOST { Duration::ZERO } else { interval }
}

/// How much a sample may be early or late and still count as the one that was waited for: an eighth of the interval.
fn slack(interval_ms: u32) -> Duration {
    hold(interval_ms) / 8
}

/// How long whoever sends may rest before it looks by itself whether a record has waited too long, which happens only
/// where the sample after it is late: in time a sample wakes it ([`Gate`]).
pub fn rest(interval_ms: u32, waited: Option<Duration>) -> Duration {
    if hold(interval_ms).is_zero() {
        return Duration::MAX;
    }
    let most = hold(interval_ms) + slack(interval_ms);
    // A record may have come right after the last look.
    waited.map_or(most * 2, |waited| most.saturating_sub(waited))
}

/// Wakes whoever sends when there is something worth a message, not at each record: a wake-up costs as much as reading
/// the kernel's files. Times are boot time, microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    /// Time of the oldest record that is to be sent, as far as known.
    since_us: Option<u64>,
    ripe: bool,
}

impl Gate {
    /// A record of that time was made: whether to wake the sender now.
    pub fn made(&mut self, at_us: u64, interval_ms: u32, urgent: bool) -> bool {
        let since_us = *self.since_us.get_or_insert(at_us);
        let waited = Duration::from_micros(at_us.saturating_sub(since_us));
        self.ripe |= urgent || waited + slack(interval_ms) >= hold(interval_ms);
        self.ripe
    }

    /// The sender has read all there is, the oldest that it has not sent being of that time. Whether what it read is to
    /// go now.
    pub fn read(&mut self, oldest_us: Option<u64>) -> bool {
        self.since_us = oldest_us;
        std::mem::take(&mut self.ripe)
    }
}

/// Whether history is behind: its oldest record that is not acked is older than three intervals and 10 s. Times are wall
/// clock, milliseconds; a clock set back does not make it so.
pub fn is_behind(oldest_ms: i64, now_ms: i64, interval_ms: u32) -> bool {
    now_ms.saturating_sub(oldest_ms) > (i64::from(interval_ms) * 3).max(10_000)
}

/// Says now and then that records that were sent are not acknowledged: the collector stores nothing, though it is there.
/// Times are boot time, microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence {
    since_us: Option<u64>,
    said_us: Option<u64>,
}

/// What to say of a [`Silence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// Nothing was acknowledged for so many seconds.
    Since(u64),
    /// It was said, and now there are acks again.
    Over,
}

impl Silence {
    /// Looks at this time: whether records are on their way, and whether an ack came since the last look.
    pub fn look(&mut self, boot_us: u64, on_their_way: bool, acked: bool) -> Option<Unheard> {
        if acked || !on_their_way {
            self.since_us = on_their_way.then_some(boot_us);
            return self.said_us.take().map(|_| Unheard::Over);
        }
        let since_us = *self.since_us.get_or_insert(boot_us);
        let waited_us = boot_us.saturating_sub(since_us);
        let said_ago_us = self.said_us.map(|said_us| boot_us.saturating_sub(said_us));
        if waited_us < UNHEARD_US || said_ago_us.is_some_and(|ago_us| ago_us < UNHEARD_EVERY_US) {
            return None;
        }
        self.said_us = Some(boot_us);
        Some(Unheard::Since(waited_us / 1_000_000))
    }
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
    fn that_nothing_is_acknowledged_is_said_after_ten_seconds_and_then_once_a_minute_until_it_is_over() {
        let mut silence = Silence::default();
        let second = |n: u64| n * 1_000_000;
        assert_eq!(silence.look(second(0), true, false), None);
        assert_eq!(silence.look(second(9), true, false), None);
        assert_eq!(silence.look(second(10), true, false), Some(Unheard::Since(10)));
        assert_eq!(silence.look(second(69), true, false), None);
        assert_eq!(silence.look(second(70), true, false), Some(Unheard::Since(70)));
        assert_eq!(silence.look(second(71), true, true), Some(Unheard::Over));
        assert_eq!(silence.look(second(72), false, false), None);
        assert_eq!(silence.look(second(500), true, false), None);
        assert_eq!(silence.look(second(505), true, true), None);
        assert_eq!(silence.look(second(514), true, false), None);
        assert_eq!(silence.look(second(515), true, false), Some(Unheard::Since(10)));
    }

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
    fn a_record_waits_one_interval_and_not_at_all_where_that_is_more_than_two_seconds() {
        assert_eq!(hold(100), Duration::from_millis(100));
        assert_eq!(hold(2000), Duration::from_secs(2));
        assert_eq!(hold(2001), Duration::ZERO);
    }

    #[test]
    fn at_one_second_every_second_record_wakes_the_sender_though_ticks_are_never_exact() {
        let mut gate = Gate::default();
        let woken: Vec<u64> = (0..10_u64)
            .filter(|n| {
                let wakes = gate.made(n * 1_000_000 - n % 3 * 40_000 + 90_000, 1000, false);
                assert!(!wakes || gate.read(None));
                wakes
            })
            .collect();
        assert_eq!(woken, [1, 3, 5, 7, 9]);
        assert!(gate.made(20_000_000, 10_000, false), "nobody comes with it");
    }

    #[test]
    fn an_urgent_record_wakes_at_once_and_a_sender_that_missed_it_is_woken_by_the_next() {
        let mut gate = Gate::default();
        assert!(!gate.made(0, 1000, false));
        assert!(gate.made(1, 1000, true));
        assert!(gate.made(2, 1000, false));
        assert!(gate.read(None));
        assert!(!gate.made(3, 1000, false));
        assert!(!gate.read(Some(3)), "read before its time, and still to be sent");
        assert!(!gate.made(500_000, 1000, false));
        assert!(gate.made(1_000_003, 1000, false));
    }

    #[test]
    fn a_sender_at_rest_looks_by_itself_soon_after_a_sample_should_have_woken_it() {
        assert_eq!(rest(1000, None), Duration::from_millis(2250));
        assert_eq!(rest(1000, Some(Duration::from_millis(125))), Duration::from_secs(1));
        assert_eq!(rest(1000, Some(Duration::from_secs(9))), Duration::ZERO);
        assert_eq!(rest(10_000, None), Duration::MAX, "every sample wakes it");
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
