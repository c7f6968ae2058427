//! What a host holds, and what happens to it between two samples: small states, as odd as the kernel lets them be.

use highwater_ipc::activity::{Act, Activity, Actor, Did, Peak};
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::snapshot::{BootId, LeftOut, NamedBy, Namespace, NamespaceId, State, Unreadable};
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Doubt, Grade, Known, Orphan, Who};
use highwater_tests::chance::Chance;

/// Inode of every host's own namespace.
pub(crate) const OWN: u64 = 4_026_531_839;
/// So few ids that they come back.
const IDS: u64 = 6;
const UIDS: [u32; 4] = [0, 33, 1001, u32::MAX];
const NAMES: [&[u8]; 5] = [b"www-data", b"postgres", b"a\nb", b"\xff\xfe", "Zo\u{eb}".as_bytes()];
const INTERVALS_MS: [u32; 4] = [100, 1_000, 10_000, 60_000];

/// What a host holds right after its boot.
pub(crate) fn after_boot(boot_id: BootId, instance: u64, chance: &mut Chance) -> State {
    State {
        boot_id,
        interval_ms: chance.pick(&INTERVALS_MS),
        page_size: 4096,
        zone: HostText::from("Europe/Madrid"),
        availability: Availability {
            state: SysvipcState::Available,
            evidence: vec![HostText::from("SEM_INFO")],
            remedy: HostText::default(),
        },
        namespaces: vec![empty(NamespaceId { inode: OWN, instance })],
        ..State::default()
    }
}

fn empty(id: NamespaceId) -> Namespace {
    Namespace {
        id,
        limits: Some(limits(32_000)),
        totals: Some(Totals::default()),
        sem: Some(Vec::new()),
        shm: Some(Vec::new()),
        msg: Some(Vec::new()),
        ..Namespace::default()
    }
}

fn limits(semmni: u64) -> Limits {
    Limits {
        semmsl: 32_000,
        semmns: 1_024_000_000,
        semopm: 500,
        semmni,
        semvmx: 32_767,
        shmmax: u64::MAX,
        shmall: u64::MAX - 1,
        shmmni: 4096,
        shmmin: 1,
        msgmax: 8192,
        msgmnb: 16_384,
        msgmni: 32_000,
    }
}

/// Something happens to what a host holds; `now_s` is its wall clock in seconds.
pub(crate) fn edit(state: &mut State, now_s: i64, chance: &mut Chance) {
    match chance.weighted(&[14, 10, 12, 4, 2, 3, 2, 3, 4, 2, 4, 2, 2, 1]).unwrap_or(0) {
        0 => create(place(state, chance), now_s, chance),
        1 => remove(place(state, chance), chance),
        2 => touch(place(state, chance), now_s, chance),
        3 => replace(place(state, chance), chance),
        4 => mark_for_removal(place(state, chance)),
        5 => namespace_comes(state, chance),
        6 => namespace_goes(state, chance),
        7 => change_limits(place(state, chance), chance),
        8 => readability(place(state, chance), chance),
        9 => leave_out(place(state, chance), chance),
        10 => learn(place(state, chance), chance),
        11 => rename(state, chance),
        12 => change_host(state, chance),
        _ => state.interval_ms = chance.pick(&INTERVALS_MS),
    }
}

fn place<'s>(state: &'s mut State, chance: &mut Chance) -> &'s mut Namespace {
    let index = chance.index(state.namespaces.len());
    &mut state.namespaces[index]
}

/// Of an object.
pub(crate) fn id(chance: &mut Chance) -> i32 {
    i32::try_from(chance.below(IDS)).unwrap() * 32_768
}

/// Of a user that owns objects.
pub(crate) fn uid(chance: &mut Chance) -> u32 {
    chance.pick(&UIDS)
}

fn owner(chance: &mut Chance) -> Owner {
    let uid = uid(chance);
    let cuid = if chance.one_in(4) { 0 } else { uid };
    Owner { uid, gid: uid, cuid, cgid: cuid }
}

