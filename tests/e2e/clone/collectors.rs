//! Several collectors on one database: one host never has two writers.

use std::time::Duration;

use highwater::writer::ack::Ended;
use highwater_ipc::record::{GapReason, Seq};
use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::held_now;
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, now_ms, until};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::speaker::Speaker;
use crate::ingest::host::{Host, acked, ended, fill, fill_handle};
use crate::ingest::{Collector, full_at, start};
use crate::protocol::gate::Gate;
use crate::protocol::log::stored_once;

/// How long a holder may stand still: three intervals of [`Host`].
const STILL: Duration = Duration::from_secs(3);
/// Of the pauses between two switches; printed where a test fails.
const SEED: u64 = 0x0d4d_5eed;
/// From one collector to the other and back.
const SWITCHES: u64 = 12;

fn options(database: &Database) -> Options<'_> {
    Options { database: Some(database), interval: Some("100ms"), ..Options::default() }
}

#[test]
fn two_collectors_that_receive_one_host_in_turns_store_each_record_once_and_in_order() {
    println!("seed {SEED:#x}");
    let database = Postgres::shared().database();
    let one = Up::start(&options(&database));
    let other = one.beside(&options(&database));
    let namespace = IpcNamespace::named("in-turns");
    let gate = Gate::to(one.grpc());
    let mut agent = Agent::enrol(&one, &namespace);
    agent.start_at(&namespace, &gate.url());
    agent.await_first_sample(&one, &namespace);
    let number = |sql: &str| database.sql(sql).trim().parse::<i64>().unwrap();
    let place = || number("SELECT next_seq FROM stream");
    let session = || number("SELECT session FROM stream");
    let mut made = Vec::new();
    let mut make = || {
        let key = format!("0x0d4d{:04x}", made.len() + 1);
        namespace.create(&format!("create-sem {key} 1"));
        made.push(key);
    };
    let mut random = SEED;
    for switch in 0..SWITCHES {
        make();
        let (before, held_by) = (place(), session());
        // Somewhere between two records, or within one's way to its ack.
        gate.turn_to(if switch % 2 == 0 { other.grpc() } else { one.grpc() });
        make();
        until("the other collector goes on", PATIENCE, || place() > before && session() != held_by);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pause_until = now_ms() + i64::try_from(random >> 56).unwrap();
        until("a pause", PATIENCE, || now_ms() > pause_until);
    }
    let (cli, name) = (other.cli(), host_name(&namespace));
    until("now is right", PATIENCE, || held_now(&cli, &name).is_some_and(|held| held.len() == made.len()));
    agent.must_run();
    let records = stored_once(&database);
    assert!(records > made.len() as u64 / 2, "{records}");
    let events = cli.json(&["timeline", &name, "--kind", "created,removed,changed,gap,agent_started"]);
    let events: Vec<&serde_json::Value> = events["events"].as_array().unwrap().iter().collect();
    let keys: Vec<&str> = events.iter().filter_map(|e| e["subject"]["key"].as_str()).collect();
    assert_eq!(keys, made, "each once, in order");
    assert_eq!(number("SELECT count(*) FROM stream"), 1, "no epoch was given up");
    // A machine busy enough lets an agent stall, which says so.
    let stalled = GapReason::Stalled.code();
    let gaps = format!("SELECT count(*) FROM gap WHERE from_wall_ms IS NOT NULL AND reason <> {stalled}");
    assert_eq!(number(&gaps), 0, "{events:?}");
    let back = "SELECT count(*) FROM (SELECT received_ms < lag(received_ms) OVER (ORDER BY seq) AS back FROM frame) f
        WHERE back";
    assert_eq!(number(back), 0, "stored in order");
}

#[test]
fn a_batch_queued_under_an_old_session_changes_nothing_once_another_collector_has_the_host() {
    let collector = Collector::new(Postgres::shared().database(), full_at(2));
    let mut host = collector.host(12);
    let other = collector.runtime.block_on(start(&collector.db, highwater::writer::Config::default()));
    collector.runtime.block_on(async {
        // Two commands fill a commit here.
        let handle = collector.writer().handle();
        let (opened, ()) = tokio::join!(host.open(collector.writer()), fill_handle(&handle, 1));
        let mut old = opened.unwrap();
        old.send(host.keyframe(None)).await;
        fill(collector.writer(), 1).await;
        acked(&old.outbox, 1, Seq(1)).await;
        // Queued, and not committed before its commit is full.
        let record = host.delta(1);
        old.send(record.clone()).await;
        let mut new = host.open(&other).await.unwrap();
        assert_eq!(new.opened.epochs[0].next, Seq(1), "the batch waits");
        let stored = || {
            collector.database.sql("SELECT s.next_seq, s.session, h.* FROM stream s JOIN host_status h USING (host_id)")
        };
        let before = stored();
        // It follows what is stored, and comes too late all the same.
        fill(collector.writer(), 1).await;
        assert_eq!(ended(&old.outbox).await, Ended::Replaced);
        assert_eq!((stored(), collector.count("frame")), (before, 1));
        for made in [record, host.delta(2)] {
            new.send(made).await;
        }
        acked(&new.outbox, 1, Seq(3)).await;
        other.shutdown().await;
    });
    assert_eq!(collector.database.sql("SELECT seq FROM frame ORDER BY 1"), "0\n1\n2\n");
}

