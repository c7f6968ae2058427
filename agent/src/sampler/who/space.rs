//! What is known of the objects of one IPC namespace.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::object::{Kind, MsgQueue, Object, SemArray, ShmSegment};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Doubt, Orphan, Who};

use super::Objects;
use super::clock::Watched;
use super::grade::{self, Users, Verdict};
use super::hints::{Hint, Hints};
use super::maker::Maker;
use super::roster::{Look, Process};
use super::track::{Array, Asked, Held, Used, User, dead, known, together};
use crate::kernel::Kernel;

/// Semaphores of one array that are asked; an array with more is never certain.
pub const MAX_SEMAPHORES: u32 = 1024;
/// The most processes remembered as last users of one array; where there are more it is never certain.
const MAX_USERS: usize = 64;
/// Owner uids of a namespace whose processes are named.
const MAX_OWNERS: usize = 1024;
/// A process younger than this is not named as an owner: it may be gone before anybody reads of it. Microseconds.
const SETTLED_US: u64 = 2_000_000;
/// A comm is named for so long after it was seen last, so that what comes and goes is no change. Microseconds.
const LINGER_US: u64 = 60_000_000;

/// Objects by id, and what the latest scan found.
#[derive(Debug)]
pub struct Space {
    /// What `/proc/PID/ns/ipc` of a member shows; `None` = every process is a member.
    inode: Option<u64>,
    sem: BTreeMap<i32, Array>,
    shm: BTreeMap<i32, Held<ShmSegment>>,
    msg: BTreeMap<i32, Held<MsgQueue>>,
    owners: BTreeSet<u32>,
    comms: BTreeMap<u32, BTreeMap<HostText, u64>>,
    /// The latest scan that it was judged by.
    pub judged: u64,
    visited_us: Option<u64>,
}

impl Space {
    /// A namespace of which nothing is known.
    pub fn new(id: NamespaceId) -> Self {
        Self {
            inode: Some(id.inode).filter(|inode| *inode != 0),
            sem: BTreeMap::new(),
            shm: BTreeMap::new(),
            msg: BTreeMap::new(),
            owners: BTreeSet::new(),
            comms: BTreeMap::new(),
            judged: 0,
            visited_us: None,
        }
    }

    /// How many objects are remembered.
    pub fn count(&self) -> usize {
        self.sem.len() + self.shm.len() + self.msg.len()
    }

    /// The uids that own an object here.
    pub fn owners(&self) -> &BTreeSet<u32> {
        &self.owners
    }

    /// The uids of which an array's grade hangs on whether any process has them.
    pub fn absent(&self, into: &mut BTreeSet<u32>) {
        let hanging = [Verdict::Open, Verdict::Abandoned, Verdict::Doubted(Doubt::Waiting)];
        for owner in self.sem.values().filter(|array| hanging.contains(&array.verdict)).map(|array| array.row.owner) {
            into.insert(owner.uid);
            if owner.cuid != 0 {
                into.insert(owner.cuid);
            }
        }
    }

    /// Takes what a visit read, at most `room` objects, and what the trace said of it.
    pub fn read(
        &mut self,
        objects: Objects<'_>,
        clock: &Watched,
        hints: &Hints,
        place: (NamespaceId, usize),
        at_us: u64,
    ) {
        let (id, room) = place;
        if let Some(rows) = objects.sem {
            self.read_arrays(rows, clock, room, at_us);
            self.name_makers(hints, id, clock);
        }
        if let Some(rows) = objects.shm {
            read(&mut self.shm, rows, clock, room.saturating_sub(self.sem.len()), at_us);
            name(&mut self.shm, hints.about(id, Kind::Shm));
        }
        if let Some(rows) = objects.msg {
            let taken = self.sem.len() + self.shm.len();
            read(&mut self.msg, rows, clock, room.saturating_sub(taken), at_us);
            name(&mut self.msg, hints.about(id, Kind::Msg));
        }
        self.visited_us = Some(at_us);
        let owners = self.sem.values().map(|o| o.row.owner.uid).chain(self.shm.values().map(|o| o.row.owner.uid));
        self.owners = owners.chain(self.msg.values().map(|o| o.row.owner.uid)).take(MAX_OWNERS).collect();
    }

    fn read_arrays(&mut self, rows: &[SemArray], clock: &Watched, room: usize, at_us: u64) {
        for row in rows.iter().take(room) {
            let changed = || clock.changed(row.otime.max(row.ctime));
            match self.sem.get_mut(&row.semid).filter(|known| row.is_same_as(&known.row)) {
                Some(known) => known.again(*row, at_us, changed),
                None => drop(self.sem.insert(row.semid, Array::new(*row, changed(), self.visited_us))),
            }
        }
        forget_gone(&mut self.sem, rows, room);
    }

