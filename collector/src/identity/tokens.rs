//! Enrolment tokens: made by an operator, shown once, listed, revoked. What they buy is in [`super::enrolment`].

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_proto::token::Token;

use super::secret;
use crate::clock::WallClock;
use crate::host::HostId;
use crate::store::enrolment_token::{self, StoredToken};
use crate::store::{Db, StoreError, audit, host, tx};

/// A token's life unless told otherwise, milliseconds.
pub const DEFAULT_TTL_MS: i64 = 3_600_000;
/// Longest life of a token: a year, milliseconds.
pub const MOST_TTL_MS: i64 = 365 * 86_400_000;
/// The most hosts that one token may enrol.
pub const MOST_USES: u32 = 100_000;
/// The most labels that one token may give.
pub const MOST_LABELS: usize = 32;
/// The most bytes of a label's key.
pub const LABEL_KEY: usize = 63;
/// The most bytes of a label's value.
pub const LABEL_VALUE: usize = 255;

/// What a token is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its life, milliseconds, 1,000 to [`MOST_TTL_MS`].
    pub ttl_ms: i64,
    /// How many hosts it may enrol, 1 to [`MOST_USES`].
    pub uses: u32,
    /// The host to re-enrol; `None` = each use makes a new one.
    pub host: Option<HostId>,
    /// Labels of the hosts that it makes.
    pub labels: BTreeMap<String, String>,
}

impl Default for NewToken {
    fn default() -> Self {
        Self { ttl_ms: DEFAULT_TTL_MS, uses: 1, host: None, labels: BTreeMap::new() }
    }
}

/// A token just made: the only time that its secret is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The token, secret included.
    pub token: Token,
    /// Until when it can be used, milliseconds since 1970.
    pub expires_ms: i64,
}

/// A token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// When it was made, milliseconds since 1970, as the other times here.
    pub created_ms: i64,
    /// Until when it can be used.
    pub expires_ms: i64,
    /// How many hosts it may still enrol.
    pub uses_left: u32,
    /// The host that it re-enrols.
    pub host: Option<HostId>,
    /// What can be done with it now.
    pub state: TokenState,
}

/// What can be done with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It can enrol.
    Valid,
    /// Its uses are taken.
    Used,
    /// Its time is over.
    Expired,
    /// An operator ended it.
    Revoked,
}

impl TokenState {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenState::Valid => "valid",
            TokenState::Used => "used",
            TokenState::Expired => "expired",
            TokenState::Revoked => "revoked",
        }
    }
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The request asks for what no token can be.
    #[error("{0}")]
    Invalid(String),
    /// No such host.
    #[error("there is no host {0}: `highwater hosts --all` lists them")]
    NoHost(HostId),
    /// No such token.
    #[error("there is no token {0:?}: `highwater token list` lists them")]
    NoToken(String),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no randomness.
    #[error("no random bytes for the token's secret: {0}")]
    Random(#[from] getrandom::Error),
}

/// Makes, lists and revokes enrolment tokens of one installation.
#[derive(Clone)]
pub struct Tokens {
    db: Db,
    pin: [u8; 32],
    clock: Arc<dyn WallClock>,
}

impl Tokens {
    /// `pin` is the CA's: every token carries it.
    pub fn new(db: Db, pin: [u8; 32], clock: Arc<dyn WallClock>) -> Self {
        Self { db, pin, clock }
    }

    /// Makes a token on behalf of `who`.
    pub async fn create(&self, who: &str, new: &NewToken) -> Result<Created, TokensError> {
        check(new)?;
        let now_ms = self.clock.now_ms();
        let token = Token { id: secret::new_id()?, secret: secret::new_secret()?, pin: self.pin };
        let stored = StoredToken {
            id: token.id.clone(),
            secret_sha256: secret::digest(&token.secret),
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(new.ttl_ms),
            uses_left: new.uses,
            host: new.host,
            labels: serde_json::json!(new.labels).to_string(),
            revoked_ms: None,
        };
        let mut tx = tx::write(&self.db).await?;
        if let Some(id) = new.host
            && !host::exists(&mut tx, id).await?
        {
            return Err(TokensError::NoHost(id));
        }
        enrolment_token::insert(&mut tx, &stored).await?;
        let entry = audit::Entry { at_ms: now_ms, who, what: "token.create", subject: &stored.id };
        audit::insert(&mut tx, entry).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(Created { token, expires_ms: stored.expires_ms })
    }

