//! From calls and the samples before and after them to an [`Activity`].
//!
//! A call belongs to the sample that follows it. Whether a get call made its object is known by its arguments
//! ([`Asked::surely_makes`]), or by the id not being there before; where its caller was gone before it could be asked for
//! its namespace, the samples say it if they can. What is not certain is not told.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::activity::{Act, Activity, Actor, Did, Peak};
use highwater_ipc::limits::Usage;
use highwater_ipc::object::{Key, Kind, Object};
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::time::At;

use super::replay::{self, Base, Replay, pages};
use super::{Asked, Call, Calls, Place, What};

/// Calls of processes that could not be asked where they are, and are looked for in the samples, in one go.
const MAX_SOUGHT: usize = 64;

/// Keeps what the last sample showed, and the calls that fell into its own reading.
#[derive(Debug, Default)]
pub struct Ledger {
    before: Option<Vec<Base>>,
    during: Vec<(NamespaceId, Call)>,
}

impl Ledger {
    /// What happened between the sample before and this one. `at` is when this one began.
    pub fn close(&mut self, after: &State, at: &At, mut calls: Calls) -> Activity {
        calls.calls.sort_by_key(|call| (call.at_ns, call.by.pid));
        let before = self.before.take().unwrap_or_default();
        let during = std::mem::take(&mut self.during);
        let mut page = Page::new(&before, after, at, &during);
        let mut activity = Activity { more: calls.more, lost: calls.lost, ..Activity::default() };
        let mut rows = Rows::default();
        for call in calls.calls {
            let Some(entry) = page.enter(&call) else { continue };
            if let Some(namespace) = entry.act.namespace.filter(|_| call.at_ns / 1000 >= at.boot_us) {
                self.during.push((namespace, call));
            }
            rows.add(entry, &mut activity);
        }
        activity.peaks = page.peaks();
        self.remember(before, after);
        activity
    }

    /// Keeps what the sample showed.
    fn remember(&mut self, mut bases: Vec<Base>, after: &State) {
        bases.clear();
        bases.extend(after.namespaces.iter().map(|namespace| Base::of(namespace, after.page_size)));
        self.before = Some(bases);
    }
}

/// An act of one call, and the id it was about.
struct Entry {
    act: Act,
    id: Option<i32>,
}

/// Acts put together: one row for what one process did again and again.
#[derive(Default)]
struct Rows {
    index: BTreeMap<(Did, Kind, Option<NamespaceId>, Actor), usize>,
}

impl Rows {
    fn add(&mut self, entry: Entry, activity: &mut Activity) {
        let Entry { act, id } = entry;
        let key = (act.did, act.kind, act.namespace, act.by.clone());
        let at = match self.index.get(&key) {
            Some(at) => *at,
            None if activity.acts.len() >= Activity::MAX_ACTS => {
                activity.more = activity.more.saturating_add(1);
                return;
            }
            None => {
                self.index.insert(key, activity.acts.len());
                activity.acts.push(Act { count: 0, ..act.clone() });
                activity.acts.len() - 1
            }
        };
        let Some(row) = activity.acts.get_mut(at) else { return };
        row.count = row.count.saturating_add(1);
        row.last_us = row.last_us.max(act.last_us);
        row.ids.extend(id.filter(|_| row.ids.len() < Activity::MAX_IDS));
    }
}

/// One interval: the sample before, the one after, and the namespaces that calls went to.
struct Page<'a> {
    before: &'a [Base],
    after: &'a State,
    at: &'a At,
    during: &'a [(NamespaceId, Call)],
    replays: BTreeMap<NamespaceId, Replay>,
    shown: BTreeMap<(NamespaceId, Kind), BTreeMap<i32, Shown>>,
    sought: usize,
}

/// An object as the sample after shows it.
#[derive(Clone, Copy)]
struct Shown {
    cuid: u32,
    ctime: i64,
    size: u64,
}

impl<'a> Page<'a> {
    fn new(before: &'a [Base], after: &'a State, at: &'a At, during: &'a [(NamespaceId, Call)]) -> Self {
        Self { before, after, at, during, replays: BTreeMap::new(), shown: BTreeMap::new(), sought: 0 }
    }

    /// Replays one call; `None` = it did nothing that is told.
    fn enter(&mut self, call: &Call) -> Option<Entry> {
        let place = call.by.place.map(|place| self.namespace(place));
        match call.what {
            What::Remove(id) => {
                let namespace = place.or_else(|| self.seek(call, id, false));
                let there = namespace.and_then(|namespace| self.replay(namespace).has(call.kind, id));
                if there == Some(false) {
                    return None;
                }
                if let Some(namespace) = namespace {
                    self.replay(namespace).removed(call.kind, id);
                }
                let act = act(call, Did::Removed, namespace, None);
                Some(Entry { act, id: Some(id) })
            }
            What::Get { asked, answer } if answer < 0 => self.refused(call, place, asked, answer),
            What::Get { asked, answer } => self.made(call, place, asked?, i32::try_from(answer).ok()?),
        }
    }

