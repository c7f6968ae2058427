//! Partitions of `frame`, one a day: made as a table, then attached, so that ingest never waits behind a long read.

use super::StoreError;
use super::day::Day;
use super::tx::Dedicated;

/// The days that have a partition, as days since 1970.
const DAYS_SQL: &str = "SELECT to_date(substr(c.relname, 7), 'YYYYMMDD') - DATE '1970-01-01'
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'frame'::regclass AND c.relname ~ '^frame_[0-9]{8}$'";

const SET_DAY_SQL: &str = "SELECT set_config('highwater.day', (DATE '1970-01-01' + $1::int)::text, true)";

/// One transaction: a crash leaves either the partition or nothing. `CREATE .. PARTITION OF` would take a lock that
/// waits behind every running query; a DO block takes no parameters, so the day comes as a setting. A table of that name
/// that is no partition (somebody detached it) is an error: it would take no record.
const CREATE_SQL: &str = "DO $$
DECLARE
    day  date := current_setting('highwater.day')::date;
    name text := 'frame_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(name) AND inhparent = 'frame'::regclass) THEN
        EXECUTE format('CREATE TABLE %I (LIKE frame INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE frame ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, day, day + 1);
    END IF;
END
$$";

/// The days that have a partition of their own; the fallback day always has one.
pub async fn days(connection: &mut Dedicated) -> Result<Vec<Day>, StoreError> {
    let mut tx = connection.write().await?;
    let days: Vec<i32> = sqlx::query_scalar(DAYS_SQL).fetch_all(tx.connection()).await?;
    tx.commit().await?;
    Ok(days.into_iter().map(Day).collect())
}

/// Makes a day's partition unless it is there.
pub async fn create(connection: &mut Dedicated, day: Day) -> Result<(), StoreError> {
    let made = try_create(connection, day).await;
    match made {
        // Another collector made it at the same moment: duplicate table, object or key.
        Err(e) if matches!(e.sqlstate().as_deref(), Some("42P07" | "42710" | "23505" | "42P17")) => {
            try_create(connection, day).await
        }
        other => other,
    }
}

async fn try_create(connection: &mut Dedicated, day: Day) -> Result<(), StoreError> {
    let mut tx = connection.write().await?;
    sqlx::query(SET_DAY_SQL).bind(day.0).execute(tx.connection()).await?;
    sqlx::raw_sql(CREATE_SQL).execute(tx.connection()).await?;
    tx.commit().await?;
    Ok(())
}
