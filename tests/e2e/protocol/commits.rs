//! The guarded commit: stored once, acked once, whole, durably, whatever happens to its connection and its rows.

use std::time::Duration;

use highwater::query::Reading;
use highwater::query::as_of::{Answer, Instant, as_of};
use highwater::store::Db;
use highwater::writer::Config;
use highwater::writer::ack::Ended;
use highwater_ipc::record::{GapReason, Seq};
use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::held_now;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};

use super::fake_host::FakeHost;
use super::log::{Log, Reader, Told, at, reasons, stored_once};
use crate::ingest::host::{self, Host, Session, acked, connect, ended};
use crate::ingest::proxy::{Fate, Proxy};
use crate::ingest::{Collector, full_at, start};

const DAY_MS: i64 = 86_400_000;

/// Moves every frame away in the commit that stores it, as a compactor of boundless haste would; `moved` has no key, so
/// what is stored twice is in it twice.
const COMPACTED_AT_ONCE: &str = "
    CREATE TABLE moved (LIKE frame);
    GRANT ALL ON moved TO highwater;
    CREATE FUNCTION move_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO moved SELECT NEW.*;
        UPDATE stream SET compacted_to = NEW.seq + 1 WHERE host_id = NEW.host_id AND epoch_no = NEW.epoch_no;
        RETURN NULL;
    END $$;
    CREATE TRIGGER move_it BEFORE INSERT ON frame FOR EACH ROW EXECUTE FUNCTION move_it()";

#[test]
fn what_is_sent_again_after_a_compaction_moved_it_is_acked_and_not_stored_again() {
    let collector = Collector::shared();
    let mut host = collector.host(11);
    let records = [host.keyframe(None), host.delta(1), host.heartbeats(4), host.delta(2)];
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        for record in records.clone() {
            session.send(record).await;
        }
        acked(&session.outbox, 1, Seq(7)).await;
        collector.database.sql(
            "CREATE TABLE moved AS SELECT * FROM frame; DELETE FROM frame; UPDATE stream SET compacted_to = next_seq",
        );
        let mut again = host.open(collector.writer()).await.unwrap();
        assert_eq!(again.opened.epochs[0].next, Seq(7));
        for record in records {
            again.send(record).await;
        }
        again.send(host.delta(3)).await;
        acked(&again.outbox, 1, Seq(8)).await;
    });
    assert_eq!(collector.database.sql("SELECT seq FROM moved UNION ALL SELECT seq FROM frame"), "0\n1\n6\n7\n");
    assert_eq!(collector.database.sql("SELECT next_seq, compacted_to FROM stream"), "8|7\n");
    assert_eq!(collector.count("gap"), 1, "that before the first sample");
}

#[test]
fn a_connection_that_is_cut_at_commit_before_or_after_the_server_had_it_costs_nothing_and_acks_once() {
    let collector = Collector::shared();
    collector.database.sql(COMPACTED_AT_ONCE);
    let proxy = Proxy::start(&Postgres::shared().socket());
    let mut host = collector.host(12);
    let expected = collector.runtime.block_on(async {
        let db = connect(&proxy.url(&collector.database)).await;
        let writer = start(&db, Config { workers: 1, ..Config::default() }).await;
        let mut session = host.open(&writer).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        for round in 0..24 {
            proxy.arm(if round % 2 == 0 { Fate::CutBefore } else { Fate::LoseAnswer });
            // What is queued meanwhile shares the commit that goes again, or one behind it.
            let before = host.next;
            for n in 0..=round % 3 {
                session.send(host.delta(100 * round + n)).await;
            }
            let acks = acks_until(&session, host.next).await;
            assert!(proxy.lost_one(), "round {round}: a commit was cut");
            assert!(acks.is_sorted_by(|a, b| a < b) && acks[0] > before.0, "round {round}: {acks:?} after {before:?}");
        }
        writer.shutdown().await;
        db.close().await;
        host.next.0
    });
    let stored = collector.database.sql("SELECT count(*), count(DISTINCT seq), max(seq) + 1 FROM moved");
    assert_eq!(stored, format!("{expected}|{expected}|{expected}\n"));
    assert_eq!(collector.database.sql("SELECT next_seq, compacted_to FROM stream"), format!("{expected}|{expected}\n"));
    assert_eq!((collector.count("gap"), collector.count("frame")), (1, 0));
}

