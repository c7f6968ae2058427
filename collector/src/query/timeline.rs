//! What happened on one host between two instants, in order.
//!
//! [`Story`] is the pure part: it is told every record and says what happened at it. A thing that happened between two
//! samples carries both instants: it is not older than the earlier one.

use std::sync::Arc;

use highwater_ipc::object::Kind;
use highwater_ipc::record::{EpochNo, Event as Beside, GapReason};
use highwater_ipc::snapshot::{BootId, NamespaceId, Snapshot};
use highwater_ipc::text::HostText;

use super::AskError;
use super::as_of::{Answer, Instant, as_of};
use super::change::{Known, What};
use super::fold::Said;
use super::gap::{Gap, GapState};
use super::walk::{Begin, Position, Step, Walk};
use crate::host::HostId;
use crate::store::history::{ClosedGap, Reading, Stretch};

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

/// Where an answer ended: `told` events of that record were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// The record.
    pub position: Position,
    /// How many of its events were given.
    pub told: usize,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// What happened, in order of (epoch, seq).
    pub events: Vec<Event>,
    /// Where to go on; `None` = that was all.
    pub next: Option<Bookmark>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// First sample that shows it, host's wall clock, milliseconds.
    pub at_ms: i64,
    /// Last sample that does not show it; `None` = the instant is exact.
    pub after_ms: Option<i64>,
    /// Where, for what belongs to one namespace.
    pub namespace: Option<NamespaceId>,
    /// What.
    pub happened: Happened,
}

/// The kinds of events of the contract that this version can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the event of that name")]
pub enum EventKind {
    Created,
    Removed,
    Changed,
    Refused,
    LimitChanged,
    Reboot,
    ClockStep,
    Gap,
    FlagRaised,
    FlagCleared,
    AgentStarted,
    AgentStopped,
    NamespaceAppeared,
    NamespaceGone,
}

impl EventKind {
    /// All kinds of the contract with their words; some (refused, flags) are recorded by later versions only.
    pub const ALL: [(EventKind, &'static str); 14] = [
        (EventKind::Created, "created"),
        (EventKind::Removed, "removed"),
        (EventKind::Changed, "changed"),
        (EventKind::Refused, "refused"),
        (EventKind::LimitChanged, "limit_changed"),
        (EventKind::Reboot, "reboot"),
        (EventKind::ClockStep, "clock_step"),
        (EventKind::Gap, "gap"),
        (EventKind::FlagRaised, "flag_raised"),
        (EventKind::FlagCleared, "flag_cleared"),
        (EventKind::AgentStarted, "agent_started"),
        (EventKind::AgentStopped, "agent_stopped"),
        (EventKind::NamespaceAppeared, "namespace_appeared"),
        (EventKind::NamespaceGone, "namespace_gone"),
    ];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(k, _)| *k == self).map_or("", |(_, name)| name)
    }

    /// The kind of that word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(k, _)| *k)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An object, a limit or a namespace changed.
    Change {
        /// How.
        what: What,
        /// The state whose names of users and groups apply: the one in which the object was last seen.
        names: Names,
    },
    /// The host started again.
    Reboot {
        /// The boot that ended.
        before: BootId,
        /// The boot that began.
        after: BootId,
        /// When it began: wall clock minus time since boot, milliseconds.
        booted_ms: i64,
        /// How many objects went with it, by kind in the order of [`Kind::ALL`].
        lost: [usize; 3],
    },
    /// The wall clock moved against the boot clock.
    ClockStep {
        /// By how much, milliseconds.
        by_ms: i64,
    },
    /// Samples are missing.
    Gap(Gap),
    /// An agent process began to sample.
    AgentStarted {
        /// Its epoch.
        epoch: EpochNo,
    },
    /// The agent was stopped in order.
    AgentStopped,
}

/// Names of users and groups, shared.
#[derive(Clone, Debug)]
pub struct Names(pub Arc<Snapshot>);

