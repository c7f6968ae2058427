//! Every IPC namespace of this host: found, entered and left within a sample, never taken for another one.
//!
//! 1. After a sample the sampling thread is at home, and no file of another namespace is open: the agent keeps nothing of
//!    a container alive.
//! 2. Two namespaces are never shown as one, though they have one inode after the other: they are told apart by the
//!    kernel's own number, and where it has none by a process that was in both ([`member::continues`]).
//! 3. The host's own namespace is read first, in every sample, whole.
//! 4. What a sample lists and costs is bounded ([`budget`]), whatever the other namespaces hold.
//! 5. Nothing is opened below `/proc/PID/root` or `/proc/PID/cwd`: of a process its `ns/ipc`, `stat` and `cgroup`.
//!
//! A namespace is there while a process is in it whose first thread is; one that only a mount or an open file holds
//! cannot be entered and counts as gone.

pub mod budget;
pub mod member;
mod place;
pub mod schedule;
mod unseen;

use std::collections::BTreeMap;

use highwater_ipc::snapshot::{Namespace, NamespaceId, Unreadable};
use highwater_ipc::time::At;

use self::budget::{Load, MAX_OBJECTS, Promised, Rotation, cost_left, listed};
use self::place::{Place, Visit, Went};
use self::schedule::{Look, Schedule, parse_newest};
use self::unseen::Unseen;
use super::objects::Scratch;
use super::who::{Objects, Watch};
use crate::clock::HostClock;
use crate::kernel::process::parse_namespace;
use crate::kernel::{INITIAL_NAMESPACE, Kernel};
use crate::sys::errno::Errno;

/// Namespaces that are visited at most, beside the host's; more are counted. One machine was seen to hold 96,000.
pub const MAX_PLACES: usize = 4096;
/// Namespaces that one look takes in at most, so that no sample is held up by a crowd; the next look takes more.
const MAX_FOUND: usize = 256;
/// Namespaces whose name is asked in one sample.
const MAX_NAMED: usize = 64;
/// `/proc/loadavg` has 30 bytes.
const MAX_LOADAVG: usize = 256;

/// Which IPC namespaces are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// All that can be found and entered.
    #[default]
    All,
    /// The one that the agent lives in.
    Own,
}

impl Scope {
    /// As the configuration says it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "own" => Some(Self::Own),
            _ => None,
        }
    }
}

/// The namespaces that samples visit.
#[derive(Debug, Default)]
pub struct Namespaces {
    scope: Scope,
    /// The host's first; then as they were found, which is the order in which a state lists them.
    places: Vec<Place>,
    schedule: Schedule,
    rotation: Rotation,
    /// Counts samples.
    sample: u64,
    /// The serial number last given.
    serial: u64,
    /// Namespaces that the latest look found gone.
    gone: Vec<NamespaceId>,
    unseen: Unseen,
    pids: Vec<i32>,
}

/// What one round of visits read.
pub(super) struct Round {
    /// The host's first.
    pub(super) namespaces: Vec<Namespace>,
    /// What SEM_INFO answered in the host's.
    pub(super) sem_info: Result<(), Errno>,
    /// What opening and reading `/proc/sysvipc/sem` gave there.
    pub(super) proc_sem: Result<(), Errno>,
}

/// One round under way.
struct Visits<'a> {
    kernel: &'a mut dyn Kernel,
    scratch: &'a mut Scratch,
    watch: &'a mut Watch,
    at: At,
    /// What was read, by serial number of the place.
    read: BTreeMap<u64, Visit>,
    /// Places that no known process is in any more.
    dead: Vec<u64>,
}

impl Namespaces {
    /// None is known yet.
    pub fn new(scope: Scope) -> Self {
        Self { scope, ..Self::default() }
    }

    /// The next sample looks where all processes are.
    pub fn rescan(&mut self) {
        self.schedule.ask();
    }

    /// The namespace that has that inode now.
    pub fn of_inode(&self, inode: u64) -> Option<NamespaceId> {
        self.places.iter().find(|place| place.inode == inode)?.id
    }

    /// What of other namespaces cannot be seen.
    pub(super) fn unseen(&self) -> Vec<Unreadable> {
        let closed = self.places.iter().filter_map(|place| place.closed);
        self.unseen.told(closed)
    }

