//! Random lives of objects, traced and sampled, told and compared with what was done.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::activity::{Act, Activity, Actor, Did};
use highwater_ipc::object::{Key, Kind, Owner, Perms, SemArray};
use highwater_ipc::snapshot::State;
use highwater_ipc::text::HostText;
use proptest::prelude::*;

use super::change::What;
use super::event::Happened;
use super::scenes::{own, state, told_step};
use super::story::Story;

/// One object: made at that millisecond by a process, and removed so much later by another, if at all.
type Life = (u16, i32, Option<(u16, i32)>);

/// Samples are a second apart. One reads the objects a millisecond after it began, and takes what was traced by then and
/// in the millisecond after.
const SAMPLES: u64 = 6;
const READ_MS: u64 = 1;
const DRAINED_MS: u64 = 2;

/// Milliseconds around those of a sample.
const NEAR: [i32; 7] = [-1, 0, 1, 2, 3, 4, 500];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]
    #[test]
    fn every_change_is_of_its_own_process_and_every_unseen_object_is_told_once(
        lives in proptest::collection::vec((0_u16..5_500, 1_i32..4, proptest::option::of((1_u16..2_500, 1_i32..4))), 0..40),
        near in proptest::collection::vec((995_u16..1_006, 1_i32..4, proptest::option::of((1_u16..6, 1_i32..4))), 0..10),
    ) {
        let lives: Vec<Life> = lives.into_iter().chain(near).collect();
        let told = tell(&lives, usize::MAX);
        prop_assert_eq!(&told.wrong, &Vec::<String>::new());
        prop_assert_eq!(told.nameless, 0);
        prop_assert_eq!(told.transient_ids, told.unseen);
    }

    #[test]
    fn of_acts_that_list_only_some_ids_no_name_is_wrong_and_nothing_is_told_twice(
        lives in proptest::collection::vec((0_u16..5_500, 1_i32..4, proptest::option::of((1_u16..2_500, 1_i32..4))), 0..60),
        near in proptest::collection::vec((1_i32..4, proptest::sample::select(&NEAR), 1_i32..4, proptest::option::of((1_u16..1_005, 1_i32..4))), 0..20),
    ) {
        let near = near.into_iter().map(|(second, ms, pid, end)| (u16::try_from(second * 1000 + ms).unwrap(), pid, end));
        let lives: Vec<Life> = lives.into_iter().chain(near).collect();
        let told = tell(&lives, 3);
        prop_assert_eq!(&told.wrong, &Vec::<String>::new());
        prop_assert!(told.transient <= told.unseen.len() as u64, "{} of {}", told.transient, told.unseen.len());
    }
}

/// Of two that made more than they list around a sample, each may have made what the next one shows: it is neither's.
#[test]
fn what_two_may_have_made_is_not_given_to_the_one_that_the_count_leaves() {
    let (third, second) = ((1003, 3, None), (1003, 2, None));
    let late = (2003, 3, None);
    let lives: [Life; 12] = [
        third,
        third,
        third,
        (2002, 2, None),
        late,
        second,
        late,
        late,
        second,
        second,
        (2002, 3, Some((1, 1))),
        third,
    ];
    let told = tell(&lives, 3);
    assert_eq!(told.wrong, Vec::<String>::new());
    assert!(told.transient <= told.unseen.len() as u64, "{} of {}", told.transient, told.unseen.len());
}

#[derive(Debug, Default)]
struct Told {
    /// Changes with another process's name.
    wrong: Vec<String>,
    /// Changes without a name.
    nameless: usize,
    /// Objects told to have come and gone unseen: how many, and the ids of them.
    transient: u64,
    transient_ids: BTreeSet<i32>,
    /// Objects that really did, of what a sample that is not the last can know.
    unseen: BTreeSet<i32>,
}

