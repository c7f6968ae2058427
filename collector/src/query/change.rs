//! What happened between two states of one boot. Pure.
//!
//! A list that could not be read, or of which rows are missing, proves nothing about what is not in it: [`Known`]
//! carries forward what was last read there, so that an EACCES is never "all removed" and its end never "all created".

use std::collections::BTreeMap;

use highwater_ipc::limits::Limits;
use highwater_ipc::object::{Key, Kind, MsgQueue, Object, Owner, SemArray, ShmSegment};
use highwater_ipc::snapshot::{NamedBy, Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;

/// An object of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyObject {
    /// A semaphore array.
    Sem(SemArray),
    /// A shared memory segment.
    Shm(ShmSegment),
    /// A message queue.
    Msg(MsgQueue),
}

impl AnyObject {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            AnyObject::Sem(_) => Kind::Sem,
            AnyObject::Shm(_) => Kind::Shm,
            AnyObject::Msg(_) => Kind::Msg,
        }
    }

    /// semid, shmid or msqid.
    pub fn id(&self) -> i32 {
        match self {
            AnyObject::Sem(o) => o.id(),
            AnyObject::Shm(o) => o.id(),
            AnyObject::Msg(o) => o.id(),
        }
    }

    /// Its key.
    pub fn key(&self) -> Key {
        match self {
            AnyObject::Sem(o) => o.key(),
            AnyObject::Shm(o) => o.key(),
            AnyObject::Msg(o) => o.key(),
        }
    }

    /// Bytes that it holds: the size of a segment, what is in a queue; 0 of an array.
    pub fn bytes(&self) -> u64 {
        match self {
            AnyObject::Sem(_) => 0,
            AnyObject::Shm(o) => o.size,
            AnyObject::Msg(o) => o.cbytes,
        }
    }

    /// Its owner and creator.
    pub fn owner(&self) -> &Owner {
        match self {
            AnyObject::Sem(o) => o.owner(),
            AnyObject::Shm(o) => o.owner(),
            AnyObject::Msg(o) => o.owner(),
        }
    }
}

/// One thing that happened in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub namespace: NamespaceId,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An object is there that was not.
    Created(AnyObject),
    /// An object is no longer there.
    Removed(AnyObject),
    /// Fields of an object differ.
    Changed {
        /// As it was.
        before: AnyObject,
        /// As it is.
        after: AnyObject,
    },
    /// A limit differs.
    LimitChanged {
        /// Its kernel name, e.g. `SEMMNI`.
        resource: &'static str,
        /// As it was.
        before: u64,
        /// As it is.
        after: u64,
    },
    /// The namespace itself is new.
    NamespaceAppeared(Name),
    /// The namespace is no longer there, and what it held went with it: nobody removed that.
    NamespaceGone {
        /// What it was called.
        name: Name,
        /// How many objects it held when it was read last, by kind in the order of [`Kind::ALL`].
        lost: [usize; 3],
        /// The sizes of its segments and the bytes in its queues.
        bytes: u64,
    },
}

/// What a namespace is called, as claimed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Name {
    /// The name; `None` = it has none.
    pub name: Option<HostText>,
    /// What that name is.
    pub by: NamedBy,
}

/// What is known to be there, sample after sample.
#[derive(Clone, Debug, Default)]
pub struct Known {
    namespaces: BTreeMap<NamespaceId, KnownNamespace>,
    /// The host's own: the first of the state.
    own: Option<NamespaceId>,
}

#[derive(Clone, Debug, Default)]
struct KnownNamespace {
    name: Name,
    limits: Option<Limits>,
    sem: List<SemArray>,
    shm: List<ShmSegment>,
    msg: List<MsgQueue>,
    /// What of these is carried forward, for the latest sample did not read it whole: limits, then by [`Kind::ALL`].
    carried: [bool; 4],
}

/// Rows in the kernel's order; `None` = never read.
type List<T> = Option<Vec<T>>;

impl Known {
    /// What this state shows.
    pub fn new(state: &State) -> Self {
        let mut known = Self::default();
        known.learn(state);
        known
    }

    /// Whether something is known that the latest state does not say by itself.
    pub fn carries(&self) -> bool {
        self.namespaces.values().any(|n| n.carried.contains(&true))
    }

