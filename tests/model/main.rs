//! A simulation of everything between a sample and an answer, in one process and one thread a world: 10,000 random worlds,
//! each made of nothing but its seed.
//!
//! # A world
//! One or two hosts, one or two collectors, one database. Real code decides wherever it is pure or has a seam: `Journal`
//! (recorder, spool, epoch) over two [`disk`]s, `transport::session` and `Outbox`, `ingest::session`,
//! `writer::{admit, watch, batch, plan, state}`, `query::fold`. Modelled are the shells around it and PostgreSQL, one file
//! each, as machines that do one thing a step and so can die between any two: [`machine`] (a host's machine, its clocks,
//! `agent/uplink.rs`), [`collector`] (`ingest/live.rs`, `writer/{worker,open,commit}.rs`), [`database`] (rows, the guard,
//! whole transactions). [`world`] draws what happens next: a second passes, an object changes, a message moves, a
//! transaction runs, something is mended, or one of the few faults that this world has befalls it: SIGKILL (also within
//! a write), a stop, power failure with torn files, reboot, a memory snapshot that wakes at once or later beside its
//! original or after it, a lost state directory, a cut line, a collector killed, a database that is away, loses its
//! answers (committed or not) or is restored from a backup, a clock set, suspend, stall, a full disk, a damaged spool, a
//! value that the database refuses; in a quarter of the worlds the spool is tiny. Streams of one host stay open and
//! are read in any order. In the end all is mended, one machine a host stays, and the world must drain.
//!
//! # The promises
//! [`ground::Truth`] knows each sample ever taken; the database's *ledger* knows which sample is behind each stored
//! position. After every step ([`history`], [`promises`], [`database`]):
//! 1. No position is stored twice; what is acked is durable, or was until a backup took its place.
//! 2. History is a prefix in order of (epoch, seq): within a stretch no sample is missing, it ends with its last sample,
//!    between two stretches lies one gap from sample to sample, and its reason befell this host (there and then).
//! 3. As-of any instant is the true state of the last sample at or before it in the last stretch that holds it.
//! 4. At the end every sample is stored once, or covered by one that read the same, or in a gap.
//! 5. No host holds another's sample; a fenced session stores nothing; a machine that lost power still holds what was
//!    not acked; no agent is acked what it never sent.
//! 6. After everything is mended all drains within a bounded number of rounds, and new samples are stored.
//!
//! # Running it
//! A failing world prints its steps (milliseconds since it began, then what happened) and its seed. Others than the fixed
//! ones:
//! ```text
//! HIGHWATER_MODEL_SEED=1000000 HIGHWATER_MODEL_WORLDS=100000 cargo test -p highwater-tests --test model keep -- --nocapture
//! ```
//! Five defects ([`mutation`]) are planted in the model's shells and devices, never in the product; each must be caught: by
//! a promise that it can break, in a world that keeps every promise without it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

mod collector;
mod database;
mod disk;
mod ground;
mod history;
mod machine;
mod mutation;
mod promises;
mod world;

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use highwater_tests::chance;
use mutation::Mutation;
use world::Ran;

/// The first seed of the fixed worlds.
const SEED: u64 = 1;
const WORLDS: u64 = 10_000;
/// A planted defect must be caught within so many.
const CAUGHT_WITHIN: u64 = 2_000;

#[test]
fn ten_thousand_worlds_keep_every_promise() {
    let (seed, worlds) = (given("HIGHWATER_MODEL_SEED", SEED), given("HIGHWATER_MODEL_WORLDS", WORLDS));
    println!("worlds with seeds {seed} to {}", seed + worlds - 1);
    let (failed, tally) = run_all(seed..seed + worlds, None);
    println!("{tally:?}");
    if let Some((seed, why)) = failed.first_key_value() {
        catch_unwind(|| world::run(*seed, None, true).trace.iter().for_each(|step| println!("{step}"))).ok();
        let seeds: Vec<_> = failed.keys().take(20).collect();
        panic!("{} of {worlds} worlds broke a promise, seeds {seeds:?}; seed {seed}: {why}", failed.len());
    }
    // What no world comes to proves nothing.
    for what in world::TO_BE_SEEN.iter().filter(|_| worlds >= WORLDS) {
        assert!(tally.contains_key(what), "no world comes to {what:?}");
    }
}

#[test]
fn each_planted_defect_is_caught() {
    for mutation in Mutation::ALL {
        let seed = given("HIGHWATER_MODEL_SEED", SEED);
        let caught =
            (seed..seed + CAUGHT_WITHIN).find_map(|seed| failure(seed, Some(mutation)).err().map(|why| (seed, why)));
        let Some((caught, why)) = caught else { panic!("{mutation:?} is not caught in {CAUGHT_WITHIN} worlds") };
        println!("{mutation:?}: caught after {} worlds, seed {caught}: {why}", caught - seed + 1);
        let Failure::Broken(words) = why else { panic!("{mutation:?}: seed {caught} panicked, no promise noticed") };
        assert!(mutation.breaks(&words), "{mutation:?}: seed {caught} fails for another reason: {words}");
        let otherwise = failure(caught, None).err().map(|why| why.to_string());
        assert_eq!(otherwise, None, "{mutation:?}: seed {caught} fails without it too");
    }
}

/// The number in this variable, or `otherwise`.
fn given(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Runs worlds on all processors; what broke by seed, and what happened how often.
fn run_all(
    seeds: std::ops::Range<u64>,
    mutation: Option<Mutation>,
) -> (BTreeMap<u64, String>, BTreeMap<&'static str, u64>) {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new((BTreeMap::new(), BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let ran = failure(seed, mutation);
                    let mut all = all.lock().unwrap();
                    match ran {
                        Ok(tally) => {
                            tally.into_iter().for_each(|(what, times)| *all.1.entry(what).or_default() += times)
                        }
                        Err(why) => drop(all.0.insert(seed, why.to_string())),
                    }
                }
            });
        }
    });
    all.into_inner().unwrap()
}

/// Why a world failed.
#[derive(Debug)]
enum Failure {
    Panicked,
    Broken(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Panicked => f.write_str("it panicked"),
            Self::Broken(words) => f.write_str(words),
        }
    }
}

/// What happened in a world, or why it failed; a panic of the code under test is a failure too.
fn failure(seed: u64, mutation: Option<Mutation>) -> Result<BTreeMap<&'static str, u64>, Failure> {
    let ran = catch_unwind(|| world::run(seed, mutation, false));
    let Ran { kept, tally, .. } = ran.map_err(|_| Failure::Panicked)?;
    kept.map(|()| tally).map_err(|broken| Failure::Broken(broken.0))
}
