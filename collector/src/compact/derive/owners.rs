//! Who held what, by the hour.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{BootId, NamespaceId, State};
use highwater_ipc::who::Grade;

use super::{Sample, baseline, slot_of, was_in_force};
use crate::host::HostId;
use crate::query::owners::{Owner, is_known, of_place};
use crate::store::day::Day;
use crate::store::owner_usage::{Held, OwnerHeld, OwnerKey, OwnerRow};
use crate::store::usage::Step;

/// What one state says of its owners.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holders {
    boot_id: BootId,
    own: Option<NamespaceId>,
    /// Each with what it holds; the biggest, at most [`OwnerRow::MAX_OWNERS`].
    owners: BTreeMap<OwnerKey, OwnerHeld>,
    unknown: BTreeSet<(NamespaceId, Kind)>,
    cut: bool,
}

impl Holders {
    fn of(state: &State) -> Self {
        let mut holders = Self {
            boot_id: state.boot_id,
            own: state.namespaces.first().map(|n| n.id),
            owners: BTreeMap::new(),
            unknown: BTreeSet::new(),
            cut: false,
        };
        for namespace in &state.namespaces {
            for kind in Kind::ALL {
                if is_known(namespace, kind) {
                    let owners = of_place(namespace.id, kind, (None, Some(namespace)), (state, state));
                    holders.owners.extend(owners.into_iter().map(entry));
                } else {
                    holders.unknown.insert((namespace.id, kind));
                }
            }
            // Not once at the end: 100,000 namespaces may hold much together.
            holders.cut |= cut(&mut holders.owners, 2 * OwnerRow::MAX_OWNERS);
        }
        holders.cut |= cut(&mut holders.owners, OwnerRow::MAX_OWNERS) | cut_lists(&mut holders.unknown);
        holders
    }
}

fn entry(owner: Owner) -> (OwnerKey, OwnerHeld) {
    let orphans: usize = owner.orphans.values().map(Vec::len).sum();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let certain = count(owner.orphans(Grade::Certain).len());
    let (objects, orphans) = (owner.after.objects, count(orphans));
    let now = Held { objects, semaphores: owner.after.semaphores, bytes: owner.after.bytes, orphans, certain };
    let key = OwnerKey { namespace: owner.namespace, kind: owner.kind, uid: owner.uid, comm: owner.comm };
    (key, OwnerHeld { user: owner.user, now: Some(now), most: objects })
}

/// Keeps the owners that held most, if there are more than `most`; says whether there were.
fn cut(owners: &mut BTreeMap<OwnerKey, OwnerHeld>, most: usize) -> bool {
    if owners.len() <= most {
        return false;
    }
    let mut all: Vec<_> = std::mem::take(owners).into_iter().collect();
    all.sort_by_key(|(_, held)| std::cmp::Reverse(held.most));
    all.truncate(OwnerRow::MAX_OWNERS);
    *owners = all.into_iter().collect();
    true
}

fn cut_lists(lists: &mut BTreeSet<(NamespaceId, Kind)>) -> bool {
    let too_many = lists.len() > OwnerRow::MAX_UNKNOWN;
    while lists.len() > OwnerRow::MAX_UNKNOWN {
        lists.pop_last();
    }
    too_many
}

/// Rows by hour.
#[derive(Clone, Debug)]
pub(super) struct Owners {
    host: HostId,
    /// What is in force, and the wall time of the last sample that read it.
    in_force: Option<(Holders, i64)>,
    rows: BTreeMap<i64, OwnerRow>,
}

impl Owners {
    pub(super) fn new(host: HostId) -> Self {
        Self { host, in_force: None, rows: BTreeMap::new() }
    }

    pub(super) fn resume(&mut self, state: &State, wall_ms: i64) {
        self.in_force = Some((Holders::of(state), wall_ms));
    }

    /// Takes a sample; `since_ms` is the wall time of the one before it in its stretch.
    pub(super) fn sample(&mut self, since_ms: Option<i64>, sample: &Sample<'_>) {
        if let Some(since_ms) = since_ms {
            self.reach(since_ms, sample.wall_ms.saturating_sub(1));
        } else {
            self.in_force = None;
        }
        let now = Holders::of(sample.state);
        let before = self.in_force.take();
        let slot_ms = slot_of(sample.wall_ms, Step::Hour.length_ms());
        // A month that begins with this very sample begins with what it reads.
        let begins = since_ms.is_some_and(|since_ms| {
            let just_before = since_ms.max(sample.wall_ms.saturating_sub(1));
            baseline::between(just_before, sample.wall_ms, Day::month).next().is_some()
        });
        if begins || before.as_ref().is_none_or(|(before, _)| *before != now) {
            let lasted = since_ms.is_some_and(|since_ms| was_in_force(slot_ms, since_ms, sample.wall_ms));
            if let Some((before, wall_ms)) = before.as_ref().filter(|_| lasted) {
                self.touch(slot_ms, before, *wall_ms);
            }
            self.touch(slot_ms, &now, sample.wall_ms);
        }
        self.in_force = Some((now, sample.wall_ms));
    }

    /// What is in force lasts until `until_ms`: baselines of the months that begin up to then.
    pub(super) fn reach(&mut self, since_ms: i64, until_ms: i64) {
        let Some((holders, wall_ms)) = self.in_force.take() else { return };
        for slot_ms in baseline::between(since_ms, until_ms, Day::month) {
            self.touch(slot_ms, &holders, wall_ms);
        }
        self.in_force = Some((holders, wall_ms));
    }

    fn touch(&mut self, slot_ms: i64, holders: &Holders, wall_ms: i64) {
        let row = OwnerRow {
            host: self.host,
            slot_ms,
            wall_ms,
            boot_id: holders.boot_id,
            own: holders.own,
            owners: holders.owners.clone(),
            unknown: holders.unknown.clone(),
            cut: holders.cut,
        };
        let row = match self.rows.remove(&slot_ms) {
            Some(older) => merge(older, row),
            None => row,
        };
        self.rows.insert(slot_ms, row);
    }

    pub(super) fn finish(self) -> Vec<OwnerRow> {
        self.rows.into_values().collect()
    }
}

/// One row of two of the same hour: what is held now is the newer one's, the most is the higher of both. Of another boot
/// only the host's own namespace is the same place.
pub fn merge(older: OwnerRow, newer: OwnerRow) -> OwnerRow {
    let mut merged = newer;
    let is_whole = !merged.cut;
    for (mut key, held) in older.owners {
        if older.boot_id != merged.boot_id {
            let (Some(own), true) = (merged.own, Some(key.namespace) == older.own) else { continue };
            key.namespace = own;
        }
        // Who is not in a list that is known holds nothing any more.
        let known = is_whole && !merged.unknown.contains(&(key.namespace, key.kind));
        let now = known.then(Held::default);
        let entry = merged.owners.entry(key).or_insert(OwnerHeld { user: held.user, now, most: 0 });
        entry.most = entry.most.max(held.most);
    }
    merged.cut |= cut(&mut merged.owners, OwnerRow::MAX_OWNERS);
    merged
}
