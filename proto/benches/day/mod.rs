//! Days of samples, as an agent would make them of one host with one IPC namespace.

use std::collections::BTreeMap;

use highwater_ipc::activity::Activity;
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::codec::encode_body;
use highwater_ipc::delta::diff;
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::record::{Body, Content, Keyframe};
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, State};
use highwater_ipc::time::At;
use serde_json::Value;

const STEP_S: i64 = 60;
const PAGE: u64 = 4096;

/// One sample that read something new.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) seq: u64,
    pub(crate) at: At,
    pub(crate) state: State,
}

/// The bytes of the records that an agent would send of these samples: one keyframe, then deltas.
pub(crate) fn bodies(samples: &[Sample]) -> usize {
    let Sample { at, state, .. } = samples[0].clone();
    let keyframe = Keyframe { gap: None, took_us: 0, activity: Activity::default(), state };
    let first = encode_body(&Body { at, content: Content::Keyframe(keyframe) }).len();
    let deltas = samples.windows(2).filter_map(|pair| {
        let delta = diff(&pair[0].state, &pair[1].state, 0)?;
        Some(encode_body(&Body { at: pair[1].at, content: Content::Delta(delta) }).len())
    });
    first + deltas.sum::<usize>()
}

fn sample(
    number: u64,
    seconds: i64,
    limits: Limits,
    sem: Vec<SemArray>,
    shm: Vec<ShmSegment>,
    msg: Vec<MsgQueue>,
) -> Sample {
    let totals = Totals {
        sem_arrays: sem.len() as u64,
        semaphores: sem.iter().map(|array| u64::from(array.nsems)).sum(),
        shm_segments: shm.len() as u64,
        shm_pages: shm.iter().map(|segment| segment.size.div_ceil(PAGE)).sum(),
        shm_resident: shm.iter().map(|segment| segment.rss / PAGE).sum(),
        msg_queues: msg.len() as u64,
        msg_messages: msg.iter().map(|queue| queue.qnum).sum(),
        msg_bytes: msg.iter().map(|queue| queue.cbytes).sum(),
        ..Totals::default()
    };
    let names = [(0, "root"), (33, "www-data"), (1001, "batch"), (54_321, "oracle")];
    let names: BTreeMap<_, _> = names.into_iter().map(|(id, name)| (id, name.into())).collect();
    let namespace = Namespace {
        id: NamespaceId { inode: 0xEFFF_FFFF, instance: 1 },
        limits: Some(limits),
        totals: Some(totals),
        sem: Some(sem),
        shm: Some(shm),
        msg: Some(msg),
        ..Namespace::default()
    };
    let evidence = vec!["SEM_INFO answers".into(), "/proc/sysvipc/sem can be read".into()];
    let state = State {
        boot_id: BootId([0x5a, 1, 0xc3, 7, 0x44, 9, 0x81, 2, 0xee, 0x10, 0x93, 0x27, 0x6b, 0xd5, 0x38, 0xf1]),
        interval_ms: u32::try_from(STEP_S * 1000).unwrap(),
        page_size: u32::try_from(PAGE).unwrap(),
        zone: "Europe/Berlin".into(),
        availability: Availability { state: SysvipcState::Available, evidence, remedy: "".into() },
        users: names.clone(),
        groups: names,
        namespaces: vec![namespace],
        ..State::default()
    };
    let at = At { wall_ms: seconds * 1000, boot_us: 864_000_000_000 + number * STEP_S.unsigned_abs() * 1_000_000 };
    Sample { seq: number, at, state }
}

/// The day of a file of JSON lines.
pub(crate) fn from_json(lines: &str) -> Vec<Sample> {
    let mut out = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let day: Value = serde_json::from_str(line).unwrap();
        let list = |kind: &str| day[kind].as_array().unwrap().clone();
        out.push(sample(
            number as u64,
            day["at"].as_i64().unwrap(),
            limits(&day["limits"]),
            list("sem").iter().map(sem).collect(),
            list("shm").iter().map(shm).collect(),
            list("msg").iter().map(msg).collect(),
        ));
    }
    out
}

fn number<T: TryFrom<i64>>(row: &Value, column: &str) -> T {
    row[column].as_i64().and_then(|value| T::try_from(value).ok()).unwrap_or_else(|| panic!("{column} in {row}"))
}

fn wide(row: &Value, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("{column} in {row}"))
}

fn perms(row: &Value) -> Perms {
    Perms(u32::from_str_radix(row["perms"].as_str().unwrap(), 8).unwrap())
}

fn owner(row: &Value) -> Owner {
    Owner { uid: number(row, "uid"), gid: number(row, "gid"), cuid: number(row, "cuid"), cgid: number(row, "cgid") }
}

