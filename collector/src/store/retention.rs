//! What is older than is kept: which stretches and series go on past a border, the baselines that keep them answerable,
//! and the small tables' rows that go with a dropped partition, in bounded batches.
//!
//! Everything here may be done twice: a baseline that is there stays, a stretch that is cut is not cut again.

use highwater_ipc::record::{EpochNo, GapReason, Seq};
use highwater_ipc::time::At;

use super::StoreError;
use super::chunk::Chunk;
use super::day::Day;
use super::number::{bigint, int, unsigned};
use super::partition::Table;
use super::tx::{Connection, Dedicated, Write};
use crate::host::HostId;

// A stretch of an agent's own (imports have epochs from 2^62 on) with chunks in the week $1 <= week < $2 goes on if it ends
// at or after the border, or is its host's newest: the present of a silent host is its last sample. A baseline of before
// is none where more came since: the clock of its host is so far behind that the week went, and was written to again.
macro_rules! going_on {
    ($columns:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM stretch s JOIN stream st ON st.host_id = s.host_id AND st.epoch_no = s.epoch_no
            WHERE s.epoch_no < 4611686018427387904
                AND EXISTS (SELECT 1 FROM chunk c
                    WHERE c.host_id = s.host_id AND c.epoch_no = s.epoch_no AND c.stretch = s.stretch
                    AND c.week >= DATE '1970-01-01' + $1::int AND c.week < DATE '1970-01-01' + $2::int
                    AND NOT EXISTS (SELECT 1 FROM chunk b
                        WHERE b.host_id = c.host_id AND b.epoch_no = c.epoch_no AND b.stretch = c.stretch AND b.baseline
                        AND b.week = DATE '1970-01-01' + $2::int AND b.to_seq >= c.to_seq))
                AND (COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) >= $2::bigint * 86400000
                    OR NOT EXISTS (SELECT 1 FROM stretch n WHERE n.host_id = s.host_id
                        AND n.epoch_no < 4611686018427387904
                        AND (n.epoch_no, n.stretch) > (s.epoch_no, s.stretch)))",
            $rest
        )
    };
}

const GOING_ON_SQL: &str =
    going_on!("s.host_id, s.epoch_no, s.stretch", " ORDER BY s.host_id, s.epoch_no, s.stretch LIMIT $3");
/// Whether a baseline is missing.
pub(super) const CHUNK_WANTED_SQL: &str = going_on!("count(*) > 0", "");
const MISSING_SQL: &str = going_on!("count(*)", "");

const LAST_OF_WEEK_SQL: &str = "SELECT from_wall_ms, from_seq, to_seq, to_wall_ms, prev_wall_ms, records, objects, body FROM chunk WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3
    AND week >= DATE '1970-01-01' + $4::int AND week < DATE '1970-01-01' + $5::int
    ORDER BY from_wall_ms DESC, to_seq DESC LIMIT 1";

const BASELINE_SQL: &str = "INSERT INTO chunk (host_id, epoch_no, stretch, from_wall_ms, from_seq, week, to_seq,
        to_wall_ms, prev_wall_ms, records, baseline, objects, body)
    VALUES ($1, $2, $3, $4, $5, DATE '1970-01-01' + $6::int, $7, $8, $9, $10, true, $11, $12) ON CONFLICT DO NOTHING";

/// What a newer one replaces.
const OLD_BASELINE_SQL: &str = "DELETE FROM chunk WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3
    AND week = DATE '1970-01-01' + $4::int AND baseline AND to_seq < $5";

const CUT_SQL: &str = "UPDATE stretch SET from_seq = $4, from_wall_ms = $5, from_boot_us = COALESCE($6, from_boot_us)
    WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND from_seq < $4";

const FORGET_GAPS_SQL: &str = "DELETE FROM gap WHERE host_id = $1 AND (epoch_no, seq) < ($2, $3) AND to_wall_ms <= $4";

/// Its key is the first record that is kept, or that of the last stretch that is not.
const GAP_SQL: &str = "INSERT INTO gap (host_id, epoch_no, seq, from_wall_ms, to_wall_ms, reason, detail)
    VALUES ($1, $2, $3, NULL, $4, $5, '')
    ON CONFLICT (host_id, epoch_no, seq) DO UPDATE SET from_wall_ms = excluded.from_wall_ms,
        to_wall_ms = excluded.to_wall_ms, reason = excluded.reason, detail = excluded.detail";

