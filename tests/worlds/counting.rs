//! Naive answers to `diff` and `blame`: each object is followed through every sample, each owner's objects are counted.

use std::collections::{BTreeMap, BTreeSet};

use highwater::query::change::AnyObject;
use highwater_ipc::availability::SysvipcState;
use highwater_ipc::limits::Limits;
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::who::Grade;

use crate::truth::Truth;

/// One object that differs: where, of which kind, its id, as it was and as it is.
pub(crate) type Change = (NamespaceId, Kind, i32, Option<AnyObject>, Option<AnyObject>);

/// Objects, semaphores and bytes.
pub(crate) type Sums = (u64, u64, u64);

/// Sums of the kinds and uids that differ, before and after.
pub(crate) type OwnerSums = BTreeMap<(NamespaceId, Kind, u32), (Sums, Sums)>;

/// What an owner (place, kind, uid, comm) held and holds, and its orphans with their bytes.
pub(crate) type Owners =
    BTreeMap<(NamespaceId, Kind, u32, Option<Vec<u8>>), (Sums, Sums, BTreeMap<Grade, Vec<i32>>, u64)>;

fn find(state: &State, id: NamespaceId) -> Option<&Namespace> {
    state.namespaces.iter().find(|n| n.id == id)
}

/// The rows of a list; `None` = it could not be read.
fn rows(namespace: &Namespace, kind: Kind) -> Option<Vec<AnyObject>> {
    match kind {
        Kind::Sem => namespace.sem.as_ref().map(|l| l.iter().map(|o| AnyObject::Sem(*o)).collect()),
        Kind::Shm => namespace.shm.as_ref().map(|l| l.iter().map(|o| AnyObject::Shm(*o)).collect()),
        Kind::Msg => namespace.msg.as_ref().map(|l| l.iter().map(|o| AnyObject::Msg(*o)).collect()),
    }
}

/// The rows of a list of a namespace that may not be there.
pub(crate) fn listed(namespace: Option<&Namespace>, kind: Kind) -> Vec<AnyObject> {
    namespace.and_then(|n| rows(n, kind)).unwrap_or_default()
}

/// Whether a list was read and lacks nothing; that of a namespace that is not there does not.
fn whole(namespace: Option<&Namespace>, kind: Kind) -> bool {
    let Some(namespace) = namespace else { return true };
    let left_out = match kind {
        Kind::Sem => namespace.left_out.sem,
        Kind::Shm => namespace.left_out.shm,
        Kind::Msg => namespace.left_out.msg,
    };
    let file = format!("/proc/sysvipc/{}", kind.name());
    let skipped = namespace.unreadable.iter().any(|part| part.source.as_bytes() == file.as_bytes());
    rows(namespace, kind).is_some() && left_out == 0 && !skipped
}

/// Whether two rows of one id can be one object: what creation fixes is the same.
fn same(a: &AnyObject, b: &AnyObject) -> bool {
    match (a, b) {
        (AnyObject::Sem(a), AnyObject::Sem(b)) => {
            (a.key, a.nsems, a.owner.cuid, a.owner.cgid) == (b.key, b.nsems, b.owner.cuid, b.owner.cgid)
        }
        (AnyObject::Shm(a), AnyObject::Shm(b)) => {
            (a.size, a.cpid, a.owner.cuid, a.owner.cgid) == (b.size, b.cpid, b.owner.cuid, b.owner.cgid)
        }
        (AnyObject::Msg(a), AnyObject::Msg(b)) => {
            (a.key, a.owner.cuid, a.owner.cgid) == (b.key, b.owner.cuid, b.owner.cgid)
        }
        _ => false,
    }
}

/// Whether an object of one sample is still there in another, later one.
fn lives(truth: &Truth, (first, last): (usize, usize), place: NamespaceId, object: &AnyObject) -> bool {
    let mut known = *object;
    let Some(mut boot_id) = truth.entries[first].snapshot().map(|s| s.state.boot_id) else { return false };
    for snapshot in truth.entries[first + 1..=last].iter().filter_map(|e| e.snapshot()) {
        let state = &snapshot.state;
        let Some(namespace) = find(state, place).filter(|_| state.boot_id == boot_id) else { return false };
        boot_id = state.boot_id;
        let Some(list) = rows(namespace, object.kind()) else { continue };
        match list.iter().find(|row| row.id() == object.id()) {
            Some(row) if same(row, &known) => known = *row,
            Some(_) => return false,
            None if whole(Some(namespace), object.kind()) => return false,
            None => {}
        }
    }
    true
}

