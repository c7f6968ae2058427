//! Which lists could not be read while samples were taken: what the timeline tells of them, against a plain scan of what
//! each sample read.

use std::collections::BTreeMap;

use highwater::query::event::{Event, Happened};
use highwater_ipc::availability::SysvipcState;
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{NamespaceId, Snapshot};

use crate::truth::Truth;

type List = (NamespaceId, Kind);

/// One list, the last sample that read it, and the first that reads it again.
type Told = (List, Option<i64>, Option<i64>);

/// What is told of lists, in no order that means something.
pub(crate) fn told(events: &[Event]) -> Vec<Told> {
    let of = |event: &Event| match (&event.happened, event.namespace) {
        (Happened::Unread { kind, gap }, Some(namespace)) => Some(((namespace, *kind), gap.from_ms, gap.to_ms)),
        _ => None,
    };
    let mut told: Vec<_> = events.iter().filter_map(of).collect();
    told.sort_unstable_by_key(key);
    told
}

/// What is true of them in a span.
pub(crate) fn expected(truth: &Truth, span_ms: (i64, i64)) -> Vec<Told> {
    let mut open: BTreeMap<u128, (List, Option<i64>)> = BTreeMap::new();
    let mut last: Option<(&Snapshot, crate::truth::Place)> = None;
    let mut expected = Vec::new();
    for (index, _) in truth.walk(span_ms) {
        let entry = &truth.entries[index];
        let Some(snapshot) = entry.snapshot() else { continue };
        let was = std::mem::take(&mut open);
        let unread = unreadable(snapshot);
        match last.replace((snapshot, entry.place)) {
            Some((before, place)) if place == entry.place => {
                let read_ms = entry.prev_wall_ms.unwrap_or(snapshot.at.wall_ms);
                for list in unread {
                    let had = before.state.namespaces.iter().any(|n| n.id == list.0);
                    let since = was.get(&number(&list)).map_or(had.then_some(read_ms), |(_, since)| *since);
                    open.insert(number(&list), (list, since));
                }
                let over = was.into_iter().filter(|(number, _)| !open.contains_key(number));
                expected.extend(over.map(|(_, (list, since))| (list, since, Some(snapshot.at.wall_ms))));
            }
            before => {
                let place = before.map(|(_, place)| place);
                let end_ms = truth.stretches.iter().find(|s| Some(s.place) == place).map(|s| s.to_ms);
                expected.extend(was.into_values().map(|(list, since)| (list, since, end_ms)));
                open.extend(unread.into_iter().map(|list| (number(&list), (list, None))));
            }
        }
    }
    // What was over before the span began is no matter of it.
    expected.retain(|(.., end_ms)| *end_ms >= Some(span_ms.0));
    expected.extend(open.into_values().map(|(list, since)| (list, since, None)));
    expected.sort_unstable_by_key(key);
    expected
}

fn unreadable(snapshot: &Snapshot) -> Vec<List> {
    if snapshot.state.availability.state == SysvipcState::Absent {
        return Vec::new();
    }
    let lists = snapshot.state.namespaces.iter().flat_map(|n| {
        let read = [(Kind::Sem, n.sem.is_some()), (Kind::Shm, n.shm.is_some()), (Kind::Msg, n.msg.is_some())];
        read.into_iter().filter(|(_, read)| !read).map(|(kind, _)| (n.id, kind))
    });
    lists.collect()
}

fn number((namespace, kind): &List) -> u128 {
    u128::from(namespace.inode) << 68 | u128::from(namespace.instance) << 4 | *kind as u128
}

fn key((list, from_ms, to_ms): &Told) -> (u128, Option<i64>, Option<i64>) {
    (number(list), *from_ms, *to_ms)
}