fn number(chance: &mut Chance) -> u64 {
    if chance.one_in(8) { u64::MAX - chance.below(3) } else { chance.below(5000) }
}

fn pid(chance: &mut Chance) -> i32 {
    i32::try_from(chance.below(40_000)).unwrap()
}

fn key(chance: &mut Chance) -> Key {
    Key(if chance.one_in(2) { 0 } else { i32::try_from(chance.below(1 << 31)).unwrap() })
}

fn array(semid: i32, now_s: i64, chance: &mut Chance) -> SemArray {
    let nsems = u32::try_from(chance.below(4)).unwrap() + 1;
    let otime = if chance.one_in(3) { 0 } else { now_s };
    SemArray { key: key(chance), semid, perms: Perms(0o600), nsems, owner: owner(chance), otime, ctime: now_s }
}

fn segment(shmid: i32, now_s: i64, chance: &mut Chance) -> ShmSegment {
    ShmSegment {
        key: key(chance),
        shmid,
        perms: Perms(0o640),
        size: number(chance),
        cpid: pid(chance),
        lpid: 0,
        nattch: chance.below(3),
        owner: owner(chance),
        atime: 0,
        dtime: 0,
        ctime: now_s,
        rss: 0,
        swap: 0,
    }
}

fn queue(msqid: i32, now_s: i64, chance: &mut Chance) -> MsgQueue {
    MsgQueue {
        key: key(chance),
        msqid,
        perms: Perms(0o666),
        cbytes: 0,
        qnum: 0,
        qbytes: Some(16_384).filter(|_| chance.one_in(2)),
        lspid: 0,
        lrpid: 0,
        owner: owner(chance),
        stime: 0,
        rtime: 0,
        ctime: now_s,
    }
}

/// Puts a row somewhere, unless its id is taken.
fn put<T>(rows: Option<&mut Vec<T>>, row: T, id_of: fn(&T) -> i32, chance: &mut Chance) {
    let Some(rows) = rows else { return };
    if !rows.iter().any(|other| id_of(other) == id_of(&row)) {
        rows.insert(chance.index(rows.len() + 1), row);
    }
}

fn create(namespace: &mut Namespace, now_s: i64, chance: &mut Chance) {
    let id = id(chance);
    match chance.pick(&Kind::ALL) {
        Kind::Sem => put(namespace.sem.as_mut(), array(id, now_s, chance), |o| o.semid, chance),
        Kind::Shm => put(namespace.shm.as_mut(), segment(id, now_s, chance), |o| o.shmid, chance),
        Kind::Msg => put(namespace.msg.as_mut(), queue(id, now_s, chance), |o| o.msqid, chance),
    }
    if let Some(totals) = &mut namespace.totals {
        totals.sem_arrays = namespace.sem.as_ref().map_or(0, |rows| rows.len() as u64);
        totals.msg_queues = namespace.msg.as_ref().map_or(0, |rows| rows.len() as u64);
    }
}

/// A random row of a list.
fn row<'l, T>(rows: Option<&'l mut Vec<T>>, chance: &mut Chance) -> Option<&'l mut T> {
    let rows = rows.filter(|rows| !rows.is_empty())?;
    let index = chance.index(rows.len());
    rows.get_mut(index)
}

fn take_one<T>(rows: Option<&mut Vec<T>>, chance: &mut Chance) {
    if let Some(rows) = rows.filter(|rows| !rows.is_empty()) {
        rows.remove(chance.index(rows.len()));
    }
}

fn remove(namespace: &mut Namespace, chance: &mut Chance) {
    match chance.pick(&Kind::ALL) {
        Kind::Sem => take_one(namespace.sem.as_mut(), chance),
        Kind::Shm => take_one(namespace.shm.as_mut(), chance),
        Kind::Msg => take_one(namespace.msg.as_mut(), chance),
    }
}

