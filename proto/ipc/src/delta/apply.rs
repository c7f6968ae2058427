//! From a state and a difference to the later state. A delta can come from a hostile peer: every name is looked for,
//! every position checked, and what is allocated is at most base and delta together.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Delta, DeltaError, ListChange, NamespaceChange, NamespaceDelta, WhoChange};
use crate::object::Object;
use crate::snapshot::{Namespace, State};
use crate::text::HostText;
use crate::who::Who;

/// The later state. Fails if the delta does not fit the state (another base, or made up by a hostile peer), or if the
/// later state exceeds what one state may hold: many small deltas could make a huge one.
pub fn apply(before: &State, delta: &Delta) -> Result<State, DeltaError> {
    let after = State {
        boot_id: later(&before.boot_id, &delta.boot_id),
        interval_ms: later(&before.interval_ms, &delta.interval_ms),
        page_size: later(&before.page_size, &delta.page_size),
        zone: later(&before.zone, &delta.zone),
        availability: later(&before.availability, &delta.availability),
        users: names("uid", &before.users, &delta.users)?,
        groups: names("gid", &before.groups, &delta.groups)?,
        risks: later(&before.risks, &delta.risks),
        unseen: later(&before.unseen, &delta.unseen),
        namespaces: namespaces(&before.namespaces, &delta.namespaces)?,
    };
    within("rows and names", after.entries(), State::MAX_ENTRIES)?;
    within("IPC namespaces", after.namespaces.len(), State::MAX_NAMESPACES)?;
    Ok(after)
}

fn within(what: &'static str, count: usize, bound: usize) -> Result<(), DeltaError> {
    if count > bound { Err(DeltaError::TooMany { what, count, bound }) } else { Ok(()) }
}

fn later<T: Clone>(before: &T, change: &Option<T>) -> T {
    change.as_ref().unwrap_or(before).clone()
}

fn names(
    what: &'static str,
    before: &BTreeMap<u32, HostText>,
    changes: &[(u32, Option<HostText>)],
) -> Result<BTreeMap<u32, HostText>, DeltaError> {
    let mut out = before.clone();
    for (id, name) in changes {
        match name {
            Some(name) => drop(out.insert(*id, name.clone())),
            None => drop(out.remove(id).ok_or(DeltaError::NoSuchName { what, id: *id })?),
        }
    }
    Ok(out)
}

fn namespaces(before: &[Namespace], deltas: &[NamespaceDelta]) -> Result<Vec<Namespace>, DeltaError> {
    let mut appeared = Vec::new();
    let mut named = Vec::new();
    for delta in deltas {
        match delta {
            NamespaceDelta::Appeared { position, namespace } => appeared.push((*position, namespace)),
            NamespaceDelta::Gone(id) => named.push((*id, None)),
            NamespaceDelta::Changed(change) => named.push((change.id, Some(change))),
        }
    }
    let mut named = named.into_iter().peekable();
    let mut kept = Vec::with_capacity(before.len());
    for namespace in before {
        match named.next_if(|(id, _)| *id == namespace.id) {
            Some((_, Some(change))) => kept.push(changed(namespace, change)?),
            Some((_, None)) => {}
            None => kept.push(namespace.clone()),
        }
    }
    if let Some((id, _)) = named.next() {
        return Err(DeltaError::NoSuchNamespace { inode: id.inode, instance: id.instance });
    }
    placed("an IPC namespace", kept, appeared.into_iter().map(|(position, n)| (position, n.clone())))
}

fn changed(before: &Namespace, change: &NamespaceChange) -> Result<Namespace, DeltaError> {
    let inode = before.id.inode;
    Ok(Namespace {
        id: before.id,
        name: later(&before.name, &change.name),
        torn: later(&before.torn, &change.torn),
        limits: later(&before.limits, &change.limits),
        totals: later(&before.totals, &change.totals),
        sem: list(before.sem.as_deref(), &change.sem, inode)?,
        shm: list(before.shm.as_deref(), &change.shm, inode)?,
        msg: list(before.msg.as_deref(), &change.msg, inode)?,
        unreadable: later(&before.unreadable, &change.unreadable),
        left_out: later(&before.left_out, &change.left_out),
        named_by: later(&before.named_by, &change.named_by),
        skipped: later(&before.skipped, &change.skipped),
        who: who(before.who.as_ref(), &change.who, inode)?,
    })
}

fn who(before: Option<&Who>, change: &WhoChange, inode: u64) -> Result<Option<Who>, DeltaError> {
    match change {
        WhoChange::Same => Ok(before.cloned()),
        WhoChange::Unknown => Ok(None),
        WhoChange::Whole(who) => Ok(Some(who.clone())),
        WhoChange::Edits { comms, objects } => {
            let mut after = before.ok_or(DeltaError::NoRows { kind: "owner", inode })?.clone();
            edit(&mut after.comms, comms);
            edit(&mut after.objects, objects);
            Ok(Some(after))
        }
    }
}

/// Absolute values: taking away what is not there changes nothing.
fn edit<K: Ord + Copy, V: Clone>(into: &mut BTreeMap<K, V>, changes: &[(K, Option<V>)]) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(into.insert(*key, value.clone())),
            None => drop(into.remove(key)),
        }
    }
}

fn list<T: Object>(before: Option<&[T]>, change: &ListChange<T>, inode: u64) -> Result<Option<Vec<T>>, DeltaError> {
    match change {
        ListChange::Same => Ok(before.map(<[T]>::to_vec)),
        ListChange::Unreadable => Ok(None),
        ListChange::Whole(rows) => Ok(Some(rows.clone())),
        ListChange::Edits { removed, changed, added } => {
            let before = before.ok_or(DeltaError::NoRows { kind: T::KIND.name(), inode })?;
            let kept = edited(before, removed, changed)?;
            placed(T::KIND.name(), kept, added.iter().copied()).map(Some)
        }
    }
}

/// The rows that stay, with their later values.
fn edited<T: Object>(before: &[T], removed: &[i32], changed: &[T]) -> Result<Vec<T>, DeltaError> {
    let mut removed = removed.iter().peekable();
    let mut changed = changed.iter().peekable();
    let mut kept = Vec::with_capacity(before.len());
    for row in before {
        if removed.next_if(|id| **id == row.id()).is_none() {
            kept.push(*changed.next_if(|later| later.id() == row.id()).unwrap_or(row));
        }
    }
    match removed.next().copied().or_else(|| changed.next().map(Object::id)) {
        Some(id) => Err(DeltaError::NoSuchObject { kind: T::KIND.name(), id }),
        None => Ok(kept),
    }
}

/// `kept` with every added item at its position of the resulting list; positions ascend.
fn placed<T>(
    what: &'static str,
    kept: Vec<T>,
    added: impl ExactSizeIterator<Item = (u32, T)>,
) -> Result<Vec<T>, DeltaError> {
    let len = kept.len() + added.len();
    let mut out = Vec::with_capacity(len);
    let mut kept = kept.into_iter();
    for (position, item) in added {
        let bad = DeltaError::BadPosition { what, position, len };
        let place = usize::try_from(position).ok().filter(|place| *place >= out.len()).ok_or(bad.clone())?;
        let between = place - out.len();
        if between > kept.len() {
            return Err(bad);
        }
        out.extend(kept.by_ref().take(between));
        out.push(item);
    }
    out.extend(kept);
    Ok(out)
}
