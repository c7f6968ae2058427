//! Tables `usage` and `usage_hour`: how much of its limits a namespace used, by ten minutes and by hour of its host's
//! clock. A slot in which nothing changed has no row: what was true before is still. (How the ten minutes lie in their
//! table: [`usage_half`].)

use highwater_ipc::limits::Resource;
use highwater_ipc::snapshot::NamespaceId;
use sqlx::FromRow;

use super::StoreError;
use super::day::Day;
use super::history::Reading;
use super::tx::Write;
use super::usage_half;
use crate::host::HostId;

/// Inodes are two's complement; numbers up to 2^64-1 travel as text. The highest values of what is there and what comes
/// are merged (one of them may be null: not known); of the others `$rest` says which stay.
macro_rules! upsert {
    ($rest:literal) => {
        concat!(
            "INSERT INTO usage_hour AS u (host_id, namespace, instance, slot_ms, year, own, sem_arrays, sem_arrays_max,
                semmni, semaphores, semaphores_max, semmns, shm_segments, shm_segments_max, shmmni, shm_pages,
                shm_pages_max, shmall, msg_queues, msg_queues_max, msgmni)
            SELECT r.host_id, r.namespace, r.instance, r.slot_ms, DATE '1970-01-01' + r.part, r.own,
                r.a, r.a_max, r.a_limit, r.s, r.s_max, r.s_limit, r.m, r.m_max, r.m_limit, r.p, r.p_max, r.p_limit,
                r.q, r.q_max, r.q_limit
            FROM unnest($1::bigint[], $2::bigint[], $3::text[]::numeric[], $4::bigint[], $5::int[], $6::boolean[],
                $7::text[]::numeric[], $8::text[]::numeric[], $9::text[]::numeric[], $10::text[]::numeric[],
                $11::text[]::numeric[], $12::text[]::numeric[], $13::text[]::numeric[], $14::text[]::numeric[],
                $15::text[]::numeric[], $16::text[]::numeric[], $17::text[]::numeric[], $18::text[]::numeric[],
                $19::text[]::numeric[], $20::text[]::numeric[], $21::text[]::numeric[])
                AS r (host_id, namespace, instance, slot_ms, part, own, a, a_max, a_limit, s, s_max, s_limit,
                      m, m_max, m_limit, p, p_max, p_limit, q, q_max, q_limit)
            ON CONFLICT (host_id, namespace, instance, slot_ms, year) DO UPDATE SET
                sem_arrays_max = GREATEST(u.sem_arrays_max, excluded.sem_arrays_max),
                semaphores_max = GREATEST(u.semaphores_max, excluded.semaphores_max),
                shm_segments_max = GREATEST(u.shm_segments_max, excluded.shm_segments_max),
                shm_pages_max = GREATEST(u.shm_pages_max, excluded.shm_pages_max),
                msg_queues_max = GREATEST(u.msg_queues_max, excluded.msg_queues_max)",
            $rest
        )
    };
}

const UPSERT_HOUR_SQL: &str = upsert!(
    ", own = excluded.own, sem_arrays = excluded.sem_arrays, semmni = excluded.semmni,
    semaphores = excluded.semaphores, semmns = excluded.semmns, shm_segments = excluded.shm_segments,
    shmmni = excluded.shmmni, shm_pages = excluded.shm_pages, shmall = excluded.shmall,
    msg_queues = excluded.msg_queues, msgmni = excluded.msgmni"
);
const FILL_HOUR_SQL: &str = upsert!("");
const BETWEEN_HOUR_SQL: &str = "SELECT namespace, instance::text, slot_ms, own, sem_arrays::text, sem_arrays_max::text,
        semmni::text, semaphores::text, semaphores_max::text, semmns::text, shm_segments::text, shm_segments_max::text,
        shmmni::text, shm_pages::text, shm_pages_max::text, shmall::text, msg_queues::text, msg_queues_max::text,
        msgmni::text
    FROM usage_hour WHERE host_id = $1 AND slot_ms BETWEEN $2 AND $3 ORDER BY slot_ms, namespace, instance LIMIT $4";

/// Which of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `usage`: ten minutes.
    TenMinutes,
    /// `usage_hour`: an hour.
    Hour,
}

impl Step {
    /// How long a slot is, milliseconds. A slot begins at a multiple of it.
    pub fn length_ms(self) -> i64 {
        match self {
            Step::TenMinutes => 600_000,
            Step::Hour => 3_600_000,
        }
    }

    /// The partition of a slot of that day.
    pub fn part(self, day: Day) -> Day {
        match self {
            Step::TenMinutes => day.month(),
            Step::Hour => day.year(),
        }
    }
}

/// What becomes of the last values of a slot that has a row already. The highest are merged either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// They are overwritten: what comes is later in the host's history.
    Newest,
    /// They stay: what comes fills a gap before them (an import).
    Filling,
}

/// One resource in one slot; `None` = could not be read, or the namespace is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Used {
    /// In use at the slot's end.
    pub last: Option<u64>,
    /// The most that was in use at once in the slot.
    pub most: Option<u64>,
    /// The limit at the slot's end.
    pub limit: Option<u64>,
}