impl Names {
    /// The name of a uid.
    pub fn user(&self, uid: u32) -> Option<&HostText> {
        self.0.state.users.get(&uid)
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.0.state.users == other.0.state.users && self.0.state.groups == other.0.state.groups
    }
}

impl Eq for Names {}

impl Event {
    /// The object it happened to.
    pub fn subject(&self) -> Option<(Kind, i32)> {
        match &self.happened {
            Happened::Change { what: What::Created(o) | What::Removed(o), .. } => Some((o.kind(), o.id())),
            Happened::Change { what: What::Changed { after, .. }, .. } => Some((after.kind(), after.id())),
            _ => None,
        }
    }

    /// Which kind this is.
    pub fn kind(&self) -> EventKind {
        match &self.happened {
            Happened::Change { what, .. } => match what {
                What::Created(_) => EventKind::Created,
                What::Removed(_) => EventKind::Removed,
                What::Changed { .. } => EventKind::Changed,
                What::LimitChanged { .. } => EventKind::LimitChanged,
                What::NamespaceAppeared => EventKind::NamespaceAppeared,
                What::NamespaceGone => EventKind::NamespaceGone,
            },
            Happened::Reboot { .. } => EventKind::Reboot,
            Happened::ClockStep { .. } => EventKind::ClockStep,
            Happened::Gap(_) => EventKind::Gap,
            Happened::AgentStarted { .. } => EventKind::AgentStarted,
            Happened::AgentStopped => EventKind::AgentStopped,
        }
    }
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
    let mut pages = Pages::new(question, gaps);
    let mut walk = match question.after {
        None => Walk::new(reading, host, Begin::At(from_ms), until_ms),
        Some(mark) => Walk::new(reading, host, Begin::With(mark.position), until_ms).not_before(from_ms),
    };
    let mut story = Story::default();
    let mut records = 0_usize;
    while let Some(step) = walk.next().await? {
        records = records.saturating_add(1);
        let events = story.tell(&step);
        let room = step.opening || pages.take(step.position, events);
        if !room {
            return Ok(pages.full());
        }
        if records >= MOST_RECORDS && !step.opening {
            return Ok(pages.paused_at(step.position));
        }
    }
    Ok(pages.finish(open))
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
    events: Vec<Event>,
    mark: Option<Bookmark>,
}

impl<'q> Pages<'q> {
    fn new(question: &'q Question, gaps: Vec<ClosedGap>) -> Self {
        let from = question.after.map(|m| (m.position.epoch, m.position.seq));
        let gaps: Vec<ClosedGap> =
            gaps.into_iter().filter(|g| from.is_none_or(|from| (g.epoch, g.seq) >= from)).collect();
        Self { question, gaps: gaps.into_iter().peekable(), events: Vec::new(), mark: question.after }
    }

    /// Takes the events of one record; `false` = the page is full and they do not all fit.
    fn take(&mut self, position: Position, events: Vec<Event>) -> bool {
        let mut here = Vec::new();
        while let Some(gap) = self.gaps.next_if(|g| (g.epoch, g.seq) <= (position.epoch, position.seq)) {
            here.push(gap_event(closed(gap)));
        }
        let from_ms = self.question.span_ms.0;
        here.extend(events.into_iter().filter(|e| e.at_ms >= from_ms));
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
            self.mark = Some(Bookmark { position, told: index.saturating_add(1) });
        }
        true
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = self.question.kinds.is_empty() || self.question.kinds.contains(&event.kind());
        let about = |subject| event.subject().is_none_or(|s| s == subject);
        kind && self.question.subject.is_none_or(about)
    }

    fn full(self) -> Timeline {
        Timeline { events: self.events, next: self.mark }
    }

    fn paused_at(self, position: Position) -> Timeline {
        Timeline { events: self.events, next: Some(Bookmark { position, told: usize::MAX }) }
    }

    /// Everything was read: gaps that are closed by a record beyond the span, and the open one, come last.
    fn finish(mut self, open: Option<Gap>) -> Timeline {
        let mut last: Vec<Event> = self.gaps.by_ref().map(|g| gap_event(closed(g))).collect();
        last.extend(open.map(gap_event));
        last.retain(|e| self.wants(e));
        self.events.extend(last);
        Timeline { events: self.events, next: None }
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
    Event {
        at_ms: gap.from_ms.or(gap.to_ms).unwrap_or(0),
        after_ms: None,
        namespace: None,
        happened: Happened::Gap(gap),
    }
}