    /// Gives arrays the makers that the trace names.
    fn name_makers(&mut self, hints: &Hints, id: NamespaceId, clock: &Watched) {
        let mut named: BTreeMap<i32, Vec<&Hint>> = BTreeMap::new();
        for hint in hints.about(id, Kind::Sem) {
            for semid in &hint.ids {
                named.entry(*semid).or_default().push(hint);
            }
        }
        for (semid, hints) in named {
            let Some(array) = self.sem.get_mut(&semid) else { continue };
            // One that was made after this one was seen is another, of the same id and looks.
            if hints.iter().any(|hint| hint.namespace.is_some() && hint.maker.from_us > array.there_by_us) {
                let changed = clock.changed(array.row.otime.max(array.row.ctime));
                *array = Array::new(array.row, changed, Some(array.there_by_us));
            }
            // A hint of an unknown place may be about another namespace; if the trace is whole the true one is among them.
            let about = hints.into_iter().filter(|hint| hint.namespace.is_some() || hint.whole);
            let makers: Vec<Maker> = about.map(|hint| &hint.maker).filter(|m| array.may_be_of(m)).cloned().collect();
            if !makers.is_empty() && !array.traced {
                array.made_by(makers);
            }
        }
        // Where more were made than are listed, what is not listed is of one of these.
        let unlisted: Vec<&Hint> = hints.about(id, Kind::Sem).filter(|hint| hint.more).collect();
        if !unlisted.is_empty() && hints.about(id, Kind::Sem).all(|hint| hint.whole) {
            for array in self.sem.values_mut().filter(|array| !array.traced && array.absent_us.is_some()) {
                let about = unlisted.iter().map(|hint| &hint.maker);
                let makers: Vec<Maker> = about.filter(|maker| array.may_be_of(maker)).cloned().collect();
                if !makers.is_empty() {
                    array.made_by(makers);
                }
            }
        }
    }

    /// Asks who used objects last, and which processes are here: inside the namespace. In a visit right after a scan (`fresh`), of all that changed or
    /// look abandoned, those first that were asked longest ago; else of the new ones alone.
    pub fn ask(&mut self, kernel: &mut dyn Kernel, look: &mut Look<'_>, fresh: bool) {
        if fresh {
            look.roster.place(kernel, &self.owners);
        }
        let due = |array: &&Array| match (array.asked.scan, fresh) {
            (None, true) => true,
            (None, false) => array.there_by_us == u64::MAX,
            (Some(scan), true) => scan < look.scan && matches!(together(&array.users), Users::Dead | Users::Unsure),
            (Some(_), false) => false,
        };
        let mut due: Vec<_> = self.sem.values().filter(due).map(|array| (array.asked.scan, array.row.semid)).collect();
        due.sort_unstable();
        for (_, semid) in due {
            if let Some(array) = self.sem.get_mut(&semid).filter(|_| *look.calls > 0) {
                ask_array(array, kernel, look);
            }
        }
        // Who uses an attached segment changes all the time, and only a name is of interest.
        for segment in self.shm.values_mut().filter(|held| held.name.get().is_none() || held.row.nattch == 0) {
            segment.look(kernel, look);
        }
        for queue in self.msg.values_mut().filter(|queue| queue.name.get().is_none()) {
            queue.look(kernel, look);
        }
    }

    /// Whether something looks abandoned that was asked once only.
    pub fn is_new_to_it(&self) -> bool {
        self.sem.values().any(|a| a.verdict == Verdict::Doubted(Doubt::Waiting) && !a.asked.twice)
    }

    /// Judges everything by the latest scan.
    pub fn judge(&mut self, look: &mut Look<'_>) {
        self.judged = look.scan;
        for array in self.sem.values_mut() {
            let found = array.found(look.roster, look.scan, look.own, look.all_seen);
            array.verdict = grade::judge(&found);
            let graded = array.run.take(array.verdict, look.scanned_us, look.pause_us, look.wait_us);
            let same = |orphan: &&Orphan| graded == Some((orphan.grade, orphan.doubt));
            if array.orphan.as_ref().filter(same).is_none() {
                let last_pids = || dead(&array.users);
                array.orphan = graded.map(|(grade, doubt)| Orphan { grade, doubt, last_pids: last_pids() });
            }
        }
        for segment in self.shm.values_mut() {
            segment.judge(look.roster, look.scan);
        }
        self.name_owners(look);
    }

    /// The comms of the processes of each owner.
    fn name_owners(&mut self, look: &Look<'_>) {
        self.comms.retain(|uid, _| self.owners.contains(uid));
        let users: BTreeSet<i32> =
            self.sem.values().flat_map(|array| array.users.iter().map(|user| user.pid)).collect();
        let mut now: BTreeMap<u32, Vec<(bool, u64, &HostText)>> = BTreeMap::new();
        for process in look.roster.iter().filter(|process| self.has_member(process)) {
            let settled = look.scanned_us.saturating_sub(process.start_us) >= SETTLED_US;
            let used = users.contains(&process.pid);
            let mut uids = process.uids.to_vec();
            uids.sort_unstable();
            uids.dedup();
            for uid in uids.into_iter().filter(|uid| self.owners.contains(uid)) {
                if settled || used || !self.comms.contains_key(&uid) {
                    now.entry(uid).or_default().push((!used, process.start_us, &process.comm));
                }
            }
        }
        for comms in self.comms.values_mut() {
            comms.retain(|_, seen_us| look.scanned_us.saturating_sub(*seen_us) < LINGER_US);
        }
        for (uid, mut processes) in now {
            // Those that use the objects first, then the oldest: what lives long is not displaced by what comes and goes.
            processes.sort_unstable();
            let comms = self.comms.entry(uid).or_default();
            for (_, _, comm) in processes {
                if let Some(seen_us) = comms.get_mut(comm) {
                    *seen_us = look.scanned_us;
                } else if comms.len() < Who::MAX_COMMS {
                    comms.insert(comm.clone(), look.scanned_us);
                }
            }
        }
        self.comms.retain(|_, comms| !comms.is_empty());
    }

