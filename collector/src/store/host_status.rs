//! Table `host_status`: the present of each host. A row exists from a host's first record, or `now`, or
//! import, on.

use std::net::IpAddr;

use highwater_ipc::limits::{Limits, Resource, Totals};

use super::Db;
use super::StoreError;
use super::number::{bigint, int, unsigned};
use super::stream::Session;
use super::tx::{self, Write};
use crate::host::{HostId, Quarantine};

/// Whoever opens the host's session again shows that the trouble with another one is over, or it says so again.
const RESUME_SQL: &str = "UPDATE host_status SET session = $2, skew_ms = $3, last_seen_ms = $4, disconnected_ms = NULL,
        quarantined_ms = NULL, quarantined_why = NULL, quarantined_peer = NULL
    WHERE host_id = $1 RETURNING sampled_wall_ms, interval_ms, backlog_from_ms, namespace";

/// Values that a record does not say stay as they are. Numbers up to 2^64-1 travel as text.
const UPSERT_SQL: &str = "INSERT INTO host_status AS s (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms,
        backlog_from_ms, session, namespace, sem_arrays, semmni, semaphores, semmns, shm_segments, shmmni, shm_pages,
        shmall, msg_queues, msgmni)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::int[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::text[]::numeric[], $10::text[]::numeric[], $11::text[]::numeric[], $12::text[]::numeric[],
        $13::text[]::numeric[], $14::text[]::numeric[], $15::text[]::numeric[], $16::text[]::numeric[],
        $17::text[]::numeric[], $18::text[]::numeric[])
    ON CONFLICT (host_id) DO UPDATE SET last_seen_ms = excluded.last_seen_ms,
        sampled_wall_ms = excluded.sampled_wall_ms, skew_ms = excluded.skew_ms, interval_ms = excluded.interval_ms,
        backlog_from_ms = excluded.backlog_from_ms, session = excluded.session,
        namespace = COALESCE(excluded.namespace, s.namespace),
        sem_arrays = COALESCE(excluded.sem_arrays, s.sem_arrays), semmni = COALESCE(excluded.semmni, s.semmni),
        semaphores = COALESCE(excluded.semaphores, s.semaphores), semmns = COALESCE(excluded.semmns, s.semmns),
        shm_segments = COALESCE(excluded.shm_segments, s.shm_segments), shmmni = COALESCE(excluded.shmmni, s.shmmni),
        shm_pages = COALESCE(excluded.shm_pages, s.shm_pages), shmall = COALESCE(excluded.shmall, s.shmall),
        msg_queues = COALESCE(excluded.msg_queues, s.msg_queues), msgmni = COALESCE(excluded.msgmni, s.msgmni)";

/// No agent's session is 0, so that none is overwritten by what was imported.
const IMPORTED_SQL: &str = "INSERT INTO host_status AS s (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms,
        session, disconnected_ms, namespace, sem_arrays, semmni, semaphores, semmns, shm_segments, shmmni, shm_pages,
        shmall, msg_queues, msgmni)
    VALUES ($1, $2, $2, 0, $3, 0, $4, $5, $6::text::numeric, $7::text::numeric, $8::text::numeric, $9::text::numeric,
        $10::text::numeric, $11::text::numeric, $12::text::numeric, $13::text::numeric, $14::text::numeric,
        $15::text::numeric)
    ON CONFLICT (host_id) DO UPDATE SET last_seen_ms = excluded.last_seen_ms,
        sampled_wall_ms = excluded.sampled_wall_ms, interval_ms = excluded.interval_ms,
        disconnected_ms = excluded.disconnected_ms, namespace = excluded.namespace, sem_arrays = excluded.sem_arrays,
        semmni = excluded.semmni, semaphores = excluded.semaphores, semmns = excluded.semmns,
        shm_segments = excluded.shm_segments, shmmni = excluded.shmmni, shm_pages = excluded.shm_pages,
        shmall = excluded.shmall, msg_queues = excluded.msg_queues, msgmni = excluded.msgmni
    WHERE s.session = 0 AND s.sampled_wall_ms <= excluded.sampled_wall_ms";

/// A session that another one has followed says nothing about the present.
const OWN_SQL: &str = "SELECT host_id FROM stream WHERE host_id = ANY ($1) AND session = ANY ($2)
    GROUP BY host_id ORDER BY host_id";