fn places<'s>(a: &'s State, b: &'s State) -> BTreeSet<NamespaceId> {
    a.namespaces.iter().chain(&b.namespaces).map(|n| n.id).collect()
}

/// The objects that differ between two entries, the first of which is the earlier one; in order of their places.
pub(crate) fn changes(truth: &Truth, first: usize, last: usize) -> Vec<Change> {
    let (Some(a), Some(b)) = (truth.entries[first].snapshot(), truth.entries[last].snapshot()) else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    for place in places(&a.state, &b.state) {
        let (old, new) = (find(&a.state, place), find(&b.state, place));
        for kind in Kind::ALL {
            if !whole(old, kind) || new.is_some_and(|n| rows(n, kind).is_none()) {
                continue;
            }
            let later = listed(new, kind);
            let mut stayed = BTreeSet::new();
            for object in listed(old, kind) {
                let now = later.iter().find(|row| row.id() == object.id());
                if !lives(truth, (first, last), place, &object) {
                    changes.push((place, kind, object.id(), Some(object), None));
                    continue;
                }
                stayed.insert(object.id());
                if let Some(now) = now.filter(|now| **now != object) {
                    changes.push((place, kind, object.id(), Some(object), Some(*now)));
                }
            }
            for object in later.into_iter().filter(|row| !stayed.contains(&row.id())) {
                changes.push((place, kind, object.id(), None, Some(object)));
            }
        }
    }
    changes.sort_by_key(|(place, kind, id, before, _)| (*place, *kind, *id, before.is_none()));
    changes
}

fn values(limits: &Limits) -> [u64; 12] {
    let Limits { semmsl, semmns, semopm, semmni, semvmx, shmmax, shmall, shmmni, shmmin, msgmax, msgmnb, msgmni } =
        *limits;
    [semmsl, semmns, semopm, semmni, semvmx, shmmax, shmall, shmmni, shmmin, msgmax, msgmnb, msgmni]
}

const LIMITS: [&str; 12] = [
    "SEMMSL", "SEMMNS", "SEMOPM", "SEMMNI", "SEMVMX", "SHMMAX", "SHMALL", "SHMMNI", "SHMMIN", "MSGMAX", "MSGMNB",
    "MSGMNI",
];

/// The limits that differ: place, name, before and after. Over a boot only the host's own namespace is the same place.
pub(crate) fn limits(a: &State, b: &State) -> BTreeSet<(NamespaceId, &'static str, u64, u64)> {
    let mut changes = BTreeSet::new();
    for (index, new) in b.namespaces.iter().enumerate() {
        let old = if a.boot_id == b.boot_id { find(a, new.id) } else { a.namespaces.first().filter(|_| index == 0) };
        let (Some(old), Some(now)) = (old.and_then(|n| n.limits), new.limits) else { continue };
        for (name, (old, now)) in LIMITS.into_iter().zip(values(&old).into_iter().zip(values(&now))) {
            if old != now {
                changes.insert((new.id, name, old, now));
            }
        }
    }
    changes
}

fn add(sums: &mut Sums, object: &AnyObject) {
    let (semaphores, bytes) = match object {
        AnyObject::Sem(array) => (u64::from(array.nsems), 0),
        AnyObject::Shm(segment) => (0, segment.size),
        AnyObject::Msg(queue) => (0, queue.cbytes),
    };
    *sums = (sums.0 + 1, sums.1 + semaphores, sums.2.saturating_add(bytes));
}

/// Whose an object is.
pub(crate) fn uid(object: &AnyObject) -> u32 {
    match object {
        AnyObject::Sem(o) => o.owner.uid,
        AnyObject::Shm(o) => o.owner.uid,
        AnyObject::Msg(o) => o.owner.uid,
    }
}

/// The lists that one of two states does not know whole.
pub(crate) fn not_whole(a: &State, b: &State) -> BTreeSet<(NamespaceId, Kind)> {
    let lists = places(a, b).into_iter().flat_map(|place| Kind::ALL.map(|kind| (place, kind)));
    let knows = |state: &State, place, kind| {
        state.availability.state == SysvipcState::Absent || whole(find(state, place), kind)
    };
    lists.filter(|(place, kind)| !knows(a, *place, *kind) || !knows(b, *place, *kind)).collect()
}

