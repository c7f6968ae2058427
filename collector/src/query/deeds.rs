//! Who did what between two samples, of what was traced. Pure.
//!
//! What was traced and what was sampled meet by namespace, kind and id: an act whose object came or went between two
//! samples puts a name to that. What is left of the acts is told by itself: calls that were refused, and objects that
//! came and went unseen. An act at or after the instant at which its sample began may be of an object that only the next
//! one shows or lacks, so it waits for that one; a namespace that is not read in every sample may take longer.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::activity::{Act, Activity, Actor, Did};
use highwater_ipc::object::{Kind, Object as _};
use highwater_ipc::snapshot::{Namespace, NamespaceId, Snapshot, State};

use super::change::{Change, What, is_whole};

/// What was found out of one sample's acts.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Who did each of the changes, where that was traced.
    pub by: Vec<Option<Actor>>,
    /// The acts that no change shows, in the order of their first call, and whether what they made is known to have come
    /// and gone; their count and ids are of what is left.
    pub rest: Vec<(Act, bool)>,
}

/// What is remembered of acts from sample to sample.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    /// Acts that the next sample may show.
    waiting: Vec<Open>,
    /// Who did what in namespaces that are not read in every sample.
    elsewhere: BTreeMap<(NamespaceId, Deed), Elsewhere>,
    /// Counts samples.
    sample: u64,
}

/// What a namespace that is not read in every sample may show later.
#[derive(Debug)]
struct Elsewhere {
    by: Actor,
    /// The sample that it was traced before.
    since: u64,
    /// The last sample that may show it.
    until: u64,
}

/// The most acts that are remembered of namespaces that are not read in every sample.
const MOST_ELSEWHERE: usize = 16_384;

/// The most samples for which an act of such a namespace is remembered.
const MOST_BEHIND: u64 = 1_000;

/// Whether it was made (else removed), the kind and the id.
type Deed = (bool, Kind, i32);

/// An act of which no sample has shown everything yet.
#[derive(Clone, Debug)]
struct Open {
    act: Act,
    /// Its ids that no change has shown yet.
    ids: Vec<i32>,
    /// Calls beyond its list of ids that surely no change has shown yet.
    unlisted: u64,
    /// Those that perhaps none has shown yet: as long as there are some, it may be whose next nameless change is.
    perhaps: u64,
    /// Whether it waited for this sample already.
    waited: bool,
}

impl Deeds {
    /// What the sample in which a walk begins leaves to the next one.
    pub(super) fn opening(activity: &Activity, snapshot: &Snapshot) -> Self {
        let mut this = Self::default();
        this.judge(activity, snapshot, &[]);
        // What that sample showed of them is not known here.
        this.waiting.iter_mut().for_each(|open| open.unlisted = 0);
        this
    }

    /// How many samples back it begins what is remembered of namespaces that are not read in every sample; 0 = nothing is.
    pub(super) fn behind(&self) -> u64 {
        let oldest = self.elsewhere.values().map(|deed| deed.since).min();
        oldest.map_or(0, |since| self.sample.saturating_sub(since).saturating_add(1))
    }

    /// Whether an act waits for the next sample.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Puts names to `changes`, which lead to `snapshot`.
    pub(super) fn judge(&mut self, activity: &Activity, snapshot: &Snapshot, changes: &[Change]) -> Judged {
        let mut judged = Judged { by: vec![None; changes.len()], rest: Vec::new() };
        self.sample = self.sample.saturating_add(1);
        if activity.acts.is_empty() && self.waiting.is_empty() && self.elsewhere.is_empty() {
            return judged;
        }
        let mut open: Vec<Open> = std::mem::take(&mut self.waiting);
        open.extend(activity.acts.iter().filter_map(Open::new));
        name_listed(&mut open, changes, &mut judged.by);
        name_unlisted(&mut open, (activity, &snapshot.state), changes, &mut judged.by);
        self.name_elsewhere(changes, &mut judged.by);
        let sample = self.sample;
        self.elsewhere.retain(|_, deed| deed.until > sample);
        judged.rest = self.leave(open, snapshot);
        let refused = activity.acts.iter().filter(|act| matches!(act.did, Did::Refused(_)));
        judged.rest.extend(refused.map(|act| (act.clone(), false)));
        judged.rest.sort_by_key(|(act, _)| act.first_us);
        judged
    }

    fn name_elsewhere(&mut self, changes: &[Change], by: &mut [Option<Actor>]) {
        for (change, by) in changes.iter().zip(by) {
            if let (None, Some(deed)) = (&by, deed(change)) {
                *by = self.elsewhere.remove(&(change.namespace, deed)).map(|deed| deed.by);
            }
        }
    }

