//! Holds a file against what is stored: what is there already must be the same, what falls into holes is packed.

use std::fmt::Display;
use std::sync::Arc;

use highwater_ipc::record::EpochNo;
use highwater_ipc::snapshot::Snapshot;
use tokio_stream::Stream;

use super::ImportError;
use super::feed::{Feed, Span};
use super::hole::{Gap, High, Hole, Mark, Piece};
use super::line::{Form, Sample, contradiction};
use super::pack::Packer;
use crate::host::HostId;
use crate::query::Reading;
use crate::query::fold::Said;
use crate::query::walk::{Begin, Place, Step, Walk};
use crate::store::Db;
use crate::store::history::Stretch;

/// The most bytes that samples may have in memory, packed.
const MOST_PACKED: usize = 1 << 30;

/// The most samples that one import stores.
const MOST_MARKS: usize = 1 << 23;

/// What a file says that is not stored yet.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// In order of time.
    pub(super) pieces: Vec<Piece>,
    /// Lines of which something is to be stored.
    pub(super) lines: u64,
    last_line: u64,
    packed: usize,
    marks: usize,
    before: Option<Before>,
}

/// The line before, dealt with.
#[derive(Debug)]
struct Before {
    sample: Arc<Sample>,
    end_ms: i64,
    /// It is stored, and nothing else is until this instant, where the stretch ends that holds it.
    holds_ms: Option<i64>,
}

/// What is stored of an instant.
enum Stored {
    /// This stretch holds it and what follows until this instant.
    Held(Box<Stretch>, i64),
    /// Nothing.
    Hole(Hole),
}

/// Reads the whole file; `host` = into which host, `None` = one that is yet to be made.
pub(super) async fn gather<S, B, E>(db: &Db, host: Option<HostId>, feed: &mut Feed<S>) -> Result<Gathered, ImportError>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
    E: Display,
{
    let mut gathered = Gathered::default();
    while let Some(span) = feed.span().await? {
        let from_ms = span.from_ms;
        let Some(host) = host else {
            let whole = Hole { after: (EpochNo(0), -1), low_ms: None, high: None };
            fill(whole, feed, &mut gathered).await?;
            continue;
        };
        // One snapshot of the database for each span: a file that comes slowly holds none open while it fills a hole.
        let mut reading = Reading::begin(db).await?;
        match stored_at(&mut reading, host, from_ms).await? {
            Stored::Held(stretch, until_ms) => {
                compare(&mut reading, host, (&stretch, until_ms), feed, &mut gathered).await?;
            }
            Stored::Hole(hole) => {
                drop(reading);
                fill(hole, feed, &mut gathered).await?;
            }
        }
    }
    Ok(gathered)
}

async fn stored_at(reading: &mut Reading, host: HostId, wall_ms: i64) -> Result<Stored, ImportError> {
    let holding = reading.stretches_at(host, wall_ms, 1).await?.pop();
    let next = reading.stretch_begun_after(host, wall_ms).await?;
    if let Some(stretch) = holding {
        // Where the clock was set back a later stretch speaks for its time.
        let other_ms = next.map_or(i64::MAX, |next| next.from_wall_ms.saturating_sub(1));
        let until_ms = stretch.end_wall_ms.min(other_ms);
        return Ok(Stored::Held(Box::new(stretch), until_ms));
    }
    let low = reading.stretch_ended_before(host, wall_ms).await?;
    let after = reading.own_before(host, wall_ms).await?.unwrap_or((EpochNo(0), -1));
    let high = match next {
        None => None,
        Some(next) => {
            let gap = reading.gap_before(host, &next).await?;
            Some(High {
                first: (next.place.epoch(), reading.first_seq(host, &next).await?),
                from_ms: next.from_wall_ms,
                gap: gap.map(|g| Gap { from_ms: g.from_wall_ms, reason: g.reason, detail: g.detail }),
            })
        }
    };
    Ok(Stored::Hole(Hole { after, low_ms: low.map(|s| s.end_wall_ms), high }))
}

/// Takes what falls into a hole.
pub(super) async fn fill<S, B, E>(hole: Hole, feed: &mut Feed<S>, gathered: &mut Gathered) -> Result<(), ImportError>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
    E: Display,
{
    let mut packer = Packer::default();
    let mut marks: Vec<Mark> = Vec::new();
    let mut carried_ms = None;
    let mut last: Option<Arc<Sample>> = None;
    while let Some(span) = feed.span().await? {
        if hole.is_over_at(span.from_ms) {
            break;
        }
        if marks.is_empty()
            && let Some((sample, end_ms, from_ms)) = carried(gathered.before.as_ref(), &hole, span)
        {
            gathered.add(&mut packer, &sample, from_ms, span.number)?;
            marks.push(Mark { is_own: true, ..mark(&sample, (from_ms, from_ms)) });
            (carried_ms, last) = (Some(end_ms), Some(sample));
        }
        let end_ms = hole.cut(span.end_ms);
        let sample = span.sample.clone();
        let is_same = last.as_ref().is_some_and(|last| last.snapshot.state == sample.snapshot.state);
        gathered.add(&mut packer, &sample, span.from_ms, span.number)?;
        gathered.count(span.number);
        marks.push(Mark {
            is_same,
            breaks: span.breaks.is_some(),
            reason: span.breaks.flatten(),
            ..mark(&sample, (span.from_ms, end_ms))
        });
        gathered.before = Some(Before { sample: sample.clone(), end_ms, holds_ms: None });
        last = Some(sample);
        feed.pass(end_ms);
    }
    let (packed, bytes) = packer.finish();
    gathered.packed = gathered.packed.saturating_add(bytes);
    let next = feed.span().await?;
    let next_ms = next.filter(|span| span.is_first && span.breaks.is_none()).map(|span| span.from_ms);
    let tail = feed.tail();
    gathered.pieces.push(Piece { hole, packed, marks, carried_ms, next_ms, tail });
    Ok(())
}

