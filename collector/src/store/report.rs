//! What the database says of itself, its tables and the work that waits.

use sqlx::FromRow;

use super::day::Day;
use super::history::Reading;
use super::partition::Table;
use super::{Db, StoreError};

const SERVER_SQL: &str = "SELECT current_setting('server_version'), pg_database_size(current_database())";

/// A row per table, its partitions summed. Rows as the server counts them, which may lag by a second, or as it last
/// estimated them.
const TABLES_SQL: &str = "SELECT r.relname::text AS name,
        sum(GREATEST(pg_stat_get_live_tuples(c.oid), c.reltuples::bigint, 0))::bigint AS rows,
        sum(pg_total_relation_size(c.oid))::bigint AS bytes
    FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid JOIN pg_class r ON r.oid = COALESCE(i.inhparent, c.oid)
    WHERE c.relkind = 'r' AND r.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'stream'::regclass)
        AND r.relname <> '_sqlx_migrations'
    GROUP BY r.relname ORDER BY 3 DESC, 1";

const FIND_INDEX_SQL: &str = "SELECT (COALESCE((SELECT sum(pg_column_size(objects)) FROM chunk), 0)
    + COALESCE((SELECT sum(pg_column_size(objects)) FROM chunk_fresh), 0)
    + COALESCE((SELECT sum(pg_column_size(objects)) FROM object_now), 0))::bigint";

const HOST_DAYS_SQL: &str = "SELECT COALESCE(sum(GREATEST(
        COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) - s.from_wall_ms, 0)) / 86400000.0, 0)::float8
    FROM stretch s JOIN stream st ON st.host_id = s.host_id AND st.epoch_no = s.epoch_no";

/// `in_sight_ms` of `fleet`, in SQL.
const HOSTS_SQL: &str = "SELECT count(*) FILTER (WHERE s.last_seen_ms <= $1 + GREATEST(3 * s.interval_ms::bigint, 3000)
        AND s.last_seen_ms >= $1 - GREATEST(3 * s.interval_ms::bigint, 3000)), count(*) FROM host_status s";

const UNCOMPACTED_SQL: &str = "SELECT min((SELECT f.received_ms FROM frame f WHERE f.host_id = s.host_id
        AND f.epoch_no = s.epoch_no AND f.seq >= s.compacted_to ORDER BY f.seq LIMIT 1))
    FROM stream s WHERE s.framed_to > s.compacted_to";
const UNMERGED_SQL: &str = "SELECT min(c.day) - DATE '1970-01-01' FROM chunk_fresh c
    JOIN stream s ON s.host_id = c.host_id AND s.epoch_no = c.epoch_no
    WHERE c.to_seq >= s.merged_to AND c.day > DATE '1970-01-01'";
const LEASES_SQL: &str = "SELECT name, fence, holder, until_ms FROM lease ORDER BY name";

const PARTITIONS_SQL: &str = "SELECT to_date(right(c.relname, 8), 'YYYYMMDD') - DATE '1970-01-01' AS first,
        GREATEST(pg_stat_get_live_tuples(c.oid), c.reltuples::bigint, 0) AS rows,
        pg_total_relation_size(c.oid) AS bytes
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = $1::text::regclass AND c.relname ~ ('^' || $1 || '_[0-9]{8}$') ORDER BY 1";

/// Its version and the bytes of the database.
pub async fn server(db: &Db) -> Result<(String, i64), StoreError> {
    Ok(sqlx::query_as(SERVER_SQL).fetch_one(&db.pool).await?)
}

/// What one table takes.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// Rows, about.
    pub rows: i64,
    /// Bytes on disk: heap, TOAST, indexes, maps.
    pub bytes: i64,
}

/// One partition of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSize {
    /// Its first day.
    pub first: Day,
    /// Rows, about.
    pub rows: i64,
    /// Bytes on disk.
    pub bytes: i64,
}

impl Reading {
    /// What each table takes, the largest first.
    pub async fn table_sizes(&mut self) -> Result<Vec<TableSize>, StoreError> {
        Ok(sqlx::query_as(TABLES_SQL).fetch_all(&mut *self.tx).await?)
    }

    /// Bytes of what `find` looks at first, which are within those of the chunks' tables.
    pub async fn find_index_bytes(&mut self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(FIND_INDEX_SQL).fetch_one(&mut *self.tx).await?)
    }

    /// Days of history kept, all hosts together.
    pub async fn host_days(&mut self) -> Result<f64, StoreError> {
        Ok(sqlx::query_scalar(HOST_DAYS_SQL).fetch_one(&mut *self.tx).await?)
    }

    /// How many hosts are in sight, and how many have ever reported.
    pub async fn hosts_in_sight(&mut self, now_ms: i64) -> Result<(i64, i64), StoreError> {
        Ok(sqlx::query_as(HOSTS_SQL).bind(now_ms).fetch_one(&mut *self.tx).await?)
    }

    /// Collector's clock when the oldest record came that waits for compaction.
    pub async fn oldest_uncompacted_ms(&mut self) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar(UNCOMPACTED_SQL).fetch_one(&mut *self.tx).await?)
    }

    /// The oldest day of which chunks wait to be merged.
    pub async fn oldest_unmerged(&mut self) -> Result<Option<Day>, StoreError> {
        let day: Option<i32> = sqlx::query_scalar(UNMERGED_SQL).fetch_one(&mut *self.tx).await?;
        Ok(day.map(Day))
    }

    /// Who works.
    pub async fn leases(&mut self) -> Result<Vec<super::lease::Lease>, StoreError> {
        Ok(sqlx::query_as(LEASES_SQL).fetch_all(&mut *self.tx).await?)
    }

    /// A table's partitions, ascending.
    pub async fn partition_sizes(&mut self, table: Table) -> Result<Vec<PartitionSize>, StoreError> {
        let query = sqlx::query_as(PARTITIONS_SQL).bind(table.name());
        let rows: Vec<(i32, i64, i64)> = query.fetch_all(&mut *self.tx).await?;
        Ok(rows.into_iter().map(|(first, rows, bytes)| PartitionSize { first: Day(first), rows, bytes }).collect())
    }

    /// How many stretches need a baseline before the week from `first` may go.
    pub async fn baselines_missing(&mut self, first: Day) -> Result<i64, StoreError> {
        super::retention::missing(&mut self.tx, first).await
    }
}
