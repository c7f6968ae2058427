//! From a queued record to a durable row and its ack: the writer on a real PostgreSQL, in this process.
//!
//! A batch is made exact, not timed: a commit waits until it holds as many commands as the test sends.

mod fair;
pub(crate) mod host;
mod names;
pub(crate) mod proxy;
mod questions;
pub(crate) mod read_back;
mod settling;
mod stuck;

use std::sync::Arc;

use highwater::clock::SystemClock;
use highwater::store::Db;
use highwater::writer::ack::Ended;
use highwater::writer::{Config, OpenError, Quarantine, Writer};
use highwater_ipc::record::{GapReason, Seq};
use highwater_ipc::session::Verdict;
use highwater_ipc::snapshot::BootId;
use highwater_tests::postgres::{Database, Postgres};
use tokio::runtime::Runtime;

use self::host::{Host, acked, connect, ended};
use self::proxy::Proxy;

/// Waits without end for the records of a commit.
const UNTIL_FULL_MS: u64 = 3_600_000;

pub(crate) struct Collector {
    pub(crate) runtime: Runtime,
    pub(crate) database: Database,
    pub(crate) db: Db,
    pub(crate) writer: Option<Writer>,
}

impl Collector {
    pub(crate) fn new(database: Database, config: Config) -> Self {
        let runtime = Runtime::new().unwrap();
        let db = runtime.block_on(connect(&database.url));
        runtime.block_on(db.migrate()).unwrap();
        let writer = Some(runtime.block_on(start(&db, config)));
        Self { runtime, database, db, writer }
    }

    pub(crate) fn shared() -> Self {
        Self::new(Postgres::shared().database(), Config::default())
    }

    pub(crate) fn writer(&self) -> &Writer {
        self.writer.as_ref().unwrap()
    }

    /// An enrolled host.
    pub(crate) fn host(&self, id: i64) -> Host {
        let insert = format!("INSERT INTO host (host_id, name, enrolled_ms) VALUES ({id}, 'h{id}', 0)");
        self.database.sql(&insert);
        Host::new(id)
    }

    pub(crate) fn count(&self, table: &str) -> u64 {
        self.database.sql(&format!("SELECT count(*) FROM {table}")).trim().parse().unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.runtime.block_on(writer.shutdown());
        }
        self.runtime.block_on(self.db.close());
    }
}

pub(crate) async fn start(db: &Db, config: Config) -> Writer {
    Writer::start(db.clone(), Arc::new(SystemClock), config).await.unwrap()
}

pub(crate) fn full_at(commands: usize) -> Config {
    Config { workers: 1, records_per_commit: commands, linger_ms: UNTIL_FULL_MS, ..Config::default() }
}

#[test]
fn what_is_acked_is_stored_with_its_stretch_gap_facts_and_status() {
    let collector = Collector::shared();
    let mut host = collector.host(11);
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        assert_eq!(session.opened.epochs[0].verdict, Verdict::Continue);
        for record in [host.keyframe(None), host.delta(3), host.heartbeats(5), host.delta(u64::MAX)] {
            session.send(record).await;
        }
        acked(&session.outbox, 1, host.next).await;
        session.close().await;
    });
    let stored = |sql: &str| collector.database.sql(sql);
    assert_eq!(
        stored("SELECT seq, kind, stretch, base_seq, day = base_day FROM frame ORDER BY seq"),
        "0|1|0|0|t\n1|2|0|0|t\n7|2|0|0|t\n"
    );
    assert_eq!(stored("SELECT stretch, from_seq, to_wall_ms FROM stretch"), "0|0|\n");
    assert_eq!(stored("SELECT seq, from_wall_ms, reason FROM gap"), "0||16\n");
    assert_eq!(stored("SELECT state, evidence->>0, name FROM host_facts"), "available|SEM_INFO\\x0a|web-1\n");
    assert_eq!(stored("SELECT name FROM host"), "web-1\n");
    assert_eq!(
        stored("SELECT sem_arrays, shmall, namespace FROM host_status"),
        "18446744073709551615|18446744073692774399|4026531839\n"
    );
    assert_eq!(
        stored(
            "SELECT s.next_seq = 8 AND s.covered_wall_ms = h.sampled_wall_ms AND s.session = h.session
        FROM stream s JOIN host_status h USING (host_id)"
        ),
        "t\n"
    );
}

