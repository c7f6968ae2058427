//! An answer is one state of the database, whatever commits between its statements.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use highwater::query::Reading;
use highwater::query::as_of::{Answer, AsOf, Instant, as_of};
use highwater::query::diff::{DiffAnswer, diff};
use highwater::query::timeline::{Question, timeline};
use highwater_ipc::record::GapReason;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::now_ms;

use crate::ingest::Collector;
use crate::ingest::host::{Host, connect};
use crate::ingest::proxy::{Fate, Proxy};
use crate::ingest::read_back::arrays;

pub(super) const HOUR_MS: i64 = 3_600_000;

/// What a compactor does to the records of a host, and what a writer adds meanwhile: everything that is stored goes
/// elsewhere, and newer history appears.
const MOVE: &str = "BEGIN;
    CREATE TABLE moved AS SELECT * FROM frame;
    DELETE FROM frame;
    UPDATE stream SET compacted_to = next_seq, covered_wall_ms = covered_wall_ms + 5000000;
    INSERT INTO stretch SELECT host_id, epoch_no, stretch + 7, from_seq, from_wall_ms, from_boot_us FROM stretch;
    INSERT INTO gap SELECT host_id, epoch_no, seq + 1000, from_wall_ms - 5000000, to_wall_ms + 5000000, 17, '' FROM gap;
    COMMIT";
/// Undoes it.
const MOVE_BACK: &str = "BEGIN;
    INSERT INTO frame SELECT * FROM moved;
    DROP TABLE moved;
    UPDATE stream SET compacted_to = 0, covered_wall_ms = covered_wall_ms - 5000000;
    DELETE FROM stretch WHERE stretch >= 7;
    DELETE FROM gap WHERE seq >= 1000;
    COMMIT";

/// Plants the move before the n-th question that a connection asks, if it asks so many.
#[derive(Default)]
pub(super) struct Plant {
    before: AtomicUsize,
    pub(super) asked: AtomicUsize,
    pub(super) done: Mutex<bool>,
}

impl Plant {
    /// Looks at bytes on their way to the server; `plant` is called at most once.
    pub(super) fn see(&self, bytes: &[u8], plant: impl FnOnce()) -> Fate {
        let is_question = bytes.first() == Some(&b'P') && bytes.windows(7).any(|w| w == b"SELECT ");
        if is_question && self.asked.fetch_add(1, Ordering::SeqCst) + 1 == self.before.load(Ordering::SeqCst) {
            plant();
            *self.done.lock().unwrap() = true;
        }
        Fate::Pass
    }

    pub(super) fn arm(&self, before: usize) {
        self.asked.store(0, Ordering::SeqCst);
        self.before.store(before, Ordering::SeqCst);
        *self.done.lock().unwrap() = false;
    }
}

/// A history with a gap, a reboot and changes.
pub(super) fn history(collector: &Collector, id: i64) -> (Host, i64) {
    let mut host = collector.host(id);
    let start = now_ms() - HOUR_MS;
    host.set_clock(start);
    collector.store(&mut host, 1, |host| {
        vec![host.keyframe(None), host.delta(1), host.heartbeats(5), host.delta(2), host.delta(3)]
    });
    host.set_clock(start + HOUR_MS / 2);
    host.clock.boot_us += 1_800_000_000;
    host.begin_epoch(2, host.boot_id);
    collector.store(&mut host, 2, |host| {
        vec![host.keyframe(Some(GapReason::AgentKilled)), host.delta(4), host.heartbeats(3)]
    });
    (host, start)
}

#[test]
fn a_compaction_between_two_reads_of_an_answer_changes_nothing_in_it() {
    let collector = Collector::shared();
    let (host, start) = history(&collector, 21);
    let plant = Arc::new(Plant::default());
    let (seen, database) = (Arc::clone(&plant), collector.database.clone());
    let proxy =
        Proxy::watching(&Postgres::shared().socket(), move |bytes| seen.see(bytes, || drop(database.sql(MOVE))));
    let url = proxy.url(&collector.database);
    // The present moves: a host falls silent between two answers if each takes its own.
    let now = now_ms();
    // Every question on a connection of its own, so that its statements are prepared, and so seen, one by one.
    let ask = |question: &Asked| {
        collector.runtime.block_on(async {
            let db = connect(&url).await;
            let mut reading = Reading::begin(&db).await.unwrap();
            let told = question.ask(&mut reading, &host, now).await;
            drop(reading);
            db.close().await;
            told
        })
    };
    let questions = [
        Asked::AsOf(Instant::Last),
        Asked::AsOf(Instant::At(start + 8_500)),
        Asked::AsOf(Instant::At(start + 5_000)),
        Asked::AsOf(Instant::At(start + HOUR_MS / 4)),
        Asked::Diff(start + 2_000, start + HOUR_MS / 2 + 2_000),
        Asked::Timeline(start, now),
    ];
    for question in &questions {
        plant.arm(usize::MAX);
        let truth = ask(question);
        let statements = plant.asked.load(Ordering::SeqCst);
        assert!(statements >= 4, "{question:?} is asked in {statements} statements");
        // The first one is what the snapshot begins with.
        for before in 2..=statements {
            plant.arm(before);
            let told = ask(question);
            assert!(*plant.done.lock().unwrap(), "planted before statement {before} of {question:?}");
            assert_eq!(told, truth, "{question:?}, with a compaction before statement {before} of {statements}");
            collector.database.sql(MOVE_BACK);
        }
    }
}

#[derive(Debug)]
pub(super) enum Asked {
    AsOf(Instant),
    Diff(i64, i64),
    Timeline(i64, i64),
}

impl Asked {
    pub(super) async fn ask(&self, reading: &mut Reading, host: &Host, now_ms: i64) -> String {
        match *self {
            Asked::AsOf(instant) => told(&as_of(reading, host.id(), instant, now_ms).await.unwrap()),
            Asked::Diff(from, to) => {
                let span = (Instant::At(from), Instant::At(to));
                match diff(reading, host.id(), span, now_ms, 1000).await.unwrap() {
                    DiffAnswer::Compared(diff) => format!("{:?} {:?} {:?}", diff.before, diff.after, diff.gaps),
                    DiffAnswer::Gap(gap) => told(&gap),
                }
            }
            Asked::Timeline(from, to) => {
                let question = Question { span_ms: (from, to), kinds: vec![], subject: None, most: 99, after: None };
                let told = timeline(reading, host.id(), &question, now_ms).await.unwrap();
                format!("{:?}", told.events)
            }
        }
    }
}

pub(super) fn told(as_of: &AsOf) -> String {
    match &as_of.answer {
        Answer::Held(held) => format!("{} {:?} {:?}", arrays(held), held.covered_ms, held.also_ms),
        Answer::Gap(gap) => format!("{gap:?}"),
    }
}
