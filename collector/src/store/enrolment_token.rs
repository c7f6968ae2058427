//! The table `enrolment_token`.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::{Db, StoreError};
use crate::host::HostId;

const INSERT_SQL: &str = "INSERT INTO enrolment_token
    (token_id, secret_sha256, created_ms, expires_ms, uses_left, host_id, labels, revoked_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8)";

const FIND_SQL: &str =
    "SELECT token_id, secret_sha256, created_ms, expires_ms, uses_left, host_id, labels::text, revoked_ms
    FROM enrolment_token WHERE token_id = $1";

const LIST_SQL: &str =
    "SELECT token_id, secret_sha256, created_ms, expires_ms, uses_left, host_id, labels::text, revoked_ms
    FROM enrolment_token ORDER BY created_ms DESC, token_id LIMIT $1";

const TAKE_USE_SQL: &str = "UPDATE enrolment_token SET uses_left = uses_left - 1
    WHERE token_id = $1 AND uses_left > 0 AND revoked_ms IS NULL AND expires_ms > $2 RETURNING uses_left";

const REVOKE_SQL: &str = "UPDATE enrolment_token SET revoked_ms = CASE WHEN revoked_ms IS NULL THEN $2 ELSE revoked_ms END WHERE token_id = $1 RETURNING revoked_ms";

/// The most tokens that one listing returns, newest first.
pub const LISTED: i64 = 1000;

/// A token as it is stored; the secret itself is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredToken {
    /// Its id.
    pub id: String,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// When it was made, milliseconds since 1970, as the other times here.
    pub created_ms: i64,
    /// Until when it can be used.
    pub expires_ms: i64,
    /// How many hosts it may still enrol.
    pub uses_left: u32,
    /// The host that it re-enrols; `None` = a new one.
    pub host: Option<HostId>,
    /// Labels for the new host, a JSON object.
    pub labels: String,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

/// Adds a token.
pub async fn insert(connection: &mut PgConnection, token: &StoredToken) -> Result<(), StoreError> {
    sqlx::query(INSERT_SQL)
        .bind(&token.id)
        .bind(token.secret_sha256.as_slice())
        .bind(token.created_ms)
        .bind(token.expires_ms)
        .bind(i32::try_from(token.uses_left).unwrap_or(i32::MAX))
        .bind(token.host.map(|h| h.0))
        .bind(&token.labels)
        .bind(token.revoked_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// The token of this id.
pub async fn find(db: &Db, id: &str) -> Result<Option<StoredToken>, StoreError> {
    let row = sqlx::query(FIND_SQL).bind(id).fetch_optional(&db.pool).await?;
    row.map(|row| stored(&row)).transpose()
}

/// The newest [`LISTED`] tokens, newest first.
pub async fn list(db: &Db) -> Result<Vec<StoredToken>, StoreError> {
    let rows = sqlx::query(LIST_SQL).bind(LISTED).fetch_all(&db.pool).await?;
    rows.iter().map(stored).collect()
}

/// Takes one use of a token that is neither expired nor revoked nor used up; whether there was one. Two at once wait
/// for each other here.
pub async fn take_use(connection: &mut PgConnection, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    let taken: Option<i32> = sqlx::query_scalar(TAKE_USE_SQL).bind(id).bind(now_ms).fetch_optional(connection).await?;
    Ok(taken.is_some())
}

/// Revokes a token; `false` if there is none of this id. One revoked before keeps its time.
pub async fn revoke(connection: &mut PgConnection, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    let revoked: Option<i64> = sqlx::query_scalar(REVOKE_SQL).bind(id).bind(now_ms).fetch_optional(connection).await?;
    Ok(revoked.is_some())
}

fn stored(row: &PgRow) -> Result<StoredToken, StoreError> {
    let id: String = row.try_get("token_id")?;
    let corrupt = |column: &str| StoreError::Corrupt { what: format!("enrolment_token.{column} of token {id}") };
    let digest: Vec<u8> = row.try_get("secret_sha256")?;
    let uses: i32 = row.try_get("uses_left")?;
    Ok(StoredToken {
        secret_sha256: digest.try_into().map_err(|_| corrupt("secret_sha256"))?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        uses_left: u32::try_from(uses).map_err(|_| corrupt("uses_left"))?,
        host: row.try_get::<Option<i64>, _>("host_id")?.map(HostId),
        labels: row.try_get("labels")?,
        revoked_ms: row.try_get("revoked_ms")?,
        id,
    })
}
