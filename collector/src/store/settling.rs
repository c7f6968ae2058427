//! Commits in doubt: acknowledged, durable, and not visible yet.
//!
//! Where the database is spread over several servers, a commit of one host's records can return success while it is still a
//! prepared transaction on the server that holds them: it becomes visible when that server is told, at the latest by
//! recovery. Whoever asks meanwhile for what the host holds now must not be told the state before.

use super::StoreError;
use super::history::Reading;
use super::tx::Write;
use crate::host::HostId;

/// Each commit of records moves the host's row in `stream` first, and a row that a prepared transaction has changed
/// carries its number. Without prepared transactions, the rule, the list is empty and costs no look at any table.
///
/// On Citus this looks at the coordinator's list alone, and the rows of a host lie on a worker, so there it finds nothing:
/// the same question has to be asked on the worker that holds the host's shard.
///
/// The list is of now, the row is of the reading's snapshot. A transaction that is committed between the two is missed:
/// then the answer is that of the instant at which the question began.
const SETTLING_SQL: &str = "SELECT EXISTS (SELECT 1 FROM pg_prepared_xacts AS p
    JOIN stream AS s ON s.host_id = $1 AND s.xmax = p.transaction
    WHERE p.database = current_database())";

/// The same of a transaction that writes.
pub async fn is_settling(tx: &mut Write<'_>, host: HostId) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(SETTLING_SQL).bind(host.0).fetch_one(tx.connection()).await?)
}

impl Reading {
    /// Whether records of that host are committed and not visible yet.
    pub async fn is_settling(&mut self, host: HostId) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(SETTLING_SQL).bind(host.0).fetch_one(&mut *self.tx).await?)
    }
}
