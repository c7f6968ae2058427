//! Operators: people and scripts that use the HTTP API, each with a token `hwo1.<id>.<secret>` and a role.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_proto::bounds;

use super::secret;
use crate::clock::WallClock;
use crate::store::operator_token::{self, StoredOperator};
use crate::store::{Db, StoreError, audit, tx};

/// The most operators whose answer is remembered; beyond it the memory starts anew.
const REMEMBERED: usize = 256;
/// How long an answer is remembered, milliseconds: a revoked token works at most this much longer.
const REMEMBERED_MS: i64 = 2000;

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Viewer,
    /// And acknowledge, silence, label.
    Operator,
    /// And make tokens, revoke hosts, add operators.
    Admin,
}

impl Role {
    /// As the contract and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// Reads what [`Role::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Role::Viewer, Role::Operator, Role::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Id of the token.
    pub token_id: String,
    /// The operator's name, as audit rows show it.
    pub name: String,
    /// What may be done.
    pub role: Role,
}

/// An operator's token. The secret shows as `***` in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorToken {
    /// Its id; may be shown and logged.
    pub id: String,
    /// The secret.
    pub secret: String,
}

impl OperatorToken {
    /// Reads a token; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let (Some("hwo1"), Some(id), Some(secret), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let word = |t: &str, most| !t.is_empty() && t.len() <= most && t.bytes().all(|b| b.is_ascii_alphanumeric());
        (word(id, bounds::SHORT_TEXT) && word(secret, bounds::SECRET))
            .then(|| Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// The whole token: for a 0600 file or an Authorization header, never for a log.
    pub fn reveal(&self) -> String {
        format!("hwo1.{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hwo1.{}.***", self.id)
    }
}

/// Why an operator was not added.
#[derive(Debug, thiserror::Error)]
pub enum OperatorsError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no randomness.
    #[error("no random bytes for the token's secret: {0}")]
    Random(#[from] getrandom::Error),
}

/// Adds operators and knows them again. Cheap to clone; clones share their memory.
#[derive(Clone)]
pub struct Operators {
    db: Db,
    clock: Arc<dyn WallClock>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

struct Known {
    secret_sha256: [u8; 32],
    operator: Operator,
    at_ms: i64,
}

impl Operators {
    /// The operators of this database.
    pub fn new(db: Db, clock: Arc<dyn WallClock>) -> Self {
        Self { db, clock, known: Arc::default() }
    }

    /// Adds an operator on behalf of `who`; the token is known only now.
    pub async fn add(&self, who: &str, name: &str, role: Role) -> Result<OperatorToken, OperatorsError> {
        let now_ms = self.clock.now_ms();
        let token = OperatorToken { id: secret::new_id()?, secret: secret::new_secret()? };
        let stored = StoredOperator {
            id: token.id.clone(),
            name: name.to_owned(),
            role: role.as_str().to_owned(),
            secret_sha256: secret::digest(&token.secret),
            created_ms: now_ms,
            revoked_ms: None,
        };
        let mut tx = tx::write(&self.db).await?;
        operator_token::insert(&mut tx, &stored).await?;
        audit::insert(&mut tx, audit::Entry { at_ms: now_ms, who, what: "operator.add", subject: &stored.id }).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(token)
    }

    /// Whose token this is; `None` for text that is no token, an unknown or revoked one, or a wrong secret.
    pub async fn verify(&self, text: &str) -> Result<Option<Operator>, StoreError> {
        let Some(token) = OperatorToken::parse(text) else {
            return Ok(None);
        };
        let now_ms = self.clock.now_ms();
        if let Some(operator) = self.remembered(&token, now_ms) {
            return Ok(Some(operator));
        }
        let stored = operator_token::find(&self.db, &token.id).await?;
        let Some(stored) = stored.filter(|stored| stored.revoked_ms.is_none()) else {
            self.known().remove(&token.id);
            return Ok(None);
        };
        if !secret::matches(&token.secret, &stored.secret_sha256) {
            return Ok(None);
        }
        let role = Role::parse(&stored.role)
            .ok_or_else(|| StoreError::Corrupt { what: format!("operator_token.role = {:?}", stored.role) })?;
        let operator = Operator { token_id: stored.id, name: stored.name, role };
        self.remember(Known { secret_sha256: stored.secret_sha256, operator: operator.clone(), at_ms: now_ms });
        Ok(Some(operator))
    }

    /// Whose token this was when the database said it last, however long ago: only for what must be said while that does not
    /// answer. A token that was revoked since its last use is not known to be.
    pub fn recall(&self, text: &str) -> Option<Operator> {
        let token = OperatorToken::parse(text)?;
        let known = self.known();
        let known = known.get(&token.id).filter(|k| secret::matches(&token.secret, &k.secret_sha256));
        known.map(|k| k.operator.clone())
    }

    fn remembered(&self, token: &OperatorToken, now_ms: i64) -> Option<Operator> {
        self.known()
            .get(&token.id)
            .filter(|k| now_ms.abs_diff(k.at_ms) < REMEMBERED_MS.unsigned_abs())
            .filter(|k| secret::matches(&token.secret, &k.secret_sha256))
            .map(|k| k.operator.clone())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, new: Known) {
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(new.operator.token_id.clone(), new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_reveals_and_hides_the_secret_in_debug() {
        let token = OperatorToken { id: "a1".into(), secret: "topsecret9".into() };
        assert_eq!(OperatorToken::parse(&format!("{}\n", token.reveal())), Some(token.clone()));
        assert_eq!(format!("{token:?}"), "hwo1.a1.***");
        for other in ["", "hwo1.a", "hwo1.a.b.c", "hw1.a.b", "hwo1..b", "hwo1.a.b c", "hwo1.a.'"] {
            assert_eq!(OperatorToken::parse(other), None, "{other}");
        }
    }

    #[test]
    fn roles_include_the_ones_before_them() {
        assert!(Role::Admin > Role::Operator && Role::Operator > Role::Viewer);
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }
}
