//! A machine that is made of nothing but its seed: processes and semaphore arrays, what happens to them, and who could still
//! use what. The real agent's grades are asked of it as samples would ask them.
//!
//! An array *lives* while a process could use it: one that made it, or descends from one that had; that has the array's uid
//! in any way; that did the last operation on it, or waits for it. A stopped process lives, and so does one that is not
//! waited for: whoever waits for it may have to do with its arrays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_agent::kernel::Entry;
use highwater_agent::kernel::fake::{FakeKernel, HOME};
use highwater_agent::sampler::who::{Objects, Watch};
use highwater_ipc::activity::{Act, Activity, Actor, Did};
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Key, Kind, Owner, Perms, SemArray};
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use highwater_ipc::who::Who;
use highwater_tests::chance::Chance;

const SECOND_US: u64 = 1_000_000;
const BEGIN_MS: i64 = 1_790_000_000_000;
/// How long an array must look abandoned here.
const WAIT: Duration = Duration::from_secs(4);
/// One begins another's digits.
pub(crate) const UIDS: [u32; 3] = [33, 48, 331];
const COMMS: [&str; 4] = ["apache2", "postgres", "a) R 1", "cron"];
/// Pids of the agent, and of whoever keeps a container there.
const AGENT: i32 = 99;
const PAUSE: i32 = 200;

/// A process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    start_us: u64,
    serial: u64,
    ppid: i32,
    session: i32,
    comm: &'static str,
    /// Real, effective, saved, file system.
    pub(crate) uids: [u32; 4],
    /// As `stat` has it: sleeping, stopped, or not waited for.
    state: char,
    /// Whether it is in the namespace of the arrays.
    pub(crate) inside: bool,
    /// Serials of the arrays that it knows of because it made them or descends from who did.
    knows: BTreeSet<u64>,
}

/// An array.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    serial: u64,
    pub(crate) row: SemArray,
    /// Pid and serial of the last process at each semaphore.
    last: Vec<Option<(i32, u64)>>,
    /// Serial of a process that waits.
    waiter: Option<u64>,
}

/// The machine.
pub(crate) struct Machine {
    pub(crate) chance: Chance,
    pub(crate) boot_id: BootId,
    /// The namespace of the arrays.
    pub(crate) namespace: NamespaceId,
    /// What it is called, if it is a container's.
    name: Option<HostText>,
    pub(crate) processes: BTreeMap<i32, Process>,
    pub(crate) arrays: BTreeMap<i32, Array>,
    now_us: u64,
    serial: u64,
    traced: bool,
    acts: Vec<Act>,
    /// The agent's; `None` = what it says is said.
    watch: Option<Watch>,
    who: Who,
    sampled_us: u64,
}

