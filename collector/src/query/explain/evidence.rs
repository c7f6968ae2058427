//! What history shows around an instant: the refused or the removing call that fits best, and how far the limits were.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_ipc::activity::{Act, Actor, Did};
use highwater_ipc::limits::Limits;
use highwater_ipc::object::MsgQueue;
use highwater_ipc::render::lsipc::{Parameter, rows};
use highwater_ipc::snapshot::{Namespace, NamespaceId, Snapshot};

use super::super::AskError;
use super::super::change::{AnyObject, What};
use super::super::event::{Event, EventKind, Happened, Place};
use super::super::fold::Said;
use super::super::gap::Gap;
use super::super::timeline::{Question, timeline};
use super::super::walk::{Begin, Walk};
use super::{Met, Taken};
use crate::explain::{Cause, Told};
use crate::host::HostId;
use crate::store::history::Reading;

/// Around an instant that was named, milliseconds: clocks of logs are not those of samples.
const AROUND_MS: i64 = 600_000;

/// Without one: how far back it is looked for, each only where the nearer ones show nothing.
const BACK_MS: [i64; 4] = [AROUND_MS, 3_600_000, 6 * 3_600_000, 24 * 3_600_000];

/// Events read at once: each keeps a whole snapshot in memory.
const PAGE: usize = 64;

/// The most pages of one span.
const MOST_PAGES: usize = 200;

/// The most records looked at for what was in use.
const MOST_RECORDS: usize = 50_000;

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The instant asked for, milliseconds.
    pub(super) asked_ms: i64,
    /// What was held at it.
    pub(super) held: Arc<Snapshot>,
    /// The refusal that fits best.
    pub(super) refused: Option<Refused>,
    /// The removal that fits best.
    pub(super) removed: Option<(i64, Taken, Option<NamespaceId>, Place)>,
    /// Of each namespace and limit, the most that was in use.
    pub(super) most: Vec<Most>,
    /// Spans without data.
    pub(super) gaps: Vec<Gap>,
}

/// A refused call.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) at_ms: i64,
    pub(super) act: Act,
    pub(super) limits: Option<Limits>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) place: Place,
    pub(super) is_its_own: bool,
}

/// The most that was in use of a limit in a namespace.
#[derive(Clone, Debug)]
pub(super) struct Most {
    pub(super) namespace: NamespaceId,
    pub(super) place: Place,
    pub(super) parameter: Parameter,
    pub(super) used: u64,
    pub(super) limit: u64,
    pub(super) at_ms: i64,
    pub(super) snapshot: Arc<Snapshot>,
    /// For MSGMNB: which queue.
    pub(super) queue: Option<MsgQueue>,
}

impl Most {
    /// Used over limit as a number that is compared exactly enough: parts of a million, at most a million of limits.
    pub(super) fn millionths(&self) -> u128 {
        let used = u128::from(self.used) * 1_000_000;
        if self.limit == 0 { 1_000_000 } else { used / u128::from(self.limit) }
    }

    pub(super) fn met(&self) -> Met {
        Met { resource: self.parameter.name(), used: Some(self.used), limit: self.limit }
    }
}