    /// Forgets that.
    pub fn forget_carried(&mut self) {
        self.namespaces.values_mut().for_each(KnownNamespace::forget_carried);
    }

    /// Forgets the namespaces that this state does not show, and says nothing of them: whoever sampled it need not have seen
    /// them.
    pub fn forget_unseen(&mut self, after: &State) {
        self.namespaces.retain(|id, _| after.namespaces.iter().any(|n| n.id == *id));
    }

    /// The later state; says what happened, in the order namespaces, limits, then objects by kind in the kernel's order,
    /// what went before what came.
    pub fn learn(&mut self, after: &State) -> Vec<Change> {
        let mut changes = Vec::new();
        self.own = after.namespaces.first().map(|n| n.id);
        let gone: Vec<NamespaceId> =
            self.namespaces.keys().filter(|id| !after.namespaces.iter().any(|n| n.id == **id)).copied().collect();
        for id in gone {
            if let Some(known) = self.namespaces.remove(&id) {
                changes.push(Change { namespace: id, what: known.end() });
            }
        }
        for namespace in &after.namespaces {
            let mut say = |what| changes.push(Change { namespace: namespace.id, what });
            let known = self.namespaces.entry(namespace.id).or_insert_with(|| {
                say(What::NamespaceAppeared(name_of(namespace)));
                KnownNamespace::default()
            });
            known.learn(namespace, &mut say);
        }
        changes
    }

    fn objects(&self) -> impl Iterator<Item = (NamespaceId, AnyObject)> + '_ {
        self.namespaces.iter().flat_map(|(id, n)| n.objects().map(|o| (*id, o)))
    }

    /// The boot ended: no object of it exists any more. Limits stay to be compared. Returns how many objects went, by
    /// kind in the order of [`Kind::ALL`].
    pub fn reboot(&mut self, next: &State) -> [usize; 3] {
        let lost = count(self.objects().map(|(_, object)| object));
        // Inode and instance say nothing across a boot; the host's own namespace is the first on both sides.
        let limits = self.own.and_then(|own| self.namespaces.get(&own)).and_then(|n| n.limits);
        self.namespaces.clear();
        if let Some(own) = next.namespaces.first() {
            let (sem, shm, msg) = (Some(Vec::new()), Some(Vec::new()), Some(Vec::new()));
            let empty = KnownNamespace { name: name_of(own), limits, sem, shm, msg, carried: [false; 4] };
            self.namespaces.insert(own.id, empty);
        }
        lost
    }
}

/// How many there are of each kind, in the order of [`Kind::ALL`].
fn count(objects: impl Iterator<Item = AnyObject>) -> [usize; 3] {
    let mut counts = [0_usize; 3];
    for object in objects {
        let at = Kind::ALL.iter().position(|k| *k == object.kind()).unwrap_or(0);
        counts[at] = counts[at].saturating_add(1);
    }
    counts
}

fn name_of(namespace: &Namespace) -> Name {
    Name { name: namespace.name.clone(), by: namespace.named_by }
}

impl KnownNamespace {
    fn objects(&self) -> impl Iterator<Item = AnyObject> + '_ {
        let sem = self.sem.iter().flatten().map(|o| AnyObject::Sem(*o));
        let shm = self.shm.iter().flatten().map(|o| AnyObject::Shm(*o));
        let msg = self.msg.iter().flatten().map(|o| AnyObject::Msg(*o));
        sem.chain(shm).chain(msg)
    }

    /// What is said of it once it is no longer there.
    fn end(&self) -> What {
        let bytes = self.objects().fold(0_u64, |sum, object| sum.saturating_add(object.bytes()));
        What::NamespaceGone { name: self.name.clone(), lost: count(self.objects()), bytes }
    }

    fn learn(&mut self, after: &Namespace, say: &mut impl FnMut(What)) {
        self.name = name_of(after);
        if let Some(limits) = after.limits {
            if let Some(before) = self.limits {
                limits_changed(&before, &limits, say);
            }
            self.limits = Some(limits);
        }
        learn_list(&mut self.sem, after.sem.as_deref(), is_whole(after, Kind::Sem), AnyObject::Sem, say);
        learn_list(&mut self.shm, after.shm.as_deref(), is_whole(after, Kind::Shm), AnyObject::Shm, say);
        learn_list(&mut self.msg, after.msg.as_deref(), is_whole(after, Kind::Msg), AnyObject::Msg, say);
        let lacks = |kind| !(after.has(kind) && is_whole(after, kind));
        self.carried = [
            self.limits.is_some() && after.limits.is_none(),
            self.sem.is_some() && lacks(Kind::Sem),
            self.shm.is_some() && lacks(Kind::Shm),
            self.msg.is_some() && lacks(Kind::Msg),
        ];
    }

    fn forget_carried(&mut self) {
        let [limits, sem, shm, msg] = std::mem::take(&mut self.carried);
        self.limits = self.limits.take().filter(|_| !limits);
        self.sem = self.sem.take().filter(|_| !sem);
        self.shm = self.shm.take().filter(|_| !shm);
        self.msg = self.msg.take().filter(|_| !msg);
    }
}

