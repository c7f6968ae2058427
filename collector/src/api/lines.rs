//! Answers that are streamed line by line, and go on in another snapshot of the database where they take long.
//!
//! Such an answer is whole exactly if its chunked body ends as HTTP says and its last line is no `{"error":{..}}`: what goes
//! wrong once lines have been sent is told as the last one.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::problem::Problem;
use crate::query::{AskError, Reading};
use crate::store::Db;

/// How long one snapshot of the database is read from: then another one is, which sees the same records.
const READING: Duration = Duration::from_secs(20);

/// How long whoever asked may take for what is on its way.
const STALL: Duration = Duration::from_secs(60);

/// Messages on their way, and the bytes after which one is sent.
const ON_THE_WAY: usize = 4;
const MESSAGE: usize = 64 << 10;

/// What goes into the answer: bytes, never an error of its own.
type Piece = Result<Bytes, std::convert::Infallible>;

/// Whoever asked does not listen any more.
pub(super) struct Gone;

/// Lines on their way into the answer.
pub(super) struct Lines {
    to: Sender<Piece>,
    bytes: Vec<u8>,
}

impl Lines {
    /// A line of JSON.
    pub(super) async fn json(&mut self, line: &impl Serialize) -> Result<(), Gone> {
        serde_json::to_writer(&mut self.bytes, line).map_err(|_| Gone)?;
        self.end().await
    }

    /// A line as it is.
    pub(super) async fn text(&mut self, line: &str) -> Result<(), Gone> {
        self.bytes.extend_from_slice(line.as_bytes());
        self.end().await
    }

    async fn end(&mut self) -> Result<(), Gone> {
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

/// What is streamed, and goes on where it was.
pub(super) trait Source: Send + 'static {
    /// Sends lines until that was all (`false`), or time is up (`true`).
    fn some(
        &mut self,
        reading: &mut Reading,
        lines: &mut Lines,
        until: Instant,
    ) -> impl Future<Output = Result<Result<bool, Gone>, AskError>> + Send;
}

/// The answer that streams it, beginning in that snapshot.
pub(super) fn answer(db: Db, reading: Reading, source: impl Source, content_type: &'static str) -> Response {
    let (to, receiver) = channel(ON_THE_WAY);
    // It ends with the connection: nobody takes what it sends any more.
    tokio::spawn(stream(db, reading, source, Lines { to, bytes: Vec::new() }));
    let body = Body::from_stream(ReceiverStream::new(receiver));
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

async fn stream(db: Db, mut reading: Reading, mut source: impl Source, mut lines: Lines) {
    loop {
        match source.some(&mut reading, &mut lines, Instant::now() + READING).await {
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
    if lines.json(&problem.line()).await.is_ok() {
        let _ = lines.flush().await;
    }
}