#[test]
fn the_programs_store_each_record_once_while_commits_are_cut_before_and_after_the_server_had_them() {
    let database = Postgres::shared().database();
    let proxy = Proxy::start(&Postgres::shared().socket());
    let mut through = database.clone();
    through.url = proxy.url(&database);
    let up = Up::collector(&through);
    let namespace = IpcNamespace::named("cut-commits");
    let mut agent = Agent::running(&up, &namespace);
    let host = host_name(&namespace);
    let mut log = Log::new();
    for n in 1..=8 {
        proxy.arm(if n % 2 == 0 { Fate::CutBefore } else { Fate::LoseAnswer });
        log.change(n, || _ = namespace.create("create-sem private 1"));
        until("a commit is cut", PATIENCE, || proxy.lost_one());
    }
    until("now is right", PATIENCE, || held_now(&up.cli(), &host).is_some_and(|h| h.len() == 8));
    log.end();
    let gaps = log.check(|asked| at(&up.cli(), &host, asked));
    assert!(reasons(&gaps).is_empty(), "{gaps:?}");
    assert!(stored_once(&database) >= 8);
    // No session of the agent's was ended by it.
    assert_eq!(agent.output().matches("connected collector").count(), 1, "{}", agent.output());
    agent.must_run();
}

#[test]
fn a_commit_that_the_server_never_answers_is_given_up_at_its_deadline_and_goes_again() {
    let collector = Collector::shared();
    let proxy = Proxy::start(&Postgres::shared().socket());
    let mut host = collector.host(18);
    collector.runtime.block_on(async {
        let db = connect(&proxy.url(&collector.database)).await;
        let writer = start(&db, Config { workers: 1, ..Config::default() }).await;
        let mut session = host.open(&writer).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        proxy.arm(Fate::NeverAnswer);
        session.send(host.delta(1)).await;
        // A little more than the 30 s of a transaction.
        assert_eq!(acks_within(&session, Seq(2), 2 * PATIENCE).await, [2]);
        writer.shutdown().await;
        db.close().await;
    });
    assert_eq!(collector.database.sql("SELECT seq FROM frame ORDER BY seq"), "0\n1\n");
}

#[test]
fn a_session_fences_every_epoch_of_its_host_and_not_the_latest_alone() {
    let collector = Collector::shared();
    let mut host = collector.host(19);
    let other = collector.runtime.block_on(start(&collector.db, Config::default()));
    collector.runtime.block_on(async {
        let mut first = host.open(collector.writer()).await.unwrap();
        first.send(host.keyframe(None)).await;
        acked(&first.outbox, 1, Seq(1)).await;
        let queued = [host.delta(1), host.delta(2)];
        host.begin_epoch(2, host.boot_id);
        // Both epochs may be written; then somebody else takes the host.
        let mut first = host.open(collector.writer()).await.unwrap();
        let mut second = host.open(&other).await.unwrap();
        assert_eq!(second.opened.epochs[0].next, Seq(1));
        first.send(queued[0].clone()).await;
        assert_eq!(ended(&first.outbox).await, Ended::Replaced);
        for record in queued {
            second.send(record).await;
        }
        acked(&second.outbox, 1, Seq(3)).await;
        other.shutdown().await;
    });
    let sessions = collector.database.sql("SELECT count(DISTINCT session), count(*) FROM stream");
    assert_eq!(sessions, "1|2\n");
    assert_eq!(collector.database.sql("SELECT seq FROM frame ORDER BY seq"), "0\n1\n2\n");
}

