//! `/tokens`: enrolment tokens, for operators with the role `admin`.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use highwater_ipc::time::format_rfc3339_ms;

use super::ask;
use super::json::{NewTokenJson, TokenCreatedJson, TokenJson, TokensJson};
use super::problem::Problem;
use super::router::Shared;
use crate::identity::operators::{Operator, Role};
use crate::identity::tokens::{self, Listed, NewToken, TokensError};
use crate::query::Reading;
use crate::query::as_of::Instant;

/// The most bytes of a request for a token: room for every label that one may give.
pub(super) const MAX_BODY: usize = 32 << 10;

/// Makes a token; the only answer that holds its secret.
pub(super) async fn create(
    State(shared): State<Shared>,
    Extension(operator): Extension<Operator>,
    body: Result<Json<NewTokenJson>, JsonRejection>,
) -> Result<(StatusCode, Json<TokenCreatedJson>), Problem> {
    require_admin(&operator)?;
    let Json(body) = body?;
    let mut new = NewToken {
        ttl_ms: body.ttl_ms.unwrap_or(tokens::DEFAULT_TTL_MS),
        uses: body.uses.unwrap_or(1),
        host: None,
        labels: body.labels,
    };
    if let Some(host) = body.host {
        let mut reading = Reading::begin(&shared.db).await?;
        new.host = Some(ask::host(&mut reading, &host, Instant::Now, shared.clock.now_ms()).await?.host.id);
    }
    let created = shared.tokens.create(&operator.name, &new).await?;
    let answer = TokenCreatedJson {
        id: created.token.id.clone(),
        token: created.token.reveal(),
        expires_at: format_rfc3339_ms(created.expires_ms),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// The newest tokens, without their secrets.
pub(super) async fn list(
    State(shared): State<Shared>,
    Extension(operator): Extension<Operator>,
) -> Result<Json<TokensJson>, Problem> {
    require_admin(&operator)?;
    let listed = shared.tokens.list().await?;
    Ok(Json(TokensJson { tokens: listed.into_iter().map(token).collect() }))
}

/// Ends a token.
pub(super) async fn revoke(
    State(shared): State<Shared>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    require_admin(&operator)?;
    shared.tokens.revoke(&operator.name, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn require_admin(operator: &Operator) -> Result<(), Problem> {
    if operator.role >= Role::Admin {
        return Ok(());
    }
    let detail = format!(
        "enrolment tokens are for operators with the role admin; {:?} is {}",
        operator.name,
        operator.role.as_str()
    );
    Err(Problem::forbidden(&detail))
}

fn token(listed: Listed) -> TokenJson {
    TokenJson {
        id: listed.id,
        state: listed.state.as_str().to_owned(),
        created_at: format_rfc3339_ms(listed.created_ms),
        expires_at: format_rfc3339_ms(listed.expires_ms),
        uses_left: listed.uses_left,
        host: listed.host.map(|h| h.to_string()),
    }
}

impl From<TokensError> for Problem {
    fn from(error: TokensError) -> Self {
        match error {
            TokensError::Store(e) => e.into(),
            TokensError::Invalid(why) => Problem::bad_request(&why),
            TokensError::NoHost(_) => Problem::no_such_host(&error.to_string()),
            TokensError::NoToken(_) => Problem::no_such_token(&error.to_string()),
            TokensError::Random(_) => Problem::internal(&error.to_string()),
        }
    }
}
