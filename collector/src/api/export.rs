//! `/hosts/{host}/export`: every stored sample of a span as JSON lines, streamed.
//!
//! The answer is whole exactly if its chunked body ends as HTTP says and its last line is no `{"error":{..}}`: what goes
//! wrong once lines have been sent is told as the last one.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State, rejection::QueryRejection};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::json::GapLineJson;
use super::problem::Problem;
use super::router::Shared;
use super::{ask, write};
use crate::query::export::{Export, Line};
use crate::query::host::Resolved;
use crate::query::{AskError, Reading};
use crate::store::Db;

/// How long one snapshot of the database is read from: then another one is, which sees the same records.
const READING: Duration = Duration::from_secs(20);

/// How long whoever asked may take for what is on its way.
const STALL: Duration = Duration::from_secs(60);

/// Messages on their way, and the bytes after which one is sent.
const ON_THE_WAY: usize = 4;
const MESSAGE: usize = 64 << 10;

/// Parameters of `export`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExportParams {
    from: Option<String>,
    to: Option<String>,
}

/// What goes into the answer: bytes, never an error of its own.
type Piece = Result<Bytes, std::convert::Infallible>;

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
    let (lines, receiver) = channel(ON_THE_WAY);
    // It ends with the connection: nobody takes what it sends any more.
    tokio::spawn(stream(shared.db.clone(), reading, resolved, export, Lines { to: lines, bytes: Vec::new() }));
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Whoever asked does not listen any more.
struct Gone;

/// Lines on their way into the answer.
struct Lines {
    to: Sender<Piece>,
    bytes: Vec<u8>,
}

impl Lines {
    async fn push(&mut self, line: &impl Serialize) -> Result<(), Gone> {
        serde_json::to_writer(&mut self.bytes, line).map_err(|_| Gone)?;
        self.bytes.push(b'\n');
        if self.bytes.len() >= MESSAGE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        match timeout(STALL, self.to.send(Ok(bytes))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

async fn stream(db: Db, mut reading: Reading, resolved: Resolved, mut export: Export, mut lines: Lines) {
    loop {
        match some(&mut reading, &resolved, &mut export, &mut lines).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                let _ = lines.flush().await;
                return;
            }
            Ok(Err(Gone)) => return,
            Err(error) => return fail(error.into(), lines).await,
        }
        match Reading::begin(&db).await {
            Ok(next) => reading = next,
            Err(error) => return fail(error.into(), lines).await,
        }
    }
}

async fn fail(problem: Problem, mut lines: Lines) {
    if lines.push(&problem.line()).await.is_ok() {
        let _ = lines.flush().await;
    }
}

/// Sends what one snapshot of the database is read for; `false` = that was all.
async fn some(
    reading: &mut Reading,
    resolved: &Resolved,
    export: &mut Export,
    lines: &mut Lines,
) -> Result<Result<bool, Gone>, AskError> {
    let until = Instant::now() + READING;
    let mut walk = export.walk(reading);
    while let Some(line) = export.next(&mut walk).await? {
        let sent = match &line {
            Line::Sample(sample) => lines.push(&write::sample(resolved, export.skew_ms, sample)).await,
            Line::Gap(gap) => {
                let line = GapLineJson { host: resolved.host.name.clone(), gap: write::gap(gap) };
                lines.push(&line).await
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
