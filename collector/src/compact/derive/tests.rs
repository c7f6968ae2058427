//! The deriver against a recomputation from the whole list of samples, and against itself in steps.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::activity::{Activity, Peak};
use highwater_ipc::availability::SysvipcState;
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Key, Kind, Owner, Perms, SemArray};
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::{Namespace, NamespaceId, State, Unreadable};
use highwater_ipc::text::HostText;
use proptest::prelude::*;

use super::*;
use crate::store::day::Day;
use crate::store::owner_usage::{Held, OwnerHeld, OwnerKey};
use crate::store::usage::{Step, Used};

const HOST: HostId = HostId(7);
const EPOCH: EpochNo = EpochNo(3);
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// 2026-01-30T23:50:00Z.
const BEGIN: i64 = 1_769_817_000_000;

/// One sample, with the time between it and the one before.
#[derive(Clone, Debug)]
pub(in crate::compact) struct Told {
    step_ms: i64,
    /// How long the sample before was confirmed by heartbeats, at most `step_ms`.
    heartbeats_ms: i64,
    begins: bool,
    places: [Option<Place>; 2],
    peak: Option<(usize, i64, u64)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Place {
    totals: Option<u64>,
    limit: Option<u64>,
    /// Arrays by uid; `None` = could not be read.
    arrays: Option<BTreeMap<u32, u8>>,
    left_out: bool,
}

fn place() -> impl Strategy<Value = Place> {
    let arrays = proptest::collection::btree_map(0..3_u32, 1..4_u8, 0..3);
    (prop::option::weighted(0.9, 0..4_u64), prop::option::weighted(0.9, 4..6_u64), arrays, 0..8).prop_map(
        |(totals, limit, arrays, luck)| Place {
            totals,
            limit,
            arrays: (luck != 0).then_some(arrays),
            left_out: luck == 1,
        },
    )
}

fn told() -> impl Strategy<Value = Told> {
    let steps = prop::sample::select(vec![0, 1, 1_000, MINUTE, 10 * MINUTE, 3 * HOUR, 40 * 24 * HOUR]);
    let peak = prop::option::weighted(0.3, (0..2_usize, prop::sample::select(vec![0, 500, 11 * MINUTE]), 0..9_u64));
    let places = (place(), prop::option::weighted(0.8, place()));
    (steps, 0..=100_i64, prop::bool::weighted(0.15), places, peak, 0..4).prop_map(
        |(step_ms, share, begins, (own, other), peak, _)| Told {
            step_ms,
            heartbeats_ms: step_ms * share / 100,
            begins,
            places: [Some(own), other],
            peak,
        },
    )
}

/// Samples of which many read what the one before read.
pub(in crate::compact) fn world() -> impl Strategy<Value = Vec<Told>> {
    proptest::collection::vec((told(), prop::bool::weighted(0.5)), 1..24).prop_map(|told| {
        let mut samples: Vec<Told> = Vec::new();
        for (mut next, same) in told {
            if let Some(last) = samples.last().filter(|_| same) {
                next.places = last.places.clone();
            }
            samples.push(next);
        }
        samples
    })
}

fn id(index: usize) -> NamespaceId {
    NamespaceId { inode: 100 + u64::try_from(index).unwrap(), instance: 1 }
}

fn limits(semmni: u64) -> Limits {
    Limits {
        semmsl: 1,
        semmns: 2,
        semopm: 3,
        semmni,
        semvmx: 5,
        shmmax: 6,
        shmall: 7,
        shmmni: 8,
        shmmin: 1,
        msgmax: 9,
        msgmnb: 10,
        msgmni: 11,
    }
}

fn state_of(places: &[Option<Place>; 2]) -> State {
    let mut state = State::default();
    state.availability.state = SysvipcState::Available;
    for (index, place) in places.iter().enumerate() {
        let Some(place) = place else { continue };
        let arrays = place.arrays.as_ref().map(|arrays| {
            let all = arrays.iter().flat_map(|(uid, count)| (0..*count).map(|_| *uid));
            all.enumerate().map(|(n, uid)| array(i32::try_from(n).unwrap(), uid)).collect::<Vec<_>>()
        });
        let mut namespace = Namespace {
            id: id(index),
            limits: place.limit.map(limits),
            totals: place.totals.map(|sem_arrays| Totals { sem_arrays, ..Totals::default() }),
            shm: Some(vec![]),
            msg: Some(vec![]),
            ..Namespace::default()
        };
        if arrays.is_none() {
            let (source, error) = (HostText::from("/proc/sysvipc/sem"), HostText::from("EACCES"));
            namespace.unreadable.push(Unreadable { source, line: 0, error });
        }
        namespace.left_out.sem = u64::from(place.left_out);
        namespace.sem = arrays;
        state.namespaces.push(namespace);
    }
    state
}

fn array(semid: i32, uid: u32) -> SemArray {
    let owner = Owner { uid, gid: 0, cuid: uid, cgid: 0 };
    SemArray { key: Key(0), semid, perms: Perms(0o600), nsems: 2, owner, otime: 0, ctime: 0 }
}

/// A sample with everything that the deriver is told of it.
pub(in crate::compact) struct Taken {
    wall_ms: i64,
    prev_ms: Option<i64>,
    begins: bool,
    state: State,
    activity: Activity,
}

pub(in crate::compact) fn taken(world: &[Told]) -> Vec<Taken> {
    let mut wall_ms = BEGIN;
    let mut samples: Vec<Taken> = Vec::new();
    for told in world {
        let before_ms = samples.last().map(|last| last.wall_ms);
        // A new stretch may begin an hour earlier.
        wall_ms += if told.begins { told.step_ms - HOUR } else { told.step_ms };
        let peaks = told.peak.map(|(index, ago_ms, sem_arrays)| Peak {
            namespace: id(index),
            boot_us: u64::try_from(wall_ms - BEGIN + 1_000 * HOUR - ago_ms).unwrap() * 1_000,
            sem_arrays,
            semaphores: 0,
        });
        samples.push(Taken {
            wall_ms,
            prev_ms: before_ms.map(|ms| ms + told.heartbeats_ms),
            begins: told.begins || before_ms.is_none(),
            state: state_of(&told.places),
            activity: Activity { peaks: peaks.into_iter().collect(), ..Activity::default() },
        });
    }
    samples
}

pub(in crate::compact) fn derive(
    host: HostId,
    samples: &[Taken],
    (from, to): (usize, usize),
    covered_ms: Option<i64>,
) -> Derived {
    let before = from.checked_sub(1).filter(|_| !samples[from].begins).map(|i| &samples[i]);
    let before = before.map(|b| Before { state: &b.state, wall_ms: b.wall_ms });
    let earlier = from.checked_sub(1).filter(|_| samples[from].begins).map(|i| &samples[i]);
    let earlier = earlier.map(|e| Before { state: &e.state, wall_ms: e.wall_ms });
    let mut deriver = Deriver::new(host, EPOCH, before).following(earlier);
    for (index, taken) in samples.iter().enumerate().take(to).skip(from) {
        deriver.sample(&Sample {
            seq: Seq(u64::try_from(index).unwrap()),
            wall_ms: taken.wall_ms,
            boot_us: u64::try_from(taken.wall_ms - BEGIN + 1_000 * HOUR).unwrap() * 1_000,
            prev_wall_ms: taken.prev_ms,
            begins_stretch: taken.begins,
            state: &taken.state,
            activity: &taken.activity,
        });
    }
    if let Some(covered_ms) = covered_ms {
        deriver.covered(covered_ms);
    }
    deriver.finish()
}

/// The tables after an upsert of each step.
#[derive(Debug, Default, PartialEq)]
pub(in crate::compact) struct Stored {
    pub(in crate::compact) usage: BTreeMap<(i64, NamespaceId), UsageRow>,
    pub(in crate::compact) hours: BTreeMap<(i64, NamespaceId), UsageRow>,
    pub(in crate::compact) owners: BTreeMap<i64, OwnerRow>,
    pub(in crate::compact) parts: Vec<GapPart>,
}

impl Stored {
    pub(in crate::compact) fn take(&mut self, derived: Derived) {
        for (table, rows) in [(&mut self.usage, derived.usage), (&mut self.hours, derived.usage_hour)] {
            for mut row in rows {
                let key = (row.slot_ms, row.namespace);
                if let Some(there) = table.get(&key) {
                    for (used, there) in row.used.iter_mut().zip(there.used) {
                        used.most = used.most.max(there.most);
                    }
                }
                table.insert(key, row);
            }
        }
        for row in derived.owners {
            let row = match self.owners.remove(&row.slot_ms) {
                Some(there) => merge(there, row),
                None => row,
            };
            self.owners.insert(row.slot_ms, row);
        }
        if let Some(end) = derived.stretch_end {
            let open = self.parts.iter_mut().filter(|p| p.to_wall_ms.is_none());
            open.for_each(|p| p.to_wall_ms = Some(end.to_wall_ms));
        }
        for end in derived.part_ends {
            let is_it = |p: &&mut GapPart| (p.namespace, p.kind, p.to_wall_ms) == (end.namespace, end.kind, None);
            self.parts.iter_mut().filter(is_it).for_each(|p| p.to_wall_ms = Some(end.to_wall_ms));
        }
        self.parts.extend(derived.parts);
    }
}

/// What one stretch says of each slot in which something changed: all that was in force in it, and what was last with the
/// wall time of the sample that read it. Written down slot by slot, from all samples at once.
fn slots<'v, V: PartialEq>(
    stretch: &'v [(i64, Option<V>)],
    covered_ms: i64,
    (length_ms, first_of): (i64, fn(Day) -> Day),
    also: &BTreeSet<i64>,
) -> BTreeMap<i64, (Vec<&'v V>, Option<&'v V>, i64)> {
    let slot = |ms: i64| ms.div_euclid(length_ms) * length_ms;
    let end_ms = stretch.last().unwrap().0.max(covered_ms);
    let changes = |i: &usize| stretch[*i].1.as_ref() != i.checked_sub(1).and_then(|b| stretch[b].1.as_ref());
    let changed: Vec<usize> = (0..stretch.len()).filter(changes).collect();
    let mut touched: BTreeSet<i64> = changed.iter().map(|i| slot(stretch[*i].0)).collect();
    touched.extend(also);
    let days = stretch[0].0.div_euclid(86_400_000)..=end_ms.div_euclid(86_400_000);
    let firsts = days.filter(|d| first_of(Day(i32::try_from(*d).unwrap())).0 == i32::try_from(*d).unwrap());
    touched.extend(firsts.map(|d| d * 86_400_000).filter(|ms| *ms > stretch[0].0 && *ms <= end_ms));
    let mut told = BTreeMap::new();
    for begin_ms in touched {
        let inside = |ms: i64| ms >= begin_ms && ms < begin_ms + length_ms;
        let mut in_force: Vec<&V> = stretch.iter().filter(|s| inside(s.0)).filter_map(|s| s.1.as_ref()).collect();
        if !stretch.iter().any(|s| s.0 == begin_ms)
            && let Some(before) = stretch.iter().rfind(|s| s.0 < begin_ms)
        {
            in_force.extend(before.1.as_ref());
        }
        let last = stretch.iter().rfind(|s| s.0 < begin_ms + length_ms).unwrap();
        let went = stretch.windows(2).any(|w| w[0].1.is_some() && w[1].1.is_none() && inside(w[1].0));
        if !in_force.is_empty() || went {
            let changed_ms = changed.iter().map(|i| stretch[*i].0).rfind(|ms| inside(*ms));
            let begun_ms = || stretch.iter().rfind(|s| s.0 <= begin_ms).map(|s| s.0);
            told.insert(begin_ms, (in_force, last.1.as_ref(), changed_ms.or_else(begun_ms).unwrap()));
        }
    }
    told
}

