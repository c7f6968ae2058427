//! The real clock and real randomness; everything else gets them handed in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Wall clock of this machine, milliseconds since 1970 (negative before it).
pub trait WallClock: Send + Sync + 'static {
    /// Now.
    fn now_ms(&self) -> i64;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one room that reads the collector's wall clock")]
    fn now_ms(&self) -> i64 {
        let whole = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => whole(since),
            Err(before) => -whole(before.duration()),
        }
    }
}

/// Fills an array with random bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