fn limits(row: &Value) -> Limits {
    Limits {
        semmsl: wide(row, "semmsl"),
        semmns: wide(row, "semmns"),
        semopm: wide(row, "semopm"),
        semmni: wide(row, "semmni"),
        semvmx: 32_767,
        shmmax: wide(row, "shmmax"),
        shmall: wide(row, "shmall"),
        shmmni: wide(row, "shmmni"),
        shmmin: 1,
        msgmax: wide(row, "msgmax"),
        msgmnb: wide(row, "msgmnb"),
        msgmni: wide(row, "msgmni"),
    }
}

fn sem(row: &Value) -> SemArray {
    SemArray {
        key: Key(number(row, "key")),
        semid: number(row, "semid"),
        perms: perms(row),
        nsems: number(row, "nsems"),
        owner: owner(row),
        otime: number(row, "otime"),
        ctime: number(row, "ctime"),
    }
}

fn shm(row: &Value) -> ShmSegment {
    ShmSegment {
        key: Key(number(row, "key")),
        shmid: number(row, "shmid"),
        perms: perms(row),
        size: wide(row, "size"),
        cpid: number(row, "cpid"),
        lpid: number(row, "lpid"),
        nattch: wide(row, "nattch"),
        owner: owner(row),
        atime: number(row, "atime"),
        dtime: number(row, "dtime"),
        ctime: number(row, "ctime"),
        rss: wide(row, "rss"),
        swap: wide(row, "swap"),
    }
}

fn msg(row: &Value) -> MsgQueue {
    MsgQueue {
        key: Key(number(row, "key")),
        msqid: number(row, "msqid"),
        perms: perms(row),
        cbytes: wide(row, "cbytes"),
        qnum: wide(row, "qnum"),
        qbytes: Some(16_384),
        lspid: number(row, "lspid"),
        lrpid: number(row, "lrpid"),
        owner: owner(row),
        stime: number(row, "stime"),
        rtime: number(row, "rtime"),
        ctime: number(row, "ctime"),
    }
}

const LIMITS: Limits = Limits {
    semmsl: 32_000,
    semmns: 1_024_000_000,
    semopm: 500,
    semmni: 32_000,
    semvmx: 32_767,
    shmmax: u64::MAX - (1 << 24),
    shmall: u64::MAX - (1 << 24),
    shmmni: 4_096,
    shmmin: 1,
    msgmax: 8_192,
    msgmnb: 16_384,
    msgmni: 32_000,
};
/// 2026-01-01T00:00:00Z.
const START_S: i64 = 1_767_225_600;

/// A host with that many arrays, of which one is used between two samples.
pub(crate) fn crowd(objects: usize, samples: usize) -> Vec<Sample> {
    let mut dice = Dice(7);
    let owner = Owner { uid: 33, gid: 33, cuid: 0, cgid: 0 };
    let array = |semid| SemArray {
        key: Key(0),
        semid,
        perms: Perms(0o600),
        nsems: 1,
        owner,
        otime: 0,
        ctime: START_S - 90_000 + i64::from(semid),
    };
    let mut sem: Vec<_> = (0..).take(objects).map(array).collect();
    let mut out = Vec::new();
    for number in 0..samples as u64 {
        let now = START_S + number.cast_signed() * STEP_S;
        let used = dice.below(objects as u64);
        sem[usize::try_from(used).unwrap()].otime = now - dice.below(60).cast_signed();
        out.push(sample(number, now, LIMITS, sem.clone(), Vec::new(), Vec::new()));
    }
    out
}

/// Numbers like thrown dice, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A busy day: by day half of the arrays and queues and a third of the segments are used each minute, by night a
/// fifth, a fifth and a tenth; two objects a minute give way to new ones, by night one in two minutes.
pub(crate) fn made() -> Vec<Sample> {
    let mut host =
        Host { dice: Dice(1), now: START_S - 3600, pid: 2000, key: 0x5100_1000, ids: [0; 3], ..Host::default() };
    for kind in [0; 40].into_iter().chain([1; 15]).chain([2; 10]) {
        host.make(kind);
    }
    let mut out = Vec::new();
    for minute in 0..1440_u64 {
        host.now = START_S + minute.cast_signed() * STEP_S;
        host.minute((360..1320).contains(&minute));
        out.push(sample(minute, host.now, LIMITS, host.sem.clone(), host.shm.clone(), host.msg.clone()));
    }
    out
}

#[derive(Default)]
struct Host {
    dice: Dice,
    now: i64,
    pid: i32,
    key: i32,
    /// The next index of each kind: ids are given round the table, and the sequence grows where it begins again.
    ids: [i32; 3],
    sem: Vec<SemArray>,
    shm: Vec<ShmSegment>,
    msg: Vec<MsgQueue>,
}

impl Default for Dice {
    fn default() -> Self {
        Dice(1)
    }
}