fn stretches(samples: &[Taken]) -> Vec<&[Taken]> {
    samples.chunk_by(|_, next| !next.begins).collect()
}

type Values = (bool, [(Option<u64>, Option<u64>); 5]);

fn naive_usage(samples: &[Taken], covered_ms: i64, step: Step) -> BTreeMap<(i64, NamespaceId), UsageRow> {
    let first_of = if step == Step::TenMinutes { Day::month } else { Day::year };
    let mut rows: BTreeMap<(i64, NamespaceId), UsageRow> = BTreeMap::new();
    let all = stretches(samples);
    for (number, stretch) in all.iter().enumerate() {
        let covered_ms = if number + 1 == all.len() { covered_ms } else { i64::MIN };
        for index in 0..2 {
            if let Some(last) = number.checked_sub(1).and_then(|before| all[before].last())
                && values(&last.state, id(index)).is_some()
                && values(&stretch[0].state, id(index)).is_none()
            {
                // It went in between.
                let slot_ms = last.wall_ms.max(stretch[0].wall_ms).div_euclid(step.length_ms()) * step.length_ms();
                let was = rows.get(&(slot_ms, id(index))).map(|row: &UsageRow| row.used).unwrap_or_default();
                let used = was.map(|used| Used { most: used.most, ..Used::default() });
                let row = UsageRow { host: HOST, namespace: id(index), slot_ms, own: index == 0, used };
                rows.insert((slot_ms, id(index)), row);
            }
            let values: Vec<(i64, Option<Values>)> =
                stretch.iter().map(|t| (t.wall_ms, values(&t.state, id(index)))).collect();
            let peaks = naive_peaks(stretch, &values, id(index), step);
            let also = peaks.keys().copied().collect();
            for (slot_ms, (in_force, last, _)) in slots(&values, covered_ms, (step.length_ms(), first_of), &also) {
                let key = (slot_ms, id(index));
                let was = rows.get(&key).map(|row: &UsageRow| row.used).unwrap_or_default();
                let used = std::array::from_fn(|r| {
                    let peak = peaks.get(&slot_ms).copied().filter(|_| r == 0);
                    let zero = peaks.get(&slot_ms).map(|_| 0).filter(|_| r == 1);
                    let most = in_force.iter().filter_map(|v| v.1[r].0).chain(peak).chain(zero).chain(was[r].most);
                    let (used, limit) = last.map(|v| v.1[r]).unwrap_or_default();
                    Used { last: used, most: most.max(), limit }
                });
                rows.insert(key, UsageRow { host: HOST, namespace: id(index), slot_ms, own: index == 0, used });
            }
        }
    }
    rows
}

