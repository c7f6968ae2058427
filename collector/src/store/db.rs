//! The database: connecting, migrating, and what it may answer instead of an answer.

use std::time::Duration;

use sqlx::Connection as _;
use sqlx::migrate::Migrate as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPool, PgPoolOptions, PgSeverity};

use super::tx::Dedicated;

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The migrations compiled into this binary.
pub static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

const FSYNC_SQL: &str = "SELECT current_setting('fsync')";

/// The database, cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    pub(super) pool: PgPool,
}

impl Db {
    /// Connects lazily-checked connections to `options`; fails if the server cannot be reached within 10 s.
    pub async fn connect(options: PgConnectOptions, most_connections: u32) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(most_connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            .connect_with(options)
            .await?;
        Ok(Self { pool })
    }

    /// Brings the schema up to date and says which migrations it applied, by number and name.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        let before = self.applied().await?;
        MIGRATIONS.run(&self.pool).await.map_err(StoreError::Migrate)?;
        let new = MIGRATIONS.iter().filter(|m| m.migration_type.is_up_migration() && !before.contains(&m.version));
        Ok(new.map(|m| format!("{:04} {}", m.version, m.description)).collect())
    }

    async fn applied(&self) -> Result<Vec<i64>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        connection.ensure_migrations_table(&MIGRATIONS.table_name).await.map_err(StoreError::Migrate)?;
        let applied = connection.list_applied_migrations(&MIGRATIONS.table_name).await.map_err(StoreError::Migrate)?;
        Ok(applied.iter().map(|m| m.version).collect())
    }

    /// Fails if the server runs with `fsync = off`: then a commit is no promise, and an ack would be a lie.
    pub async fn require_durability(&self) -> Result<(), StoreError> {
        let fsync: String = sqlx::query_scalar(FSYNC_SQL).fetch_one(&self.pool).await?;
        if fsync == "on" { Ok(()) } else { Err(StoreError::NotDurable { fsync }) }
    }

    /// A connection outside the pool, for one writer: it can be thrown away whole, whatever state it is in.
    pub async fn dedicated(&self) -> Result<Dedicated, StoreError> {
        let options = (*self.pool.connect_options()).clone();
        let connecting = PgConnection::connect_with(&options);
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connection) => Ok(Dedicated::new(connection?)),
            Err(_) => Err(StoreError::Sql(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Closes every pooled connection; waits for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Why the database did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or could not be reached.
    #[error("the database: {0}")]
    Sql(#[from] sqlx::Error),
    /// A migration failed.
    #[error("migrating the database: {0}")]
    Migrate(sqlx::migrate::MigrateError),
    /// A stored value is not what the collector writes.
    #[error("the database holds {what}, which Highwater does not write; was the table edited by hand?")]
    Corrupt {
        /// Table, column and value.
        what: String,
    },
    /// Neither an answer nor an error came: what was asked may have been done or not.
    #[error("the database did not answer within {seconds} s")]
    Unanswered {
        /// How long was waited.
        seconds: u64,
    },
    /// The task that asked ended early.
    #[error("asking the database ended early: {0}")]
    Interrupted(String),
    /// The server does not flush what it commits.
    #[error(
        "the PostgreSQL server runs with fsync = {fsync}: what it commits can be lost; set fsync = on in its \
         postgresql.conf and reload it"
    )]
    NotDurable {
        /// What the server says.
        fsync: String,
    },
}

impl StoreError {
    /// The SQLSTATE, where the server gave one.
    pub fn sqlstate(&self) -> Option<String> {
        match self {
            StoreError::Sql(sqlx::Error::Database(e)) => e.code().map(|c| c.into_owned()),
            _ => None,
        }
    }

    /// Whether the database is away: not reached, not answering, ending or not ready yet.
    pub fn is_away(&self) -> bool {
        use sqlx::Error::{Io, PoolClosed, PoolTimedOut, WorkerCrashed};
        match self {
            StoreError::Unanswered { .. } => true,
            StoreError::Sql(Io(_) | PoolClosed | PoolTimedOut | WorkerCrashed) => true,
            // Connection exceptions, and what a server says that ends or does not take anybody yet.
            other => other.sqlstate().is_some_and(|code| code.starts_with("08") || code.starts_with("57P0")),
        }
    }

    /// Whether the server itself said so, and goes on: then its connection is still good.
    pub fn from_server(&self) -> bool {
        let StoreError::Sql(sqlx::Error::Database(error)) = self else { return false };
        let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
        !matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic))
    }

    /// A lock was waited for in vain.
    pub fn was_locked(&self) -> bool {
        self.sqlstate().as_deref() == Some("55P03")
    }

    /// Whether asking again later can help: everything but what the server says of statements and values (SQLSTATE
    /// classes 22, 23 and 42) and values that cannot be read.
    pub fn may_pass(&self) -> bool {
        let lasting = self.sqlstate().is_some_and(|c| ["22", "23", "42"].iter().any(|class| c.starts_with(class)));
        !lasting && !matches!(self, StoreError::Corrupt { .. } | StoreError::NotDurable { .. })
    }

    /// Serialization failure or deadlock: the whole transaction may be tried again.
    pub fn may_retry(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("40001" | "40P01"))
    }

    /// The server refused a row for a CHECK or because no partition takes it: it says SQLSTATE 23514 of both, and only
    /// its words, in its language, tell them apart.
    pub fn may_lack_partition(&self) -> bool {
        self.sqlstate().as_deref() == Some("23514")
    }

    /// The server refused a value (SQLSTATE class 22 or 23): trying again cannot help.
    pub fn refused_value(&self) -> bool {
        self.sqlstate().is_some_and(|c| c.starts_with("22") || c.starts_with("23"))
    }
}
