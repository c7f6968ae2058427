//! What was derived, stored step by step in a database, against the same kept in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use tokio_util::sync::CancellationToken;

use super::derive::tests::{Stored, derive, taken, world};
use super::derived::store;
use crate::embedded::supervise::Postgres;
use crate::host::HostId;
use crate::store::Db;
use crate::store::day::Day;
use crate::store::history::Reading;
use crate::store::owner_usage::of_slots;
use crate::store::partition::{Table, ensure};
use crate::store::usage::{Order, Step, UsageRow};

const ALL: (i64, i64) = (i64::MIN, i64::MAX);

async fn read(db: &Db, host: HostId, slots: &[i64]) -> Stored {
    let mut reading = Reading::begin(db).await.unwrap();
    let mut stored = Stored::default();
    let by_slot = |rows: Vec<UsageRow>| rows.into_iter().map(|r| ((r.slot_ms, r.namespace), r));
    stored.usage = by_slot(reading.usage(host, Step::TenMinutes, ALL, 10_000).await.unwrap()).collect();
    stored.hours = by_slot(reading.usage(host, Step::Hour, ALL, 10_000).await.unwrap()).collect();
    stored.parts = reading.gap_parts(host, ALL, 10_000).await.unwrap();
    drop(reading);
    let mut connection = db.dedicated().await.unwrap();
    let mut tx = connection.write().await.unwrap();
    let owners = of_slots(&mut tx, host, slots).await.unwrap();
    stored.owners = owners.into_iter().map(|row| (row.slot_ms, row)).collect();
    tx.commit().await.unwrap();
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_in_steps_is_what_one_step_derives() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let postgres = Postgres::start(directory.path(), |_| {}, &CancellationToken::new()).await.unwrap();
    let db = Db::connect(postgres.options(), 2).await.unwrap();
    db.migrate().await.unwrap();
    let mut runner = TestRunner::deterministic();
    let mut connection = db.dedicated().await.unwrap();
    for table in [Table::Usage, Table::UsageHour, Table::OwnerUsage] {
        ensure(&mut connection, table, Day::FALLBACK).await.unwrap();
    }
    for (id, steps) in (1..).zip([1, 2, 3, 5].repeat(6)) {
        let host = HostId(id);
        let samples = taken(&world().new_tree(&mut runner).unwrap().current());
        let mut whole = Stored::default();
        whole.take(derive(host, &samples, (0, samples.len()), None));
        for from in (0..samples.len()).step_by(steps) {
            let derived = derive(host, &samples, (from, (from + steps).min(samples.len())), None);
            let mut tx = connection.write().await.unwrap();
            store(&mut tx, &derived, Order::Newest, &|_| Day::FALLBACK).await.unwrap();
            tx.commit().await.unwrap();
        }
        let slots: Vec<i64> = whole.owners.keys().copied().collect();
        let mut stored = read(&db, host, &slots).await;
        stored.parts.sort_by_key(|p| (p.seq, p.namespace));
        whole.parts.sort_by_key(|p| (p.seq, p.namespace));
        assert_eq!(stored, whole);
    }
    db.close().await;
    postgres.stop().await.unwrap();
}
