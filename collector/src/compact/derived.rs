//! Stores what was derived, in the transaction that moves the tail.

use std::collections::BTreeSet;

use super::derive::{Derived, merge};
use crate::store::day::Day;
use crate::store::owner_usage::OwnerRow;
use crate::store::partition::Table;
use crate::store::tx::Write;
use crate::store::usage::{Order, Step};
use crate::store::{StoreError, gap_part, owner_usage, usage};

/// Stores what follows from a step, merged with what is there. `place` gives the day of a slot's partition: the believed
/// day, or [`Day::FALLBACK`]; the partitions of its month and year must be there.
pub async fn store(
    tx: &mut Write<'_>,
    derived: &Derived,
    order: Order,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<(), StoreError> {
    usage::upsert(tx, Step::TenMinutes, &derived.usage, order, place).await?;
    usage::upsert(tx, Step::Hour, &derived.usage_hour, order, place).await?;
    owners(tx, &derived.owners, order, place).await?;
    if let Some(end) = derived.stretch_end {
        gap_part::close_all(tx, end).await?;
    }
    gap_part::close(tx, &derived.part_ends).await?;
    gap_part::insert(tx, &derived.parts).await
}

/// The partitions that these rows go to.
pub fn partitions<'d>(
    derived: impl IntoIterator<Item = &'d Derived>,
    place: &dyn Fn(i64) -> Day,
) -> BTreeSet<(Table, Day)> {
    let mut parts = BTreeSet::new();
    for Derived { usage, usage_hour, owners, .. } in derived {
        parts.extend(usage.iter().map(|row| (Table::Usage, place(row.slot_ms).month())));
        parts.extend(usage_hour.iter().map(|row| (Table::UsageHour, place(row.slot_ms).year())));
        parts.extend(owners.iter().map(|row| (Table::OwnerUsage, place(row.slot_ms).month())));
    }
    parts
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
