//! Gathers what a filter tells, state after state. Pure.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::object::{Kind, MsgQueue, SemArray, ShmSegment};
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::who::Who;

use super::field::{Field, Kinds, comm_of, grade_of, objects, perms};
use super::filter::{VERSION, grade_bit, numbers_of};
use super::names::Names;
use super::pack::push_ascending;
use super::spread::Spread;
use crate::query::change::{AnyObject, without_equal_ends};

/// A filter in the making.
#[derive(Clone, Debug, Default)]
pub struct FilterBuilder {
    namespaces: Spread,
    uids: Spread,
    cuids: Spread,
    gids: Spread,
    cgids: Spread,
    perms: Spread,
    users: Names,
    groups: Names,
    comms: Names,
    kinds: [OfKind; 3],
    last: Last,
}

/// What is told of one kind.
#[derive(Clone, Debug, Default)]
struct OfKind {
    grades: u8,
    ids: Spread,
    numbers: [Spread; 2],
    keys: Keys,
}

/// The state that was added last: of the next one only what differs is new.
#[derive(Clone, Debug, Default)]
struct Last {
    users: BTreeMap<u32, HostText>,
    groups: BTreeMap<u32, HostText>,
    namespaces: Vec<LastNamespace>,
}

#[derive(Clone, Debug, Default)]
struct LastNamespace {
    id: NamespaceId,
    sem: Vec<SemArray>,
    shm: Vec<ShmSegment>,
    msg: Vec<MsgQueue>,
    who: Option<Who>,
}

/// Ranges of owners, namespaces, permissions, ids and other numbers that are told.
const OWNERS: usize = 64;
const NAMESPACES: usize = 64;
const PERMS: usize = 16;
const IDS: usize = 8;
const NUMBERS: usize = 6;

impl FilterBuilder {
    /// Adds every object of a state. Cheap if it differs little from the one added before.
    pub fn add(&mut self, state: &State) {
        self.add_names(state);
        let mut last = std::mem::take(&mut self.last.namespaces);
        let mut now = Vec::with_capacity(state.namespaces.len());
        for (index, namespace) in state.namespaces.iter().enumerate() {
            let before = match last.get_mut(index) {
                Some(before) if before.id == namespace.id => std::mem::take(before),
                _ => LastNamespace { id: namespace.id, ..LastNamespace::default() },
            };
            now.push(self.add_namespace(state, namespace, before));
        }
        self.last.namespaces = now;
    }

    fn add_names(&mut self, state: &State) {
        if self.last.users != state.users {
            state.users.values().for_each(|name| self.users.add(name.as_bytes()));
            self.last.users.clone_from(&state.users);
        }
        if self.last.groups != state.groups {
            state.groups.values().for_each(|name| self.groups.add(name.as_bytes()));
            self.last.groups.clone_from(&state.groups);
        }
    }

    fn add_namespace(&mut self, state: &State, namespace: &Namespace, mut last: LastNamespace) -> LastNamespace {
        if last.who != namespace.who {
            // What is known of an object beside its row can differ although the row does not.
            objects(namespace).for_each(|object| self.add_object(state, namespace, &object));
            last.who.clone_from(&namespace.who);
        } else {
            let sem = new_rows(&last.sem, namespace.sem.as_deref()).map(AnyObject::Sem);
            let shm = new_rows(&last.shm, namespace.shm.as_deref()).map(AnyObject::Shm);
            let msg = new_rows(&last.msg, namespace.msg.as_deref()).map(AnyObject::Msg);
            sem.chain(shm).chain(msg).for_each(|object| self.add_object(state, namespace, &object));
        }
        keep(&mut last.sem, namespace.sem.as_deref());
        keep(&mut last.shm, namespace.shm.as_deref());
        keep(&mut last.msg, namespace.msg.as_deref());
        last
    }

