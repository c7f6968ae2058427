//! The fresh chunks of days that are over become few large ones. Idempotent like [`super::tail`].

use highwater_ipc::record::Seq;

use super::pack::Packer;
use super::tail::Moved;
use super::{CompactError, Held, partitions};
use crate::query::fold::Said;
use crate::query::past::Unpacking;
use crate::query::raw;
use crate::store::chunk;
use crate::store::compaction::{self, Fresh, Of};
use crate::store::day::Day;
use crate::store::history::Reading;
use crate::store::link::Link;
use crate::store::partition::Table;
use crate::store::{Db, StoreError};

/// The most fresh chunks that one step merges: a day of one every ten minutes, several times over.
const MOST_CHUNKS: i64 = 1_024;

/// Merges the fresh chunks of one epoch that come before the first one of `today` or later.
pub async fn merge(db: &Db, link: &mut Link, of: Of, today: Day, held: &Held) -> Result<Moved, CompactError> {
    let mut reading = Reading::begin(db).await?;
    let Some(marks) = reading.marks(of).await?.filter(|m| m.compacted > m.merged) else { return Ok(Moved::Nothing) };
    let mut fresh = reading.fresh(of, marks.merged, MOST_CHUNKS).await?;
    drop(reading);
    let more = i64::try_from(fresh.len()).unwrap_or(i64::MAX) == MOST_CHUNKS;
    let due = fresh.iter().position(|f| f.day >= today).unwrap_or(fresh.len());
    fresh.truncate(due);
    let Some(last) = fresh.last() else { return Ok(Moved::Nothing) };
    let to = last.packed.to.next();
    let (chunks, records) = repack(of, marks.merged, fresh)?;
    let parts = chunks.iter().map(|c| (Table::Chunk, c.part)).collect();
    link.run(move |connection| Box::pin(partitions::ensure_all(connection, parts))).await?;
    let held = held.clone();
    let step = (marks.merged, to);
    let stored = link.run(move |connection| {
        Box::pin(async move {
            let mut tx = connection.write().await?;
            if !held.still(&mut tx).await? {
                tx.rollback().await?;
                return Ok(None);
            }
            if !compaction::move_merged(&mut tx, of, step).await? {
                tx.rollback().await?;
                return Ok(Some(false));
            }
            chunk::insert_merged(&mut tx, &chunks).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(Some(true))
        })
    });
    match stored.await? {
        None => Err(CompactError::LeaseLost),
        Some(false) => Ok(Moved::Nothing),
        Some(true) => Ok(Moved::Some { records, more }),
    }
}

/// Reads chunks one after the other and packs their records anew.
fn repack((host, epoch): Of, from: Seq, fresh: Vec<Fresh>) -> Result<(Vec<chunk::Chunk>, usize), CompactError> {
    let mut packer: Option<Packer> = None;
    let mut records = 0_usize;
    for Fresh { stretch, day, packed } in fresh {
        // From its own first record on: where that lies in a chunk before it, it says what the host held.
        let first = packed.from;
        if raw::is_raw(&packed.body) {
            records = records.saturating_add(1);
            packer.get_or_insert_with(|| Packer::new(host, epoch, None)).keep_raw(stretch, day.week(), &packed);
            continue;
        }
        let mut unpacking = Unpacking::new(packed, first)?;
        while let Some(record) = unpacking.next_until(i64::MAX)? {
            let repeats = record.seq < from || packer.as_ref().is_some_and(|p| p.has(record.seq));
            if repeats {
                if matches!(record.said, Said::Sample { .. }) && packer.is_none() {
                    packer = Some(Packer::new(host, epoch, Some((stretch, record))));
                }
                continue;
            }
            records = records.saturating_add(1);
            let packer = packer.get_or_insert_with(|| Packer::new(host, epoch, None));
            packer.take(stretch, (day, day.week()), &record)?;
        }
    }
    Ok((packer.map(Packer::finish).unwrap_or_default(), records))
}
