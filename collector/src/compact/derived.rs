//! Stores what was derived, in the transaction that moves the tail.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;

use tracing::warn;

use super::derive::{Derived, merge};
use crate::query::capacity::pack::{Hours, Pack, merged};
use crate::store::day::Day;
use crate::store::owner_usage::OwnerRow;
use crate::store::partition::Table;
use crate::store::tx::Write;
use crate::store::usage::{Order, Step, UsageRow};
use crate::store::usage_pack::{PackKey, PackRow};
use crate::store::{StoreError, gap_part, owner_usage, usage, usage_pack};

/// Stores what follows from a step, merged with what is there. `place` gives the day of a slot's partition: the believed
/// day, or [`Day::FALLBACK`]; the partitions of its month and year must be there.
pub async fn store(
    tx: &mut Write<'_>,
    derived: &Derived,
    order: Order,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<(), StoreError> {
    store_all(tx, slice::from_ref(derived), order, place).await
}

/// The same of several runs of one host. Table after table, as each step takes its locks: run after run would wait for a
/// step that waits for it.
pub async fn store_all(
    tx: &mut Write<'_>,
    all: &[Derived],
    order: Order,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<(), StoreError> {
    for derived in all {
        usage::upsert(tx, Step::TenMinutes, &derived.usage, order, place).await?;
    }
    for derived in all {
        usage::upsert(tx, Step::Hour, &derived.usage_hour, order, place).await?;
    }
    for derived in all {
        packs(tx, &derived.usage_hour, order, place).await?;
    }
    for derived in all {
        owners(tx, &derived.owners, order, place).await?;
    }
    for derived in all {
        if let Some(end) = derived.stretch_end {
            gap_part::close_all(tx, end).await?;
        }
        gap_part::close(tx, &derived.part_ends).await?;
        gap_part::insert(tx, &derived.parts).await?;
    }
    Ok(())
}

/// The partitions that these rows go to.
pub fn partitions<'d>(
    derived: impl IntoIterator<Item = &'d Derived>,
    place: &dyn Fn(i64) -> Day,
) -> BTreeSet<(Table, Day)> {
    let mut parts = BTreeSet::new();
    for Derived { usage, usage_hour, owners, .. } in derived {
        parts.extend(usage.iter().map(|row| (Table::Usage, place(row.slot_ms).month())));
        for table in [Table::UsageHour, Table::UsagePack] {
            parts.extend(usage_hour.iter().map(|row| (table, place(row.slot_ms).year())));
        }
        parts.extend(owners.iter().map(|row| (Table::OwnerUsage, place(row.slot_ms).month())));
    }
    parts
}

/// The hours once more, four days in a row. As with [`owners`], a row is read under its lock.
async fn packs(
    tx: &mut Write<'_>,
    rows: &[UsageRow],
    order: Order,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<(), StoreError> {
    let Some(host) = rows.first().map(|row| row.host) else { return Ok(()) };
    let mut waiting: BTreeMap<PackKey, Vec<Hours>> = BTreeMap::new();
    for row in rows {
        let key = PackKey::of((row.namespace, row.own), row.slot_ms, place);
        let hour = row.slot_ms.div_euclid(Step::Hour.length_ms());
        waiting.entry(key).or_default().push(Hours { hour, used: row.used });
    }
    while !waiting.is_empty() {
        let keys: Vec<PackKey> = waiting.keys().copied().collect();
        let stored = usage_pack::of_keys(tx, host, &keys).await?;
        for key in keys {
            let Some(hours) = waiting.get(&key) else { continue };
            let there = stored.iter().find(|there| there.key == key);
            // One that does not read begins anew: `usage_hour` has its hours still, and history does not wait for it.
            let read = there.and_then(|there| {
                Pack::read(&there.body).inspect_err(|why| warn!(%host, ?key, %why, "hours of use are packed anew")).ok()
            });
            let body = merged(read.as_ref(), hours, order);
            let row = PackRow { key, body: body.bytes };
            if usage_pack::put(tx, host, &row, (there.is_some(), body.is_there)).await? {
                waiting.remove(&key);
            }
        }
    }
    Ok(())
}

/// The maxima of arrays are merged here: in SQL it would take a join of unnested arrays. An import can come to the same
/// hour as compaction does: a row is read under its lock, and whoever finds that somebody else made it reads again.
async fn owners(
    tx: &mut Write<'_>,
    rows: &[OwnerRow],
    order: Order,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<(), StoreError> {
    let Some(host) = rows.first().map(|row| row.host) else { return Ok(()) };
    let mut waiting: Vec<&OwnerRow> = rows.iter().collect();
    while !waiting.is_empty() {
        let slots: Vec<i64> = waiting.iter().map(|row| row.slot_ms).collect();
        let stored = owner_usage::of_slots(tx, host, &slots).await?;
        let mut again = Vec::new();
        for row in waiting {
            let there = stored.iter().find(|there| there.slot_ms == row.slot_ms);
            let merged = match there.cloned() {
                None => row.clone(),
                Some(there) if order == Order::Filling => merge(row.clone(), there),
                Some(there) => merge(there, row.clone()),
            };
            if !owner_usage::put(tx, &merged, there.is_some(), place).await? {
                again.push(row);
            }
        }
        waiting = again;
    }
    Ok(())
}