const DISCONNECT_SQL: &str = "UPDATE host_status AS s SET disconnected_ms = $3
    FROM unnest($1::bigint[], $2::bigint[]) AS e (host_id, session)
    WHERE s.host_id = e.host_id AND s.session = e.session";

const HELD_SQL: &str = "SELECT session, last_seen_ms, interval_ms FROM host_status
    WHERE host_id = $1 AND disconnected_ms IS NULL";

const TURN_AWAY_SQL: &str = "UPDATE host_status AS s
    SET quarantined_ms = q.at_ms, quarantined_why = q.why, quarantined_peer = q.peer
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[]) AS q (host_id, at_ms, why, peer)
    WHERE s.host_id = q.host_id";

const DISCONNECT_ALL_SQL: &str = "UPDATE host_status SET disconnected_ms = $1 WHERE disconnected_ms IS NULL";

/// A session that was opened and of which nobody has said that it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number.
    pub session: Session,
    /// Collector's clock at its last record or `now`, milliseconds since 1970.
    pub last_seen_ms: i64,
    /// Time between its samples, milliseconds.
    pub interval_ms: i64,
}

/// A newcomer that was quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Whose certificate it showed.
    pub host: HostId,
    /// When, collector's clock, milliseconds since 1970.
    pub at_ms: i64,
    /// Why.
    pub why: Quarantine,
    /// Where it came from.
    pub peer: IpAddr,
}

/// The present of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The host.
    pub host: HostId,
    /// Its session.
    pub session: Session,
    /// Collector's clock at its last record or `now`.
    pub last_seen_ms: i64,
    /// Host's clock minus the collector's, as its newest samples show it.
    pub skew_ms: i64,
    /// What its newest sample says.
    pub present: Present,
    /// What that sample, or one since the last upsert, says of use and limits.
    pub usage: Usage,
}

/// What a host's newest sample says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Present {
    /// Host's wall clock of it, milliseconds since 1970.
    pub sampled_wall_ms: i64,
    /// Planned time between samples, milliseconds.
    pub interval_ms: u32,
    /// Oldest sample not yet received, host's wall clock; `None` = none behind.
    pub backlog_from_ms: Option<i64>,
    /// Inode of the host's IPC namespace.
    pub namespace: Option<u64>,
}

/// Use and limits of a host's own namespace; `None` = not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Usage {
    /// What is in use.
    pub totals: Option<Totals>,
    /// What may be.
    pub limits: Option<Limits>,
}

/// Takes over the row of a host that says hello; `None` if it has none yet.
pub async fn resume(
    tx: &mut Write<'_>,
    host: HostId,
    session: Session,
    skew_ms: i64,
    now_ms: i64,
) -> Result<Option<Present>, StoreError> {
    let row: Option<PresentRow> = sqlx::query_as(RESUME_SQL)
        .bind(host.0)
        .bind(session.0)
        .bind(skew_ms)
        .bind(now_ms)
        .fetch_optional(tx.connection())
        .await?;
    row.map(PresentRow::into_domain).transpose()
}

/// The host's session, if it was not said to have ended.
pub async fn held(tx: &mut Write<'_>, host: HostId) -> Result<Option<Held>, StoreError> {
    let row: Option<(i64, i64, i32)> = sqlx::query_as(HELD_SQL).bind(host.0).fetch_optional(tx.connection()).await?;
    Ok(row.map(|(session, last_seen_ms, interval_ms)| Held {
        session: Session(session),
        last_seen_ms,
        interval_ms: i64::from(interval_ms),
    }))
}