impl Machine {
    /// A machine with a past.
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let in_container = chance.one_in(4);
        let process = |session, comm| Process {
            start_us: 0,
            serial: 0,
            ppid: 0,
            session,
            comm,
            uids: [0; 4],
            state: 'S',
            inside: !in_container,
            knows: BTreeSet::new(),
        };
        let own = Process { ppid: 1, ..process(AGENT, "highwater-agent") };
        let pause = Process { ppid: 1, uids: [65_535; 4], inside: true, ..process(PAUSE, "pause") };
        let mut this = Self {
            boot_id: BootId(u128::from(chance.next()).to_be_bytes()),
            namespace: if in_container { NamespaceId { inode: 4_026_532_777, instance: 9 } } else { HOME },
            name: in_container.then(|| HostText::from("pod")),
            processes: BTreeMap::from([(1, process(1, "init")), (AGENT, own), (PAUSE, pause)]),
            arrays: BTreeMap::new(),
            now_us: 1_000 * SECOND_US,
            serial: 0,
            traced: chance.one_in(2),
            acts: Vec::new(),
            watch: Some(Watch::new(WAIT)),
            who: Who::default(),
            sampled_us: 0,
            chance,
        };
        for _ in 0..20 + this.chance.below(60) {
            this.happen();
            let later = this.chance.pick(&[10_000, 300_000, 1_500_000]);
            this.pass(later);
        }
        this.end_some();
        this
    }

    /// The same as it is now, to go on from: no agent looks any more.
    pub(crate) fn copy(&self) -> Self {
        Self {
            chance: self.chance.clone(),
            boot_id: self.boot_id,
            namespace: self.namespace,
            name: self.name.clone(),
            processes: self.processes.clone(),
            arrays: self.arrays.clone(),
            now_us: self.now_us,
            serial: self.serial,
            traced: self.traced,
            acts: Vec::new(),
            watch: None,
            who: Who::default(),
            sampled_us: self.sampled_us,
        }
    }

    /// Whether its arrays are in a container.
    pub(crate) fn is_container(&self) -> bool {
        self.name.is_some()
    }

    /// Some users' processes end, and it is quiet for a while.
    fn end_some(&mut self) {
        for uid in UIDS {
            if self.chance.one_in(4) {
                continue;
            }
            let of: Vec<i32> = self.alive().filter(|(_, p)| p.uids.contains(&uid)).map(|(pid, _)| *pid).collect();
            of.into_iter().for_each(|pid| self.exit(pid, true));
        }
        if self.chance.one_in(2) {
            let all: Vec<i32> = self.alive().map(|(pid, _)| *pid).collect();
            all.into_iter().for_each(|pid| self.exit(pid, true));
        }
        for _ in 0..12 {
            self.pass(SECOND_US);
        }
    }

    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn wall_ms(&self) -> i64 {
        BEGIN_MS + i64::try_from(self.now_us / 1_000).unwrap()
    }

    fn wall_s(&self) -> i64 {
        self.wall_ms() / 1_000
    }

    /// Those that live, but pid 1 and the agent.
    fn alive(&self) -> impl Iterator<Item = (&i32, &Process)> {
        self.processes.iter().filter(|(pid, process)| **pid >= 300 && process.state != 'Z')
    }

    fn pick(&mut self) -> Option<i32> {
        let alive: Vec<i32> = self.alive().map(|(pid, _)| *pid).collect();
        (!alive.is_empty()).then(|| self.chance.pick(&alive))
    }

    fn free_pid(&mut self) -> Option<i32> {
        // Few, so that they come again; sessions keep theirs.
        let taken = |pid: &i32| self.processes.contains_key(pid) || self.processes.values().any(|p| p.session == *pid);
        let free: Vec<i32> = (300..330).filter(|pid| !taken(pid)).collect();
        (!free.is_empty()).then(|| self.chance.pick(&free))
    }

    fn pick_array(&mut self) -> Option<i32> {
        let ids: Vec<i32> = self.arrays.keys().copied().collect();
        (!ids.is_empty()).then(|| self.chance.pick(&ids))
    }

    /// A service begins: its parent is pid 1, its session its own.
    pub(crate) fn service(&mut self, uids: [u32; 4]) -> Option<i32> {
        let (pid, serial) = (self.free_pid()?, self.serial());
        let comm = self.chance.pick(&COMMS);
        // In the container, or beside it.
        let inside = !self.is_container() || !self.chance.one_in(4);
        let process = Process {
            start_us: self.now_us,
            serial,
            ppid: 1,
            session: pid,
            comm,
            uids,
            state: 'S',
            inside,
            knows: BTreeSet::new(),
        };
        self.processes.insert(pid, process);
        Some(pid)
    }

    fn fork(&mut self, parent: i32) {
        let (Some(pid), serial) = (self.free_pid(), self.serial()) else { return };
        let Some(of) = self.processes.get(&parent).cloned() else { return };
        self.processes.insert(pid, Process { start_us: self.now_us, serial, ppid: parent, state: 'S', ..of });
    }

    /// Dies; a parent other than pid 1 may not wait for it.
    pub(crate) fn exit(&mut self, pid: i32, waited_for: bool) {
        for child in self.processes.values_mut().filter(|process| process.ppid == pid) {
            child.ppid = 1;
        }
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.state = 'Z';
        for array in self.arrays.values_mut().filter(|array| array.waiter == Some(process.serial)) {
            array.waiter = None;
        }
        if waited_for {
            self.processes.retain(|_, process| process.state != 'Z');
        }
    }

    fn create(&mut self, pid: i32, id: Option<i32>) -> Option<i32> {
        let free: Vec<i32> =
            [0, 1, 11, 98_304, 5, 32_769].into_iter().filter(|i| !self.arrays.contains_key(i)).collect();
        let semid = if let Some(id) = id { id } else { *free.get(self.chance.index(free.len()))? };
        let (serial, wall_s, set) = (self.serial(), self.wall_s(), !self.chance.one_in(4));
        let (nsems, key) = (1 + u32::try_from(self.chance.below(3)).unwrap(), self.chance.pick(&[0, 7, -5]));
        let process = self.processes.get_mut(&pid)?;
        process.knows.insert(serial);
        let (uid, comm) = (process.uids[1], process.comm);
        let owner = Owner { uid, gid: 0, cuid: uid, cgid: 0 };
        let row = SemArray { key: Key(key), semid, perms: Perms(0o600), nsems, owner, otime: 0, ctime: wall_s };
        let last = vec![set.then_some((pid, process.serial)); usize::try_from(nsems).unwrap()];
        self.arrays.insert(semid, Array { serial, row, last, waiter: None });
        if self.traced {
            self.acts.push(Act {
                did: Did::Created,
                kind: Kind::Sem,
                namespace: Some(self.namespace),
                by: Actor { pid, comm: comm.into(), uid: Some(uid), ..Actor::default() },
                first_us: self.now_us,
                last_us: self.now_us,
                count: 1,
                key: Key(key),
                size: u64::from(nsems),
                ids: vec![semid],
                bound_by: None,
            });
        }
        Some(semid)
    }

    /// Removed and made anew under the same id, by a process that lives.
    pub(crate) fn recreate(&mut self, semid: i32) {
        let Some(pid) = self.pick() else { return };
        let Some(before) = self.arrays.remove(&semid) else { return };
        self.create(pid, Some(semid));
        if let Some(array) = self.arrays.get_mut(&semid) {
            // Alike in all that whoever makes it says.
            let Owner { cuid, cgid, .. } = array.row.owner;
            array.row = SemArray { ctime: array.row.ctime, otime: 0, ..before.row };
            (array.row.owner.cuid, array.row.owner.cgid) = (cuid, cgid);
            array.last.resize(usize::try_from(array.row.nsems).unwrap(), None);
        }
    }

    pub(crate) fn chown(&mut self, semid: i32, uid: u32) {
        let wall_s = self.wall_s();
        if let Some(array) = self.arrays.get_mut(&semid) {
            (array.row.owner.uid, array.row.ctime) = (uid, wall_s);
        }
    }

    /// Does an operation, or sets a value, which moves another of its times.
    pub(crate) fn operate(&mut self, pid: i32, semid: i32, sets: bool) {
        let wall_s = self.wall_s();
        let Some(serial) = self.processes.get(&pid).map(|process| process.serial) else { return };
        if let Some(array) = self.arrays.get_mut(&semid) {
            array.last[0] = Some((pid, serial));
            if sets { array.row.ctime = wall_s } else { array.row.otime = wall_s }
        }
    }

    /// Waits for it, which shows in none of its times.
    pub(crate) fn wait_for(&mut self, pid: i32, semid: i32) {
        let serial = self.processes.get(&pid).map(|process| process.serial);
        if let Some(array) = self.arrays.get_mut(&semid) {
            array.waiter = serial;
        }
    }

    /// How many wait for each of its semaphores, and who was there last: as GETNCNT and GETPID answer.
    pub(crate) fn semaphores(&self, semid: i32) -> Vec<(u64, i32)> {
        let Some(array) = self.arrays.get(&semid) else { return Vec::new() };
        let waits = |index| u64::from(array.waiter.is_some() && index == 0);
        array.last.iter().enumerate().map(|(i, last)| (waits(i), last.map_or(0, |(pid, _)| pid))).collect()
    }

    /// Something happens.
    pub(crate) fn happen(&mut self) {
        let (pid, semid) = (self.pick(), self.pick_array());
        let (uid, comm) = (self.chance.pick(&UIDS), self.chance.pick(&COMMS));
        match (self.chance.below(28), pid, semid) {
            (0..=3, ..) => {
                let uid = if self.chance.one_in(2) { uid } else { 0 };
                self.service([uid; 4]);
            }
            (4..=6, Some(pid), _) => self.fork(pid),
            (7, Some(pid), _) => self.processes.get_mut(&pid).unwrap().comm = comm,
            (8 | 9, Some(pid), _) => self.set_uids(pid, [uid; 4]),
            (10, Some(pid), _) => {
                let mut uids = [0; 4];
                uids[self.chance.pick(&[0, 2, 3])] = uid;
                self.set_uids(pid, uids);
            }
            (11..=14, Some(pid), _) => {
                let waited_for = !self.chance.one_in(3);
                self.exit(pid, waited_for);
            }
            (15, Some(pid), _) => self.processes.get_mut(&pid).unwrap().state = 'T',
            (16, Some(pid), _) => self.processes.get_mut(&pid).unwrap().state = 'S',
            (17..=21, Some(pid), _) => drop(self.create(pid, None)),
            (22, _, Some(semid)) => self.chown(semid, uid),
            (23 | 24, Some(pid), Some(semid)) => {
                let sets = self.chance.one_in(3);
                self.operate(pid, semid, sets);
            }
            (25, Some(pid), Some(semid)) => self.wait_for(pid, semid),
            (26, _, Some(semid)) => self.recreate(semid),
            (27, _, Some(semid)) => drop(self.arrays.remove(&semid)),
            _ => {}
        }
    }

    /// Only root can take other ones.
    fn set_uids(&mut self, pid: i32, uids: [u32; 4]) {
        if let Some(process) = self.processes.get_mut(&pid).filter(|process| process.uids[1] == 0) {
            process.uids = uids;
        }
    }

    /// Whether somebody could still use that array.
    pub(crate) fn lives(&self, semid: i32) -> bool {
        let Some(array) = self.arrays.get(&semid) else { return false };
        let last: BTreeSet<u64> = array.last.iter().flatten().map(|(_, serial)| *serial).collect();
        self.processes.values().any(|process| {
            let holds = process.knows.contains(&array.serial) || last.contains(&process.serial);
            process.uids.contains(&array.row.owner.uid)
                || process.state != 'Z' && (holds || array.waiter == Some(process.serial))
        })
    }

    /// Time passes; each second a sample is taken.
    pub(crate) fn pass(&mut self, us: u64) {
        self.now_us += us;
        if self.now_us - self.sampled_us >= SECOND_US {
            self.sample();
        }
    }

    fn sample(&mut self) {
        self.sampled_us = self.now_us;
        let Some(mut watch) = self.watch.take() else { return };
        let mut kernel = self.kernel();
        let at = At { wall_ms: self.wall_ms(), boot_us: self.now_us };
        watch.scan_if_due(&mut kernel, at);
        let sem = kernel.sem.clone();
        let objects = Objects { sem: Some(&sem), shm: Some(&[]), msg: Some(&[]) };
        self.who = watch.of(&mut kernel, self.namespace, objects, at).unwrap();
        let activity = Activity { acts: std::mem::take(&mut self.acts), ..Activity::default() };
        watch.learn(&mut kernel, &activity, at);
        self.watch = Some(watch);
    }

    fn kernel(&self) -> FakeKernel {
        let mut kernel = FakeKernel::new();
        kernel.processes.clear();
        for (pid, process) in &self.processes {
            kernel.process(*pid, HOME.inode);
            kernel.entries.insert(*pid, Entry { mark: (process.serial, 0), uid: process.uids[1] });
            let Process { ppid, session, comm, state, .. } = process;
            let ticks = process.start_us / 10_000;
            let stat = format!("{pid} ({comm}) {state} {ppid} 0 {session} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 {ticks} 0");
            kernel.files.insert(format!("/proc/{pid}/stat"), Ok(stat.into_bytes()));
            kernel.files.insert(format!("/proc/{pid}/status"), Ok(self.status(*pid).into_bytes()));
        }
        let mount = b"22 27 0:21 / /proc rw - proc proc rw".to_vec();
        kernel.files.insert("/proc/self/mountinfo".into(), Ok(mount));
        kernel.files.insert("/proc/self/status".into(), Ok(b"Uid:\t0\t0\t0\t0\n".to_vec()));
        kernel.links.insert("/proc/self".into(), AGENT.to_string().into_bytes());
        kernel.sem = self.arrays.values().map(|array| array.row).collect();
        for semid in self.arrays.keys() {
            for (index, (waits, pid)) in (0..).zip(self.semaphores(*semid)) {
                kernel.semaphores.insert((*semid, index), Ok((pid, waits)));
            }
        }
        kernel
    }

    /// `/proc/PID/status`, as far as anybody reads it.
    pub(crate) fn status(&self, pid: i32) -> String {
        let Some(Process { comm, ppid, uids: [r, e, s, f], state, .. }) = self.processes.get(&pid) else {
            return String::new();
        };
        format!(
            "Name:\t{comm}\nState:\t{state}\nTgid:\t{pid}\nPPid:\t{ppid}\nUid:\t{r}\t{e}\t{s}\t{f}\nNSpid:\t{pid}\n"
        )
    }

    /// What the latest sample says.
    pub(crate) fn state(&self) -> State {
        let limits = Limits { semmni: 128, ..highwater_agent::kernel::fake::DEFAULT_LIMITS };
        let rows: Vec<SemArray> = self.arrays.values().map(|array| array.row).collect();
        let (sem_arrays, semaphores) = (rows.len() as u64, rows.iter().map(|row| u64::from(row.nsems)).sum());
        let namespace = Namespace {
            id: self.namespace,
            name: self.name.clone(),
            limits: Some(limits),
            totals: Some(Totals { sem_arrays, semaphores, ..Totals::default() }),
            sem: Some(rows),
            shm: Some(Vec::new()),
            msg: Some(Vec::new()),
            who: Some(self.who.clone()),
            ..Namespace::default()
        };
        let own = Namespace { id: HOME, ..Namespace::default() };
        let namespaces = if self.is_container() { vec![own, namespace] } else { vec![namespace] };
        State { boot_id: self.boot_id, interval_ms: 1_000, page_size: 4_096, namespaces, ..State::default() }
    }
}
