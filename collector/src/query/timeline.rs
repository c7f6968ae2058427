//! What happened on one host between two instants, in order.
//!
//! [`super::story::Story`] is the pure part: it is told every record and says what happened at it. A thing that happened
//! between two samples carries both instants: it is not older than the earlier one.

use highwater_ipc::object::Kind;
use highwater_ipc::record::{EpochNo, Seq};

use super::AskError;
use super::as_of::{Answer, Instant, as_of};
use super::event::{Event, EventKind, Happened, Place};
use super::gap::{Gap, GapState};
use super::story::Story;
use super::trail::Anchor;
use super::walk::{Begin, Position, Walk};
use crate::flag::FlagTold;
use crate::host::HostId;
use crate::store::history::{ClosedGap, Reading};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// From and to, host's wall clock, milliseconds, both included.
    pub span_ms: (i64, i64),
    /// Only these; none = all.
    pub kinds: Vec<EventKind>,
    /// Of events that happen to an object only those of this kind and id; `None` = all.
    pub subject: Option<(Kind, i32)>,
    /// The most events wanted.
    pub most: usize,
    /// Those after this place.
    pub after: Option<Bookmark>,
}

/// Where an answer ended: `told` events of that record were given. The answer that goes on is what this one would have said
/// next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// The record.
    pub position: Position,
    /// How many of its events were given.
    pub told: usize,
    /// From where on the records are to be read again to know what was known there; `None` = from the beginning.
    pub since: Option<Anchor>,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// What happened, in order of (epoch, seq).
    pub events: Vec<Event>,
    /// Where to go on; `None` = that was all.
    pub next: Option<Bookmark>,
}

/// The most records one answer reads; beyond that it ends early and says where to go on.
const MOST_RECORDS: usize = 200_000;

/// The most gaps one answer holds.
const MOST_GAPS: usize = 10_000;

/// Tells what happened; `now_ms` is the collector's wall clock.
pub async fn timeline(
    reading: &mut Reading,
    host: HostId,
    question: &Question,
    now_ms: i64,
) -> Result<Timeline, AskError> {
    let gaps = closed_gaps(reading, host, question.span_ms).await?;
    let open = open_gap(reading, host, question.span_ms.1, now_ms).await?;
    let (from_ms, until_ms) = question.span_ms;
    let flags = told_flags(reading, host, question.span_ms).await?;
    let mut pages = Pages::new(question, gaps, flags);
    let (begin, mut story) = match question.after.and_then(|mark| mark.since) {
        None => (Begin::At(from_ms), Story::default()),
        Some(anchor) => (Begin::With(anchor.from), Story::resumed(anchor)),
    };
    let mut walk = Walk::new(reading, host, begin, until_ms).not_before(from_ms);
    let mut records = 0_usize;
    while let Some(step) = walk.next().await? {
        let since = story.anchor();
        let events = story.tell(&step);
        let is_over = question.after.is_some_and(|mark| step.position < mark.position);
        records = records.saturating_add(usize::from(!step.opening));
        if is_over {
            // What pages carry forward is less: nobody gave that bookmark, or the span is another one.
            if records >= MOST_RECORDS {
                return Err(AskError::TooMuch { what: "records before the place to go on", most: MOST_RECORDS });
            }
            pages.pass(step.position);
            continue;
        }
        if !pages.take((step.position, since), events) {
            return Ok(pages.full());
        }
        if records >= MOST_RECORDS {
            return Ok(pages.paused_at(step.position, since));
        }
    }
    Ok(pages.finish(story.unread(), open))
}

/// The closed gaps of a span; [`AskError::TooMuch`] beyond 10,000.
pub(super) async fn closed_gaps(
    reading: &mut Reading,
    host: HostId,
    span_ms: (i64, i64),
) -> Result<Vec<ClosedGap>, AskError> {
    let most = i64::try_from(MOST_GAPS).unwrap_or(0);
    let gaps = reading.gaps_between(host, span_ms, most.saturating_add(1)).await?;
    if gaps.len() > MOST_GAPS {
        return Err(AskError::TooMuch { what: "gaps", most: MOST_GAPS });
    }
    // What was before the host's first sample is no event.
    Ok(gaps.into_iter().filter(|g| g.from_wall_ms.is_some()).collect())
}

/// The flags that went up or down in a span; [`AskError::TooMuch`] beyond 10,000.
async fn told_flags(
    reading: &mut Reading,
    host: HostId,
    span_ms: (i64, i64),
) -> Result<Vec<((EpochNo, Seq), Event)>, AskError> {
    let most = i64::try_from(MOST_GAPS).unwrap_or(0);
    let flags = reading.flags_told(host, span_ms, most.saturating_add(1)).await?;
    if flags.len() > MOST_GAPS {
        return Err(AskError::TooMuch { what: "flags", most: MOST_GAPS });
    }
    let event = |told: FlagTold| {
        let place = Place { own: Some(told.own), name: None };
        let (at_ms, namespace) = (told.at_ms, Some(told.namespace));
        Event { namespace, place, ..Event::exact(at_ms, Happened::Flag(Box::new(told))) }
    };
    Ok(flags.into_iter().map(|(by, told)| (by, event(told))).collect())
}