#[test]
fn a_new_epoch_waits_three_intervals_for_a_holder_elsewhere_and_for_nobody_that_was_closed_in_order() {
    let database = Postgres::shared().database();
    let mut one = Up::start(&options(&database));
    let mut other = one.beside(&options(&database));
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&one, &[]).await;
        let mut host = Host::new(0);
        let mut stream = speaker.greet(&one, &host).await.unwrap();
        let made = host.keyframe(None);
        stream.store(&host, made).await;
        one.kill();
        // The same agent is at once where it is let in.
        let asked = Instant::now();
        let mut stream = speaker.greet(&other, &host).await.unwrap();
        assert!(asked.elapsed() < STILL, "waited {:?}", asked.elapsed());
        stream.goes_on(&mut host).await;
        drop(stream);
        let noted = || database.sql("SELECT disconnected_ms IS NOT NULL FROM host_status") == "t\n";
        tokio::task::block_in_place(|| until("the end is noted", PATIENCE, noted));
        // A restarted one too, where the one before it has ended.
        one.start_again(&options(&database));
        host.begin_epoch(2, host.boot_id);
        let asked = Instant::now();
        let mut stream = speaker.greet(&one, &host).await.unwrap();
        assert!(asked.elapsed() < STILL, "waited {:?}", asked.elapsed());
        let made = host.keyframe(None);
        stream.store(&host, made).await;
        // Both are killed: nobody can say whether the other one lives, so it is watched.
        one.kill();
        host.begin_epoch(3, host.boot_id);
        let asked = Instant::now();
        let mut stream = speaker.greet(&other, &host).await.unwrap();
        let waited = asked.elapsed();
        assert!(waited >= STILL && waited < 4 * STILL, "waited {waited:?}");
        let made = host.keyframe(None);
        stream.store(&host, made).await;
        // A newcomer that goes away while it waits leaves nothing behind.
        other.kill();
        one.start_again(&options(&database));
        let rows = || database.sql("SELECT epoch_no, session, next_seq FROM stream ORDER BY 1");
        let before = rows();
        host.begin_epoch(4, host.boot_id);
        let gave_up = tokio::time::timeout(STILL / 3, speaker.greet(&one, &host)).await;
        assert!(gave_up.is_err(), "it waits");
        assert_eq!(rows(), before);
        let held = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        let none_open = || database.sql(held) == "0\n";
        tokio::task::block_in_place(|| until("no transaction is open", PATIENCE, none_open));
        other.start_again(&options(&database));
    });
    assert_eq!(database.sql("SELECT count(*) FROM gap WHERE from_wall_ms IS NOT NULL"), "2\n");
}

#[test]
fn three_intervals_longer_than_an_agents_patience_pass_over_several_of_its_attempts() {
    let database = Postgres::shared().database();
    let mut one = Up::start(&options(&database));
    let other = one.beside(&options(&database));
    Runtime::new().unwrap().block_on(async {
        let speaker = Speaker::enrol(&one, &[]).await;
        let mut host = Host::new(0);
        let mut stream = speaker.greet(&one, &host).await.unwrap();
        for made in [host.keyframe(None), host.interval(7_000)] {
            stream.send(made).await;
        }
        stream.acked(&host).await;
        one.kill();
        host.begin_epoch(2, host.boot_id);
        let asked = Instant::now();
        let told = speaker.greet(&other, &host).await.err().unwrap();
        assert!(told.contains("another collector held this host"), "{told}");
        // Within the patience of an agent, which then comes back after 0.5 to 10 s.
        assert!(asked.elapsed() < Duration::from_secs(25), "{:?}", asked.elapsed());
        let mut stream = speaker.greet(&other, &host).await.unwrap();
        let waited = asked.elapsed();
        assert!(waited >= Duration::from_secs(21) && waited < Duration::from_secs(35), "{waited:?}");
        let made = host.keyframe(None);
        stream.store(&host, made).await;
    });
}

#[test]
fn an_agent_restarted_while_its_collector_is_killed_is_let_in_by_another_and_the_gap_is_its_own() {
    let database = Postgres::shared().database();
    let mut one = Up::start(&options(&database));
    let other = one.beside(&options(&database));
    let namespace = IpcNamespace::named("both-killed");
    let mut agent = Agent::running(&one, &namespace);
    one.kill();
    agent.kill();
    namespace.create("create-sem private 1");
    agent.start_at(&namespace, other.grpc());
    let (cli, name) = (other.cli(), host_name(&namespace));
    until("now is right", PATIENCE, || held_now(&cli, &name).is_some_and(|held| held.len() == 1));
    assert!(!agent.output().contains("quarantined"), "{}", agent.output());
    let gaps = database.sql("SELECT epoch_no, reason FROM gap WHERE from_wall_ms IS NOT NULL");
    assert_eq!(gaps, format!("2|{}\n", GapReason::AgentKilled.code()));
}
