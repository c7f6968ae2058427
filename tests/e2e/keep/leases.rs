//! Two collectors and one job.

use highwater::compact::lease::{Keeper, LENGTH_MS, Now, RENEW_MS};
use highwater::host::HostId;
use highwater::store::chunk::{self, Chunk};
use highwater::store::day::Day;
use highwater::store::lease::{self, Fence, LeaseError};
use highwater::store::partition::{Table, ensure};
use highwater::store::{Db, StoreError};
use highwater_ipc::record::{EpochNo, Seq};

use crate::ingest::Collector;

const WALL_MS: i64 = 1_795_558_861_000;

/// This many milliseconds later, by both clocks.
fn after(ms: i64) -> Now {
    Now { wall_ms: WALL_MS + ms, steady_ms: ms }
}

fn row(seq: u64) -> Chunk {
    let host = HostId(1);
    let (from, to) = (Seq(seq), Seq(seq));
    Chunk {
        host,
        epoch: EpochNo(1),
        stretch: 0,
        from_wall_ms: 5_000,
        from,
        part: Day::FALLBACK,
        to,
        to_wall_ms: 5_000,
        prev_wall_ms: None,
        records: 1,
        baseline: false,
        objects: Vec::new(),
        body: Vec::new(),
    }
}

/// A job: its transaction checks the lease first.
async fn job(db: &Db, name: &str, fence: Fence, seq: u64) -> Result<(), LeaseError> {
    let mut connection = db.dedicated().await?;
    ensure(&mut connection, Table::ChunkFresh, Day::FALLBACK).await?;
    let mut tx = connection.write().await?;
    lease::check(&mut tx, name, fence).await?;
    chunk::insert_fresh(&mut tx, &[row(seq)]).await?;
    tx.commit().await?;
    Ok(())
}

#[test]
fn of_two_collectors_one_works_and_the_other_takes_over_when_it_stops_or_gives_back() {
    let collector = Collector::shared();
    let db = &collector.db;
    let keeper = |holder| Keeper::new("compact/0", holder);
    collector.runtime.block_on(async {
        let (mut first, mut second) = (keeper("a/1"), keeper("b/1"));
        let held = first.hold(db, after(0)).await.unwrap();
        assert_eq!(held, Some(Fence(1)));
        assert_eq!(second.hold(db, after(0)).await.unwrap(), None);
        // Renewed in time it stays; nothing is asked between.
        assert_eq!(first.hold(db, after(RENEW_MS)).await.unwrap(), held);
        assert_eq!(first.hold(db, after(RENEW_MS + 1)).await.unwrap(), held);
        assert_eq!(second.hold(db, after(LENGTH_MS)).await.unwrap(), None);
        // The first says nothing any more.
        assert_eq!(second.hold(db, after(RENEW_MS + LENGTH_MS)).await.unwrap(), Some(Fence(2)));
        assert_eq!(first.hold(db, after(RENEW_MS + LENGTH_MS + 1)).await.unwrap(), None);
        second.release(db).await;
        assert_eq!(first.hold(db, after(2 * RENEW_MS + LENGTH_MS + 1)).await.unwrap(), Some(Fence(3)));
    });
    assert_eq!(collector.database.sql("SELECT holder, fence FROM lease"), "a/1|3\n");
}

#[test]
fn a_holder_that_was_paused_while_another_took_its_lease_commits_nothing() {
    let collector = Collector::shared();
    let db = &collector.db;
    collector.runtime.block_on(async {
        let (mut paused, mut next) = (Keeper::new("compact/1", "a/1"), Keeper::new("compact/1", "b/1"));
        let old = paused.hold(db, after(0)).await.unwrap().unwrap();
        job(db, "compact/1", old, 0).await.unwrap();
        let new = next.hold(db, after(LENGTH_MS)).await.unwrap().unwrap();
        // It does not know yet that time went by.
        assert!(matches!(job(db, "compact/1", old, 1).await, Err(LeaseError::Lost { .. })));
        job(db, "compact/1", new, 2).await.unwrap();
        // Nor is it given back by who lost it.
        paused.release(db).await;
        job(db, "compact/1", new, 3).await.unwrap();
    });
    assert_eq!(collector.database.sql("SELECT from_seq FROM chunk_fresh ORDER BY 1"), "0\n2\n3\n");
}

#[test]
fn a_lease_is_not_taken_within_a_holders_transaction_and_a_job_behind_it_finds_it_lost() {
    let collector = Collector::shared();
    let db = &collector.db;
    collector.runtime.block_on(async {
        let mut connection = db.dedicated().await.unwrap();
        let old = lease::take(&mut connection, "compact/2", "a/1", WALL_MS, LENGTH_MS).await.unwrap().unwrap();
        ensure(&mut connection, Table::ChunkFresh, Day::FALLBACK).await.unwrap();
        let mut tx = connection.write().await.unwrap();
        lease::check(&mut tx, "compact/2", old).await.unwrap();
        chunk::insert_fresh(&mut tx, &[row(0)]).await.unwrap();
        let mut other = db.dedicated().await.unwrap();
        let later = WALL_MS + LENGTH_MS;
        let taken = lease::take(&mut other, "compact/2", "b/1", later, LENGTH_MS).await;
        assert!(taken.as_ref().is_err_and(StoreError::was_locked), "{taken:?}");
        tx.commit().await.unwrap();
        let new = lease::take(&mut other, "compact/2", "b/1", later, LENGTH_MS).await.unwrap();
        assert_eq!(new, Some(Fence(2)));
        assert!(matches!(job(db, "compact/2", old, 1).await, Err(LeaseError::Lost { .. })));
    });
    assert_eq!(collector.count("chunk_fresh"), 1);
}

#[test]
fn a_lease_written_by_a_clock_far_ahead_keeps_nobody_out() {
    let collector = Collector::shared();
    collector.runtime.block_on(async {
        let mut connection = collector.db.dedicated().await.unwrap();
        let year_ms = 365 * 86_400_000;
        let ahead = lease::take(&mut connection, "x", "ahead", WALL_MS + year_ms, LENGTH_MS).await.unwrap();
        assert_eq!(ahead, Some(Fence(1)));
        let taken = lease::take(&mut connection, "x", "right", WALL_MS, LENGTH_MS).await.unwrap();
        assert_eq!(taken, Some(Fence(2)));
        assert!(!lease::renew(&mut connection, "x", Fence(1), WALL_MS + year_ms).await.unwrap());
        let listed = lease::list(&mut connection).await.unwrap();
        assert_eq!((listed.len(), listed[0].holder.as_str(), listed[0].fence), (1, "right", 2));
    });
}
