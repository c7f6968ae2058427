//! Commits in doubt: acknowledged and not visible yet, as on several servers that agreed on one. Here the one server
//! prepares the transaction, and it is committed when the test says so.

use highwater::query::as_of::Instant;
use highwater::query::gap::GapState;
use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::held_now;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::wait::{PATIENCE, until, until_some};

use super::proxy::Fate;
use super::read_back::arrays;
use super::*;

const SETTLE: &str = "COMMIT PREPARED 'in-doubt'";
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND wait_event_type = 'Lock'";
const IN_DOUBT: &str = "SELECT count(*) FROM stream AS s JOIN pg_prepared_xacts AS p ON p.transaction = s.xmax";

/// A server for each test alone: the names of prepared transactions are one server's.
struct World {
    collector: Collector,
    proxy: Proxy,
    _server: Postgres,
}

impl World {
    fn new() -> Self {
        let server = Postgres::start();
        let proxy = Proxy::start(&server.socket());
        Self { collector: Collector::new(server.database(), Config::default()), proxy, _server: server }
    }

    /// A writer whose commits pass the proxy, one connection.
    async fn writer(&self) -> Writer {
        let db = connect(&self.proxy.url(&self.collector.database)).await;
        start(&db, Config { workers: 1, ..Config::default() }).await
    }

    fn settle(&self) {
        self.collector.database.sql(SETTLE);
    }

    async fn somebody_waits(&self) {
        tokio::task::block_in_place(|| {
            until("somebody waits for the row", PATIENCE, || self.collector.database.sql(WAITING) != "0\n");
        });
    }
}

#[test]
fn what_is_acked_and_not_visible_settles_while_the_past_answers_as_before() {
    let world = World::new();
    let mut host = world.collector.host(81);
    let (writer, mut session) = world.collector.runtime.block_on(async {
        let writer = world.writer().await;
        let mut session = host.open(&writer).await.unwrap();
        // Even the first sample.
        world.proxy.arm(Fate::Prepare);
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        (writer, session)
    });
    let first_ms = host.clock.wall_ms;
    for instant in [Instant::Now, Instant::At(first_ms)] {
        let gap = world.collector.gap(81, instant);
        assert_eq!((gap.state, gap.from_ms), (GapState::Settling, None), "{instant:?}");
    }
    world.settle();
    let before = world.collector.held(81, first_ms);

    world.proxy.arm(Fate::Prepare);
    world.collector.runtime.block_on(async {
        session.send(host.delta(7)).await;
        acked(&session.outbox, 1, Seq(2)).await;
    });
    assert_eq!(world.collector.count("frame"), 1, "acked, and not visible");
    for instant in [Instant::Now, Instant::At(host.clock.wall_ms), Instant::At(first_ms + 1)] {
        let gap = world.collector.gap(81, instant);
        assert_eq!((gap.state, gap.from_ms, gap.reason), (GapState::Settling, Some(first_ms), None), "{instant:?}");
        assert!(gap.detail.starts_with("settling"), "{gap:?}");
    }
    assert_eq!(world.collector.held(81, first_ms), before);
    // Another host is in no doubt.
    let mut other = world.collector.host(82);
    world.collector.store(&mut other, 1, |other| vec![other.keyframe(None)]);
    assert_eq!(world.collector.gap(82, Instant::At(other.clock.wall_ms - 1)).state, GapState::Closed);
    world.collector.held(82, other.clock.wall_ms);

    world.settle();
    assert_eq!(arrays(&world.collector.held(81, host.clock.wall_ms)), 7);
    world.collector.runtime.block_on(async {
        session.close().await;
        writer.shutdown().await;
    });
}

