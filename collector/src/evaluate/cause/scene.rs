//! A host whose programs make, free and leave semaphore arrays, sampled whenever something changes.

use std::collections::BTreeMap;

use highwater_ipc::activity::{Act, Activity, Actor, Did};
use highwater_ipc::limits::{Resource, Totals};
use highwater_ipc::object::{Key, Kind, Owner, Perms, SemArray};
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Doubt, Grade, Known, Orphan, Who};

use super::tell::Question;
use super::{Causes, Pace, Sample};
use crate::evaluate::feed::{self, Feed, Place};
use crate::evaluate::state;
use crate::flag::Cause;

/// 2026-06-01T00:00:00Z.
const BEGIN_MS: i64 = 1_780_272_000_000;

#[derive(Clone, Debug)]
struct Array {
    pid: i32,
    comm: String,
    nsems: u32,
}

/// The host, and what is remembered of it.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) causes: Causes,
    feed: Feed,
    pace: Pace,
    boot: u8,
    wall_ms: i64,
    boot_us: u64,
    /// When the last sample, or what confirmed it, was.
    covered_ms: Option<i64>,
    begins_stretch: bool,
    arrays: BTreeMap<i32, Array>,
    /// Comms of processes that live.
    live: BTreeMap<i32, String>,
    acts: Vec<Act>,
    next_id: i32,
    /// Whether a step ends after each sample.
    cuts: bool,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            causes: Causes::default(),
            feed: Feed::default(),
            pace: Pace::default(),
            boot: 1,
            wall_ms: BEGIN_MS,
            boot_us: 90_000_000,
            covered_ms: None,
            begins_stretch: true,
            arrays: BTreeMap::new(),
            live: BTreeMap::new(),
            acts: Vec::new(),
            next_id: 1,
            cuts: false,
        }
    }

    /// What is remembered goes through its bytes after each sample, which ends a step.
    pub(super) fn cut(mut self) -> Self {
        self.cuts = true;
        self
    }

    /// Nothing changes for so long.
    pub(super) fn pass(&mut self, seconds: i64) {
        self.wall_ms += seconds * 1_000;
        self.boot_us += seconds.unsigned_abs() * 1_000_000;
        self.covered_ms = self.covered_ms.map(|_| self.wall_ms);
    }

    /// A process makes so many arrays of one semaphore.
    pub(super) fn make(&mut self, pid: i32, comm: &str, count: usize) -> Vec<i32> {
        self.make_large(pid, comm, count, 1)
    }

    /// A process makes so many arrays of so many semaphores.
    pub(super) fn make_large(&mut self, pid: i32, comm: &str, count: usize, nsems: u32) -> Vec<i32> {
        self.live.insert(pid, comm.to_owned());
        let ids: Vec<i32> = (self.next_id..).take(count).collect();
        self.next_id += i32::try_from(count).unwrap();
        let array = || Array { pid, comm: comm.to_owned(), nsems };
        self.arrays.extend(ids.iter().map(|id| (*id, array())));
        self.act(Did::Created, (pid, comm), &ids);
        self.sample();
        ids
    }

    /// A process makes so many, and nobody traces it.
    pub(super) fn appear(&mut self, pid: i32, comm: &str, count: usize) {
        self.make(pid, comm, 0);
        let ids = (self.next_id..).take(count);
        self.arrays.extend(ids.map(|id| (id, Array { pid, comm: comm.to_owned(), nsems: 1 })));
        self.next_id += i32::try_from(count).unwrap();
        self.sample();
    }

    /// A process removes these.
    pub(super) fn free(&mut self, pid: i32, comm: &str, ids: &[i32]) {
        self.arrays.retain(|id, _| !ids.contains(id));
        self.act(Did::Removed, (pid, comm), ids);
        self.sample();
    }

    /// A process ends, and leaves what it made.
    pub(super) fn end(&mut self, pid: i32) {
        self.live.remove(&pid);
        self.sample();
    }

    /// Nothing is known of so long.
    pub(super) fn gap(&mut self, seconds: i64) {
        self.wall_ms += seconds * 1_000;
        self.boot_us += seconds.unsigned_abs() * 1_000_000;
        self.acts.clear();
        self.begins_stretch = true;
    }

    /// The machine boots.
    pub(super) fn reboot(&mut self) {
        self.gap(120);
        (self.boot, self.boot_us) = (self.boot + 1, 20_000_000);
        self.arrays.clear();
        self.live.clear();
        self.sample();
    }

    /// How many arrays there are.
    pub(super) fn used(&self) -> u64 {
        self.arrays.len() as u64
    }

    /// What is told where there is room for so many more arrays.
    pub(super) fn told(&self, room: u64) -> Option<Cause> {
        self.told_of(Resource::Semmni, room)
    }

    /// What is told of a limit.
    pub(super) fn told_of(&self, resource: Resource, room: u64) -> Option<Cause> {
        self.told_amid(resource, room, None)
    }

    /// What is told of a limit where a flag rests on so much growth.
    pub(super) fn told_amid(&self, resource: Resource, room: u64, growth_per_hour: Option<f64>) -> Option<Cause> {
        let mut now = self.clone();
        now.cover();
        let used = now.used();
        let asked = Question {
            place: Place::Own,
            namespace: id(self.boot),
            resource,
            used: (used, used + room),
            growth_per_hour,
        };
        now.causes.tell(&asked, &self.state(), &self.pace)
    }

    fn act(&mut self, did: Did, (pid, comm): (i32, &str), ids: &[i32]) {
        let by = Actor { pid, comm: comm.into(), uid: Some(0), parent: HostText::default() };
        self.acts.push(Act {
            did,
            kind: Kind::Sem,
            namespace: Some(id(self.boot)),
            by,
            first_us: self.boot_us,
            last_us: self.boot_us,
            count: ids.len() as u64,
            key: Key(0),
            size: 1,
            ids: ids.iter().copied().take(Activity::MAX_IDS).collect(),
            bound_by: None,
        });
    }

    fn cover(&mut self) {
        if let Some(covered_ms) = self.covered_ms {
            self.feed.covered(covered_ms, &mut |_, _| {});
            self.causes.covered(self.feed.passed_ms(), &self.pace);
        }
    }

    pub(super) fn sample(&mut self) {
        let (state, acts) = (self.state(), std::mem::take(&mut self.acts));
        let activity = Activity { acts, ..Activity::default() };
        let (wall_ms, boot_us, begins_stretch) = (self.wall_ms, self.boot_us, self.begins_stretch);
        let prev_wall_ms = self.covered_ms;
        let fed = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state: &state };
        let feed::Step { follows, passed_ms } = self.feed.sample(&fed, &mut |_, _| {});
        let (state, activity) = (&state, &activity);
        self.causes.sample(&Sample { follows, passed_ms, boot_us, state, activity }, &self.pace);
        (self.covered_ms, self.begins_stretch) = (Some(wall_ms), false);
        // Whoever ends a step says until when the sample was confirmed, which is when the next one comes.
        if self.cuts {
            self.causes = state::unpack(&state::pack(&self.causes).unwrap()).unwrap();
            self.feed = state::unpack(&state::pack(&self.feed).unwrap()).unwrap();
        }
    }

    /// A step ends here, up to what is covered now.
    pub(super) fn ends_step(&mut self) {
        if self.cuts {
            self.cover();
        }
    }

    fn state(&self) -> State {
        let mut who = Who::default();
        for comm in self.live.values() {
            let comms = who.comms.entry(0).or_default();
            if !comms.contains(&comm.as_str().into()) {
                comms.push(comm.as_str().into());
            }
        }
        for (id, array) in &self.arrays {
            let is_left = !self.live.contains_key(&array.pid);
            let orphan =
                is_left.then(|| Orphan { grade: Grade::Likely, doubt: Doubt::OwnerLives, last_pids: vec![array.pid] });
            who.objects.insert((Kind::Sem, *id), Known { comm: Some(array.comm.as_str().into()), orphan });
        }
        let row = |(id, array): (&i32, &Array)| SemArray {
            key: Key(0),
            semid: *id,
            perms: Perms(0o600),
            nsems: array.nsems,
            owner: Owner::default(),
            otime: 0,
            ctime: 0,
        };
        let sem: Vec<SemArray> = self.arrays.iter().map(row).collect();
        let semaphores = sem.iter().map(|row| u64::from(row.nsems)).sum();
        let totals = Totals { sem_arrays: self.used(), semaphores, ..Totals::default() };
        let (sem, shm, msg) = (Some(sem), Some(Vec::new()), Some(Vec::new()));
        let own = Namespace {
            id: id(self.boot),
            totals: Some(totals),
            sem,
            shm,
            msg,
            who: Some(who),
            ..Namespace::default()
        };
        State { boot_id: BootId([self.boot; 16]), interval_ms: 10_000, namespaces: vec![own], ..State::default() }
    }
}

fn id(boot: u8) -> NamespaceId {
    NamespaceId { inode: 1, instance: u64::from(boot) }
}
