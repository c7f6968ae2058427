//! The table `certificate`.

use sqlx::{PgConnection, Row as _};

use super::StoreError;
use crate::host::HostId;

const INSERT_SQL: &str = "INSERT INTO certificate
    (serial, host_id, token_id, spki_sha256, not_before_ms, not_after_ms, der, revoked_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

const BOUGHT_WITH_SQL: &str = "SELECT serial, host_id, not_before_ms, not_after_ms, der, revoked_ms
    FROM certificate WHERE token_id = $1 AND spki_sha256 = $2";

/// A certificate that was signed for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    /// Serial number, big endian.
    pub serial: Vec<u8>,
    /// Whose it is.
    pub host: HostId,
    /// The token that bought it.
    pub token_id: String,
    /// SHA-256 of the host's SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Its life, milliseconds since 1970.
    pub not_before_ms: i64,
    /// End of its life.
    pub not_after_ms: i64,
    /// The certificate itself.
    pub der: Vec<u8>,
    /// When it was revoked, milliseconds since 1970.
    pub revoked_ms: Option<i64>,
}

/// Adds a certificate.
pub async fn insert(connection: &mut PgConnection, certificate: &StoredCertificate) -> Result<(), StoreError> {
    sqlx::query(INSERT_SQL)
        .bind(&certificate.serial)
        .bind(certificate.host.0)
        .bind(&certificate.token_id)
        .bind(certificate.spki_sha256.as_slice())
        .bind(certificate.not_before_ms)
        .bind(certificate.not_after_ms)
        .bind(&certificate.der)
        .bind(certificate.revoked_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// What this token bought for this key, if it did.
pub async fn bought_with(
    connection: &mut PgConnection,
    token_id: &str,
    spki_sha256: &[u8; 32],
) -> Result<Option<StoredCertificate>, StoreError> {
    let row =
        sqlx::query(BOUGHT_WITH_SQL).bind(token_id).bind(spki_sha256.as_slice()).fetch_optional(connection).await?;
    row.map(|row| {
        Ok(StoredCertificate {
            serial: row.try_get("serial")?,
            host: HostId(row.try_get("host_id")?),
            token_id: token_id.to_owned(),
            spki_sha256: *spki_sha256,
            not_before_ms: row.try_get("not_before_ms")?,
            not_after_ms: row.try_get("not_after_ms")?,
            der: row.try_get("der")?,
            revoked_ms: row.try_get("revoked_ms")?,
        })
    })
    .transpose()
}
