//! What compaction and merging ask and move: the marks of `stream`, and the fresh chunks of one epoch.

use highwater_ipc::record::{EpochNo, Seq};
use sqlx::FromRow;

use super::StoreError;
use super::day::Day;
use super::history::{Packed, Reading};
use super::number::{bigint, unsigned};
use super::tx::Write;
use crate::host::HostId;

// An epoch's first uncompacted record is old enough, or there are many: seq counts heartbeats as well, so many is a guess
// that costs nothing but an early compaction.
/// Where a limit is reached, or use has moved by some percent of one since the evaluator looked last, it looks soon.
const TAILS_DUE_SQL: &str = "SELECT s.host_id, s.epoch_no FROM stream s
    CROSS JOIN LATERAL (SELECT f.received_ms FROM frame f WHERE f.host_id = s.host_id AND f.epoch_no = s.epoch_no
        AND f.seq >= s.compacted_to ORDER BY f.seq LIMIT 1) AS oldest
    WHERE s.framed_to > s.compacted_to
        AND (oldest.received_ms <= $1 OR s.framed_to - s.compacted_to >= $2 OR oldest.received_ms > $3
            OR oldest.received_ms <= $7 AND EXISTS (SELECT FROM host_status h
                LEFT JOIN flag_state j ON j.host_id = h.host_id
                CROSS JOIN LATERAL (SELECT GREATEST(h.sem_arrays / NULLIF(h.semmni, 0),
                    h.semaphores / NULLIF(h.semmns, 0), h.shm_segments / NULLIF(h.shmmni, 0),
                    h.shm_pages / NULLIF(h.shmall, 0), h.msg_queues / NULLIF(h.msgmni, 0))::real AS near) AS n
                WHERE h.host_id = s.host_id AND (n.near >= 0.99
                    OR abs(n.near - COALESCE(j.near, 0)) >= CASE WHEN n.near >= 0.8 THEN 0.005 ELSE 0.04 END)))
        AND (s.host_id, s.epoch_no) > ($4, $5)
    ORDER BY s.host_id, s.epoch_no LIMIT $6";

const TAILS_BEFORE_SQL: &str = "SELECT host_id, epoch_no FROM stream
    WHERE host_id = $1 AND epoch_no < $2 AND framed_to > compacted_to ORDER BY epoch_no";

const MERGES_DUE_SQL: &str = "SELECT s.host_id, s.epoch_no FROM stream s
    WHERE s.compacted_to > s.merged_to AND EXISTS (SELECT 1 FROM chunk_fresh c WHERE c.host_id = s.host_id
        AND c.epoch_no = s.epoch_no AND c.to_seq >= s.merged_to AND c.day < DATE '1970-01-01' + $1::int)
        AND (s.host_id, s.epoch_no) > ($2, $3)
    ORDER BY s.host_id, s.epoch_no LIMIT $4";

const MARKS_SQL: &str = "SELECT merged_to, compacted_to, framed_to, covered_wall_ms FROM stream
    WHERE host_id = $1 AND epoch_no = $2";

const FRESH_SQL: &str = "SELECT stretch, day - DATE '1970-01-01' AS day, from_seq, to_seq, from_wall_ms, to_wall_ms,
        prev_wall_ms, body
    FROM chunk_fresh WHERE host_id = $1 AND epoch_no = $2 AND to_seq >= $3 ORDER BY to_seq LIMIT $4";

const COMPACTED_SQL: &str = "UPDATE stream SET compacted_to = $4 WHERE host_id = $1 AND epoch_no = $2
    AND compacted_to = $3 RETURNING host_id";

const MERGED_SQL: &str = "UPDATE stream SET merged_to = $4 WHERE host_id = $1 AND epoch_no = $2 AND merged_to = $3
    RETURNING host_id";

/// An epoch of a host.
pub type Of = (HostId, EpochNo);

/// Up to where an epoch's records have moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Before it they are in merged chunks.
    pub merged: Seq,
    /// From there to here in fresh ones.
    pub compacted: Seq,
    /// From there to here in frames.
    pub framed: Seq,
    /// The last sample stored or covered, host's wall clock, milliseconds.
    pub covered_wall_ms: Option<i64>,
}

/// A fresh chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// The stretch it belongs to.
    pub stretch: u32,
    /// Its partition.
    pub day: Day,
    /// The chunk.
    pub packed: Packed,
}

/// Which tails are to be compacted.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Those whose oldest record came at or before this time of the collector's clock, milliseconds ..
    pub received_ms: i64,
    /// .. and at or before this one, where a limit is near or comes nearer ..
    pub urgent_ms: i64,
    /// .. and those that span so many positions.
    pub positions: i64,
    /// A record that came later than this was received by a clock that was set back since.
    pub now_ms: i64,
}

