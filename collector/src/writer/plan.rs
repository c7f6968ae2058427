//! One host's next records -> the rows of one commit, and the host's state after it. Pure.
//!
//! Gaps are found here: between the last sample stored or covered (of this epoch, else of the host's epoch before it)
//! and the keyframe that follows it, if that begins an epoch, follows a jump in seq, a pause of more than
//! [`bounds::GAP_INTERVALS`] intervals of boot time, a gap reason announced, or a record that was not stored. A keyframe
//! after a clock step begins a stretch without a gap. Agents put a keyframe after each of these; what comes without one
//! where one is needed cannot be placed in any stretch, so it is acked into a gap that lasts until the keyframe asked
//! for.

use std::sync::Arc;

use highwater_ipc::record::{EpochNo, GapReason, RecordKind, Seq};
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::At;
use highwater_proto::bounds;

use super::arrival::{Arrival, Says};
use super::state::{HostState, Moment};
use crate::host::HostId;
use crate::store::day::Day;
use crate::store::frame::Frame;
use crate::store::gap::Gap;
use crate::store::host_facts::{Changed, Facts};
use crate::store::host_status::{Present, Status, Usage};
use crate::store::stream::{Advance, Base, Pending, Stream};
use crate::store::stretch::{Closed, Opened};

/// What a plan takes from outside.
pub struct Context<'a> {
    /// When they came.
    pub received: Moment,
    /// The partition of a wall time; chosen once, here.
    pub day: &'a dyn Fn(i64) -> Day,
}

/// What one commit stores of one host.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The host.
    pub host: HostId,
    /// What the guard asks for and sets.
    pub step: Advance,
    /// Records that say something.
    pub frames: Vec<Frame>,
    /// Stretches that begin.
    pub opened: Vec<Opened>,
    /// Stretches that another one of their epoch follows.
    pub closed: Vec<Closed>,
    /// Gaps that a keyframe closes.
    pub gaps: Vec<Gap>,
    /// Facts that change.
    pub facts: Vec<Changed>,
    /// The epoch before, and why nothing more comes of it.
    pub ended: Option<(HostId, EpochNo, GapReason)>,
    /// The present; `None` = stays as it is.
    pub status: Option<Status>,
    /// The host once it is committed.
    pub after: HostState,
    /// The next sample must be a keyframe, and was not asked for yet.
    pub wants_keyframe: bool,
}

/// A record that does not follow what is stored: its stream must begin anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} of epoch {epoch} does not follow what is stored, which ends before {next}; connect again")]
pub struct DoesNotFollow {
    epoch: u64,
    seq: u64,
    next: u64,
}

/// Plans consecutive records of one epoch; those stored already are left out. `None`: all were.
pub fn plan(
    host: HostId,
    state: &HostState,
    epoch: EpochNo,
    arrivals: &[&Arrival],
    context: &Context<'_>,
) -> Result<Option<Plan>, DoesNotFollow> {
    let mut planner = Planner::new(host, state, epoch, context).ok_or(DoesNotFollow {
        epoch: epoch.0,
        seq: arrivals.first().map_or(0, |a| a.seq.0),
        next: 0,
    })?;
    for arrival in arrivals {
        planner.take(arrival)?;
    }
    Ok(planner.finish())
}

/// Plans one record that the database refuses: acked, not stored, and with it what follows up to the next keyframe.
/// `detail` is the database's words, escaped. `None`: it is stored already, or its epoch is none of this session's.
pub fn refuse(
    host: HostId,
    state: &HostState,
    (epoch, arrival): (EpochNo, &Arrival),
    detail: String,
    context: &Context<'_>,
) -> Option<Plan> {
    let mut planner = Planner::new(host, state, epoch, context)?;
    if arrival.seq < planner.stream.next {
        return None;
    }
    planner.lose(GapReason::RefusedRecord, detail);
    // The keyframe that was asked for may be this one: without another the gap would last until one is due.
    planner.plan.wants_keyframe |= arrival.kind == RecordKind::Keyframe;
    planner.pass(arrival);
    // Its values may be what was refused: the present stays as it was.
    let mut plan = planner.finish()?;
    plan.status = None;
    Some(plan)
}