/// Gathers; `is_late` = it happened lately, no instant was named.
pub(super) async fn gather(
    reading: &mut Reading,
    (host, told): (HostId, &Told<'_>),
    (asked_ms, held): (i64, Arc<Snapshot>),
    (is_late, host_now_ms): (bool, i64),
    now_ms: i64,
) -> Result<Evidence, AskError> {
    let until_ms = asked_ms.saturating_add(AROUND_MS).min(host_now_ms.max(asked_ms));
    let near = (asked_ms.saturating_sub(AROUND_MS), until_ms);
    let mut found = Evidence { asked_ms, held, refused: None, removed: None, most: Vec::new(), gaps: Vec::new() };
    let goes_back = is_late || told.cause == Cause::Removed;
    let mut to_ms = until_ms;
    for back_ms in BACK_MS.iter().take(if goes_back { BACK_MS.len() } else { 1 }) {
        let from_ms = asked_ms.saturating_sub(*back_ms);
        events(reading, (host, told), (from_ms, to_ms), &mut found, now_ms).await?;
        if found.refused.as_ref().is_some_and(|r| r.is_its_own && r.is_sampled()) || found.removed.is_some() {
            break;
        }
        to_ms = from_ms;
    }
    let parameters = told.cause.limits();
    if matches!(told.cause, Cause::UsedUp(_) | Cause::QueueFull) {
        in_use(reading, host, near, parameters, &mut found).await?;
    }
    Ok(found)
}

async fn events(
    reading: &mut Reading,
    (host, told): (HostId, &Told<'_>),
    span_ms: (i64, i64),
    found: &mut Evidence,
    now_ms: i64,
) -> Result<(), AskError> {
    let kind = if told.cause == Cause::Removed { EventKind::Removed } else { EventKind::Refused };
    let kinds = vec![kind, EventKind::Gap];
    let mut question = Question { span_ms, kinds, subject: None, most: PAGE, after: None };
    for _ in 0..MOST_PAGES {
        let page = timeline(reading, host, &question, now_ms).await?;
        for event in page.events {
            hear(told, event, found);
        }
        let Some(next) = page.next else { break };
        question.after = Some(next);
    }
    Ok(())
}

/// Keeps the event if it fits better than what was kept.
pub(super) fn hear(told: &Told<'_>, event: Event, found: &mut Evidence) {
    let asked_ms = found.asked_ms;
    match event.happened {
        Happened::Gap(gap) if !found.gaps.contains(&gap) => found.gaps.push(gap),
        Happened::Acted { act, last_ms, limits, names, .. } if matches!(act.did, Did::Refused(_)) => {
            let refused = Refused {
                is_its_own: is_its_own(told, &act),
                at_ms: asked_ms.clamp(event.at_ms, last_ms.max(event.at_ms)),
                act: *act,
                limits,
                snapshot: names.0,
                place: event.place,
            };
            if fits(told, &refused, asked_ms)
                && found.refused.as_ref().is_none_or(|kept| rank(told, &refused, asked_ms) < rank(told, kept, asked_ms))
            {
                found.refused = Some(refused);
            }
        }
        Happened::Change { what: What::Removed(object), by, .. } => {
            // What a program removes itself is not what it misses.
            let own_doing = |by: Option<&Actor>| {
                by.is_some_and(|by| told.product.is_some_and(|product| product.runs_as(&by.comm.escaped())))
            };
            let rank = |at_ms: i64, by| (own_doing(by), at_ms.saturating_sub(asked_ms).saturating_abs());
            let is_meant = is_meant(told, &object);
            let kept = found.removed.as_ref().map(|(at_ms, taken, ..)| rank(*at_ms, taken.by.as_ref()));
            let is_nearer = kept.is_none_or(|kept| rank(event.at_ms, by.as_ref()) <= kept);
            if is_meant && is_nearer {
                let taken = Taken { object, by, after_ms: event.after_ms };
                found.removed = Some((event.at_ms, taken, event.namespace, event.place));
            }
        }
        _ => {}
    }
}

/// Whether a removed object can be the one of the message: that one, where it names one.
fn is_meant(told: &Told<'_>, object: &AnyObject) -> bool {
    let kind = told.call.is_none_or(|call| call.kind() == object.kind());
    let asked = told.asked;
    kind && asked.id.is_none_or(|id| id == object.id()) && asked.key.is_none_or(|key| key == object.key())
}

fn is_its_own(told: &Told<'_>, act: &Act) -> bool {
    match told.product {
        Some(product) if !product.comms.is_empty() => product.runs_as(&act.by.comm.escaped()),
        _ => true,
    }
}

/// Whether a refused call can be the one of the message. Another program's says something of the limit only while that is
/// near: it is no reason of what happened hours before.
fn fits(told: &Told<'_>, refused: &Refused, asked_ms: i64) -> bool {
    let Did::Refused(number) = refused.act.did else { return false };
    let is_near = refused.at_ms.saturating_sub(asked_ms).saturating_abs() <= AROUND_MS;
    told.call.is_some_and(|call| call.kind() == refused.act.kind)
        && told.errno.is_none_or(|errno| errno.number == number)
        && (refused.is_its_own || is_near)
}

/// What fits better is less. A namespace that is not sampled comes last: nothing can be said of its limits.
fn rank(told: &Told<'_>, refused: &Refused, asked_ms: i64) -> (bool, bool, bool, i64) {
    let other_key = told.asked.key.is_some_and(|key| key != refused.act.key);
    let distance = refused.at_ms.saturating_sub(asked_ms).saturating_abs();
    (!refused.is_its_own, !refused.is_sampled(), other_key, distance)
}

impl Refused {
    /// Whether the sample that tells of it shows the namespace.
    fn is_sampled(&self) -> bool {
        self.act.namespace.is_some_and(|id| self.snapshot.state.namespaces.iter().any(|n| n.id == id))
    }
}

async fn in_use(
    reading: &mut Reading,
    host: HostId,
    (from_ms, until_ms): (i64, i64),
    parameters: &[Parameter],
    found: &mut Evidence,
) -> Result<(), AskError> {
    let mut most = BTreeMap::new();
    see(&found.held.clone(), parameters, found.asked_ms, &mut most);
    let mut walk = Walk::new(reading, host, Begin::At(from_ms), until_ms);
    let mut records = 0_usize;
    while let Some(step) = walk.next().await? {
        records = records.saturating_add(1);
        if records > MOST_RECORDS {
            break;
        }
        if let Said::Sample { snapshot, .. } = &step.said
            && !step.is_before((from_ms, until_ms))
        {
            see(snapshot, parameters, found.asked_ms, &mut most);
        }
    }
    // What was held at the instant itself is told with that instant.
    for one in most.values_mut().filter(|one| Arc::ptr_eq(&one.snapshot, &found.held)) {
        one.at_ms = found.asked_ms;
    }
    found.most = most.into_values().collect();
    Ok(())
}

type Seen = BTreeMap<(NamespaceId, Parameter), Most>;

/// Keeps of each limit the state in which most was in use, and of equal ones that nearest to the instant.
pub(super) fn see(snapshot: &Arc<Snapshot>, parameters: &[Parameter], asked_ms: i64, most: &mut Seen) {
    for (index, namespace) in snapshot.state.namespaces.iter().enumerate() {
        for parameter in parameters {
            let Some((used, limit, queue)) = used(namespace, *parameter) else { continue };
            let one = Most {
                namespace: namespace.id,
                place: Place { own: Some(index == 0), name: namespace.name.clone() },
                parameter: *parameter,
                used,
                limit,
                at_ms: snapshot.at.wall_ms,
                snapshot: snapshot.clone(),
                queue,
            };
            let distance = |one: &Most| one.at_ms.saturating_sub(asked_ms).saturating_abs();
            let better = |kept: &Most| {
                one.millionths() > kept.millionths()
                    || one.millionths() == kept.millionths() && distance(&one) < distance(kept)
            };
            if most.get(&(namespace.id, *parameter)).is_none_or(better) {
                most.insert((namespace.id, *parameter), one);
            }
        }
    }
}

/// Used and limit; for MSGMNB those of the queue that is fullest.
fn used(namespace: &Namespace, parameter: Parameter) -> Option<(u64, u64, Option<MsgQueue>)> {
    if parameter == Parameter::Msgmnb {
        let msgmnb = namespace.limits.map(|limits| limits.msgmnb);
        let room = |queue: &MsgQueue| queue.qbytes.or(msgmnb);
        let queues = namespace.msg.iter().flatten().filter_map(|queue| Some((queue, room(queue)?)));
        let fullest = queues.max_by_key(|(q, room)| (u128::from(q.cbytes) * 1_000_000) / u128::from((*room).max(1)));
        return fullest.map(|(queue, room)| (queue.cbytes, room, Some(*queue)));
    }
    let row = rows(namespace).into_iter().find(|row| row.parameter == parameter)?;
    Some((row.used?, row.limit?, None))
}
