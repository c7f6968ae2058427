//! The real clocks; everything else gets them handed in.

use std::time::Duration;

use highwater_ipc::time::{At, Clock};

use crate::sys::host;

/// The clock of a sampled host: instants, and how long it was awake.
pub trait HostClock: Clock {
    /// Time since boot without suspend (CLOCK_MONOTONIC), microseconds. Boot time that runs on while this stands still
    /// is time the host slept.
    fn awake_us(&self) -> u64;
}

/// CLOCK_REALTIME, CLOCK_BOOTTIME and CLOCK_MONOTONIC of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> At {
        let (since_1970, before_1970) = host::realtime();
        At { wall_ms: wall_ms(since_1970, before_1970), boot_us: microseconds(host::boottime()) }
    }
}

impl HostClock for SystemClock {
    fn awake_us(&self) -> u64 {
        microseconds(host::monotonic())
    }
}

/// A random number from the kernel.
pub fn random() -> Result<u64, getrandom::Error> {
    getrandom::u64()
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970, cut towards the past.
fn wall_ms(distance: Duration, before_1970: bool) -> i64 {
    if before_1970 {
        let ms = distance.as_nanos().div_ceil(1_000_000);
        return i64::try_from(ms).map_or(i64::MIN, |ms| -ms);
    }
    i64::try_from(distance.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_towards_the_past() {
        assert_eq!(wall_ms(Duration::from_micros(1_999), false), 1);
        assert_eq!(wall_ms(Duration::from_micros(1_001), true), -2);
    }

    #[test]
    fn clocks_run_on() {
        let (before, after) = (SystemClock.now(), SystemClock.now());
        assert!(after.boot_us >= before.boot_us);
        assert!(SystemClock.awake_us() <= SystemClock.now().boot_us);
    }
}
