//! Owners: who holds the objects of one kind in one namespace. Pure.
//!
//! An owner is a uid and a comm in one namespace. The kernel keeps the uid; the comm is what the agent learned of an
//! object's maker or last user while that lived, else the only comm that the uid's processes have. `blame` compares two
//! states by this, and compaction keeps the owners of each hour by it, so that both mean the same.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::object::{Kind, Object as _};
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Grade, Known, Who};

use super::change::{AnyObject, is_whole};
use super::diff::Sum;

/// One owner's objects of one kind in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Where.
    pub namespace: NamespaceId,
    /// What that place is called, as claimed.
    pub namespace_name: Option<HostText>,
    /// Of which kind.
    pub kind: Kind,
    /// Whose.
    pub uid: u32,
    /// That uid's name.
    pub user: Option<HostText>,
    /// The program's comm; `None` = not known, or the uid runs several.
    pub comm: Option<HostText>,
    /// What it held at the first instant.
    pub before: Sum,
    /// What it held at the second.
    pub after: Sum,
    /// Ids of what nobody seems to hold any more at the second instant, by grade in the kernel's order.
    pub orphans: BTreeMap<Grade, Vec<i32>>,
    /// Bytes in those.
    pub orphan_bytes: u64,
}

impl Owner {
    /// How many more objects it holds.
    pub fn net(&self) -> i64 {
        signed(self.after.objects, self.before.objects)
    }

    /// How many more semaphores.
    pub fn semaphores_net(&self) -> i64 {
        signed(self.after.semaphores, self.before.semaphores)
    }

    /// How many more bytes.
    pub fn bytes_net(&self) -> i128 {
        i128::from(self.after.bytes) - i128::from(self.before.bytes)
    }

    /// The orphans of one grade.
    pub fn orphans(&self, grade: Grade) -> &[i32] {
        self.orphans.get(&grade).map_or(&[], Vec::as_slice)
    }
}

fn signed(after: u64, before: u64) -> i64 {
    let net = i128::from(after) - i128::from(before);
    i64::try_from(net).unwrap_or(if net < 0 { i64::MIN } else { i64::MAX })
}

/// Whether all objects of that kind are known: the list was read, and no row of it is missing.
pub fn is_known(namespace: &Namespace, kind: Kind) -> bool {
    namespace.has(kind) && is_whole(namespace, kind)
}

/// The owners of one kind of objects in one namespace as it was and as it is (`None` = it was or is not there), by uid
/// and comm. The states name the users.
pub fn of_place(
    id: NamespaceId,
    kind: Kind,
    (old, new): (Option<&Namespace>, Option<&Namespace>),
    (before, after): (&State, &State),
) -> Vec<Owner> {
    let (old_rows, new_rows) = (rows(old, kind), rows(new, kind));
    let comms = Comms::new(old, new, &new_rows);
    let mut found: BTreeMap<(u32, Option<HostText>), Owner> = BTreeMap::new();
    let mut entry = |uid: u32, comm: Option<HostText>, add: &mut dyn FnMut(&mut Owner)| {
        let user = after.users.get(&uid).or_else(|| before.users.get(&uid)).cloned();
        add(found.entry((uid, comm.clone())).or_insert_with(|| Owner {
            namespace: id,
            namespace_name: new.or(old).and_then(|n| n.name.clone()),
            kind,
            uid,
            user,
            comm,
            before: Sum::default(),
            after: Sum::default(),
            orphans: BTreeMap::new(),
            orphan_bytes: 0,
        }));
    };
    // Only what is compared is looked up: most callers have one state, and it may hold 100,000 objects.
    let compared = if old_rows.is_empty() { &[][..] } else { &new_rows[..] };
    let later: BTreeMap<i32, &AnyObject> = compared.iter().map(|o| (o.id(), o)).collect();
    let earlier: BTreeMap<i32, &AnyObject> = old_rows.iter().map(|o| (o.id(), o)).collect();
    for object in &old_rows {
        // One that is still there has one maker, whenever that was learned.
        let still = later.get(&object.id()).copied().filter(|now| is_same(now, object));
        let comm = still.and_then(|now| comms.of(now, new)).or_else(|| comms.of(object, old));
        entry(object.owner().uid, comm, &mut |owner| owner.before.add(object));
    }
    for object in &new_rows {
        let then = earlier.get(&object.id()).copied().filter(|then| is_same(object, then));
        let comm = comms.of(object, new).or_else(|| then.and_then(|then| comms.of(then, old)));
        entry(object.owner().uid, comm, &mut |owner| {
            owner.after.add(object);
            if let Some(orphan) = known(new, object).and_then(|k| k.orphan.as_ref()) {
                owner.orphans.entry(orphan.grade).or_default().push(object.id());
                owner.orphan_bytes = owner.orphan_bytes.saturating_add(object.bytes());
            }
        });
    }
    found.into_values().collect()
}

