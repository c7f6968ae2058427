//! What one host held at two instants, compared.
//!
//! Two states alone cannot tell an object that stayed from one that went and came back with its id, so everything
//! recorded in between is read too: an id that a sample in between lacked, or that changed what creation fixes, or that
//! a reboot took away, is one object removed and another added.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{Namespace, NamespaceId, Snapshot, State};

use super::AskError;
use super::as_of::{Answer, AsOf, Held, Instant, as_of};
use super::change::{AnyObject, is_whole, named};
use super::event::{Event, Happened};
use super::story::Story;
use super::timeline::closed_gaps;
use super::walk::{Begin, Walk};
use crate::host::HostId;
use crate::query::change::What;
use crate::store::history::{ClosedGap, Reading};

/// The answer, or the gap that one of the instants lies in.
#[derive(Clone, Debug)]
pub enum DiffAnswer {
    /// Both instants have data.
    Compared(Box<Diff>),
    /// One has none; it is this one.
    Gap(AsOf),
}

/// Two instants compared.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The instants asked for, host's wall clock, milliseconds.
    pub asked_ms: (i64, i64),
    /// The host's clock minus the collector's, milliseconds.
    pub skew_ms: i64,
    /// What was held at the first.
    pub before: Arc<Snapshot>,
    /// What was held at the second.
    pub after: Arc<Snapshot>,
    /// Closed gaps in between: nobody knows what came and went in them.
    pub gaps: Vec<ClosedGap>,
    /// Objects, by namespace and kind: what went, what changed, what came.
    pub objects: Vec<ObjectChange>,
    /// Limits that differ.
    pub limits: Vec<LimitChange>,
    /// Sums per owner whose sums differ.
    pub owners: Vec<OwnerChange>,
    /// Lists that one of the instants does not know whole: not all is told of those.
    pub unknown: Vec<(NamespaceId, Kind)>,
}

/// An object that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// Where.
    pub namespace: NamespaceId,
    /// As it was; `None` = added.
    pub before: Option<AnyObject>,
    /// As it is; `None` = removed.
    pub after: Option<AnyObject>,
}

/// A limit that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitChange {
    /// Where.
    pub namespace: NamespaceId,
    /// Its kernel name.
    pub resource: &'static str,
    /// As it was.
    pub before: u64,
    /// As it is.
    pub after: u64,
}

/// What one uid owned of one kind, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerChange {
    /// Where.
    pub namespace: NamespaceId,
    /// Which kind.
    pub kind: Kind,
    /// Whose.
    pub uid: u32,
    /// Before.
    pub before: Sum,
    /// After.
    pub after: Sum,
}

/// A sum of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sum {
    /// Objects.
    pub objects: u64,
    /// Semaphores in them; 0 for other kinds.
    pub semaphores: u64,
    /// Bytes: size of segments, bytes in queues; 0 for semaphores.
    pub bytes: u64,
}

/// The records that one comparison should read at most, all of them in one snapshot of the database: more than two days
/// of a host that changes every second.
pub const MOST_RECORDS: usize = 250_000;

