//! An answer is one state of the database, whatever is compacted, merged and dropped between its statements.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater::compact::job::{Compactor, Config, LEASE};
use highwater::compact::lease::{Keeper, Now};
use highwater::compact::{Held, merge, tail};
use highwater::evaluate::rules::Rules;
use highwater::query::Reading;
use highwater::query::as_of::{Instant, as_of};
use highwater::store::Db;
use highwater::store::day::Day;
use highwater::store::link::Link;
use highwater::store::partition::{Dropped, Table, drop_if};
use highwater_ipc::record::EpochNo;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};

use super::as_of::{Asked, HOUR_MS, Plant, history, told};
use crate::ingest::Collector;
use crate::ingest::host::connect;
use crate::ingest::proxy::Proxy;

const DAY_MS: i64 = 24 * HOUR_MS;
/// Where everything is, by the marks of `stream`: in frames, or in merged chunks.
const WHERE: &str = "SELECT count(*) FILTER (WHERE compacted_to = 0), count(*) FILTER (WHERE merged_to = framed_to)
    FROM stream WHERE framed_to > 0";

async fn lease(db: &Db) -> Held {
    let now = Now { wall_ms: now_ms(), steady_ms: 0 };
    let fence = Keeper::new(LEASE, "test").hold(db, now).await.unwrap().expect("nobody else compacts");
    Held { name: LEASE.to_owned(), fence }
}

fn lock(compactor: &Mutex<Compactor>) -> MutexGuard<'_, Compactor> {
    compactor.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_compactor_itself_between_any_two_statements_of_an_answer_changes_nothing_in_it() {
    let collector = Collector::shared();
    let held = collector.runtime.block_on(lease(&collector.db));
    // All is due, and today is over.
    let config = Config { tail_age_ms: 0, tail_positions: 1, merge_after_ms: -2 * DAY_MS, ..Config::default() };
    let compactor = Arc::new(Mutex::new(Compactor::new(collector.db.clone(), config, held)));
    let plant = Arc::new(Plant::default());
    let (seen, works, runtime) = (Arc::clone(&plant), Arc::clone(&compactor), collector.runtime.handle().clone());
    let proxy = Proxy::watching(&Postgres::shared().socket(), move |bytes| {
        seen.see(bytes, || {
            let round = runtime.block_on(lock(&works).round(now_ms())).unwrap();
            assert_eq!((round.failed, round.compacted > 0, round.merged > 0), (0, true, true), "{round:?}");
        })
    });
    let url = proxy.url(&collector.database);
    let now = now_ms();
    let ask = |question: &Asked, host: &_| {
        collector.runtime.block_on(async {
            let db = connect(&url).await;
            let mut reading = Reading::begin(&db).await.unwrap();
            let told = question.ask(&mut reading, host, now).await;
            drop(reading);
            db.close().await;
            told
        })
    };
    let questions: [fn(i64) -> Asked; 5] = [
        |_| Asked::AsOf(Instant::Last),
        |start| Asked::AsOf(Instant::At(start + 8_500)),
        |start| Asked::AsOf(Instant::At(start + HOUR_MS / 4)),
        |start| Asked::Diff(start + 2_000, start + HOUR_MS / 2 + 2_000),
        |start| Asked::Timeline(start, start + HOUR_MS),
    ];
    let mut id = 200;
    for question in questions {
        let mut statements = usize::MAX;
        let mut before = 2;
        while before <= statements {
            id += 1;
            let (host, start) = history(&collector, id);
            // What is said of a silent host depends on it.
            until("the end of its session is noted", PATIENCE, || {
                let noted = format!("SELECT disconnected_ms IS NOT NULL FROM host_status WHERE host_id = {id}");
                collector.database.sql(&noted) == "t\n"
            });
            let question = question(start);
            plant.arm(usize::MAX);
            let truth = ask(&question, &host);
            statements = plant.asked.load(Ordering::SeqCst);
            assert_eq!(collector.database.sql(WHERE).split('|').next(), Some("2"), "the tail of this host alone");
            plant.arm(before);
            let told = ask(&question, &host);
            assert!(*plant.done.lock().unwrap(), "planted before statement {before} of {question:?}");
            assert_eq!(told, truth, "{question:?}, compacted before statement {before} of {statements}");
            // What is compacted now answers the same, too.
            plant.arm(usize::MAX);
            assert_eq!(ask(&question, &host), truth, "{question:?}, after a compaction");
            before += 1;
        }
        assert!(statements >= 4, "{statements}");
    }
}

#[test]
fn partitions_that_were_emptied_while_an_answer_is_made_wait_for_it() {
    let collector = Collector::shared();
    let mut host = collector.host(31);
    let start = (now_ms() - 3 * DAY_MS) / DAY_MS * DAY_MS + HOUR_MS;
    let day = Day::of(start);
    host.set_clock(start);
    collector.store(&mut host, 1, |host| vec![host.keyframe(None), host.delta(1), host.heartbeats(5), host.delta(2)]);
    let (asked, now) = (Instant::At(host.clock.wall_ms - 2_500), now_ms());
    collector.runtime.block_on(async {
        let db = &collector.db;
        let read = async |reading: &mut Reading| told(&as_of(reading, host.id(), asked, now).await.unwrap());
        let truth = read(&mut Reading::begin(db).await.unwrap()).await;
        let mut reading = Reading::begin(db).await.unwrap();
        // The snapshot is taken, and no partition is touched yet.
        reading.newest_stretch(host.id()).await.unwrap().expect("a stretch");

        let (held, mut link, of) = (lease(db).await, Link::new(db.clone()), (host.id(), EpochNo(1)));
        let compacted = tail::compact(db, &mut link, of, (&held, &Rules::default()), now).await.unwrap();
        let merged = merge::merge(db, &mut link, of, day.plus(1), &held).await.unwrap();
        let all = tail::Moved::Some { records: 3, more: false };
        assert_eq!((compacted, merged), (all, all));
        let mut connection = db.dedicated().await.unwrap();
        for table in [Table::Frame, Table::ChunkFresh] {
            assert_eq!(drop_if(&mut connection, table, day).await.unwrap(), Dropped::Busy, "{table:?}");
        }
        assert_eq!(read(&mut reading).await, truth, "as it was when the question began");
        drop(reading);
        for table in [Table::Frame, Table::ChunkFresh] {
            let gone = async {
                loop {
                    // The reading ends by itself, a moment after it was dropped.
                    let dropped = drop_if(&mut connection, table, day).await.unwrap();
                    if dropped != Dropped::Busy {
                        return dropped;
                    }
                }
            };
            assert_eq!(gone.await, Dropped::Gone, "{table:?}");
        }
        assert_eq!(read(&mut Reading::begin(db).await.unwrap()).await, truth, "out of a merged chunk");
    });
    assert_eq!(collector.count("frame"), 0);
}
