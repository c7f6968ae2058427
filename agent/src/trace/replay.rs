//! What was in use between two samples: creations and removals replayed from what the sample before read.
//!
//! Replaying twice what the sample already shows does no harm: making what is there and removing what is not there
//! change nothing. So the calls that fell into a sample's own reading can be replayed for the next one again.

use std::collections::BTreeMap;

use highwater_ipc::limits::{Limits, Resource, Totals, Usage};
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{Namespace, NamespaceId};

/// What a sample read of one namespace, as far as a replay needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Which one.
    pub id: NamespaceId,
    /// Its limits.
    pub limits: Option<Limits>,
    /// What it showed as used.
    pub totals: Option<Totals>,
    /// Whether every sample reads it: else what it showed may be of earlier.
    pub current: bool,
    /// By kind: id and size of each object; `None` = not all could be listed.
    lists: [Option<Vec<(i32, Size)>>; 3],
}

/// What one object takes of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Size {
    /// Semaphores of an array, pages of a segment, 0 for a queue.
    pub of: u64,
    /// IPC_RMID leaves it there: processes are attached.
    pub attached: bool,
}

/// Pages of so many bytes.
pub fn pages(bytes: u64, page_size: u32) -> u64 {
    bytes.div_ceil(u64::from(page_size.max(1)))
}

impl Base {
    /// What that sample read of that namespace.
    pub fn of(namespace: &Namespace, page_size: u32) -> Self {
        let Namespace { left_out, sem, shm, msg, .. } = namespace;
        let sem = sem.as_ref().filter(|_| left_out.sem == 0);
        let shm = shm.as_ref().filter(|_| left_out.shm == 0);
        let msg = msg.as_ref().filter(|_| left_out.msg == 0);
        let array = |nsems: u32| Size { of: nsems.into(), attached: false };
        let segment = |size, nattch: u64| Size { of: pages(size, page_size), attached: nattch > 0 };
        let lists = [
            sem.map(|list| list.iter().map(|o| (o.semid, array(o.nsems))).collect()),
            shm.map(|list| list.iter().map(|o| (o.shmid, segment(o.size, o.nattch))).collect()),
            msg.map(|list| list.iter().map(|o| (o.msqid, Size::default())).collect()),
        ];
        let current = namespace.skipped == 0;
        Self { id: namespace.id, limits: namespace.limits, totals: namespace.totals, current, lists }
    }

    /// One in which there was nothing yet.
    pub fn new_born(id: NamespaceId, limits: Option<Limits>) -> Self {
        let empty = || Some(Vec::new());
        Self { id, limits, totals: Some(Totals::default()), current: true, lists: [empty(), empty(), empty()] }
    }

    /// The objects of that kind, if all are known.
    pub fn list(&self, kind: Kind) -> Option<&[(i32, Size)]> {
        self.lists.get(index(kind))?.as_deref()
    }

    /// Arrays and semaphores that it showed as used.
    pub fn shown(&self) -> Option<(u64, u64)> {
        let listed = || {
            let list = self.list(Kind::Sem)?;
            Some((u64::try_from(list.len()).ok()?, sum(list)))
        };
        self.totals.map(|totals| (totals.sem_arrays, totals.semaphores)).or_else(listed)
    }
}

fn index(kind: Kind) -> usize {
    match kind {
        Kind::Sem => 0,
        Kind::Shm => 1,
        Kind::Msg => 2,
    }
}

fn sum(list: &[(i32, Size)]) -> u64 {
    list.iter().fold(0, |sum, (_, size)| sum.saturating_add(size.of))
}

/// The most that was in use at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HighWater {
    /// Arrays.
    pub arrays: u64,
    /// Semaphores.
    pub semaphores: u64,
    /// When the arrays were (or else the semaphores), nanoseconds since boot.
    pub at_ns: u64,
}

/// One namespace as calls go by.
#[derive(Debug)]
pub struct Replay {
    limits: Option<Limits>,
    /// By kind; `None` = not all of the kind are known, so nothing is claimed of it.
    alive: [Option<BTreeMap<i32, Size>>; 3],
    used: Totals,
    /// The most so far, as far as arrays are known.
    pub high: HighWater,
}

