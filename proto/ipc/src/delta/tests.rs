//! Text in, text out: a list is its ids (`5`), where it matters with nsems (`5n3`) or uid (`5u33`); namespaces are
//! letters; `x` is a list that could not be read.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Delta, DeltaError, ListChange, NamespaceChange, NamespaceDelta, apply, diff};
use crate::arbitrary;
use crate::availability::{Availability, SysvipcState};
use crate::object::{Object, SemArray};
use crate::snapshot::{LeftOut, Namespace, NamespaceId, State};
use crate::text::HostText;

fn row(text: &str) -> SemArray {
    let number = |after: char| text.split(after).nth(1).map_or(0, |n| n.parse().unwrap());
    let semid = text.split(['n', 'u']).next().unwrap().parse().unwrap();
    let mut row = SemArray {
        key: Default::default(),
        semid,
        perms: Default::default(),
        nsems: number('n'),
        owner: Default::default(),
        otime: 0,
        ctime: 0,
    };
    row.owner.uid = number('u');
    row
}

fn rows(text: &str) -> Option<Vec<SemArray>> {
    (text != "x").then(|| text.split_whitespace().map(row).collect())
}

fn namespace(inode: u64, sem: Option<Vec<SemArray>>) -> Namespace {
    Namespace {
        id: NamespaceId { inode, instance: 0 },
        name: None,
        torn: false,
        limits: None,
        totals: None,
        sem,
        shm: None,
        msg: None,
        unreadable: Vec::new(),
        left_out: LeftOut::default(),
        ..Namespace::default()
    }
}

fn state(namespaces: Vec<Namespace>) -> State {
    State {
        boot_id: Default::default(),
        interval_ms: 1000,
        page_size: 4096,
        zone: HostText::default(),
        availability: Availability {
            state: SysvipcState::Available,
            evidence: Vec::new(),
            remedy: HostText::default(),
        },
        users: Default::default(),
        groups: Default::default(),
        namespaces,
        ..State::default()
    }
}

fn shown(change: &ListChange<SemArray>) -> String {
    let ids = |rows: &[SemArray]| rows.iter().map(|r| r.id().to_string()).collect::<Vec<_>>().join(" ");
    match change {
        ListChange::Same => "same".into(),
        ListChange::Unreadable => "unreadable".into(),
        ListChange::Whole(rows) => format!("whole {}", ids(rows)),
        ListChange::Edits { removed, changed, added } => {
            let removed = removed.iter().map(|id| format!("-{id}"));
            let changed = changed.iter().map(|row| format!("~{}", row.id()));
            let added = added.iter().map(|(at, row)| format!("+{}@{at}", row.id()));
            removed.chain(changed).chain(added).collect::<Vec<_>>().join(" ")
        }
    }
}

fn round_trip(before: &State, after: &State) -> Option<Delta> {
    let delta = diff(before, after, 7);
    match &delta {
        None => assert_eq!(before, after),
        Some(delta) => assert_eq!(apply(before, delta).as_ref(), Ok(after)),
    }
    delta
}

#[track_caller]
fn check(before: &str, after: &str, expected: &str) {
    let [before, after] = [before, after].map(|text| state([namespace(1, rows(text))].into()));
    let change = match round_trip(&before, &after).map(|delta| delta.namespaces).as_deref() {
        None => ListChange::Same,
        Some([NamespaceDelta::Changed(change)]) => change.sem.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(&change), expected);
}

