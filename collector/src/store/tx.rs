//! Transactions: begun on a connection of their own, committed or rolled back, never cancelled half way.

use sqlx::postgres::Postgres;
use sqlx::{Connection as _, PgConnection, Transaction};

use super::{Db, StoreError};

/// What statements run on: the inside of a transaction, for signatures of rooms that must not name `sqlx`.
pub type Connection = PgConnection;

/// Runs reads in one REPEATABLE READ READ ONLY transaction: they all see one state of the database, whatever commits
/// meanwhile.
pub async fn snapshot(db: &Db) -> Result<Transaction<'static, Postgres>, StoreError> {
    begin(db, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
}

/// Begins a writing transaction whose commit is durable before it returns.
pub async fn write(db: &Db) -> Result<Transaction<'static, Postgres>, StoreError> {
    let mut tx = begin(db, "BEGIN").await?;
    sqlx::query("SET LOCAL synchronous_commit = on").execute(&mut *tx).await?;
    Ok(tx)
}

/// A cancelled `begin` leaves a transaction open on a pooled connection (sqlx 0.9.0, its issues 4385 and 4393), so it
/// runs in a task of its own, which finishes even when nobody waits for it any more.
async fn begin(db: &Db, statement: &'static str) -> Result<Transaction<'static, Postgres>, StoreError> {
    let pool = db.pool.clone();
    let task = tokio::spawn(async move { pool.begin_with(statement).await });
    match task.await {
        Ok(begun) => Ok(begun?),
        Err(ended) => {
            Err(StoreError::Sql(sqlx::Error::Protocol(format!("the task that began a transaction: {ended}"))))
        }
    }
}

/// Ends a connection for good instead of giving it back: its state is not known.
pub async fn discard(connection: PgConnection) {
    let _ = connection.close_hard().await;
}