#[test]
fn a_second_session_fences_the_first_whichever_collector_holds_it() {
    let collector = Collector::shared();
    let mut host = collector.host(12);
    let other = collector.runtime.block_on(start(&collector.db, Config::default()));
    collector.runtime.block_on(async {
        let mut first = host.open(collector.writer()).await.unwrap();
        first.send(host.keyframe(None)).await;
        acked(&first.outbox, 1, Seq(1)).await;
        let mut second = host.open(&other).await.unwrap();
        assert_eq!(second.opened.epochs[0].next, Seq(1));
        let record = host.delta(1);
        first.send(record.clone()).await;
        assert_eq!(ended(&first.outbox).await, Ended::Replaced);
        second.send(record).await;
        acked(&second.outbox, 1, Seq(2)).await;
        other.shutdown().await;
    });
    assert_eq!(collector.count("frame"), 2);
}

#[test]
fn a_record_sent_again_after_a_restart_is_stored_once() {
    let mut collector = Collector::shared();
    let mut host = collector.host(13);
    let records = [host.keyframe(None), host.delta(1), host.delta(2)];
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer.as_ref().unwrap()).await.unwrap();
        for record in records.clone() {
            session.send(record).await;
        }
        acked(&session.outbox, 1, Seq(3)).await;
        collector.writer.take().unwrap().shutdown().await;
        assert_eq!(ended(&session.outbox).await, Ended::Stopping);
        let writer = start(&collector.db, Config::default()).await;
        let mut again = host.open(&writer).await.unwrap();
        assert_eq!((again.opened.epochs[0].next, again.opened.epochs[0].chain), (Seq(3), host.chain));
        for record in records {
            again.send(record).await;
        }
        again.send(host.delta(3)).await;
        acked(&again.outbox, 1, Seq(4)).await;
        collector.writer = Some(writer);
    });
    assert_eq!(collector.count("frame"), 4);
    assert_eq!(collector.count("gap"), 1);
}

#[test]
fn a_commit_whose_answer_is_lost_is_asked_again_and_stored_once() {
    let database = Postgres::shared().database();
    let mut collector = Collector::new(database, Config::default());
    let mut host = collector.host(14);
    let proxy = Proxy::start(&Postgres::shared().socket());
    let through = proxy.url(&collector.database);
    collector.runtime.block_on(async {
        let direct = collector.writer.take().unwrap();
        direct.shutdown().await;
        let db = connect(&through).await;
        let writer = start(&db, Config { workers: 1, ..Config::default() }).await;
        let mut session = host.open(&writer).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        proxy.lose_the_next_commits_answer();
        session.send(host.delta(1)).await;
        acked(&session.outbox, 1, Seq(2)).await;
        assert!(proxy.lost_one());
        session.send(host.delta(2)).await;
        acked(&session.outbox, 1, Seq(3)).await;
        writer.shutdown().await;
        db.close().await;
    });
    assert_eq!(collector.database.sql("SELECT seq FROM frame ORDER BY seq"), "0\n1\n2\n");
}