    /// A sample begins: looks where processes are, if that is due. At home.
    pub(super) fn discover(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>, clock: &dyn HostClock) {
        self.sample += 1;
        self.find_home(kernel);
        if self.scope == Scope::Own || self.places.first().is_none_or(|home| home.inode == 0) {
            return;
        }
        let newest = match kernel.read("/proc/loadavg", MAX_LOADAVG, buffer) {
            Ok(true) => parse_newest(buffer),
            _ => None,
        };
        let now = clock.now().boot_us;
        match self.schedule.look(now, newest) {
            Look::Nothing => {}
            Look::All => self.scan(kernel, buffer, clock),
            Look::At(pids) => {
                let is_new = |inode| !self.places.iter().any(|place| place.inode == inode);
                if pids.into_iter().any(|pid| namespace_of(kernel, pid).is_ok_and(is_new)) {
                    self.schedule.ask();
                    if self.schedule.may_repeat(now) {
                        self.scan(kernel, buffer, clock);
                    }
                }
            }
        }
    }

    /// The agent stays in its namespace: once known it is known, and an open file too many does not make it another one.
    fn find_home(&mut self, kernel: &mut dyn Kernel) {
        let Some(home) = self.places.iter_mut().find(|place| place.home) else {
            self.places.push(Place::home(home_id(kernel)));
            return;
        };
        if home.id.is_none() {
            home.id = home_id(kernel);
            home.inode = home.id.map_or(0, |id| id.inode);
        }
    }

    /// Looks where all processes are.
    fn scan(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>, clock: &dyn HostClock) {
        let began = clock.now().boot_us;
        let mut pids = std::mem::take(&mut self.pids);
        match kernel.pids(&mut pids) {
            Ok(()) => {
                let found = self.sightings(kernel, &pids);
                self.find_host(kernel);
                self.take_in(kernel, buffer, &found, began);
                self.unseen.scan_failed = None;
            }
            Err(errno) => self.unseen.scan_failed = Some(errno),
        }
        self.pids = pids;
        self.unseen.ask_capabilities(kernel, buffer);
        let took = clock.now().boot_us.saturating_sub(began);
        let again = self.unseen.waiting > 0;
        self.schedule.scanned(began, took);
        if again {
            self.schedule.ask();
        }
    }

    /// The processes by the inode of their IPC namespace.
    fn sightings(&mut self, kernel: &mut dyn Kernel, pids: &[i32]) -> BTreeMap<u64, Vec<i32>> {
        let mut found: BTreeMap<u64, Vec<i32>> = BTreeMap::new();
        self.unseen.refused = None;
        let mut refused = 0;
        for pid in pids {
            match namespace_of(kernel, *pid) {
                Ok(inode) => found.entry(inode).or_default().push(*pid),
                // What is said of process 1 is said in its place.
                Err(errno @ (Errno::EACCES | Errno::EPERM)) if *pid != 1 => {
                    refused += 1;
                    self.unseen.refused = Some((refused, errno));
                }
                Err(_) => {}
            }
        }
        found
    }

    /// The host's namespace is that of process 1, as far as that can be told and entered, else the agent's.
    fn find_host(&mut self, kernel: &mut dyn Kernel) {
        let Some(home) = self.places.iter().find(|place| place.home).map(|home| home.inode) else { return };
        let first = namespace_of(kernel, 1);
        let host = match first {
            Ok(inode) if inode != home => kernel.enter(1).map(|seen| seen.inode),
            Ok(_) => Ok(home),
            // The kernel's first process began in the namespace the kernel began with.
            Err(_) if home == INITIAL_NAMESPACE => Ok(home),
            Err(errno) => Err(errno),
        };
        kernel.home();
        self.unseen.host = host.err();
        let host = host.unwrap_or(home);
        if self.places.first().is_some_and(|first| first.inode == host) {
            return;
        }
        let there = self.places.iter().position(|place| place.inode == host);
        let place = match there {
            Some(there) => self.places.remove(there),
            None => {
                let serial = self.next_serial(0);
                Place::new(host, serial, Vec::new(), self.sample)
            }
        };
        self.places.insert(0, place);
    }

