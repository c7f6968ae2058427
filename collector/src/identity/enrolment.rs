//! A token in, a certificate out.
//!
//! The use of the token, the new host, its certificate and the audit row are one transaction. The same token and key
//! ask again = the same certificate, also after the token has expired: the reply may have been lost. Another key finds
//! the token used.

use std::sync::Arc;

use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms;
use highwater_proto::bounds;
use tokio::sync::Semaphore;

use super::ca::Authority;
use super::certificate::{self, CertificateError, Request, Signed};
use super::secret;
use super::tokens::{TokenState, state};
use crate::clock::{self, WallClock};
use crate::host::HostId;
use crate::store::certificate::StoredCertificate;
use crate::store::enrolment_token::StoredToken;
use crate::store::{Db, StoreError, audit, certificate as certificates, enrolment_token, host, tx};

/// Enrolments at work at once; further ones wait. Nobody has to show a certificate to come this far.
const AT_ONCE: usize = 4;

/// What an agent sends to enrol.
#[derive(Clone)]
pub struct EnrolRequest {
    /// The token's id.
    pub token_id: String,
    /// The token's secret.
    pub secret: String,
    /// PKCS#10 request, DER; only its public key is used.
    pub csr: Vec<u8>,
    /// gethostname(2) of the host: its name until its first hello.
    pub hostname: HostText,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolReply {
    /// The host's certificate, then the CA's. DER.
    pub chain: Vec<Vec<u8>>,
    /// Who it is now.
    pub host: HostId,
    /// Number of its next epoch.
    pub next_epoch_no: u64,
    /// End of the certificate's life, milliseconds since 1970.
    pub not_after_ms: i64,
}

/// Why a host was not enrolled. None of them tells a stranger more than that the token does not do.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No such token, or the secret is another's.
    #[error("the token is not known here: make one with `highwater token create` on this collector")]
    UnknownToken,
    /// Its time is over. Both clocks, for the host's may be the wrong one.
    #[error(
        "the token expired at {expired}, it is {now} by the collector's clock: make a new one with `highwater token create`"
    )]
    Expired {
        /// When, RFC 3339.
        expired: String,
        /// The collector's clock, RFC 3339.
        now: String,
    },
    /// It has enrolled as many hosts as it may, and this key is not one of theirs.
    #[error("the token was used already, with another key: make a new one with `highwater token create`")]
    Used,
    /// An operator ended it.
    #[error("the token was revoked: make a new one with `highwater token create`")]
    Revoked,
    /// The certificate that this token and key bought was revoked.
    #[error("the certificate of this token and key was revoked: enrol with a new token, and a new key")]
    CertificateRevoked,
    /// A field is longer than its bound.
    #[error("{field} has {len} bytes, the bound is {bound}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The bound.
        bound: usize,
    },
    /// The certificate request is no good, or signing failed.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work ended early: the collector is stopping, or out of randomness.
    #[error("the collector could not finish: {0}; try again")]
    Interrupted(String),
}

impl EnrolError {
    /// Whether the same request may succeed later: the collector's trouble, not the token's.
    pub fn may_retry(&self) -> bool {
        matches!(
            self,
            EnrolError::Store(_) | EnrolError::Interrupted(_) | EnrolError::Certificate(CertificateError::Signing(_))
        )
    }

    /// Whether the request itself is malformed: nothing was looked up.
    pub fn is_malformed(&self) -> bool {
        matches!(self, EnrolError::TooLong { .. } | EnrolError::Certificate(CertificateError::Request(_)))
    }
}

/// Enrols hosts. Cheap to clone.
#[derive(Clone)]
pub struct Enrolment {
    db: Db,
    authority: Arc<Authority>,
    clock: Arc<dyn WallClock>,
    permits: Arc<Semaphore>,
}

