//! What was derived, stored step by step in a database, against the same kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{BootId, NamespaceId};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::derive::Derived;
use super::derive::tests::{Stored, derive, taken, world};
use super::derived::store;
use crate::embedded::supervise::Postgres;
use crate::host::HostId;
use crate::query::capacity::marks::Mark;
use crate::query::capacity::pack::Pack;
use crate::store::Db;
use crate::store::day::Day;
use crate::store::history::Reading;
use crate::store::owner_usage::{Held, OwnerHeld, OwnerKey, OwnerRow, of_slots};
use crate::store::partition::{Table, ensure};
use crate::store::tx::Dedicated;
use crate::store::usage::{Order, Step, UsageRow, Used};
use crate::store::usage_pack::{PackKey, of_keys};

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

/// A server of its own with a database that takes slots of any time.
async fn database() -> (tempfile::TempDir, Postgres, Db) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let postgres = Postgres::start(directory.path(), |_| {}, &CancellationToken::new()).await.unwrap();
    let db = Db::connect(postgres.options(), 2).await.unwrap();
    db.migrate().await.unwrap();
    let mut connection = db.dedicated().await.unwrap();
    for table in Table::SERIES {
        ensure(&mut connection, table, Day::FALLBACK).await.unwrap();
    }
    (directory, postgres, db)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_in_steps_is_what_one_step_derives() {
    let (_directory, postgres, db) = database().await;
    let mut runner = TestRunner::deterministic();
    let mut connection = db.dedicated().await.unwrap();
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
        assert_eq!(packed(&mut connection, host, &stored).await, by_resource(&stored));
    }
    db.close().await;
    postgres.stop().await.unwrap();
}

/// What each resource of each namespace used, by the hour.
type ByResource = BTreeMap<(NamespaceId, usize), Vec<Mark>>;

/// As `usage_hour` says it.
fn by_resource(stored: &Stored) -> ByResource {
    let mut all = ByResource::new();
    for row in stored.hours.values() {
        for (at, used) in row.used.iter().enumerate() {
            let hour = row.slot_ms.div_euclid(Step::Hour.length_ms());
            let mark = Mark { hour, last: used.last, most: used.most.max(used.last) };
            all.entry((row.namespace, at)).or_default().push(mark);
        }
    }
    all
}