    /// Brings the list up to what was found.
    fn take_in(
        &mut self,
        kernel: &mut dyn Kernel,
        buffer: &mut Vec<u8>,
        found: &BTreeMap<u64, Vec<i32>>,
        boot_us: u64,
    ) {
        let mut known = Vec::new();
        let gone = &mut self.gone;
        self.places.retain_mut(|place| {
            let pids = found.get(&place.inode).map_or(&[][..], Vec::as_slice);
            let stays = place.found(kernel, pids, buffer) && !place.is_left();
            if stays {
                known.push(place.inode);
            } else {
                gone.extend(place.id);
            }
            stays
        });
        (self.unseen.beyond, self.unseen.waiting) = (0, 0);
        let mut taken = 0;
        for (inode, pids) in found.iter().filter(|(inode, _)| !known.contains(inode)) {
            if self.places.len() > MAX_PLACES {
                self.unseen.beyond += 1;
            } else if taken == MAX_FOUND {
                self.unseen.waiting += 1;
            } else {
                taken += 1;
                let members = member::oldest(kernel, pids, buffer);
                let serial = self.next_serial(boot_us);
                self.places.push(Place::new(*inode, serial, members, self.sample));
            }
        }
    }

    /// A number that no earlier place had, of this process or, as time goes on, of one before it.
    fn next_serial(&mut self, boot_us: u64) -> u64 {
        self.serial = self.serial.saturating_add(1).max(boot_us);
        self.serial
    }

    /// Visits the host's namespace and those whose turn it is, and comes home.
    pub(super) fn visit(
        &mut self,
        kernel: &mut dyn Kernel,
        scratch: &mut Scratch,
        watch: &mut Watch,
        clock: &dyn HostClock,
    ) -> Round {
        let at = clock.now();
        scratch.now_us = at.boot_us;
        let mut visits = Visits { kernel, scratch, watch, at, read: BTreeMap::new(), dead: Vec::new() };
        let mut room = u64::try_from(MAX_OBJECTS).unwrap_or(u64::MAX);
        self.go(&mut visits, 0, room);
        let host_objects = self.places.first().and_then(|host| host.load.objects).unwrap_or(0);
        room = room.saturating_sub(host_objects);
        let keep = self.visit_others(&mut visits, room, cost_left(host_objects));
        visits.kernel.home();
        self.look_for_the_dead(&mut visits, clock);
        let Visits { kernel, scratch, watch, mut read, .. } = visits;
        for id in self.gone.drain(..) {
            watch.forget(id);
        }
        self.name_some(kernel, &mut scratch.buffer);
        let host = self.places.first().and_then(|host| read.get(&host.serial));
        let (sem_info, proc_sem) =
            host.map_or((Err(Errno::EIO), Err(Errno::EIO)), |host| (host.sem_info, host.proc_sem));
        Round { namespaces: self.tell(&mut read, keep), sem_info, proc_sem }
    }

    /// Where the known processes of a namespace are gone there may be others: those in which nobody is found are gone.
    fn look_for_the_dead(&mut self, visits: &mut Visits<'_>, clock: &dyn HostClock) {
        if visits.dead.is_empty() {
            return;
        }
        if self.schedule.may_repeat(clock.now().boot_us) {
            self.scan(visits.kernel, &mut visits.scratch.buffer, clock);
        } else {
            self.schedule.ask();
        }
        for serial in std::mem::take(&mut visits.dead) {
            if let Some(index) = self.places.iter().position(|place| place.serial == serial) {
                let load = self.places.get(index).map(|place| place.load).filter(|load| load.listed);
                self.go(
                    visits,
                    index,
                    load.and_then(|load| load.objects).map_or(0, |objects| objects + objects / 8 + 8),
                );
            }
        }
        visits.kernel.home();
        let (dead, gone) = (&visits.dead, &mut self.gone);
        self.places.retain(|place| {
            let stays = !dead.contains(&place.serial);
            if !stays {
                gone.extend(place.id);
            }
            stays
        });
    }

