//! Transactions: begun on a connection of their own, committed or rolled back, never cancelled half way.

use sqlx::postgres::{PgConnection, Postgres};
use sqlx::{Connection as _, Transaction};

use super::{Db, StoreError};

/// What statements run on: the inside of a transaction, for signatures of rooms that must not name `sqlx`.
pub type Connection = PgConnection;

/// A table that is dropped between two statements is gone inside a snapshot, too: so whoever drops a partition (which locks
/// its parent) must wait for readings that have not touched it yet. LOCK takes no snapshot; what was dropped before it is
/// not looked for.
const BEGIN_READ_SQL: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    LOCK TABLE ONLY frame, ONLY chunk_fresh, ONLY chunk, ONLY usage, ONLY usage_hour, ONLY usage_pack,
    ONLY owner_usage IN ACCESS SHARE MODE";
const BEGIN_WRITE_SQL: &str = "BEGIN";
const DURABLE_SQL: &str = "SET LOCAL synchronous_commit = on";

/// Seconds after which the server gives up a statement of a [`Write`]. Its client gives up a little later; without this
/// bound each of its retries would leave one more backend waiting behind the same lock.
pub const STATEMENT_SECONDS: u64 = 25;
/// Seconds after which the server gives up waiting for one lock in a [`Write`]: sooner, so that the error says what for.
pub const LOCK_SECONDS: u64 = 20;
/// The same in a [`Dedicated::write_soon`]: whoever asked does not wait as long, and others wait behind it.
pub const SOON_SECONDS: u64 = 2;
/// Milliseconds after which the server gives up waiting for one lock in a [`Dedicated::write_briefly`]: whoever waits for
/// a lock on a whole table holds up everybody who comes after it, ingest too.
pub const BRIEF_MS: u64 = 50;
/// One message, no parameters. The last bound is for a client that was frozen, or cut off in silence, between two
/// statements: without it the server would keep the row locks for as long as it believes in the connection.
const DURABLE_IN_TIME_SQL: &str = "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '20s';
    SET LOCAL statement_timeout = '25s'; SET LOCAL idle_in_transaction_session_timeout = '25s'";
const DURABLE_SOON_SQL: &str = "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '2s';
    SET LOCAL statement_timeout = '25s'; SET LOCAL idle_in_transaction_session_timeout = '25s'";
const DURABLE_BRIEFLY_SQL: &str = "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '50ms';
    SET LOCAL statement_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// Runs reads in one REPEATABLE READ READ ONLY transaction: they all see one state of the database, whatever commits
/// meanwhile.
pub async fn snapshot(db: &Db) -> Result<Transaction<'static, Postgres>, StoreError> {
    begin(db, BEGIN_READ_SQL).await
}

/// Begins a writing transaction whose commit is durable before it returns.
pub async fn write(db: &Db) -> Result<Transaction<'static, Postgres>, StoreError> {
    let mut tx = begin(db, BEGIN_WRITE_SQL).await?;
    sqlx::query(DURABLE_SQL).execute(&mut *tx).await?;
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

/// A connection that belongs to one task. Dropping it closes its socket, so whoever does not know what became of a
/// commit drops it and asks again on another: nothing is ever given back to a pool in an unknown state.
pub struct Dedicated {
    connection: PgConnection,
}

impl Dedicated {
    pub(super) fn new(connection: PgConnection) -> Self {
        Self { connection }
    }

    /// Begins a writing transaction whose commit is durable before it returns, and of which the server ends each statement
    /// after [`STATEMENT_SECONDS`], and the connection when it has waited that long for the next one.
    pub async fn write(&mut self) -> Result<Write<'_>, StoreError> {
        self.begin(DURABLE_IN_TIME_SQL).await
    }

    /// The same, which waits for a lock no longer than [`SOON_SECONDS`].
    pub async fn write_soon(&mut self) -> Result<Write<'_>, StoreError> {
        self.begin(DURABLE_SOON_SQL).await
    }

    /// The same, which waits for a lock no longer than [`BRIEF_MS`], and runs no statement for more than 5 s.
    pub async fn write_briefly(&mut self) -> Result<Write<'_>, StoreError> {
        self.begin(DURABLE_BRIEFLY_SQL).await
    }

    async fn begin(&mut self, settings: &'static str) -> Result<Write<'_>, StoreError> {
        let mut tx = self.connection.begin_with(BEGIN_WRITE_SQL).await?;
        sqlx::raw_sql(settings).execute(&mut *tx).await?;
        Ok(Write { tx })
    }

    /// Rolls back a transaction that was left without an end. That is only said with the next statement otherwise, and
    /// until then, or until the server loses patience, nobody else gets the rows that it locked.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
        if self.connection.should_flush() {
            self.connection.ping().await?;
        }
        Ok(())
    }

    /// Says goodbye to the server; errors do not matter any more.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }
}

/// A writing transaction; dropped without [`Write::commit`] it changes nothing.
pub struct Write<'c> {
    tx: Transaction<'c, Postgres>,
}

impl Write<'_> {
    /// Commits. The answer is proof: nothing else makes one.
    pub async fn commit(self) -> Result<Committed, StoreError> {
        self.tx.commit().await?;
        Ok(Committed(()))
    }

    /// Changes nothing.
    pub async fn rollback(self) -> Result<(), StoreError> {
        Ok(self.tx.rollback().await?)
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}

/// Proof that a COMMIT returned.
#[derive(Debug)]
pub struct Committed(());

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::embedded::supervise::Postgres;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_server_itself_ends_a_writing_statement_and_an_idle_writer_before_its_client_gives_up() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let postgres = Postgres::start(directory.path(), |_| {}, &CancellationToken::new()).await.unwrap();
        let db = Db::connect(postgres.options(), 1).await.unwrap();
        let mut connection = db.dedicated().await.unwrap();
        let asked = "SELECT concat_ws(' ', current_setting('lock_timeout'), current_setting('statement_timeout'),
            current_setting('idle_in_transaction_session_timeout'), current_setting('synchronous_commit'))";
        for (soon, lock_seconds) in [(false, LOCK_SECONDS), (true, SOON_SECONDS)] {
            let write = if soon { connection.write_soon().await } else { connection.write().await };
            let mut write = write.unwrap();
            let told: String = sqlx::query_scalar(asked).fetch_one(write.connection()).await.unwrap();
            assert_eq!(told, format!("{lock_seconds}s {STATEMENT_SECONDS}s {STATEMENT_SECONDS}s on"));
            write.commit().await.unwrap();
        }
        connection.close().await;
        db.close().await;
        postgres.stop().await.unwrap();
    }
}
