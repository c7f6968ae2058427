//! A collector that is away, and a spool that loses something meanwhile.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use highwater::query::as_of::Instant;
use highwater_ipc::record::GapReason;
use highwater_tests::collector::Up;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, now_ms, until};

use super::fake_host::FakeHost;
use super::gate::Gate;
use super::log::{Hole, Log, Reader, Told, reasons, stored_once};

/// Arrays enough for some records to fill a segment of a small spool.
const MANY: usize = 1_000;

/// A collector, a way to it, and a host that has told it of its first state.
struct Rig {
    database: Database,
    _up: Up,
    gate: Gate,
    host: FakeHost,
    log: Log<'static>,
    steps: usize,
}

impl Rig {
    fn new(name: &'static str, spool_bytes: u64) -> Self {
        let database = Postgres::shared().database();
        let up = Up::collector(&database);
        let gate = Gate::to(up.grpc());
        let mut host = FakeHost::enrol(&up, &gate.url(), name);
        host.spool_bytes = spool_bytes;
        host.hold(MANY);
        host.busy(true);
        host.start();
        let log = Log::of(&host);
        let mut rig = Self { database, _up: up, gate, host, log, steps: 0 };
        rig.step();
        let next = || rig.database.sql("SELECT next_seq FROM stream").trim().parse::<u64>().unwrap_or(0);
        until("the first records are stored", PATIENCE, || next() > 3);
        rig
    }

    /// One array more.
    fn step(&mut self) {
        self.steps += 1;
        let arrays = MANY + self.steps;
        self.log.change(arrays, || self.host.hold(arrays));
    }

    /// The way opens again, and history catches up.
    fn catch_up(&mut self) -> Vec<(i64, Hole)> {
        // From here on it is quiet, so that what is new takes no room.
        self.host.busy(false);
        self.step();
        self.gate.open();
        let reader = Reader::of(&self.database, self.host.id());
        let arrays_now = MANY + self.steps;
        let current =
            || matches!(reader.told(Instant::Now, now_ms()), Told::Held { arrays, .. } if arrays == arrays_now);
        until("now is right", 2 * PATIENCE, current);
        self.host.stop();
        self.log.end();
        stored_once(&self.database);
        self.log.check(|asked| reader.at(asked))
    }

    fn gaps(&self, reason: GapReason) -> String {
        self.database.sql(&format!("SELECT count(*) FROM gap WHERE reason = {}", reason.code()))
    }
}

#[test]
fn a_spool_that_dropped_its_oldest_segments_is_a_gap_spool_overflow_and_the_rest_is_there() {
    let mut rig = Rig::new("overflow", 256 << 10);
    rig.step();
    let first = rig.host.segments()[0].clone();
    let covered = rig.log.spans.len();
    rig.gate.close();
    while rig.host.segments().contains(&first) || rig.log.spans.len() < covered + 6 {
        rig.step();
        assert!(rig.steps < 80, "{:?}", rig.host.segments());
    }
    let gaps = rig.catch_up();
    let found = reasons(&gaps);
    assert!(!found.is_empty() && found.iter().all(|reason| *reason == "spool_overflow"), "{gaps:?}");
    assert_eq!(rig.gaps(GapReason::SpoolOverflow), "1\n");
    let hole = &gaps.iter().find(|(_, h)| h.reason.as_deref() == Some("spool_overflow")).unwrap().1;
    // From what was covered when the way closed to the first sample that the spool still held.
    let (from, to) = (hole.from.unwrap(), hole.to.unwrap());
    let closed = rig.log.spans[covered].from;
    assert!(from < closed && from > rig.log.spans[covered - 1].from, "{from} is not just before {closed}");
    let held: Vec<_> = rig.log.spans.iter().filter(|q| q.from > to).collect();
    assert!(held.len() >= 3, "the spool held more: {hole:?} {:?}", rig.log.spans);
    assert_eq!(hole.state, "closed");
}

#[test]
fn a_spool_damaged_in_its_middle_is_a_gap_spool_damaged_between_what_came_before_and_after() {
    let mut rig = Rig::new("damaged", 1 << 20);
    rig.gate.close();
    let covered = rig.log.spans.len();
    let filling = rig.host.segments().pop().unwrap();
    while rig.host.segments().last() == Some(&filling) {
        rig.step();
        assert!(rig.steps < 80, "{:?}", rig.host.segments());
    }
    rig.step();
    flip(&filling);
    let gaps = rig.catch_up();
    let found = reasons(&gaps);
    assert!(!found.is_empty() && found.iter().all(|reason| *reason == "spool_damaged"), "{gaps:?}");
    assert_eq!(rig.gaps(GapReason::SpoolDamaged), "1\n");
    let hole = &gaps.iter().find(|(_, h)| h.reason.as_deref() == Some("spool_damaged")).unwrap().1;
    let (from, to) = (hole.from.unwrap(), hole.to.unwrap());
    let spooled = &rig.log.spans[covered..];
    assert!(spooled.iter().any(|q| q.to < from), "records before the damage are there: {hole:?}");
    assert!(spooled.iter().any(|q| q.from > to), "and those after it: {hole:?}");
}

/// Damages bytes in the middle of a file.
fn flip(file: &Path) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, middle).unwrap();
    file.write_all_at(&bytes.map(|b| !b), middle).unwrap();
}
