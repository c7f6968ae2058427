//! Lists that could not be read, and since when: gaps of one kind of objects of one namespace, while samples were taken.
//! Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

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

/// What the agent says of that list's file, else of whatever it could not read there, else how many rows it left out;
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
        () if namespace.unreadable.is_empty() && left_out > 0 => {
            format!("{left_out} of them, which were counted and not listed")
        }
        () => said.map(|u| format!("{}: {}", u.source, u.error)).collect::<Vec<_>>().join("; "),
    }
}

/// The lists that are unreadable now.
#[derive(Debug, Default)]
pub(super) struct Unread {
    open: BTreeMap<List, Since>,
}

#[derive(Debug)]
struct Since {
    /// The last sample that read it, else the first that shows its namespace; host's wall clock, milliseconds. `None` = it
    /// was so before anything told here.
    from_ms: Option<i64>,
    why: String,
}

impl Unread {
    /// What was there before anything is told.
    pub(super) fn opening(state: &State) -> Self {
        let mut this = Self::default();
        this.learn(state, |_| None);
        this
    }

    /// Whether it is known since when one of them is.
    pub(super) fn waits(&self) -> bool {
        self.open.values().any(|since| since.from_ms.is_some())
    }

    /// Forgets that.
    pub(super) fn forget(&mut self) {
        self.open.values_mut().for_each(|since| since.from_ms = None);
    }

    /// The next sample, at `at_ms`; says what can be read again. `before` is the last one, which was confirmed until then.
    pub(super) fn sample(&mut self, before: (&State, i64), state: &State, at_ms: i64) -> Vec<(List, Gap)> {
        let was = std::mem::take(&mut self.open);
        let had = |list: &List| before.0.namespaces.iter().any(|n| n.id == list.0);
        self.learn(state, |list| Some(if had(list) { before.1 } else { at_ms }));
        let mut over = Vec::new();
        for (list, since) in was {
            match self.open.get_mut(&list) {
                Some(now) => *now = since,
                None => over.push((list, gap(&since, Some(at_ms)))),
            }
        }
        over
    }

    /// What was not read again until the last sample.
    pub(super) fn open(&self) -> impl Iterator<Item = (List, Gap)> {
        self.open.iter().map(|(list, since)| (*list, gap(since, None)))
    }

    fn learn(&mut self, state: &State, from_ms: impl Fn(&List) -> Option<i64>) {
        for (namespace, list) in unreadable(state, state.namespaces.iter()) {
            // A state that names a namespace twice is believed once.
            if let Entry::Vacant(entry) = self.open.entry(list) {
                entry.insert(Since { from_ms: from_ms(&list), why: why(namespace, list.1) });
            }
        }
    }
}

fn gap(since: &Since, to_ms: Option<i64>) -> Gap {
    Gap {
        from_ms: since.from_ms,
        to_ms,
        state: if to_ms.is_some() { GapState::Closed } else { GapState::Open },
        reason: Some(GapReason::Unreadable),
        detail: since.why.clone(),
        backlog_from_ms: None,
    }
}
