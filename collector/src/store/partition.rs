//! Partitions of the tables that grow: made as a table, then attached, so that ingest never waits behind a long read;
//! dropped whole under a lock that is waited for so briefly that ingest does not notice.
//!
//! - **P1** A partition is there or not: making it and dropping it are one transaction each, so no crash leaves a table that
//!   belongs to nothing.
//! - **P2** None goes that holds what is read nowhere else. That is asked under a lock that keeps writers of this one
//!   partition out, in the transaction that drops it.
//! - **P3** Whoever waits for a lock on the parent holds up everybody behind it: no longer than
//!   [`tx::BRIEF_MS`](super::tx::BRIEF_MS).

use super::StoreError;
use super::day::Day;
use super::retention::CHUNK_WANTED_SQL;
use super::tx::{Dedicated, Write};

/// A table with partitions. Their names are the table's and the first day, `frame_20261124`; for times that cannot be
/// believed `frame_fallback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Records as they came, by day.
    Frame,
    /// Small chunks, by day.
    ChunkFresh,
    /// Chunks that are there to stay, by week from Monday.
    Chunk,
    /// Use of the limits in ten minutes, by month.
    Usage,
    /// Use of the limits in an hour, by year.
    UsageHour,
    /// The same, four days of a namespace in a row, by year.
    UsagePack,
    /// Who held what at the end of an hour, by month.
    OwnerUsage,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 7] = [
        Table::Frame,
        Table::ChunkFresh,
        Table::Chunk,
        Table::Usage,
        Table::UsageHour,
        Table::UsagePack,
        Table::OwnerUsage,
    ];
    /// Those whose partitions go with age.
    pub const AGED: [Table; 5] = [Table::Chunk, Table::Usage, Table::OwnerUsage, Table::UsageHour, Table::UsagePack];
    /// Those with what was derived.
    pub const SERIES: [Table; 4] = [Table::Usage, Table::UsageHour, Table::UsagePack, Table::OwnerUsage];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Table::Frame => "frame",
            Table::ChunkFresh => "chunk_fresh",
            Table::Chunk => "chunk",
            Table::Usage => "usage",
            Table::UsageHour => "usage_hour",
            Table::UsagePack => "usage_pack",
            Table::OwnerUsage => "owner_usage",
        }
    }

    /// The first day of the partition that holds a day; the fallback day is its own.
    pub fn first(self, day: Day) -> Day {
        match self {
            Table::Frame | Table::ChunkFresh => day,
            Table::Chunk => day.week(),
            Table::Usage | Table::OwnerUsage => day.month(),
            Table::UsageHour | Table::UsagePack => day.year(),
        }
    }

    /// The first day of the partition after the one that holds a day.
    pub fn next(self, day: Day) -> Day {
        let first = self.first(day);
        match self {
            Table::Frame | Table::ChunkFresh => first.plus(1),
            Table::Chunk => first.plus(7),
            Table::Usage | Table::OwnerUsage => first.plus(31).month(),
            Table::UsageHour | Table::UsagePack => first.plus(366).year(),
        }
    }

    /// Whether something in the partition `$1 <= day < $2` (days since 1970) must not go.
    fn wanted_sql(self) -> &'static str {
        match self {
            Table::Frame => FRAME_WANTED_SQL,
            Table::ChunkFresh => CHUNK_FRESH_WANTED_SQL,
            Table::Chunk => CHUNK_WANTED_SQL,
            Table::Usage => USAGE_WANTED_SQL,
            Table::UsageHour => USAGE_HOUR_WANTED_SQL,
            Table::UsagePack => USAGE_PACK_WANTED_SQL,
            Table::OwnerUsage => OWNER_USAGE_WANTED_SQL,
        }
    }
}

/// What became of a partition that was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is gone; or it was.
    Gone,
    /// It holds what must not go.
    Wanted,
    /// Somebody reads or writes it, or a long query reads its table: try again later.
    Busy,
}

/// The first days of a table's partitions, as days since 1970.
const LIST_SQL: &str = "SELECT to_date(right(c.relname, 8), 'YYYYMMDD') - DATE '1970-01-01'
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = $1::text::regclass AND c.relname ~ ('^' || $1 || '_[0-9]{8}$') ORDER BY 1";

/// A DO block takes no parameters, so table and days come as settings of the transaction.
const SET_PARTITION_SQL: &str = "SELECT set_config('highwater.parent', $1, true),
    set_config('highwater.first', (DATE '1970-01-01' + $2::int)::text, true),
    set_config('highwater.next', (DATE '1970-01-01' + $3::int)::text, true)";

/// One transaction: a crash leaves either the partition or nothing. `CREATE .. PARTITION OF` would take a lock that
/// waits behind every running query. A table of that name that is no partition (somebody detached it) is an error: it
/// would take no row. One that is there may have been attached in this very moment: its row of `pg_inherits` is seen a
/// little before others are told that the parent has changed, and until then they find "no partition for row". Whoever
/// attached it holds its lock until they are told.
const CREATE_SQL: &str = "DO $$
DECLARE
    parent text := current_setting('highwater.parent');
    first  date := current_setting('highwater.first')::date;
    name   text := parent || CASE first WHEN DATE '1970-01-01' THEN '_fallback' ELSE '_' || to_char(first, 'YYYYMMDD') END;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(name) AND inhparent = parent::regclass) THEN
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', name, parent);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, first,
            current_setting('highwater.next')::date);
    ELSE
        EXECUTE format('LOCK TABLE ONLY %I IN ACCESS SHARE MODE', name);
    END IF;