/// As `usage_pack` says it.
async fn packed(connection: &mut Dedicated, host: HostId, stored: &Stored) -> ByResource {
    let keys: BTreeSet<PackKey> = stored
        .hours
        .values()
        .map(|row| PackKey::of((row.namespace, row.own), row.slot_ms, &|_| Day::FALLBACK))
        .collect();
    let mut tx = connection.write().await.unwrap();
    let rows = of_keys(&mut tx, host, &keys.into_iter().collect::<Vec<_>>()).await.unwrap();
    tx.commit().await.unwrap();
    let mut all = ByResource::new();
    for row in rows {
        let pack = Pack::read(&row.body).unwrap();
        (0..5).for_each(|at| pack.marks(at, all.entry((row.key.namespace, at)).or_default()));
        let newest = stored.hours.values().rfind(|hour| hour.namespace == row.key.namespace).unwrap();
        if newest.slot_ms.div_euclid(Step::Hour.length_ms()) == pack.newest {
            assert_eq!((pack.limits, row.key.own), (newest.used.map(|used| used.limit), newest.own));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_do_not_read_are_packed_anew_and_keep_no_history_waiting() {
    let (_directory, postgres, db) = database().await;
    let mut connection = db.dedicated().await.unwrap();
    let namespace = NamespaceId { inode: 1, instance: 2 };
    let row = |slot_ms| UsageRow { host: HostId(1), namespace, slot_ms, own: true, used: [Used::default(); 5] };
    for (slot_ms, hours) in [(0, 1), (3_600_000, 2), (7_200_000, 1)] {
        let derived = Derived { usage_hour: vec![row(slot_ms)], ..Derived::default() };
        let mut tx = connection.write().await.unwrap();
        store(&mut tx, &derived, Order::Newest, &|_| Day::FALLBACK).await.unwrap();
        let rows = of_keys(&mut tx, HostId(1), &[PackKey::of((namespace, true), 0, &|_| Day::FALLBACK)]).await.unwrap();
        let mut marks = Vec::new();
        Pack::read(&rows[0].body).unwrap().marks(0, &mut marks);
        assert_eq!(marks.len(), hours);
        tx.commit().await.unwrap();
        if slot_ms > 0 {
            let mut other = PgConnection::connect_with(&postgres.options()).await.unwrap();
            sqlx::query("UPDATE usage_pack SET body = 'x'").execute(&mut other).await.unwrap();
        }
    }
    db.close().await;
    postgres.stop().await.unwrap();
}

/// An agent that is moved to another namespace and still sees the one it was in.
#[tokio::test(flavor = "multi_thread")]
async fn hours_of_a_namespace_that_was_the_hosts_own_stay_so() {
    let (_directory, postgres, db) = database().await;
    let mut connection = db.dedicated().await.unwrap();
    let namespace = NamespaceId { inode: 1, instance: 2 };
    let row = |(slot_ms, own)| UsageRow { host: HostId(1), namespace, slot_ms, own, used: [Used::default(); 5] };
    let usage_hour = [(0, true), (3_600_000, true), (7_200_000, false)].map(row).into();
    let mut tx = connection.write().await.unwrap();
    let derived = Derived { usage_hour, ..Derived::default() };
    store(&mut tx, &derived, Order::Newest, &|_| Day::FALLBACK).await.unwrap();
    let keys = [true, false].map(|own| PackKey::of((namespace, own), 0, &|_| Day::FALLBACK));
    let rows = of_keys(&mut tx, HostId(1), &keys).await.unwrap();
    let mut told: Vec<_> =
        rows.iter().map(|row| (row.key.own, Pack::read(&row.body).map(|pack| (pack.first, pack.newest)))).collect();
    told.sort_by_key(|(own, _)| !own);
    assert_eq!(told, [(true, Ok((0, 1))), (false, Ok((2, 2)))]);
    tx.commit().await.unwrap();
    db.close().await;
    postgres.stop().await.unwrap();
}

fn holds(uid: u32, objects: u64) -> Derived {
    let own = NamespaceId { inode: 1, instance: 0 };
    let held = Held { objects, ..Held::default() };
    let owner = OwnerHeld { user: None, now: Some(held), most: objects };
    let key = OwnerKey { namespace: own, kind: Kind::Sem, uid, comm: None };
    let row = OwnerRow {
        host: HostId(1),
        slot_ms: 0,
        wall_ms: 1,
        boot_id: BootId([7; 16]),
        own: Some(own),
        owners: [(key, owner)].into(),
        unknown: BTreeSet::new(),
        cut: false,
    };
    Derived { owners: vec![row], ..Derived::default() }
}

/// Whether somebody waits for a row of another's transaction.
async fn somebody_waits(watcher: &mut PgConnection) -> bool {
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')";
    sqlx::query_scalar(waits).fetch_one(watcher).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_and_an_import_that_come_to_one_hour_at_once_lose_nothing_of_each_other() {
    let (_directory, postgres, db) = database().await;
    let mut connection = db.dedicated().await.unwrap();
    let mut watcher = PgConnection::connect_with(&postgres.options()).await.unwrap();
    let mut most = BTreeMap::new();
    // The row is not there at first, and then it is.
    for (mine, other) in [((1, 5), (2, 7)), ((1, 9), (2, 11))] {
        let mut tx = connection.write().await.unwrap();
        store(&mut tx, &holds(mine.0, mine.1), Order::Newest, &|_| Day::FALLBACK).await.unwrap();
        let import = tokio::spawn({
            let db = db.clone();
            async move {
                let mut connection = db.dedicated().await.unwrap();
                let mut tx = connection.write().await.unwrap();
                store(&mut tx, &holds(other.0, other.1), Order::Filling, &|_| Day::FALLBACK).await.unwrap();
                tx.commit().await.unwrap();
            }
        });
        while !somebody_waits(&mut watcher).await {
            tokio::task::yield_now().await;
        }
        tx.commit().await.unwrap();
        import.await.unwrap();
        most.extend([mine, other]);
        let stored = read(&db, HostId(1), &[0]).await;
        let stored = stored.owners[&0].owners.iter().map(|(key, held)| (key.uid, held.most));
        assert_eq!(stored.collect::<BTreeMap<_, _>>(), most);
    }
    db.close().await;
    postgres.stop().await.unwrap();
}