#[test]
fn a_refused_value_costs_its_host_a_gap_and_the_others_of_its_commit_nothing() {
    let collector = Collector::new(Postgres::shared().database(), full_at(9));
    let mut hosts = [collector.host(21), collector.host(22), collector.host(23)];
    collector.runtime.block_on(async {
        let mut sessions = Vec::new();
        // Nine commands fill a commit: opens are commands too.
        let opening = hosts.each_ref().map(|host| host.opening(collector.writer()));
        let filler = host::fill(collector.writer(), 6);
        let [a, b, c] = opening;
        let (a, b, c, ()) = tokio::join!(a, b, c, filler);
        sessions.extend([a.unwrap(), b.unwrap(), c.unwrap()]);
        collector.database.sql("ALTER TABLE frame ADD CONSTRAINT planted CHECK (host_id <> 22 OR seq <> 1)");
        for (host, session) in hosts.iter_mut().zip(&mut sessions) {
            for record in [host.keyframe(None), host.delta(1), host.delta(2)] {
                session.send(record).await;
            }
        }
        let mut asked = Vec::new();
        for session in &sessions {
            asked.push(acked(&session.outbox, 1, Seq(3)).await);
        }
        assert_eq!(asked, [false, true, false]);
        let keyframe = hosts[1].keyframe(None);
        sessions[1].send(keyframe).await;
        host::fill(collector.writer(), 8).await;
        acked(&sessions[1].outbox, 1, Seq(4)).await;
    });
    let frames = collector
        .database
        .sql("SELECT host_id, string_agg(seq::text, ',' ORDER BY seq) FROM frame GROUP BY 1 ORDER BY 1");
    assert_eq!(frames, "21|0,1,2\n22|0,3\n23|0,1,2\n");
    let gap = collector.database.sql("SELECT seq, reason, detail FROM gap WHERE host_id = 22 AND seq > 0");
    assert!(gap.starts_with(&format!("3|{}|23514 ", GapReason::RefusedRecord.code())), "{gap}");
    assert!(gap.contains("planted"), "{gap}");
    assert_eq!(
        collector.database.sql("SELECT stretch, to_wall_ms IS NULL FROM stretch WHERE host_id = 22 ORDER BY 1"),
        "0|f\n1|t\n"
    );
}

#[test]
fn a_host_booted_in_1970_fails_no_batch_and_is_stored_in_the_fallback_day() {
    let collector = Collector::shared();
    let (mut early, mut late) = (collector.host(31), collector.host(32));
    early.set_clock(5_000);
    late.set_clock(i64::MAX - 1);
    collector.runtime.block_on(async {
        for host in [&mut early, &mut late] {
            let mut session = host.open(collector.writer()).await.unwrap();
            for record in [host.keyframe(None), host.delta(1)] {
                session.send(record).await;
            }
            acked(&session.outbox, 1, Seq(2)).await;
        }
    });
    assert_eq!(collector.count("frame_fallback"), 4);
    assert_eq!(collector.count("frame"), 4);
}

#[test]
fn a_backlog_of_weeks_gets_its_days_made() {
    let collector = Collector::shared();
    let mut host = collector.host(33);
    let month_ms = 30 * 86_400_000;
    host.set_clock(host.clock.wall_ms - month_ms);
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
    });
    assert_eq!(collector.count("frame_fallback"), 0);
    assert_eq!(collector.database.sql("SELECT day = to_timestamp(wall_ms / 1000.0)::date FROM frame"), "t\n");
}

#[test]
fn partitions_that_are_gone_are_made_again_and_cost_no_record() {
    let gone = [("DROP TABLE %I", 0), ("ALTER TABLE frame DETACH PARTITION %I", 2)];
    for (how, in_fallback) in gone {
        let collector = Collector::shared();
        let mut host = collector.host(34);
        collector.runtime.block_on(async {
            let mut session = host.open(collector.writer()).await.unwrap();
            session.send(host.keyframe(None)).await;
            acked(&session.outbox, 1, Seq(1)).await;
            // As after a restore from a backup of last week, or by an operator's hand.
            collector.database.sql(&format!(
                "DO $$ DECLARE day regclass; BEGIN
                    FOR day IN SELECT inhrelid FROM pg_inherits
                        WHERE inhparent = 'frame'::regclass AND inhrelid <> 'frame_fallback'::regclass
                    LOOP EXECUTE format('{how}', day); END LOOP;
                END $$"
            ));
            for record in [host.keyframe(None), host.delta(1)] {
                session.send(record).await;
            }
            assert!(!acked(&session.outbox, 1, Seq(3)).await, "nothing was refused");
        });
        assert_eq!(collector.database.sql("SELECT seq FROM frame ORDER BY seq"), "1\n2\n", "{how}");
        assert_eq!((collector.count("frame_fallback"), collector.count("gap")), (in_fallback, 1), "{how}");
    }
}