    /// Adds one object of a state. Names of users and groups come with [`FilterBuilder::add`] or from this state.
    pub fn add_object(&mut self, state: &State, namespace: &Namespace, object: &AnyObject) {
        self.add_names(state);
        let mark = Kinds::only(object.kind()).mark();
        let owner = object.owner();
        self.namespaces.add(namespace.id.inode, mark);
        self.uids.add(u64::from(owner.uid), mark);
        self.cuids.add(u64::from(owner.cuid), mark);
        self.gids.add(u64::from(owner.gid), mark);
        self.cgids.add(u64::from(owner.cgid), mark);
        self.perms.add(u64::from(perms(object)), mark);
        if let Some(comm) = comm_of(namespace, object) {
            self.comms.add(comm.as_bytes());
        }
        let [sem, shm, msg] = &mut self.kinds;
        let of_kind = match object.kind() {
            Kind::Sem => sem,
            Kind::Shm => shm,
            Kind::Msg => msg,
        };
        of_kind.grades |= grade_bit(grade_of(namespace, object));
        of_kind.ids.add(u64::from(object.id().cast_unsigned()), 0);
        of_kind.keys.add(object.key().0.cast_unsigned());
        for (field, numbers) in numbers_of(object.kind()).iter().zip(&mut of_kind.numbers) {
            numbers.add(number(*field, namespace, object), 0);
        }
    }

    /// The bytes.
    pub fn finish(&self) -> Vec<u8> {
        let kinds = || Kind::ALL.into_iter().zip(&self.kinds).filter(|(_, of_kind)| of_kind.grades != 0);
        let present = kinds().map(|(kind, _)| Kinds::only(kind)).fold(Kinds::NONE, Kinds::or);
        let mut out = vec![VERSION, present.mark()];
        if present.is_empty() {
            return out;
        }
        self.namespaces.push(&mut out, NAMESPACES);
        self.uids.push(&mut out, OWNERS);
        for owners in [&self.cuids, &self.gids, &self.cgids] {
            let is_like = owners.is_like(&self.uids);
            out.push(u8::from(!is_like));
            if !is_like {
                owners.push(&mut out, OWNERS);
            }
        }
        self.perms.push(&mut out, PERMS);
        [&self.users, &self.groups, &self.comms].into_iter().for_each(|names| names.push(&mut out));
        for (kind, of_kind) in kinds() {
            out.push(of_kind.grades);
            of_kind.ids.push(&mut out, IDS);
            for (_, numbers) in numbers_of(kind).iter().zip(&of_kind.numbers) {
                numbers.push(&mut out, NUMBERS);
            }
            of_kind.keys.push(&mut out);
        }
        out
    }
}

fn number(field: Field, namespace: &Namespace, object: &AnyObject) -> u64 {
    field.of(namespace, object).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn new_rows<'r, T: Copy + PartialEq>(last: &[T], read: Option<&'r [T]>) -> impl Iterator<Item = T> + use<'r, T> {
    let (_, new) = without_equal_ends(last, read.unwrap_or_default());
    new.iter().copied()
}

fn keep<T: Copy + PartialEq>(last: &mut Vec<T>, read: Option<&[T]>) {
    let read = read.unwrap_or_default();
    if last != read {
        last.clear();
        last.extend_from_slice(read);
    }
}

/// Which keys there are: whole, or without their lowest bits where that would take too many bytes.
#[derive(Clone, Debug, Default)]
struct Keys {
    /// Lowest bits that are not told.
    untold: u8,
    keys: BTreeSet<u32>,
}

/// The most bytes that keys take told whole, and without their last two digits.
const MOST_WHOLE: usize = 2_048;
const MOST_SHORTER: usize = 6_144;

/// The most keys that are held while they are gathered: a host that makes keys without end must not fill the memory.
const MOST_KEYS: usize = 1 << 16;

impl Keys {
    fn add(&mut self, key: u32) {
        self.keys.insert(key >> self.untold);
        while self.keys.len() > MOST_KEYS && self.untold < 16 {
            *self = self.shorter();
        }
    }

    fn shorter(&self) -> Self {
        Self { untold: self.untold + 8, keys: self.keys.iter().map(|key| key >> 8).collect() }
    }

    fn push(&self, out: &mut Vec<u8>) {
        let most = match self.untold {
            0 => MOST_WHOLE,
            8 => MOST_SHORTER,
            _ => usize::MAX,
        };
        let mut packed = vec![self.untold];
        push_ascending(&mut packed, self.keys.iter().copied());
        if packed.len() > most {
            return self.shorter().push(out);
        }
        out.extend_from_slice(&packed);
    }
}
