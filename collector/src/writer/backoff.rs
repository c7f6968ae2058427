//! How long to wait before the database is asked again.

use std::time::Duration;

use crate::clock;

const FIRST_MS: u64 = 50;
const LONGEST_MS: u64 = 5_000;

/// Doubles from 50 ms to 5 s, and takes a random part of that, so that workers do not come back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let most = FIRST_MS.saturating_mul(1 << self.tries.min(10)).min(LONGEST_MS);
        self.tries = self.tries.saturating_add(1);
        let part = clock::random::<1>().map_or(255, |[byte]| u64::from(byte));
        Duration::from_millis(most / 2 + most * part / 510)
    }

    /// How often it waited.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }
}
