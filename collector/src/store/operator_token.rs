//! The table `operator_token`.

use sqlx::{PgConnection, Row as _};

use super::{Db, StoreError};

const INSERT_SQL: &str = "INSERT INTO operator_token (token_id, name, role, secret_sha256, created_ms, revoked_ms)
    VALUES ($1, $2, $3, $4, $5, $6)";

const FIND_SQL: &str =
    "SELECT name, role, secret_sha256, created_ms, revoked_ms FROM operator_token WHERE token_id = $1";

const REVOKE_SQL: &str = "UPDATE operator_token SET revoked_ms = CASE WHEN revoked_ms IS NULL THEN $2 ELSE revoked_ms END WHERE token_id = $1 RETURNING revoked_ms";

/// An operator's credential as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOperator {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// When it was revoked.
    pub revoked_ms: Option<i64>,
}

/// Adds a credential.
pub async fn insert(connection: &mut PgConnection, operator: &StoredOperator) -> Result<(), StoreError> {
    sqlx::query(INSERT_SQL)
        .bind(&operator.id)
        .bind(&operator.name)
        .bind(&operator.role)
        .bind(operator.secret_sha256.as_slice())
        .bind(operator.created_ms)
        .bind(operator.revoked_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// The credential of this id.
pub async fn find(db: &Db, id: &str) -> Result<Option<StoredOperator>, StoreError> {
    let row = sqlx::query(FIND_SQL).bind(id).fetch_optional(&db.pool).await?;
    row.map(|row| {
        let digest: Vec<u8> = row.try_get("secret_sha256")?;
        let digest = digest.try_into();
        Ok(StoredOperator {
            id: id.to_owned(),
            name: row.try_get("name")?,
            role: row.try_get("role")?,
            secret_sha256: digest
                .map_err(|_| StoreError::Corrupt { what: format!("operator_token.secret_sha256 of token {id}") })?,
            created_ms: row.try_get("created_ms")?,
            revoked_ms: row.try_get("revoked_ms")?,
        })
    })
    .transpose()
}

/// Revokes a credential; `false` if there is none of this id. One revoked before keeps its time.
pub async fn revoke(connection: &mut PgConnection, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    let revoked: Option<i64> = sqlx::query_scalar(REVOKE_SQL).bind(id).bind(now_ms).fetch_optional(connection).await?;
    Ok(revoked.is_some())
}
