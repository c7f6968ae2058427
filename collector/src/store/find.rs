//! What `find` looks at before it reads records: which hosts there are, what their chunks may hold, and whose newest
//! records are in no chunk yet.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::record::{EpochNo, Seq};
use sqlx::Row as _;
use tokio_stream::StreamExt as _;

use super::StoreError;
use super::fleet::HostName;
use super::history::Reading;
use super::number::unsigned;
use crate::host::HostId;

/// Also hosts that are gone: their history is kept.
const HOSTS_SQL: &str = "SELECT h.host_id, h.name, s.skew_ms FROM host_status s JOIN host h ON h.host_id = s.host_id
    WHERE ($1::text IS NULL OR (h.name, h.host_id) > ($1, $2))
        AND ($3::text IS NULL OR starts_with(h.name, $3) OR lpad(to_hex(h.host_id), 16, '0') = $3)
    ORDER BY h.name, h.host_id LIMIT $4";

/// The skew of each host is added to the span, which is the collector's; the last chunk that begins before the span says
/// what was held at its beginning. A stretch speaks for three intervals after its end (query/gap.rs). Chunks of a week are
/// in that week's partition or, of an import, in a later one. What is merged is still in
/// chunk_fresh until its partition goes.
const CHUNKS_SQL: &str = "SELECT s.host_id, s.epoch_no, s.stretch, c.from_seq, c.to_seq, c.objects
    FROM stretch s
    JOIN stream st ON st.host_id = s.host_id AND st.epoch_no = s.epoch_no
    JOIN host_status hs ON hs.host_id = s.host_id
    CROSS JOIN LATERAL (
        (SELECT m.from_seq, m.to_seq, m.objects FROM chunk m
         WHERE m.host_id = s.host_id AND m.epoch_no = s.epoch_no AND m.stretch = s.stretch
            AND m.from_wall_ms <= $2 + hs.skew_ms
         ORDER BY m.from_wall_ms DESC, m.to_seq DESC LIMIT 1)
        UNION ALL
        (SELECT f.from_seq, f.to_seq, f.objects FROM chunk_fresh f
         WHERE f.host_id = s.host_id AND f.epoch_no = s.epoch_no AND f.stretch = s.stretch
            AND f.from_wall_ms <= $2 + hs.skew_ms AND f.to_seq >= st.merged_to
         ORDER BY f.from_wall_ms DESC, f.to_seq DESC LIMIT 1)
        UNION ALL
        SELECT m.from_seq, m.to_seq, m.objects FROM chunk m
        WHERE m.host_id = s.host_id AND m.epoch_no = s.epoch_no AND m.stretch = s.stretch
            AND m.from_wall_ms > $2 + hs.skew_ms AND m.from_wall_ms <= $3 + hs.skew_ms AND NOT m.baseline
            AND (m.week >= DATE '1970-01-01' + $4::int OR m.week = DATE '1970-01-01')
        UNION ALL
        SELECT f.from_seq, f.to_seq, f.objects FROM chunk_fresh f
        WHERE f.host_id = s.host_id AND f.epoch_no = s.epoch_no AND f.stretch = s.stretch
            AND f.from_wall_ms > $2 + hs.skew_ms AND f.from_wall_ms <= $3 + hs.skew_ms
            AND f.to_seq >= st.merged_to
            AND (f.day >= DATE '1970-01-01' + $4::int OR f.day = DATE '1970-01-01')
    ) c
    WHERE s.host_id = ANY ($1) AND s.from_wall_ms <= $3 + hs.skew_ms
        AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) + 3 * st.interval_ms::bigint >= $2 + hs.skew_ms
    LIMIT $5";

/// Frames move into chunks in order, so what lies at and behind compacted_to is in no chunk.
const TAILS_IN_SQL: &str = "SELECT DISTINCT st.host_id FROM stream st
    JOIN host_status hs ON hs.host_id = st.host_id
    WHERE st.host_id = ANY ($1) AND st.framed_to > st.compacted_to AND EXISTS (SELECT FROM frame f
        WHERE f.host_id = st.host_id AND f.epoch_no = st.epoch_no AND f.seq >= st.compacted_to
            AND f.wall_ms <= $2 + hs.skew_ms)";

/// Not DISTINCT: the planner would walk an index for it.
const TAILS_SQL: &str = "SELECT host_id FROM stream WHERE framed_to > compacted_to LIMIT $1";

/// The collector's clock when the host was compacted last, of the one for which that is longest ago.
const LONGEST_TAIL_SQL: &str = "SELECT min(o.wall_ms - hs.skew_ms) FROM object_now o
    JOIN host_status hs ON hs.host_id = o.host_id
    WHERE EXISTS (SELECT FROM stream st WHERE st.host_id = o.host_id AND st.framed_to > st.compacted_to)";

/// A host and its clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkewedHost {
    /// Which one.
    pub host: HostName,
    /// Its clock minus the collector's, milliseconds, as its newest samples show it.
    pub skew_ms: i64,
}