fn mark(sample: &Sample, (from_ms, end_ms): (i64, i64)) -> Mark {
    Mark {
        from_ms,
        end_ms,
        interval_ms: sample.snapshot.state.interval_ms,
        is_same: false,
        is_own: sample.confirmed_ms.is_some() || !sample.activity.is_empty(),
        breaks: false,
        reason: None,
    }
}

/// The line before a hole that is stored already, until when it was confirmed, and the first instant of the hole, if
/// nothing else is known of that.
fn carried(before: Option<&Before>, hole: &Hole, span: &Span) -> Option<(Arc<Sample>, i64, i64)> {
    let before = before.filter(|before| before.holds_ms.is_some() && before.holds_ms == hole.low_ms)?;
    let from_ms = hole.low_ms?.saturating_add(1);
    let carries = span.is_first && span.breaks.is_none() && from_ms < span.from_ms;
    carries.then(|| (before.sample.clone(), before.end_ms, from_ms))
}

impl Gathered {
    fn add(&mut self, packer: &mut Packer, sample: &Sample, wall_ms: i64, number: u64) -> Result<(), ImportError> {
        let bytes = packer.push(sample, wall_ms).map_err(|why| ImportError::Pack { number, why })?;
        self.packed = self.packed.saturating_add(bytes);
        self.marks = self.marks.saturating_add(1);
        if self.packed > MOST_PACKED || self.marks > MOST_MARKS {
            return Err(ImportError::TooMuch { number, bytes: MOST_PACKED, samples: MOST_MARKS });
        }
        Ok(())
    }

    fn count(&mut self, number: u64) {
        if std::mem::replace(&mut self.last_line, number) != number {
            self.lines = self.lines.saturating_add(1);
        }
    }
}

/// Compares what falls into a stretch with what it holds.
async fn compare<S, B, E>(
    reading: &mut Reading,
    host: HostId,
    (stretch, until_ms): (&Stretch, i64),
    feed: &mut Feed<S>,
    gathered: &mut Gathered,
) -> Result<(), ImportError>
where
    S: Stream<Item = Result<B, E>> + Unpin,
    B: AsRef<[u8]>,
    E: Display,
{
    let Some(first) = feed.span().await?.map(|span| span.from_ms) else { return Ok(()) };
    let form = feed.form.unwrap_or(Form::Export);
    let walk = Walk::new(reading, host, Begin::At(first), until_ms);
    let mut held = Held { walk, place: stretch.place, current: None, next: None, last_ms: i64::MIN };
    held.step().await?;
    while let Some(span) = feed.span().await? {
        let (from_ms, end_ms) = (span.from_ms, span.end_ms.min(until_ms));
        if from_ms > until_ms {
            break;
        }
        held.go_to(from_ms).await?;
        held.check(form, span)?;
        while held.next_ms().is_some_and(|next_ms| next_ms <= end_ms) {
            held.step().await?;
            held.check(form, span)?;
        }
        let is_last = held.next.is_none() && until_ms == stretch.end_wall_ms;
        let holds_ms = is_last.then_some(stretch.end_wall_ms);
        gathered.before = Some(Before { sample: span.sample.clone(), end_ms, holds_ms });
        feed.pass(end_ms);
    }
    Ok(())
}

/// The states of one stretch, one after the other.
struct Held<'r> {
    walk: Walk<'r>,
    place: Place,
    current: Option<Arc<Snapshot>>,
    /// With its time as stored, milliseconds.
    next: Option<(i64, Arc<Snapshot>)>,
    last_ms: i64,
}

impl Held<'_> {
    fn next_ms(&self) -> Option<i64> {
        self.next.as_ref().map(|(ms, _)| *ms)
    }

    /// The next state becomes the current one.
    async fn step(&mut self) -> Result<(), ImportError> {
        loop {
            if let Some((_, snapshot)) = self.next.take() {
                self.current = Some(snapshot);
            }
            while let Some(Step { position, prev_wall_ms, said, .. }) = self.walk.next().await? {
                if let (Said::Sample { snapshot, .. }, true) = (said, position.place == self.place) {
                    // As stored: it never falls.
                    self.last_ms = snapshot.at.wall_ms.max(prev_wall_ms.unwrap_or(i64::MIN)).max(self.last_ms);
                    self.next = Some((self.last_ms, snapshot));
                    break;
                }
            }
            if self.current.is_some() || self.next.is_none() {
                return Ok(());
            }
        }
    }

    /// The last state at or before this instant becomes the current one.
    async fn go_to(&mut self, wall_ms: i64) -> Result<(), ImportError> {
        while self.next_ms().is_some_and(|next_ms| next_ms <= wall_ms) {
            self.step().await?;
        }
        Ok(())
    }

    fn check(&self, form: Form, span: &Span) -> Result<(), ImportError> {
        let Some(stored) = &self.current else { return Ok(()) };
        match contradiction(form, &span.sample.snapshot.state, &stored.state) {
            None => Ok(()),
            Some(difference) => Err(ImportError::Contradiction {
                number: span.number,
                at_ms: span.sample.snapshot.at.wall_ms,
                difference,
            }),
        }
    }
}
