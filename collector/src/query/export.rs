//! Every stored sample of a span, whole, one after the other, with the gaps in their places: what `export` writes.
//!
//! It begins with what was held at the span's begin, as [`as_of`](super::as_of) tells it, and ends with the gap that the
//! span's end lies in, if it does. A sample tells until when it was confirmed. The order is that of history; where the
//! clock was set back, the same wall time comes again.
//!
//! It holds one sample at a time, and can go on in another [`Reading`]: a slow reader keeps no snapshot of the database
//! open.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_ipc::activity::Activity;
use highwater_ipc::snapshot::Snapshot;

use super::AskError;
use super::as_of::{Answer, Instant, as_of};
use super::fold::Said;
use super::gap::{Gap, GapState};
use super::walk::{Begin, Position, Step, Walk};
use crate::host::HostId;
use crate::store::history::{Reading, Stretch};

/// What an export writes a line of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A sample.
    Sample(Box<Sample>),
    /// No samples.
    Gap(Gap),
}

/// One stored sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What was read.
    pub snapshot: Arc<Snapshot>,
    /// What had happened since the sample before, as far as that was traced.
    pub activity: Arc<Activity>,
    /// The first and last sample that read this state, host's wall clock, milliseconds.
    pub covered_ms: (i64, i64),
    /// Collector's clock when its record came, milliseconds.
    pub received_ms: i64,
}

/// An export that is under way.
#[derive(Debug)]
pub struct Export {
    host: HostId,
    /// From and to, host's wall clock, milliseconds, both included.
    span_ms: (i64, i64),
    /// The host's clock minus the collector's, milliseconds.
    pub skew_ms: i64,
    /// Everything before is told, or held.
    at: Option<Position>,
    held: Option<(Sample, Arc<Stretch>)>,
    ready: VecDeque<Line>,
    /// The last gap that was told.
    told: Option<Gap>,
    /// The gap that the span's end lies in.
    tail: Option<Gap>,
    is_over: bool,
}

impl Export {
    /// Begins; `now_ms` is the collector's wall clock.
    pub async fn begin(
        reading: &mut Reading,
        host: HostId,
        (from, to): (Instant, Instant),
        now_ms: i64,
    ) -> Result<Self, AskError> {
        let end = as_of(reading, host, to, now_ms).await?;
        let begin = as_of(reading, host, from, now_ms).await?;
        let span_ms = (begin.asked_ms, end.asked_ms);
        if span_ms.0 > span_ms.1 {
            return Err(AskError::Backwards { from_ms: span_ms.0, to_ms: span_ms.1 });
        }
        let mut ready = VecDeque::new();
        // The newest sample speaks for a while after its stretch has ended.
        if let Answer::Held(held) = begin.answer
            && reading.stretches_at(host, span_ms.0, 1).await?.is_empty()
        {
            ready.push_back(Line::Sample(Box::new(Sample {
                snapshot: held.snapshot,
                activity: Arc::default(),
                covered_ms: held.covered_ms,
                received_ms: held.received_ms,
            })));
        }
        let tail = if let Answer::Gap(gap) = end.answer { Some(gap) } else { None };
        let skew_ms = end.skew_ms;
        Ok(Self { host, span_ms, skew_ms, at: None, held: None, ready, told: None, tail, is_over: false })
    }

    /// Walks on where it stands.
    pub fn walk<'r>(&self, reading: &'r mut Reading) -> Walk<'r> {
        let (from_ms, until_ms) = self.span_ms;
        match self.at {
            None => Walk::new(reading, self.host, Begin::At(from_ms), until_ms),
            Some(at) => Walk::new(reading, self.host, Begin::With(at), until_ms).not_before(from_ms),
        }
    }

    /// What comes next, read by what [`Export::walk`] gave; `None` = that was all.
    pub async fn next(&mut self, walk: &mut Walk<'_>) -> Result<Option<Line>, AskError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if self.is_over {
                return Ok(None);
            }
            match walk.next().await? {
                Some(step) => self.step(step, walk).await?,
                None => {
                    self.release(walk).await?;
                    if let Some(gap) = self.tail.take() {
                        self.gap(gap);
                    }
                    self.is_over = true;
                }
            }
        }
    }

    async fn step(&mut self, step: Step, walk: &mut Walk<'_>) -> Result<(), AskError> {
        // What a walk opens with where nothing is held at its begin was before the gap.
        let is_before = step.is_before(self.span_ms);
        let Step { position, stretch, prev_wall_ms, received_ms, said, opening, .. } = step;
        let is_known = opening && self.at.is_some_and(|at| position < at);
        if is_known || is_before {
            return Ok(());
        }
        self.at = Some(position.next());
        let Said::Sample { snapshot, activity, .. } = said else { return Ok(()) };
        match &mut self.held {
            Some((held, held_in)) if held_in.place == stretch.place => {
                let end_ms = prev_wall_ms.unwrap_or(held.covered_ms.1);
                held.covered_ms.1 = end_ms.max(held.covered_ms.0);
                self.let_go();
            }
            Some((held, held_in)) if goes_on(held, held_in, &snapshot, &stretch) => {
                // What was imported right behind it repeats what is held: it is the same line.
                *held_in = stretch;
                return Ok(());
            }
            _ => {
                self.release(walk).await?;
                if !opening && let Some(gap) = walk.gap_before(&stretch).await? {
                    self.gap(Gap {
                        from_ms: gap.from_wall_ms,
                        to_ms: Some(gap.to_wall_ms),
                        state: GapState::Closed,
                        reason: Some(gap.reason),
                        detail: gap.detail,
                        backlog_from_ms: None,
                    });
                }
            }
        }
        let at_ms = snapshot.at.wall_ms;
        self.held = Some((Sample { snapshot, activity, covered_ms: (at_ms, at_ms), received_ms }, stretch));
        Ok(())
    }

    /// Tells what is held, the last sample of its stretch within the span.
    async fn release(&mut self, walk: &mut Walk<'_>) -> Result<(), AskError> {
        if let Some((held, stretch)) = &mut self.held {
            let is_whole = stretch.end_wall_ms <= self.span_ms.1;
            let end_ms = if is_whole { stretch.end_wall_ms } else { walk.confirmed_ms(stretch).await? };
            held.covered_ms.1 = end_ms.max(held.covered_ms.0);
        }
        self.let_go();
        Ok(())
    }

    fn let_go(&mut self) {
        self.ready.extend(self.held.take().map(|(sample, _)| Line::Sample(Box::new(sample))));
    }

    fn gap(&mut self, gap: Gap) {
        if self.told.as_ref() != Some(&gap) {
            self.told = Some(gap.clone());
            self.ready.push_back(Line::Gap(gap));
        }
    }
}

/// Whether a stretch begins with the state that is held, the instant after that was confirmed last.
fn goes_on(held: &Sample, held_in: &Stretch, snapshot: &Snapshot, stretch: &Stretch) -> bool {
    let touches = held_in.end_wall_ms.saturating_add(1) == stretch.from_wall_ms;
    touches && stretch.place.epoch().is_imported() && held.snapshot.state == snapshot.state
}