#[test]
fn what_is_sent_again_while_it_is_in_doubt_waits_and_is_stored_once() {
    let world = World::new();
    let mut host = world.collector.host(83);
    world.collector.runtime.block_on(async {
        let writer = world.writer().await;
        let mut session = host.open(&writer).await.unwrap();
        let records = [host.keyframe(None), host.delta(1), host.delta(2), host.delta(3)];
        session.send(records[0].clone()).await;
        acked(&session.outbox, 1, Seq(1)).await;
        // Nobody hears of it: the writer commits the same once more, and waits for the row.
        world.proxy.arm(Fate::PrepareUnheard);
        session.send(records[1].clone()).await;
        world.somebody_waits().await;
        world.settle();
        acked(&session.outbox, 1, Seq(2)).await;
        // It is heard of: what comes next finds no place yet, so its agent calls anew, and is told to come back.
        world.proxy.arm(Fate::Prepare);
        session.send(records[2].clone()).await;
        acked(&session.outbox, 1, Seq(3)).await;
        session.send(records[3].clone()).await;
        let Ended::DoesNotFollow(why) = ended(&session.outbox).await else { panic!("another end") };
        assert!(why.contains("not visible yet"), "{why}");
        assert!(matches!(host.open(world.collector.writer()).await, Err(OpenError::Unavailable)));
        world.settle();
        let mut again = host.open(world.collector.writer()).await.unwrap();
        assert_eq!(again.opened.epochs[0].next, Seq(3));
        for record in records {
            again.send(record).await;
        }
        again.send(host.delta(4)).await;
        acked(&again.outbox, 1, Seq(5)).await;
        writer.shutdown().await;
    });
    let stored = world.collector.database.sql("SELECT count(*), count(DISTINCT seq), max(seq) FROM frame");
    assert_eq!(stored, "5|5|4\n");
    assert_eq!(world.collector.count("gap"), 1, "that before the first sample");
}

#[test]
fn a_commit_that_is_taken_back_is_in_no_doubt_and_comes_again() {
    let world = World::new();
    let mut host = world.collector.host(84);
    world.collector.runtime.block_on(async {
        let writer = world.writer().await;
        let mut session = host.open(&writer).await.unwrap();
        session.send(host.keyframe(None)).await;
        acked(&session.outbox, 1, Seq(1)).await;
        world.proxy.arm(Fate::PrepareUnheard);
        session.send(host.delta(1)).await;
        world.somebody_waits().await;
        world.collector.database.sql("ROLLBACK PREPARED 'in-doubt'");
        acked(&session.outbox, 1, Seq(2)).await;
        writer.shutdown().await;
    });
    // The newest sample speaks for a while after itself.
    assert_eq!(arrays(&world.collector.held(84, host.clock.wall_ms + 1)), 1);
}

#[test]
fn ipcs_says_that_the_newest_history_settles_and_answers_once_it_has() {
    let server = Postgres::start();
    let database = server.database();
    let proxy = Proxy::start(&server.socket());
    let mut through = database.clone();
    through.url = proxy.url(&database);
    let up = Up::collector(&through);
    let namespace = IpcNamespace::named("settles");
    let _agent = Agent::running(&up, &namespace);
    let host = host_name(&namespace);
    until("a sample", PATIENCE, || held_now(&up.cli(), &host).is_some());
    until("a commit of records is in doubt", PATIENCE, || {
        proxy.arm(Fate::Prepare);
        until("a commit is prepared", PATIENCE, || database.sql("SELECT count(*) FROM pg_prepared_xacts") == "1\n");
        // It may have been another's: of a lease, of partitions.
        let is_in_doubt = database.sql(IN_DOUBT) == "1\n";
        if !is_in_doubt {
            database.sql(SETTLE);
        }
        is_in_doubt
    });
    let semid = namespace.create("create-sem private 1");
    let settling = until_some("the host settles", PATIENCE, || {
        let answer = up.cli().run(&["ipcs", &host, "--json"]);
        (answer.code == 4 && answer.json()["gap"]["settling"] == true).then(|| answer.json())
    });
    assert_eq!((&settling["gap"]["state"], &settling["gap"]["reason"]), (&"pending".into(), &serde_json::Value::Null));
    let words = up.cli().run(&["ipcs", &host]).must_exit(4);
    assert!(words.err.contains("an acknowledged commit is not visible yet; ask again"), "{words:?}");
    let last = settling["gap"]["last_sample_at"].as_str().unwrap();
    up.cli().run(&["ipcs", &host, "--at", last]).must_succeed();
    database.sql(SETTLE);
    until("now is right", PATIENCE, || held_now(&up.cli(), &host).is_some_and(|held| held.contains(&i64::from(semid))));
}
