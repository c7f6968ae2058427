//! Column `host.name`: what a host called itself in its latest hello.

use super::StoreError;
use super::tx::Write;
use crate::host::HostId;

const NAME_SQL: &str = "SELECT name FROM host WHERE host_id = $1";
const RENAME_SQL: &str = "UPDATE host SET name = $2 WHERE host_id = $1";

/// Sets the name (escaped) where it differs; `false` if no such host is enrolled.
pub async fn set(tx: &mut Write<'_>, host: HostId, name: &str) -> Result<bool, StoreError> {
    let stored: Option<String> = sqlx::query_scalar(NAME_SQL).bind(host.0).fetch_optional(tx.connection()).await?;
    match stored {
        None => Ok(false),
        Some(stored) if stored == name => Ok(true),
        Some(_) => {
            sqlx::query(RENAME_SQL).bind(host.0).bind(name).execute(tx.connection()).await?;
            Ok(true)
        }
    }
}
