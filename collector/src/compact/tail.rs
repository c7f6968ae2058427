//! One epoch's tail becomes fresh chunks, and with them what is derived from its states. Idempotent: what another collector
//! has moved meanwhile stays as that left it.

use highwater_ipc::record::EpochNo;

use super::pack::Packer;
use super::{CompactError, Held};
use crate::host::HostId;
use crate::query::fold::{Said, read};
use crate::query::past::{Record, state_until};
use crate::store::chunk::{self, Chunk};
use crate::store::compaction::{self, Marks, Of};
use crate::store::history::{Reading, TailRecord, Until};
use crate::store::link::Link;
use crate::store::partition::{self, Table};
use crate::store::{Db, StoreError};

/// The most records and bytes of bodies that one step takes; what is left waits for the next.
const MOST_RECORDS: usize = 2_048;
const MOST_BYTES: usize = 32 << 20;
/// Records asked for at once: a body can have 16 MiB.
const PAGE: i64 = 64;

/// What became of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many records moved; `more` = there are more of them.
    Some {
        /// How many.
        records: usize,
        /// Whether records are left.
        more: bool,
    },
    /// There was nothing to move, or somebody else has moved it.
    Nothing,
}

/// Compacts the tail of one epoch, as far as one step goes.
pub async fn compact(db: &Db, link: &mut Link, of: Of, held: &Held) -> Result<Moved, CompactError> {
    let mut reading = Reading::begin(db).await?;
    let Some(marks) = reading.marks(of).await?.filter(|m| m.framed > m.compacted) else { return Ok(Moved::Nothing) };
    let tail = read_tail(&mut reading, of, marks).await?;
    let before = before(&mut reading, of, tail.first()).await?;
    drop(reading);
    let to = tail.last().map_or(marks.framed, |last| last.record.seq.next());
    let records = tail.len();
    let chunks = pack(of, before, tail)?;
    for day in chunks.iter().map(|c| c.part) {
        link.run(move |connection| Box::pin(partition::ensure(connection, Table::ChunkFresh, day))).await?;
    }
    let held = held.clone();
    let step = (marks.compacted, to);
    let stored = link.run(move |connection| {
        Box::pin(async move {
            let mut tx = connection.write().await?;
            if !held.still(&mut tx).await? {
                return Ok(None);
            }
            if !compaction::move_compacted(&mut tx, of, step).await? {
                return Ok(Some(false));
            }
            chunk::insert_fresh(&mut tx, &chunks).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(Some(true))
        })
    });
    match stored.await? {
        None => Err(CompactError::LeaseLost),
        Some(false) => Ok(Moved::Nothing),
        Some(true) => Ok(Moved::Some { records, more: to < marks.framed }),
    }
}

async fn read_tail(reading: &mut Reading, of: Of, marks: Marks) -> Result<Vec<TailRecord>, StoreError> {
    let mut tail: Vec<TailRecord> = Vec::new();
    let mut bytes = 0_usize;
    while tail.len() < MOST_RECORDS && bytes < MOST_BYTES {
        let from = tail.last().map_or(marks.compacted, |last| last.record.seq.next());
        let page = reading.tail(of.0, (of.1, from), PAGE).await?;
        if page.is_empty() {
            break;
        }
        bytes = page.iter().fold(bytes, |sum, t| sum.saturating_add(t.record.body.len()));
        tail.extend(page);
    }
    Ok(tail)
}

/// The sample before the first record of a tail, where its stretch has one.
async fn before(
    reading: &mut Reading,
    (host, epoch): (HostId, EpochNo),
    first: Option<&TailRecord>,
) -> Result<Option<(u32, Record)>, CompactError> {
    let Some(first) = first else { return Ok(None) };
    let number = i32::try_from(first.stretch).unwrap_or(i32::MAX);
    let Some(stretch) = reading.stretch(host, (epoch, number)).await? else { return Ok(None) };
    let found = state_until(reading, host, &stretch, Until::Before(first.record.seq)).await?;
    Ok(found.map(|found| (first.stretch, found.into_record())))
}

/// Folds a tail into chunks.
fn pack(
    (host, epoch): (HostId, EpochNo),
    before: Option<(u32, Record)>,
    tail: Vec<TailRecord>,
) -> Result<Vec<Chunk>, CompactError> {
    let mut latest = before.clone().map(|(_, record)| record);
    let mut packer = Packer::new(host, epoch, before);
    for TailRecord { stretch, day, record } in tail {
        let state = latest.as_ref().and_then(Record::state);
        let said = read(state, &record)?;
        let (seq, kind) = (record.seq, record.kind);
        let (wall_ms, prev_wall_ms, received_ms) = (record.wall_ms, record.prev_wall_ms, record.received_ms);
        let record = Record { seq, kind, wall_ms, prev_wall_ms, received_ms, said };
        packer.take(stretch, (day, day), &record)?;
        if matches!(record.said, Said::Sample { .. }) {
            latest = Some(record);
        }
    }
    Ok(packer.finish())
}
