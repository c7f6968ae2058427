//! Random histories of processes and objects, against a model that knows who could still use what.
//!
//! What the model holds for alive: an array that a living process (running or stopped) could use because it made it or
//! descends from a process that had made it; or because it has the array's uid; or because it did the last operation or
//! waits. Every so often the clock is set, the trace loses events or is off, processes are hidden, pids and ids come
//! again, children are not waited for.
//!
//! What it leaves out is what [`super::maker`] says is not covered: a descendant that both begins a session of its own
//! and takes another comm, and (where nothing is traced) a root process that made an array while it went by another uid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_ipc::activity::{Act, Activity, Actor, Did};
use highwater_ipc::object::{Key, Kind, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::time::At;
use highwater_ipc::who::{Grade, Orphan, Who};
use proptest::prelude::*;

use super::{Objects, Watch};
use crate::kernel::Entry;
use crate::kernel::fake::{FakeKernel, HOME};

const SECOND: u64 = 1_000_000;
/// Boot time when a history begins.
const BEGIN_US: u64 = 1000 * SECOND;
pub(super) const WAIT: Duration = Duration::from_secs(4);
const UIDS: [u32; 3] = [33, 48, 1007];
const COMMS: [&str; 4] = ["apache2", "postgres", "a) R 1", "b\nb"];

#[derive(Clone, Debug)]
struct Process {
    start_us: u64,
    serial: u64,
    ppid: i32,
    session: i32,
    comm: &'static str,
    /// Real, effective, saved, file system.
    uids: [u32; 4],
    zombie: bool,
    /// Serials of the arrays that it knows of because it made them or descends from who did.
    knows: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Array {
    serial: u64,
    row: SemArray,
    /// Pid and serial of the last process at each semaphore.
    last: Vec<Option<(i32, u64)>>,
    /// Serial of a process that waits.
    waiter: Option<u64>,
}

/// A machine.
pub(super) struct World {
    now_us: u64,
    wall_ms: i64,
    serial: u64,
    processes: BTreeMap<i32, Process>,
    arrays: BTreeMap<i32, Array>,
    segments: BTreeMap<i32, ShmSegment>,
    hidden: BTreeSet<i32>,
    hides: bool,
    traced: Traced,
    acts: Vec<Act>,
    lost: u64,
    watch: Watch,
    pub(super) who: Who,
    sampled_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traced {
    Off,
    Lossy,
    Whole,
}

impl World {
    pub(super) fn new(traced: Traced, hides: bool) -> Self {
        let root = |session| Process {
            start_us: 0,
            serial: 0,
            ppid: 0,
            session,
            comm: "init",
            uids: [0; 4],
            zombie: false,
            knows: BTreeSet::new(),
        };
        let own = Process { ppid: 1, comm: "highwater-agent", ..root(99) };
        World {
            now_us: BEGIN_US,
            wall_ms: 1_700_000_000_000,
            serial: 0,
            processes: BTreeMap::from([(1, root(1)), (99, own)]),
            arrays: BTreeMap::new(),
            segments: BTreeMap::new(),
            hidden: BTreeSet::new(),
            hides,
            traced,
            acts: Vec::new(),
            lost: 0,
            watch: Watch::new(WAIT),
            who: Who::default(),
            sampled_us: 0,
        }
    }

    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn wall_s(&self) -> i64 {
        (self.wall_ms + i64::try_from(self.now_us / 1000).unwrap()) / 1000
    }

    /// One of those that live, and are not pid 1 or the agent.
    fn pick(&self, which: u16) -> Option<i32> {
        let alive: Vec<i32> =
            self.processes.iter().filter(|(pid, p)| **pid >= 300 && !p.zombie).map(|(p, _)| *p).collect();
        alive.get(usize::from(which) % alive.len().max(1)).copied()
    }

    fn free_pid(&self, which: u16) -> Option<i32> {
        // Few, so that they come again; sessions keep theirs.
        let taken = |pid: &i32| self.processes.contains_key(pid) || self.processes.values().any(|p| p.session == *pid);
        let free: Vec<i32> = (300..330).filter(|pid| !taken(pid)).collect();
        free.get(usize::from(which) % free.len().max(1)).copied()
    }

    /// Begins a service: its parent is pid 1, its session its own.
    pub(super) fn service(&mut self, which: u16, comm: &'static str, uid: u32) -> Option<i32> {
        let pid = self.free_pid(which)?;
        let serial = self.serial();
        let process = Process {
            start_us: self.now_us,
            serial,
            ppid: 1,
            session: pid,
            comm,
            uids: [uid; 4],
            zombie: false,
            knows: BTreeSet::new(),
        };
        self.processes.insert(pid, process);
        Some(pid)
    }

    pub(super) fn fork(&mut self, parent: i32, which: u16) -> Option<i32> {
        let pid = self.free_pid(which)?;
        let serial = self.serial();
        let child = Process { start_us: self.now_us, serial, ppid: parent, ..self.processes.get(&parent)?.clone() };
        self.processes.insert(pid, child);
        Some(pid)
    }

    pub(super) fn setuid(&mut self, pid: i32, uid: u32) {
        if let Some(process) = self.processes.get_mut(&pid).filter(|process| process.uids[1] == 0) {
            process.uids = [uid; 4];
        }
    }

    /// Only one of the others than the effective one.
    fn keep_uid(&mut self, pid: i32, which: u16, uid: u32) {
        if let Some(process) = self.processes.get_mut(&pid).filter(|process| process.uids[1] == 0) {
            process.uids[[0, 2, 3][usize::from(which) % 3]] = uid;
        }
    }

    /// Dies; a parent other than pid 1 may leave it a zombie.
    pub(super) fn exit(&mut self, pid: i32, waited_for: bool) {
        for child in self.processes.values_mut().filter(|process| process.ppid == pid) {
            child.ppid = 1;
        }
        let Some(process) = self.processes.get_mut(&pid) else { return };
        for array in self.arrays.values_mut().filter(|array| array.waiter == Some(process.serial)) {
            array.waiter = None;
        }
        process.zombie = true;
        if waited_for {
            self.reap();
        }
    }

    fn reap(&mut self) {
        self.processes.retain(|_, process| !process.zombie);
        let alive: Vec<i32> = self.processes.keys().copied().collect();
        self.hidden.retain(|pid| alive.contains(pid));
    }

    /// Makes an array and, if `set`, initialises it.
    pub(super) fn create(&mut self, pid: i32, which: u16, nsems: u32, set: bool) -> Option<i32> {
        let semid = (0..6).filter(|id| !self.arrays.contains_key(id)).nth(usize::from(which) % 3)?;
        let (serial, wall_s) = (self.serial(), self.wall_s());
        let process = self.processes.get_mut(&pid)?;
        process.knows.insert(serial);
        let uid = process.uids[1];
        let owner = Owner { uid, gid: 0, cuid: uid, cgid: 0 };
        let row = SemArray { key: Key(0), semid, perms: Perms(0o600), nsems, owner, otime: 0, ctime: wall_s };
        let last = vec![set.then_some((pid, process.serial)); usize::try_from(nsems).unwrap()];
        self.arrays.insert(semid, Array { serial, row, last, waiter: None });
        let by = Actor { pid, comm: process.comm.into(), uid: Some(uid), ..Actor::default() };
        let (first_us, last_us) = (self.now_us, self.now_us);
        let placed = which.is_multiple_of(2);
        match self.traced {
            Traced::Whole => self.acts.push(Act {
                did: Did::Created,
                kind: Kind::Sem,
                namespace: placed.then_some(HOME),
                by,
                first_us,
                last_us,
                count: if which.is_multiple_of(5) { 2 } else { 1 },
                key: Key(0),
                size: u64::from(nsems),
                ids: if which.is_multiple_of(5) { vec![] } else { vec![semid] },
                bound_by: None,
            }),
            Traced::Lossy => self.lost += 1,
            Traced::Off => {}
        }
        Some(semid)
    }

    pub(super) fn chown(&mut self, semid: i32, uid: u32) {
        let wall_s = self.wall_s();
        if let Some(array) = self.arrays.get_mut(&semid) {
            array.row.owner.uid = uid;
            array.row.ctime = wall_s;
        }
    }

    pub(super) fn semop(&mut self, pid: i32, semid: i32, index: usize) {
        let wall_s = self.wall_s();
        let Some(serial) = self.processes.get(&pid).map(|process| process.serial) else { return };
        if let Some(array) = self.arrays.get_mut(&semid) {
            let index = index % array.last.len();
            array.last[index] = Some((pid, serial));
            array.row.otime = wall_s;
        }
    }

    fn block(&mut self, pid: i32, semid: i32) {
        let serial = self.processes.get(&pid).map(|process| process.serial);
        if let Some(array) = self.arrays.get_mut(&semid) {
            array.waiter = serial;
        }
    }

    fn segment(&mut self, pid: i32, which: u16) {
        let shmid = i32::from(which % 3);
        let owner = Owner { uid: self.processes.get(&pid).map_or(0, |p| p.uids[1]), ..Owner::default() };
        let (key, perms, size, nattch) = (Key(0), Perms(0o600), 4096, u64::from(which % 2));
        let (atime, dtime, ctime) = (0, 0, self.wall_s());
        let (cpid, lpid, rss, swap) = (pid, if which.is_multiple_of(4) { pid } else { 0 }, 0, 0);
        let row = ShmSegment { key, shmid, perms, size, cpid, lpid, nattch, owner, atime, dtime, ctime, rss, swap };
        self.segments.insert(shmid, row);
    }

    /// Whether somebody could still use that array.
    fn lives(&self, array: &Array) -> bool {
        let alive = self.processes.values().filter(|process| !process.zombie);
        let last: BTreeSet<u64> = array.last.iter().flatten().map(|(_, serial)| *serial).collect();
        alive.into_iter().any(|process| {
            process.knows.contains(&array.serial)
                || process.uids.contains(&array.row.owner.uid)
                || last.contains(&process.serial)
                || array.waiter == Some(process.serial)
        })
    }

    fn kernel(&self) -> FakeKernel {
        let mut kernel = FakeKernel::new();
        kernel.processes.clear();
        for (pid, process) in self.processes.iter().filter(|(pid, _)| !self.hidden.contains(pid)) {
            kernel.process(*pid, HOME.inode);
            kernel.entries.insert(*pid, Entry { mark: (process.serial, 0), uid: process.uids[1] });
            let Process { ppid, session, comm, uids: [r, e, s, f], .. } = process;
            let ticks = process.start_us / 10_000;
            let state = if process.zombie { 'Z' } else { 'S' };
            let stat = format!("{pid} ({comm}) {state} {ppid} 0 {session} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 {ticks} 0");
            let name = comm.replace('\n', "\\n");
            let status =
                format!("Name:\t{name}\nTgid:\t{pid}\nPPid:\t{ppid}\nUid:\t{r}\t{e}\t{s}\t{f}\nNSpid:\t{pid}\n");
            kernel.files.insert(format!("/proc/{pid}/stat"), Ok(stat.into_bytes()));
            kernel.files.insert(format!("/proc/{pid}/status"), Ok(status.into_bytes()));
        }
        let options = if self.hides { ",hidepid=2" } else { "" };
        let mount = format!("22 27 0:21 / /proc rw - proc proc rw{options}");
        kernel.files.insert("/proc/self/mountinfo".into(), Ok(mount.into_bytes()));
        kernel.files.insert("/proc/self/status".into(), Ok(b"Uid:\t0\t0\t0\t0\n".to_vec()));
        kernel.links.insert("/proc/self".into(), b"99".to_vec());
        kernel.sem = self.arrays.values().map(|array| array.row).collect();
        for array in self.arrays.values() {
            for (index, last) in array.last.iter().enumerate() {
                let waiters = u64::from(array.waiter.is_some() && index == 0);
                let place = (array.row.semid, u32::try_from(index).unwrap());
                kernel.semaphores.insert(place, Ok((last.map_or(0, |(pid, _)| pid), waiters)));
            }
        }
        kernel
    }

    /// One sample; `visited` = also of the namespace with the objects.
    pub(super) fn sample(&mut self, visited: bool) {
        let mut kernel = self.kernel();
        let boot_us = self.now_us;
        let at = At { wall_ms: self.wall_ms + i64::try_from(boot_us / 1000).unwrap(), boot_us };
        self.watch.scan_if_due(&mut kernel, at);
        if visited {
            let (sem, shm) = (kernel.sem.clone(), self.segments.values().copied().collect::<Vec<_>>());
            let objects = Objects { sem: Some(&sem), shm: Some(&shm), msg: Some(&[]) };
            self.who = self.watch.of(&mut kernel, HOME, objects, at).unwrap();
        }
        let acts = std::mem::take(&mut self.acts);
        let activity = Activity { acts, lost: std::mem::take(&mut self.lost), ..Activity::default() };
        self.watch.learn(&mut kernel, &activity, at);
        self.sampled_us = self.now_us;
    }

    /// Time passes, with a sample each second; says whether there was one that visited the objects.
    pub(super) fn pass(&mut self, us: u64, visited: bool) -> bool {
        self.now_us += us;
        let due = self.now_us - self.sampled_us >= SECOND;
        if due {
            self.sample(visited);
        }
        due && visited
    }

    pub(super) fn orphan(&self, semid: i32) -> Option<&Orphan> {
        self.who.objects.get(&(Kind::Sem, semid)).and_then(|known| known.orphan.as_ref())
    }

    /// Seconds pass.
    pub(super) fn seconds(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(SECOND, true);
        }
    }

    /// The arrays that are certain, none of which lives and no segment among them.
    fn certain(&self) -> Result<usize, String> {
        let mut certain = 0;
        for ((kind, id), known) in &self.who.objects {
            let Some(orphan) = &known.orphan else { continue };
            if *kind != Kind::Sem && orphan.grade != Grade::Unattached || *kind == Kind::Msg {
                return Err(format!("{kind:?} {id} is {orphan:?}"));
            }
            if orphan.grade == Grade::Certain {
                certain += 1;
                if let Some(array) = self.arrays.get(id).filter(|array| self.lives(array)) {
                    return Err(format!("certain but alive: {array:?} of {:?}", self.processes));
                }
            }
        }
        Ok(certain)
    }

    fn step(&mut self, (what, a, b): (u8, u16, u16)) {
        let pid = self.pick(a);
        let semid = self.arrays.keys().copied().nth(usize::from(b) % self.arrays.len().max(1));
        let uid = UIDS[usize::from(b) % UIDS.len()];
        let comm = COMMS[usize::from(b / 7) % COMMS.len()];
        match (what % 32, pid, semid) {
            (0..=2, ..) => drop(self.service(b, comm, if a.is_multiple_of(3) { uid } else { 0 })),
            (3..=6, Some(pid), _) => drop(self.fork(pid, b)),
            (7, Some(pid), _) => self.processes.get_mut(&pid).unwrap().comm = comm,
            (8 | 9, Some(pid), _) => self.setuid(pid, uid),
            (10, Some(pid), _) => self.keep_uid(pid, a / 5, uid),
            (11..=16, Some(pid), _) => self.exit(pid, !b.is_multiple_of(3)),
            (17, ..) => self.reap(),
            (18..=21, Some(pid), _) => drop(self.create(pid, b, 1 + u32::from(a % 3), !b.is_multiple_of(4))),
            (22, _, Some(semid)) => self.chown(semid, if a.is_multiple_of(4) { 0 } else { UIDS[usize::from(a) % 3] }),
            (23..=26, Some(pid), Some(semid)) => self.semop(pid, semid, usize::from(a)),
            (27, Some(pid), Some(semid)) => self.block(pid, semid),
            (28, _, Some(semid)) if b.is_multiple_of(3) => drop(self.arrays.remove(&semid)),
            (29, Some(pid), _) => self.segment(pid, b),
            (30, Some(pid), _) if self.hides => drop(self.hidden.insert(pid)),
            (31, ..) if a.is_multiple_of(8) => self.wall_ms += i64::from(b % 5) * 3_600_000 - 7_200_000,
            _ => {}
        }
    }
}

/// One step: what happens, to whom, and how much later the next is.
fn steps() -> impl Strategy<Value = Vec<((u8, u16, u16), u64, bool)>> {
    let later = prop_oneof![4 => Just(10_000_u64), 3 => 100_000..900_000_u64, 3 => 1_000_000..3_000_000_u64];
    proptest::collection::vec((any::<(u8, u16, u16)>(), later, prop::bool::weighted(0.9)), 20..160)
}

/// Plays a history and then a quiet time in which processes end one after the other; returns how often something was
/// certain.
fn play(world: &mut World, steps: Vec<((u8, u16, u16), u64, bool)>) -> Result<usize, String> {
    let mut certain = 0;
    for (step, later, visited) in steps {
        world.step(step);
        if world.pass(later, visited) {
            certain += world.certain()?;
        }
    }
    while let Some(pid) = world.pick(0) {
        for _ in 0..12 {
            world.pass(SECOND, true);
            certain += world.certain()?;
        }
        world.exit(pid, true);
    }
    for _ in 0..12 {
        world.pass(SECOND, true);
        certain += world.certain()?;
    }
    Ok(certain)
}

#[test]
fn in_a_thousand_histories_nothing_alive_is_certain_and_much_that_is_dead_is() {
    let (mut runner, certain) = (
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 1000, ..ProptestConfig::default() }),
        std::cell::Cell::new(0),
    );
    let traced = prop_oneof![Just(Traced::Off), Just(Traced::Lossy), Just(Traced::Whole)];
    let worlds = (steps(), traced, prop::bool::weighted(0.1));
    let outcome = runner.run(&worlds, |(steps, traced, hides)| {
        let seen = play(&mut World::new(traced, hides), steps).map_err(TestCaseError::fail)?;
        prop_assert!(seen == 0 || !hides, "certain, though processes are hidden");
        certain.set(certain.get() + usize::from(seen > 0));
        Ok(())
    });
    outcome.unwrap();
    assert!(certain.get() > 100, "something was certain in {} histories only", certain.get());
}
