//! Table `object_now`: what each host held when its tail was compacted last, as `find` looks at it first. A row a host,
//! overwritten.

use highwater_ipc::record::{EpochNo, Seq};
use sqlx::Row as _;
use tokio_stream::StreamExt as _;

use super::StoreError;
use super::fleet::HostName;
use super::history::Reading;
use super::number::bigint;
use super::tx::Write;
use crate::host::HostId;

/// An older sample never takes a newer one's place.
const UPSERT_SQL: &str = "INSERT INTO object_now AS o (host_id, epoch_no, seq, wall_ms, objects)
    SELECT n.host_id, n.epoch_no, n.seq, n.wall_ms, n.objects
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])
        AS n (host_id, epoch_no, seq, wall_ms, objects)
    ON CONFLICT (host_id) DO UPDATE SET epoch_no = EXCLUDED.epoch_no, seq = EXCLUDED.seq, wall_ms = EXCLUDED.wall_ms,
        objects = EXCLUDED.objects
    WHERE (o.epoch_no, o.seq) <= (EXCLUDED.epoch_no, EXCLUDED.seq)";

macro_rules! presents {
    ($columns:literal, $join:literal, $rest:literal) => {
        concat!(
            "SELECT h.host_id, h.name",
            $columns,
            " FROM host_status s JOIN host h ON h.host_id = s.host_id ",
            $join,
            " WHERE ($1::text IS NULL OR (h.name, h.host_id) > ($1, $2)) \
             AND ($3::text IS NULL OR starts_with(h.name, $3) OR lpad(to_hex(h.host_id), 16, '0') = $3) \
             AND (s.last_seen_ms >= $4 OR h.labels ->> 'ephemeral' = '1') \
             AND (s.last_seen_ms >= $5 OR h.labels ->> 'ephemeral' IS DISTINCT FROM '1') ",
            $rest,
            "ORDER BY h.name, h.host_id LIMIT $6"
        )
    };
}

// Hosts that reported and are not gone, as `hosts` shows them.
const NEXT_SQL: &str = presents!(", o.objects", "LEFT JOIN object_now o ON o.host_id = s.host_id", "");
const OF_SQL: &str = presents!("", "", "AND s.host_id = ANY ($7) ");
/// In no order: sorting 100,000 hosts with their objects costs more than reading them.
const OBJECTS_SQL: &str = "SELECT host_id, objects FROM object_now";
const WITHOUT_SQL: &str = "SELECT s.host_id FROM host_status s
    WHERE NOT EXISTS (SELECT FROM object_now o WHERE o.host_id = s.host_id)";

/// What a host held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectNow {
    /// The host.
    pub host: HostId,
    /// The epoch of the sample that this is of.
    pub epoch: EpochNo,
    /// Its position.
    pub seq: Seq,
    /// Its wall time, host's clock, milliseconds.
    pub wall_ms: i64,
    /// What `find` looks at first: made by `query::find::Filter`.
    pub objects: Vec<u8>,
}

/// Sets what these hosts held, each at most once among the rows. A row of an older sample than the stored one changes
/// nothing.
pub async fn upsert(tx: &mut Write<'_>, rows: &[ObjectNow]) -> Result<(), StoreError> {
    sqlx::query(UPSERT_SQL)
        .bind(rows.iter().map(|r| r.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.seq.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| &r.objects[..]).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Which hosts' presents are wanted.
#[derive(Clone, Debug)]
pub struct PresentFilter<'q> {
    /// Those after this one, in order of name and id.
    pub after: Option<&'q HostName>,
    /// Those whose name begins so, or whose id this is; `None` = all.
    pub begins: Option<&'q str>,
    /// Not those last seen before this, by the collector's clock, milliseconds ...
    pub gone_before_ms: i64,
    /// ... or, with label `ephemeral=1`, before this.
    pub ephemeral_gone_before_ms: i64,
}

impl Reading {
    /// Looks at the presents of the next `most` hosts in order of name and id, one at a time: those that `keep` wants, given
    /// the host and what `find` looks at first (`None` = never compacted), and the last one that was looked at (`None` =
    /// there were fewer than `most`: that was all).
    pub async fn next_presents(
        &mut self,
        filter: &PresentFilter<'_>,
        most: usize,
        mut keep: impl FnMut(&HostName, Option<&[u8]>) -> bool,
    ) -> Result<(Vec<HostName>, Option<HostName>), StoreError> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let (name, id) = filter.after.map(|h| (h.name.as_str(), h.id.0)).unzip();
        let query = sqlx::query(NEXT_SQL).bind(name).bind(id).bind(filter.begins);
        let query = query.bind(filter.gone_before_ms).bind(filter.ephemeral_gone_before_ms).bind(limit);
        let mut rows = query.fetch(&mut *self.tx);
        let (mut kept, mut last, mut seen) = (Vec::new(), None, 0_usize);
        while let Some(row) = rows.try_next().await? {
            let host = HostName { name: row.try_get("name")?, id: HostId(row.try_get("host_id")?) };
            if keep(&host, row.try_get("objects")?) {
                kept.push(host.clone());
            }
            seen = seen.saturating_add(1);
            last = Some(host);
        }
        Ok((kept, last.filter(|_| seen >= most)))
    }

    /// Looks at the presents of all hosts, one at a time and in no order: those that `keep` wants, given what `find` looks at
    /// first, and those that were never compacted.
    pub async fn all_presents(
        &mut self,
        mut keep: impl FnMut(HostId, &[u8]) -> bool,
    ) -> Result<Vec<HostId>, StoreError> {
        let mut kept: Vec<i64> = sqlx::query_scalar(WITHOUT_SQL).fetch_all(&mut *self.tx).await?;
        let mut rows = sqlx::query(OBJECTS_SQL).fetch(&mut *self.tx);
        while let Some(row) = rows.try_next().await? {
            let id: i64 = row.try_get(0)?;
            if keep(HostId(id), row.try_get(1)?) {
                kept.push(id);
            }
        }
        Ok(kept.into_iter().map(HostId).collect())
    }

    /// The first `most` of these hosts in order of name and id.
    pub async fn presents_of(
        &mut self,
        filter: &PresentFilter<'_>,
        hosts: &[HostId],
        most: usize,
    ) -> Result<Vec<HostName>, StoreError> {
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let (name, id) = filter.after.map(|h| (h.name.as_str(), h.id.0)).unzip();
        let query = sqlx::query_as(OF_SQL).bind(name).bind(id).bind(filter.begins);
        let query = query.bind(filter.gone_before_ms).bind(filter.ephemeral_gone_before_ms).bind(limit);
        let ids: Vec<i64> = hosts.iter().map(|h| h.0).collect();
        let rows: Vec<(i64, String)> = query.bind(ids).fetch_all(&mut *self.tx).await?;
        Ok(rows.into_iter().map(|(id, name)| HostName { name, id: HostId(id) }).collect())
    }
}