/// Stretches that go with the week: nothing of them waits to be moved; an agent's own ended before the border and is not
/// its host's newest, an imported one lies nowhere else.
const ENDED_SQL: &str = "SELECT s.host_id, s.epoch_no, s.stretch, s.from_seq,
        COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) AS end_wall_ms
    FROM stretch s JOIN stream st ON st.host_id = s.host_id AND st.epoch_no = s.epoch_no
    WHERE EXISTS (SELECT 1 FROM chunk c
            WHERE c.host_id = s.host_id AND c.epoch_no = s.epoch_no AND c.stretch = s.stretch
            AND c.week >= DATE '1970-01-01' + $1::int AND c.week < DATE '1970-01-01' + $2::int)
        AND NOT EXISTS (SELECT 1 FROM chunk_fresh f
            WHERE f.host_id = s.host_id AND f.epoch_no = s.epoch_no AND f.stretch = s.stretch
            AND f.to_seq >= st.merged_to)
        AND NOT EXISTS (SELECT 1 FROM frame f
            WHERE f.host_id = s.host_id AND f.epoch_no = s.epoch_no AND f.stretch = s.stretch
            AND f.seq >= st.compacted_to)
        AND CASE WHEN s.epoch_no < 4611686018427387904
            THEN COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) < $2::bigint * 86400000
                AND EXISTS (SELECT 1 FROM stretch n WHERE n.host_id = s.host_id AND n.epoch_no < 4611686018427387904
                    AND (n.epoch_no, n.stretch) > (s.epoch_no, s.stretch))
            ELSE NOT EXISTS (SELECT 1 FROM chunk e
                WHERE e.host_id = s.host_id AND e.epoch_no = s.epoch_no AND e.stretch = s.stretch
                AND e.week >= DATE '1970-01-01' + $2::int) END
    ORDER BY s.host_id, s.epoch_no, s.stretch LIMIT $3";

const DROP_STRETCH_SQL: &str = "DELETE FROM stretch WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3";
const DROP_GAP_SQL: &str = "DELETE FROM gap WHERE host_id = $1 AND epoch_no = $2 AND seq = $3";

/// Epochs without a stretch that is kept, never a host's newest.
const STREAMS_SQL: &str = "SELECT s.host_id, s.epoch_no FROM stream s
    WHERE s.opened_ms < $1 AND s.next_seq > 0 AND s.framed_to <= s.merged_to
        AND NOT EXISTS (SELECT 1 FROM stretch t WHERE t.host_id = s.host_id AND t.epoch_no = s.epoch_no)
        AND (s.epoch_no >= 4611686018427387904 OR EXISTS (SELECT 1 FROM stream n WHERE n.host_id = s.host_id
            AND n.epoch_no > s.epoch_no AND n.epoch_no < 4611686018427387904 AND n.next_seq > 0))
    ORDER BY s.host_id, s.epoch_no LIMIT $2";
const DROP_STREAMS_SQL: &str =
    "DELETE FROM stream AS s USING unnest($1::bigint[], $2::bigint[]) AS d (host_id, epoch_no)
    WHERE s.host_id = d.host_id AND s.epoch_no = d.epoch_no";

/// Flags that were over before the border, with their transitions. Of imported history it counts when it was imported.
const FLAGS_SQL: &str = "SELECT f.host_id, f.flag_id FROM flag f WHERE f.state = 'cleared' AND f.cleared_ms < $1
        AND NOT EXISTS (SELECT 1 FROM flag_event e JOIN stream s ON s.host_id = e.host_id AND s.epoch_no = e.epoch_no
            WHERE e.host_id = f.host_id AND e.flag_id = f.flag_id AND e.epoch_no >= 4611686018427387904
            AND s.opened_ms >= $1)
    ORDER BY f.host_id, f.flag_id LIMIT $2";
const DROP_FLAG_EVENTS_SQL: &str = "DELETE FROM flag_event AS e
    USING unnest($1::bigint[], $2::bigint[]) AS d (host_id, flag_id)
    WHERE e.host_id = d.host_id AND e.flag_id = d.flag_id";