/// Notes newcomers, beside the present of whoever writes; at most one a host. Of a host without a row nothing is noted:
/// nobody has written as it yet.
pub async fn turn_away(tx: &mut Write<'_>, newcomers: &[TurnedAway]) -> Result<(), StoreError> {
    sqlx::query(TURN_AWAY_SQL)
        .bind(newcomers.iter().map(|n| n.host.0).collect::<Vec<_>>())
        .bind(newcomers.iter().map(|n| n.at_ms).collect::<Vec<_>>())
        .bind(newcomers.iter().map(|n| n.why.name()).collect::<Vec<_>>())
        .bind(newcomers.iter().map(|n| n.peer.to_string()).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Says that no session is up: for the only collector of a database, before it serves anybody. One that was killed
/// could not say it itself.
pub async fn disconnect_all(db: &Db, at_ms: i64) -> Result<(), StoreError> {
    let mut tx = tx::write(db).await?;
    sqlx::query(DISCONNECT_ALL_SQL).bind(at_ms).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

/// Overwrites the present of hosts; each at most once a call.
pub async fn upsert(tx: &mut Write<'_>, rows: &[Status]) -> Result<(), StoreError> {
    let used = |r: Resource| rows.iter().map(|s| s.usage.of(r).0).collect::<Vec<_>>();
    let limit = |r: Resource| rows.iter().map(|s| s.usage.of(r).1).collect::<Vec<_>>();
    let mut query = sqlx::query(UPSERT_SQL)
        .bind(rows.iter().map(|s| s.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|s| s.last_seen_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|s| s.present.sampled_wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|s| s.skew_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|s| int(s.present.interval_ms)).collect::<Vec<_>>())
        .bind(rows.iter().map(|s| s.present.backlog_from_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|s| s.session.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|s| s.present.namespace.map(bigint)).collect::<Vec<_>>());
    for resource in Resource::ALL {
        query = query.bind(used(resource)).bind(limit(resource));
    }
    query.execute(tx.connection()).await?;
    Ok(())
}

/// The present of a host that has no agent is the newest sample that was imported; `now_ms` is the collector's clock. What
/// an agent, or a newer sample, says of the present stays.
pub async fn import(
    tx: &mut Write<'_>,
    host: HostId,
    (present, usage): (&Present, &Usage),
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut query = sqlx::query(IMPORTED_SQL)
        .bind(host.0)
        .bind(present.sampled_wall_ms)
        .bind(int(present.interval_ms))
        .bind(now_ms)
        .bind(present.namespace.map(bigint));
    for resource in Resource::ALL {
        let (used, limit) = usage.of(resource);
        query = query.bind(used).bind(limit);
    }
    query.execute(tx.connection()).await?;
    Ok(())
}

/// Which of these hosts still belong to the session beside them.
pub async fn owned(tx: &mut Write<'_>, hosts: &[(HostId, Session)]) -> Result<Vec<HostId>, StoreError> {
    let own: Vec<i64> = sqlx::query_scalar(OWN_SQL)
        .bind(hosts.iter().map(|h| h.0.0).collect::<Vec<_>>())
        .bind(hosts.iter().map(|h| h.1.0).collect::<Vec<_>>())
        .fetch_all(tx.connection())
        .await?;
    Ok(own.into_iter().map(HostId).collect())
}

/// Says that sessions ended, of those that are still their host's.
pub async fn disconnect(tx: &mut Write<'_>, ended: &[(HostId, Session)], at_ms: i64) -> Result<(), StoreError> {
    sqlx::query(DISCONNECT_SQL)
        .bind(ended.iter().map(|e| e.0.0).collect::<Vec<_>>())
        .bind(ended.iter().map(|e| e.1.0).collect::<Vec<_>>())
        .bind(at_ms)
        .execute(tx.connection())
        .await?;
    Ok(())
}

impl Usage {
    /// Used and limit of one resource, as decimal text.
    fn of(&self, resource: Resource) -> (Option<String>, Option<String>) {
        let used = self.totals.map(|t| match resource {
            Resource::Semmni => t.sem_arrays,
            Resource::Semmns => t.semaphores,
            Resource::Shmmni => t.shm_segments,
            Resource::Shmall => t.shm_pages,
            Resource::Msgmni => t.msg_queues,
        });
        let limit = self.limits.map(|l| resource.of(&Totals::default(), &l).1);
        (used.map(|n| n.to_string()), limit.map(|n| n.to_string()))
    }
}

#[derive(sqlx::FromRow)]
struct PresentRow {
    sampled_wall_ms: i64,
    interval_ms: i32,
    backlog_from_ms: Option<i64>,
    namespace: Option<i64>,
}

impl PresentRow {
    fn into_domain(self) -> Result<Present, StoreError> {
        Ok(Present {
            sampled_wall_ms: self.sampled_wall_ms,
            interval_ms: u32::try_from(self.interval_ms).unwrap_or(0),
            backlog_from_ms: self.backlog_from_ms,
            namespace: self.namespace.map(|n| unsigned("host_status.namespace", n)).transpose()?,
        })
    }
}