    /// What no change has shown: kept for the next samples, or told.
    fn leave(&mut self, open: Vec<Open>, snapshot: &Snapshot) -> Vec<(Act, bool)> {
        let present = Present::new(&snapshot.state);
        let mut rest = Vec::new();
        let mut unseen: BTreeSet<(Option<NamespaceId>, Kind, i32)> = BTreeSet::new();
        let mut makers: BTreeSet<(Option<NamespaceId>, Kind, i32)> = BTreeSet::new();
        let (made, removed): (Vec<Open>, Vec<Open>) = open.into_iter().partition(|o| o.act.did == Did::Created);
        for mut open in made {
            open.ids.retain(|id| !present.has(open.act.namespace, open.act.kind, *id));
            let Some((act, transient)) = self.left(open, snapshot) else { continue };
            unseen.extend(act.ids.iter().map(|id| (act.namespace, act.kind, *id)));
            makers.insert((act.namespace, act.kind, act.by.pid));
            rest.push((act, transient));
        }
        for mut open in removed {
            // One that is still there was removed after it was read. Of one that no sample shows, its maker's word is
            // enough; if somebody else removed it, that is worth telling. Of what it does not list nothing is told.
            let (namespace, kind, pid) = (open.act.namespace, open.act.kind, open.act.by.pid);
            open.unlisted = 0;
            let place = find(&snapshot.state, namespace);
            let waits = open.is_late(snapshot) || place.is_some_and(|n| n.skipped > 0);
            let by_maker = makers.contains(&(namespace, kind, pid));
            let is_known = namespace.is_none() || place.is_some();
            let still = |id: &i32| waits && present.has(namespace, kind, *id);
            let told = |id: &i32| !by_maker && (!is_known || unseen.contains(&(namespace, kind, *id)));
            open.ids.retain(|id| still(id) || told(id));
            rest.extend(self.left(open, snapshot));
        }
        rest
    }

    /// What is left of one act, unless a later sample may show it.
    fn left(&mut self, open: Open, snapshot: &Snapshot) -> Option<(Act, bool)> {
        if open.ids.is_empty() && open.unlisted == 0 && (open.perhaps == 0 || open.waited) {
            return None;
        }
        let is_made = open.act.did == Did::Created;
        let namespace = find(&snapshot.state, open.act.namespace);
        if let Some(namespace) = namespace.filter(|n| n.skipped > 0) {
            // Twice the samples to its next visit: an id that comes back much later is another object.
            let (since, visits) = (self.sample, u64::from(namespace.skipped).saturating_add(1).saturating_mul(2));
            let until = since.saturating_add(visits.min(MOST_BEHIND));
            for id in open.ids {
                if self.elsewhere.len() < MOST_ELSEWHERE {
                    let by = open.act.by.clone();
                    self.elsewhere.insert((namespace.id, (is_made, open.act.kind, id)), Elsewhere { by, since, until });
                }
            }
            return None;
        }
        if open.is_late(snapshot) {
            self.waiting.push(Open { waited: true, ..open });
            return None;
        }
        if open.ids.is_empty() && open.unlisted == 0 {
            return None;
        }
        let whole = |n: &Namespace| n.has(open.act.kind) && is_whole(n, open.act.kind);
        let transient = match open.act.namespace {
            Some(_) => namespace.is_some_and(whole),
            None => snapshot.state.namespaces.iter().all(whole),
        };
        let listed = u64::try_from(open.ids.len()).unwrap_or(u64::MAX);
        let count = listed.saturating_add(open.unlisted);
        Some((Act { count, ids: open.ids, ..open.act }, transient))
    }
}

impl Open {
    fn new(act: &Act) -> Option<Self> {
        let listed = u64::try_from(act.ids.len()).unwrap_or(u64::MAX);
        let unlisted = act.count.saturating_sub(listed);
        let has_ids = matches!(act.did, Did::Created | Did::Removed);
        let (act, ids) = (act.clone(), act.ids.clone());
        has_ids.then_some(Self { act, ids, unlisted, perhaps: unlisted, waited: false })
    }

    fn is_made(&self) -> bool {
        self.act.did == Did::Created
    }

    /// Whether only the next sample can show all of it.
    fn is_late(&self, snapshot: &Snapshot) -> bool {
        self.act.last_us >= snapshot.at.boot_us && !self.waited
    }
}

/// What a change is, if it is that an object came or went.
fn deed(change: &Change) -> Option<Deed> {
    match &change.what {
        What::Created(object) => Some((true, object.kind(), object.id())),
        What::Removed(object) => Some((false, object.kind(), object.id())),
        _ => None,
    }
}

