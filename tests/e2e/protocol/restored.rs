//! What was lost on either side: a database restored from an older dump, a state directory that is gone.

use highwater::query::as_of::Instant;
use highwater_ipc::record::{GapReason, Seq};
use highwater_ipc::session::Verdict;
use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::held_now;
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};

use super::fake_host::FakeHost;
use super::gate::Gate;
use super::log::{Log, Reader, Told, at, reasons, stored_once};
use crate::ingest::Collector;
use crate::ingest::host::{acked, connect};
use crate::ingest::read_back::arrays;

#[test]
fn a_database_restored_from_an_older_dump_is_filled_up_by_what_the_agent_still_holds() {
    let database = Postgres::shared().database();
    let options = Options { database: Some(&database), interval: Some("100ms"), ..Options::default() };
    let mut up = Up::start(&options);
    let namespace = IpcNamespace::named("restored");
    let mut agent = Agent::running(&up, &namespace);
    let host = host_name(&namespace);
    let mut log = Log::new();
    let step = |log: &mut Log<'_>, n: usize| log.change(n, || _ = namespace.create("create-sem private 1"));
    (1..=3).for_each(|n| step(&mut log, n));
    let dump = database.dump();
    (4..=6).for_each(|n| step(&mut log, n));
    let current =
        |up: &Up, n| until("now is right", PATIENCE, || held_now(&up.cli(), &host).is_some_and(|h| h.len() == n));
    current(&up, 6);
    let acked_before = database.sql("SELECT next_seq FROM stream");
    up.stop();
    database.restore(&dump);
    assert_ne!(database.sql("SELECT next_seq FROM stream"), acked_before, "records that were acked are gone");
    step(&mut log, 7);
    up.start_again(&options);
    current(&up, 7);
    step(&mut log, 8);
    current(&up, 8);
    agent.must_run();
    log.end();
    let gaps = log.check(|asked| at(&up.cli(), &host, asked));
    assert!(reasons(&gaps).is_empty(), "{gaps:?}");
    assert!(stored_once(&database) >= 8);
    assert_eq!(database.sql("SELECT count(*) FROM stream"), "1\n", "the epoch goes on");
}

/// Arrays enough for some twenty records to fill a segment of a small spool.
const MANY: usize = 1_000;

#[test]
fn acked_records_that_are_gone_when_an_older_dump_returns_are_a_gap_history_restored() {
    let database = Postgres::shared().database();
    let options = Options { database: Some(&database), interval: Some("100ms"), ..Options::default() };
    let mut up = Up::start(&options);
    let gate = Gate::to(up.grpc());
    let mut host = FakeHost::enrol(&up, &gate.url(), "restored-far");
    host.spool_bytes = 256 << 10;
    host.hold(MANY);
    host.busy(true);
    host.start();
    let mut log = Log::of(&host);
    let step = |log: &mut Log<'_>, n: usize| log.change(MANY + n, || host.hold(MANY + n));
    let next = || database.sql("SELECT next_seq FROM stream").trim().parse::<u64>().unwrap_or(0);
    step(&mut log, 1);
    until("the first records are stored", PATIENCE, || next() > 0);
    let dump = database.dump();
    let first = host.segments()[0].clone();
    let mut n = 1;
    while host.segments().contains(&first) {
        n += 1;
        step(&mut log, n);
        assert!(n < 60, "no segment was freed");
    }
    host.busy(false);
    for _ in 0..2 {
        n += 1;
        step(&mut log, n);
    }
    let acked = log.spans.len();
    gate.close();
    up.stop();
    database.restore(&dump);
    n += 1;
    step(&mut log, n);
    up.start_again(&options);
    gate.open();
    let reader = Reader::of(&database, host.id());
    let current =
        |n: usize| matches!(reader.told(Instant::Now, now_ms()), Told::Held { arrays, .. } if arrays == MANY + n);
    until("now is right", 2 * PATIENCE, || current(n));
    log.end();
    let gaps = log.check(|asked| reader.at(asked));
    let found = reasons(&gaps);
    assert!(!found.is_empty() && found.iter().all(|reason| *reason == "history_restored"), "{gaps:?}");
    // One gap, from the last sample that the dump had to the first one that the agent held.
    let restored = GapReason::HistoryRestored.code();
    assert_eq!(database.sql(&format!("SELECT count(*) FROM gap WHERE reason = {restored}")), "1\n");
    let hole = &gaps.iter().find(|(_, h)| h.reason.as_deref() == Some("history_restored")).unwrap().1;
    let still_held = log.spans[..acked].iter().any(|quiet| Some(quiet.from) > hole.to);
    assert!(still_held, "what was acked and still held is there: {hole:?}");
    stored_once(&database);
    host.stop();
}

