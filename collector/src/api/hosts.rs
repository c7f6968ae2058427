//! `/hosts` and `/hosts/{host}`.

use axum::Json;
use axum::extract::{Path, Query, State, rejection::QueryRejection};
use highwater_ipc::availability::SysvipcState;
use highwater_ipc::time::format_rfc3339_ms;
use serde::Deserialize;

use super::json::{HostsJson, OneHostJson};
use super::problem::Problem;
use super::router::Shared;
use super::{ask, write};
use crate::query::Reading;
use crate::query::as_of::Instant;
use crate::query::fleet::{Question, fleet};

/// Parameters of `/hosts`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HostsParams {
    lacks_sysvipc: Option<String>,
    state: Option<String>,
    at_risk: Option<String>,
    label: Option<String>,
    stale: Option<String>,
    all: Option<String>,
    at: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// The fleet.
pub(super) async fn hosts(
    State(shared): State<Shared>,
    params: Result<Query<HostsParams>, QueryRejection>,
) -> Result<Json<HostsJson>, Problem> {
    let Query(params) = params?;
    let now_ms = shared.clock.now_ms();
    let question = question(&params)?;
    let mut reading = Reading::begin(&shared.db).await?;
    let fleet = fleet(&mut reading, &question, now_ms).await?;
    let next_cursor = fleet.next.as_ref().map(ask::host_cursor);
    Ok(Json(write::hosts(&fleet, next_cursor, now_ms)))
}

/// One host, also a gone one.
pub(super) async fn one_host(
    State(shared): State<Shared>,
    Path(host): Path<String>,
) -> Result<Json<OneHostJson>, Problem> {
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let resolved = ask::host(&mut reading, &host, Instant::Now, now_ms).await?;
    let question = Question { only: Some(resolved.host.id), all: true, most: 1, ..Question::default() };
    let fleet = fleet(&mut reading, &question, now_ms).await?;
    let host = fleet.hosts.first().ok_or_else(|| Problem::internal("the host has no row"))?;
    let skew_ms = host.row.status.as_ref().map_or(0, |s| s.skew_ms);
    Ok(Json(OneHostJson {
        host: write::host(host),
        now: format_rfc3339_ms(now_ms),
        host_now: format_rfc3339_ms(now_ms.saturating_add(skew_ms)),
        notes: resolved.notes,
    }))
}

fn question(params: &HostsParams) -> Result<Question, Problem> {
    let mut states = ask::states(params.state.as_deref())?;
    let lacks = ask::flag("lacks_sysvipc", params.lacks_sysvipc.as_deref())?;
    if lacks {
        let lacking = SysvipcState::ALL.into_iter().filter(|s| s.lacks_sysvipc());
        let named = |s: &SysvipcState| states.is_empty() || states.contains(s);
        let both: Vec<SysvipcState> = lacking.filter(named).collect();
        if both.is_empty() {
            return Err(Problem::bad_request("state names only states in which a host has System V IPC"));
        }
        states = both;
    }
    let at_ms = match ask::instant("at", params.at.as_deref())? {
        Instant::At(at_ms) => Some(at_ms),
        Instant::Now | Instant::Last => None,
    };
    Ok(Question {
        states,
        reported: lacks,
        at_risk: ask::risks(params.at_risk.as_deref())?,
        labels: ask::list("label", params.label.as_deref(), "KEY=VALUE", ask::label)?,
        stale: ask::flag("stale", params.stale.as_deref())?,
        all: ask::flag("all", params.all.as_deref())?,
        at_ms,
        only: None,
        after: ask::read_host_cursor(params.cursor.as_deref())?,
        most: ask::limit(params.limit.as_deref())?,
    })
}