/// Whether a list that was read lacks no row: nothing left out, no line of its file unreadable.
pub(super) fn is_whole(namespace: &Namespace, kind: Kind) -> bool {
    let left_out = match kind {
        Kind::Sem => namespace.left_out.sem,
        Kind::Shm => namespace.left_out.shm,
        Kind::Msg => namespace.left_out.msg,
    };
    let file = format!("/proc/sysvipc/{}", kind.name());
    left_out == 0 && !namespace.unreadable.iter().any(|u| u.source.as_bytes() == file.as_bytes())
}

fn learn_list<T: Object>(
    known: &mut List<T>,
    read: Option<&[T]>,
    whole: bool,
    any: fn(T) -> AnyObject,
    say: &mut impl FnMut(What),
) {
    let Some(read) = read else { return };
    let Some(before) = known.as_ref() else {
        // Nothing was known of this kind before, so nothing is known to have happened. A list with holes stays unknown:
        // what it lacks must not count as created later.
        if whole {
            *known = Some(read.to_vec());
        }
        return;
    };
    // One change in 32,000 rows is the usual case: what begins and ends alike is passed over.
    let (old_rows, new_rows) = without_equal_ends(before, read);
    let later: BTreeMap<i32, &T> = new_rows.iter().map(|o| (o.id(), o)).collect();
    let earlier: BTreeMap<i32, &T> = old_rows.iter().map(|o| (o.id(), o)).collect();
    let mut kept = Vec::new();
    for old in old_rows {
        match later.get(&old.id()) {
            None if whole => say(What::Removed(any(*old))),
            None => kept.push(*old),
            Some(new) if !new.is_same_as(old) => say(What::Removed(any(*old))),
            Some(_) => {}
        }
    }
    for new in new_rows {
        match earlier.get(&new.id()) {
            Some(old) if new.is_same_as(old) => {
                if *new != **old {
                    say(What::Changed { before: any(**old), after: any(*new) });
                }
            }
            _ => say(What::Created(any(*new))),
        }
    }
    let mut now = read.to_vec();
    now.extend(kept);
    *known = Some(now);
}

/// What is left of two lists without what they begin and end with alike.
pub(super) fn without_equal_ends<'a, 'b, T: PartialEq>(a: &'a [T], b: &'b [T]) -> (&'a [T], &'b [T]) {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[same..], &b[same..]);
    let same = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    (&a[..a.len() - same], &b[..b.len() - same])
}

/// The limits by kernel name, in the order of the files they come from.
pub fn named(limits: &Limits) -> [(&'static str, u64); 12] {
    [
        ("SEMMSL", limits.semmsl),
        ("SEMMNS", limits.semmns),
        ("SEMOPM", limits.semopm),
        ("SEMMNI", limits.semmni),
        ("SEMVMX", limits.semvmx),
        ("SHMMAX", limits.shmmax),
        ("SHMALL", limits.shmall),
        ("SHMMNI", limits.shmmni),
        ("SHMMIN", limits.shmmin),
        ("MSGMAX", limits.msgmax),
        ("MSGMNB", limits.msgmnb),
        ("MSGMNI", limits.msgmni),
    ]
}

fn limits_changed(before: &Limits, after: &Limits, say: &mut impl FnMut(What)) {
    for ((resource, before), (_, after)) in named(before).into_iter().zip(named(after)) {
        if before != after {
            say(What::LimitChanged { resource, before, after });
        }
    }
}