/// What one chunk may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkObjects<T> {
    /// The epoch of its records.
    pub epoch: EpochNo,
    /// Their stretch.
    pub stretch: i32,
    /// Position of its first record.
    pub from: Seq,
    /// Position of its last record.
    pub to: Seq,
    /// What was made of what `find` looks at first.
    pub told: T,
}

impl Reading {
    /// Hosts that reported, in order of name and id: those after `after` whose name begins so or whose id this is.
    pub async fn hosts_to_search(
        &mut self,
        after: Option<&HostName>,
        begins: Option<&str>,
        most: i64,
    ) -> Result<Vec<SkewedHost>, StoreError> {
        let (name, id) = after.map(|h| (h.name.as_str(), h.id.0)).unzip();
        let query = sqlx::query_as(HOSTS_SQL).bind(name).bind(id).bind(begins).bind(most);
        let rows: Vec<(i64, String, i64)> = query.fetch_all(&mut *self.tx).await?;
        let host = |(id, name, skew_ms)| SkewedHost { host: HostName { name, id: HostId(id) }, skew_ms };
        Ok(rows.into_iter().map(host).collect())
    }

    /// The chunks that say what these hosts held in a span of the collector's clock, milliseconds, both included: by host,
    /// in order of epoch, stretch and position, with what `judge` makes of what `find` looks at first. `None` = there are
    /// more than `most`.
    pub async fn chunks_in<T>(
        &mut self,
        hosts: &[&SkewedHost],
        (since_ms, until_ms): (i64, i64),
        most: usize,
        mut judge: impl FnMut(&[u8]) -> T,
    ) -> Result<Option<BTreeMap<HostId, Vec<ChunkObjects<T>>>>, StoreError> {
        let ids: Vec<i64> = hosts.iter().map(|h| h.host.id.0).collect();
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let furthest_behind_ms = hosts.iter().map(|h| h.skew_ms).min().unwrap_or(0);
        let from_day = days_before(since_ms.saturating_add(furthest_behind_ms));
        let query = sqlx::query(CHUNKS_SQL).bind(ids).bind(since_ms).bind(until_ms).bind(from_day);
        let mut rows = query.bind(limit).fetch(&mut *self.tx);
        let mut chunks: BTreeMap<HostId, Vec<ChunkObjects<T>>> = BTreeMap::new();
        let mut count = 0_usize;
        while let Some(row) = rows.try_next().await? {
            let chunk = ChunkObjects {
                epoch: EpochNo(unsigned("chunk.epoch_no", row.try_get("epoch_no")?)?),
                stretch: row.try_get("stretch")?,
                from: Seq(unsigned("chunk.from_seq", row.try_get("from_seq")?)?),
                to: Seq(unsigned("chunk.to_seq", row.try_get("to_seq")?)?),
                told: judge(row.try_get("objects")?),
            };
            chunks.entry(HostId(row.try_get("host_id")?)).or_default().push(chunk);
            count = count.saturating_add(1);
        }
        chunks.values_mut().for_each(|chunks| chunks.sort_by_key(|c| (c.epoch, c.stretch, c.from)));
        Ok((count <= most).then_some(chunks))
    }

    /// Those of these hosts with records up to that instant of the collector's clock, milliseconds, that are in no chunk
    /// yet.
    pub async fn tails_of(&mut self, hosts: &[HostId], until_ms: i64) -> Result<BTreeSet<HostId>, StoreError> {
        let ids: Vec<i64> = hosts.iter().map(|h| h.0).collect();
        let query = sqlx::query_scalar(TAILS_IN_SQL).bind(ids).bind(until_ms);
        let rows: Vec<i64> = query.fetch_all(&mut *self.tx).await?;
        Ok(rows.into_iter().map(HostId).collect())
    }

    /// The hosts with records that are in no chunk yet; `None` = more than `most` epochs have such.
    pub async fn tails(&mut self, most: usize) -> Result<Option<BTreeSet<HostId>>, StoreError> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let rows: Vec<i64> = sqlx::query_scalar(TAILS_SQL).bind(limit).fetch_all(&mut *self.tx).await?;
        Ok((rows.len() <= most).then(|| rows.into_iter().map(HostId).collect()))
    }

    /// Of all hosts with such records, the oldest sample that `object_now` is of, by the collector's clock, milliseconds;
    /// `None` = none of them was ever compacted.
    pub async fn longest_tail_ms(&mut self) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar(LONGEST_TAIL_SQL).fetch_one(&mut *self.tx).await?)
    }
}

/// A day from which on chunks of a span are that begins then by a host's clock, whatever the weekday, since 1970-01-01.
fn days_before(since_ms: i64) -> i32 {
    const DAY_MS: i64 = 86_400_000;
    const YEAR_9999: i64 = 2_932_896;
    // Six days back to a Monday.
    i32::try_from(since_ms.div_euclid(DAY_MS).saturating_sub(6).clamp(0, YEAR_9999)).unwrap_or(0)
}