/// The gap at the end of a span that reaches to or beyond the last sample.
async fn open_gap(reading: &mut Reading, host: HostId, until_ms: i64, now_ms: i64) -> Result<Option<Gap>, AskError> {
    let now = as_of(reading, host, Instant::Now, now_ms).await?;
    Ok(match now.answer {
        Answer::Gap(gap) if gap.state != GapState::Closed && gap.from_ms.is_some_and(|f| f <= until_ms) => Some(gap),
        _ => None,
    })
}

/// Collects the events that were asked for, with the gaps where they belong.
struct Pages<'q> {
    question: &'q Question,
    gaps: std::iter::Peekable<std::vec::IntoIter<ClosedGap>>,
    /// With the record that each was decided by.
    flags: std::iter::Peekable<std::vec::IntoIter<((EpochNo, Seq), Event)>>,
    events: Vec<Event>,
    mark: Option<Bookmark>,
}

impl<'q> Pages<'q> {
    fn new(question: &'q Question, gaps: Vec<ClosedGap>, flags: Vec<((EpochNo, Seq), Event)>) -> Self {
        // What was imported lies before all that an agent recorded, where it was judged at all.
        let (imported, own): (Vec<_>, Vec<_>) = flags.into_iter().partition(|((epoch, _), _)| epoch.is_imported());
        let flags: Vec<_> = imported.into_iter().chain(own).collect();
        let (gaps, flags) = (gaps.into_iter().peekable(), flags.into_iter().peekable());
        Self { question, gaps, flags, events: Vec::new(), mark: question.after }
    }

    /// Passes by a record that an earlier page told, and the gaps before it.
    fn pass(&mut self, position: Position) {
        while self.gaps.next_if(|g| g.closed_by() <= position).is_some() {}
        self.flags_until(position);
    }

    /// Flags that were decided by a record or one before it. What was imported into a gap of an agent decides none.
    fn flags_until(&mut self, position: Position) -> Vec<Event> {
        let here = (position.place.epoch(), position.seq);
        let comes = |by: &(EpochNo, Seq)| match (by.0.is_imported(), here.0.is_imported()) {
            (true, false) => true,
            (false, true) => false,
            _ => *by <= here,
        };
        let mut flags = Vec::new();
        while let Some((_, event)) = self.flags.next_if(|(by, _)| comes(by)) {
            flags.push(event);
        }
        flags
    }

    /// Takes the events of one record; `false` = the page is full and they do not all fit.
    fn take(&mut self, (position, since): (Position, Option<Anchor>), events: Vec<Event>) -> bool {
        let mut here = Vec::new();
        while let Some(gap) = self.gaps.next_if(|g| g.closed_by() <= position) {
            here.push(gap_event(closed(gap)));
        }
        here.extend(self.flags_until(position));
        let from_ms = self.question.span_ms.0;
        // A gap that reaches into the span is told whole.
        let reaches = |e: &Event| matches!(&e.happened, Happened::Unread { gap, .. } if gap.to_ms >= Some(from_ms));
        here.extend(events.into_iter().filter(|e| e.at_ms >= from_ms || reaches(e)));
        let told_before = match self.question.after {
            Some(mark) if mark.position == position => mark.told,
            _ => 0,
        };
        for (index, event) in here.into_iter().enumerate().skip(told_before) {
            if self.wants(&event) {
                if self.events.len() >= self.question.most {
                    return false;
                }
                self.events.push(event);
            }
            self.mark = Some(Bookmark { position, told: index.saturating_add(1), since });
        }
        true
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = self.question.kinds.is_empty() || self.question.kinds.contains(&event.kind());
        kind && self.question.subject.is_none_or(|object| event.concerns(object))
    }

    fn full(self) -> Timeline {
        Timeline { events: self.events, next: self.mark }
    }

    fn paused_at(self, position: Position, since: Option<Anchor>) -> Timeline {
        Timeline { events: self.events, next: Some(Bookmark { position, told: usize::MAX, since }) }
    }

    /// Everything was read: gaps that are closed by a record beyond the span, what could not be read until its end, and the
    /// open one, come last.
    fn finish(mut self, unread: Vec<Event>, open: Option<Gap>) -> Timeline {
        let mut last: Vec<Event> = self.gaps.by_ref().map(|g| gap_event(closed(g))).collect();
        last.extend(self.flags.by_ref().map(|(_, event)| event));
        last.extend(unread);
        last.extend(open.map(gap_event));
        last.retain(|e| self.wants(e));
        self.events.extend(last);
        Timeline { events: self.events, next: None }
    }
}

impl ClosedGap {
    /// The record after it.
    fn closed_by(&self) -> Position {
        Position { place: self.before, seq: self.seq }
    }
}

fn closed(gap: ClosedGap) -> Gap {
    Gap {
        from_ms: gap.from_wall_ms,
        to_ms: Some(gap.to_wall_ms),
        state: GapState::Closed,
        reason: Some(gap.reason),
        detail: gap.detail,
        backlog_from_ms: None,
    }
}

fn gap_event(gap: Gap) -> Event {
    Event::exact(gap.from_ms.or(gap.to_ms).unwrap_or(0), Happened::Gap(gap))
}