impl Replay {
    /// Begins where that sample stood.
    pub fn from(base: &Base) -> Self {
        let mut used = base.totals.unwrap_or_default();
        let count = |list: &[_]| u64::try_from(list.len()).unwrap_or(u64::MAX);
        if let Some(list) = base.list(Kind::Sem) {
            (used.sem_arrays, used.semaphores) = (count(list), sum(list));
        }
        if let Some(list) = base.list(Kind::Shm) {
            (used.shm_segments, used.shm_pages) = (count(list), sum(list));
        }
        if let Some(list) = base.list(Kind::Msg) {
            used.msg_queues = count(list);
        }
        let map = |kind| base.list(kind).map(|list: &[(i32, Size)]| list.iter().copied().collect::<BTreeMap<_, _>>());
        let alive = [map(Kind::Sem), map(Kind::Shm), map(Kind::Msg)];
        let high = HighWater { arrays: used.sem_arrays, semaphores: used.semaphores, at_ns: 0 };
        let limits = base.limits.filter(|_| base.totals.is_some());
        Self { limits, alive, used, high }
    }

    /// Whether an object of that kind has that id; `None` = not all are known.
    pub fn has(&self, kind: Kind, id: i32) -> Option<bool> {
        let alive = self.alive.get(index(kind))?.as_ref()?;
        Some(alive.contains_key(&id))
    }

    /// That object was made.
    pub fn made(&mut self, kind: Kind, id: i32, of: u64, at_ns: u64) {
        let Some(Some(alive)) = self.alive.get_mut(index(kind)) else { return };
        if alive.insert(id, Size { of, attached: false }).is_some() {
            return;
        }
        self.count(kind, |count, of| count.saturating_add(of), of);
        if kind == Kind::Sem {
            if self.used.sem_arrays > self.high.arrays {
                (self.high.arrays, self.high.at_ns) = (self.used.sem_arrays, at_ns);
            }
            if self.used.semaphores > self.high.semaphores {
                self.high.semaphores = self.used.semaphores;
                if self.used.sem_arrays < self.high.arrays && self.high.at_ns == 0 {
                    self.high.at_ns = at_ns;
                }
            }
        }
    }

    /// That object was removed.
    pub fn removed(&mut self, kind: Kind, id: i32) {
        let Some(Some(alive)) = self.alive.get_mut(index(kind)) else { return };
        match alive.get(&id) {
            Some(size) if !size.attached => {
                let of = size.of;
                alive.remove(&id);
                self.count(kind, |count, of| count.saturating_sub(of), of);
            }
            _ => {}
        }
    }

    fn count(&mut self, kind: Kind, change: impl Fn(u64, u64) -> u64, of: u64) {
        let used = &mut self.used;
        match kind {
            Kind::Sem => {
                (used.sem_arrays, used.semaphores) = (change(used.sem_arrays, 1), change(used.semaphores, of));
            }
            Kind::Shm => {
                (used.shm_segments, used.shm_pages) = (change(used.shm_segments, 1), change(used.shm_pages, of));
            }
            Kind::Msg => used.msg_queues = change(used.msg_queues, 1),
        }
    }

    /// The limit that a call for one more, of that size, meets now: in the kernel's order, which counts semaphores before
    /// arrays (`newary` of ipc/sem.c) and pages before segments (`newseg` of ipc/shm.c). `None` = none that is known.
    pub fn binds(&self, kind: Kind, of: u64) -> Option<Usage> {
        let limits = self.limits?;
        let usage = |resource: Resource| {
            let (used, limit) = resource.of(&self.used, &limits);
            Usage { resource, used, limit }
        };
        let (summed, counted) = match kind {
            Kind::Sem => (Some(Resource::Semmns), Resource::Semmni),
            Kind::Shm => (Some(Resource::Shmall), Resource::Shmmni),
            Kind::Msg => (None, Resource::Msgmni),
        };
        let over = summed.map(usage).filter(|sum| sum.used.saturating_add(of) > sum.limit);
        over.or_else(|| Some(usage(counted)).filter(|count| count.used >= count.limit))
    }

    /// SEMMSL or SHMMAX, whichever bounds one object of that kind; `None` = not known.
    pub fn largest(&self, kind: Kind) -> Option<u64> {
        largest(self.limits.as_ref()?, kind)
    }
}

/// SEMMSL or SHMMAX, whichever bounds one object of that kind.
pub fn largest(limits: &Limits, kind: Kind) -> Option<u64> {
    match kind {
        Kind::Sem => Some(limits.semmsl),
        Kind::Shm => Some(limits.shmmax),
        Kind::Msg => None,
    }
}