/// What calls change of an object that stays the same one.
fn touch(namespace: &mut Namespace, now_s: i64, chance: &mut Chance) {
    match chance.pick(&Kind::ALL) {
        Kind::Sem => {
            if let Some(array) = row(namespace.sem.as_mut(), chance) {
                (array.otime, array.ctime) = (now_s, now_s - i64::from(chance.one_in(2)));
            }
        }
        Kind::Shm => {
            if let Some(segment) = row(namespace.shm.as_mut(), chance) {
                (segment.nattch, segment.lpid, segment.atime) = (chance.below(4), pid(chance), now_s);
                (segment.rss, segment.swap) = (number(chance), chance.below(2));
            }
        }
        Kind::Msg => {
            if let Some(queue) = row(namespace.msg.as_mut(), chance) {
                (queue.cbytes, queue.qnum) = (number(chance), chance.below(9));
                (queue.lspid, queue.stime, queue.owner.uid) = (pid(chance), now_s, chance.pick(&UIDS));
            }
        }
    }
}

/// The id stays, and the object is another one.
fn replace(namespace: &mut Namespace, chance: &mut Chance) {
    match chance.pick(&Kind::ALL) {
        Kind::Sem => row(namespace.sem.as_mut(), chance).into_iter().for_each(|o| o.nsems += 1),
        Kind::Shm => row(namespace.shm.as_mut(), chance).into_iter().for_each(|o| o.size = o.size.wrapping_add(1)),
        Kind::Msg => row(namespace.msg.as_mut(), chance).into_iter().for_each(|o| o.owner.cuid ^= 1),
    }
}

/// IPC_RMID of a segment that is attached: its key becomes 0, and it stays the same segment.
fn mark_for_removal(namespace: &mut Namespace) {
    for segment in namespace.shm.iter_mut().flatten().filter(|segment| segment.nattch > 0) {
        segment.key = Key(0);
        segment.perms.0 |= Perms::DEST;
    }
}

fn namespace_comes(state: &mut State, chance: &mut Chance) {
    if state.namespaces.len() > 3 {
        return;
    }
    // Inodes come back within seconds; the instance tells two of them apart.
    let id = NamespaceId { inode: OWN + 1 + chance.below(3), instance: chance.below(4) + 10 };
    if state.namespaces.iter().any(|other| other.id == id) {
        return;
    }
    let name = Some(HostText::cut(chance.pick(&NAMES))).filter(|_| !chance.one_in(3));
    let named_by = if name.is_some() { NamedBy::Docker } else { NamedBy::Nothing };
    let at = 1 + chance.index(state.namespaces.len());
    state.namespaces.insert(at, Namespace { name, named_by, ..empty(id) });
}

fn namespace_goes(state: &mut State, chance: &mut Chance) {
    if state.namespaces.len() > 1 {
        let index = 1 + chance.index(state.namespaces.len() - 1);
        state.namespaces.remove(index);
    }
}

fn change_limits(namespace: &mut Namespace, chance: &mut Chance) {
    match chance.below(4) {
        0 => namespace.limits = None,
        1 => namespace.totals = namespace.totals.is_none().then(Totals::default),
        _ => namespace.limits = Some(limits(128 + number(chance) / 2)),
    }
}

fn file(kind: Kind) -> HostText {
    HostText::from(&*format!("/proc/sysvipc/{}", kind.name()))
}

/// A kind cannot be read any more, or can be again: what it holds then came to be while nobody could look.
fn readability(namespace: &mut Namespace, chance: &mut Chance) {
    let kind = chance.pick(&Kind::ALL);
    let blind = namespace.has(kind);
    match kind {
        Kind::Sem => namespace.sem = (!blind).then(Vec::new),
        Kind::Shm => namespace.shm = (!blind).then(Vec::new),
        Kind::Msg => namespace.msg = (!blind).then(Vec::new),
    }
    namespace.unreadable.retain(|part| part.source != file(kind));
    if blind {
        let error = HostText::from("EACCES");
        namespace.unreadable.push(Unreadable { source: file(kind), line: 0, error });
    } else if chance.one_in(4) {
        // A single line of it still cannot be read.
        let error = HostText::from("column uid");
        namespace.unreadable.push(Unreadable { source: file(kind), line: 3, error });
    }
}