const DROP_FLAGS_SQL: &str = "DELETE FROM flag AS f USING unnest($1::bigint[], $2::bigint[]) AS d (host_id, flag_id)
    WHERE f.host_id = d.host_id AND f.flag_id = d.flag_id";

/// Facts that others had followed before the border.
const FACTS_SQL: &str = "SELECT f.host_id, f.epoch_no, f.seq FROM host_facts f
    WHERE f.wall_ms < $1 AND EXISTS (SELECT 1 FROM host_facts n WHERE n.host_id = f.host_id AND n.wall_ms < $1
        AND (n.epoch_no, n.seq) > (f.epoch_no, f.seq))
    ORDER BY f.host_id, f.epoch_no, f.seq LIMIT $2";
const DROP_FACTS_SQL: &str = "DELETE FROM host_facts AS f
    USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS d (host_id, epoch_no, seq)
    WHERE f.host_id = d.host_id AND f.epoch_no = d.epoch_no AND f.seq = d.seq";

const PARTS_SQL: &str = "SELECT host_id, epoch_no, seq FROM gap_part WHERE to_wall_ms < $1
    ORDER BY host_id, epoch_no, seq LIMIT $2";
const DROP_PARTS_SQL: &str = "DELETE FROM gap_part AS g
    USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS d (host_id, epoch_no, seq)
    WHERE g.host_id = d.host_id AND g.epoch_no = d.epoch_no AND g.seq = d.seq AND g.to_wall_ms < $4";

/// The last slot of each namespace as the first of the next partition. A row that is there already ends with that half day
/// and may lack its beginning.
const USAGE_SQL: &str = "INSERT INTO usage AS t (host_id, namespace, instance, from_ms, month, own, slots,
        sem_arrays, sem_arrays_max, semmni, semaphores, semaphores_max, semmns, shm_segments, shm_segments_max, shmmni,
        shm_pages, shm_pages_max, shmall, msg_queues, msg_queues_max, msgmni)
    SELECT u.host_id, u.namespace, u.instance, $2::bigint * 86400000, DATE '1970-01-01' + $2::int, u.own, ARRAY[0],
        ARRAY[u.sem_arrays[u.n]], ARRAY[NULL::numeric], ARRAY[u.semmni[u.n]],
        ARRAY[u.semaphores[u.n]], ARRAY[NULL::numeric], ARRAY[u.semmns[u.n]],
        ARRAY[u.shm_segments[u.n]], ARRAY[NULL::numeric], ARRAY[u.shmmni[u.n]],
        ARRAY[u.shm_pages[u.n]], ARRAY[NULL::numeric], ARRAY[u.shmall[u.n]],
        ARRAY[u.msg_queues[u.n]], ARRAY[NULL::numeric], ARRAY[u.msgmni[u.n]]
    FROM (SELECT DISTINCT ON (host_id, namespace, instance) *, cardinality(slots) AS n FROM usage
        WHERE month >= DATE '1970-01-01' + $1::int AND month < DATE '1970-01-01' + $2::int
        ORDER BY host_id, namespace, instance, from_ms DESC) AS u
    WHERE COALESCE(u.sem_arrays[u.n], u.shm_segments[u.n], u.msg_queues[u.n]) IS NOT NULL
    ON CONFLICT (host_id, namespace, instance, from_ms, month) DO UPDATE SET slots = excluded.slots || t.slots,
        sem_arrays = excluded.sem_arrays || t.sem_arrays, sem_arrays_max = excluded.sem_arrays_max || t.sem_arrays_max,
        semmni = excluded.semmni || t.semmni, semaphores = excluded.semaphores || t.semaphores,
        semaphores_max = excluded.semaphores_max || t.semaphores_max, semmns = excluded.semmns || t.semmns,
        shm_segments = excluded.shm_segments || t.shm_segments,
        shm_segments_max = excluded.shm_segments_max || t.shm_segments_max, shmmni = excluded.shmmni || t.shmmni,
        shm_pages = excluded.shm_pages || t.shm_pages, shm_pages_max = excluded.shm_pages_max || t.shm_pages_max,
        shmall = excluded.shmall || t.shmall, msg_queues = excluded.msg_queues || t.msg_queues,
        msg_queues_max = excluded.msg_queues_max || t.msg_queues_max, msgmni = excluded.msgmni || t.msgmni
    WHERE t.slots[1] > 0";
