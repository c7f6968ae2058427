//! The table `audit`: written last in the transaction of what it tells (it is local, the others are reference tables).

use sqlx::PgConnection;

use super::StoreError;

const INSERT_SQL: &str = "INSERT INTO audit (at_ms, who, what, subject) VALUES ($1, $2, $3, $4)";

/// One thing that somebody did.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// An operator's name, or `enrolment`, or `up`.
    pub who: &'a str,
    /// What, e.g. `token.create`.
    pub what: &'static str,
    /// Id of what it was done to.
    pub subject: &'a str,
}

/// Adds an entry.
pub async fn insert(connection: &mut PgConnection, entry: Entry<'_>) -> Result<(), StoreError> {
    sqlx::query(INSERT_SQL)
        .bind(entry.at_ms)
        .bind(entry.who)
        .bind(entry.what)
        .bind(entry.subject)
        .execute(connection)
        .await?;
    Ok(())
}
