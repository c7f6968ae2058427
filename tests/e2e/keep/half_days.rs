//! Use of limits, of which a row is half a day: whoever comes to one at the same time as another.

use highwater::host::HostId;
use highwater::query::Reading;
use highwater::store::Db;
use highwater::store::day::Day;
use highwater::store::partition::{Table, ensure};
use highwater::store::usage::{Order, Step, UsageRow, Used, upsert};
use highwater_ipc::snapshot::NamespaceId;
use highwater_tests::wait::{PATIENCE, until};

use crate::ingest::Collector;

const HOST: HostId = HostId(1);
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND wait_event_type = 'Lock'";

fn row(slot: i64, last: u64) -> UsageRow {
    let namespace = NamespaceId { inode: u64::MAX, instance: u64::MAX };
    let used = [Used { last: Some(last), most: Some(last + 1), limit: Some(u64::MAX) }; 5];
    UsageRow { host: HOST, namespace, slot_ms: slot * Step::TenMinutes.length_ms(), own: true, used }
}

async fn add(db: &Db, row: UsageRow) {
    let mut connection = db.dedicated().await.unwrap();
    let mut tx = connection.write().await.unwrap();
    upsert(&mut tx, Step::TenMinutes, &[row], Order::Filling, &|_| Day::FALLBACK).await.unwrap();
    tx.commit().await.unwrap();
}

#[test]
fn compaction_and_an_import_that_come_to_one_half_day_at_once_lose_nothing_of_each_other() {
    let collector = Collector::shared();
    let db = &collector.db;
    collector.runtime.block_on(async {
        let mut connection = db.dedicated().await.unwrap();
        ensure(&mut connection, Table::Usage, Day::FALLBACK).await.unwrap();
        // The row is not there at first, and then it is.
        for (mine, other) in [(0, 1), (2, 71)] {
            let mut tx = connection.write().await.unwrap();
            let rows = [row(mine, 5)];
            upsert(&mut tx, Step::TenMinutes, &rows, Order::Newest, &|_| Day::FALLBACK).await.unwrap();
            let task = tokio::spawn({
                let db = db.clone();
                async move { add(&db, row(other, 7)).await }
            });
            tokio::task::block_in_place(|| {
                until("the other waits", PATIENCE, || collector.database.sql(WAITING) != "0\n");
            });
            tx.commit().await.unwrap();
            task.await.unwrap();
        }
        let mut reading = Reading::begin(db).await.unwrap();
        let all = (i64::MIN, i64::MAX);
        let rows = reading.usage(HOST, Step::TenMinutes, all, 10).await.unwrap();
        assert_eq!(rows, [row(0, 5), row(1, 7), row(2, 5), row(71, 7)]);
        let part = (Step::TenMinutes.length_ms(), 2 * Step::TenMinutes.length_ms());
        let rows = reading.usage(HOST, Step::TenMinutes, part, 10).await.unwrap();
        assert_eq!(rows, [row(1, 7), row(2, 5)]);
    });
    assert_eq!(collector.count("usage"), 1);
}
