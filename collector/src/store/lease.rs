//! Table `lease`: who does a job of which there must be one. Times are the collectors' clocks, handed in; a holder's number,
//! its *fence*, is what counts, so a clock that is wrong costs time and never a second holder that commits.

use super::StoreError;
use super::tx::{Dedicated, Write};

/// A lease that ran out may be taken; so may one that runs further than any holder asks for: a clock far ahead wrote it.
/// The holder before is waited for where it is just committing ([`check`] locks the row).
const TAKE_SQL: &str = "INSERT INTO lease AS l (name, fence, holder, until_ms) VALUES ($1, 1, $2, $4)
    ON CONFLICT (name) DO UPDATE SET fence = l.fence + 1, holder = excluded.holder, until_ms = excluded.until_ms
    WHERE l.until_ms <= $3 OR l.until_ms > $5
    RETURNING fence";
const RENEW_SQL: &str = "UPDATE lease SET until_ms = $3 WHERE name = $1 AND fence = $2 RETURNING fence";
const CHECK_SQL: &str = "SELECT fence FROM lease WHERE name = $1 AND fence = $2 FOR SHARE";
const LIST_SQL: &str = "SELECT name, fence, holder, until_ms FROM lease ORDER BY name";

/// Number of a lease's holder; each holder has a higher one than all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub i64);

/// Why a job did not commit.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else holds it: the transaction must change nothing.
    #[error("the lease {name} was taken by somebody else")]
    Lost {
        /// Which.
        name: String,
    },
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A row, for people.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Lease {
    /// The job.
    pub name: String,
    /// Number of its holder.
    pub fence: i64,
    /// Which collector process holds it, or held it last.
    pub holder: String,
    /// Until when, milliseconds since 1970; 0 = it was given back.
    pub until_ms: i64,
}

/// Takes a lease for `length_ms` from `now_ms` on, if nobody holds it; waits at most 2 s for a holder that is committing.
/// Longer than ten times its length ahead nobody holds one.
pub async fn take(
    connection: &mut Dedicated,
    name: &str,
    holder: &str,
    now_ms: i64,
    length_ms: i64,
) -> Result<Option<Fence>, StoreError> {
    let mut tx = connection.write_soon().await?;
    let until_ms = now_ms.saturating_add(length_ms);
    let believed = now_ms.saturating_add(length_ms.saturating_mul(10));
    let query = sqlx::query_scalar(TAKE_SQL).bind(name).bind(holder).bind(now_ms).bind(until_ms).bind(believed);
    let fence: Option<i64> = query.fetch_optional(tx.connection()).await?;
    tx.commit().await?;
    Ok(fence.map(Fence))
}

/// Keeps a lease until `until_ms`, also one that ran out, unless somebody has taken it: then the answer is `false`.
pub async fn renew(connection: &mut Dedicated, name: &str, fence: Fence, until_ms: i64) -> Result<bool, StoreError> {
    let mut tx = connection.write_soon().await?;
    let query = sqlx::query_scalar(RENEW_SQL).bind(name).bind(fence.0).bind(until_ms);
    let kept: Option<i64> = query.fetch_optional(tx.connection()).await?;
    tx.commit().await?;
    Ok(kept.is_some())
}

/// Gives a lease back, if it is still this holder's.
pub async fn release(connection: &mut Dedicated, name: &str, fence: Fence) -> Result<(), StoreError> {
    renew(connection, name, fence, 0).await.map(|_| ())
}

/// The first statement of a job's transaction: until that is over nobody takes the lease, and if somebody has taken it
/// this is an error.
pub async fn check(tx: &mut Write<'_>, name: &str, fence: Fence) -> Result<(), LeaseError> {
    let query = sqlx::query_scalar(CHECK_SQL).bind(name).bind(fence.0);
    let held: Option<i64> = query.fetch_optional(tx.connection()).await.map_err(StoreError::from)?;
    if held.is_some() { Ok(()) } else { Err(LeaseError::Lost { name: name.to_owned() }) }
}

/// All leases, by name.
pub async fn list(connection: &mut Dedicated) -> Result<Vec<Lease>, StoreError> {
    let mut tx = connection.write_soon().await?;
    let rows = sqlx::query_as(LIST_SQL).fetch_all(tx.connection()).await?;
    tx.commit().await?;
    Ok(rows)
}
