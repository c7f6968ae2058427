//! Makes partitions where something is to be stored and drops those that hold nothing any more. Only days of `frame` are made
//! ahead, by the writer: nobody waits for the others, and an empty one costs 8 to 24 KiB.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::{info, warn};

use crate::store::StoreError;
use crate::store::day::Day;
use crate::store::partition::{self, Dropped, Table};
use crate::store::tx::Dedicated;

/// A day is over so long after its end: until then records of it still come.
const OVER_AFTER_MS: i64 = 2 * 3_600_000;
/// Pauses between the tries to drop one partition; then it waits for the next round. Each try holds ingest up for
/// [`tx::BRIEF_MS`](crate::store::tx::BRIEF_MS) at most, so the pauses are long against that.
const PAUSES_MS: [u64; 5] = [250, 500, 1_000, 2_000, 4_000];

/// Whether a day of `frame` or `chunk_fresh` is over, so that it may go once all of it lies elsewhere.
pub fn is_over(table: Table, first: Day, now_ms: i64) -> bool {
    let end_ms = table.next(first).start_ms();
    end_ms.saturating_add(OVER_AFTER_MS) <= now_ms
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
            match drop_patiently(connection, table, first).await? {
                Dropped::Gone => gone += 1,
                Dropped::Wanted => {}
                // Whoever reads so long reads the others as well.
                Dropped::Busy => return Ok(gone),
            }
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
    fn a_day_is_over_two_hours_after_its_end() {
        let day = Day::of(NOW);
        let end = i64::from(day.0 + 1) * 86_400_000;
        assert!(!is_over(Table::Frame, day, end + OVER_AFTER_MS - 1));
        assert!(is_over(Table::Frame, day, end + OVER_AFTER_MS));
    }
}