/// Knows what was, and says what happened.
#[derive(Debug, Default)]
pub struct Story {
    known: Known,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    snapshot: Arc<Snapshot>,
    stretch: Arc<Stretch>,
}

impl Story {
    /// What happened at this record, given all told before it. Nothing happens at the first sample ever: what it shows
    /// was there before anybody looked.
    pub fn tell(&mut self, step: &Step) -> Vec<Event> {
        match &step.said {
            Said::Sample { snapshot, gap } => self.sample(step, snapshot, *gap),
            Said::Event(at, Beside::ClockStep { by_ms, .. }) => {
                vec![Event::exact(at.wall_ms, Happened::ClockStep { by_ms: *by_ms })]
            }
            Said::GapReason(at, GapReason::AgentStopped) => vec![Event::exact(at.wall_ms, Happened::AgentStopped)],
            Said::GapReason(..) | Said::Heartbeat(_) => Vec::new(),
        }
    }

    fn sample(&mut self, step: &Step, snapshot: &Arc<Snapshot>, gap: Option<GapReason>) -> Vec<Event> {
        let at_ms = snapshot.at.wall_ms;
        let last = self.last.replace(Last { snapshot: snapshot.clone(), stretch: step.stretch.clone() });
        if step.opening {
            self.known = Known::new(&snapshot.state);
            return Vec::new();
        }
        let mut events = Vec::new();
        let same_process = matches!(gap, Some(GapReason::Forked | GapReason::HistoryRestored));
        let new_epoch = last.as_ref().is_none_or(|l| l.stretch.epoch != step.position.epoch);
        if let Some(last) = &last
            && last.snapshot.state.boot_id != snapshot.state.boot_id
        {
            let happened = self.reboot(last, snapshot);
            events.push(Event { after_ms: Some(last.stretch.end_wall_ms), ..Event::exact(at_ms, happened) });
        }
        if new_epoch && !same_process {
            events.push(Event::exact(at_ms, Happened::AgentStarted { epoch: step.position.epoch }));
        }
        let Some(last) = last else {
            self.known = Known::new(&snapshot.state);
            return events;
        };
        let after_ms = match step.prev_wall_ms {
            Some(prev) if last.stretch.place() == step.stretch.place() => prev,
            _ => last.stretch.end_wall_ms,
        };
        // A clock that was set back shows the later sample before the earlier one.
        let after_ms = Some(after_ms).filter(|after| *after <= at_ms);
        for change in self.known.learn(&snapshot.state) {
            let was = matches!(change.what, What::Removed(_));
            let names = Names(if was { last.snapshot.clone() } else { snapshot.clone() });
            let happened = Happened::Change { what: change.what, names };
            events.push(Event { at_ms, after_ms, namespace: Some(change.namespace), happened });
        }
        events
    }

    fn reboot(&mut self, last: &Last, snapshot: &Snapshot) -> Happened {
        let since_boot_ms = i64::try_from(snapshot.at.boot_us / 1000).unwrap_or(i64::MAX);
        Happened::Reboot {
            before: last.snapshot.state.boot_id,
            after: snapshot.state.boot_id,
            booted_ms: snapshot.at.wall_ms.saturating_sub(since_boot_ms),
            lost: self.known.reboot(&snapshot.state),
        }
    }
}

impl Event {
    fn exact(at_ms: i64, happened: Happened) -> Self {
        Self { at_ms, after_ms: None, namespace: None, happened }
    }
}