END
$$";

/// Keeps writers of this partition out and lets readers in.
const LOCK_WRITERS_SQL: &str = "DO $$
BEGIN
    EXECUTE format('LOCK TABLE ONLY %I IN SHARE ROW EXCLUSIVE MODE', current_setting('highwater.parent') || '_' ||
        to_char(current_setting('highwater.first')::date, 'YYYYMMDD'));
END
$$";

/// The partition first: whoever reads it alone is waited for while the parent is still free. The DROP itself locks the
/// parent.
const DROP_SQL: &str = "DO $$
DECLARE
    name text := current_setting('highwater.parent') || '_' ||
        to_char(current_setting('highwater.first')::date, 'YYYYMMDD');
BEGIN
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', name);
    EXECUTE format('DROP TABLE %I', name);
END
$$";

/// Records that wait for compaction.
const FRAME_WANTED_SQL: &str = "SELECT EXISTS (SELECT 1 FROM stream s
    WHERE s.framed_to > s.compacted_to
        AND EXISTS (SELECT 1 FROM frame f WHERE f.host_id = s.host_id AND f.epoch_no = s.epoch_no
            AND f.seq >= s.compacted_to
            AND f.day >= DATE '1970-01-01' + $1::int AND f.day < DATE '1970-01-01' + $2::int))";

/// Chunks that wait to be merged.
const CHUNK_FRESH_WANTED_SQL: &str = "SELECT EXISTS (SELECT 1 FROM stream s WHERE s.compacted_to > s.merged_to
        AND EXISTS (SELECT 1 FROM chunk_fresh c WHERE c.host_id = s.host_id AND c.epoch_no = s.epoch_no
            AND c.to_seq >= s.merged_to
            AND c.day >= DATE '1970-01-01' + $1::int AND c.day < DATE '1970-01-01' + $2::int))";

/// Series that go on (the last row says something) and with which the next partition does not begin.
const USAGE_WANTED_SQL: &str = "SELECT EXISTS (SELECT 1 FROM (SELECT DISTINCT ON (host_id, namespace, instance)
        host_id, namespace, instance, COALESCE(sem_arrays[cardinality(slots)], shm_segments[cardinality(slots)],
            msg_queues[cardinality(slots)]) AS used
        FROM usage WHERE month >= DATE '1970-01-01' + $1::int AND month < DATE '1970-01-01' + $2::int
        ORDER BY host_id, namespace, instance, from_ms DESC) AS u
    WHERE u.used IS NOT NULL AND NOT EXISTS (SELECT 1 FROM usage b WHERE b.host_id = u.host_id
        AND b.namespace = u.namespace AND b.instance = u.instance AND b.from_ms = $2::bigint * 86400000
        AND b.month = DATE '1970-01-01' + $2::int AND b.slots[1] = 0))";
const USAGE_HOUR_WANTED_SQL: &str = "SELECT EXISTS (SELECT 1 FROM (SELECT DISTINCT ON (host_id, namespace, instance)
        host_id, namespace, instance, COALESCE(sem_arrays, shm_segments, msg_queues) AS used
        FROM usage_hour WHERE year >= DATE '1970-01-01' + $1::int AND year < DATE '1970-01-01' + $2::int
        ORDER BY host_id, namespace, instance, slot_ms DESC) AS u
    WHERE u.used IS NOT NULL AND NOT EXISTS (SELECT 1 FROM usage_hour b WHERE b.host_id = u.host_id
        AND b.namespace = u.namespace AND b.instance = u.instance AND b.slot_ms = $2::bigint * 86400000
        AND b.year = DATE '1970-01-01' + $2::int))";
const USAGE_PACK_WANTED_SQL: &str =
    "SELECT EXISTS (SELECT 1 FROM (SELECT DISTINCT ON (host_id, namespace, instance, own)
        host_id, namespace, instance, own, from_ms, is_there
        FROM usage_pack WHERE year >= DATE '1970-01-01' + $1::int AND year < DATE '1970-01-01' + $2::int
        ORDER BY host_id, namespace, instance, own, from_ms DESC) AS u
    WHERE u.is_there AND NOT EXISTS (SELECT 1 FROM usage_pack b WHERE b.host_id = u.host_id
        AND b.namespace = u.namespace AND b.instance = u.instance AND b.own = u.own AND b.from_ms = u.from_ms
        AND b.year = DATE '1970-01-01' + $2::int))";