/// One namespace in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The host.
    pub host: HostId,
    /// The namespace.
    pub namespace: NamespaceId,
    /// When the slot begins, host's clock, milliseconds.
    pub slot_ms: i64,
    /// Whether it is the host's own.
    pub own: bool,
    /// In order of [`Resource::ALL`].
    pub used: [Used; 5],
}

impl UsageRow {
    /// What it says of a resource.
    pub fn of(&self, resource: Resource) -> Used {
        let found = Resource::ALL.iter().zip(&self.used).find(|(r, _)| **r == resource);
        found.map(|(_, used)| *used).unwrap_or_default()
    }
}

/// Adds rows of one host, or merges them into those of the same slots; each slot of a namespace at most once a call. `place` gives the
/// day of a slot's partition, of which the month or year is taken: the believed day, or [`Day::FALLBACK`].
pub async fn upsert(
    tx: &mut Write<'_>,
    step: Step,
    rows: &[UsageRow],
    order: Order,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<(), StoreError> {
    match step {
        Step::TenMinutes => usage_half::upsert(tx, rows, order, place).await,
        Step::Hour => upsert_hours(tx, rows, order, place).await,
    }
}

async fn upsert_hours(
    tx: &mut Write<'_>,
    rows: &[UsageRow],
    order: Order,
    place: &(dyn Fn(i64) -> Day + Sync),
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = match order {
        Order::Newest => UPSERT_HOUR_SQL,
        Order::Filling => FILL_HOUR_SQL,
    };
    let mut query = sqlx::query(statement)
        .bind(rows.iter().map(|r| r.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.namespace.inode.cast_signed()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.namespace.instance.to_string()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.slot_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| Step::Hour.part(place(r.slot_ms)).0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.own).collect::<Vec<_>>());
    for resource in Resource::ALL {
        for number in [|u: Used| u.last, |u: Used| u.most, |u: Used| u.limit] {
            let text = |r: &UsageRow| number(r.of(resource)).map(|n| n.to_string());
            query = query.bind(rows.iter().map(text).collect::<Vec<_>>());
        }
    }
    query.execute(tx.connection()).await?;
    Ok(())
}

impl Reading {
    /// The rows of a host with slots that begin in `from..=to` (its clock, milliseconds), in order, at most `most`.
    pub async fn usage(
        &mut self,
        host: HostId,
        step: Step,
        (from_ms, to_ms): (i64, i64),
        most: i64,
    ) -> Result<Vec<UsageRow>, StoreError> {
        let query = match step {
            Step::TenMinutes => {
                let earliest_ms = usage_half::half_of(from_ms);
                sqlx::query_as(usage_half::BETWEEN_SQL).bind(host.0).bind(earliest_ms).bind(to_ms)
            }
            Step::Hour => sqlx::query_as(BETWEEN_HOUR_SQL).bind(host.0),
        };
        let rows: Vec<Row> = query.bind(from_ms).bind(to_ms).bind(most).fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(|row| row.domain(host)).collect()
    }
}

#[derive(FromRow)]
pub(super) struct Row {
    namespace: i64,
    instance: String,
    slot_ms: i64,
    own: bool,
    sem_arrays: Option<String>,
    sem_arrays_max: Option<String>,
    semmni: Option<String>,
    semaphores: Option<String>,
    semaphores_max: Option<String>,
    semmns: Option<String>,
    shm_segments: Option<String>,
    shm_segments_max: Option<String>,
    shmmni: Option<String>,
    shm_pages: Option<String>,
    shm_pages_max: Option<String>,
    shmall: Option<String>,
    msg_queues: Option<String>,
    msg_queues_max: Option<String>,
    msgmni: Option<String>,
}

impl Row {
    pub(super) fn domain(self, host: HostId) -> Result<UsageRow, StoreError> {
        let used = |last: Option<String>, most: Option<String>, limit: Option<String>| {
            Ok::<Used, StoreError>(Used { last: whole(last)?, most: whole(most)?, limit: whole(limit)? })
        };
        let instance = whole(Some(self.instance))?.unwrap_or_default();
        Ok(UsageRow {
            host,
            namespace: NamespaceId { inode: self.namespace.cast_unsigned(), instance },
            slot_ms: self.slot_ms,
            own: self.own,
            used: [
                used(self.sem_arrays, self.sem_arrays_max, self.semmni)?,
                used(self.semaphores, self.semaphores_max, self.semmns)?,
                used(self.shm_segments, self.shm_segments_max, self.shmmni)?,
                used(self.shm_pages, self.shm_pages_max, self.shmall)?,
                used(self.msg_queues, self.msg_queues_max, self.msgmni)?,
            ],
        })
    }
}

pub(super) fn whole(text: Option<String>) -> Result<Option<u64>, StoreError> {
    let read = |text: String| text.parse().map_err(|_| StoreError::Corrupt { what: format!("usage number {text:?}") });
    text.map(read).transpose()
}
