//! What was true when, and whether history says so.

use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::as_of::{Answer, AsOf, Instant, as_of};
use highwater::store::Db;
use highwater_ipc::record::GapReason;
use highwater_tests::answers::{instant, objects, text};
use highwater_tests::cli::Cli;
use highwater_tests::postgres::Database;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::fake_host::{FakeHost, INTERVAL_MS};
use crate::ingest::host::connect;

/// An answer, as far as these tests compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// So many arrays, first read by the sample at `from`.
    Held { arrays: usize, from: i64, also: usize },
    /// Nobody knows.
    Gap(Hole),
}

/// A gap; the words of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: Option<i64>,
    pub(crate) to: Option<i64>,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
}

/// `highwater ipcs HOST --at`, as an operator asks.
#[track_caller]
pub(crate) fn at(cli: &Cli, host: &str, wall_ms: i64) -> Told {
    let answer = cli.run(&["ipcs", host, "--json", "--at", &instant(wall_ms)]);
    let value = answer.json();
    if answer.code == 4 {
        return Told::Gap(hole(&value["gap"]));
    }
    assert_eq!(answer.code, 0, "{answer:?}");
    let also = value["also"].as_array().map_or(0, Vec::len);
    Told::Held { arrays: objects(&value, "sem").len(), from: ms(&value["covered"]["from"]).unwrap(), also }
}

pub(crate) fn hole(gap: &Value) -> Hole {
    let reason = gap["reason"].as_str().map(str::to_owned);
    Hole { from: ms(&gap["from"]), to: ms(&gap["to"]), state: text(gap, "state").to_owned(), reason }
}

/// An instant of an answer.
pub(crate) fn ms(value: &Value) -> Option<i64> {
    value.as_str().map(|text| highwater_ipc::time::parse_rfc3339_ms(text).unwrap())
}

/// Asks the database itself, for hosts that hold too much for a command line to be quick.
pub(crate) struct Reader {
    runtime: Runtime,
    db: Db,
    host: HostId,
}

impl Reader {
    pub(crate) fn of(database: &Database, host: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let db = runtime.block_on(connect(&database.url));
        Self { runtime, db, host: HostId::parse(host).unwrap() }
    }

    pub(crate) fn at(&self, wall_ms: i64) -> Told {
        self.told(Instant::At(wall_ms), now_ms())
    }

    pub(crate) fn told(&self, instant: Instant, now_ms: i64) -> Told {
        match self.as_of(instant, now_ms).answer {
            Answer::Held(held) => {
                let arrays = held.snapshot.state.namespaces[0].totals.unwrap().sem_arrays;
                let arrays = usize::try_from(arrays).unwrap();
                Told::Held { arrays, from: held.covered_ms.0, also: held.also_ms.len() }
            }
            Answer::Gap(gap) => {
                let reason = gap.reason.map(|r: GapReason| r.name().to_owned());
                Told::Gap(Hole { from: gap.from_ms, to: gap.to_ms, state: gap.state.name().to_owned(), reason })
            }
        }
    }

    pub(crate) fn as_of(&self, instant: Instant, now_ms: i64) -> AsOf {
        self.runtime.block_on(async {
            let mut reading = Reading::begin(&self.db).await.unwrap();
            as_of(&mut reading, self.host, instant, now_ms).await.unwrap()
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.runtime.block_on(self.db.close());
    }
}

/// What a host held from `from` on (the change before it was over) until `to` (the next one had not begun), by the
/// host's wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quiet {
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) arrays: usize,
}

/// Changes a host, and remembers what was true when.
pub(crate) struct Log<'a> {
    now: Box<dyn Fn() -> i64 + 'a>,
    pub(crate) spans: Vec<Quiet>,
}

impl<'a> Log<'a> {
    /// Of a host whose clock is this machine's.
    pub(crate) fn new() -> Self {
        Self { now: Box::new(now_ms), spans: Vec::new() }
    }

    pub(crate) fn of(host: &FakeHost) -> Self {
        let clock = std::sync::Arc::clone(&host.clock);
        Self { now: Box::new(move || clock.wall_ms()), spans: Vec::new() }
    }

    /// `change` makes it so many arrays; then enough time passes for history to be sure of it.
    pub(crate) fn change(&mut self, arrays: usize, change: impl FnOnce()) {
        let to = (self.now)();
        if let Some(last) = self.spans.last_mut() {
            last.to = to;
        }
        change();
        self.spans.push(Quiet { from: (self.now)(), to: i64::MAX, arrays });
        self.pause(5 * INTERVAL_MS);
    }

    /// Lets time pass on the host.
    pub(crate) fn pause(&self, ms: i64) {
        let until_ms = (self.now)() + ms;
        until("time passes", PATIENCE, || (self.now)() > until_ms);
    }

    /// Time after which nothing more of this log is true.
    pub(crate) fn end(&mut self) {
        if let Some(last) = self.spans.last_mut() {
            last.to = (self.now)();
        }
    }

    /// Asks each span at two instants and compares; returns the gaps. Samples of one stretch lie at most three intervals
    /// apart, so later than that after a change its state is the only right one.
    #[track_caller]
    pub(crate) fn check(&self, ask: impl Fn(i64) -> Told) -> Vec<(i64, Hole)> {
        let mut gaps = Vec::new();
        for quiet in &self.spans {
            let first = quiet.from + 3 * INTERVAL_MS + 5;
            let last = quiet.to.min((self.now)() - 1);
            for asked in [first, first.midpoint(last)].into_iter().filter(|asked| *asked < last) {
                match ask(asked) {
                    Told::Held { arrays, from, .. } => {
                        assert!(from <= asked, "{asked}: a sample of {from}");
                        assert_eq!(arrays, quiet.arrays, "at {asked}, of {quiet:?}, first read at {from}");
                    }
                    Told::Gap(hole) => gaps.push((asked, hole)),
                }
            }
        }
        gaps
    }
}

/// The reasons of gaps, without those of a machine so busy that an agent could not run.
pub(crate) fn reasons(gaps: &[(i64, Hole)]) -> Vec<&str> {
    let words = gaps.iter().map(|(_, hole)| hole.reason.as_deref().unwrap_or("pending"));
    words.filter(|reason| *reason != "stalled").collect()
}

/// How many records of a host are stored, and that none is stored twice.
#[track_caller]
pub(crate) fn stored_once(database: &Database) -> u64 {
    let counts = database.sql("SELECT count(*), count(DISTINCT (host_id, epoch_no, seq)) FROM frame");
    let (all, distinct) = counts.trim().split_once('|').unwrap();
    assert_eq!(all, distinct, "stored twice");
    all.parse().unwrap()
}
