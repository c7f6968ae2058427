//! Who holds the objects of each namespace, and which of them nobody holds any more.
//!
//! [`Watch`] looks at all processes on a cadence of its own ([`Watch::scan_if_due`], from the agent's own namespaces)
//! and puts what it found beside the objects of each namespace that a sample visits ([`Watch::of`]).

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_ipc::activity::Activity;
use highwater_ipc::object::{MsgQueue, SemArray, ShmSegment};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::time::At;
use highwater_ipc::who::Who;

use crate::kernel::Kernel;

pub mod clock;
pub mod grade;
pub mod hints;
pub mod maker;
pub mod roster;
pub mod sight;
pub mod space;
pub mod track;

use clock::Watched;
use hints::Hints;
use roster::{Look, Roster, Wanted};
use sight::Sight;
use space::Space;

/// How long an array must look abandoned in every scan before it is called so for certain, unless configured otherwise.
pub const ORPHAN_WAIT: Duration = Duration::from_secs(600);

/// Most objects remembered, of all namespaces together: more than SEMMNI lets one have, at some 300 bytes each. Of those
/// beyond nothing is known.
const MAX_OBJECTS: usize = 40_000;
/// Time between two scans, microseconds, at up to [`MANY`] processes.
const INTERVAL_US: u64 = 10_000_000;
/// Least time between two scans, and time after which one follows that has a reason to come early, microseconds.
const EARLY_US: u64 = 2_000_000;
/// Processes beyond which scans become rarer.
const MANY: u64 = 1_000;
/// Most time between two scans, and the usual time between deep ones, microseconds.
const SLOWEST_US: u64 = 60_000_000;
/// System calls about objects in the visits after a scan, all namespaces together.
const CALLS: u32 = 8_192;
/// The same in visits without a scan, for objects that are new.
const CALLS_BETWEEN: u32 = 256;

/// What is known of the processes and of the objects they hold.
#[derive(Debug)]
pub struct Watch {
    wait_us: u64,
    /// Time between scans that a short waiting period asks for.
    interval_us: u64,
    roster: Roster,
    sight: Sight,
    clock: Watched,
    hints: Hints,
    spaces: BTreeMap<NamespaceId, Space>,
    /// Objects in all of them.
    remembered: usize,
    scan: Scan,
    own: Option<i32>,
    calls: u32,
}

/// The latest scan.
#[derive(Debug, Default)]
struct Scan {
    /// Counts them.
    number: u64,
    at_us: u64,
    /// Whether it was made for the sample under way.
    fresh: bool,
    all_seen: bool,
    deep_us: Option<u64>,
    /// Whether there is a reason to make the next one early.
    soon: bool,
    /// Whether it came early itself: then the next does not.
    early: bool,
}

/// The objects of one namespace as a sample read them; `None` = that kind could not be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objects<'a> {
    /// Semaphore arrays.
    pub sem: Option<&'a [SemArray]>,
    /// Shared memory segments.
    pub shm: Option<&'a [ShmSegment]>,
    /// Message queues.
    pub msg: Option<&'a [MsgQueue]>,
}

impl Watch {
    /// Knows nothing yet; `wait` is how long an array must look abandoned before that is certain.
    pub fn new(wait: Duration) -> Self {
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Self {
            wait_us,
            interval_us: (wait_us / 10).clamp(EARLY_US / 2, INTERVAL_US),
            roster: Roster::default(),
            sight: Sight::default(),
            clock: Watched::default(),
            hints: Hints::default(),
            spaces: BTreeMap::new(),
            remembered: 0,
            scan: Scan::default(),
            own: None,
            calls: 0,
        }
    }

    /// Looks at all processes if that is due. To be called at home (in the agent's own namespaces), before the visits
    /// of a sample.
    pub fn scan_if_due(&mut self, kernel: &mut dyn Kernel, at: At) {
        self.clock.note(at);
        self.scan.fresh = self.is_due(at.boot_us);
        self.calls = if self.scan.fresh { CALLS } else { CALLS_BETWEEN };
        if self.scan.fresh {
            self.judge_unvisited();
            self.look_at_all(kernel, at.boot_us);
        }
        self.hints.look(kernel, &mut self.roster, at.boot_us);
    }

