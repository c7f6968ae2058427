//! Exact history against a naive model: random worlds, each made of nothing but its seed, on a real PostgreSQL through the
//! real writer, compactor and queries.
//!
//! # A world
//! One to three hosts. [`machine`] is a host and the agent on it: it samples small states that [`content`] changes (objects
//! of three kinds whose ids come back, namespaces that come and go, limits, kinds that cannot be read, rows left out, who
//! holds what, names), makes keyframes, deltas, heartbeats, events and last words of them, keeps them in a spool while its
//! line is cut, and sends some again. Clocks creep, are set forward and back and to 1970; agents stop, are killed, lose
//! their state directory; hosts stall, sleep, reboot, wake twice from one memory image; spools overflow. [`world`] draws
//! what happens next, and in between, at moments that need not be now: compaction by one of two compactors or by both at
//! once, by one without its lease, merging, dropping of days, retention, questions beside a compaction and beside
//! retention. Wall times spread over several days, a week's, a month's and a year's end. In the end all arrives, is
//! compacted and merged.
//!
//! # What is compared
//! [`truth`] keeps each durable record in a plain list and answers by looking at all of it; [`counting`] follows each object
//! and counts each owner's. [`compare`] asks the product in one reading: a walk over the whole history (every record
//! exactly once, in order, with its state, its gap, what was traced, and the sample before it), walks over a part and
//! from a record on; as-of at samples, beside them, in gaps, before the first and after the last, with position,
//! covered span, time of receipt and the other stretches that hold the instant; the timeline's gaps, whole and in pages,
//! and of lists that could not be read ([`compare_lists`]);
//! [`compare_two`] `diff` (objects, limits, sums of owners, gaps) and `blame` (owners with comm, net and orphans; lists of
//! which nothing is known); [`compare_find`] `find` now, at an instant and between two, by one or two conditions. After retention
//! ([`compare_forgotten`]) less may be said and nothing else, and of what came after the last week that went everything.
//!
//! # Running it
//! A failing world prints its steps (seconds since 2026-12-24 on each host, then what happened) and its seed. Others than
//! the fixed ones:
//! ```text
//! HIGHWATER_WORLDS_SEED=1000000 HIGHWATER_WORLDS=10000 cargo test -p highwater-tests --test worlds answer -- --nocapture
//! ```
//! Three defects ([`crooked`]) are planted beside the product; each must be caught, in a world that answers right without
//! it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "what fails here fails a test")]

mod compare;
mod compare_find;
mod compare_forgotten;
mod compare_lists;
mod compare_two;
mod content;
mod counting;
mod crooked;
mod machine;
mod stage;
mod truth;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crooked::Mutation;
use highwater_tests::chance::Chance;
use highwater_tests::wait::PATIENCE;
use machine::Machine;
use stage::Stage;
use tokio::runtime::{Builder, Runtime};
use world::{BEGIN_MS, Ran};

/// The first seed of the fixed worlds.
const SEED: u64 = 1;
const WORLDS: u64 = 200;
/// A planted defect must be caught within so many.
const CAUGHT_WITHIN: u64 = 60;
const THREADS: u64 = 2;

#[test]
fn random_worlds_answer_as_a_naive_model_does() {
    let (seed, worlds) = (given("HIGHWATER_WORLDS_SEED", SEED), given("HIGHWATER_WORLDS", WORLDS));
    println!("worlds with seeds {seed} to {}", seed + worlds - 1);
    let next = AtomicU64::new(seed);
    let all = Mutex::new((BTreeMap::new(), BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS.min(worlds) {
            scope.spawn(|| {
                let mut theatre = Theatre::new();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= given("HIGHWATER_WORLDS_SEED", SEED) + worlds {
                        return;
                    }
                    match theatre.play(seed, None) {
                        Ok(tally) => add(&mut all.lock().unwrap().0, tally),
                        Err(failure) => {
                            // Of many worlds the last is hours away.
                            println!("seed {seed}: {}", failure.short());
                            all.lock().unwrap().1.insert(seed, failure);
                        }
                    }
                }
            });
        }
    });
    let (tally, failed): (BTreeMap<&str, u64>, BTreeMap<u64, Failure>) = all.into_inner().unwrap();
    println!("{tally:?}");
    if let Some((seed, failure)) = failed.first_key_value() {
        failure.trace.iter().for_each(|step| println!("{step}"));
        let seeds: Vec<_> = failed.keys().take(20).collect();
        panic!("{} of {worlds} worlds answer wrong, seeds {seeds:?}; seed {seed}: {}", failed.len(), failure.why);
    }
    // What no world comes to proves nothing.
    for what in world::to_be_seen().filter(|_| worlds >= WORLDS) {
        assert!(tally.get(what).is_some_and(|times| *times > 0), "no world comes to {what:?}");
    }
}

