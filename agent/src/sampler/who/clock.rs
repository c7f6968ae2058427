//! When a second of the wall clock was, in time since boot: exactly, where this agent saw that the clock was not set since.

use highwater_ipc::time::At;

/// A difference of wall clock and boot clock that moves by more than this was set, not slewed; milliseconds.
const SET_MS: i64 = 500;

/// The wall clock as far as it was watched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watched {
    /// Wall time at boot by the clock as it is now, milliseconds, and the boot time since which it is set so.
    base: Option<(i64, u64)>,
    now_ms: i64,
}

/// Between which boot times an object was changed last, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Not after this, microseconds since boot; the end of time while that is not known.
    pub by_us: u64,
    /// About when by the wall clock as it is set now, microseconds since boot: wrong if the clock was set since.
    pub about_us: u64,
}

impl Watched {
    /// The clocks now.
    pub fn note(&mut self, at: At) {
        let boot_ms = i64::try_from(at.boot_us / 1000).unwrap_or(i64::MAX);
        self.now_ms = at.wall_ms.saturating_sub(boot_ms);
        if self.base.is_none_or(|(base, _)| base.abs_diff(self.now_ms) > SET_MS.unsigned_abs()) {
            self.base = Some((self.now_ms, at.boot_us));
        }
    }

    /// When something was done of which the kernel kept the second (as `ktime_get_real_seconds` cuts it).
    pub fn changed(&self, seconds: i64) -> Changed {
        // Before boot by the clock as it is now: it was set since, so it says nothing.
        let since_boot = |ms: i64| u64::try_from(ms.saturating_sub(self.now_ms)).map(|ms| ms.saturating_mul(1000));
        let ms = seconds.saturating_mul(1000);
        let (from, until) = (since_boot(ms), since_boot(ms.saturating_add(1000 + SET_MS)));
        let about_us = match (from, until) {
            (Ok(_), Ok(until)) => until,
            _ => u64::MAX,
        };
        let watched = self.base.is_some_and(|(_, since_us)| from.is_ok_and(|from| from > since_us));
        Changed { by_us: if watched { about_us } else { u64::MAX }, about_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT_MS: i64 = 1_700_000_000_000;

    fn at(second: u64, set_ms: i64) -> At {
        At { wall_ms: BOOT_MS + set_ms + i64::try_from(second * 1000).unwrap(), boot_us: second * 1_000_000 }
    }

    #[test]
    fn a_second_is_known_only_while_the_clock_was_watched_and_not_set() {
        let mut clock = Watched::default();
        clock.note(at(100, 0));
        let seconds = |second: i64| BOOT_MS / 1000 + second;
        assert_eq!(clock.changed(seconds(150)), Changed { by_us: 151_500_000, about_us: 151_500_000 });
        assert_eq!(clock.changed(seconds(50)), Changed { by_us: u64::MAX, about_us: 51_500_000 });
        clock.note(at(160, 400));
        assert_eq!(clock.changed(seconds(150)).by_us, 151_100_000);
        clock.note(at(200, 3_600_000));
        assert_eq!(clock.changed(seconds(150)), Changed { by_us: u64::MAX, about_us: u64::MAX }, "before boot");
        clock.note(at(210, -3_600_000));
        assert!(clock.changed(seconds(150)).by_us > 151_500_000, "a clock that was set back makes it later");
    }
}