#[test]
fn what_was_queued_is_stored_whatever_becomes_of_its_stream() {
    let collector = Collector::new(Postgres::shared().database(), full_at(3));
    let mut host = collector.host(20);
    collector.runtime.block_on(async {
        let (session, ()) = tokio::join!(host.open(collector.writer()), host::fill(collector.writer(), 2));
        let mut session = session.unwrap();
        session.send(host.keyframe(None)).await;
        session.send(host.delta(1)).await;
        drop(session);
        host::fill(collector.writer(), 1).await;
    });
    let stored = || collector.count("frame") == 2;
    until("both are stored", PATIENCE, stored);
}

#[test]
fn a_keyframe_of_several_parts_is_one_record_in_one_row_and_reads_back_whole() {
    const ARRAYS: usize = 40_000;
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let mut host = FakeHost::enrol(&up, up.grpc(), "large");
    host.hold(ARRAYS);
    host.start();
    let large = "SELECT count(*) FROM frame WHERE seq = 0 AND kind = 1 AND octet_length(body) > 192 * 1024";
    until("its first keyframe is stored", PATIENCE, || database.sql(large) == "1\n");
    host.stop();
    let reader = Reader::of(&database, host.id());
    let Told::Held { arrays, .. } = reader.told(Instant::Last, now_ms()) else { panic!("a gap") };
    assert_eq!(arrays, ARRAYS);
    stored_once(&database);
}

/// Every position that is acked, in order, until all before `next` is.
async fn acks_until(session: &Session, next: Seq) -> Vec<u64> {
    acks_within(session, next, PATIENCE).await
}

async fn acks_within(session: &Session, next: Seq, patience: Duration) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| *last < next.0) {
        let news = tokio::time::timeout(patience, session.outbox.take()).await.expect("news");
        assert_eq!(news.ended, None);
        seen.extend(news.acks.into_values().map(|durable| durable.into_inner().next.0));
    }
    seen
}

#[test]
fn a_refused_value_in_a_batch_of_50_hosts_is_the_gap_of_one_and_49_commit_in_order() {
    const HOSTS: i64 = 50;
    const REFUSED: i64 = 117;
    let each = 4;
    let collector = Collector::new(Postgres::shared().database(), full_at(50 * each));
    let mut hosts: Vec<Host> = (0..HOSTS).map(|n| collector.host(100 + n)).collect();
    collector.runtime.block_on(async {
        // A commit is full at 200 commands; opening a session is one.
        let filler = tokio::spawn({
            let handle = collector.writer().handle();
            async move { host::fill_handle(&handle, 50 * each - 50).await }
        });
        let opening: Vec<_> = hosts.iter().map(|host| tokio::spawn(host.opening(collector.writer()))).collect();
        let mut sessions = Vec::new();
        for session in opening {
            sessions.push(session.await.unwrap().unwrap());
        }
        filler.await.unwrap();
        let refuse = format!("ALTER TABLE frame ADD CONSTRAINT no_elevens CHECK (host_id <> {REFUSED} OR seq <> 2)");
        collector.database.sql(&refuse);
        for (host, session) in hosts.iter_mut().zip(&mut sessions) {
            for record in [host.keyframe(None), host.delta(1), host.delta(2), host.delta(3)] {
                session.send(record).await;
            }
        }
        let mut asked = Vec::new();
        for (host, session) in hosts.iter().zip(&sessions) {
            if acked(&session.outbox, 1, Seq(4)).await {
                asked.push(host.id().0);
            }
        }
        assert_eq!(asked, [REFUSED], "a keyframe is asked of the one host");
        let one = usize::try_from(REFUSED - 100).unwrap();
        sessions[one].send(hosts[one].keyframe(None)).await;
        host::fill(collector.writer(), 50 * each - 1).await;
        acked(&sessions[one].outbox, 1, Seq(5)).await;
    });
    let frames = "SELECT host_id, string_agg(seq::text, ',' ORDER BY seq) AS seqs FROM frame GROUP BY 1";
    let by_seqs = format!("SELECT seqs, count(*), min(host_id) FROM ({frames}) f GROUP BY 1 ORDER BY 2");
    assert_eq!(collector.database.sql(&by_seqs), format!("0,1,4|1|{REFUSED}\n0,1,2,3|49|100\n"));
    let gaps = collector.database.sql("SELECT host_id, seq, reason, detail FROM gap WHERE from_wall_ms IS NOT NULL");
    assert!(gaps.starts_with(&format!("{REFUSED}|4|{}|23514 ", GapReason::RefusedRecord.code())), "{gaps}");
    assert!(gaps.contains("no_elevens") && gaps.lines().count() == 1, "{gaps}");
    // From the last sample that is stored to the keyframe, nothing less and nothing more.
    let bounds = "SELECT g.from_wall_ms = (SELECT wall_ms FROM frame WHERE host_id = g.host_id AND seq = 1),
        g.to_wall_ms = (SELECT wall_ms FROM frame WHERE host_id = g.host_id AND seq = 4)
        FROM gap g WHERE from_wall_ms IS NOT NULL";
    assert_eq!(collector.database.sql(bounds), "t|t\n");
}