#[test]
fn each_planted_defect_of_compaction_is_caught() {
    are_caught(&[Mutation::OneTooFar, Mutation::WrongBase, Mutation::DroppedUnmerged]);
}

fn are_caught(mutations: &[Mutation]) {
    let mut theatre = Theatre::new();
    for mutation in mutations.iter().copied() {
        let seed = given("HIGHWATER_WORLDS_SEED", SEED);
        let caught = (seed..seed + CAUGHT_WITHIN)
            .find_map(|seed| theatre.play(seed, Some(mutation)).err().map(|failure| (seed, failure)));
        let Some((caught, why)) = caught else { panic!("{mutation:?} is not caught in {CAUGHT_WITHIN} worlds") };
        println!("{mutation:?}: caught after {} worlds, seed {caught}: {}", caught - seed + 1, why.short());
        let why = why.why;
        assert!(mutation.breaks(&why), "{mutation:?}: seed {caught} fails for another reason: {why}");
        let otherwise = theatre.play(caught, None).err().map(|failure| failure.why);
        assert_eq!(otherwise, None, "{mutation:?}: seed {caught} fails without it too");
    }
}

/// Found by a world: the later one's transaction was left without an end, which is only said to the server with the next
/// statement; until then, for up to 25 s, the host's hellos and commits waited for it in vain.
#[test]
fn of_two_compactions_at_once_the_later_one_leaves_no_transaction_behind() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new(BEGIN_MS).await;
        let mut chance = Chance::new(SEED);
        let mut machine = Machine::new(stage.host(), BEGIN_MS, &mut chance);
        machine.start();
        (0..10).for_each(|_| machine.sample(1, &mut chance));
        let (_, session) = stage.open(machine.host, machine.hello()).await.unwrap();
        for made in &machine.spool {
            session.send(made).await.unwrap();
        }
        let last = machine.spool.back().unwrap();
        session.acked(last.epoch, last.record.seq.next()).await.unwrap();
        let lock = stage.database.hold("DO $$ BEGIN PERFORM 1 FROM stream FOR UPDATE; END $$");
        let database = stage.database.clone();
        let release = async {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock'";
            let both = async {
                while database.sql(waiting) != "2\n" {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(PATIENCE, both).await.expect("two compactors that wait");
            drop(lock);
        };
        let (rounds, ()) = tokio::join!(stage.both(BEGIN_MS + 7 * 3_600_000), release);
        let mut compacted = rounds.map(|round| round.unwrap().compacted);
        compacted.sort_unstable();
        assert!(compacted[0] == 0 && compacted[1] > 0, "{compacted:?}");
        let writers = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE a.datname = current_database() AND l.locktype = 'transactionid'";
        assert_eq!(stage.database.sql(writers), "0\n");
        stage.close().await;
    });
}

/// The number in this variable, or `otherwise`.
fn given(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn add(all: &mut BTreeMap<&'static str, u64>, tally: BTreeMap<&'static str, u64>) {
    tally.into_iter().for_each(|(what, times)| *all.entry(what).or_default() += times);
}

/// A world that answered wrong, or a panic of the code under test.
struct Failure {
    why: String,
    trace: Vec<String>,
}

impl Failure {
    /// The first words.
    fn short(&self) -> String {
        self.why.chars().take(600).collect()
    }
}

/// Where one thread plays worlds, one after the other.
struct Theatre {
    runtime: Runtime,
    stage: Option<Stage>,
}

impl Theatre {
    fn new() -> Self {
        Self { runtime: Builder::new_current_thread().enable_all().build().unwrap(), stage: None }
    }

    /// What happened how often, or why it failed. What a failed world leaves behind is no stage for the next.
    fn play(&mut self, seed: u64, mutation: Option<Mutation>) -> Result<BTreeMap<&'static str, u64>, Failure> {
        if let Some(full) = self.stage.take_if(|stage| !stage.has_room()) {
            self.runtime.block_on(full.close());
        }
        let Self { runtime, stage } = self;
        let stage_here = stage.get_or_insert_with(|| runtime.block_on(Stage::new(BEGIN_MS)));
        let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(world::run(stage_here, seed, mutation))));
        let Ok(Ran { kept, trace, tally }) = ran else {
            *stage = None;
            return Err(Failure { why: "it panicked".to_owned(), trace: Vec::new() });
        };
        kept.map(|()| tally).map_err(|broken| {
            if let Some(spoilt) = stage.take() {
                runtime.block_on(spoilt.close());
            }
            Failure { why: broken.0, trace }
        })
    }
}
