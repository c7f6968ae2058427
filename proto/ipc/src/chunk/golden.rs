//! K8: chunks of version 1 that every later reader must understand. Once it is released the files are never edited, only
//! added.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::{ChunkReader, ChunkWriter, Head, Step, Told};
use crate::activity::Activity;
use crate::limits::{Limits, Totals};
use crate::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use crate::record::{Event, GapReason, RecordKind, Seq};
use crate::snapshot::{BootId, Namespace, NamespaceId, State};
use crate::time::At;

const START_MS: i64 = 1_241_364_900_123;

fn bytes(hex: &str) -> Vec<u8> {
    let lines = hex.lines().filter(|line| !line.starts_with('#'));
    let digits: Vec<u8> = lines.flat_map(str::bytes).filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}

/// The founding note's row, `0 98304 600 1 1001 4294967295 0 0 0 1241364839`, and some after it.
fn array(n: i32, otime: i64) -> SemArray {
    let owner = Owner { uid: 1001, gid: u32::MAX, cuid: 0, cgid: 0 };
    SemArray { key: Key(0), semid: 98_304 + n, perms: Perms(0o600), nsems: 1, owner, otime, ctime: 1_241_364_839 }
}

fn segment(lpid: i32, atime: i64) -> ShmSegment {
    ShmSegment {
        key: Key(-1),
        shmid: i32::MAX,
        perms: Perms(0o1600),
        size: 1 << 20,
        cpid: 4_194_303,
        lpid,
        nattch: 2,
        owner: Owner { uid: 65534, gid: 65534, cuid: u32::MAX, cgid: 0 },
        atime,
        dtime: 0,
        ctime: -1,
        rss: 40_960,
        swap: 4095,
    }
}

fn queue(qnum: u64, stime: i64) -> MsgQueue {
    MsgQueue {
        key: Key(i32::MIN),
        msqid: 0,
        perms: Perms(0o660),
        cbytes: 256 * qnum,
        qnum,
        qbytes: Some(16_384),
        lspid: 700,
        lrpid: 0,
        owner: Owner { uid: 0, gid: 0, cuid: 0, cgid: 0 },
        stime,
        rtime: 0,
        ctime: 1_241_364_000,
    }
}

/// What the host's namespace shows after `n` minutes.
fn state(n: i64) -> State {
    let now = START_MS / 1000 + 60 * n;
    let count = 3 + i32::try_from(n).unwrap();
    let sem =
        (0..count).filter(|place| n < 3 || *place != 1).map(|place| array(place, if place == 0 { now - 7 } else { 0 }));
    let sem: Vec<_> = sem.collect();
    let limits = Limits {
        semmsl: 250,
        semmns: 32_000,
        semopm: 32,
        semmni: 128,
        semvmx: 32_767,
        shmmax: u64::MAX,
        shmall: u64::MAX,
        shmmni: 4096,
        shmmin: 1,
        msgmax: 8192,
        msgmnb: 16_384,
        msgmni: 16,
    };
    let totals = Totals { sem_arrays: sem.len() as u64, semaphores: sem.len() as u64, ..Totals::default() };
    let namespace = Namespace {
        id: NamespaceId { inode: 0xEFFF_FFFF, instance: 1 },
        torn: n == 2,
        limits: Some(limits),
        totals: Some(totals),
        sem: Some(sem),
        shm: Some(vec![segment(4000 + count, now - 1)]),
        msg: (n != 1).then(|| vec![queue(n.unsigned_abs(), now - n)]),
        ..Namespace::default()
    };
    State {
        boot_id: BootId(*b"0123456789abcdef"),
        interval_ms: 60_000,
        page_size: 4096,
        zone: "Europe/Berlin".into(),
        users: [(0, "root".into()), (1001, "w\u{ff}w".into())].into(),
        namespaces: vec![namespace],
        ..State::default()
    }
}

/// Six samples, a step of the clock, and a stop.
fn records() -> Vec<(Step, Option<State>)> {
    let mut out = Vec::new();
    for n in 0..8 {
        let wall_ms = START_MS + 60_000 * n;
        let at = At { wall_ms: wall_ms - n, boot_us: 86_400_000_001 + 60_000_007 * n.unsigned_abs() };
        let activity = Activity { lost: u64::from(n == 5), ..Activity::default() };
        let gap = (n == 0).then_some(GapReason::HostDown);
        let sample = Told::Sample { took_us: 310, gap, activity: Arc::new(activity) };
        let (kind, told, state) = match n {
            0 => (RecordKind::Keyframe, sample, Some(state(n))),
            4 => (RecordKind::Event, Told::Event(Event::ClockStep { before: at, by_ms: -4 }), None),
            7 => (RecordKind::GapReason, Told::GapReason(GapReason::AgentStopped), None),
            _ => (RecordKind::Delta, sample, Some(state(n))),
        };
        let prev_wall_ms = (n > 0).then_some(wall_ms - 60_000);
        let seq = Seq(40 + n.unsigned_abs());
        out.push((
            Step { head: Head { seq, kind, wall_ms, prev_wall_ms, received_ms: wall_ms + 35 }, at, told },
            state,
        ));
    }
    out
}

#[test]
fn k8_chunks_of_version_1_are_read() {
    let golden = bytes(include_str!("../../testdata/chunk/v1/minutes.hex"));
    let mut writer = ChunkWriter::new();
    for (Step { head, at, told }, state) in &records() {
        if head.seq == Seq(43) {
            writer.cut();
        }
        writer.push(head, *at, told, state.as_ref()).unwrap();
    }
    assert_eq!(hex(&writer.finish()), hex(&golden), "K7");
    let mut reader = ChunkReader::new(&golden).unwrap();
    let mut last = None;
    for (step, state) in &records() {
        assert_eq!(reader.next().as_ref(), Ok(&Some(step.clone())));
        last = state.clone().or(last);
        assert_eq!(reader.state(), last.as_ref());
    }
    assert_eq!(reader.next(), Ok(None));
    assert_eq!(reader.directory().segments.len(), 2);
}
