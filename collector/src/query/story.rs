//! Knows what was, and says what happened: the pure part of a timeline. It is told every record in order.

use std::sync::Arc;

use highwater_ipc::activity::Activity;
use highwater_ipc::limits::Limits;
use highwater_ipc::record::{Event as Beside, GapReason};
use highwater_ipc::risk::Risk;
use highwater_ipc::snapshot::{NamespaceId, Snapshot, State};

use super::change::{Change, Known, What};
use super::deeds::{Deeds, Judged};
use super::event::{Event, Happened, Names, Place};
use super::fold::Said;
use super::gap::Gap;
use super::trail::{Anchor, Trail};
use super::unread::{List, Unread};
use super::walk::Step;
use crate::store::history::Stretch;

/// What is known so far.
#[derive(Debug, Default)]
pub struct Story {
    known: Known,
    last: Option<Last>,
    deeds: Deeds,
    unread: Unread,
    trail: Trail,
    /// Where it goes on, until the sample before that is told.
    resumed: Option<Anchor>,
}

#[derive(Debug)]
struct Last {
    snapshot: Arc<Snapshot>,
    stretch: Arc<Stretch>,
}

impl Story {
    /// Goes on where another one was: it is to be told what a walk from [`Anchor::from`] on comes to, and says of all that
    /// the other one had not been told yet what that would have said.
    pub fn resumed(anchor: Anchor) -> Self {
        Self { resumed: Some(anchor), ..Self::default() }
    }

    /// From where on another one must be told to know what this one knows; `None` = from its beginning. At most
    /// [`super::trail::MOST_CARRIED`] samples lie between.
    pub fn anchor(&self) -> Option<Anchor> {
        self.trail.anchor()
    }

    /// Says what happened at this record, given all told before it. Nothing happens at the first sample ever: what it shows
    /// was there before anybody looked.
    pub fn tell(&mut self, step: &Step) -> Vec<Event> {
        match &step.said {
            Said::Sample { snapshot, gap, activity } => {
                let before = self.last.as_ref().map(|l| l.snapshot.clone());
                let mut events = self.sample(step, snapshot, activity, *gap);
                self.mark(step, before.is_none());
                events.iter_mut().for_each(|event| event.place = place(event.namespace, snapshot, before.as_deref()));
                events
            }
            Said::Event(at, Beside::ClockStep { by_ms, .. }) => {
                vec![Event::exact(at.wall_ms, Happened::ClockStep { by_ms: *by_ms })]
            }
            Said::GapReason(at, GapReason::AgentStopped) => vec![Event::exact(at.wall_ms, Happened::AgentStopped)],
            Said::GapReason(..) | Said::Heartbeat(_) => Vec::new(),
        }
    }

    /// The lists that could not be read at the last sample.
    pub fn unread(&self) -> Vec<Event> {
        let Some(last) = &self.last else { return Vec::new() };
        let (state, at_ms) = (&last.snapshot.state, last.snapshot.at.wall_ms);
        let open = self.unread.open(state).into_iter().map(|(list, gap)| unread(list, gap, at_ms));
        open.map(|event| Event { place: place(event.namespace, &last.snapshot, None), ..event }).collect()
    }

