//! `/hosts/{host}/snapshot`, `lsipc`, `diff`, `blame` and `timeline`.

use axum::Json;
use axum::extract::{Path, Query, State, rejection::QueryRejection};
use axum::response::{IntoResponse, Response};
use highwater_ipc::time::format_rfc3339_ms;
use serde::Deserialize;

use super::json::TimelineJson;
use super::problem::Problem;
use super::router::Shared;
use super::{ask, write, write_event};
use crate::query::Reading;
use crate::query::as_of::{Answer, AsOf, Held, Instant, as_of};
use crate::query::blame::{BlameAnswer, blame as rank};
use crate::query::diff::{DiffAnswer, MOST_RECORDS, diff as compare};
use crate::query::host::Resolved;
use crate::query::timeline::{Question, timeline as tell};

/// What `since` means if it is not given: a day before `until`.
const DAY_MS: i64 = 86_400_000;

/// Parameters of `snapshot` and `lsipc`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AtParams {
    at: Option<String>,
    last: Option<String>,
}

/// What a host held.
pub(super) async fn snapshot(
    State(shared): State<Shared>,
    Path(host): Path<String>,
    params: Result<Query<AtParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(params) = params?;
    at_instant(&shared, &host, &params, |resolved, as_of, held| {
        Json(write::snapshot(resolved, as_of, held)).into_response()
    })
    .await
}

/// Limits and use.
pub(super) async fn lsipc(
    State(shared): State<Shared>,
    Path(host): Path<String>,
    params: Result<Query<AtParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(params) = params?;
    at_instant(&shared, &host, &params, |resolved, as_of, held| {
        Json(write::lsipc(resolved, as_of, held)).into_response()
    })
    .await
}

async fn at_instant(
    shared: &Shared,
    host: &str,
    params: &AtParams,
    answer: impl FnOnce(&Resolved, &AsOf, &Held) -> Response,
) -> Result<Response, Problem> {
    let instant = match (ask::flag("last", params.last.as_deref())?, params.at.as_deref()) {
        (true, None) => Instant::Last,
        (true, Some(_)) => return Err(Problem::bad_request("at and last exclude each other")),
        (false, at) => ask::instant("at", at)?,
    };
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let resolved = ask::host(&mut reading, host, instant, now_ms).await?;
    let as_of = as_of(&mut reading, resolved.host.id, instant, now_ms).await?;
    Ok(match &as_of.answer {
        Answer::Held(held) => answer(&resolved, &as_of, held),
        Answer::Gap(gap) => Json(write::gap_answer(&resolved, &as_of, gap)).into_response(),
    })
}

/// Parameters of `diff`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DiffParams {
    from: Option<String>,
    to: Option<String>,
}

/// Two instants compared.
pub(super) async fn diff(
    State(shared): State<Shared>,
    Path(host): Path<String>,
    params: Result<Query<DiffParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(params) = params?;
    let from = params.from.as_deref().ok_or_else(|| Problem::bad_request("from is missing"))?;
    let (from, to) = (ask::instant("from", Some(from))?, ask::instant("to", params.to.as_deref())?);
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let resolved = ask::host(&mut reading, &host, to, now_ms).await?;
    Ok(match compare(&mut reading, resolved.host.id, (from, to), now_ms, MOST_RECORDS).await? {
        DiffAnswer::Compared(diff) => Json(write::diff(&resolved, &diff)).into_response(),
        DiffAnswer::Gap(as_of) => gap_of(&resolved, &as_of),
    })
}

/// Parameters of `blame`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BlameParams {
    since: Option<String>,
    until: Option<String>,
    kind: Option<String>,
}

/// Who grew.
pub(super) async fn blame(
    State(shared): State<Shared>,
    Path(host): Path<String>,
    params: Result<Query<BlameParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(params) = params?;
    let since = params.since.as_deref().map(|t| ask::instant("since", Some(t))).transpose()?;
    let until = ask::instant("until", params.until.as_deref())?;
    let kinds = ask::kinds(params.kind.as_deref())?;
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let resolved = ask::host(&mut reading, &host, until, now_ms).await?;
    Ok(match rank(&mut reading, resolved.host.id, (since, until), &kinds, now_ms).await? {
        BlameAnswer::Ranked(blame) => Json(write::blame(&resolved, &blame)).into_response(),
        BlameAnswer::Gap(as_of) => gap_of(&resolved, &as_of),
    })
}

fn gap_of(resolved: &Resolved, as_of: &AsOf) -> Response {
    match &as_of.answer {
        Answer::Gap(gap) => Json(write::gap_answer(resolved, as_of, gap)).into_response(),
        Answer::Held(_) => Problem::internal("an instant is both held and a gap").into_response(),
    }
}

/// Parameters of `timeline`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TimelineParams {
    since: Option<String>,
    until: Option<String>,
    kind: Option<String>,
    subject: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// What happened.
pub(super) async fn timeline(
    State(shared): State<Shared>,
    Path(host): Path<String>,
    params: Result<Query<TimelineParams>, QueryRejection>,
) -> Result<Json<TimelineJson>, Problem> {
    let Query(params) = params?;
    let since = params.since.as_deref().map(|t| ask::instant("since", Some(t))).transpose()?;
    let until = ask::instant("until", params.until.as_deref())?;
    let kinds = ask::event_kinds(params.kind.as_deref())?;
    let subject = ask::list("subject", params.subject.as_deref(), "KIND:ID with sem, shm or msg", ask::subject)?.pop();
    let (most, after) = (ask::limit(params.limit.as_deref())?, ask::read_event_cursor(params.cursor.as_deref())?);
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let resolved = ask::host(&mut reading, &host, until, now_ms).await?;
    let skew_ms = reading.status(resolved.host.id).await?.map_or(0, |s| s.skew_ms);
    let on_host = |instant| if let Instant::At(t) = instant { t } else { now_ms.saturating_add(skew_ms) };
    let until_ms = on_host(until);
    let since_ms = since.map_or(until_ms.saturating_sub(DAY_MS), on_host);
    if since_ms > until_ms {
        return Err(Problem::bad_request("since is later than until"));
    }
    let question = Question { span_ms: (since_ms, until_ms), kinds, subject, most, after };
    let timeline = tell(&mut reading, resolved.host.id, &question, now_ms).await?;
    Ok(Json(TimelineJson {
        host: resolved.host.name,
        host_id: resolved.host.id.to_string(),
        since: format_rfc3339_ms(since_ms),
        until: format_rfc3339_ms(until_ms),
        skew_ms,
        events: timeline.events.iter().map(write_event::event).collect(),
        next_cursor: timeline.next.as_ref().map(ask::event_cursor),
        notes: resolved.notes,
    }))
}
