//! Partitions come and go while hosts are written and long queries read.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater::compact::partitions::{drop_moved, drop_patiently, ensure_all};
use highwater::store::Db;
use highwater::store::day::Day;
use highwater::store::partition::{Dropped, Table, drop_if, ensure, is_wanted, list};
use highwater::store::tx::Dedicated;
use highwater_tests::wait::now_ms;
use tokio::time::Instant;

use crate::ingest::Collector;
use crate::ingest::host::{Host, Session, acked};

const DAY_MS: i64 = 86_400_000;
/// What a commit may take longer than without all this, on the busiest machine: half of what it would wait for the query. What
/// it does take is printed.
const LONGEST: Duration = Duration::from_secs(2);

/// How long the query reads, seconds, unless `HIGHWATER_QUERY_SECONDS` says otherwise.
const QUERY_SECONDS: u64 = 4;

fn query() -> Duration {
    let said = std::env::var("HIGHWATER_QUERY_SECONDS").ok();
    Duration::from_secs(said.map_or(QUERY_SECONDS, |said| said.parse().expect("a number of seconds")))
}

/// The day so many days ago.
fn ago(days: i64) -> Day {
    Day::of(now_ms() - days * DAY_MS)
}

/// Stores a keyframe of so many days ago, and waits for its ack.
async fn keyframe(session: &mut Session, host: &mut Host, days: i64) {
    host.set_clock(now_ms() - days * DAY_MS);
    session.send(host.keyframe(None)).await;
    acked(&session.outbox, 1, host.next).await;
}

/// As if it were compacted.
fn compact(collector: &Collector) {
    collector.database.sql("UPDATE stream SET compacted_to = next_seq, framed_to = next_seq");
}

/// Tables that have a partition's name and belong to nothing.
fn orphans(collector: &Collector) -> String {
    collector.database.sql(
        "SELECT relname FROM pg_class c WHERE relkind = 'r' AND relname ~ '_[0-9]{8}$'
        AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)",
    )
}

/// The longest wait of a host's commits for their acks, one after another, until told to stop; and how many there were.
async fn longest_commit(session: &mut Session, host: &mut Host, until: impl Fn(u32) -> bool) -> (Duration, u32) {
    let (mut longest, mut commits) = (Duration::ZERO, 0);
    while !until(commits) {
        let sent = Instant::now();
        session.send(host.delta(u64::from(commits))).await;
        acked(&session.outbox, 1, host.next).await;
        longest = longest.max(sent.elapsed());
        commits += 1;
    }
    (longest, commits)
}

/// Makes and drops partitions of every table until the query is over; says how often a drop was tried in vain.
async fn make_and_drop(db: &Db, query_is_over: impl Fn() -> bool) -> u32 {
    let mut connection = db.dedicated().await.unwrap();
    let mut in_vain = 0;
    for round in 0.. {
        if query_is_over() {
            break;
        }
        for table in Table::ALL {
            ensure(&mut connection, table, ago(1_000 - 40 * round)).await.unwrap();
        }
        for first in list(&mut connection, Table::Frame).await.unwrap() {
            if first < ago(0) && drop_if(&mut connection, Table::Frame, first).await.unwrap() == Dropped::Busy {
                in_vain += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    in_vain
}

#[test]
fn commits_go_on_while_partitions_are_made_and_dropped_beside_a_long_query() {
    let collector = Collector::shared();
    let mut host = collector.host(11);
    let runtime = &collector.runtime;
    let mut session = runtime.block_on(host.open(collector.writer())).unwrap();
    runtime.block_on(async {
        for day in (0..=6).rev() {
            keyframe(&mut session, &mut host, day).await;
        }
    });
    compact(&collector);
    let (alone, _) = runtime.block_on(longest_commit(&mut session, &mut host, |commits| commits == 300));
    compact(&collector);
    let (query_is_over, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let ended = || over.load(Ordering::SeqCst);
    let reading = collector.database.hold("DO $$ BEGIN PERFORM count(*) FROM frame; END $$");
    let (longest, commits, in_vain) = std::thread::scope(|scope| {
        scope.spawn(|| {
            runtime.block_on(async { tokio::time::sleep(query()).await });
            drop(reading);
            query_is_over.store(true, Ordering::SeqCst);
        });
        let dropping = scope.spawn(|| {
            let in_vain = runtime.block_on(make_and_drop(&collector.db, || query_is_over.load(Ordering::SeqCst)));
            // With the query gone, all of them go.
            runtime.block_on(async {
                let mut connection = collector.db.dedicated().await.unwrap();
                drop_moved(&mut connection, now_ms()).await.unwrap();
            });
            over.store(true, Ordering::SeqCst);
            in_vain
        });
        let (longest, commits) = runtime.block_on(longest_commit(&mut session, &mut host, |_| ended()));
        (longest, commits, dropping.join().unwrap())
    });
    println!("longest commit: {alone:?} alone, {longest:?} beside ({commits} commits, {in_vain} drops tried in vain)");
    assert!(in_vain > 0 && commits > 50, "{in_vain} {commits}");
    assert!(longest < alone + LONGEST, "{longest:?}, alone {alone:?}");
    let left = runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        list(&mut connection, Table::Frame).await.unwrap()
    });
    assert!(left.iter().all(|day| *day >= ago(1)), "{left:?}");
    assert_eq!(orphans(&collector), "");
}

#[test]
fn a_day_goes_when_all_of_it_is_compacted_and_a_late_record_makes_it_again_without_loss() {
    let collector = Collector::shared();
    let (mut host, mut other) = (collector.host(12), collector.host(13));
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        let mut session = host.open(collector.writer()).await.unwrap();
        let mut beside = other.open(collector.writer()).await.unwrap();
        for day in [3, 2] {
            keyframe(&mut session, &mut host, day).await;
        }
        keyframe(&mut beside, &mut other, 2).await;
        collector.database.sql("UPDATE stream SET framed_to = 2, compacted_to = 1 WHERE host_id = 12");
        assert!(!is_wanted(&mut connection, Table::Frame, ago(3)).await.unwrap());
        assert!(is_wanted(&mut connection, Table::Frame, ago(2)).await.unwrap());
        assert_eq!(drop_if(&mut connection, Table::Frame, ago(3)).await.unwrap(), Dropped::Gone);
        assert_eq!(drop_if(&mut connection, Table::Frame, ago(2)).await.unwrap(), Dropped::Wanted);
        collector.database.sql("UPDATE stream SET compacted_to = 2 WHERE host_id = 12");
        assert_eq!(drop_if(&mut connection, Table::Frame, ago(2)).await.unwrap(), Dropped::Wanted);
        collector.database.sql("UPDATE stream SET compacted_to = 1, framed_to = 1 WHERE host_id = 13");
        assert_eq!(drop_if(&mut connection, Table::Frame, ago(2)).await.unwrap(), Dropped::Gone);
        assert_eq!(drop_if(&mut connection, Table::Frame, ago(2)).await.unwrap(), Dropped::Gone, "again");
        assert_eq!(collector.count("frame"), 0);
        // The writer still believes in that day.
        other.set_clock(now_ms() - 2 * DAY_MS);
        for record in [other.keyframe(None), other.delta(1)] {
            beside.send(record).await;
        }
        assert!(!acked(&beside.outbox, 1, other.next).await, "nothing was refused");
        assert_eq!(drop_if(&mut connection, Table::Frame, ago(2)).await.unwrap(), Dropped::Wanted);
    });
    assert_eq!((collector.count("frame"), collector.count("frame_fallback")), (2, 0));
    assert_eq!(orphans(&collector), "");
}