    fn sample(
        &mut self,
        step: &Step,
        snapshot: &Arc<Snapshot>,
        activity: &Activity,
        gap: Option<GapReason>,
    ) -> Vec<Event> {
        let at_ms = snapshot.at.wall_ms;
        let last = self.last.replace(Last { snapshot: snapshot.clone(), stretch: step.stretch.clone() });
        let mut events = Vec::new();
        let goes_on = last.as_ref().is_some_and(|last| last.stretch.place == step.stretch.place);
        if let Some(last) = last.as_ref().filter(|_| !goes_on) {
            let ended = self.unread.end(&last.snapshot.state, last.stretch.end_wall_ms);
            events.extend(ended.into_iter().map(|(list, gap)| unread(list, gap, last.stretch.end_wall_ms)));
            self.unread = Unread::opening(&snapshot.state);
        }
        if step.opening {
            self.known = Known::new(&snapshot.state);
            self.unread = Unread::opening(&snapshot.state);
            let knows_all = self.resumed.is_some_and(|anchor| !anchor.opened);
            self.deeds = if knows_all { Deeds::default() } else { Deeds::opening(activity, snapshot) };
            return events;
        }
        let same_process = matches!(gap, Some(GapReason::Forked | GapReason::HistoryRestored));
        let new_epoch = last.as_ref().is_none_or(|l| l.stretch.place.epoch() != step.position.place.epoch());
        if let Some(last) = &last
            && last.snapshot.state.boot_id != snapshot.state.boot_id
        {
            let happened = self.reboot(last, snapshot);
            // What was traced before it is over, too: ids mean something else now.
            self.deeds = Deeds::default();
            events.push(Event { after_ms: Some(last.stretch.end_wall_ms), ..Event::exact(at_ms, happened) });
        }
        if new_epoch && !same_process && !step.position.place.epoch().is_imported() {
            events.push(Event::exact(at_ms, Happened::AgentStarted { epoch: step.position.place.epoch() }));
        }
        let Some(last) = last else {
            self.known = Known::new(&snapshot.state);
            self.unread = Unread::opening(&snapshot.state);
            let judged = self.deeds.judge(activity, snapshot, &[]);
            events.extend(traced(activity, judged, snapshot));
            return events;
        };
        let after_ms = match step.prev_wall_ms {
            Some(prev) if last.stretch.place == step.stretch.place => prev,
            _ => last.stretch.end_wall_ms,
        };
        if goes_on {
            let read = self.unread.sample((&last.snapshot.state, after_ms), &snapshot.state, at_ms);
            events.extend(read.into_iter().map(|(list, gap)| unread(list, gap, at_ms)));
        }
        if new_epoch && !sees_every_namespace(&snapshot.state) {
            self.known.forget_unseen(&snapshot.state);
        }
        let changes = self.known.learn(&snapshot.state);
        let mut judged = self.deeds.judge(activity, snapshot, &changes);
        let by = std::mem::take(&mut judged.by);
        events.extend(traced(activity, judged, snapshot));
        events.extend(risks(&last.snapshot.state.risks, &snapshot.state.risks, at_ms, after_ms));
        for (change, by) in changes.into_iter().zip(by) {
            let after_ms = visited_ms(&change, (&last.snapshot.state, &snapshot.state), after_ms);
            let was = matches!(change.what, What::Removed(_));
            let names = Names(if was { last.snapshot.clone() } else { snapshot.clone() });
            let happened = Happened::Change { what: change.what, names, by };
            let (after_ms, namespace) = (told_after(at_ms, after_ms), Some(change.namespace));
            events.push(Event { after_ms, namespace, ..Event::exact(at_ms, happened) });
        }
        events
    }