/// Compares what `host` held at two instants; `now_ms` is the collector's wall clock. [`AskError::TooMuch`] if more than
/// `most_records` lie between them.
pub async fn diff(
    reading: &mut Reading,
    host: HostId,
    (from, to): (Instant, Instant),
    now_ms: i64,
    most_records: usize,
) -> Result<DiffAnswer, AskError> {
    let first = as_of(reading, host, from, now_ms).await?;
    let second = as_of(reading, host, to, now_ms).await?;
    if first.asked_ms > second.asked_ms {
        return Err(AskError::Backwards { from_ms: first.asked_ms, to_ms: second.asked_ms });
    }
    let Answer::Held(before) = first.answer else { return Ok(DiffAnswer::Gap(first)) };
    let Answer::Held(after) = second.answer else { return Ok(DiffAnswer::Gap(second)) };
    let survived = survivors(reading, host, (&before, &after), most_records).await?;
    let asked_ms = (first.asked_ms, second.asked_ms);
    let gaps = closed_gaps(reading, host, asked_ms).await?;
    // A gap that only touches an instant lies beside the span, not in it.
    let gaps = gaps.into_iter().filter(|g| g.to_wall_ms > asked_ms.0 && g.from_wall_ms < Some(asked_ms.1)).collect();
    let (a, b) = (&before.snapshot.state, &after.snapshot.state);
    Ok(DiffAnswer::Compared(Box::new(Diff {
        asked_ms,
        skew_ms: second.skew_ms,
        gaps,
        objects: object_changes(a, b, &survived),
        limits: limit_changes(a, b),
        owners: owner_changes(a, b),
        unknown: unknown(a, b),
        before: before.snapshot.clone(),
        after: after.snapshot.clone(),
    })))
}

/// Which object where: what a person calls it.
pub(super) type ObjectId = (NamespaceId, Kind, i32);

/// The objects of `before` that no record up to `after` ended.
async fn survivors(
    reading: &mut Reading,
    host: HostId,
    (before, after): (&Held, &Held),
    most_records: usize,
) -> Result<BTreeSet<ObjectId>, AskError> {
    let mut walk = Walk::new(reading, host, Begin::With(before.position.next()), i64::MAX);
    let mut story = Story::default();
    let mut alive = ids_of(&before.snapshot.state);
    let mut records = 0_usize;
    while let Some(step) = walk.next().await? {
        if step.position > after.position {
            break;
        }
        records = records.saturating_add(usize::from(!step.opening));
        if records > most_records {
            return Err(AskError::TooMuch { what: "records", most: most_records });
        }
        for event in story.tell(&step) {
            bury(&mut alive, &event);
        }
    }
    Ok(alive)
}

pub(super) fn ids_of(state: &State) -> BTreeSet<ObjectId> {
    objects_of(state).into_keys().collect()
}

pub(super) fn bury(alive: &mut BTreeSet<ObjectId>, event: &Event) {
    match (&event.happened, event.namespace) {
        (Happened::Reboot { .. }, _) => alive.clear(),
        (Happened::Change { what: What::Removed(object), .. }, Some(namespace)) => {
            alive.remove(&(namespace, object.kind(), object.id()));
        }
        (Happened::Change { what: What::NamespaceGone { .. }, .. }, Some(gone)) => {
            alive.retain(|(namespace, ..)| *namespace != gone);
        }
        _ => {}
    }
}

pub(super) fn object_changes(a: &State, b: &State, survived: &BTreeSet<ObjectId>) -> Vec<ObjectChange> {
    let (old, new) = (objects_of(a), objects_of(b));
    let mut changes = Vec::new();
    for namespace in both(a, b) {
        for kind in Kind::ALL {
            // What the earlier list lacks would look added; of the later one every row is one that is there.
            if !whole(a, namespace, kind) || !readable(b, namespace, kind) {
                continue;
            }
            let of = |all: &BTreeMap<ObjectId, AnyObject>| -> Vec<(ObjectId, AnyObject)> {
                all.iter().filter(|((n, k, _), _)| (*n, *k) == (namespace, kind)).map(|(i, o)| (*i, *o)).collect()
            };
            let change = |before, after| ObjectChange { namespace, before, after };
            for (id, before) in of(&old) {
                match new.get(&id) {
                    _ if !survived.contains(&id) => changes.push(change(Some(before), None)),
                    Some(after) if *after != before => changes.push(change(Some(before), Some(*after))),
                    _ => {}
                }
            }
            for (id, after) in of(&new) {
                if !survived.contains(&id) {
                    changes.push(change(None, Some(after)));
                }
            }
        }
    }
    changes
}

