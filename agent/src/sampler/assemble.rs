//! Puts the kernel's answers together: one sample of every IPC namespace, the host's first.
//!
//! The order is fixed: in each namespace totals, objects of each kind, totals again, limits; then, at home, names and
//! zone. `/proc/sysvipc/*` is read in steps and is no atomic view, so a sample whose totals differ before and after says
//! that it is `torn`. What cannot be read is `None` and listed with its reason; the rest is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_ipc::activity::Activity;
use highwater_ipc::object::{Object, Owner};
use highwater_ipc::snapshot::{BootId, NamespaceId, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;

use super::availability::Judge;
use super::namespaces::{Namespaces, Round, Scope};
use super::objects::Scratch;
use super::risks::Risks;
use super::sight::Sight;
use super::who::Watch;
use crate::clock::HostClock;
use crate::kernel::{Account, Kernel, identity, zone};

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

/// Names of users and of groups that one sample carries at most; ids beyond show as numbers.
pub const MAX_NAMES: usize = 4096;

/// Takes samples; keeps buffers, and what cannot change while this process runs.
pub struct Assembler {
    kernel: Box<dyn Kernel>,
    scratch: Scratch,
    boot_id: BootId,
    page_size: u32,
    namespaces: Namespaces,
    watch: Watch,
    judge: Judge,
    risks: Risks,
    sight: Sight,
    zone: zone::Known,
}

impl Assembler {
    /// Samples that kernel.
    pub fn new(mut kernel: Box<dyn Kernel>) -> Self {
        let boot_id = identity::boot_id(&mut *kernel).unwrap_or_default();
        let page_size = kernel.page_size();
        Self {
            kernel,
            scratch: Scratch::default(),
            boot_id,
            page_size,
            namespaces: Namespaces::default(),
            watch: Watch::default(),
            judge: Judge::default(),
            risks: Risks::default(),
            sight: Sight::default(),
            zone: zone::Known::default(),
        }
    }

    /// Samples these IPC namespaces; all of them unless told.
    #[must_use]
    pub fn in_namespaces(mut self, scope: Scope) -> Self {
        self.namespaces = Namespaces::new(scope);
        self
    }

    /// How long a semaphore array must look abandoned before that is certain; [`super::who::ORPHAN_WAIT`] unless told.
    #[must_use]
    pub fn with_orphan_wait(mut self, wait: Duration) -> Self {
        self.watch = Watch::new(wait);
        self
    }

    /// Takes what happened until a sample, for the samples after it: who made what.
    pub fn learn(&mut self, activity: &Activity, at: At) {
        self.watch.learn(&mut *self.kernel, activity, at);
    }

    /// Something happened in a namespace that may not be known yet: the next sample looks where all processes are.
    pub fn rescan(&mut self) {
        self.namespaces.rescan();
    }

    /// The namespace that has that inode now, as far as samples know it.
    pub fn namespace_of(&self, inode: u64) -> Option<NamespaceId> {
        self.namespaces.of_inode(inode)
    }

    /// Reads everything once. `interval_ms` is the planned time between samples, which the sample states.
    pub fn sample(&mut self, clock: &dyn HostClock, interval_ms: u32) -> Sample {
        let awake_us = clock.awake_us();
        let at = clock.now();
        let kernel = &mut *self.kernel;
        self.namespaces.discover(kernel, &mut self.scratch.buffer, clock);
        self.watch.scan_if_due(kernel, at);
        let round = self.namespaces.visit(kernel, &mut self.scratch, &mut self.watch, clock);
        let Round { namespaces, sem_info, proc_sem } = round;
        let availability = self.judge.judge(kernel, sem_info, proc_sem, at);

        kernel.refresh_names(at.boot_us);
        let mut names = Names { kernel, users: BTreeMap::new(), groups: BTreeMap::new() };
        for namespace in &namespaces {
            names.of(namespace.sem.as_deref());
            names.of(namespace.shm.as_deref());
            names.of(namespace.msg.as_deref());
        }
        let Names { users, groups, kernel } = names;
        let risks = namespaces.first().map_or_else(Vec::new, |host| self.risks.of(kernel, host, at));

        let mut unseen = self.namespaces.unseen();
        unseen.extend(self.sight.unseen(kernel, &mut self.scratch.buffer, at));

        let state = State {
            boot_id: self.boot_id,
            interval_ms,
            page_size: self.page_size,
            zone: self.zone.read(kernel, &mut self.scratch.buffer, at.boot_us),
            availability,
            users: known(users),
            groups: known(groups),
            risks,
            unseen,
            namespaces,
        };
        let took_us = u32::try_from(clock.now().boot_since(&at)).unwrap_or(u32::MAX);
        Sample { snapshot: Snapshot { at, took_us, state }, awake_us, activity: Activity::default() }
    }
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