fn values(state: &State, id: NamespaceId) -> Option<Values> {
    let (index, namespace) = state.namespaces.iter().enumerate().find(|(_, n)| n.id == id)?;
    let (t, l) = (namespace.totals.as_ref(), namespace.limits.as_ref());
    Some((
        index == 0,
        [
            (t.map(|t| t.sem_arrays), l.map(|l| l.semmni)),
            (t.map(|t| t.semaphores), l.map(|l| l.semmns)),
            (t.map(|t| t.shm_segments), l.map(|l| l.shmmni)),
            (t.map(|t| t.shm_pages), l.map(|l| l.shmall)),
            (t.map(|t| t.msg_queues), l.map(|l| l.msgmni)),
        ],
    ))
}

/// By slot, the highest peak traced in it of a namespace that is seen in it.
fn naive_peaks(stretch: &[Taken], values: &[(i64, Option<Values>)], id: NamespaceId, step: Step) -> BTreeMap<i64, u64> {
    let slot = |ms: i64| ms.div_euclid(step.length_ms()) * step.length_ms();
    let mut peaks = BTreeMap::new();
    for (i, taken) in stretch.iter().enumerate() {
        for peak in taken.activity.peaks.iter().filter(|p| p.namespace == id) {
            let at_ms = i64::try_from(peak.boot_us / 1_000).unwrap() + BEGIN - 1_000 * HOUR;
            let at_ms = i.checked_sub(1).map_or(taken.wall_ms, |before| at_ms.max(stretch[before].wall_ms));
            let seen = if slot(at_ms) == slot(taken.wall_ms) { &values[i].1 } else { &values[i - 1].1 };
            if seen.is_some() {
                let most = peaks.entry(slot(at_ms)).or_insert(0);
                *most = peak.sem_arrays.max(*most);
            }
        }
    }
    peaks
}