    fn made(&mut self, call: &Call, place: Option<NamespaceId>, asked: Asked, id: i32) -> Option<Entry> {
        let namespace = place.or_else(|| self.seek(call, id, true));
        let Some(namespace) = namespace else {
            let entry = Entry { act: act(call, Did::Created, None, Some(asked)), id: Some(id) };
            return asked.surely_makes().then_some(entry);
        };
        let shown = self.shown(namespace, call.kind).get(&id).copied();
        if !asked.surely_makes() && !self.was_new(namespace, call, id, shown) {
            return None;
        }
        let size = units(call.kind, asked.size, self.after.page_size);
        self.replay(namespace).made(call.kind, id, size, call.at_ns);
        let mut act = act(call, Did::Created, Some(namespace), Some(asked));
        act.by.uid = act.by.uid.or(shown.filter(|shown| same_size(call.kind, *shown, asked)).map(|shown| shown.cuid));
        Some(Entry { act, id: Some(id) })
    }

    /// Whether a get call that may have found its object made it.
    fn was_new(&mut self, namespace: NamespaceId, call: &Call, id: i32, shown: Option<Shown>) -> bool {
        if self.replay(namespace).has(call.kind, id) != Some(false) {
            return false;
        }
        if self.before.iter().any(|base| base.id == namespace) {
            return true;
        }
        // A namespace seen for the first time: its object is new if it was changed last when this call made it, or later.
        let ago_ms = self.at.boot_us.saturating_sub(call.at_ns / 1000) / 1000;
        let called = self.at.wall_ms.saturating_sub_unsigned(ago_ms).div_euclid(1000);
        shown.is_some_and(|shown| shown.ctime >= called)
    }

    fn refused(&mut self, call: &Call, place: Option<NamespaceId>, asked: Option<Asked>, answer: i64) -> Option<Entry> {
        let errno = u32::try_from(answer.unsigned_abs()).ok()?;
        let mut bound_by: Option<Usage> = None;
        match (errno, asked) {
            (EINVAL, Some(asked)) if self.exceeds(call.kind, place, asked.size) => {}
            (EINVAL, _) => return None,
            (ENOSPC, Some(asked)) => {
                let size = units(call.kind, asked.size, self.after.page_size);
                bound_by = place.and_then(|namespace| self.replay(namespace).binds(call.kind, size));
            }
            (ENOSPC | ENOSYS | ENOMEM, _) => {}
            _ => return None,
        }
        let mut act = act(call, Did::Refused(errno), place, asked);
        act.bound_by = bound_by;
        Some(Entry { act, id: None })
    }

    /// Whether that is more than one object may have: where the caller is, or wherever it can be.
    fn exceeds(&mut self, kind: Kind, place: Option<NamespaceId>, size: u64) -> bool {
        if let Some(largest) = place.and_then(|namespace| self.replay(namespace).largest(kind)) {
            return size > largest;
        }
        let limits = self.before.iter().map(|base| base.limits);
        let mut limits = limits.chain(self.after.namespaces.iter().map(|namespace| namespace.limits)).peekable();
        let over = |limits: Option<_>| limits.and_then(|l| replay::largest(&l, kind)).is_some_and(|most| size > most);
        limits.peek().is_some() && limits.all(over)
    }

    fn namespace(&self, place: Place) -> NamespaceId {
        let Place { inode, instance } = place;
        if let Some(instance) = instance {
            return NamespaceId { inode, instance };
        }
        let after = self.after.namespaces.iter().map(|namespace| namespace.id);
        let mut known = after.chain(self.before.iter().map(|base| base.id));
        known.find(|id| id.inode == inode).unwrap_or(NamespaceId { inode, instance: 0 })
    }

    /// Where a call must have been, whose process could not be asked: the one namespace in which the object came or went.
    fn seek(&mut self, call: &Call, id: i32, came: bool) -> Option<NamespaceId> {
        self.sought += 1;
        if self.sought > MAX_SOUGHT || self.after.namespaces.len() > MAX_SOUGHT {
            return None;
        }
        let after = self.after.namespaces.iter().map(|namespace| namespace.id);
        let mut known: Vec<NamespaceId> = after.chain(self.before.iter().map(|base| base.id)).collect();
        known.sort_unstable();
        known.dedup();
        known.retain(|namespace| {
            let was = self.replay(*namespace).has(call.kind, id);
            let is = self.shown(*namespace, call.kind).contains_key(&id);
            was == Some(!came) && is == came
        });
        known.pop().filter(|_| known.is_empty())
    }