#[test]
fn a_partition_that_somebody_is_writing_stays_and_the_record_is_found_when_it_is_committed() {
    let collector = Collector::shared();
    let mut host = collector.host(14);
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        let mut session = host.open(collector.writer()).await.unwrap();
        keyframe(&mut session, &mut host, 5).await;
        compact(&collector);
        let copy = "INSERT INTO frame SELECT host_id, epoch_no, 1, day, kind, stretch, wall_ms, boot_us, prev_wall_ms,
            base_seq, base_day, received_ms, body FROM frame; UPDATE stream SET next_seq = 2, framed_to = 2";
        let writing = collector.database.hold(copy);
        assert_eq!(drop_if(&mut connection, Table::Frame, ago(5)).await.unwrap(), Dropped::Busy);
        drop(writing);
        collector.database.sql(copy);
        assert_eq!(drop_patiently(&mut connection, Table::Frame, ago(5)).await.unwrap(), Dropped::Wanted);
    });
    assert_eq!(collector.count("frame"), 2);
}

#[test]
fn small_chunks_go_when_their_day_is_merged() {
    let collector = Collector::shared();
    let mut host = collector.host(15);
    collector.runtime.block_on(async {
        let mut session = host.open(collector.writer()).await.unwrap();
        for day in [4, 3] {
            keyframe(&mut session, &mut host, day).await;
        }
        let mut connection = collector.db.dedicated().await.unwrap();
        for day in [4, 3] {
            ensure(&mut connection, Table::ChunkFresh, ago(day)).await.unwrap();
        }
        compact(&collector);
        collector.database.sql(
            "INSERT INTO chunk_fresh SELECT host_id, epoch_no, stretch, wall_ms, seq, day, seq, wall_ms, NULL, 1, '', ''
            FROM frame; UPDATE stream SET merged_to = 1",
        );
        assert_eq!(drop_moved(&mut connection, now_ms()).await.unwrap(), 3, "two days of records and one of chunks");
        assert_eq!(list(&mut connection, Table::ChunkFresh).await.unwrap(), [ago(3)]);
    });
    assert_eq!(collector.count("chunk_fresh"), 1);
}

#[test]
fn many_that_make_the_same_partitions_at_once_make_each_of_them_once() {
    let collector = Collector::shared();
    let now_ms = now_ms();
    let days = move || (0..=2).flat_map(move |day| Table::ALL.map(|table| (table, Day::of(now_ms).plus(day))));
    collector.runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let db = collector.db.clone();
            tasks.spawn(async move {
                let mut connection: Dedicated = db.dedicated().await.unwrap();
                let all: BTreeSet<_> = days().chain(Table::ALL.map(|table| (table, Day::FALLBACK))).collect();
                ensure_all(&mut connection, all.clone()).await.unwrap();
                ensure_all(&mut connection, all).await.unwrap();
            });
        }
        tasks.join_all().await;
        let mut connection = collector.db.dedicated().await.unwrap();
        for (table, day) in days() {
            let there = list(&mut connection, table).await.unwrap();
            assert!(there.contains(&table.first(day)), "{table:?} {day:?}");
            // Which never goes, so nobody who drops gets to see it.
            assert!(!there.contains(&Day::FALLBACK), "{table:?}");
            assert_eq!(collector.count(&format!("{}_fallback", table.name())), 0);
        }
    });
    let empty = collector.database.sql(
        "SELECT sum(pg_total_relation_size(inhrelid)), count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid
        WHERE c.relkind = 'r' AND c.relname ~ '_[0-9]{8}$'",
    );
    println!("bytes of all empty partitions and how many they are: {empty}");
    assert_eq!(orphans(&collector), "");
}