/// What one sample says of arrays by namespace and uid; `None` = the list is not known.
type Holding = BTreeMap<NamespaceId, Option<BTreeMap<u32, u64>>>;

fn naive_owners(samples: &[Taken], covered_ms: i64) -> BTreeMap<i64, OwnerRow> {
    let holding = |state: &State| -> Holding {
        let of = |n: &Namespace| {
            let arrays = n.sem.as_ref().filter(|_| n.left_out.sem == 0 && n.unreadable.is_empty())?;
            let mut counts = BTreeMap::new();
            arrays.iter().for_each(|a| *counts.entry(a.owner.uid).or_insert(0) += 1);
            Some(counts)
        };
        let lists = state.namespaces.iter().map(|n| (n.id, of(n)));
        lists.filter(|(_, list)| list.as_ref().is_none_or(|counts| !counts.is_empty())).collect()
    };
    let mut rows: BTreeMap<i64, OwnerRow> = BTreeMap::new();
    let all = stretches(samples);
    for (number, stretch) in all.iter().enumerate() {
        let covered_ms = if number + 1 == all.len() { covered_ms } else { i64::MIN };
        let held: Vec<_> = stretch.iter().map(|t| (t.wall_ms, Some(holding(&t.state)))).collect();
        for (slot_ms, (in_force, last, wall_ms)) in slots(&held, covered_ms, (HOUR, Day::month), &BTreeSet::new()) {
            let (last, was) = (last.unwrap(), rows.remove(&slot_ms));
            let mut most: BTreeMap<(NamespaceId, u32), u64> = BTreeMap::new();
            for (namespace, counts) in in_force.iter().flat_map(|h| h.iter()) {
                for (uid, count) in counts.iter().flatten() {
                    let most = most.entry((*namespace, *uid)).or_default();
                    *most = (*most).max(*count);
                }
            }
            for (key, held) in was.iter().flat_map(|row| &row.owners) {
                let most = most.entry((key.namespace, key.uid)).or_default();
                *most = (*most).max(held.most);
            }
            let owners = most.into_iter().map(|((namespace, uid), most)| {
                let list = last.get(&namespace);
                let count = match list {
                    Some(None) => None,
                    list => Some(list.into_iter().flatten().flatten().find(|(u, _)| **u == uid).map_or(0, |(_, n)| *n)),
                };
                let now = count.map(|objects| Held { objects, semaphores: 2 * objects, ..Held::default() });
                (OwnerKey { namespace, kind: Kind::Sem, uid, comm: None }, OwnerHeld { user: None, now, most })
            });
            let unknown = last.iter().filter(|(_, list)| list.is_none()).map(|(n, _)| (*n, Kind::Sem)).collect();
            let row = OwnerRow {
                host: HOST,
                slot_ms,
                wall_ms,
                boot_id: State::default().boot_id,
                own: Some(id(0)),
                owners: owners.collect(),
                unknown,
                cut: false,
            };
            rows.insert(slot_ms, row);
        }
    }
    rows
}

