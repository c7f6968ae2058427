//! The collector's own clock leaps by days: what is stored, who is in sight, and what is now.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highwater::clock::WallClock;
use highwater::query::Reading;
use highwater::query::as_of::{Answer, Instant};
use highwater::query::fleet::{Lifecycle, Question, fleet};
use highwater::query::gap::GapState;
use highwater::writer::{Config, Writer};
use highwater_tests::wait::now_ms;

use crate::ingest::Collector;
use crate::ingest::host::{Host, Session, acked};
use crate::ingest::read_back::arrays;

const DAY_MS: i64 = 86_400_000;

/// This machine's clock, set forward and back.
#[derive(Default)]
struct Leaping(AtomicI64);

impl WallClock for Leaping {
    fn now_ms(&self) -> i64 {
        now_ms() + self.0.load(Ordering::SeqCst)
    }
}

struct Rig {
    collector: Collector,
    clock: Arc<Leaping>,
}

impl Rig {
    fn new() -> Self {
        let (mut collector, clock) = (Collector::shared(), Arc::new(Leaping::default()));
        let (db, before) = (collector.db.clone(), collector.writer.take().unwrap());
        let own = Arc::clone(&clock);
        let writer = collector.runtime.block_on(async move {
            before.shutdown().await;
            Writer::start(db, own, Config::default()).await.unwrap()
        });
        collector.writer = Some(writer);
        Self { collector, clock }
    }

    fn open(&self, host: &Host) -> Session {
        let opening = host.opening_read_at(self.collector.writer(), self.clock.now_ms());
        self.collector.runtime.block_on(opening).unwrap()
    }

    /// Sends some records and waits until they are durable; nothing may be refused.
    fn send(&self, host: &mut Host, session: &mut Session, values: &[u64]) {
        self.collector.runtime.block_on(async {
            for value in values {
                session.send(host.delta(*value)).await;
            }
            session.send(host.heartbeats(1)).await;
            assert!(!acked(&session.outbox, 1, host.next).await, "a keyframe was asked for");
        });
    }

    /// How the only host is, and whether a question for those that should report and do not lists it.
    fn lifecycle(&self) -> (Lifecycle, bool) {
        let now_ms = self.clock.now_ms();
        let ask = |stale| {
            let question = Question { stale, all: true, most: 9, ..Question::default() };
            self.collector.runtime.block_on(async {
                let mut reading = Reading::begin(&self.collector.db).await.unwrap();
                fleet(&mut reading, &question, now_ms).await.unwrap().hosts
            })
        };
        (ask(false)[0].lifecycle, !ask(true).is_empty())
    }

    /// What the host holds now; `None` = nobody knows.
    fn now(&self) -> Option<u64> {
        match self.collector.ask_at(41, Instant::Now, self.clock.now_ms()).answer {
            Answer::Held(held) => Some(arrays(&held)),
            Answer::Gap(gap) => {
                assert_eq!((gap.state, gap.to_ms), (GapState::Open, None));
                None
            }
        }
    }

    #[track_caller]
    fn is_out_of_sight(&self, why: &str) {
        let (lifecycle, stale) = self.lifecycle();
        assert!(lifecycle != Lifecycle::Live && stale, "{why}: {lifecycle:?}, stale: {stale}");
        assert_eq!(self.now(), None, "{why}");
    }

    #[track_caller]
    fn is_in_sight(&self, holds: u64, why: &str) {
        assert_eq!((self.lifecycle(), self.now()), ((Lifecycle::Live, false), Some(holds)), "{why}");
    }

    #[track_caller]
    fn skew_ms(&self) -> i64 {
        self.collector.database.sql("SELECT skew_ms FROM host_status").trim().parse().unwrap()
    }
}

#[test]
fn a_leap_of_the_collectors_clock_loses_nothing_and_hides_nobody_for_longer_than_a_sample() {
    for days in [3, -3, 40, -40] {
        let rig = Rig::new();
        let mut host = rig.collector.host(41);
        let mut session = rig.open(&host);
        rig.collector.runtime.block_on(session.send(host.keyframe(None)));
        let mut samples = vec![];
        let mut value = 0;
        // Wrong and right again.
        for by_days in [0, days, -days] {
            rig.clock.0.fetch_add(by_days * DAY_MS, Ordering::SeqCst);
            if by_days != 0 {
                rig.is_out_of_sight(&format!("a leap of {by_days} days, and not heard of since"));
            }
            value += 2;
            rig.send(&mut host, &mut session, &[value - 1, value]);
            samples.push((host.clock.wall_ms, value));
            rig.is_in_sight(value, &format!("a leap of {by_days} days, and heard of since"));
            let offset = rig.clock.0.load(Ordering::SeqCst);
            assert!((rig.skew_ms() + offset).abs() < 60_000, "{} for {offset}", rig.skew_ms());
            let received = "SELECT max(received_ms) FROM frame WHERE seq = (SELECT max(seq) FROM frame)";
            let received: i64 = rig.collector.database.sql(received).trim().parse().unwrap();
            assert!((received - rig.clock.now_ms()).abs() < 60_000, "by the clock as it was");
            for (at, value) in &samples {
                assert_eq!(arrays(&rig.collector.held(41, *at)), *value, "after a leap of {by_days} days");
            }
        }
        let database = &rig.collector.database;
        assert_eq!(database.sql("SELECT count(*), count(DISTINCT seq) FROM frame"), "7|7\n");
        assert_eq!((rig.collector.count("gap"), rig.collector.count("stretch")), (1, 1));
        // A clock that is days behind believes no host; what it stored is in the fallback day, and there alone.
        assert_eq!(rig.collector.count("frame_fallback"), if days < 0 { 2 } else { 0 });
    }
}

#[test]
fn a_host_that_is_gone_is_not_live_again_when_the_collectors_clock_is_set_back() {
    let rig = Rig::new();
    let mut host = rig.collector.host(41);
    rig.clock.0.store(3 * DAY_MS, Ordering::SeqCst);
    let mut session = rig.open(&host);
    rig.collector.runtime.block_on(session.send(host.keyframe(None)));
    rig.send(&mut host, &mut session, &[1]);
    rig.is_in_sight(1, "by the wrong clock");
    rig.clock.0.store(0, Ordering::SeqCst);
    // It was last seen days from now, and says nothing any more.
    rig.is_out_of_sight("the clock is right again");
}

#[test]
fn a_record_sent_again_after_the_collectors_clock_was_set_right_lies_in_one_day() {
    let rig = Rig::new();
    let mut host = rig.collector.host(41);
    // Days behind, it believes no host's clock and puts its records into the fallback day.
    rig.clock.0.store(-3 * DAY_MS, Ordering::SeqCst);
    let records = [host.keyframe(None), host.delta(1), host.delta(2)];
    let send = |session: &mut Session, host: &Host| {
        rig.collector.runtime.block_on(async {
            for record in records.clone() {
                session.send(record).await;
            }
            if session.opened.epochs[0].next < host.next {
                acked(&session.outbox, 1, host.next).await;
            }
        });
    };
    let mut session = rig.open(&host);
    send(&mut session, &host);
    rig.clock.0.store(0, Ordering::SeqCst);
    let mut again = rig.open(&host);
    send(&mut again, &host);
    rig.send(&mut host, &mut again, &[3]);
    let days = rig.collector.database.sql("SELECT seq, day = DATE '1970-01-01' FROM frame ORDER BY seq");
    assert_eq!(days, "0|t\n1|t\n2|t\n3|f\n");
    assert_eq!(arrays(&rig.collector.held(41, host.clock.wall_ms)), 3);
}
