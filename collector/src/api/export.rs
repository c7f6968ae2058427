//! `/hosts/{host}/export`: every stored sample of a span as JSON lines, streamed.

use axum::extract::{Path, Query, State, rejection::QueryRejection};
use axum::response::Response;
use serde::Deserialize;
use tokio::time::Instant;

use super::json::GapLineJson;
use super::lines::{Gone, Lines, Source, answer};
use super::problem::Problem;
use super::router::Shared;
use super::{ask, write};
use crate::query::export::{Export, Line};
use crate::query::host::Resolved;
use crate::query::{AskError, Reading};

/// Parameters of `export`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExportParams {
    from: Option<String>,
    to: Option<String>,
}

/// Every sample of a span.
pub(super) async fn export(
    State(shared): State<Shared>,
    Path(host): Path<String>,
    params: Result<Query<ExportParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(params) = params?;
    let from = params.from.as_deref().ok_or_else(|| Problem::bad_request("from is missing"))?;
    let (from, to) = (ask::instant("from", Some(from))?, ask::instant("to", params.to.as_deref())?);
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let resolved = ask::host(&mut reading, &host, to, now_ms).await?;
    let export = Export::begin(&mut reading, resolved.host.id, (from, to), now_ms).await?;
    Ok(answer(shared.db.clone(), reading, Samples { resolved, export }, "application/x-ndjson"))
}

/// What is sent.
struct Samples {
    resolved: Resolved,
    export: Export,
}

impl Source for Samples {
    async fn some(
        &mut self,
        reading: &mut Reading,
        lines: &mut Lines,
        until: Instant,
    ) -> Result<Result<bool, Gone>, AskError> {
        let Self { resolved, export } = self;
        let mut walk = export.walk(reading);
        while let Some(line) = export.next(&mut walk).await? {
            let sent = match &line {
                Line::Sample(sample) => lines.json(&write::sample(resolved, export.skew_ms, sample)).await,
                Line::Gap(gap) => {
                    let line = GapLineJson { host: resolved.host.name.clone(), gap: write::gap(gap) };
                    lines.json(&line).await
                }
            };
            if sent.is_err() {
                return Ok(Err(Gone));
            }
            if Instant::now() >= until {
                return Ok(Ok(true));
            }
        }
        Ok(Ok(false))
    }
}
