//! Table `gap_part`: spans in which one kind of objects of one namespace could not be read while samples were taken.

use highwater_ipc::object::Kind;
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::NamespaceId;
use sqlx::FromRow;

use super::StoreError;
use super::history::Reading;
use super::number::{bigint, unsigned};
use super::tx::Write;
use crate::host::HostId;

const CLOSE_SQL: &str = "UPDATE gap_part AS g SET to_wall_ms = c.to_wall_ms
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]::numeric[], $5::smallint[], $6::bigint[])
        AS c (host_id, epoch_no, namespace, instance, kind, to_wall_ms)
    WHERE g.host_id = c.host_id AND g.epoch_no = c.epoch_no AND g.namespace = c.namespace
      AND g.instance = c.instance AND g.kind = c.kind AND g.to_wall_ms IS NULL";

const CLOSE_ALL_SQL: &str =
    "UPDATE gap_part SET to_wall_ms = $3 WHERE host_id = $1 AND epoch_no = $2 AND to_wall_ms IS NULL";

/// An epoch is over once a later one of the agent has records, and nothing more comes of it once its tail has moved. What was
/// covered of it last is where the gap begins.
const CLOSE_ENDED_SQL: &str = "UPDATE gap_part AS g SET to_wall_ms = GREATEST(g.from_wall_ms, s.covered_wall_ms)
    FROM stream s WHERE g.host_id = $1 AND g.to_wall_ms IS NULL AND s.host_id = g.host_id AND s.epoch_no = g.epoch_no
        AND s.covered_wall_ms IS NOT NULL AND s.compacted_to >= s.framed_to
        AND EXISTS (SELECT FROM stream n WHERE n.host_id = s.host_id AND n.epoch_no > s.epoch_no
            AND n.after_epoch_no IS NULL AND n.next_seq > 0)";

const INSERT_SQL: &str = "INSERT INTO gap_part (host_id, epoch_no, seq, namespace, instance, kind, from_wall_ms,
        to_wall_ms, detail)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]::numeric[], $6::smallint[],
        $7::bigint[], $8::bigint[], $9::text[])
    ON CONFLICT (host_id, epoch_no, seq, namespace, instance, kind) DO UPDATE SET to_wall_ms = excluded.to_wall_ms";

const BETWEEN_SQL: &str = "SELECT epoch_no, seq, namespace, instance::text, kind, from_wall_ms, to_wall_ms, detail
    FROM gap_part WHERE host_id = $1 AND (to_wall_ms IS NULL OR to_wall_ms >= $2) AND from_wall_ms <= $3
    ORDER BY epoch_no, seq, namespace, instance, kind LIMIT $4";

/// One span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapPart {
    /// The host.
    pub host: HostId,
    /// The epoch.
    pub epoch: EpochNo,
    /// The first sample that could not read it.
    pub seq: Seq,
    /// Where.
    pub namespace: NamespaceId,
    /// What.
    pub kind: Kind,
    /// Last sample that read it, or the first that saw the namespace in its stretch: host's clock, milliseconds.
    pub from_wall_ms: i64,
    /// First sample that reads it again or sees that the namespace is gone, or the stretch's last; `None` = none yet. What is
    /// open when its epoch ends is ended by the first compaction that knows of a later one.
    pub to_wall_ms: Option<i64>,
    /// Why, escaped.
    pub detail: String,
}

/// The end of a span that began in an earlier step of compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartEnd {
    /// The host.
    pub host: HostId,
    /// The epoch.
    pub epoch: EpochNo,
    /// Where.
    pub namespace: NamespaceId,
    /// What.
    pub kind: Kind,
    /// When: as [`GapPart::to_wall_ms`].
    pub to_wall_ms: i64,
}

/// The end of a stretch, with which every span that is open in the epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StretchEnd {
    /// The host.
    pub host: HostId,
    /// The epoch.
    pub epoch: EpochNo,
    /// The stretch's last sample, host's clock, milliseconds.
    pub to_wall_ms: i64,
}

/// Ends every span of an epoch that is open.
pub async fn close_all(tx: &mut Write<'_>, end: StretchEnd) -> Result<(), StoreError> {
    let query = sqlx::query(CLOSE_ALL_SQL).bind(end.host.0).bind(bigint(end.epoch.0)).bind(end.to_wall_ms);
    query.execute(tx.connection()).await?;
    Ok(())
}

/// Ends every span of a host that is open in an epoch which is over: with that epoch, for nothing is known of the gap behind
/// it.
pub async fn close_ended(tx: &mut Write<'_>, host: HostId) -> Result<(), StoreError> {
    sqlx::query(CLOSE_ENDED_SQL).bind(host.0).execute(tx.connection()).await?;
    Ok(())
}

/// Ends spans: those of that place that are open.
pub async fn close(tx: &mut Write<'_>, ends: &[PartEnd]) -> Result<(), StoreError> {
    if ends.is_empty() {
        return Ok(());
    }
    sqlx::query(CLOSE_SQL)
        .bind(ends.iter().map(|e| e.host.0).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| bigint(e.epoch.0)).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| e.namespace.inode.cast_signed()).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| e.namespace.instance.to_string()).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| code(e.kind)).collect::<Vec<_>>())
        .bind(ends.iter().map(|e| e.to_wall_ms).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Adds spans.
pub async fn insert(tx: &mut Write<'_>, rows: &[GapPart]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(INSERT_SQL)
        .bind(rows.iter().map(|r| r.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.seq.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.namespace.inode.cast_signed()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.namespace.instance.to_string()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| code(r.kind)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.from_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.to_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.detail.as_str()).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

impl Reading {
    /// The spans of a host that share an instant with `from..=to` (its clock, milliseconds), in order, at most `most`.
    pub async fn gap_parts(
        &mut self,
        host: HostId,
        (from_ms, to_ms): (i64, i64),
        most: i64,
    ) -> Result<Vec<GapPart>, StoreError> {
        let query = sqlx::query_as(BETWEEN_SQL).bind(host.0).bind(from_ms).bind(to_ms).bind(most);
        let rows: Vec<Row> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(|row| row.domain(host)).collect()
    }
}

/// The number of a kind in the tables of what is derived.
pub(super) fn code(kind: Kind) -> i16 {
    match kind {
        Kind::Sem => 0,
        Kind::Shm => 1,
        Kind::Msg => 2,
    }
}

/// The kind of that number.
pub(super) fn kind(column: &'static str, number: i16) -> Result<Kind, StoreError> {
    let known = Kind::ALL.into_iter().find(|k| code(*k) == number);
    known.ok_or_else(|| StoreError::Corrupt { what: format!("{column} {number}") })
}

#[derive(FromRow)]
struct Row {
    epoch_no: i64,
    seq: i64,
    namespace: i64,
    instance: String,
    kind: i16,
    from_wall_ms: i64,
    to_wall_ms: Option<i64>,
    detail: String,
}

impl Row {
    fn domain(self, host: HostId) -> Result<GapPart, StoreError> {
        let instance =
            self.instance.parse().map_err(|_| StoreError::Corrupt { what: "gap_part.instance".to_owned() })?;
        Ok(GapPart {
            host,
            epoch: EpochNo(unsigned("gap_part.epoch_no", self.epoch_no)?),
            seq: Seq(unsigned("gap_part.seq", self.seq)?),
            namespace: NamespaceId { inode: self.namespace.cast_unsigned(), instance },
            kind: kind("gap_part.kind", self.kind)?,
            from_wall_ms: self.from_wall_ms,
            to_wall_ms: self.to_wall_ms,
            detail: self.detail,
        })
    }
}