const USAGE_HOUR_SQL: &str = "INSERT INTO usage_hour (host_id, namespace, instance, slot_ms, year, own, sem_arrays,
        sem_arrays_max, semmni, semaphores, semaphores_max, semmns, shm_segments, shm_segments_max, shmmni, shm_pages,
        shm_pages_max, shmall, msg_queues, msg_queues_max, msgmni)
    SELECT u.host_id, u.namespace, u.instance, $2::bigint * 86400000, DATE '1970-01-01' + $2::int, u.own,
        u.sem_arrays, u.sem_arrays, u.semmni, u.semaphores, u.semaphores, u.semmns, u.shm_segments,
        u.shm_segments, u.shmmni, u.shm_pages, u.shm_pages, u.shmall, u.msg_queues, u.msg_queues, u.msgmni
    FROM (SELECT DISTINCT ON (host_id, namespace, instance) * FROM usage_hour
        WHERE year >= DATE '1970-01-01' + $1::int AND year < DATE '1970-01-01' + $2::int
        ORDER BY host_id, namespace, instance, slot_ms DESC) AS u
    WHERE COALESCE(u.sem_arrays, u.shm_segments, u.msg_queues) IS NOT NULL ON CONFLICT DO NOTHING";
/// The row itself goes on: its hours are before the year, and of them the last holds.
const USAGE_PACK_SQL: &str = "INSERT INTO usage_pack (host_id, namespace, instance, from_ms, year, own, is_there, body)
    SELECT u.host_id, u.namespace, u.instance, u.from_ms, DATE '1970-01-01' + $2::int, u.own, u.is_there, u.body
    FROM (SELECT DISTINCT ON (host_id, namespace, instance, own) * FROM usage_pack
        WHERE year >= DATE '1970-01-01' + $1::int AND year < DATE '1970-01-01' + $2::int
        ORDER BY host_id, namespace, instance, own, from_ms DESC) AS u
    WHERE u.is_there ON CONFLICT DO NOTHING";
const OWNER_USAGE_SQL: &str =
    "INSERT INTO owner_usage (host_id, slot_ms, month, wall_ms, boot_id, own, own_instance, namespaces, instances, kinds,
        uids, users, comms, objects, objects_max, semaphores, bytes, orphans, certain)
    SELECT u.host_id, $2::bigint * 86400000, DATE '1970-01-01' + $2::int, u.wall_ms, u.boot_id, u.own, u.own_instance,
        u.namespaces, u.instances, u.kinds, u.uids, u.users, u.comms, u.objects, NULL, u.semaphores, u.bytes, u.orphans,
        u.certain
    FROM (SELECT DISTINCT ON (host_id) * FROM owner_usage
        WHERE month >= DATE '1970-01-01' + $1::int AND month < DATE '1970-01-01' + $2::int
        ORDER BY host_id, slot_ms DESC) AS u
    WHERE cardinality(u.objects) > 0 ON CONFLICT DO NOTHING";

/// These walk through a whole partition, which nobody writes any more.
const PATIENT_SQL: &str = "SET LOCAL statement_timeout = '600s'";

/// A stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which {
    /// Its host.
    pub host: HostId,
    /// Its epoch.
    pub epoch: EpochNo,
    /// Its number there.
    pub stretch: u32,
}

/// At most `most` stretches with chunks in the week from `first` that go on and have no baseline at its end.
pub async fn going_on(connection: &mut Dedicated, first: Day, most: i64) -> Result<Vec<Which>, StoreError> {
    let mut tx = connection.write().await?;
    sqlx::query(PATIENT_SQL).execute(tx.connection()).await?;
    let query = sqlx::query_as(GOING_ON_SQL).bind(first.0).bind(Table::Chunk.next(first).0).bind(most);
    let rows: Vec<(i64, i64, i32)> = query.fetch_all(tx.connection()).await?;
    tx.commit().await?;
    rows.into_iter().map(|(host, epoch, stretch)| which(host, epoch, stretch)).collect()
}