#[test]
fn serialization_failures_and_deadlocks_are_tried_again_whole() {
    for code in ["40001", "40P01"] {
        let collector = Collector::shared();
        let mut host = collector.host(13);
        collector.runtime.block_on(async {
            let mut session = host.open(collector.writer()).await.unwrap();
            session.send(host.keyframe(None)).await;
            acked(&session.outbox, 1, Seq(1)).await;
            // After the guard has moved, in the midst of the commit; a sequence remembers what is rolled back.
            collector.database.sql(&format!(
                "CREATE SEQUENCE tries; GRANT ALL ON tries TO highwater;
                 CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF NEW.seq = 2 AND nextval('tries') <= 3 THEN
                         RAISE EXCEPTION 'planted' USING ERRCODE = '{code}';
                     END IF;
                     RETURN NEW;
                 END $$;
                 CREATE TRIGGER fail BEFORE INSERT ON frame FOR EACH ROW EXECUTE FUNCTION fail()"
            ));
            for record in [host.delta(1), host.delta(2), host.delta(3)] {
                session.send(record).await;
            }
            assert!(!acked(&session.outbox, 1, Seq(4)).await, "{code}: nothing was refused");
        });
        assert_eq!(collector.database.sql("SELECT seq FROM frame ORDER BY seq"), "0\n1\n2\n3\n", "{code}");
        assert_eq!(collector.database.sql("SELECT last_value FROM tries"), "4\n", "{code}");
        assert_eq!(collector.count("gap"), 1, "{code}");
    }
}

#[test]
fn every_commit_is_synchronous_whatever_the_database_is_set_to() {
    let database = Postgres::shared().database();
    database.sql(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name));
    let collector = Collector::new(database, Config::default());
    // At the end of a transaction, as what is set then decides.
    collector.database.sql(
        "CREATE TABLE seen (what text, how text); GRANT ALL ON seen TO highwater;
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO seen VALUES (TG_TABLE_NAME, current_setting('synchronous_commit'));
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER see AFTER INSERT OR UPDATE ON stream DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION see();
         CREATE CONSTRAINT TRIGGER see AFTER INSERT OR UPDATE ON host_status DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION see()",
    );
    let mut host = collector.host(14);
    collector.store(&mut host, 1, |host| vec![host.keyframe(None), host.heartbeats(2), host.delta(1)]);
    assert_eq!(collector.database.sql("SELECT how FROM seen WHERE how <> 'on' LIMIT 1"), "");
    assert_eq!(collector.database.sql("SELECT count(*) >= 2 FROM seen WHERE what = 'stream'"), "t\n");
    assert_eq!(collector.database.sql("SHOW synchronous_commit"), "off\n", "the database's own setting");
}

