//! One series of stored history, row by row, by the very [`Feed`] that the evaluator has: what `export --series` writes and
//! `backtest` reads.
//!
//! - S1. Of a span that begins before a host's first sample it is what the evaluator judged, wherever the records are and
//!   however they were cut into steps.
//! - S2. A span that begins later begins with what was held then.
//! - S3. It holds one sample at a time and can go on in another [`Reading`]: a slow reader keeps no snapshot of the
//!   database open.
//!
//! What was imported into a gap is in the series, and was not judged: the evaluator had passed by.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_ipc::limits::Resource;
use highwater_ipc::snapshot::Snapshot;

use super::feed::{self, Feed, Input, Place, Which};
use crate::forecast::Row;
use crate::host::HostId;
use crate::query::as_of::{Answer, AsOf, Instant, as_of};
use crate::query::fold::Said;
use crate::query::walk::{Begin, Position, Step, Walk};
use crate::query::{AskError, Reading};
use crate::store::history::Stretch;

/// Whose series is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of which host.
    pub host: HostId,
    /// From and to, by its clock, both included.
    pub span: (Instant, Instant),
    /// Of which limit.
    pub resource: Resource,
    /// Inode of the IPC namespace, as it is at the span's end; `None` = the host's own.
    pub namespace: Option<u64>,
}

/// What can be begun.
#[derive(Debug)]
pub enum Begun {
    /// A series.
    Series(Box<Series>),
    /// At the span's end nobody knows which namespaces there were, or no namespace has that inode.
    NoNamespace(AsOf),
}

/// A series that is under way.
#[derive(Debug)]
pub struct Series {
    host: HostId,
    which: Which,
    /// From and to, host's wall clock, milliseconds.
    span_ms: (i64, i64),
    feed: Feed,
    /// Everything before is read.
    at: Option<Position>,
    stretch: Option<Arc<Stretch>>,
    ready: VecDeque<Row>,
    is_over: bool,
}

impl Series {
    /// Begins; `now_ms` is the collector's wall clock.
    pub async fn begin(reading: &mut Reading, asked: &Asked, now_ms: i64) -> Result<Begun, AskError> {
        let end = as_of(reading, asked.host, asked.span.1, now_ms).await?;
        let begin = as_of(reading, asked.host, asked.span.0, now_ms).await?;
        let span_ms = (begin.asked_ms, end.asked_ms);
        if span_ms.0 > span_ms.1 {
            return Err(AskError::Backwards { from_ms: span_ms.0, to_ms: span_ms.1 });
        }
        let place = match (asked.namespace, &end.answer) {
            (None, _) => Some(Place::Own),
            (Some(inode), Answer::Held(held)) => place(&held.snapshot, inode),
            (Some(_), Answer::Gap(_)) => None,
        };
        let Some(place) = place else { return Ok(Begun::NoNamespace(end)) };
        let which = Which::new(place, asked.resource);
        Ok(Begun::Series(Box::new(Self {
            host: asked.host,
            which,
            span_ms,
            feed: Feed::default(),
            at: None,
            stretch: None,
            ready: VecDeque::new(),
            is_over: false,
        })))
    }

    /// Walks on where it stands.
    pub fn walk<'r>(&self, reading: &'r mut Reading) -> Walk<'r> {
        let (from_ms, until_ms) = self.span_ms;
        match self.at {
            None => Walk::new(reading, self.host, Begin::At(from_ms), until_ms),
            Some(at) => Walk::new(reading, self.host, Begin::With(at), until_ms).not_before(from_ms),
        }
    }

    /// The next row, read by what [`Series::walk`] gave; `None` = that was all.
    pub async fn next(&mut self, walk: &mut Walk<'_>) -> Result<Option<Row>, AskError> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Ok(Some(row));
            }
            if self.is_over {
                return Ok(None);
            }
            match walk.next().await? {
                Some(step) => self.step(step, walk).await?,
                None => {
                    self.leave(walk).await?;
                    self.is_over = true;
                }
            }
        }
    }

    async fn step(&mut self, step: Step, walk: &mut Walk<'_>) -> Result<(), AskError> {
        let is_known = step.opening && self.at.is_some_and(|at| step.position < at);
        if is_known || step.is_before(self.span_ms) {
            return Ok(());
        }
        self.at = Some(step.position.next());
        let Said::Sample { snapshot, .. } = &step.said else { return Ok(()) };
        let begins_stretch = self.stretch.as_ref().is_none_or(|before| before.place != step.stretch.place);
        if begins_stretch {
            self.leave(walk).await?;
            self.stretch = Some(step.stretch.clone());
        }
        // What was held at the span's begin begins with it.
        let late_ms = if step.opening { self.span_ms.0.saturating_sub(step.wall_ms).max(0) } else { 0 };
        let sample = feed::Sample {
            wall_ms: step.wall_ms.saturating_add(late_ms),
            prev_wall_ms: step.prev_wall_ms.filter(|_| !step.opening),
            boot_us: snapshot.at.boot_us.saturating_add(late_ms.unsigned_abs().saturating_mul(1000)),
            begins_stretch,
            state: &snapshot.state,
        };
        let (which, ready) = (self.which, &mut self.ready);
        self.feed.sample(&sample, &mut |of, input| take(which, ready, of, input));
        Ok(())
    }

    /// Says until when the last sample of a stretch within the span was confirmed.
    async fn leave(&mut self, walk: &mut Walk<'_>) -> Result<(), AskError> {
        let Some(stretch) = &self.stretch else { return Ok(()) };
        let until_ms = self.span_ms.1;
        let is_whole = stretch.end_wall_ms <= until_ms;
        let end_ms = if is_whole { stretch.end_wall_ms } else { walk.confirmed_ms(stretch).await?.min(until_ms) };
        let (which, ready) = (self.which, &mut self.ready);
        self.feed.covered(end_ms, &mut |of, input| take(which, ready, of, input));
        Ok(())
    }
}

/// Rows of other series are not wanted; that one's namespace is gone shows by its rows ending.
fn take(which: Which, ready: &mut VecDeque<Row>, of: Which, input: Input) {
    if let (true, Input::Row(row)) = (of == which, input) {
        ready.push_back(row);
    }
}

fn place(snapshot: &Snapshot, inode: u64) -> Option<Place> {
    feed::places(&snapshot.state).find(|(_, id)| id.inode == inode).map(|(place, _)| place)
}