fn leave_out(namespace: &mut Namespace, chance: &mut Chance) {
    let none = namespace.left_out != LeftOut::default();
    let mut some = || if none || chance.one_in(2) { 0 } else { chance.below(9) };
    namespace.left_out = LeftOut { sem: some(), shm: some(), msg: some() };
}

/// What processes tell of who holds what.
fn learn(namespace: &mut Namespace, chance: &mut Chance) {
    if chance.one_in(8) {
        namespace.who = None;
        return;
    }
    let who = namespace.who.get_or_insert_with(Who::default);
    let mut comms: Vec<_> = (0..chance.below(3)).map(|_| HostText::cut(chance.pick(&NAMES))).collect();
    comms.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    comms.dedup();
    let uid = chance.pick(&UIDS);
    if chance.one_in(3) {
        who.comms.remove(&uid);
    } else {
        who.comms.insert(uid, comms);
    }
    let object = (chance.pick(&Kind::ALL), id(chance));
    let comm = Some(HostText::cut(chance.pick(&NAMES))).filter(|_| !chance.one_in(3));
    let grade = chance.pick(&[Grade::Certain, Grade::Likely, Grade::Unattached]);
    let orphan = Orphan { grade, doubt: Doubt::Waiting, last_pids: vec![pid(chance)] };
    let orphan = Some(orphan).filter(|_| chance.one_in(2));
    if comm.is_none() && orphan.is_none() {
        who.objects.remove(&object);
    } else {
        who.objects.insert(object, Known { comm, orphan });
    }
}

fn rename(state: &mut State, chance: &mut Chance) {
    let names = if chance.one_in(2) { &mut state.users } else { &mut state.groups };
    let id = chance.pick(&UIDS);
    if chance.one_in(3) {
        names.remove(&id);
    } else {
        names.insert(id, HostText::cut(chance.pick(&NAMES)));
    }
}

fn change_host(state: &mut State, chance: &mut Chance) {
    match chance.below(5) {
        0 => state.zone = HostText::from(chance.pick(&["UTC", "Asia/Kathmandu", ""])),
        1 => {
            state.availability.state = chance.pick(&[SysvipcState::Available, SysvipcState::Blocked]);
            state.availability.remedy = HostText::cut(chance.pick(&NAMES));
        }
        2 => {
            let why = HostText::cut(chance.pick(&NAMES));
            let risk = Risk { kind: RiskKind::RemoveIpc, why, remedy: HostText::from("loginctl") };
            state.risks = if state.risks.is_empty() { vec![risk] } else { Vec::new() };
        }
        3 => state.namespaces[0].torn ^= true,
        _ => place(state, chance).skipped ^= 3,
    }
}

/// What the trace tells of the time before a sample; mostly nothing.
pub(crate) fn activity(state: &State, boot_us: u64, chance: &mut Chance) -> Activity {
    if !chance.one_in(6) {
        return Activity::default();
    }
    let namespace = state.namespaces[0].id;
    let by = Actor {
        pid: pid(chance),
        comm: HostText::cut(chance.pick(&NAMES)),
        uid: Some(chance.pick(&UIDS)),
        parent: HostText::default(),
    };
    let did = chance.pick(&[Did::Created, Did::Removed, Did::Refused(28)]);
    let ids = if matches!(did, Did::Refused(_)) { Vec::new() } else { vec![id(chance)] };
    let act = Act {
        did,
        kind: chance.pick(&Kind::ALL),
        namespace: Some(namespace).filter(|_| !chance.one_in(4)),
        by,
        first_us: boot_us.saturating_sub(90),
        last_us: boot_us.saturating_sub(10),
        count: 1 + chance.below(3),
        key: Key(0),
        size: chance.below(9),
        ids,
        bound_by: None,
    };
    let peak = Peak { namespace, boot_us: boot_us.saturating_sub(50), sem_arrays: 9, semaphores: 99 };
    let peaks = if chance.one_in(3) { vec![peak] } else { Vec::new() };
    Activity { acts: vec![act], more: chance.below(2), lost: chance.below(2), peaks }
}
