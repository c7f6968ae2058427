//! Which path is answered by whom.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use tokio::sync::Semaphore;

use super::json::VersionJson;
use super::problem::Problem;
use super::{
    auth, capacity, explain, export, find, flags, fleet_blame, history, hosts, import, notify, openapi, series, status,
    tokens,
};
use crate::clock::WallClock;
use crate::evaluate::config::Watched;
use crate::health::{AskDisk, Health};
use crate::identity::operators::Operators;
use crate::identity::tokens::Tokens;
use crate::notify::trial::Desk;
use crate::query::Keep;
use crate::store::Db;

/// What the API is built from, cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// Where history is.
    pub db: Db,
    /// The collector's wall clock.
    pub clock: Arc<dyn WallClock>,
    /// Whose token a request carries.
    pub operators: Operators,
    /// Makes enrolment tokens.
    pub tokens: Tokens,
    /// What the collector's parts fail at.
    pub health: Arc<Health>,
    /// Asks for the room on the database's disk; `None` = it is no disk of this machine's own.
    pub disk: Option<AskDisk>,
    /// How long what is kept.
    pub keep: Keep,
    /// Whom this collector tells of flags.
    pub notify: Desk,
    /// How hosts are judged.
    pub rules: Watched,
}

/// [`ApiState`] and what only the running server knows.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) operators: Operators,
    pub(super) tokens: Tokens,
    /// Imports under way: each holds what it packs in memory.
    pub(super) importing: Arc<Semaphore>,
    pub(super) health: Arc<Health>,
    pub(super) disk: Option<AskDisk>,
    pub(super) keep: Keep,
    pub(super) notify: Desk,
    pub(super) rules: Watched,
    /// The address the listener is bound to, for messages.
    pub(super) bound: SocketAddr,
}

/// The most bytes a request body may have, where the path says nothing else: only few read one.
const MAX_BODY: usize = 4096;

/// All paths.
pub(super) fn router(state: ApiState, bound: SocketAddr) -> Router {
    let ApiState { db, clock, operators, tokens, health, disk, keep, notify, rules } = state;
    let importing = Arc::new(Semaphore::new(import::MOST_AT_ONCE));
    let state = Shared { db, clock, operators, tokens, importing, health, disk, keep, notify, rules, bound };
    let closed = Router::new()
        .route("/version", get(version))
        .route("/storage", get(status::storage))
        .route("/retention", get(status::retention))
        .route("/capacity", get(capacity::capacity))
        .route("/blame", get(fleet_blame::fleet_blame))
        .route("/hosts", get(hosts::hosts))
        .route("/hosts/{host}", get(hosts::one_host))
        .route("/hosts/{host}/snapshot", get(history::snapshot))
        .route("/hosts/{host}/lsipc", get(history::lsipc))
        .route("/hosts/{host}/diff", get(history::diff))
        .route("/hosts/{host}/blame", get(history::blame))
        .route("/hosts/{host}/timeline", get(history::timeline))
        .route("/hosts/{host}/explain", get(explain::explain))
        .route("/find", get(find::find))
        .route("/hosts/{host}/export", get(export::export))
        .route("/hosts/{host}/series", get(series::series))
        .route("/import", post(import::import))
        .route("/flags", get(flags::flags))
        .route("/flags/{flag}", get(flags::one_flag))
        .route("/flags/{flag}/ack", post(flags::acknowledge))
        .route("/hosts/{host}/silence", post(flags::silence))
        .route("/notify", get(notify::list))
        .route("/notify/test", post(notify::test))
        .route("/tokens", post(tokens::create).get(tokens::list).layer(DefaultBodyLimit::max(tokens::MAX_BODY)))
        .route("/tokens/{token}", delete(tokens::revoke))
        .route_layer(from_fn_with_state(state.clone(), auth::require_operator));
    let known = Router::new()
        .route("/status", get(status::status))
        .route_layer(from_fn_with_state(state.clone(), auth::require_known_operator));
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/openapi.json", get(openapi::document))
        .route("/api/v1/openapi.json", get(openapi::document))
        .nest("/api/v1", closed.merge(known))
        .fallback(async |uri: Uri| Problem::no_such_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method| Problem::no_such_method(method.as_str()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(state.clone(), auth::require_own_host))
        .with_state(state)
}

async fn version() -> Json<VersionJson> {
    Json(VersionJson { version: env!("CARGO_PKG_VERSION").to_owned() })
}