struct Planner<'a> {
    context: &'a Context<'a>,
    /// The epoch as it will be; in `plan.after` it stands as it was until [`Planner::finish`].
    stream: Stream,
    usage: Usage,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(host: HostId, state: &HostState, epoch: EpochNo, context: &'a Context<'a>) -> Option<Self> {
        let stream = state.streams.get(&epoch)?.clone();
        let is_first = stream.next == Seq(0);
        let before = state.written_before(epoch).filter(|_| is_first).map(|s| (s.epoch.no, s.next));
        let plan = Plan {
            host,
            step: Advance { host, from: stream.next, after: stream.clone(), before },
            frames: Vec::new(),
            opened: Vec::new(),
            closed: Vec::new(),
            gaps: Vec::new(),
            facts: Vec::new(),
            ended: None,
            status: None,
            after: state.clone(),
            wants_keyframe: false,
        };
        Some(Self { context, stream, usage: Usage::default(), plan })
    }

    fn take(&mut self, arrival: &Arrival) -> Result<(), DoesNotFollow> {
        if arrival.seq < self.stream.next {
            return Ok(());
        }
        match arrival.kind {
            RecordKind::Keyframe => self.keyframe(arrival),
            _ if arrival.first > self.stream.next => {
                return Err(DoesNotFollow {
                    epoch: self.stream.epoch.no.0,
                    seq: arrival.first.0,
                    next: self.stream.next.0,
                });
            }
            RecordKind::Delta | RecordKind::Heartbeat => self.sample(arrival),
            RecordKind::Event | RecordKind::GapReason => self.word(arrival),
        }
        self.pass(arrival);
        Ok(())
    }

    /// A whole state: begins a stretch where the one before cannot go on.
    fn keyframe(&mut self, arrival: &Arrival) {
        let missing = self.stream.stretch.is_none()
            || self.stream.base.is_none()
            || self.stream.pending.is_some()
            || arrival.seq > self.stream.next
            || self.pause(arrival);
        let stepped = self.stream.covered.is_some_and(|c| arrival.at.step_since(&c).abs() > bounds::CLOCK_STEP_MS);
        if missing {
            self.gap(arrival);
        }
        if missing || stepped {
            self.stretch(arrival);
        }
        let wall_ms = self.wall(arrival, missing || stepped);
        let base = Base { seq: arrival.seq, day: (self.context.day)(wall_ms) };
        self.stream.base = Some(base);
        self.stream.pending = None;
        self.frame(arrival, wall_ms, base);
        self.cover(arrival, wall_ms);
    }

    /// A delta or heartbeats: go on in the stretch, or cannot be placed.
    fn sample(&mut self, arrival: &Arrival) {
        let Some(base) = self.stream.base else { return };
        let back_ms = self.stream.covered.map_or(0, |c| c.wall_ms.saturating_sub(arrival.at.wall_ms));
        if self.pause(arrival) {
            let detail = "samples were further apart than three intervals and no keyframe followed";
            return self.lose(GapReason::Stalled, detail.to_owned());
        }
        if back_ms > bounds::CLOCK_STEP_MS {
            let detail = format!("the host's clock was set back by {back_ms} ms and no keyframe followed");
            return self.lose(GapReason::Unexplained, detail);
        }
        let wall_ms = self.wall(arrival, false);
        if arrival.kind == RecordKind::Delta {
            self.frame(arrival, wall_ms, base);
        }
        self.cover(arrival, wall_ms);
    }

    /// An event or an announced gap reason: a row, but no sample.
    fn word(&mut self, arrival: &Arrival) {
        if let Some(base) = self.stream.base {
            self.frame(arrival, self.wall(arrival, false), base);
        }
        if let (Some(reason), false) = (arrival.says.gap, self.has_lost()) {
            self.stream.pending = Some(Pending { reason, detail: String::new() });
        }
    }

    fn pass(&mut self, arrival: &Arrival) {
        self.stream.next = arrival.seq.next();
        self.stream.chain = arrival.next_chain;
    }

    /// Whether more boot time has passed since the sample before than may pass without a gap.
    fn pause(&self, arrival: &Arrival) -> bool {
        let Some(covered) = self.stream.covered else { return false };
        let first = arrival.first.max(self.stream.next);
        let samples = arrival.seq.0.saturating_sub(first.0).saturating_add(1);
        let interval_ms = self.stream.interval_ms.max(arrival.says.interval_ms.unwrap_or(0));
        let most_us = u64::from(interval_ms).saturating_mul(1000 * bounds::GAP_INTERVALS).saturating_mul(samples);
        arrival.at.boot_since(&covered) > most_us
    }

    fn gap(&mut self, arrival: &Arrival) {
        let epoch = self.stream.epoch.no;
        let here = self.stream.covered.is_some();
        let before = if here { Some(&self.stream) } else { self.plan.after.before(epoch) };
        let pending = self.stream.pending.as_ref().or(before.and_then(|s| s.pending.as_ref()));
        let other_boot = before.is_some_and(|s| s.boot_id != self.stream.boot_id);
        let reason = reason(arrival.says.gap, pending, before.is_none(), other_boot);
        let detail = pending.filter(|p| p.reason == reason).map(|p| p.detail.clone()).unwrap_or_default();
        if let (Some(before), false) = (before, here) {
            self.plan.ended = Some((self.plan.host, before.epoch.no, reason));
        }
        self.plan.gaps.push(Gap {
            host: self.plan.host,
            epoch,
            seq: arrival.seq,
            from_wall_ms: before.and_then(|s| s.covered).map(|at| at.wall_ms),
            to_wall_ms: arrival.at.wall_ms,
            reason,
            detail,
        });
    }

    fn stretch(&mut self, arrival: &Arrival) {
        let (host, epoch) = (self.plan.host, self.stream.epoch.no);
        if let (Some(stretch), Some(at)) = (self.stream.stretch, self.stream.covered) {
            self.plan.closed.push(Closed { host, epoch, stretch, at });
        }
        let stretch = self.stream.stretch.map_or(0, |s| s.saturating_add(1));
        self.stream.stretch = Some(stretch);
        self.plan.opened.push(Opened { host, epoch, stretch, from: arrival.seq, at: arrival.at });
    }

    /// The wall time as stored: within a stretch it never falls, so that as-of by wall time follows seq.
    fn wall(&self, arrival: &Arrival, first_of_stretch: bool) -> i64 {
        match self.stream.covered {
            Some(covered) if !first_of_stretch => arrival.at.wall_ms.max(covered.wall_ms),
            _ => arrival.at.wall_ms,
        }
    }

    fn frame(&mut self, arrival: &Arrival, wall_ms: i64, base: Base) {
        self.stream.framed = arrival.seq.next();
        self.plan.frames.push(Frame {
            host: self.plan.host,
            epoch: self.stream.epoch.no,
            seq: arrival.seq,
            day: (self.context.day)(wall_ms),
            kind: arrival.kind,
            stretch: self.stream.stretch.unwrap_or(0),
            wall_ms,
            boot_us: arrival.at.boot_us,
            prev_wall_ms: self.stream.covered.map(|c| c.wall_ms),
            base,
            body: Arc::clone(&arrival.body),
        });
    }

    /// A sample was stored, or confirmed the one before.
    fn cover(&mut self, arrival: &Arrival, wall_ms: i64) {
        let boot_us = arrival.at.boot_us.max(self.stream.covered.map_or(0, |c| c.boot_us));
        self.stream.covered = Some(At { wall_ms, boot_us });
        if let Some(interval_ms) = arrival.says.interval_ms {
            self.stream.interval_ms = interval_ms;
        }
        self.learn(arrival, wall_ms);
        let boot_id = self.stream.boot_id;
        self.plan.after.see_clock(boot_id, &arrival.at, self.context.received);
        if self.plan.after.is_present(boot_id, &arrival.at) {
            self.plan.after.ahead = None;
            let mut present = self.plan.after.present.unwrap_or_default();
            present.sampled_wall_ms = arrival.at.wall_ms;
            present.interval_ms = self.stream.interval_ms;
            present.backlog_from_ms = None;
            see(&mut present, &mut self.usage, &arrival.says);
            self.plan.after.present = Some(present);
        }
    }

    /// Facts are stored where they change.
    fn learn(&mut self, arrival: &Arrival, wall_ms: i64) {
        let known = self.plan.after.facts.as_deref();
        let availability = arrival.says.availability.clone().or_else(|| Some(known?.availability.clone()));
        let risks = arrival.says.risks.clone().or_else(|| Some(known?.risks.clone())).unwrap_or_default();
        let says = arrival.says.availability.is_some() || arrival.says.risks.is_some();
        let (Some(availability), true) = (availability, says) else { return };
        let host = facts_of_boot(&self.plan.after, self.stream.boot_id);
        let facts = Facts { availability, risks, host };
        if self.plan.after.facts.as_deref() != Some(&facts) {
            self.plan.after.facts = Some(Arc::new(facts.clone()));
            let (host, epoch) = (self.plan.host, self.stream.epoch.no);
            self.plan.facts.push(Changed { host, epoch, seq: arrival.seq, wall_ms, facts });
        }
    }

    /// Whether records are known to be lost here: that stays the reason, whatever else follows.
    fn has_lost(&self) -> bool {
        self.stream.pending.as_ref().is_some_and(|p| means_lost(p.reason))
    }

    /// From here on a keyframe is wanted.
    fn lose(&mut self, reason: GapReason, detail: String) {
        if self.stream.base.is_some() || self.stream.stretch.is_none() {
            self.plan.wants_keyframe = true;
        }
        self.stream.base = None;
        let refused = self.stream.pending.as_ref().is_some_and(|p| p.reason == GapReason::RefusedRecord);
        if !self.has_lost() || (reason == GapReason::RefusedRecord && !refused) {
            self.stream.pending = Some(Pending { reason, detail });
        }
    }

    fn finish(mut self) -> Option<Plan> {
        if self.stream.next == self.plan.step.from {
            return None;
        }
        self.plan.wants_keyframe &= self.stream.base.is_none();
        self.plan.status = self.plan.after.status(self.plan.host, self.context.received.wall_ms, self.usage);
        self.plan.step.after = self.stream.clone();
        let epoch = self.stream.epoch.no;
        self.plan.after.streams.insert(epoch, self.stream);
        self.plan.after.forget_before(epoch);
        Some(self.plan)
    }
}