/// Changes whose id an act in that namespace lists. An act of a process that was gone before its namespace could be asked
/// is of the only change with that id, if it is the only such act.
fn name_listed(open: &mut [Open], changes: &[Change], by: &mut [Option<Actor>]) {
    let mut listing: BTreeMap<Deed, Vec<usize>> = BTreeMap::new();
    for (index, one) in open.iter().enumerate() {
        for id in &one.ids {
            listing.entry((one.is_made(), one.act.kind, *id)).or_default().push(index);
        }
    }
    let mut times: BTreeMap<Deed, usize> = BTreeMap::new();
    for deed in changes.iter().filter_map(deed) {
        *times.entry(deed).or_default() += 1;
    }
    for (change, by) in changes.iter().zip(by) {
        let Some(deed) = deed(change) else { continue };
        let listing = listing.get(&deed).map(Vec::as_slice).unwrap_or_default();
        let with = |namespace: Option<NamespaceId>| {
            let of_it = |index: &&usize| open.get(**index).is_some_and(|o| o.act.namespace == namespace);
            let found: Vec<usize> = listing.iter().filter(of_it).copied().collect();
            found
        };
        let known = with(Some(change.namespace));
        let found = match (known.last(), with(None).as_slice()) {
            (Some(index), _) => Some(*index),
            (None, [index]) if times.get(&deed) == Some(&1) => Some(*index),
            _ => None,
        };
        if let Some(one) = found.and_then(|index| open.get_mut(index)) {
            one.ids.retain(|id| *id != deed.2);
            *by = Some(one.act.by.clone());
        }
    }
}

/// Changes beyond the list of an act that made or removed more than it lists: its own, if nobody else can have done them.
/// An act of nobody knows where can have, and in a namespace that is not read in every sample one of long before.
fn name_unlisted(
    open: &mut [Open],
    (activity, state): (&Activity, &State),
    changes: &[Change],
    by: &mut [Option<Actor>],
) {
    let mut nameless: BTreeMap<(NamespaceId, bool, Kind), Vec<usize>> = BTreeMap::new();
    for (index, change) in changes.iter().enumerate() {
        if let (Some((made, kind, _)), Some(None)) = (deed(change), by.get(index)) {
            nameless.entry((change.namespace, made, kind)).or_default().push(index);
        }
    }
    for ((namespace, made, kind), indexes) in nameless {
        let of_it = |o: &&mut Open| {
            let here = o.act.namespace.is_none_or(|n| n == namespace);
            o.perhaps > 0 && o.is_made() == made && o.act.kind == kind && here
        };
        let mut candidates: Vec<&mut Open> = open.iter_mut().filter(of_it).collect();
        let left = u64::try_from(indexes.len()).unwrap_or(u64::MAX);
        if let ([one], 0, 0) = (candidates.as_mut_slice(), activity.lost, activity.more)
            && one.act.namespace.is_some()
            && left <= one.perhaps
            && find(state, Some(namespace)).is_none_or(|n| n.skipped == 0)
        {
            one.perhaps = one.perhaps.saturating_sub(left);
            for index in &indexes {
                if let Some(by) = by.get_mut(*index) {
                    *by = Some(one.act.by.clone());
                }
            }
        }
        // Whose they are is not known, so all are counted as each one's: better too few told to have come and gone. But each
        // one goes on as if none were its own: better too few named.
        for one in &mut candidates {
            one.unlisted = one.unlisted.saturating_sub(left);
        }
    }
}

fn find(state: &State, id: Option<NamespaceId>) -> Option<&Namespace> {
    state.namespaces.iter().find(|n| Some(n.id) == id)
}

/// The objects that a sample shows.
struct Present {
    at: BTreeSet<(NamespaceId, Kind, i32)>,
    anywhere: BTreeSet<(Kind, i32)>,
}

impl Present {
    fn new(state: &State) -> Self {
        let each = |n: &Namespace| -> Vec<(NamespaceId, Kind, i32)> {
            let sem = n.sem.iter().flatten().map(|o| (n.id, Kind::Sem, o.id()));
            let shm = n.shm.iter().flatten().map(|o| (n.id, Kind::Shm, o.id()));
            let msg = n.msg.iter().flatten().map(|o| (n.id, Kind::Msg, o.id()));
            sem.chain(shm).chain(msg).collect()
        };
        let at: BTreeSet<(NamespaceId, Kind, i32)> = state.namespaces.iter().flat_map(each).collect();
        Self { anywhere: at.iter().map(|(_, kind, id)| (*kind, *id)).collect(), at }
    }

    /// In that namespace; `None` = in any.
    fn has(&self, namespace: Option<NamespaceId>, kind: Kind, id: i32) -> bool {
        match namespace {
            Some(namespace) => self.at.contains(&(namespace, kind, id)),
            None => self.anywhere.contains(&(kind, id)),
        }
    }
}