const OWNER_USAGE_WANTED_SQL: &str = "SELECT EXISTS (SELECT 1 FROM (SELECT DISTINCT ON (host_id)
        host_id, cardinality(objects) AS held FROM owner_usage
        WHERE month >= DATE '1970-01-01' + $1::int AND month < DATE '1970-01-01' + $2::int
        ORDER BY host_id, slot_ms DESC) AS u
    WHERE u.held > 0 AND NOT EXISTS (SELECT 1 FROM owner_usage b WHERE b.host_id = u.host_id
        AND b.slot_ms = $2::bigint * 86400000 AND b.month = DATE '1970-01-01' + $2::int))";

/// What is old enough to be forgotten is written by nobody in a hurry: its questions may take longer.
const PATIENT_SQL: &str = "SET LOCAL statement_timeout = '60s'";

/// The first days of a table's partitions, ascending; the fallback day, whose partition never goes, is not among them.
pub async fn list(connection: &mut Dedicated, table: Table) -> Result<Vec<Day>, StoreError> {
    let mut tx = connection.write().await?;
    let days: Vec<i32> = sqlx::query_scalar(LIST_SQL).bind(table.name()).fetch_all(tx.connection()).await?;
    tx.commit().await?;
    Ok(days.into_iter().map(Day).collect())
}

/// Makes the partition that holds a day, unless it is there. Waits for no query, and lets none wait. That of the fallback
/// day came with `frame`, and comes with the first such row elsewhere: an empty one costs 8 to 24 KiB.
pub async fn ensure(connection: &mut Dedicated, table: Table, day: Day) -> Result<(), StoreError> {
    let first = table.first(day);
    if first == Day::FALLBACK && table == Table::Frame {
        return Ok(());
    }
    match try_create(connection, table, first).await {
        // Another collector made it at the same moment: duplicate table, object or key. Or dropped it.
        Err(e) if matches!(e.sqlstate().as_deref(), Some("42P07" | "42710" | "23505" | "42P17" | "42P01")) => {
            try_create(connection, table, first).await
        }
        other => other,
    }
}

async fn try_create(connection: &mut Dedicated, table: Table, first: Day) -> Result<(), StoreError> {
    let mut tx = connection.write().await?;
    name(&mut tx, table, first).await?;
    sqlx::raw_sql(CREATE_SQL).execute(tx.connection()).await?;
    tx.commit().await?;
    Ok(())
}

/// Whether a partition holds what is read nowhere else: records that wait for compaction, chunks that wait to be merged,
/// series and stretches that the next partition does not begin with. Asked without a lock.
pub async fn is_wanted(connection: &mut Dedicated, table: Table, first: Day) -> Result<bool, StoreError> {
    let mut tx = connection.write().await?;
    let wanted = wanted(&mut tx, table, first).await?;
    tx.commit().await?;
    Ok(wanted)
}

/// Drops a partition, if it holds nothing that is read nowhere else. Tried once: whoever wants it gone tries again
/// after a while.
pub async fn drop_if(connection: &mut Dedicated, table: Table, first: Day) -> Result<Dropped, StoreError> {
    match try_drop(connection, table, first).await {
        // A lock that was not had in time, a deadlock, a question that took too long under the lock.
        Err(e) if matches!(e.sqlstate().as_deref(), Some("55P03" | "40P01" | "57014")) => Ok(Dropped::Busy),
        Err(e) if e.sqlstate().as_deref() == Some("42P01") => Ok(Dropped::Gone),
        other => other,
    }
}

async fn try_drop(connection: &mut Dedicated, table: Table, first: Day) -> Result<Dropped, StoreError> {
    let mut tx = connection.write_briefly().await?;
    name(&mut tx, table, first).await?;
    if !matches!(table, Table::Frame | Table::ChunkFresh) {
        sqlx::query(PATIENT_SQL).execute(tx.connection()).await?;
    }
    sqlx::raw_sql(LOCK_WRITERS_SQL).execute(tx.connection()).await?;
    if wanted(&mut tx, table, first).await? {
        tx.rollback().await?;
        return Ok(Dropped::Wanted);
    }
    sqlx::raw_sql(DROP_SQL).execute(tx.connection()).await?;
    tx.commit().await?;
    Ok(Dropped::Gone)
}

async fn wanted(tx: &mut Write<'_>, table: Table, first: Day) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar(table.wanted_sql()).bind(first.0).bind(table.next(first).0);
    // Planned for these days: a plan for any would lock every partition.
    Ok(query.persistent(false).fetch_one(tx.connection()).await?)
}

/// Which partition the blocks of this transaction speak of.
async fn name(tx: &mut Write<'_>, table: Table, first: Day) -> Result<(), StoreError> {
    let query = sqlx::query(SET_PARTITION_SQL).bind(table.name()).bind(first.0).bind(table.next(first).0);
    query.execute(tx.connection()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partitions_of_a_table_follow_one_another_without_a_hole() {
        for table in Table::ALL {
            let mut first = table.first(Day(18_262));
            for day in (18_262..30_000).map(Day) {
                if table.first(day) != first {
                    assert_eq!((table.next(first), table.first(day)), (day, day), "{table:?}");
                    first = day;
                }
            }
            assert_eq!(table.first(Day::FALLBACK), Day::FALLBACK);
        }
    }
}
