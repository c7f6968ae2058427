//! Who may ask: a bearer token of an operator, and a Host header that names this server.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::time::timeout;

use super::problem::Problem;
use super::router::Shared;
use crate::health::Part;
use crate::store::StoreError;

/// The most bytes an Authorization header may have; a longer one is no token of ours.
const MAX_AUTHORIZATION: usize = 512;

/// How long whoever asks how the collector is waits for the database to say who that is.
const PATIENCE: Duration = Duration::from_secs(5);

/// The database does not answer: in its words.
#[derive(Clone, Debug)]
pub(super) struct Away(pub(super) String);

/// Lets a request pass whose bearer token is an operator's, and tells the handler whose (an extension).
pub(super) async fn require_operator(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    let token = match bearer(request.headers()) {
        Ok(token) => token,
        Err(refused) => return refused.into_response(),
    };
    match state.operators.verify(token).await {
        Ok(Some(operator)) => {
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        Ok(None) => not_an_operators().into_response(),
        Err(error) => {
            note(&state, &error);
            Problem::from(error).into_response()
        }
    }
}

/// The same for what can be said without the database: while that does not answer, whoever was an operator when it last did
/// passes, and the handler is told why ([`Away`]).
pub(super) async fn require_known_operator(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    let token = match bearer(request.headers()) {
        Ok(token) => token,
        Err(refused) => return refused.into_response(),
    };
    if let Some((operator, away)) = state.operators.recall(token).zip(just_away(&state)) {
        request.extensions_mut().insert(operator);
        request.extensions_mut().insert(away);
        return next.run(request).await;
    }
    let unanswered = StoreError::Unanswered { seconds: PATIENCE.as_secs() };
    match timeout(PATIENCE, state.operators.verify(token)).await.unwrap_or(Err(unanswered)) {
        Ok(Some(operator)) => {
            request.extensions_mut().insert(operator);
        }
        Ok(None) => return not_an_operators().into_response(),
        Err(error) => {
            note(&state, &error);
            let Some(operator) = state.operators.recall(token).filter(|_| error.is_away()) else {
                return Problem::from(error).into_response();
            };
            request.extensions_mut().insert(operator);
            request.extensions_mut().insert(Away(error.to_string()));
        }
    }
    next.run(request).await
}

/// The database did not answer somebody else just now: whoever asks again and again need not wait each time.
fn just_away(state: &Shared) -> Option<Away> {
    let now_ms = state.clock.now_ms();
    let known = state.health.known(now_ms);
    let trouble = known.troubles.get(&Part::Database)?;
    let is_new = u128::from(now_ms.abs_diff(trouble.last_ms)) < PATIENCE.as_millis();
    is_new.then(|| Away(trouble.what.clone()))
}

/// The collector remembers since when its database is away.
pub(super) fn note(state: &Shared, error: &StoreError) {
    if error.is_away() {
        state.health.failed(Part::Database, state.clock.now_ms(), error.to_string(), error.sqlstate());
    }
}

fn not_an_operators() -> Problem {
    Problem::unauthorized("the token of this request is not an operator's, or was revoked")
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    token(headers).ok_or_else(|| Problem::unauthorized("this request carries no `Authorization: Bearer TOKEN` header"))
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?;
    if value.len() > MAX_AUTHORIZATION {
        return None;
    }
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Refuses a request for another server: a page in a browser that rebinds its own name to 127.0.0.1 sends that name.
pub(super) async fn require_own_host(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).and_then(|v| v.to_str().ok()).map(str::to_owned);
    match named {
        Some(host) if is_own_host(&host) => next.run(request).await,
        Some(host) => Problem::misdirected(&format!(
            "the Host header says {host:?}, and this server answers to localhost and {} only",
            state.bound
        ))
        .into_response(),
        None => Problem::misdirected("this request has no Host header").into_response(),
    }
}

/// Whether a Host header names a loopback address or `localhost`: the API listens on no other.
fn is_own_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_localhost_and_loopback_addresses_are_this_host() {
        for own in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:8080"] {
            assert!(is_own_host(own), "{own}");
        }
        for foreign in ["evil.example", "evil.example:8080", "10.1.2.4", "localhost.evil.example", "", ":8080"] {
            assert!(!is_own_host(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_bearer_token_is_read_and_other_schemes_are_not() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            token(&headers).map(str::to_owned)
        };
        assert_eq!(with("Bearer abc"), Some("abc".into()));
        assert_eq!(with("bearer  abc "), Some("abc".into()));
        assert_eq!(with("Basic abc"), None);
        assert_eq!(with("Bearer "), None);
        assert_eq!(with(&format!("Bearer {}", "a".repeat(600))), None);
    }
}
