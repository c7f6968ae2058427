//! `/hosts/{host}/series`: one limit's use over a span, as the rows that the evaluator judges, streamed as CSV.

use axum::extract::{Path, Query, State, rejection::QueryRejection};
use axum::response::Response;
use highwater_ipc::limits::Resource;
use highwater_ipc::time::format_rfc3339_ms;
use serde::Deserialize;
use tokio::time::Instant;

use super::ask;
use super::lines::{Gone, Lines, Source, answer};
use super::problem::Problem;
use super::router::Shared;
use crate::evaluate::csv;
use crate::evaluate::series::{Asked, Begun, Series};
use crate::query::{AskError, Reading};

/// Parameters of `series`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SeriesParams {
    from: Option<String>,
    to: Option<String>,
    resource: Option<String>,
    namespace: Option<String>,
}

/// The rows of a span.
pub(super) async fn series(
    State(shared): State<Shared>,
    Path(host): Path<String>,
    params: Result<Query<SeriesParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(params) = params?;
    let from = params.from.as_deref().ok_or_else(|| Problem::bad_request("from is missing"))?;
    let span = (ask::instant("from", Some(from))?, ask::instant("to", params.to.as_deref())?);
    let resource = params.resource.as_deref().unwrap_or_default();
    let resource = Resource::ALL.into_iter().find(|r| r.name().eq_ignore_ascii_case(resource)).ok_or_else(|| {
        let names = Resource::ALL.map(Resource::name).join(", ");
        Problem::bad_request(&format!("resource={resource} is none of {names}"))
    })?;
    let inode = |text: &str| {
        let wrong = || Problem::bad_request(&format!("namespace={text} is no inode: a whole number is expected"));
        text.parse::<u64>().map_err(|_| wrong())
    };
    let namespace = params.namespace.as_deref().map(inode).transpose()?;
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let resolved = ask::host(&mut reading, &host, span.1, now_ms).await?;
    let asked = Asked { host: resolved.host.id, span, resource, namespace };
    match Series::begin(&mut reading, &asked, now_ms).await? {
        Begun::Series(series) => {
            Ok(answer(shared.db.clone(), reading, Rows { series: *series, is_begun: false }, "text/csv"))
        }
        Begun::NoNamespace(end) => Err(Problem::bad_request(&format!(
            "namespace={} is none that is known of {} at {}: give `to` an instant at which it was there",
            namespace.unwrap_or_default(),
            resolved.host.name,
            format_rfc3339_ms(end.asked_ms)
        ))),
    }
}

/// What is sent: a header, then the rows.
struct Rows {
    series: Series,
    is_begun: bool,
}

impl Source for Rows {
    async fn some(
        &mut self,
        reading: &mut Reading,
        lines: &mut Lines,
        until: Instant,
    ) -> Result<Result<bool, Gone>, AskError> {
        if !std::mem::replace(&mut self.is_begun, true) && lines.text(csv::HEADER).await.is_err() {
            return Ok(Err(Gone));
        }
        let mut walk = self.series.walk(reading);
        while let Some(row) = self.series.next(&mut walk).await? {
            if lines.text(&csv::line(&row)).await.is_err() {
                return Ok(Err(Gone));
            }
            if Instant::now() >= until {
                return Ok(Ok(true));
            }
        }
        Ok(Ok(false))
    }
}