/// How many baselines of stretches are missing at the end of the week from `first`.
pub(super) async fn missing(connection: &mut Connection, first: Day) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar(MISSING_SQL).bind(first.0).bind(Table::Chunk.next(first).0);
    Ok(query.fetch_one(connection).await?)
}

/// A stretch's last chunk in the week from `first`, as a baseline of the week after.
pub async fn last_of_week(connection: &mut Dedicated, which: Which, first: Day) -> Result<Option<Chunk>, StoreError> {
    type Row = (i64, i64, i64, i64, Option<i64>, i32, Vec<u8>, Vec<u8>);
    let mut tx = connection.write().await?;
    let query = sqlx::query_as(LAST_OF_WEEK_SQL).bind(which.host.0).bind(bigint(which.epoch.0));
    let query = query.bind(int(which.stretch)).bind(first.0).bind(Table::Chunk.next(first).0);
    let row: Option<Row> = query.fetch_optional(tx.connection()).await?;
    tx.commit().await?;
    let Some((from_wall_ms, from, to, to_wall_ms, prev_wall_ms, records, objects, body)) = row else { return Ok(None) };
    Ok(Some(Chunk {
        host: which.host,
        epoch: which.epoch,
        stretch: which.stretch,
        from_wall_ms,
        from: Seq(unsigned("chunk.from_seq", from)?),
        part: Table::Chunk.next(first),
        to: Seq(unsigned("chunk.to_seq", to)?),
        to_wall_ms,
        prev_wall_ms,
        records: u32::try_from(records).unwrap_or(0),
        baseline: true,
        objects,
        body,
    }))
}

/// Adds a baseline, unless it is there, in place of an older one, and lets its stretch begin with it, at `at` as far as that
/// is known; says with a gap why nothing is known before. All of it in the caller's transaction.
pub async fn begin_at_baseline(tx: &mut Write<'_>, baseline: &Chunk, at: Option<At>) -> Result<(), StoreError> {
    let b = baseline;
    sqlx::query(BASELINE_SQL)
        .bind(b.host.0)
        .bind(bigint(b.epoch.0))
        .bind(int(b.stretch))
        .bind(b.from_wall_ms)
        .bind(bigint(b.from.0))
        .bind(b.part.0)
        .bind(bigint(b.to.0))
        .bind(b.to_wall_ms)
        .bind(b.prev_wall_ms)
        .bind(int(b.records))
        .bind(&b.objects[..])
        .bind(&b.body[..])
        .execute(tx.connection())
        .await?;
    sqlx::query(OLD_BASELINE_SQL)
        .bind(b.host.0)
        .bind(bigint(b.epoch.0))
        .bind(int(b.stretch))
        .bind(b.part.0)
        .bind(bigint(b.to.0))
        .execute(tx.connection())
        .await?;
    sqlx::query(CUT_SQL)
        .bind(b.host.0)
        .bind(bigint(b.epoch.0))
        .bind(int(b.stretch))
        .bind(bigint(b.from.0))
        .bind(b.from_wall_ms)
        .bind(at.map(|at| bigint(at.boot_us)))
        .execute(tx.connection())
        .await?;
    nothing_before(tx, (b.host, b.epoch, b.from), b.from_wall_ms).await
}

async fn nothing_before(
    tx: &mut Write<'_>,
    (host, epoch, seq): (HostId, EpochNo, Seq),
    to_wall_ms: i64,
) -> Result<(), StoreError> {
    let (epoch, seq) = (bigint(epoch.0), bigint(seq.0));
    sqlx::query(FORGET_GAPS_SQL).bind(host.0).bind(epoch).bind(seq).bind(to_wall_ms).execute(tx.connection()).await?;
    let reason = i16::from(GapReason::Retention.code());
    let query = sqlx::query(GAP_SQL).bind(host.0).bind(epoch).bind(seq).bind(to_wall_ms).bind(reason);
    query.execute(tx.connection()).await?;
    Ok(())
}