    fn is_due(&self, at_us: u64) -> bool {
        let since_us = at_us.saturating_sub(self.scan.at_us);
        let processes = u64::try_from(self.roster.count()).unwrap_or(u64::MAX);
        let slower_us = processes.saturating_mul(INTERVAL_US / MANY).min(SLOWEST_US);
        let interval_us = if processes > MANY { slower_us.max(self.interval_us) } else { self.interval_us };
        let early = self.scan.soon && !self.scan.early && since_us >= EARLY_US;
        self.scan.number == 0 || early || since_us >= interval_us
    }

    fn look_at_all(&mut self, kernel: &mut dyn Kernel, at_us: u64) {
        let deep_every_us = (self.wait_us / 10).clamp(self.interval_us, SLOWEST_US);
        let deep = self.scan.deep_us.is_none_or(|before| at_us.saturating_sub(before) >= deep_every_us);
        let mut wanted = Wanted { deep, ..Wanted::default() };
        for space in self.spaces.values() {
            wanted.owners.extend(space.owners());
            space.absent(&mut wanted.absent);
        }
        self.roster.scan(kernel, at_us, &wanted);
        if self.roster.is_deep() {
            self.scan.deep_us = Some(at_us);
        }
        if self.own.is_none() {
            let own = kernel.read_link("/proc/self").ok();
            self.own = own.and_then(|target| String::from_utf8(target).ok()?.parse().ok());
        }
        let early = self.scan.soon;
        let all_seen = self.roster.complete() && self.sight.is_whole(kernel, at_us);
        let number = self.scan.number + 1;
        self.scan = Scan { number, at_us, fresh: true, all_seen, deep_us: self.scan.deep_us, soon: false, early };
    }

    /// Judges the namespaces that no sample visited since the latest scan, before that is replaced: an array is certain
    /// only by every scan.
    fn judge_unvisited(&mut self) {
        let number = self.scan.number;
        let mut calls = 0;
        let (scan, roster, wait_us) = (&self.scan, &mut self.roster, self.wait_us);
        let (own, pause_us) = (self.own.unwrap_or_default(), pause_us(self.interval_us, wait_us));
        for space in self.spaces.values_mut().filter(|space| space.judged != number) {
            space.judge(&mut look(roster, scan, own, (pause_us, wait_us), &mut calls));
        }
    }

    /// Who holds the objects of that namespace, which the calling thread is in and has just read. `None` = processes
    /// could not be looked at.
    pub fn of(&mut self, kernel: &mut dyn Kernel, id: NamespaceId, objects: Objects<'_>, at: At) -> Option<Who> {
        if !self.roster.listed() {
            return None;
        }
        let space = self.spaces.entry(id).or_insert_with(|| Space::new(id));
        let others = self.remembered.saturating_sub(space.count());
        let room = MAX_OBJECTS.saturating_sub(others);
        space.read(objects, &self.clock, &self.hints, (id, room), at.boot_us);
        self.remembered = others + space.count();
        self.hints.taken(id);
        let fresh = self.scan.fresh && space.judged != self.scan.number;
        let own = self.own.unwrap_or_default();
        let periods = (pause_us(self.interval_us, self.wait_us), self.wait_us);
        let mut look = look(&mut self.roster, &self.scan, own, periods, &mut self.calls);
        space.ask(kernel, &mut look, fresh);
        if fresh {
            space.judge(&mut look);
            self.scan.soon |= space.is_new_to_it();
        }
        Some(space.who())
    }

    /// Takes the makers of objects that the kernel's trace named, after the sample that they belong to (at home): those
    /// that still live are looked at at once.
    pub fn learn(&mut self, kernel: &mut dyn Kernel, activity: &Activity, at: At) {
        self.hints.learn(activity);
        self.hints.look(kernel, &mut self.roster, at.boot_us);
    }

    /// That namespace is gone.
    pub fn forget(&mut self, id: NamespaceId) {
        if let Some(space) = self.spaces.remove(&id) {
            self.remembered = self.remembered.saturating_sub(space.count());
        }
    }
}

/// The most that a pause between two scans counts as looking: where they are far apart, two do not make a period.
fn pause_us(interval_us: u64, wait_us: u64) -> u64 {
    (2 * interval_us).max(2 * (wait_us / 10).min(SLOWEST_US)).max(wait_us / 2)
}

fn look<'a>(
    roster: &'a mut Roster,
    scan: &Scan,
    own: i32,
    (pause_us, wait_us): (u64, u64),
    calls: &'a mut u32,
) -> Look<'a> {
    let (number, scanned_us, all_seen) = (scan.number, scan.at_us, scan.all_seen);
    Look { roster, scan: number, scanned_us, all_seen, own, pause_us, wait_us, calls }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new(ORPHAN_WAIT)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
