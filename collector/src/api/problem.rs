//! Errors as problem documents (RFC 9457): `title`, `status`, `detail`, and `code` for programs.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::json::{ErrorJson, ErrorLineJson};
use crate::store::StoreError;

/// One error, ready to be sent.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// What kind of error this is, one of a fixed list (see `openapi.json`).
    code: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    /// What, where, and what to do about it.
    detail: String,
    /// Hosts that an ambiguous name could mean.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<String>,
}

impl Problem {
    /// The request names nobody, or nobody we know.
    pub(super) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "An operator's token is needed", detail)
    }

    /// The operator may not do this.
    pub(super) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "This operator may not do that", detail)
    }

    /// There is no such enrolment token.
    pub(super) fn no_such_token(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_token", "There is no such token", detail)
    }

    /// There is no such flag.
    pub(super) fn no_such_flag(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_flag", "There is no such flag", detail)
    }

    /// There is no such receiver of notifications.
    pub(super) fn no_such_receiver(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_receiver", "There is no such receiver", detail)
    }

    /// The request was meant for another server.
    pub(super) fn misdirected(detail: &str) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", "This request names another server", detail)
    }

    /// A parameter cannot be understood.
    pub(super) fn bad_request(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "A parameter cannot be understood", detail)
    }

    /// The instant asked for has not come yet.
    pub(super) fn future(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "in_the_future", "That instant has not come yet", detail)
    }

    /// There is no such host.
    pub(super) fn no_such_host(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_host", "There is no such host", detail)
    }

    /// There is nothing at this path.
    pub(super) fn no_such_path(path: &str) -> Self {
        let detail = format!("{path} is no resource of this API; /openapi.json lists them");
        Self::new(StatusCode::NOT_FOUND, "no_such_path", "There is nothing here", &detail)
    }

    /// The path takes another method.
    pub(super) fn no_such_method(method: &str) -> Self {
        let detail = format!("this resource does not know {method}; /openapi.json says what it knows");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", "This resource takes another method", &detail)
    }

    /// A name means several hosts.
    pub(super) fn ambiguous(detail: &str, candidates: Vec<String>) -> Self {
        Self { candidates, ..Self::new(StatusCode::CONFLICT, "ambiguous_host", "That names several hosts", detail) }
    }

    /// A file says what cannot be taken in.
    pub(super) fn bad_file(detail: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_file", "This file cannot be imported", detail)
    }

    /// A file says something else than what is stored.
    pub(super) fn contradiction(detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "contradiction", "This file contradicts stored history", detail)
    }

    /// Later it may go well.
    pub(super) fn busy(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Not now", detail)
    }

    /// The database does not answer; later it may.
    pub(super) fn away(error: &str) -> Self {
        let detail = format!(
            "{error}; see whether the PostgreSQL server runs and its log (`highwater doctor`): the collector connects again \
             by itself, agents keep their records meanwhile"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_away", "The database does not answer", &detail)
    }

    /// The collector cannot answer; its log says more.
    pub(super) fn internal(detail: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The collector could not answer", detail)
    }

    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: &str) -> Self {
        Self { code, title, status, detail: detail.to_owned(), candidates: Vec::new() }
    }

    /// As the last line of an answer that has begun already.
    pub(super) fn line(&self) -> ErrorLineJson {
        ErrorLineJson { error: ErrorJson { code: self.code.to_owned(), detail: self.detail.clone() } }
    }
}

impl From<JsonRejection> for Problem {
    fn from(refused: JsonRejection) -> Self {
        Self::bad_request(&refused.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(refused: QueryRejection) -> Self {
        Self::bad_request(&refused.body_text())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_away() {
            tracing::warn!(%error, "an answer failed: the database is away");
            return Self::away(&error.to_string());
        }
        tracing::error!(%error, "an answer failed");
        Self::internal(&error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}
