//! What can be asked of an object: its fields by name, and their values. Pure.

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::Namespace;
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Grade, Known};

use crate::query::change::AnyObject;

/// Kinds of objects, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u8);

impl Kinds {
    /// Every kind.
    pub(super) const ALL: Kinds = Kinds(0b111);

    /// No kind.
    pub(super) const NONE: Kinds = Kinds(0);

    /// The kinds of a mark in a filter.
    pub(super) fn of_mark(mark: u8) -> Self {
        Kinds(mark).both(Self::ALL)
    }

    /// Its mark in a filter: 1 sem, 2 shm, 4 msg.
    pub(super) fn mark(self) -> u8 {
        self.0
    }

    /// The kinds that are in one of the sets.
    pub(super) fn or(self, other: Self) -> Self {
        Kinds(self.0 | other.0)
    }

    /// Only this one.
    pub(super) fn only(kind: Kind) -> Self {
        match kind {
            Kind::Sem => Kinds(0b001),
            Kind::Shm => Kinds(0b010),
            Kind::Msg => Kinds(0b100),
        }
    }

    /// Every kind but these.
    pub(super) fn others(self) -> Self {
        Kinds(!self.0 & Self::ALL.0)
    }

    /// The kinds that are in both sets.
    pub(super) fn both(self, other: Self) -> Self {
        Kinds(self.0 & other.0)
    }

    /// Whether there is none.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this kind is in the set.
    pub(super) fn has(self, kind: Kind) -> bool {
        !self.both(Self::only(kind)).is_empty()
    }
}

/// A field that holds a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// semid, shmid or msqid.
    Id,
    /// Owner.
    Uid,
    /// Owner's group.
    Gid,
    /// Creator.
    Cuid,
    /// Creator's group.
    Cgid,
    /// Permission bits.
    Perms,
    /// Inode of the namespace.
    Namespace,
    /// Semaphores in an array.
    Nsems,
    /// Bytes of a segment.
    Size,
    /// Attachments of a segment.
    Nattch,
    /// Bytes in a queue.
    Cbytes,
    /// Messages in a queue.
    Qnum,
}

impl Field {
    /// All fields, with the word for each and the kinds of objects that have it.
    pub(super) const ALL: [(Field, &'static str, Kinds); 12] = [
        (Field::Id, "id", Kinds::ALL),
        (Field::Uid, "uid", Kinds::ALL),
        (Field::Gid, "gid", Kinds::ALL),
        (Field::Cuid, "cuid", Kinds::ALL),
        (Field::Cgid, "cgid", Kinds::ALL),
        (Field::Perms, "perms", Kinds::ALL),
        (Field::Namespace, "namespace", Kinds::ALL),
        (Field::Nsems, "nsems", Kinds(0b001)),
        (Field::Size, "size", Kinds(0b010)),
        (Field::Nattch, "nattch", Kinds(0b010)),
        (Field::Cbytes, "cbytes", Kinds(0b100)),
        (Field::Qnum, "qnum", Kinds(0b100)),
    ];

    /// Whether creation fixes it: it is the same for the whole life of an object of that kind.
    pub(super) fn is_fixed(self) -> bool {
        matches!(self, Field::Id | Field::Cuid | Field::Cgid | Field::Namespace | Field::Nsems | Field::Size)
    }

    /// Its value; `None` = objects of that kind do not have it.
    pub(super) fn of(self, namespace: &Namespace, object: &AnyObject) -> Option<i128> {
        let owner = object.owner();
        Some(match (self, object) {
            (Field::Id, _) => i128::from(object.id()),
            (Field::Uid, _) => i128::from(owner.uid),
            (Field::Gid, _) => i128::from(owner.gid),
            (Field::Cuid, _) => i128::from(owner.cuid),
            (Field::Cgid, _) => i128::from(owner.cgid),
            (Field::Perms, _) => i128::from(perms(object)),
            (Field::Namespace, _) => i128::from(namespace.id.inode),
            (Field::Nsems, AnyObject::Sem(o)) => i128::from(o.nsems),
            (Field::Size, AnyObject::Shm(o)) => i128::from(o.size),
            (Field::Nattch, AnyObject::Shm(o)) => i128::from(o.nattch),
            (Field::Cbytes, AnyObject::Msg(o)) => i128::from(o.cbytes),
            (Field::Qnum, AnyObject::Msg(o)) => i128::from(o.qnum),
            _ => return None,
        })
    }
}

/// A field that holds a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextField {
    /// Name of the owner.
    User,
    /// Name of the owner's group.
    Group,
    /// Name of the creator.
    Cuser,
    /// Name of the creator's group.
    Cgroup,
    /// The program that made it, or used it last.
    Comm,
}

/// Permission bits as printed.
pub(super) fn perms(object: &AnyObject) -> u32 {
    match object {
        AnyObject::Sem(o) => o.perms.0,
        AnyObject::Shm(o) => o.perms.0,
        AnyObject::Msg(o) => o.perms.0,
    }
}

/// The program of an object: the comm known of it, else the only one of its owner's processes in that namespace.
pub(super) fn comm_of<'n>(namespace: &'n Namespace, object: &AnyObject) -> Option<&'n HostText> {
    let who = namespace.who.as_ref()?;
    let known = who.objects.get(&(object.kind(), object.id())).and_then(|known| known.comm.as_ref());
    known.or_else(|| match who.comms.get(&object.owner().uid).map(Vec::as_slice) {
        Some([only]) => Some(only),
        _ => None,
    })
}

/// How sure it is that nobody holds an object; `None` = somebody may.
pub(super) fn grade_of(namespace: &Namespace, object: &AnyObject) -> Option<Grade> {
    let known: &Known = namespace.who.as_ref()?.objects.get(&(object.kind(), object.id()))?;
    known.orphan.as_ref().map(|orphan| orphan.grade)
}

/// The objects that a namespace lists, by kind in its order.
pub(super) fn objects(namespace: &Namespace) -> impl Iterator<Item = AnyObject> + '_ {
    let sem = namespace.sem.iter().flatten().map(|o| AnyObject::Sem(*o));
    let shm = namespace.shm.iter().flatten().map(|o| AnyObject::Shm(*o));
    let msg = namespace.msg.iter().flatten().map(|o| AnyObject::Msg(*o));
    sem.chain(shm).chain(msg)
}
