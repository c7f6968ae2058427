//! C8: bytes of version 1 that every later reader must understand. Once it is released the files are never edited, only
//! added.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{decode_body, decode_record, encode_body, encode_record};
use crate::activity::{Act, Activity, Actor, Did, Peak};
use crate::availability::{Availability, SysvipcState};
use crate::delta::{Delta, ListChange, NamespaceChange, NamespaceDelta, WhoChange};
use crate::limits::{Limits, Resource, Totals, Usage};
use crate::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use crate::record::{Body, Chain, Content, Event, GapReason, Keyframe, Record, RecordKind, Seq};
use crate::risk::{Risk, RiskKind};
use crate::snapshot::{BootId, LeftOut, NamedBy, Namespace, NamespaceId, State, Unreadable};
use crate::text::HostText;
use crate::time::At;
use crate::who::{Doubt, Grade, Known, Orphan, Who};

const AT: At = At { wall_ms: 1_241_364_900_123, boot_us: 86_400_000_001 };

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.bytes())
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(content: Content, file: &str) {
    let (kind, body) = (content.kind(), Body { at: AT, content });
    let golden = bytes(file);
    assert_eq!(hex(&encode_body(&body)), hex(&golden));
    assert_eq!(decode_body(kind, &golden), Ok(body));
}

/// The founding note's row: `0 98304 600 1 1001 4294967295 0 0 0 1241364839`.
fn founding_row() -> SemArray {
    SemArray {
        key: Key(0),
        semid: 98304,
        perms: Perms(0o600),
        nsems: 1,
        owner: Owner { uid: 1001, gid: u32::MAX, cuid: 0, cgid: 0 },
        otime: 0,
        ctime: 1_241_364_839,
    }
}

fn segment() -> ShmSegment {
    ShmSegment {
        key: Key(-1),
        shmid: i32::MAX,
        perms: Perms(0o3640),
        size: u64::MAX,
        cpid: 4_194_303,
        lpid: 0,
        nattch: u64::MAX,
        owner: Owner { uid: 65534, gid: 65534, cuid: u32::MAX, cgid: 0 },
        atime: i64::MAX,
        dtime: i64::MIN,
        ctime: -1,
        rss: u64::MAX,
        swap: u64::MAX - 1,
    }
}

fn queue(msqid: i32, qbytes: Option<u64>) -> MsgQueue {
    MsgQueue {
        key: Key(i32::MIN),
        msqid,
        perms: Perms(0o660),
        cbytes: 512,
        qnum: 2,
        qbytes,
        lspid: 812,
        lrpid: 0,
        owner: Owner { uid: 33, gid: 33, cuid: 0, cgid: 0 },
        stime: 1_241_364_898,
        rtime: 0,
        ctime: 1_241_364_000,
    }
}

fn limits() -> Limits {
    Limits {
        semmsl: 250,
        semmns: 32000,
        semopm: 32,
        semmni: 128,
        semvmx: 32767,
        shmmax: 18_446_744_073_692_774_399,
        shmall: u64::MAX,
        shmmni: 4096,
        shmmin: 1,
        msgmax: 8192,
        msgmnb: 16384,
        msgmni: 16,
    }
}

fn totals() -> Totals {
    Totals {
        sem_arrays: 2,
        semaphores: 18,
        shm_segments: 1,
        shm_pages: u64::MAX,
        shm_resident: 3,
        shm_swapped: 4,
        swap_attempts: 5,
        swap_successes: 6,
        msg_queues: 2,
        msg_messages: 4,
        msg_bytes: 1024,
    }
}

fn unreadable() -> Unreadable {
    Unreadable { source: "/proc/sysvipc/msg".into(), line: 3, error: "column qnum: \"x\"".into() }
}

