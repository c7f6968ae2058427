//! The table `host`.

use sqlx::PgConnection;

use super::StoreError;
use crate::host::HostId;

const INSERT_SQL: &str = "INSERT INTO host (host_id, name, labels, enrolled_ms) VALUES ($1, $2, $3::jsonb, $4)";

const FIND_SQL: &str = "SELECT host_id FROM host WHERE host_id = $1";

/// Of the agent's own: imported ones begin at 2^62.
const HIGHEST_EPOCH_SQL: &str =
    "SELECT max(epoch_no) FROM stream WHERE host_id = $1 AND epoch_no < 4611686018427387904";

/// Adds a host. `name` is escaped text, `labels` a JSON object.
pub async fn insert(
    connection: &mut PgConnection,
    host: HostId,
    name: &str,
    labels: &str,
    enrolled_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(INSERT_SQL).bind(host.0).bind(name).bind(labels).bind(enrolled_ms).execute(connection).await?;
    Ok(())
}

/// Whether there is such a host.
pub async fn exists(connection: &mut PgConnection, host: HostId) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(FIND_SQL).bind(host.0).fetch_optional(connection).await?;
    Ok(found.is_some())
}

/// The number after the host's highest stored epoch of its own agent; 1 if none is stored.
pub async fn next_epoch_no(connection: &mut PgConnection, host: HostId) -> Result<u64, StoreError> {
    let highest: Option<i64> = sqlx::query_scalar(HIGHEST_EPOCH_SQL).bind(host.0).fetch_one(connection).await?;
    let highest = highest.unwrap_or(0);
    u64::try_from(highest)
        .map(|no| no + 1)
        .map_err(|_| StoreError::Corrupt { what: format!("stream.epoch_no = {highest} of host {host}") })
}