    /// The namespace as the calls before left it.
    fn replay(&mut self, id: NamespaceId) -> &mut Replay {
        let (before, after, during) = (self.before, self.after, self.during);
        self.replays.entry(id).or_insert_with(|| {
            let base = before.iter().find(|base| base.id == id);
            let limits = || after.namespaces.iter().find(|namespace| namespace.id == id).and_then(|n| n.limits);
            let mut replay = match base {
                Some(base) => Replay::from(base),
                None => Replay::from(&Base::new_born(id, limits())),
            };
            again(&mut replay, during.iter().filter(|(namespace, _)| *namespace == id).map(|(_, call)| call), after);
            replay
        })
    }

    /// The objects of a namespace in the sample after.
    fn shown(&mut self, id: NamespaceId, kind: Kind) -> &BTreeMap<i32, Shown> {
        let after = self.after;
        self.shown.entry((id, kind)).or_insert_with(|| {
            let namespace = after.namespaces.iter().find(|namespace| namespace.id == id);
            namespace.map(|namespace| shown(namespace, kind)).unwrap_or_default()
        })
    }

    /// Where more was in use than either sample shows.
    fn peaks(&self) -> Vec<Peak> {
        let after = |id| self.after.namespaces.iter().find(|namespace| namespace.id == id);
        let peaks = self.replays.iter().filter_map(|(id, replay)| {
            let before = self.before.iter().find(|base| base.id == *id);
            let after = after(*id).map(|namespace| Base::of(namespace, self.after.page_size));
            // What a sample passes over shows an earlier state: nothing can be compared with it.
            if before.is_some_and(|base| !base.current) || after.as_ref().is_some_and(|base| !base.current) {
                return None;
            }
            let shown = [before.and_then(Base::shown), after.and_then(|base| base.shown())];
            let (arrays, semaphores) =
                shown.into_iter().flatten().fold((0, 0), |most, shown| (most.0.max(shown.0), most.1.max(shown.1)));
            let high = replay.high;
            (high.arrays > arrays || high.semaphores > semaphores).then_some(Peak {
                namespace: *id,
                boot_us: high.at_ns / 1000,
                sem_arrays: high.arrays.max(arrays),
                semaphores: high.semaphores.max(semaphores),
            })
        });
        peaks.take(Activity::MAX_PEAKS).collect()
    }
}

const ENOMEM: u32 = 12;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const ENOSYS: u32 = 38;

/// Replays the calls that fell into the reading of the sample before: what it read already is not changed by them. An
/// object that came and went meanwhile may have done so before it was read, and is passed over: counted on top of what
/// came after it, it could make a peak that never was.
fn again<'c>(replay: &mut Replay, calls: impl Iterator<Item = &'c Call> + Clone, after: &State) {
    let gone: BTreeSet<(Kind, i32)> = calls
        .clone()
        .filter_map(|call| match call.what {
            What::Remove(id) => (replay.has(call.kind, id) == Some(false)).then_some((call.kind, id)),
            What::Get { .. } => None,
        })
        .collect();
    for call in calls {
        match call.what {
            What::Remove(id) => replay.removed(call.kind, id),
            What::Get { asked: Some(asked), answer } => {
                let id = i32::try_from(answer).ok().filter(|id| *id >= 0 && !gone.contains(&(call.kind, *id)));
                if let Some(id) = id {
                    replay.made(call.kind, id, units(call.kind, asked.size, after.page_size), call.at_ns);
                }
            }
            What::Get { asked: None, .. } => {}
        }
    }
}

/// What an object of that size takes of the limit on their sum.
fn units(kind: Kind, size: u64, page_size: u32) -> u64 {
    if kind == Kind::Shm { pages(size, page_size) } else { size }
}

fn act(call: &Call, did: Did, namespace: Option<NamespaceId>, asked: Option<Asked>) -> Act {
    let by = Actor { pid: call.by.pid, comm: call.by.comm.clone(), uid: call.by.uid, parent: call.by.parent.clone() };
    let at_us = call.at_ns / 1000;
    let Asked { key, size, .. } = asked.unwrap_or(Asked { key: 0, size: 0, flags: 0 });
    Act {
        did,
        kind: call.kind,
        namespace,
        by,
        first_us: at_us,
        last_us: at_us,
        count: 1,
        key: Key(key),
        size,
        ids: Vec::new(),
        bound_by: None,
    }
}

fn same_size(kind: Kind, shown: Shown, asked: Asked) -> bool {
    kind == Kind::Msg || shown.size == asked.size
}

fn shown(namespace: &Namespace, kind: Kind) -> BTreeMap<i32, Shown> {
    fn of<T: Object>(list: Option<&[T]>, size: impl Fn(&T) -> u64) -> BTreeMap<i32, Shown> {
        let shown = |o: &T| (o.id(), Shown { cuid: o.owner().cuid, ctime: o.ctime(), size: size(o) });
        list.unwrap_or_default().iter().map(shown).collect()
    }
    match kind {
        Kind::Sem => of(namespace.sem.as_deref(), |array| array.nsems.into()),
        Kind::Shm => of(namespace.shm.as_deref(), |segment| segment.size),
        Kind::Msg => of(namespace.msg.as_deref(), |_| 0),
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