fn host_namespace() -> Namespace {
    Namespace {
        id: NamespaceId { inode: 4_026_531_839, instance: 1 },
        name: None,
        torn: true,
        limits: Some(limits()),
        totals: Some(totals()),
        sem: Some(vec![founding_row(), SemArray { key: Key(0x51), semid: 98305, nsems: 17, ..founding_row() }]),
        shm: Some(vec![segment()]),
        msg: Some(vec![queue(7, None), queue(8, Some(16384))]),
        unreadable: vec![unreadable()],
        left_out: LeftOut { sem: 0, shm: 1, msg: u64::MAX },
        who: Some(who()),
        ..Namespace::default()
    }
}

fn container() -> Namespace {
    Namespace {
        id: NamespaceId { inode: 4_026_532_288, instance: u64::MAX },
        name: Some(HostText::cut(b"\xff\x1b[2J\n\xe2\x80\xae")),
        named_by: NamedBy::Podman,
        skipped: 63,
        torn: false,
        limits: Some(Limits { semmni: 32000, ..limits() }),
        totals: None,
        sem: Some(vec![]),
        shm: None,
        msg: Some(vec![]),
        unreadable: vec![],
        left_out: LeftOut::default(),
        ..Namespace::default()
    }
}

fn who() -> Who {
    let orphan = Orphan { grade: Grade::Certain, doubt: Doubt::None, last_pids: vec![811, 812] };
    let unattached = Orphan { grade: Grade::Unattached, doubt: Doubt::MayBeCache, last_pids: vec![] };
    let known = |comm: Option<&str>, orphan| Known { comm: comm.map(HostText::from), orphan };
    Who {
        comms: [(33, vec!["apache2".into(), "a comm of 17 bytes".into()]), (u32::MAX, vec![])].into(),
        objects: [
            ((Kind::Sem, 98304), known(Some("apache2"), Some(orphan.clone()))),
            ((Kind::Sem, 98305), known(Some("a comm of 17 bytes"), Some(orphan))),
            ((Kind::Shm, i32::MAX), known(Some("postgres"), Some(unattached))),
            ((Kind::Msg, 7), known(None, None)),
        ]
        .into(),
    }
}

fn activity() -> Activity {
    let refused = Act {
        did: Did::Refused(28),
        kind: Kind::Sem,
        namespace: Some(NamespaceId { inode: 4_026_531_839, instance: 1 }),
        by: Actor { pid: 8791, comm: "apache2".into(), uid: Some(0), parent: "cron".into() },
        first_us: AT.boot_us - 400_000,
        last_us: AT.boot_us - 400_000,
        count: 1,
        key: Key(0),
        size: 1,
        ids: vec![],
        bound_by: Some(Usage { resource: Resource::Semmni, used: 128, limit: 128 }),
    };
    let made = Act {
        did: Did::Created,
        kind: Kind::Shm,
        namespace: None,
        by: Actor { pid: 4_194_303, comm: HostText::cut(b"\n\x1b"), ..Actor::default() },
        last_us: u64::MAX,
        count: u64::MAX,
        key: Key(-1),
        size: u64::MAX,
        ids: vec![5, 6, -1],
        bound_by: None,
        ..refused.clone()
    };
    let gone = Act { did: Did::Removed, kind: Kind::Msg, ..made.clone() };
    let namespace = NamespaceId { inode: 4_026_531_839, instance: 1 };
    let peak = Peak { namespace, boot_us: AT.boot_us - 1, sem_arrays: 52, semaphores: 416 };
    Activity { acts: vec![refused, made, gone], more: 3, lost: 300, peaks: vec![peak] }
}

fn risks() -> Vec<Risk> {
    vec![Risk { kind: RiskKind::RemoveIpc, why: "uid 1000 holds 2 arrays".into(), remedy: "RemoveIPC=no".into() }]
}

fn unseen() -> Unreadable {
    Unreadable { source: "/proc/1/ns/ipc".into(), line: 0, error: "EACCES (13)".into() }
}

fn availability() -> Availability {
    Availability {
        state: SysvipcState::ProcHidden,
        evidence: vec!["SEM_INFO answers".into(), "/proc/sysvipc/sem: ENOENT".into()],
        remedy: "mount proc".into(),
    }
}