    /// Notes how far back what is known now was learnt.
    fn mark(&mut self, step: &Step, is_first: bool) {
        let from = step.position.next();
        if step.opening {
            let opened = self.resumed.take().is_none_or(|anchor| anchor.opened);
            self.trail.begin(Anchor { from, opened });
            return;
        }
        if is_first {
            self.trail.begin(Anchor { from: step.position, opened: false });
        }
        let rests = !self.known.carries() && !self.deeds.waits() && !self.unread.waits();
        if !self.trail.sample(rests.then_some(from), self.deeds.behind()) {
            self.known.forget_carried();
            self.unread.forget();
            self.deeds = Deeds::default();
            self.trail.begin(Anchor { from, opened: false });
        }
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
    /// At exactly that instant, of the host as a whole.
    pub(super) fn exact(at_ms: i64, happened: Happened) -> Self {
        Self { at_ms, after_ms: None, namespace: None, place: Place::default(), happened }
    }
}

/// One kind of objects of one namespace could not be read, and still not at `last_ms`.
fn unread((namespace, kind): List, gap: Gap, last_ms: i64) -> Event {
    let at_ms = gap.from_ms.unwrap_or(last_ms);
    Event { namespace: Some(namespace), ..Event::exact(at_ms, Happened::Unread { kind, gap }) }
}

/// Whether an agent sees all IPC namespaces, for all it knows: another one may have seen more.
pub(super) fn sees_every_namespace(state: &State) -> bool {
    const SOURCES: [&[u8]; 3] = [b"/proc", b"/proc/PID/ns/ipc", b"setns"];
    !state.unseen.iter().any(|part| SOURCES.contains(&part.source.as_bytes()))
}

/// What that namespace is in the sample that shows it, or in the one before.
fn place(id: Option<NamespaceId>, snapshot: &Snapshot, before: Option<&Snapshot>) -> Place {
    let Some(id) = id else { return Place::default() };
    let at = |snapshot: &Snapshot| snapshot.state.namespaces.iter().position(|n| n.id == id);
    let in_state = |snapshot: &Snapshot| {
        let index = at(snapshot)?;
        let name = snapshot.state.namespaces.get(index).and_then(|n| n.name.clone());
        Some(Place { own: Some(index == 0), name })
    };
    in_state(snapshot).or_else(|| before.and_then(in_state)).unwrap_or(Place { own: Some(false), name: None })
}

/// Between which samples it is; a clock that was set back shows the later one before the earlier one.
fn told_after(at_ms: i64, after_ms: i64) -> Option<i64> {
    Some(after_ms).filter(|after| *after <= at_ms)
}

/// The last visit before the sample that shows a change in a namespace: samples may have passed it by.
fn visited_ms(change: &Change, (before, after): (&State, &State), after_ms: i64) -> i64 {
    let skipped = |state: &State| state.namespaces.iter().find(|n| n.id == change.namespace).map_or(0, |n| n.skipped);
    let passed = i64::from(skipped(before).max(skipped(after)));
    let interval_ms = i64::from(before.interval_ms.max(after.interval_ms));
    // One more than it says: the samples in between need not have kept their times.
    let more = if passed > 0 { passed.saturating_add(1) } else { 0 };
    after_ms.saturating_sub(interval_ms.saturating_mul(more))
}

/// What was traced and is no change of the objects that were sampled.
fn traced(activity: &Activity, judged: Judged, snapshot: &Arc<Snapshot>) -> Vec<Event> {
    let limits = |id: Option<NamespaceId>| -> Option<Limits> {
        snapshot.state.namespaces.iter().find(|n| Some(n.id) == id).and_then(|n| n.limits)
    };
    let mut events = Vec::new();
    for (act, transient) in judged.rest {
        let (namespace, names) = (act.namespace, Names(snapshot.clone()));
        let (at_ms, last_ms) = (wall_ms(snapshot, act.first_us), wall_ms(snapshot, act.last_us));
        let limits = limits(namespace);
        let happened = Happened::Acted { act: Box::new(act), last_ms, transient, limits, names };
        events.push(Event { namespace, ..Event::exact(at_ms, happened) });
    }
    for peak in &activity.peaks {
        let at_ms = wall_ms(snapshot, peak.boot_us);
        let happened = Happened::Peak { peak: *peak, limits: limits(Some(peak.namespace)) };
        events.push(Event { namespace: Some(peak.namespace), ..Event::exact(at_ms, happened) });
    }
    events.sort_by_key(|e| e.at_ms);
    if activity.lost > 0 || activity.more > 0 {
        let happened = Happened::Lost { lost: activity.lost, more: activity.more };
        events.push(Event::exact(snapshot.at.wall_ms, happened));
    }
    events
}

/// The host's wall clock at an instant of its boot clock that is close to a sample, milliseconds.
fn wall_ms(snapshot: &Snapshot, boot_us: u64) -> i64 {
    let away_ms = (i128::from(boot_us) - i128::from(snapshot.at.boot_us)).div_euclid(1000);
    snapshot.at.wall_ms.saturating_add(i64::try_from(away_ms).unwrap_or(0))
}

/// Risks that came and went. What was found names whose it is, so another user's is another risk.
fn risks(before: &[Risk], after: &[Risk], at_ms: i64, after_ms: i64) -> Vec<Event> {
    let new = |risks: &[Risk], others: &[Risk]| -> Vec<Risk> {
        risks.iter().filter(|r| !others.iter().any(|o| (o.kind, &o.why) == (r.kind, &r.why))).cloned().collect()
    };
    let cleared = new(before, after).into_iter().map(Happened::RiskCleared);
    let raised = new(after, before).into_iter().map(Happened::RiskRaised);
    let event = |happened| Event { after_ms: told_after(at_ms, after_ms), ..Event::exact(at_ms, happened) };
    cleared.chain(raised).map(event).collect()
}