/// Whose sums differ, where both lists are whole.
pub(crate) fn sums(a: &State, b: &State) -> OwnerSums {
    let mut sums = OwnerSums::new();
    for place in places(a, b) {
        let (old, new) = (find(a, place), find(b, place));
        for kind in Kind::ALL.into_iter().filter(|kind| whole(old, *kind) && whole(new, *kind)) {
            for object in listed(old, kind) {
                add(&mut sums.entry((place, kind, uid(&object))).or_default().0, &object);
            }
            for object in listed(new, kind) {
                add(&mut sums.entry((place, kind, uid(&object))).or_default().1, &object);
            }
        }
    }
    sums.retain(|_, (before, after)| before != after);
    sums
}

/// One place as it was and as it is.
#[derive(Clone, Copy)]
struct Pair<'s> {
    old: Option<&'s Namespace>,
    new: Option<&'s Namespace>,
    kind: Kind,
}

type Comm = Option<HostText>;

impl Pair<'_> {
    fn known(namespace: Option<&Namespace>, object: &AnyObject) -> Comm {
        namespace?.who.as_ref()?.objects.get(&(object.kind(), object.id()))?.comm.clone()
    }

    fn running(namespace: Option<&Namespace>, uid: u32) -> BTreeSet<Vec<u8>> {
        let comms = namespace.and_then(|n| n.who.as_ref()).and_then(|who| who.comms.get(&uid));
        comms.into_iter().flatten().map(|comm| comm.as_bytes().to_vec()).collect()
    }

    /// The only comm of a uid: of what runs, else of what it made, else of what ran.
    fn only(&self, of: u32) -> Comm {
        let mine = |object: &AnyObject| uid(object) == of;
        let made = listed(self.new, self.kind).into_iter().filter(mine);
        let made = made.filter_map(|object| Self::known(self.new, &object)).map(|comm| comm.as_bytes().to_vec());
        let tiers = [Self::running(self.new, of), made.collect(), Self::running(self.old, of)];
        let comms = tiers.into_iter().find(|comms| !comms.is_empty())?;
        let mut comms = comms.iter();
        let first = comms.next()?;
        comms.next().is_none().then(|| HostText::cut(first))
    }

    fn comm(&self, object: &AnyObject, namespace: Option<&Namespace>) -> Comm {
        Self::known(namespace, object).or_else(|| self.only(uid(object)))
    }
}

/// Who holds what at the second of two states and held at the first, and the lists of which nothing is said.
pub(crate) fn owners(a: &State, b: &State) -> (Owners, BTreeSet<(NamespaceId, Kind)>) {
    let (mut owners, mut unknown) = (Owners::new(), BTreeSet::new());
    let rebooted = a.boot_id != b.boot_id;
    let own = (a.namespaces.first(), b.namespaces.first());
    for place in places(a, b) {
        let new = find(b, place);
        let old = match (rebooted, own) {
            (false, _) => find(a, place),
            (true, (first, Some(now))) if now.id == place => first,
            _ => None,
        };
        if old.is_none() && new.is_none() {
            continue;
        }
        if rebooted && new.is_none() {
            continue;
        }
        for kind in Kind::ALL {
            if whole(old, kind) && whole(new, kind) {
                count(&mut owners, place, Pair { old, new, kind });
            } else {
                unknown.insert((place, kind));
            }
        }
    }
    (owners, unknown)
}

fn count(owners: &mut Owners, place: NamespaceId, pair: Pair<'_>) {
    let (before, after) = (listed(pair.old, pair.kind), listed(pair.new, pair.kind));
    let other = |rows: &[AnyObject], object: &AnyObject| rows.iter().find(|row| row.id() == object.id()).copied();
    let key =
        |object: &AnyObject, comm: Comm| (place, pair.kind, uid(object), comm.map(|comm| comm.as_bytes().to_vec()));
    for object in &before {
        let still = other(&after, object).filter(|now| same(now, object));
        let comm = still.and_then(|now| pair.comm(&now, pair.new)).or_else(|| pair.comm(object, pair.old));
        add(&mut owners.entry(key(object, comm)).or_default().0, object);
    }
    for object in &after {
        let then = other(&before, object).filter(|then| same(then, object));
        let comm = pair.comm(object, pair.new).or_else(|| then.and_then(|then| pair.comm(&then, pair.old)));
        let owner = owners.entry(key(object, comm)).or_default();
        add(&mut owner.1, object);
        let who = pair.new.and_then(|n| n.who.as_ref());
        if let Some(orphan) = who.and_then(|w| w.objects.get(&(pair.kind, object.id()))?.orphan.as_ref()) {
            owner.2.entry(orphan.grade).or_default().push(object.id());
            let mut bytes = (0, 0, owner.3);
            add(&mut bytes, object);
            owner.3 = bytes.2;
        }
    }
}