    /// The newest tokens ([`enrolment_token::LISTED`]), newest first.
    pub async fn list(&self) -> Result<Vec<Listed>, TokensError> {
        let now_ms = self.clock.now_ms();
        let stored = enrolment_token::list(&self.db).await?;
        Ok(stored.into_iter().map(|token| listed(token, now_ms)).collect())
    }

    /// Ends a token on behalf of `who`; one that is revoked already stays so. Certificates that it bought stay valid.
    pub async fn revoke(&self, who: &str, id: &str) -> Result<(), TokensError> {
        let now_ms = self.clock.now_ms();
        let mut tx = tx::write(&self.db).await?;
        if !enrolment_token::revoke(&mut tx, id, now_ms).await? {
            return Err(TokensError::NoToken(id.to_owned()));
        }
        audit::insert(&mut tx, audit::Entry { at_ms: now_ms, who, what: "token.revoke", subject: id }).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }
}

/// What can be done with a stored token now.
pub fn state(token: &StoredToken, now_ms: i64) -> TokenState {
    if token.revoked_ms.is_some() {
        TokenState::Revoked
    } else if token.uses_left == 0 {
        TokenState::Used
    } else if token.expires_ms <= now_ms {
        TokenState::Expired
    } else {
        TokenState::Valid
    }
}

fn listed(token: StoredToken, now_ms: i64) -> Listed {
    Listed {
        state: state(&token, now_ms),
        id: token.id,
        created_ms: token.created_ms,
        expires_ms: token.expires_ms,
        uses_left: token.uses_left,
        host: token.host,
    }
}

fn check(new: &NewToken) -> Result<(), TokensError> {
    let invalid = |why: String| Err(TokensError::Invalid(why));
    if !(1000..=MOST_TTL_MS).contains(&new.ttl_ms) {
        return invalid(format!("a token lives 1 second to 365 days, not {} ms", new.ttl_ms));
    }
    if !(1..=MOST_USES).contains(&new.uses) {
        return invalid(format!("a token has 1 to {MOST_USES} uses, not {}", new.uses));
    }
    if new.labels.len() > MOST_LABELS {
        return invalid(format!("a token gives at most {MOST_LABELS} labels, not {}", new.labels.len()));
    }
    if new.host.is_some() && !new.labels.is_empty() {
        return invalid("a token for a host that exists gives no labels: that host keeps its own".to_owned());
    }
    for (key, value) in &new.labels {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if key.is_empty() || key.len() > LABEL_KEY || !key.chars().all(word) {
            return invalid(format!("label key {key:?}: 1 to {LABEL_KEY} letters, digits, - _ . /"));
        }
        if value.len() > LABEL_VALUE || value.chars().any(char::is_control) {
            return invalid(format!(
                "label {key}: its value has at most {LABEL_VALUE} bytes and no control characters"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> StoredToken {
        StoredToken {
            id: "t".into(),
            secret_sha256: [0; 32],
            created_ms: 0,
            expires_ms: 100,
            uses_left: 1,
            host: None,
            labels: "{}".into(),
            revoked_ms: None,
        }
    }

    #[test]
    fn a_token_ends_by_use_by_time_or_by_an_operator() {
        assert_eq!(state(&token(), 99), TokenState::Valid);
        assert_eq!(state(&token(), 100), TokenState::Expired);
        assert_eq!(state(&StoredToken { uses_left: 0, ..token() }, 100), TokenState::Used);
        assert_eq!(state(&StoredToken { revoked_ms: Some(1), uses_left: 0, ..token() }, 100), TokenState::Revoked);
    }

    #[test]
    fn what_no_token_can_be_is_refused() {
        let label = |k: &str, v: &str| NewToken { labels: [(k.into(), v.into())].into(), ..NewToken::default() };
        assert!(check(&NewToken::default()).is_ok());
        assert!(check(&label("env", "prod, Berlin")).is_ok());
        for wrong in [
            NewToken { ttl_ms: 999, ..NewToken::default() },
            NewToken { ttl_ms: MOST_TTL_MS + 1, ..NewToken::default() },
            NewToken { uses: 0, ..NewToken::default() },
            NewToken { uses: MOST_USES + 1, ..NewToken::default() },
            label("", "x"),
            label("a b", "x"),
            label("k", "a\nb"),
            label("k", &"x".repeat(256)),
            NewToken { host: Some(HostId(1)), ..label("k", "v") },
            NewToken { labels: (0..33).map(|i| (i.to_string(), String::new())).collect(), ..NewToken::default() },
        ] {
            assert!(matches!(check(&wrong), Err(TokensError::Invalid(_))), "{wrong:?}");
        }
    }
}