impl Enrolment {
    /// Signs with this CA.
    pub fn new(db: Db, authority: Arc<Authority>, clock: Arc<dyn WallClock>) -> Self {
        Self { db, authority, clock, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Checks the token and signs. A caller that goes away does not cancel what was begun.
    pub async fn enrol(&self, request: EnrolRequest) -> Result<EnrolReply, EnrolError> {
        check(&request)?;
        let ended = |why: String| EnrolError::Interrupted(why);
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|e| ended(e.to_string()))?;
        let this = self.clone();
        let work = tokio::spawn(async move {
            let _permit = permit;
            this.work(&request).await
        });
        work.await.map_err(|e| ended(e.to_string()))?
    }

    async fn work(&self, request: &EnrolRequest) -> Result<EnrolReply, EnrolError> {
        let csr = certificate::read_request(&request.csr)?;
        let now_ms = self.clock.now_ms();
        let token = enrolment_token::find(&self.db, &request.token_id).await?;
        let token = authentic(token, &request.secret)?;
        let mut tx = tx::write(&self.db).await?;
        let spki = csr.spki_sha256();
        if let Some(bought) = certificates::bought_with(&mut tx, &token.id, &spki).await? {
            return self.reply(&mut tx, bought).await;
        }
        usable(&token, now_ms)?;
        if !enrolment_token::take_use(&mut tx, &token.id, now_ms).await? {
            // Somebody was faster; if it was this very key, its answer is this one's as well.
            return match certificates::bought_with(&mut tx, &token.id, &spki).await? {
                Some(bought) => self.reply(&mut tx, bought).await,
                None => Err(EnrolError::Used),
            };
        }
        let id = self.host_for(&mut tx, &token, request, now_ms).await?;
        let bought = self.sign(&csr, &token, id, now_ms)?;
        match certificates::insert(&mut tx, &bought).await {
            // The same key twice at once with a token of several uses: the other one's certificate stands.
            Err(e) if e.refused_value() => {
                drop(tx);
                let mut tx = tx::write(&self.db).await?;
                let other = certificates::bought_with(&mut tx, &token.id, &spki).await?.ok_or(e)?;
                return self.reply(&mut tx, other).await;
            }
            other => other?,
        }
        let subject = id.to_string();
        let entry = audit::Entry { at_ms: now_ms, who: "enrolment", what: "host.enrol", subject: &subject };
        audit::insert(&mut tx, entry).await?;
        let reply = self.reply(&mut tx, bought).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(reply)
    }

    /// The token's host, or a new one.
    async fn host_for(
        &self,
        connection: &mut tx::Connection,
        token: &StoredToken,
        request: &EnrolRequest,
        now_ms: i64,
    ) -> Result<HostId, EnrolError> {
        if let Some(id) = token.host {
            return Ok(id);
        }
        let random = clock::random::<8>().map_err(|e| EnrolError::Interrupted(e.to_string()))?;
        let id = HostId((i64::from_be_bytes(random) & i64::MAX).max(1));
        host::insert(connection, id, &request.hostname.escaped(), &token.labels, now_ms).await?;
        Ok(id)
    }

    fn sign(
        &self,
        csr: &Request,
        token: &StoredToken,
        host: HostId,
        now_ms: i64,
    ) -> Result<StoredCertificate, EnrolError> {
        let Signed { serial, spki_sha256, validity, der } = self.authority.sign_host(csr, host, now_ms)?;
        Ok(StoredCertificate {
            serial,
            host,
            token_id: token.id.clone(),
            spki_sha256,
            not_before_ms: validity.not_before_ms,
            not_after_ms: validity.not_after_ms,
            der,
            revoked_ms: None,
        })
    }

    async fn reply(
        &self,
        connection: &mut tx::Connection,
        bought: StoredCertificate,
    ) -> Result<EnrolReply, EnrolError> {
        if bought.revoked_ms.is_some() {
            return Err(EnrolError::CertificateRevoked);
        }
        Ok(EnrolReply {
            next_epoch_no: host::next_epoch_no(connection, bought.host).await?,
            chain: vec![bought.der, self.authority.certificate().to_vec()],
            host: bought.host,
            not_after_ms: bought.not_after_ms,
        })
    }
}

/// The token, if the secret is its own. A stranger cannot tell an unknown id from a wrong secret.
fn authentic(token: Option<StoredToken>, secret: &str) -> Result<StoredToken, EnrolError> {
    token.filter(|token| secret::matches(secret, &token.secret_sha256)).ok_or(EnrolError::UnknownToken)
}

/// Whether an authentic token can still be used.
fn usable(token: &StoredToken, now_ms: i64) -> Result<(), EnrolError> {
    match state(token, now_ms) {
        TokenState::Valid => Ok(()),
        TokenState::Revoked => Err(EnrolError::Revoked),
        TokenState::Used => Err(EnrolError::Used),
        TokenState::Expired => {
            Err(EnrolError::Expired { expired: format_rfc3339_ms(token.expires_ms), now: format_rfc3339_ms(now_ms) })
        }
    }
}

fn check(request: &EnrolRequest) -> Result<(), EnrolError> {
    let within = |field, len: usize, bound| {
        if len > bound { Err(EnrolError::TooLong { field, len, bound }) } else { Ok(()) }
    };
    within("EnrolRequest.token_id", request.token_id.len(), bounds::SHORT_TEXT)?;
    within("EnrolRequest.secret", request.secret.len(), bounds::SECRET)?;
    within("EnrolRequest.csr", request.csr.len(), bounds::CSR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_000_000_000;

    fn token(secret: &str) -> StoredToken {
        StoredToken {
            id: "t".into(),
            secret_sha256: secret::digest(secret),
            created_ms: NOW,
            expires_ms: NOW + 1000,
            uses_left: 1,
            host: None,
            labels: "{}".into(),
            revoked_ms: None,
        }
    }

    #[test]
    fn an_unknown_id_and_a_wrong_secret_look_the_same() {
        let unknown = authentic(None, "s").unwrap_err();
        let wrong = authentic(Some(token("other")), "s").unwrap_err();
        assert_eq!(unknown.to_string(), wrong.to_string());
        assert!(authentic(Some(token("s")), "s").is_ok());
    }

    #[test]
    fn an_expired_token_says_both_clocks() {
        let error = usable(&token("s"), NOW + 3_600_000).unwrap_err().to_string();
        assert!(error.contains("expired at 2026-11-18T") && error.contains("it is 2026-11-18T"), "{error}");
        assert!(usable(&token("s"), NOW).is_ok());
    }

    #[test]
    fn fields_beyond_their_bound_are_refused_by_name() {
        let request = |csr: usize, secret: usize| EnrolRequest {
            token_id: "t".into(),
            secret: "s".repeat(secret),
            csr: vec![0; csr],
            hostname: HostText::default(),
        };
        assert!(check(&request(bounds::CSR, bounds::SECRET)).is_ok());
        let refused = check(&request(bounds::CSR + 1, 1)).unwrap_err();
        assert!(refused.is_malformed() && !refused.may_retry() && refused.to_string().contains("csr"));
        assert!(check(&request(1, bounds::SECRET + 1)).unwrap_err().to_string().contains("secret"));
    }
}