#[test]
fn an_agent_that_holds_nothing_of_what_a_restored_database_lacks_begins_an_epoch_that_says_so() {
    let mut collector = Collector::shared();
    let mut host = collector.host(31);
    collector.store(&mut host, 1, |host| vec![host.keyframe(None), host.delta(1)]);
    let dump = collector.database.dump();
    collector.store(&mut host, 1, |host| vec![host.delta(2), host.delta(3)]);
    let lost_at = host.clock.wall_ms;
    let before = collector.writer.take().unwrap();
    let (db, writer) = collector.runtime.block_on(async {
        before.shutdown().await;
        collector.db.close().await;
        collector.database.restore(&dump);
        let db = connect(&collector.database.url).await;
        let writer = crate::ingest::start(&db, Default::default()).await;
        (db, writer)
    });
    (collector.db, collector.writer) = (db, Some(writer));
    collector.runtime.block_on(async {
        // All was acked, so the agent kept none of it.
        host.forget_acked();
        let session = host.open(collector.writer()).await.unwrap();
        let answer = &session.opened.epochs[0];
        assert_eq!((answer.verdict, answer.next), (Verdict::HistoryRestored, Seq(2)));
        // What the agent does then: `a_verdict_against_the_epoch_opens_another_that_says_why`.
        host.begin_epoch(2, host.boot_id);
        let mut session = host.open(collector.writer()).await.unwrap();
        for record in [host.keyframe(Some(GapReason::HistoryRestored)), host.delta(4)] {
            session.send(record).await;
        }
        acked(&session.outbox, 2, Seq(2)).await;
    });
    assert_eq!(arrays(&collector.held(31, host.clock.wall_ms)), 4);
    let gap = collector.gap(31, Instant::At(lost_at));
    assert_eq!(gap.reason, Some(GapReason::HistoryRestored));
    assert_eq!(
        gap.to_ms.unwrap() - gap.from_ms.unwrap(),
        3_000,
        "from the dump's last sample to the new epoch's first"
    );
}

#[test]
fn a_host_whose_state_directory_is_lost_goes_on_as_itself_after_a_gap_state_lost() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("stateless");
    let mut agent = Agent::running(&up, &namespace);
    let host = host_name(&namespace);
    let mut log = Log::new();
    let step = |log: &mut Log<'_>, n: usize| log.change(n, || _ = namespace.create("create-sem private 1"));
    (1..=2).for_each(|n| step(&mut log, n));
    let current = |n| until("now is right", PATIENCE, || held_now(&up.cli(), &host).is_some_and(|h| h.len() == n));
    current(2);
    let before = up.cli().json(&["hosts"]);
    agent.kill();
    let killed = now_ms();
    std::fs::remove_dir_all(agent.state_dir()).unwrap();
    step(&mut log, 3);
    agent.enrol_at(&up, up.grpc(), &namespace, &["--host", &host]);
    agent.start(&namespace);
    current(3);
    let back = now_ms();
    step(&mut log, 4);
    current(4);
    log.end();
    let after = up.cli().json(&["hosts"]);
    assert_eq!((after["hosts"].as_array().unwrap().len(), &after["hosts"][0]["id"]), (1, &before["hosts"][0]["id"]));
    assert_eq!(database.sql("SELECT epoch_no FROM stream WHERE next_seq > 0 ORDER BY 1"), "1\n2\n");
    let gaps = log.check(|asked| at(&up.cli(), &host, asked));
    let found = reasons(&gaps);
    assert!(!found.is_empty() && found.iter().all(|reason| *reason == "state_lost"), "{gaps:?}");
    assert!(
        gaps.iter()
            .all(|(asked, hole)| hole.reason.as_deref() == Some("stalled") || (killed - 400..back).contains(asked))
    );
    let timeline = up.cli().json(&["timeline", &host, "--kind", "gap"]);
    let told = timeline["events"].as_array().unwrap();
    assert_eq!(told.iter().filter(|e| e["detail"]["gap"]["reason"] == "state_lost").count(), 1, "{timeline}");
    stored_once(&database);
}