#[test]
fn heartbeats_move_the_stream_in_the_commit_of_everything_else_and_have_no_row() {
    // Keyframe, delta, heartbeats and the keyframe behind a gap: four commands, one commit.
    let collector = Collector::new(Postgres::shared().database(), full_at(4));
    let mut host = collector.host(15);
    collector.runtime.block_on(async {
        let (session, ()) = tokio::join!(host.open(collector.writer()), host::fill(collector.writer(), 3));
        let mut session = session.unwrap();
        let records = [host.keyframe(None), host.delta(1), host.heartbeats(9)];
        for record in records {
            session.send(record).await;
        }
        host.clock.boot_us += 60_000_000;
        host.set_clock(host.clock.wall_ms + 60_000);
        session.send(host.keyframe(Some(GapReason::Stalled))).await;
        acked(&session.outbox, 1, host.next).await;
    });
    let one_commit = "SELECT count(DISTINCT x), count(*) FROM (SELECT xmin::text AS x FROM stream
        UNION ALL SELECT xmin::text FROM frame UNION ALL SELECT xmin::text FROM stretch
        UNION ALL SELECT xmin::text FROM gap UNION ALL SELECT xmin::text FROM host_status) AS rows";
    // The stream, three frames, two stretches, two gaps, the status.
    assert_eq!(collector.database.sql(one_commit), "1|9\n");
    assert_eq!(collector.database.sql("SELECT seq FROM frame ORDER BY seq"), "0\n1\n11\n");
    assert_eq!(collector.database.sql("SELECT next_seq FROM stream"), "12\n");
    // The gap begins where the heartbeats end: what they cover is no gap.
    let gap = "SELECT to_wall_ms - from_wall_ms FROM gap WHERE from_wall_ms IS NOT NULL";
    assert_eq!(collector.database.sql(gap), "61000\n");
    let ends = "SELECT s.to_wall_ms = g.from_wall_ms FROM stretch s, gap g
        WHERE s.stretch = 0 AND g.from_wall_ms IS NOT NULL";
    assert_eq!(collector.database.sql(ends), "t\n");
}

#[test]
fn a_day_without_a_partition_is_made_while_a_long_query_reads_and_nobody_waits() {
    let collector = Collector::shared();
    let (mut first, mut second) = (collector.host(16), collector.host(17));
    collector.store(&mut first, 1, |host| vec![host.keyframe(None)]);
    second.set_clock(now_ms() - 40 * DAY_MS);
    let mut long = collector.runtime.block_on(hold_frame(&collector.db, &first));
    // A lock that waits for the query would keep this waiting for 20 s.
    let patience = Duration::from_secs(10);
    collector.runtime.block_on(async {
        let work = async {
            let mut behind = second.open(collector.writer()).await.unwrap();
            behind.send(second.keyframe(None)).await;
            acked(&behind.outbox, 1, Seq(1)).await;
            let mut present = first.open(collector.writer()).await.unwrap();
            present.send(first.delta(1)).await;
            acked(&present.outbox, 1, Seq(2)).await;
        };
        tokio::time::timeout(patience, work).await.expect("commits while a query reads");
        // The query sees what it saw.
        let held = as_of(&mut long, first.id(), Instant::Last, now_ms()).await.unwrap();
        assert!(matches!(held.answer, Answer::Held(_)));
        drop(long);
    });
    assert_eq!(collector.count("frame_fallback"), 0, "the day was made");
}

/// A transaction that has read `frame` and goes on.
async fn hold_frame(db: &Db, host: &Host) -> Reading {
    let mut reading = Reading::begin(db).await.unwrap();
    as_of(&mut reading, host.id(), Instant::Last, now_ms()).await.unwrap();
    reading
}
