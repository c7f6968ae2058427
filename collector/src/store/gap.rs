//! Table `gap`: closed spans without samples.

use highwater_ipc::record::{EpochNo, GapReason, Seq};

use super::StoreError;
use super::number::bigint;
use super::tx::Write;
use crate::host::HostId;

const INSERT_SQL: &str = "INSERT INTO gap (host_id, epoch_no, seq, from_wall_ms, to_wall_ms, reason, detail)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[],
        $7::text[])";

/// One closed span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The host.
    pub host: HostId,
    /// Epoch of the record that closes it.
    pub epoch: EpochNo,
    /// Position of the record that closes it.
    pub seq: Seq,
    /// Wall time of the last sample before; `None` = before the host's first.
    pub from_wall_ms: Option<i64>,
    /// Wall time of the first sample after.
    pub to_wall_ms: i64,
    /// Why.
    pub reason: GapReason,
    /// More words, escaped; may be empty.
    pub detail: String,
}

/// Adds gaps.
pub async fn insert(tx: &mut Write<'_>, rows: &[&Gap]) -> Result<(), StoreError> {
    sqlx::query(INSERT_SQL)
        .bind(rows.iter().map(|r| r.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.seq.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.from_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.to_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| i16::from(r.reason.code())).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.detail.as_str()).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}