impl Reading {
    /// Epochs whose tail is due, in order, after that one, at most `most`.
    pub async fn tails_due(&mut self, due: Due, after: Option<Of>, most: i64) -> Result<Vec<Of>, StoreError> {
        let (host, epoch) = after.map_or((i64::MIN, -1), |(host, epoch)| (host.0, bigint(epoch.0)));
        let query = sqlx::query_as(TAILS_DUE_SQL).bind(due.received_ms).bind(due.positions).bind(due.now_ms);
        let rows: Vec<(i64, i64)> =
            query.bind(host).bind(epoch).bind(most).bind(due.urgent_ms).fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(of).collect()
    }

    /// The host's epochs before that one which have a tail, too, in order.
    pub async fn tails_before(&mut self, (host, epoch): Of) -> Result<Vec<Of>, StoreError> {
        let query = sqlx::query_as(TAILS_BEFORE_SQL).bind(host.0).bind(bigint(epoch.0));
        let rows: Vec<(i64, i64)> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(of).collect()
    }

    /// Epochs that have fresh chunks of days before `today`, in order, after that one, at most `most`.
    pub async fn merges_due(&mut self, today: Day, after: Option<Of>, most: i64) -> Result<Vec<Of>, StoreError> {
        let (host, epoch) = after.map_or((i64::MIN, -1), |(host, epoch)| (host.0, bigint(epoch.0)));
        let query = sqlx::query_as(MERGES_DUE_SQL).bind(today.0).bind(host).bind(epoch).bind(most);
        let rows: Vec<(i64, i64)> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(of).collect()
    }

    /// Up to where an epoch has moved; `None` = there is none such.
    pub async fn marks(&mut self, (host, epoch): Of) -> Result<Option<Marks>, StoreError> {
        let query = sqlx::query_as(MARKS_SQL).bind(host.0).bind(bigint(epoch.0));
        let row: Option<(i64, i64, i64, Option<i64>)> = query.fetch_optional(&mut *self.tx).await?;
        let mark = |column, value| unsigned(column, value).map(Seq);
        row.map(|(merged, compacted, framed, covered_wall_ms)| {
            Ok(Marks {
                merged: mark("stream.merged_to", merged)?,
                compacted: mark("stream.compacted_to", compacted)?,
                framed: mark("stream.framed_to", framed)?,
                covered_wall_ms,
            })
        })
        .transpose()
    }

    /// The fresh chunks of an epoch that hold records from `from` on, in order, at most `most`.
    pub async fn fresh(&mut self, (host, epoch): Of, from: Seq, most: i64) -> Result<Vec<Fresh>, StoreError> {
        let query = sqlx::query_as(FRESH_SQL).bind(host.0).bind(bigint(epoch.0)).bind(bigint(from.0)).bind(most);
        let rows: Vec<FreshRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(FreshRow::domain).collect()
    }
}

/// Says that what was in frames up to `to` is in fresh chunks now; `false` = it has moved already, store nothing.
pub async fn move_compacted(tx: &mut Write<'_>, (host, epoch): Of, (from, to): (Seq, Seq)) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(COMPACTED_SQL).bind(host.0).bind(bigint(epoch.0));
    let moved: Option<i64> = query.bind(bigint(from.0)).bind(bigint(to.0)).fetch_optional(tx.connection()).await?;
    Ok(moved.is_some())
}

/// Says that what was in fresh chunks up to `to` is in merged ones now; likewise.
pub async fn move_merged(tx: &mut Write<'_>, (host, epoch): Of, (from, to): (Seq, Seq)) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(MERGED_SQL).bind(host.0).bind(bigint(epoch.0));
    let moved: Option<i64> = query.bind(bigint(from.0)).bind(bigint(to.0)).fetch_optional(tx.connection()).await?;
    Ok(moved.is_some())
}

#[derive(FromRow)]
struct FreshRow {
    stretch: i32,
    day: i32,
    from_seq: i64,
    to_seq: i64,
    from_wall_ms: i64,
    to_wall_ms: i64,
    prev_wall_ms: Option<i64>,
    body: Vec<u8>,
}

impl FreshRow {
    fn domain(self) -> Result<Fresh, StoreError> {
        let stretch = u32::try_from(self.stretch);
        Ok(Fresh {
            stretch: stretch.map_err(|_| StoreError::Corrupt { what: format!("stretch {}", self.stretch) })?,
            day: Day(self.day),
            packed: Packed {
                from: Seq(unsigned("chunk_fresh.from_seq", self.from_seq)?),
                to: Seq(unsigned("chunk_fresh.to_seq", self.to_seq)?),
                from_wall_ms: self.from_wall_ms,
                to_wall_ms: self.to_wall_ms,
                prev_wall_ms: self.prev_wall_ms,
                body: self.body,
            },
        })
    }
}

fn of((host, epoch): (i64, i64)) -> Result<Of, StoreError> {
    Ok((HostId(host), EpochNo(unsigned("stream.epoch_no", epoch)?)))
}