    /// Visits the others whose turn it is; returns whether what was read must be kept for samples without a visit.
    fn visit_others(&mut self, visits: &mut Visits<'_>, room: u64, cost: u64) -> bool {
        let loads: Vec<Load> = self.places.iter().skip(1).map(|place| place.load).collect();
        let lists = listed(&loads, room, cost, self.sample);
        let turn = self.rotation.turn(&loads, &lists, cost, self.sample);
        let mut promised = Promised::new(&loads, &lists, &turn);
        for other in turn {
            let (Some(load), Some(lists)) = (loads.get(other), lists.get(other).copied()) else { continue };
            let allowed = if lists { promised.allowed(load, room, cost) } else { 0 };
            self.go(visits, other + 1, allowed);
            if let Some(place) = self.places.get_mut(other + 1) {
                if load.listed && !lists {
                    place.load.unlisted_at = Some(self.sample);
                }
                promised.kept((load, lists), (&place.load, place.load.listed));
            }
        }
        self.rotation.must_keep(&loads, &lists, cost)
    }

    /// Visits one.
    fn go(&mut self, visits: &mut Visits<'_>, index: usize, room: u64) {
        let Some(place) = self.places.get_mut(index) else { return };
        let serial = place.serial;
        if place.closed.is_some() {
            place.passed(self.sample);
            return;
        }
        match place.go(visits.kernel, &mut visits.scratch.buffer) {
            Went::There => {}
            Went::Anew(before) => {
                self.schedule.ask();
                self.gone.extend(before);
            }
            Went::Dead => {
                visits.dead.push(serial);
                return;
            }
            Went::Closed => {
                place.passed(self.sample);
                return;
            }
            Went::Short(errno) => {
                place.passed(self.sample);
                if place.id.is_some() {
                    let namespace = place.unvisited(errno);
                    visits.read.insert(serial, Visit { namespace, sem_info: Err(errno), proc_sem: Err(errno) });
                }
                return;
            }
        }
        let mut visit = place.read(visits.kernel, visits.scratch, room, index == 0);
        let namespace = &mut visit.namespace;
        let objects =
            Objects { sem: namespace.sem.as_deref(), shm: namespace.shm.as_deref(), msg: namespace.msg.as_deref() };
        namespace.who = visits.watch.of(visits.kernel, namespace.id, objects, visits.at);
        place.visited(self.sample, namespace);
        visits.read.insert(serial, visit);
    }

    /// Asks the names of some whose name is due.
    fn name_some(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) {
        for place in self.places.iter_mut().skip(1).filter(|place| place.wants_name()).take(MAX_NAMED) {
            place.ask_name(kernel, buffer);
        }
    }

    /// The list as this sample states it: what was read now, and of the others what was read last.
    fn tell(&mut self, read: &mut BTreeMap<u64, Visit>, keep: bool) -> Vec<Namespace> {
        let passed_by = u32::try_from(self.rotation.stride() - 1).unwrap_or(u32::MAX);
        let mut told = Vec::new();
        for (index, place) in self.places.iter_mut().enumerate() {
            let visit = read.remove(&place.serial).map(|visit| visit.namespace);
            if let Some(now) = visit.as_ref().filter(|_| index > 0) {
                place.last = keep.then(|| now.clone());
                place.load.kept = keep;
            }
            let Some(mut namespace) = visit.or_else(|| place.last.clone().filter(|_| place.closed.is_none())) else {
                continue;
            };
            if index > 0 {
                place.put_name(&mut namespace);
                namespace.skipped = passed_by;
            }
            told.push(namespace);
        }
        told
    }
}

/// Where the agent lives; `None` = it is short of something just now.
fn home_id(kernel: &mut dyn Kernel) -> Option<NamespaceId> {
    match kernel.namespace() {
        // A kernel without IPC namespaces has one that nobody names.
        Err(Errno::ENOENT) => Some(NamespaceId::default()),
        answer => answer.ok(),
    }
}

/// Inode of the IPC namespace that a process is in.
fn namespace_of(kernel: &mut dyn Kernel, pid: i32) -> Result<u64, Errno> {
    let target = kernel.read_link(&format!("/proc/{pid}/ns/ipc"))?;
    parse_namespace(&target).ok_or(Errno::EIO)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
