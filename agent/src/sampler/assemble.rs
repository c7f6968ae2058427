//! Puts the kernel's answers together: one sample of every IPC namespace in the list, the host's first.
//!
//! The order is fixed: in each namespace totals, objects of each kind, totals again, limits; then, at home, names and
//! zone. `/proc/sysvipc/*` is read in
//! steps and is no atomic view, so a sample whose totals differ before and after says that it is `torn`. What cannot be
//! read is `None` and listed with its reason; the rest is kept.

use std::collections::BTreeMap;
use std::fmt::Display;

use highwater_ipc::activity::Activity;
use highwater_ipc::object::{Object, Owner};
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, Snapshot, State, Unreadable};
use highwater_ipc::text::HostText;

use super::availability::Judge;
use super::objects::{self, Scratch};
use super::risks::Risks;
use crate::clock::HostClock;
use crate::kernel::totals::Answers;
use crate::kernel::{Account, Kernel, identity, limits, zone};
use crate::sys::errno::Errno;

/// One sample, and what tells sleep from delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What was read.
    pub snapshot: Snapshot,
    /// [`HostClock::awake_us`] when the sample began.
    pub awake_us: u64,
    /// What happened since the sample before, as far as it was traced.
    pub activity: Activity,
}

/// Objects that one sample lists at most; those beyond are counted in `left_out`.
pub const MAX_OBJECTS: usize = 100_000;

/// Names of users and of groups that one sample carries at most; ids beyond show as numbers.
pub const MAX_NAMES: usize = 4096;

/// Takes samples; keeps buffers, and what cannot change while this process runs.
pub struct Assembler {
    kernel: Box<dyn Kernel>,
    scratch: Scratch,
    boot_id: BootId,
    page_size: u32,
    /// The namespaces that are visited, the host's first.
    places: Vec<Place>,
    judge: Judge,
    risks: Risks,
}

impl Assembler {
    /// Samples that kernel.
    pub fn new(mut kernel: Box<dyn Kernel>) -> Self {
        let boot_id = identity::boot_id(&mut *kernel).unwrap_or_default();
        let page_size = kernel.page_size();
        let places = vec![Place::default()];
        Self {
            kernel,
            scratch: Scratch::default(),
            boot_id,
            page_size,
            places,
            judge: Judge::default(),
            risks: Risks::default(),
        }
    }

    /// Reads everything once. `interval_ms` is the planned time between samples, which the sample states.
    pub fn sample(&mut self, clock: &dyn HostClock, interval_ms: u32) -> Sample {
        let awake_us = clock.awake_us();
        let at = clock.now();
        let visits: Vec<Visit> =
            self.places.iter_mut().filter_map(|place| place.visit(&mut *self.kernel, &mut self.scratch)).collect();
        self.kernel.home();
        let (sem_info, proc_sem) =
            visits.first().map_or((Err(Errno::EIO), Err(Errno::EIO)), |own| (own.sem_info, own.proc_sem));
        let availability = self.judge.judge(&mut *self.kernel, sem_info, proc_sem, at);

        self.kernel.refresh_names(at.boot_us);
        let mut names = Names { kernel: &mut *self.kernel, users: BTreeMap::new(), groups: BTreeMap::new() };
        for Visit { namespace, .. } in &visits {
            names.of(namespace.sem.as_deref());
            names.of(namespace.shm.as_deref());
            names.of(namespace.msg.as_deref());
        }
        let Names { users, groups, .. } = names;
        let own = visits.first();
        let risks = own.map_or_else(Vec::new, |own| self.risks.of(&mut *self.kernel, &own.namespace, at));

        let state = State {
            boot_id: self.boot_id,
            interval_ms,
            page_size: self.page_size,
            zone: zone::read(&mut *self.kernel, &mut self.scratch.buffer),
            availability,
            users: known(users),
            groups: known(groups),
            risks,
            namespaces: visits.into_iter().map(|visit| visit.namespace).collect(),
            ..State::default()
        };
        let took_us = u32::try_from(clock.now().boot_since(&at)).unwrap_or(u32::MAX);
        Sample { snapshot: Snapshot { at, took_us, state }, awake_us, activity: Activity::default() }
    }
}