    fn has_member(&self, process: &Process) -> bool {
        !process.kernel_thread && self.inode.is_none_or(|inode| process.ipc == Some(inode))
    }

    /// What a sample says.
    pub fn who(&self) -> Who {
        let comms = self.comms.iter().map(|(uid, comms)| (*uid, comms.keys().cloned().collect())).collect();
        let sem = self
            .sem
            .iter()
            .filter_map(|(id, array)| known(&array.name, array.orphan.clone()).map(|known| ((Kind::Sem, *id), known)));
        let shm = self
            .shm
            .iter()
            .filter_map(|(id, segment)| known(&segment.name, segment.orphan()).map(|known| ((Kind::Shm, *id), known)));
        let msg =
            self.msg.iter().filter_map(|(id, queue)| known(&queue.name, None).map(|known| ((Kind::Msg, *id), known)));
        Who { comms, objects: sem.chain(shm).chain(msg).collect() }
    }
}

/// Asks each semaphore for its last process, and where all of those are dead whether anybody waits.
fn ask_array(array: &mut Array, kernel: &mut dyn Kernel, look: &mut Look<'_>) {
    let (semid, nsems) = (array.row.semid, array.row.nsems.min(MAX_SEMAPHORES));
    let before = std::mem::replace(&mut array.asked, Asked { scan: Some(look.scan), ..Asked::default() });
    let mut pids = Vec::new();
    for index in 0..nsems {
        *look.calls = look.calls.saturating_sub(1);
        match kernel.sem_pid(semid, index) {
            // 0 says nothing: never used.
            Ok(0) => {}
            Ok(pid) if pids.last() == Some(&pid) => {}
            Ok(pid) => pids.push(pid),
            // Not to be asked, or removed meanwhile.
            Err(_) => return array.users.clear(),
        }
    }
    pids.sort_unstable();
    pids.dedup();
    array.asked.all = array.row.nsems <= MAX_SEMAPHORES && pids.len() <= MAX_USERS;
    pids.truncate(MAX_USERS);
    if before.scan.is_some() && array.users.iter().map(|user| user.pid).eq(pids.iter().copied()) {
        array.asked.twice = before.twice || before.scan != Some(look.scan);
        array.asked.resolved = before.resolved;
    } else {
        if before.scan.is_some() {
            // Somebody used it within the second of the last use that is known.
            array.used_again();
        }
        array.asked.resolved = look.scan;
        array.users.clear();
        for pid in &pids {
            *look.calls = look.calls.saturating_sub(1);
            let Ok(process) = look.roster.look(kernel, *pid) else { return array.users.clear() };
            let user = User::seen(*pid, process.as_ref(), None, array.changed);
            array.users.push(user);
            if let Some(process) = process.filter(|_| user.lives()) {
                array.used_by(&process, pids.len() == 1);
            }
        }
    }
    if matches!(together(&array.users), Users::Dead | Users::Unsure) {
        array.asked.awaited = (0..nsems).any(|index| {
            *look.calls = look.calls.saturating_sub(1);
            // What cannot be asked may be awaited.
            kernel.sem_waiters(semid, index) != Ok(0)
        });
    }
}

/// Takes rows as a visit read them.
fn read<T: Used>(known: &mut BTreeMap<i32, Held<T>>, rows: &[T], clock: &Watched, room: usize, at_us: u64) {
    for row in rows.iter().take(room) {
        match known.get_mut(&row.id()).filter(|known| row.is_same_as(&known.row)) {
            Some(known) => known.again(*row, at_us, clock),
            None => drop(known.insert(row.id(), Held::new(*row, clock.changed(row.used())))),
        }
    }
    forget_gone(known, rows, room);
}

/// Forgets what is not among the rows. Every row (of the first `room`) is known already.
fn forget_gone<T: Object, V>(known: &mut BTreeMap<i32, V>, rows: &[T], room: usize) {
    if known.len() != rows.len().min(room) {
        let there: BTreeSet<i32> = rows.iter().take(room).map(Object::id).collect();
        known.retain(|id, _| there.contains(id));
    }
}

/// Names segments or queues by who made them.
fn name<'a, T: Used>(known: &mut BTreeMap<i32, Held<T>>, hints: impl Iterator<Item = &'a Hint>) {
    for hint in hints.filter(|hint| hint.namespace.is_some()) {
        for id in &hint.ids {
            if let Some(held) = known.get_mut(id) {
                held.made_by(&hint.maker);
            }
        }
    }
}