#[test]
fn a_keyframe_is_asked_for_again_where_the_first_one_was_refused_and_the_stream_ended() {
    let collector = Collector::shared();
    let mut host = collector.host(35);
    collector.database.sql("ALTER TABLE frame ADD CONSTRAINT planted CHECK (seq > 0)");
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        session.close().await;
        let mut again = host.open(collector.writer()).await.unwrap();
        again.send(host.delta(1)).await;
        assert!(acked(&again.outbox, 1, Seq(2)).await, "asked for a keyframe");
        again.send(host.keyframe(None)).await;
        acked(&again.outbox, 1, Seq(3)).await;
    });
    assert_eq!(collector.database.sql("SELECT seq FROM frame"), "2\n");
}

#[test]
fn what_a_hello_waits_for_after_it_was_read_is_no_skew() {
    let collector = Collector::shared();
    let mut host = collector.host(36);
    let read_ms = highwater_tests::wait::now_ms() - 30_000;
    host.set_clock(read_ms + 7_000);
    collector.runtime.block_on(async {
        let mut session = host.opening_read_at(collector.writer(), read_ms).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        assert_eq!(collector.database.sql("SELECT skew_ms BETWEEN 6990 AND 7010 FROM host_status"), "t\n");
        // So it is where the row is there already.
        host.opening_read_at(collector.writer(), read_ms + 1_000).await.unwrap();
        assert_eq!(collector.database.sql("SELECT skew_ms FROM host_status"), "7000\n");
    });
}

#[test]
fn a_killed_server_costs_nothing_that_was_acked_and_takes_the_rest_after_its_restart() {
    let mut server = Postgres::start();
    let collector = Collector::new(server.database(), Config::default());
    let mut host = collector.host(41);
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        session.send(host.keyframe(None)).await;
        for value in 0..200 {
            session.send(host.delta(value)).await;
            if value == 100 {
                server.kill_postmaster();
            }
        }
        server.restart();
        acked(&session.outbox, 1, host.next).await;
    });
    assert_eq!(collector.database.sql("SELECT count(*), count(DISTINCT seq), max(seq) FROM frame"), "201|201|200\n");
    assert_eq!(collector.count("gap"), 1);
}

#[test]
fn a_new_epoch_continues_history_after_a_gap_and_an_older_one_is_closed() {
    let collector = Collector::shared();
    let mut host = collector.host(51);
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        let unsent = host.delta(1);
        host.begin_epoch(2, host.boot_id);
        let mut second = host.open(collector.writer()).await.unwrap();
        assert_eq!(ended(&session.outbox).await, Ended::Replaced);
        second.send(unsent).await;
        second.send(host.keyframe(Some(GapReason::AgentKilled))).await;
        acked(&second.outbox, 2, Seq(1)).await;
        host.begin_epoch(3, highwater_ipc::snapshot::BootId([9; 16]));
        let mut third = host.open(collector.writer()).await.unwrap();
        third.send(host.keyframe(Some(GapReason::AgentKilled))).await;
        acked(&third.outbox, 3, Seq(1)).await;
    });
    let gaps = collector.database.sql("SELECT epoch_no, reason FROM gap ORDER BY 1");
    let (killed, down) = (GapReason::AgentKilled.code(), GapReason::HostDown.code());
    assert_eq!(gaps, format!("1|{}\n2|{killed}\n3|{down}\n", GapReason::BeforeFirst.code()));
    let ends = collector.database.sql("SELECT epoch_no, next_seq, end_reason FROM stream ORDER BY 1");
    assert_eq!(ends, format!("1|2|{killed}\n2|1|{down}\n3|1|\n"));
}