fn tell(lives: &[Life], listed: usize) -> Told {
    let ids: Vec<(i32, &Life)> = (0..).zip(lives).collect();
    let made = |life: &Life| u64::from(life.0);
    let removed = |life: &Life| life.2.map(|(after, pid)| (u64::from(life.0) + u64::from(after), pid));
    let alive_at = |life: &Life, ms: u64| made(life) <= ms && removed(life).is_none_or(|(at, _)| at > ms);
    let mut told = Told::default();
    let mut story = Story::default();
    for sample in 0..SAMPLES {
        let (begin, last) = (sample * 1000, sample.saturating_sub(1) * 1000);
        let here: Vec<i32> = ids.iter().filter(|(_, l)| alive_at(l, begin + READ_MS)).map(|(id, _)| *id).collect();
        let since = if sample == 0 { 0 } else { last + DRAINED_MS + 1 };
        let traced = |ms: u64| (since..=begin + DRAINED_MS).contains(&ms);
        let mut acts: BTreeMap<(bool, i32), Vec<(u64, i32)>> = BTreeMap::new();
        for (id, life) in &ids {
            if traced(made(life)) {
                acts.entry((true, life.1)).or_default().push((made(life), *id));
            }
            if let Some((at, pid)) = removed(life).filter(|(at, _)| traced(*at)) {
                acts.entry((false, pid)).or_default().push((at, *id));
            }
        }
        let acts = acts.into_iter().map(|((is_made, pid), mut calls)| act(is_made, pid, &mut calls, listed)).collect();
        let activity = Activity { acts, ..Activity::default() };
        let second = i64::try_from(sample).unwrap();
        for event in story.tell(&told_step(0, second, sampled(&here), activity, None)) {
            match event.happened {
                Happened::Change { what: What::Created(o), by, .. } => {
                    told.compare(o.id(), by, lives.get(usize::try_from(o.id()).unwrap()).unwrap().1);
                }
                Happened::Change { what: What::Removed(o), by, .. } => {
                    let life = lives.get(usize::try_from(o.id()).unwrap()).unwrap();
                    told.compare(o.id(), by, life.2.unwrap().1);
                }
                Happened::Acted { act, transient, .. } if act.did == Did::Created => {
                    assert!(transient);
                    told.transient += act.count;
                    for id in act.ids {
                        assert!(told.transient_ids.insert(id), "{id} was told twice");
                    }
                }
                _ => {}
            }
        }
    }
    let never_seen = |life: &Life| (0..SAMPLES).all(|sample| !alive_at(life, sample * 1000 + READ_MS));
    // What a process did at the last sample, or in one go with it, waits for one that does not come.
    let last = (SAMPLES - 1) * 1000;
    let waits = |pid: i32| {
        let in_last = |l: &&Life| l.1 == pid && made(l) > last - 1000 + DRAINED_MS && made(l) <= last + DRAINED_MS;
        lives.iter().filter(in_last).any(|l| made(l) >= last)
    };
    let in_last = |life: &Life| made(life) > last - 1000 + DRAINED_MS;
    let is_told = |l: &Life| made(l) <= last + DRAINED_MS && !(in_last(l) && waits(l.1));
    told.unseen = ids.iter().filter(|(_, l)| never_seen(l) && is_told(l)).map(|(id, _)| *id).collect();
    told
}

impl Told {
    fn compare(&mut self, id: i32, by: Option<Actor>, truth: i32) {
        match by {
            None => self.nameless += 1,
            Some(by) if by.pid != truth => self.wrong.push(format!("{id}: {} for {truth}", by.pid)),
            Some(_) => {}
        }
    }
}

fn act(is_made: bool, pid: i32, calls: &mut [(u64, i32)], listed: usize) -> Act {
    calls.sort_unstable();
    Act {
        did: if is_made { Did::Created } else { Did::Removed },
        kind: Kind::Sem,
        namespace: Some(own()),
        by: Actor { pid, comm: HostText::from("p"), ..Actor::default() },
        first_us: calls[0].0 * 1000,
        last_us: calls[calls.len() - 1].0 * 1000,
        count: calls.len() as u64,
        key: Key(0),
        size: 1,
        ids: calls.iter().map(|(_, id)| *id).take(listed).collect(),
        bound_by: None,
    }
}

fn sampled(ids: &[i32]) -> State {
    let owner = Owner { uid: 0, gid: 0, cuid: 0, cgid: 0 };
    let row = |id: &i32| SemArray { key: Key(0), semid: *id, perms: Perms(0o600), nsems: 1, owner, otime: 0, ctime: 0 };
    let mut state = state("");
    state.namespaces[0].sem = Some(ids.iter().map(row).collect());
    state
}
