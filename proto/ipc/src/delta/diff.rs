//! From two states to their difference. Equal parts cost one comparison; only a list that differs is sorted.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{Delta, ListChange, NamespaceChange, NamespaceDelta, WhoChange};
use crate::activity::Activity;
use crate::object::Object;
use crate::snapshot::{Namespace, NamespaceId, State};
use crate::who::Who;

/// The difference, `None` if the states are equal. `took_us` is the later sample's.
pub fn diff(before: &State, after: &State, took_us: u32) -> Option<Delta> {
    let delta = Delta {
        took_us,
        activity: Activity::default(),
        boot_id: other(&before.boot_id, &after.boot_id),
        interval_ms: other(&before.interval_ms, &after.interval_ms),
        page_size: other(&before.page_size, &after.page_size),
        zone: other(&before.zone, &after.zone),
        availability: other(&before.availability, &after.availability),
        users: map(&before.users, &after.users),
        groups: map(&before.groups, &after.groups),
        risks: other(&before.risks, &after.risks),
        unseen: other(&before.unseen, &after.unseen),
        namespaces: namespaces(&before.namespaces, &after.namespaces),
    };
    (delta != Delta { took_us, ..Delta::default() }).then_some(delta)
}

fn other<T: Clone + PartialEq>(before: &T, after: &T) -> Option<T> {
    (before != after).then(|| after.clone())
}

/// Absolute values of what is new or other, `None` of what went; ascending.
fn map<K: Ord + Copy, V: Clone + PartialEq>(before: &BTreeMap<K, V>, after: &BTreeMap<K, V>) -> Vec<(K, Option<V>)> {
    if before == after {
        return Vec::new();
    }
    let new = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    let gone = before.keys().filter(|key| !after.contains_key(key));
    let mut out: Vec<_> = new.map(|(key, v)| (*key, Some(v.clone()))).chain(gone.map(|key| (*key, None))).collect();
    out.sort_unstable_by_key(|(key, _)| *key);
    out
}

fn who(before: Option<&Who>, after: Option<&Who>) -> WhoChange {
    match (before, after) {
        (None, None) => WhoChange::Same,
        (Some(_), None) => WhoChange::Unknown,
        (None, Some(after)) => WhoChange::Whole(after.clone()),
        (Some(before), Some(after)) if before == after => WhoChange::Same,
        (Some(before), Some(after)) => {
            let edits = (map(&before.comms, &after.comms), map(&before.objects, &after.objects));
            if edits.0.len() + edits.1.len() > after.entries() {
                return WhoChange::Whole(after.clone());
            }
            WhoChange::Edits { comms: edits.0, objects: edits.1 }
        }
    }
}

fn namespaces(before: &[Namespace], after: &[Namespace]) -> Vec<NamespaceDelta> {
    if before == after {
        return Vec::new();
    }
    let kept = kept(before, after);
    let mut out = Vec::new();
    let mut stays = kept.iter().peekable();
    for (place, namespace) in before.iter().enumerate() {
        match stays.next_if(|(earlier, _)| *earlier == place) {
            Some((_, later)) => out.extend(change(namespace, &after[*later]).map(NamespaceDelta::Changed)),
            None => out.push(NamespaceDelta::Gone(namespace.id)),
        }
    }
    let mut stays = kept.iter().peekable();
    for (place, namespace) in after.iter().enumerate() {
        if stays.next_if(|(_, later)| *later == place).is_none() {
            out.push(NamespaceDelta::Appeared { position: position(place), namespace: namespace.clone() });
        }
    }
    out
}

/// Places (earlier, later) of the namespaces that are in both lists and in one order, ascending in both. Where ids
/// repeat they name nothing, and none is kept.
fn kept(before: &[Namespace], after: &[Namespace]) -> Vec<(usize, usize)> {
    let places: BTreeMap<NamespaceId, usize> = before.iter().enumerate().map(|(place, n)| (n.id, place)).collect();
    let later: BTreeSet<NamespaceId> = after.iter().map(|n| n.id).collect();
    if places.len() != before.len() || later.len() != after.len() {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut next = 0;
    for (place, namespace) in after.iter().enumerate() {
        if let Some(&earlier) = places.get(&namespace.id)
            && earlier >= next
        {
            out.push((earlier, place));
            next = earlier + 1;
        }
    }
    out
}

fn change(before: &Namespace, after: &Namespace) -> Option<NamespaceChange> {
    if before == after {
        return None;
    }
    Some(NamespaceChange {
        id: before.id,
        name: other(&before.name, &after.name),
        torn: other(&before.torn, &after.torn),
        limits: other(&before.limits, &after.limits),
        totals: other(&before.totals, &after.totals),
        sem: list(before.sem.as_deref(), after.sem.as_deref()),
        shm: list(before.shm.as_deref(), after.shm.as_deref()),
        msg: list(before.msg.as_deref(), after.msg.as_deref()),
        unreadable: other(&before.unreadable, &after.unreadable),
        left_out: other(&before.left_out, &after.left_out),
        named_by: other(&before.named_by, &after.named_by),
        skipped: other(&before.skipped, &after.skipped),
        who: who(before.who.as_ref(), after.who.as_ref()),
    })
}

fn list<T: Object>(before: Option<&[T]>, after: Option<&[T]>) -> ListChange<T> {
    match (before, after) {
        (None, None) => ListChange::Same,
        (Some(_), None) => ListChange::Unreadable,
        (None, Some(after)) => ListChange::Whole(after.to_vec()),
        (Some(before), Some(after)) if before == after => ListChange::Same,
        (Some(before), Some(after)) => edits(before, after).unwrap_or_else(|| ListChange::Whole(after.to_vec())),
    }
}

/// What was edited; `None` if ids repeat (a torn read can show one twice) or rows that stayed changed places.
///
/// Rows that meet their own id cost one comparison; the sorted ids are asked only where the two lists part.
fn edits<T: Object>(before: &[T], after: &[T]) -> Option<ListChange<T>> {
    let (ids_before, ids_after) = (sorted_ids(before)?, sorted_ids(after)?);
    let (mut removed, mut changed, mut added) = (Vec::new(), Vec::new(), Vec::new());
    let mut earlier = before.iter().peekable();
    for (place, row) in after.iter().enumerate() {
        let went = |b: &&T| b.id() != row.id() && ids_after.binary_search(&b.id()).is_err();
        while let Some(gone) = earlier.next_if(went) {
            removed.push(gone.id());
        }
        match earlier.next_if(|b| b.id() == row.id()) {
            Some(same) if same == row => {}
            Some(same) if row.is_same_as(same) => changed.push(*row),
            Some(reused) => {
                removed.push(reused.id());
                added.push((position(place), *row));
            }
            None if ids_before.binary_search(&row.id()).is_ok() => return None,
            None => added.push((position(place), *row)),
        }
    }
    removed.extend(earlier.map(Object::id));
    Some(ListChange::Edits { removed, changed, added })
}

fn sorted_ids<T: Object>(rows: &[T]) -> Option<Vec<i32>> {
    let mut ids: Vec<i32> = rows.iter().map(Object::id).collect();
    ids.sort_unstable();
    ids.is_sorted_by(|a, b| a < b).then_some(ids)
}

/// A place in a list. Ids are 32 bits wide, so a list in which none repeats does not exceed it.
fn position(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