#[test]
fn a_stranger_a_copy_and_a_forked_epoch_are_told_apart() {
    let collector = Collector::shared();
    let mut host = collector.host(61);
    collector.runtime.block_on(async {
        let stranger = Host::new(62).open(collector.writer()).await;
        assert_eq!(stranger.err(), Some(OpenError::UnknownHost));
        let mut session = host.open(collector.writer()).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        let mut image = host.clone();
        session.send(host.delta(1)).await;
        acked(&session.outbox, 1, Seq(2)).await;
        // The same machine, woken from an image of before.
        assert_eq!(image.open(collector.writer()).await.unwrap().opened.epochs[0].verdict, Verdict::Forked);
        // Two boots that take turns.
        host.begin_epoch(2, highwater_ipc::snapshot::BootId([9; 16]));
        let mut rebooted = host.open(collector.writer()).await.unwrap();
        rebooted.send(host.keyframe(None)).await;
        acked(&rebooted.outbox, 2, Seq(1)).await;
        image.begin_epoch(3, image.boot_id);
        let copy = image.open(collector.writer()).await;
        assert_eq!(copy.err(), Some(OpenError::Quarantined(Quarantine::BootReturned)));
        // The incumbent was not touched.
        rebooted.send(host.delta(1)).await;
        acked(&rebooted.outbox, 2, Seq(2)).await;
    });
    assert_eq!(collector.database.sql("SELECT epoch_no FROM stream ORDER BY 1"), "1\n2\n");
}

#[test]
fn the_writer_refuses_a_server_that_does_not_flush() {
    let server = Postgres::start();
    let collector = Collector::new(server.database(), Config::default());
    collector.database.sql("ALTER SYSTEM SET fsync = off");
    collector.database.sql("SELECT pg_reload_conf()");
    let off = || collector.database.sql("SHOW fsync") == "off\n";
    highwater_tests::wait::until("fsync is off", highwater_tests::wait::PATIENCE, off);
    let started = collector.runtime.block_on(async {
        let db = connect(&collector.database.url).await;
        Writer::start(db, Arc::new(SystemClock), Config::default()).await.map(|_| ())
    });
    assert!(started.unwrap_err().to_string().contains("fsync = on"));
}

#[test]
fn a_session_that_nobody_listens_to_any_more_is_closed() {
    let collector = Collector::shared();
    let mut host = collector.host(71);
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        session.close().await;
        let open = || collector.database.sql("SELECT disconnected_ms IS NOT NULL FROM host_status") == "t\n";
        highwater_tests::wait::until("the session is closed", highwater_tests::wait::PATIENCE, open);
        let now = host.now(77);
        let again = host.open(collector.writer()).await.unwrap();
        assert_eq!(collector.database.sql("SELECT disconnected_ms IS NULL FROM host_status"), "t\n");
        again.now(now).await;
        let behind = || collector.database.sql("SELECT backlog_from_ms FROM host_status") == "77\n";
        highwater_tests::wait::until("the present is noted", highwater_tests::wait::PATIENCE, behind);
    });
    assert_eq!(collector.count("frame"), 1);
}

/// A backup can know the very session that goes on, agree with it about the epoch it writes, and lack the one before.
#[test]
fn records_that_a_restored_backup_lacks_are_asked_for_again_though_the_session_goes_on_in_the_next_epoch() {
    let collector = Collector::shared();
    let mut host = collector.host(51);
    let first = [host.keyframe(None), host.delta(1)];
    host.begin_epoch(2, BootId([1; 16]));
    let second = [host.keyframe(None), host.delta(2)];
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        for record in first {
            session.send(record).await;
        }
        acked(&session.outbox, 1, Seq(2)).await;
        // What a dump from before those two records holds.
        collector.database.sql(
            "DELETE FROM frame; DELETE FROM stretch; DELETE FROM gap; DELETE FROM host_facts; DELETE FROM host_status;
             UPDATE stream SET next_seq = 0, chain = '\\x0000000000000000', covered_wall_ms = NULL,
                covered_boot_us = NULL, interval_ms = 0, stretch = -1, base_seq = NULL, base_day = NULL",
        );
        for record in second {
            session.send(record).await;
        }
        let why = ended(&session.outbox).await;
        assert!(matches!(&why, Ended::DoesNotFollow(text) if text.contains("restored from a backup")), "{why:?}");
        assert_eq!(collector.count("frame"), 0, "history has no hole that nobody explains");
        let again = host.open(collector.writer()).await.unwrap();
        assert_eq!(again.opened.epochs.iter().map(|e| e.next).collect::<Vec<_>>(), [Seq(0), Seq(0)]);
    });
}