#[track_caller]
fn check_namespaces(before: &str, after: &str, expected: &str) {
    let [before, after] =
        [before, after].map(|text| state(text.bytes().map(|letter| namespace(letter.into(), None)).collect()));
    let letter = |id: &NamespaceId| char::from(u8::try_from(id.inode).unwrap());
    let deltas = round_trip(&before, &after).map(|delta| delta.namespaces).unwrap_or_default();
    let shown = deltas.iter().map(|delta| match delta {
        NamespaceDelta::Gone(id) => format!("-{}", letter(id)),
        NamespaceDelta::Changed(change) => format!("~{}", letter(&change.id)),
        NamespaceDelta::Appeared { position, namespace } => format!("+{}@{position}", letter(&namespace.id)),
    });
    assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn rows_that_came_and_went_are_edits() {
    check("1 2 3", "1 2 3", "same");
    check("1 2 3", "1 3 4", "-2 +4@2");
    check("2 3", "1 2 3", "+1@0");
    check("1 2 3", "", "-1 -2 -3");
    check("", "9 8", "+9@0 +8@1");
    check("3 1 2", "3 5 2u33 6", "-1 ~2 +5@1 +6@3");
}

#[test]
fn an_id_that_is_another_object_now_went_and_came() {
    check("1 2n1 3", "1 2n4 3", "-2 +2@1");
    check("1 2u0 3", "1 2u33 3", "~2");
}

#[test]
fn rows_that_moved_or_ids_that_repeat_are_a_whole_list() {
    check("1 2 3", "2 1 3", "whole 2 1 3");
    check("1 2", "1 2 2", "whole 1 2 2");
    check("2 2n4", "2 2n5", "whole 2 2");
}

#[test]
fn a_list_that_cannot_be_read_is_not_an_empty_one() {
    check("1 2", "x", "unreadable");
    check("x", "1 2", "whole 1 2");
    check("x", "", "whole ");
    check("x", "x", "same");
}

#[test]
fn namespaces_come_go_and_change_places() {
    check_namespaces("ab", "ab", "");
    check_namespaces("ab", "acb", "+c@1");
    check_namespaces("abc", "c", "-a -b");
    check_namespaces("abcd", "acbd", "-b +b@2");
    check_namespaces("aa", "aab", "-a -a +a@0 +a@1 +b@2");
}

#[test]
fn names_that_are_new_other_or_gone_are_told() {
    let mut before = state([].into());
    let mut after = before.clone();
    before.users = [(0, "root".into()), (33, "www-data".into()), (48, "apache".into())].into();
    after.users = [(0, "root".into()), (33, "web".into()), (7, "new".into())].into();
    let delta = round_trip(&before, &after).unwrap();
    assert_eq!(delta.users, [(7, Some("new".into())), (33, Some("web".into())), (48, None)]);
    assert_eq!(apply(&after, &delta), Err(DeltaError::NoSuchName { what: "uid", id: 48 }));
}

fn edited(edits: ListChange<SemArray>) -> Result<State, DeltaError> {
    let before = namespace(1, rows("1 2 3"));
    let other = NamespaceChange { sem: edits, ..change_of(1) };
    apply(&state([before].into()), &Delta { namespaces: [NamespaceDelta::Changed(other)].into(), ..Delta::default() })
}

fn change_of(inode: u64) -> NamespaceChange {
    NamespaceChange {
        id: NamespaceId { inode, instance: 0 },
        name: None,
        torn: None,
        limits: None,
        totals: None,
        sem: ListChange::Same,
        shm: ListChange::Same,
        msg: ListChange::Same,
        unreadable: None,
        left_out: None,
        named_by: None,
        skipped: None,
        who: Default::default(),
    }
}

#[test]
fn a_delta_that_does_not_fit_its_base_is_refused() {
    let edits = |removed: &[i32], changed: &str, added: &[(u32, &str)]| ListChange::Edits {
        removed: removed.to_vec(),
        changed: rows(changed).unwrap(),
        added: added.iter().map(|(at, text)| (*at, row(text))).collect(),
    };
    let no_such = |id| Err(DeltaError::NoSuchObject { kind: "sem", id });
    assert_eq!(edited(edits(&[9], "", &[])), no_such(9));
    assert_eq!(edited(edits(&[3, 2], "", &[])), no_such(2), "not in the order of the base");
    assert_eq!(edited(edits(&[2, 2], "", &[])), no_such(2));
    assert_eq!(edited(edits(&[2], "2", &[])), no_such(2));
    let bad = |position, len| Err(DeltaError::BadPosition { what: "sem", position, len });
    assert_eq!(edited(edits(&[], "", &[(4, "9")])), bad(4, 4));
    assert_eq!(edited(edits(&[], "", &[(2, "8"), (1, "9")])), bad(1, 5));
    assert_eq!(edited(edits(&[], "", &[(u32::MAX, "9")])), bad(u32::MAX, 4));
    assert!(edited(edits(&[1], "3u5", &[(2, "9")])).is_ok());

    let gone = NamespaceDelta::Gone(NamespaceId { inode: 2, instance: 0 });
    let delta = Delta { namespaces: [gone].into(), ..Delta::default() };
    assert_eq!(apply(&state([].into()), &delta), Err(DeltaError::NoSuchNamespace { inode: 2, instance: 0 }));
    let blind = NamespaceChange { sem: edits(&[], "", &[]), ..change_of(1) };
    let delta = Delta { namespaces: [NamespaceDelta::Changed(blind)].into(), ..Delta::default() };
    let base = state([namespace(1, None)].into());
    assert_eq!(apply(&base, &delta), Err(DeltaError::NoRows { kind: "sem", inode: 1 }));
}

#[test]
fn small_deltas_cannot_make_a_state_beyond_the_bound() {
    let full = (0..).take(State::MAX_ENTRIES).map(|semid| SemArray { semid, ..row("0") });
    let before = state([namespace(1, Some(full.collect()))].into());
    let one_more = ListChange::Edits { removed: Vec::new(), changed: Vec::new(), added: [(0, row("-1"))].into() };
    let change = NamespaceChange { sem: one_more, ..change_of(1) };
    let delta = Delta { namespaces: [NamespaceDelta::Changed(change)].into(), ..Delta::default() };
    let (count, bound) = (State::MAX_ENTRIES + 1, State::MAX_ENTRIES);
    assert_eq!(apply(&before, &delta), Err(DeltaError::TooMany { what: "rows and names", count, bound }));
}

proptest! {
    #[test]
    fn apply_undoes_diff((before, after) in arbitrary::states()) {
        prop_assert_eq!(diff(&before, &before, 7), None);
        match diff(&before, &after, 7) {
            None => prop_assert_eq!(before, after),
            Some(delta) => prop_assert_eq!(apply(&before, &delta), Ok(after)),
        }
    }

    #[test]
    fn a_hostile_delta_never_panics(before in arbitrary::state(), delta in arbitrary::delta()) {
        let _ = apply(&before, &delta);
    }

    #[test]
    fn a_delta_of_other_states_never_panics((before, after) in arbitrary::states(), (other, _) in arbitrary::states()) {
        if let Some(delta) = diff(&before, &after, 7) {
            let _ = apply(&other, &delta);
        }
    }
}
