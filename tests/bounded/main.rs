//! Bounded everywhere: a fleet whose database stops, and a quiet agent beside a noisy one. Real agents, real certificates,
//! the collector as built, a real PostgreSQL.
//!
//! In `make test` the fleet is small and the pause short, and nothing is asserted of time or memory. The campaigns at
//! full size print figures; they take a quiet machine and a release build:
//!
//! ```text
//! ulimit -n 20000
//! cargo build --release --workspace --bins
//! HIGHWATER_FLEET=1000 HIGHWATER_INTERVAL=5s HIGHWATER_PAUSE_S=300 \
//!     cargo test --release -p highwater-tests --test bounded -- --nocapture paused
//! HIGHWATER_NOISE_S=60 cargo test --release -p highwater-tests --test bounded -- --nocapture noisy
//! ```
//!
//! `HIGHWATER_FLEET_SEED` (1 unless given) chooses what changes when.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod noisy;
mod paused;

use std::io::Write as _;

use highwater_tests::wait::{now_ms, until};

/// Beside what the test harness captures, so that a campaign is seen while it runs.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A number from the environment.
fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// Lets time pass, in a campaign whose subject it is.
fn pass(ms: u64) {
    let end = now_ms() + i64::try_from(ms).expect("a span of time");
    until("time passes", std::time::Duration::from_millis(ms + 60_000), || now_ms() >= end);
}
