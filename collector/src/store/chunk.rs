//! Tables `chunk` and `chunk_fresh`: consecutive records of one stretch, packed. Rows are added and never changed; they go
//! with their partition.

use highwater_ipc::record::{EpochNo, Seq};

use super::StoreError;
use super::day::Day;
use super::number::{bigint, int};
use super::tx::Write;
use crate::host::HostId;

const INSERT_MERGED_SQL: &str = "INSERT INTO chunk (host_id, epoch_no, stretch, from_wall_ms, from_seq, week, to_seq,
        to_wall_ms, prev_wall_ms, records, baseline, objects, body)
    SELECT c.host_id, c.epoch_no, c.stretch, c.from_wall_ms, c.from_seq, DATE '1970-01-01' + c.part, c.to_seq,
        c.to_wall_ms, c.prev_wall_ms, c.records, c.baseline, c.objects, c.body
    FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::int[], $7::bigint[],
                $8::bigint[], $9::bigint[], $10::int[], $11::boolean[], $12::bytea[], $13::bytea[])
        AS c (host_id, epoch_no, stretch, from_wall_ms, from_seq, part, to_seq, to_wall_ms, prev_wall_ms, records, baseline, objects,
              body)";

const INSERT_FRESH_SQL: &str =
    "INSERT INTO chunk_fresh (host_id, epoch_no, stretch, from_wall_ms, from_seq, day, to_seq,
        to_wall_ms, prev_wall_ms, records, objects, body)
    SELECT c.host_id, c.epoch_no, c.stretch, c.from_wall_ms, c.from_seq, DATE '1970-01-01' + c.part, c.to_seq,
        c.to_wall_ms, c.prev_wall_ms, c.records, c.objects, c.body
    FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::bigint[], $5::bigint[], $6::int[], $7::bigint[],
                $8::bigint[], $9::bigint[], $10::int[], $11::bytea[], $12::bytea[])
        AS c (host_id, epoch_no, stretch, from_wall_ms, from_seq, part, to_seq, to_wall_ms, prev_wall_ms, records, objects, body)";

/// One chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The host.
    pub host: HostId,
    /// The epoch.
    pub epoch: EpochNo,
    /// The stretch all its records lie in.
    pub stretch: u32,
    /// Wall time of its first record, a sample, as stored.
    pub from_wall_ms: i64,
    /// Position of that record.
    pub from: Seq,
    /// Its partition: for a merged one the Monday that [`Day::week`] gives, for a fresh one the day itself.
    pub part: Day,
    /// Position of its last record.
    pub to: Seq,
    /// Wall time of that record.
    pub to_wall_ms: i64,
    /// Wall time of the epoch's sample before its first record; `None` = there is none.
    pub prev_wall_ms: Option<i64>,
    /// How many records it holds.
    pub records: u32,
    /// A copy of the last record before its week; only a merged chunk can be one.
    pub baseline: bool,
    /// What `find` looks at first.
    pub objects: Vec<u8>,
    /// The records, packed by `highwater_ipc::chunk`.
    pub body: Vec<u8>,
}

/// Adds chunks that are there to stay.
pub async fn insert_merged(tx: &mut Write<'_>, rows: &[Chunk]) -> Result<(), StoreError> {
    sqlx::query(INSERT_MERGED_SQL)
        .bind(rows.iter().map(|c| c.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| bigint(c.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| int(c.stretch)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.from_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| bigint(c.from.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.part.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| bigint(c.to.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.to_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.prev_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| int(c.records)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.baseline).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| &c.objects[..]).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| &c.body[..]).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Adds small chunks that are to be merged.
pub async fn insert_fresh(tx: &mut Write<'_>, rows: &[Chunk]) -> Result<(), StoreError> {
    sqlx::query(INSERT_FRESH_SQL)
        .bind(rows.iter().map(|c| c.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| bigint(c.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| int(c.stretch)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.from_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| bigint(c.from.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.part.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| bigint(c.to.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.to_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| c.prev_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| int(c.records)).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| &c.objects[..]).collect::<Vec<_>>())
        .bind(rows.iter().map(|c| &c.body[..]).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}
