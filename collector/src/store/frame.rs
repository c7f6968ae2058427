//! Table `frame`: the records that say something.

use std::sync::Arc;

use highwater_ipc::record::{EpochNo, RecordKind, Seq};

use super::StoreError;
use super::day::Day;
use super::number::{bigint, int};
use super::stream::Base;
use super::tx::Write;
use crate::host::HostId;

/// No ON CONFLICT: the guard decides what is new, and a row that is there already would be a defect to hear of.
const INSERT_SQL: &str =
    "INSERT INTO frame (host_id, epoch_no, seq, day, kind, stretch, wall_ms, boot_us, prev_wall_ms,
        base_seq, base_day, received_ms, body)
    SELECT f.host_id, f.epoch_no, f.seq, DATE '1970-01-01' + f.day, f.kind, f.stretch, f.wall_ms, f.boot_us,
        f.prev_wall_ms, f.base_seq, DATE '1970-01-01' + f.base_day, $13, f.body
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::smallint[], $6::int[], $7::bigint[],
                $8::bigint[], $9::bigint[], $10::bigint[], $11::int[], $12::bytea[])
        AS f (host_id, epoch_no, seq, day, kind, stretch, wall_ms, boot_us, prev_wall_ms, base_seq, base_day, body)";

/// One stored record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The host.
    pub host: HostId,
    /// The epoch.
    pub epoch: EpochNo,
    /// Its position.
    pub seq: Seq,
    /// Its partition.
    pub day: Day,
    /// What the body is.
    pub kind: RecordKind,
    /// The stretch it lies in.
    pub stretch: u32,
    /// Host's wall clock, never falling within a stretch.
    pub wall_ms: i64,
    /// Host's boot clock.
    pub boot_us: u64,
    /// Wall time of the epoch's sample before it.
    pub prev_wall_ms: Option<i64>,
    /// The keyframe it builds on (itself, if it is one).
    pub base: Base,
    /// Packed body.
    pub body: Arc<[u8]>,
}

/// Adds frames. Only `writer/commit.rs` calls this, after the guard has moved.
pub async fn insert(tx: &mut Write<'_>, rows: &[&Frame], received_ms: i64) -> Result<(), StoreError> {
    sqlx::query(INSERT_SQL)
        .bind(rows.iter().map(|f| f.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| bigint(f.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| bigint(f.seq.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| f.day.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| i16::from(f.kind.code())).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| int(f.stretch)).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| f.wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| bigint(f.boot_us)).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| f.prev_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| bigint(f.base.seq.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| f.base.day.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|f| &f.body[..]).collect::<Vec<_>>())
        .bind(received_ms)
        .execute(tx.connection())
        .await?;
    Ok(())
}