/// Which program an object belongs to.
struct Comms<'s> {
    old: Option<&'s Who>,
    new: Option<&'s Who>,
    /// By uid, the comms that are known of its objects now.
    made: BTreeMap<u32, BTreeSet<&'s HostText>>,
}

impl<'s> Comms<'s> {
    fn new(old: Option<&'s Namespace>, new: Option<&'s Namespace>, rows: &[AnyObject]) -> Self {
        let mut made: BTreeMap<u32, BTreeSet<&HostText>> = BTreeMap::new();
        for object in rows {
            if let Some(comm) = known(new, object).and_then(|k| k.comm.as_ref()) {
                made.entry(object.owner().uid).or_default().insert(comm);
            }
        }
        Self { old: old.and_then(|n| n.who.as_ref()), new: new.and_then(|n| n.who.as_ref()), made }
    }

    /// The comm known of that object in that state of its namespace, else its uid's only one.
    fn of(&self, object: &AnyObject, namespace: Option<&Namespace>) -> Option<HostText> {
        let known = known(namespace, object).and_then(|k| k.comm.clone());
        known.or_else(|| self.only_one(object.owner().uid))
    }

    /// The comm of all processes of a uid now; if none lives, of all its objects; if nothing is known of those, of its
    /// processes as they were.
    fn only_one(&self, uid: u32) -> Option<HostText> {
        let running = |who: Option<&'s Who>| who.and_then(|w| w.comms.get(&uid)).filter(|comms| !comms.is_empty());
        match (running(self.new), self.made.get(&uid)) {
            (Some(comms), _) => only(comms.iter()),
            (None, Some(made)) => only(made.iter().copied()),
            (None, None) => running(self.old).and_then(|comms| only(comms.iter())),
        }
    }
}

fn only<'t>(mut comms: impl Iterator<Item = &'t HostText>) -> Option<HostText> {
    match (comms.next(), comms.next()) {
        (Some(one), None) => Some(one.clone()),
        _ => None,
    }
}

fn known<'s>(namespace: Option<&'s Namespace>, object: &AnyObject) -> Option<&'s Known> {
    namespace?.who.as_ref()?.objects.get(&(object.kind(), object.id()))
}

fn is_same(a: &AnyObject, b: &AnyObject) -> bool {
    match (a, b) {
        (AnyObject::Sem(a), AnyObject::Sem(b)) => a.is_same_as(b),
        (AnyObject::Shm(a), AnyObject::Shm(b)) => a.is_same_as(b),
        (AnyObject::Msg(a), AnyObject::Msg(b)) => a.is_same_as(b),
        _ => false,
    }
}

fn rows(namespace: Option<&Namespace>, kind: Kind) -> Vec<AnyObject> {
    let Some(namespace) = namespace else { return Vec::new() };
    match kind {
        Kind::Sem => namespace.sem.iter().flatten().map(|o| AnyObject::Sem(*o)).collect(),
        Kind::Shm => namespace.shm.iter().flatten().map(|o| AnyObject::Shm(*o)).collect(),
        Kind::Msg => namespace.msg.iter().flatten().map(|o| AnyObject::Msg(*o)).collect(),
    }
}