/// Samples were taken and are lost: whoever was told to stop, or was killed, came after them.
fn means_lost(reason: GapReason) -> bool {
    use GapReason::{HistoryRestored, RefusedRecord, SpoolDamaged, SpoolOverflow};
    matches!(reason, RefusedRecord | SpoolOverflow | SpoolDamaged | HistoryRestored)
}

/// Why samples are missing before a keyframe. `own` is what that says, `pending` what was known before it.
fn reason(own: Option<GapReason>, pending: Option<&Pending>, first_ever: bool, other_boot: bool) -> GapReason {
    let pending = pending.map(|p| p.reason);
    if pending == Some(GapReason::RefusedRecord) {
        return GapReason::RefusedRecord;
    }
    // The agent sampled on after it had lost records, and ended afterwards: its end does not explain them.
    let ended = matches!(own, Some(GapReason::AgentStopped | GapReason::AgentKilled));
    let own = own.filter(|_| !(ended && pending.is_some_and(means_lost)));
    match own.filter(|r| *r != GapReason::Unexplained).or(pending) {
        None | Some(GapReason::AgentKilled | GapReason::Unexplained) if other_boot => GapReason::HostDown,
        Some(reason) => reason,
        None if first_ever => GapReason::BeforeFirst,
        None => GapReason::Unexplained,
    }
}

/// The hello's facts are of the boot it was said in; a record spooled in an earlier boot keeps what was known then.
fn facts_of_boot(state: &HostState, boot_id: BootId) -> highwater_ipc::session::HostFacts {
    let mut facts = match &state.facts {
        Some(known) if boot_id != state.hello.boot_id => known.host.clone(),
        _ => (*state.hello).clone(),
    };
    facts.boot_id = boot_id;
    facts
}

/// Takes the use and limits of the host's own namespace from what a record says.
pub fn see(present: &mut Present, usage: &mut Usage, says: &Says) {
    for namespace in &says.namespaces {
        if namespace.own {
            present.namespace = Some(namespace.inode);
        }
        if present.namespace == Some(namespace.inode) {
            usage.totals = namespace.totals.or(usage.totals);
            usage.limits = namespace.limits.or(usage.limits);
        }
    }
}

#[cfg(test)]
mod tests;