/// Forgets at most `most` stretches that go whole with the week from `first`; says how many.
pub async fn forget_ended(tx: &mut Write<'_>, first: Day, most: i64) -> Result<usize, StoreError> {
    const IMPORTED: i64 = 1 << 62;
    sqlx::query(PATIENT_SQL).execute(tx.connection()).await?;
    let query = sqlx::query_as(ENDED_SQL).bind(first.0).bind(Table::Chunk.next(first).0).bind(most);
    let rows: Vec<(i64, i64, i32, i64, i64)> = query.fetch_all(tx.connection()).await?;
    for (host, epoch, stretch, from, end_wall_ms) in &rows {
        let query = sqlx::query(DROP_STRETCH_SQL).bind(host).bind(epoch).bind(stretch);
        query.execute(tx.connection()).await?;
        if *epoch >= IMPORTED {
            sqlx::query(DROP_GAP_SQL).bind(host).bind(epoch).bind(from).execute(tx.connection()).await?;
            continue;
        }
        let which = which(*host, *epoch, *stretch)?;
        let from = Seq(unsigned("stretch.from_seq", *from)?);
        nothing_before(tx, (which.host, which.epoch, from), *end_wall_ms).await?;
    }
    Ok(rows.len())
}

/// Forgets at most `most` rows each of epochs of which nothing is kept, of facts that others followed, and of partial gaps,
/// all of before `horizon_ms`; says how many.
pub async fn forget_small(tx: &mut Write<'_>, horizon_ms: i64, most: i64) -> Result<usize, StoreError> {
    sqlx::query(PATIENT_SQL).execute(tx.connection()).await?;
    let query = sqlx::query_as(STREAMS_SQL).bind(horizon_ms).bind(most);
    let streams: Vec<(i64, i64)> = query.fetch_all(tx.connection()).await?;
    let (hosts, epochs): (Vec<i64>, Vec<i64>) = streams.iter().copied().unzip();
    sqlx::query(DROP_STREAMS_SQL).bind(hosts).bind(epochs).execute(tx.connection()).await?;
    let mut count = streams.len();
    for (select, delete) in [(FACTS_SQL, DROP_FACTS_SQL), (PARTS_SQL, DROP_PARTS_SQL)] {
        let query = sqlx::query_as(select).bind(horizon_ms).bind(most);
        let keys: Vec<(i64, i64, i64)> = query.fetch_all(tx.connection()).await?;
        let column = |f: fn(&(i64, i64, i64)) -> i64| keys.iter().map(f).collect::<Vec<_>>();
        let query = sqlx::query(delete).bind(column(|k| k.0)).bind(column(|k| k.1)).bind(column(|k| k.2));
        let query = if delete == DROP_PARTS_SQL { query.bind(horizon_ms) } else { query };
        query.execute(tx.connection()).await?;
        count += keys.len();
    }
    Ok(count)
}

/// Forgets at most `most` flags that were over before `horizon_ms`; says how many.
pub async fn forget_flags(tx: &mut Write<'_>, horizon_ms: i64, most: i64) -> Result<usize, StoreError> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as(FLAGS_SQL).bind(horizon_ms).bind(most).fetch_all(tx.connection()).await?;
    let (hosts, flags): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
    for sql in [DROP_FLAG_EVENTS_SQL, DROP_FLAGS_SQL] {
        sqlx::query(sql).bind(&hosts).bind(&flags).execute(tx.connection()).await?;
    }
    Ok(hosts.len())
}

/// Lets the partition after that of `first` begin with the last row of each series that goes on. Tables of chunks and
/// records have none.
pub async fn begin_series(tx: &mut Write<'_>, table: Table, first: Day) -> Result<(), StoreError> {
    let sql = match table {
        Table::Usage => USAGE_SQL,
        Table::UsageHour => USAGE_HOUR_SQL,
        Table::UsagePack => USAGE_PACK_SQL,
        Table::OwnerUsage => OWNER_USAGE_SQL,
        Table::Frame | Table::ChunkFresh | Table::Chunk => return Ok(()),
    };
    sqlx::query(PATIENT_SQL).execute(tx.connection()).await?;
    sqlx::query(sql).bind(first.0).bind(table.next(first).0).execute(tx.connection()).await?;
    Ok(())
}

fn which(host: i64, epoch: i64, stretch: i32) -> Result<Which, StoreError> {
    let number = u32::try_from(stretch);
    Ok(Which {
        host: HostId(host),
        epoch: EpochNo(unsigned("stretch.epoch_no", epoch)?),
        stretch: number.map_err(|_| StoreError::Corrupt { what: format!("stretch.stretch {stretch}") })?,
    })
}
