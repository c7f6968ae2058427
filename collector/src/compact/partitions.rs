//! Makes the coming partitions and drops those that hold nothing any more, off the path of ingest.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use crate::store::StoreError;
use crate::store::day::Day;
use crate::store::partition::{self, Dropped, Table};
use crate::store::tx::Dedicated;

/// How far ahead of the collector's clock partitions are made. An empty one costs 24 to 32 KiB, so no more than what a
/// night of failures could need.
const AHEAD_DAYS: i32 = 2;
/// A day is over so long after its end: until then records of it still come.
const OVER_AFTER_MS: i64 = 2 * 3_600_000;
/// Pauses between the tries to drop one partition; then it waits for the next round. Each try holds ingest up for
/// [`tx::BRIEF_MS`](crate::store::tx::BRIEF_MS) at most, so the pauses are long against that.
const PAUSES_MS: [u64; 5] = [250, 500, 1_000, 2_000, 4_000];

/// The partitions that there must be: those of now, and those that begin within [`AHEAD_DAYS`].
pub fn due(now_ms: i64) -> Vec<(Table, Day)> {
    let today = Day::of(now_ms);
    let days = (0..=AHEAD_DAYS).map(|ahead| today.plus(ahead));
    let mut due: Vec<_> = Table::ALL.iter().flat_map(|t| days.clone().map(|day| (*t, t.first(day)))).collect();
    due.dedup();
    due
}

/// Whether a day of `frame` or `chunk_fresh` is over, so that it may go once all of it lies elsewhere.
pub fn is_over(table: Table, first: Day, now_ms: i64) -> bool {
    let end_ms = table.next(first).start_ms();
    end_ms.saturating_add(OVER_AFTER_MS) <= now_ms
}

/// Makes the partitions that are due.
pub async fn make(connection: &mut Dedicated, now_ms: i64) -> Result<(), StoreError> {
    for table in Table::ALL {
        let there = partition::list(connection, table).await?;
        for (_, first) in due(now_ms).into_iter().filter(|(t, first)| *t == table && !there.contains(first)) {
            partition::ensure(connection, table, first).await?;
        }
    }
    Ok(())
}

/// Makes those of these partitions that are not there.
pub async fn ensure_all(connection: &mut Dedicated, parts: BTreeSet<(Table, Day)>) -> Result<(), StoreError> {
    for (table, day) in parts {
        partition::ensure(connection, table, day).await?;
    }
    Ok(())
}

/// Drops the days of `frame` and `chunk_fresh` of which everything lies elsewhere; says how many went.
pub async fn drop_moved(connection: &mut Dedicated, now_ms: i64) -> Result<usize, StoreError> {
    let mut gone = 0;
    for table in [Table::Frame, Table::ChunkFresh] {
        for first in partition::list(connection, table).await? {
            if !is_over(table, first, now_ms) || partition::is_wanted(connection, table, first).await? {
                continue;
            }
            gone += usize::from(drop_patiently(connection, table, first).await? == Dropped::Gone);
        }
    }
    Ok(gone)
}

/// Tries to drop one partition, with pauses, until it is gone, wanted, or too often in use.
pub async fn drop_patiently(connection: &mut Dedicated, table: Table, first: Day) -> Result<Dropped, StoreError> {
    for pause in PAUSES_MS.map(Some).into_iter().chain([None]) {
        let dropped = partition::drop_if(connection, table, first).await?;
        match (dropped, pause) {
            (Dropped::Busy, Some(pause)) => tokio::time::sleep(Duration::from_millis(pause)).await,
            (Dropped::Busy, None) => {
                warn!(table = table.name(), day = first.0, "a partition is always in use: dropped another time");
            }
            (Dropped::Gone, _) => {
                info!(table = table.name(), day = first.0, "dropped the partition of a day (since 1970)");
                return Ok(dropped);
            }
            (Dropped::Wanted, _) => return Ok(dropped),
        }
    }
    Ok(Dropped::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-12-30T12:00:00Z, a Wednesday.
    const NOW: i64 = 1_798_632_000_000;

    #[test]
    fn few_partitions_are_made_ahead_and_none_is_missed_at_a_border() {
        let of = |table| due(NOW).into_iter().filter(|(t, _)| *t == table).map(|(_, d)| d.0).collect::<Vec<_>>();
        assert_eq!(of(Table::Frame), [20_817, 20_818, 20_819]);
        assert_eq!(of(Table::Chunk), [20_815]);
        // The first of January 2027 is two days ahead.
        assert_eq!(of(Table::Usage), [20_788, 20_819]);
        assert_eq!(of(Table::UsageHour), [20_454, 20_819]);
    }

    #[test]
    fn a_day_is_over_two_hours_after_its_end() {
        let day = Day::of(NOW);
        let end = i64::from(day.0 + 1) * 86_400_000;
        assert!(!is_over(Table::Frame, day, end + OVER_AFTER_MS - 1));
        assert!(is_over(Table::Frame, day, end + OVER_AFTER_MS));
    }
}