impl Host {
    fn minute(&mut self, by_day: bool) {
        let gone = if by_day { 2 } else { u64::from(self.dice.is(50)) };
        for _ in 0..gone {
            let (kind, lasting) = [(0, 28), (0, 28), (0, 28), (1, 10), (2, 7)][self.dice.below(5) as usize];
            let place = lasting + self.dice.below(if kind == 0 { 12 } else { 3 }) as usize;
            match kind {
                0 => drop(self.sem.remove(place)),
                1 => drop(self.shm.remove(place)),
                _ => drop(self.msg.remove(place)),
            }
            self.make(kind);
        }
        let (used, attached) = if by_day { (50, 33) } else { (20, 10) };
        for place in 0..self.sem.len() {
            if self.dice.is(used) {
                self.sem[place].otime = self.lately();
            }
        }
        for place in 0..self.msg.len() {
            if self.dice.is(used) {
                let (pid, at, takes) = (self.process(), self.lately(), self.dice.is(50));
                let queue = &mut self.msg[place];
                if takes && queue.qnum > 0 {
                    (queue.qnum, queue.cbytes, queue.lrpid, queue.rtime) =
                        (queue.qnum - 1, queue.cbytes - 256, pid, at);
                } else {
                    (queue.qnum, queue.cbytes, queue.lspid, queue.stime) =
                        (queue.qnum + 1, queue.cbytes + 256, pid, at);
                }
            }
        }
        for place in 0..self.shm.len() {
            if self.dice.is(attached) {
                let (pid, at, leaves, pages) = (self.process(), self.lately(), self.dice.is(50), self.dice.below(32));
                let segment = &mut self.shm[place];
                segment.lpid = pid;
                if leaves && segment.nattch > 0 {
                    (segment.nattch, segment.dtime) = (segment.nattch - 1, at);
                } else {
                    (segment.nattch, segment.atime) = (segment.nattch + 1, at);
                    segment.rss = segment.size.min(segment.rss + pages * PAGE);
                }
            }
        }
    }

    fn lately(&mut self) -> i64 {
        self.now - self.dice.below(STEP_S.unsigned_abs()).cast_signed()
    }

    fn process(&mut self) -> i32 {
        self.pid += 1 + self.dice.below(39) as i32;
        self.pid
    }

    /// A new object, in its place by index.
    fn make(&mut self, kind: usize) {
        let uid = [0, 33, 1001, 54_321][self.dice.below(4) as usize];
        let owner = Owner { uid, gid: uid, cuid: uid, cgid: uid };
        self.key += 1;
        let key = Key(if self.dice.is(40) { 0 } else { self.key });
        let (perms, at) = (Perms([0o600, 0o660][self.dice.below(2) as usize]), self.lately());
        loop {
            let id = self.ids[kind];
            self.ids[kind] = if id & 0x7fff == 63 { id - 63 + 0x8000 } else { id + 1 };
            let same = |other: i32| (other ^ id).trailing_zeros() >= 15;
            let free = match kind {
                0 => !self.sem.iter().any(|row| same(row.semid)),
                1 => !self.shm.iter().any(|row| same(row.shmid)),
                _ => !self.msg.iter().any(|row| same(row.msqid)),
            };
            if free {
                return self.put(kind, id, (key, perms, owner, at));
            }
        }
    }

    fn put(&mut self, kind: usize, id: i32, (key, perms, owner, ctime): (Key, Perms, Owner, i64)) {
        let after = |other: i32| other & 0x7fff < id & 0x7fff;
        match kind {
            0 => {
                let row = SemArray { key, semid: id, perms, nsems: 17, owner, otime: 0, ctime };
                self.sem.insert(self.sem.partition_point(|row| after(row.semid)), row);
            }
            1 => {
                let size = [PAGE, 16 * PAGE, 1 << 20, 16 << 20][self.dice.below(4) as usize];
                let (cpid, rss) = (self.process(), size.min(PAGE * self.dice.below(256)));
                let (nattch, swap, atime, dtime) = (self.dice.below(4), 0, ctime, 0);
                let (shmid, lpid) = (id, cpid);
                let row =
                    ShmSegment { key, shmid, perms, size, cpid, lpid, nattch, owner, atime, dtime, ctime, rss, swap };
                self.shm.insert(self.shm.partition_point(|row| after(row.shmid)), row);
            }
            _ => {
                let (cbytes, qnum, qbytes, lspid, lrpid, stime, rtime) = (0, 0, Some(16_384), 0, 0, 0, 0);
                let row =
                    MsgQueue { key, msqid: id, perms, cbytes, qnum, qbytes, lspid, lrpid, owner, stime, rtime, ctime };
                self.msg.insert(self.msg.partition_point(|row| after(row.msqid)), row);
            }
        }
    }
}