fn naive_parts(samples: &[Taken]) -> BTreeSet<(u64, NamespaceId, i64, Option<i64>)> {
    let mut parts = BTreeSet::new();
    let mut seq = 0;
    let all = stretches(samples);
    for (number, stretch) in all.iter().enumerate() {
        for index in 0..2 {
            let list = |i: usize| stretch[i].state.namespaces.iter().find(|n| n.id == id(index));
            let lacks = |i: usize| list(i).is_some_and(|n| n.sem.is_none());
            for i in (0..stretch.len()).filter(|i| lacks(*i) && (*i == 0 || !lacks(*i - 1))) {
                let was_read = i > 0 && list(i - 1).is_some();
                let from_ms = if was_read { stretch[i].prev_ms.unwrap() } else { stretch[i].wall_ms };
                let again = (i..stretch.len()).find(|j| !lacks(*j)).map(|j| stretch[j].wall_ms);
                let end = all.get(number + 1).and_then(|next| next[0].prev_ms);
                parts.insert((seq + u64::try_from(i).unwrap(), id(index), from_ms, again.or(end)));
            }
        }
        seq += u64::try_from(stretch.len()).unwrap();
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_derived_is_what_all_samples_say_of_each_slot(world in world(), more_ms in 0..100 * 24 * HOUR) {
        let samples = taken(&world);
        let covered_ms = samples.last().unwrap().wall_ms + more_ms;
        let mut stored = Stored::default();
        stored.take(derive(HOST, &samples, (0, samples.len()), Some(covered_ms)));
        prop_assert_eq!(&stored.usage, &naive_usage(&samples, covered_ms, Step::TenMinutes));
        prop_assert_eq!(&stored.hours, &naive_usage(&samples, covered_ms, Step::Hour));
        prop_assert_eq!(&stored.owners, &naive_owners(&samples, covered_ms));
        let parts = stored.parts.iter().map(|p| (p.seq.0, p.namespace, p.from_wall_ms, p.to_wall_ms)).collect();
        prop_assert_eq!(naive_parts(&samples), parts);
        prop_assert!(stored.parts.iter().all(|p| p.detail == "EACCES" && p.kind == Kind::Sem));
    }

    #[test]
    fn any_cut_into_steps_stores_the_same(
        world in world(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0..=100_i64), 0..6),
    ) {
        let samples = taken(&world);
        let mut whole = Stored::default();
        whole.take(derive(HOST, &samples, (0, samples.len()), None));
        let mut cuts: BTreeMap<usize, i64> = cuts.iter().map(|(i, share)| (i.index(samples.len()), *share)).collect();
        cuts.insert(samples.len(), 0);
        let mut stored = Stored::default();
        let mut from = 0;
        for (to, share) in cuts.into_iter().filter(|(to, _)| *to > 0) {
            let last_ms = samples[to - 1].wall_ms;
            let next_ms = samples.get(to).filter(|next| !next.begins).map_or(last_ms, |next| next.wall_ms);
            // Heartbeats end before the next sample.
            let covered_ms = last_ms + (next_ms - last_ms - 1).max(0) * share / 100;
            stored.take(derive(HOST, &samples, (from, to), Some(covered_ms)));
            from = to;
        }
        prop_assert_eq!(stored, whole);
    }
}