fn state() -> State {
    State {
        boot_id: BootId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        interval_ms: 10_000,
        page_size: 4096,
        zone: "Europe/Berlin".into(),
        availability: availability(),
        users: [(0, "root".into()), (1001, HostText::cut(b"ap\xc3\x28che\n\x1b")), (u32::MAX, "".into())].into(),
        groups: [(33, "www-data".into())].into(),
        risks: risks(),
        unseen: vec![unseen()],
        namespaces: vec![host_namespace(), container()],
    }
}

fn delta() -> Delta {
    let change = NamespaceChange {
        id: NamespaceId { inode: 4_026_531_839, instance: 1 },
        name: Some(Some("host".into())),
        torn: Some(false),
        limits: Some(None),
        totals: Some(Some(totals())),
        sem: ListChange::Edits {
            removed: vec![98305, 5],
            changed: vec![founding_row()],
            added: vec![
                (1, SemArray { semid: 131_073, ..founding_row() }),
                (4, SemArray { semid: -1, ..founding_row() }),
            ],
        },
        shm: ListChange::Whole(vec![segment()]),
        msg: ListChange::Unreadable,
        unreadable: Some(vec![unreadable()]),
        left_out: Some(LeftOut { sem: 1, shm: 0, msg: 0 }),
        named_by: Some(NamedBy::Comm),
        skipped: Some(0),
        who: WhoChange::Edits {
            comms: vec![(33, None), (48, Some(vec!["httpd".into()]))],
            objects: vec![
                ((Kind::Sem, 98305), None),
                ((Kind::Sem, 131_073), Some(Known { comm: Some("httpd".into()), orphan: None })),
            ],
        },
    };
    Delta {
        took_us: 310,
        boot_id: Some(BootId([255; 16])),
        interval_ms: Some(1000),
        page_size: Some(65536),
        zone: Some("".into()),
        availability: Some(Availability { state: SysvipcState::Unknown, ..availability() }),
        users: vec![(33, Some("www-data".into())), (1001, None)],
        groups: vec![(0, Some(HostText::cut(b"\x80")))],
        namespaces: vec![
            NamespaceDelta::Gone(NamespaceId { inode: 0, instance: 0 }),
            NamespaceDelta::Changed(change),
            NamespaceDelta::Appeared { position: 1, namespace: container() },
        ],
        risks: Some(risks()),
        unseen: Some(vec![]),
        activity: activity(),
    }
}

#[test]
fn c8_the_keyframe_of_version_1() {
    let keyframe = Keyframe { gap: Some(GapReason::HostDown), took_us: 310, state: state(), activity: activity() };
    check(Content::Keyframe(keyframe), include_str!("../../testdata/v1/keyframe.hex"));
}

#[test]
fn c8_the_delta_of_version_1() {
    check(Content::Delta(delta()), include_str!("../../testdata/v1/delta.hex"));
}

#[test]
fn c8_the_heartbeat_of_version_1() {
    check(Content::Heartbeat, include_str!("../../testdata/v1/heartbeat.hex"));
}

#[test]
fn c8_the_event_of_version_1() {
    let step = Event::ClockStep { before: At { wall_ms: -1, boot_us: 86_390_000_001 }, by_ms: -3_600_000 };
    check(Content::Event(step), include_str!("../../testdata/v1/event.hex"));
}

#[test]
fn c8_the_gap_reason_of_version_1() {
    check(Content::GapReason(GapReason::AgentStopped), include_str!("../../testdata/v1/gap_reason.hex"));
}

#[test]
fn c8_the_record_of_version_1() {
    let record = Record {
        kind: RecordKind::Heartbeat,
        first_seq: Seq(300),
        seq: Seq(449),
        chain: Chain([1, 2, 3, 4, 5, 6, 7, 255]),
        missing: None,
        body: encode_body(&Body { at: AT, content: Content::Heartbeat }),
    };
    let golden = bytes(include_str!("../../testdata/v1/record.hex"));
    assert_eq!(hex(&encode_record(&record)), hex(&golden));
    assert_eq!(decode_record(&golden), Ok(record));
}