/// An IPC namespace that samples visit, and how to get there.
#[derive(Debug, Default)]
struct Place {
    /// Which, once known: the agent stays in its own, and an open file too many must not make it look like another one.
    id: Option<NamespaceId>,
    /// A process in it; `None` = it is the agent's own.
    member: Option<i32>,
    limits: limits::Known,
}

/// What one visit found.
struct Visit {
    namespace: Namespace,
    /// What SEM_INFO answered.
    sem_info: Result<(), Errno>,
    /// What opening and reading `/proc/sysvipc/sem` gave.
    proc_sem: Result<(), Errno>,
}

impl Place {
    /// Goes there and reads everything; `None` = there is no way in. The thread is left there.
    fn visit(&mut self, kernel: &mut dyn Kernel, scratch: &mut Scratch) -> Option<Visit> {
        match self.member {
            None => kernel.home(),
            Some(pid) => {
                kernel.enter(pid).ok()?;
            }
        }
        let before = Answers::ask(kernel);
        let mut read = objects::read(kernel, scratch, &before);
        let after = Answers::ask(kernel);
        read.unreadable.extend(before.errors().map(|(call, errno)| because(call, 0, errno)));
        let limits = match self.limits.read(kernel, &mut scratch.buffer) {
            Ok(limits) => Some(limits),
            Err(errors) => {
                read.unreadable.extend(errors.into_iter().map(|error| because(error.file, 0, error.problem)));
                None
            }
        };
        read.unreadable.truncate(Namespace::MAX_UNREADABLE);
        let namespace = Namespace {
            id: self.id(kernel),
            torn: before != after,
            limits,
            totals: before.totals(),
            sem: read.sem,
            shm: read.shm,
            msg: read.msg,
            unreadable: read.unreadable,
            left_out: read.left_out,
            ..Namespace::default()
        };
        Some(Visit { namespace, sem_info: before.sem.map(|_| ()), proc_sem: read.proc_sem })
    }

    fn id(&mut self, kernel: &mut dyn Kernel) -> NamespaceId {
        if self.id.is_none() {
            self.id = match kernel.namespace() {
                // A kernel without IPC namespaces has one that nobody names.
                Err(Errno::ENOENT) => Some(NamespaceId::default()),
                answer => answer.ok(),
            };
        }
        self.id.unwrap_or_default()
    }
}

/// A source that could not be read, and why. Errors show bytes of the host escaped; here they become bytes again, which
/// whoever shows them escapes once.
pub(super) fn because(source: &str, line: u32, error: impl Display) -> Unreadable {
    let shown = error.to_string();
    let error = HostText::from_escaped(&shown).unwrap_or_else(|| shown.as_str().into());
    Unreadable { source: source.into(), line, error }
}

/// Collects the names of the accounts that own or made an object.
struct Names<'a> {
    kernel: &'a mut dyn Kernel,
    users: BTreeMap<u32, Option<HostText>>,
    groups: BTreeMap<u32, Option<HostText>>,
}

impl Names<'_> {
    fn of<T: Object>(&mut self, objects: Option<&[T]>) {
        let mut last: Option<Owner> = None;
        for object in objects.unwrap_or_default() {
            let owner = *object.owner();
            // Most objects of a host have few owners, and neighbours often the same.
            if last.replace(owner) == Some(owner) {
                continue;
            }
            for uid in [owner.uid, owner.cuid] {
                if self.users.len() < MAX_NAMES {
                    self.users.entry(uid).or_insert_with(|| self.kernel.name(Account::User(uid)));
                }
            }
            for gid in [owner.gid, owner.cgid] {
                if self.groups.len() < MAX_NAMES {
                    self.groups.entry(gid).or_insert_with(|| self.kernel.name(Account::Group(gid)));
                }
            }
        }
    }
}

fn known(names: BTreeMap<u32, Option<HostText>>) -> BTreeMap<u32, HostText> {
    names.into_iter().filter_map(|(id, name)| name.map(|name| (id, name))).collect()
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
