//! Lists that could not be read, or had more rows than are listed, and since when: gaps of one kind of objects of one
//! namespace, while samples were taken. Pure.

use std::collections::BTreeMap;

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::object::Kind;
use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};

use super::gap::{Gap, GapState};

/// A list: which objects, and where.
pub type List = (NamespaceId, Kind);

/// The lists of these namespaces that their state could not read. A host without System V IPC has none: there is nothing
/// to read.
pub fn unreadable<'s>(
    state: &State,
    namespaces: impl Iterator<Item = &'s Namespace>,
) -> impl Iterator<Item = (&'s Namespace, List)> {
    let absent = state.availability.state == SysvipcState::Absent;
    let lists = namespaces.flat_map(|n| Kind::ALL.map(|kind| (n, (n.id, kind))));
    lists.filter(move |(n, (_, kind))| !absent && !n.has(*kind))
}

/// What the agent says of that list's file, else how many rows it left out, else what else it could not read there;
/// escaped.
pub fn why(namespace: &Namespace, kind: Kind) -> String {
    let file = format!("/proc/sysvipc/{}", kind.name());
    let said = namespace.unreadable.iter().take(Namespace::MAX_UNREADABLE);
    let of_file: Vec<String> =
        said.clone().filter(|u| u.source.as_bytes() == file.as_bytes()).map(|u| u.error.escaped()).collect();
    let left_out = match kind {
        Kind::Sem => namespace.left_out.sem,
        Kind::Shm => namespace.left_out.shm,
        Kind::Msg => namespace.left_out.msg,
    };
    match () {
        () if !of_file.is_empty() => of_file.join("; "),
        () if left_out > 0 => {
            format!("{left_out} of them, which were counted and not listed")
        }
        () => said.map(|u| format!("{}: {}", u.source, u.error)).collect::<Vec<_>>().join("; "),
    }
}

/// The lists that are unreadable now.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// With the last sample that read each, host's wall clock, milliseconds; `None` = none of its stretch that was told here
    /// did.
    open: BTreeMap<List, Option<i64>>,
}

impl Unread {
    /// What the first sample of a stretch, or the last one before what is told of it, lacks.
    pub(super) fn opening(state: &State) -> Self {
        Self { open: unreadable(state, state.namespaces.iter()).map(|(_, list)| (list, None)).collect() }
    }

    /// Whether it is known since when one of them is.
    pub(super) fn waits(&self) -> bool {
        self.open.values().any(Option::is_some)
    }

    /// Forgets that.
    pub(super) fn forget(&mut self) {
        self.open.values_mut().for_each(|read_ms| *read_ms = None);
    }

    /// The next sample of the stretch, at `at_ms`; says what can be read again, or went. `before` is the last one, which was
    /// confirmed until then.
    pub(super) fn sample(&mut self, before: (&State, i64), state: &State, at_ms: i64) -> Vec<(List, Gap)> {
        let was = std::mem::take(&mut self.open);
        for (_, list) in unreadable(state, state.namespaces.iter()) {
            let read_ms = was.get(&list).copied();
            let read_ms = read_ms.unwrap_or_else(|| find(before.0, &list).is_some().then_some(before.1));
            self.open.insert(list, read_ms);
        }
        let over = was.into_iter().filter(|(list, _)| !self.open.contains_key(list));
        over.map(|(list, read_ms)| (list, gap(before.0, &list, (read_ms, Some(at_ms))))).collect()
    }

    /// The stretch of `last` ended at `end_ms`: what could not be read to its end.
    pub(super) fn end(&mut self, last: &State, end_ms: i64) -> Vec<(List, Gap)> {
        let open = std::mem::take(&mut self.open);
        open.into_iter().map(|(list, read_ms)| (list, gap(last, &list, (read_ms, Some(end_ms))))).collect()
    }

    /// What was not read again until `last`, the last sample.
    pub(super) fn open(&self, last: &State) -> Vec<(List, Gap)> {
        self.open.iter().map(|(list, read_ms)| (*list, gap(last, list, (*read_ms, None)))).collect()
    }
}

fn find<'s>(state: &'s State, list: &List) -> Option<&'s Namespace> {
    state.namespaces.iter().find(|n| n.id == list.0)
}

/// `last` is the last sample that lacks it.
fn gap(last: &State, list: &List, (from_ms, to_ms): (Option<i64>, Option<i64>)) -> Gap {
    Gap {
        from_ms,
        to_ms,
        state: if to_ms.is_some() { GapState::Closed } else { GapState::Open },
        reason: Some(GapReason::Unreadable),
        detail: find(last, list).map(|namespace| why(namespace, list.1)).unwrap_or_default(),
        backlog_from_ms: None,
    }
}