fn objects_of(state: &State) -> BTreeMap<ObjectId, AnyObject> {
    let each = |n: &Namespace| -> Vec<(ObjectId, AnyObject)> {
        let sem = n.sem.iter().flatten().map(|o| AnyObject::Sem(*o));
        let shm = n.shm.iter().flatten().map(|o| AnyObject::Shm(*o));
        let msg = n.msg.iter().flatten().map(|o| AnyObject::Msg(*o));
        sem.chain(shm).chain(msg).map(|o| ((n.id, o.kind(), o.id()), o)).collect()
    };
    state.namespaces.iter().flat_map(each).collect()
}

fn both(a: &State, b: &State) -> Vec<NamespaceId> {
    let mut all: Vec<NamespaceId> = a.namespaces.iter().map(|n| n.id).collect();
    let new: Vec<NamespaceId> = b.namespaces.iter().map(|n| n.id).filter(|id| !all.contains(id)).collect();
    all.extend(new);
    all
}

/// Whether a namespace's list of that kind was read; one that is not there at all holds nothing.
fn readable(state: &State, namespace: NamespaceId, kind: Kind) -> bool {
    state.namespaces.iter().find(|n| n.id == namespace).is_none_or(|n| n.has(kind))
}

/// Whether that list was read and lacks no row.
fn whole(state: &State, namespace: NamespaceId, kind: Kind) -> bool {
    state.namespaces.iter().find(|n| n.id == namespace).is_none_or(|n| n.has(kind) && is_whole(n, kind))
}

/// The lists that one of the states lacks, or lacks rows of. Without System V IPC there is nothing to read.
fn unknown(a: &State, b: &State) -> Vec<(NamespaceId, Kind)> {
    let knows = |state: &State, (namespace, kind): (NamespaceId, Kind)| {
        state.availability.state == SysvipcState::Absent || whole(state, namespace, kind)
    };
    let lists = both(a, b).into_iter().flat_map(|namespace| Kind::ALL.map(|kind| (namespace, kind)));
    lists.filter(|list| !knows(a, *list) || !knows(b, *list)).collect()
}

fn limit_changes(a: &State, b: &State) -> Vec<LimitChange> {
    let rebooted = a.boot_id != b.boot_id;
    let mut changes = Vec::new();
    for (index, after) in b.namespaces.iter().enumerate() {
        // Across a boot only the host's own namespace, the first, is the same place.
        let before = match rebooted {
            false => a.namespaces.iter().find(|n| n.id == after.id),
            true if index == 0 => a.namespaces.first(),
            true => None,
        };
        let (Some(old), Some(new)) = (before.and_then(|n| n.limits), after.limits) else { continue };
        for ((resource, before), (_, now)) in named(&old).into_iter().zip(named(&new)) {
            if before != now {
                changes.push(LimitChange { namespace: after.id, resource, before, after: now });
            }
        }
    }
    changes
}

pub(super) fn owner_changes(a: &State, b: &State) -> Vec<OwnerChange> {
    let mut sums: BTreeMap<(NamespaceId, Kind, u32), (Sum, Sum)> = BTreeMap::new();
    for ((namespace, kind, _), object) in objects_of(a) {
        sums.entry((namespace, kind, object.owner().uid)).or_default().0.add(&object);
    }
    for ((namespace, kind, _), object) in objects_of(b) {
        sums.entry((namespace, kind, object.owner().uid)).or_default().1.add(&object);
    }
    let known = |n, k| whole(a, n, k) && whole(b, n, k);
    let changes = sums.into_iter().filter(|((n, k, _), (before, after))| before != after && known(*n, *k));
    changes
        .map(|((namespace, kind, uid), (before, after))| OwnerChange { namespace, kind, uid, before, after })
        .collect()
}

impl Sum {
    pub(super) fn add(&mut self, object: &AnyObject) {
        self.objects = self.objects.saturating_add(1);
        self.bytes = self.bytes.saturating_add(object.bytes());
        if let AnyObject::Sem(array) = object {
            self.semaphores = self.semaphores.saturating_add(u64::from(array.nsems));
        }
    }
}
