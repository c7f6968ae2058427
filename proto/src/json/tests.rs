//! Nothing is lost, nothing is retyped, nothing meaningless is taken.

use std::collections::BTreeMap;

use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::snapshot::{BootId, LeftOut, Namespace, NamespaceId, Snapshot, State, Unreadable};
use highwater_ipc::text::HostText;
use highwater_ipc::time::{At, RFC3339_MAX_MS, RFC3339_MIN_MS};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Envelope, JsonError, SnapshotJson, Span};

const GOLDEN: &str = include_str!("testdata/snapshot.json");

// Long because: every field of a snapshot has a value of its own.
/// The founding note's row (gid 4294967295), a segment of 2^64-1 bytes, a user name of hostile bytes.
fn example() -> (Snapshot, Envelope) {
    let array = SemArray {
        key: Key(0),
        semid: 98304,
        perms: Perms(0o600),
        nsems: 1,
        owner: Owner { uid: 1001, gid: u32::MAX, cuid: 0, cgid: 0 },
        otime: 0,
        ctime: 1_241_364_839,
    };
    let segment = ShmSegment {
        key: Key(-559_038_737),
        shmid: 5,
        perms: Perms(0o3640),
        size: u64::MAX,
        cpid: 812,
        lpid: 0,
        nattch: 2,
        owner: Owner { uid: 33, gid: 0, cuid: 33, cgid: 0 },
        atime: 1_241_364_839,
        dtime: 0,
        ctime: 1_241_364_839,
        rss: 4096,
        swap: 0,
    };
    let namespace = Namespace {
        id: NamespaceId { inode: 4_026_531_839, instance: 3 },
        name: None,
        torn: false,
        limits: Some(Limits {
            semmsl: 32000,
            semmns: 1_024_000_000,
            semopm: 500,
            semmni: 32000,
            semvmx: 32767,
            shmmax: 18_446_744_073_692_774_399,
            shmall: 18_446_744_073_692_774_399,
            shmmni: 4096,
            shmmin: 1,
            msgmax: 8192,
            msgmnb: 16384,
            msgmni: 32000,
        }),
        totals: Some(Totals { sem_arrays: 1, semaphores: 1, shm_segments: 1, ..Totals::default() }),
        sem: Some(vec![array]),
        shm: Some(vec![segment]),
        msg: None,
        unreadable: vec![Unreadable {
            source: HostText::from("/proc/sysvipc/msg"),
            line: 2,
            error: HostText::from("column qnum is missing"),
        }],
        left_out: LeftOut { sem: 0, shm: 0, msg: 7 },
        ..Namespace::default()
    };
    let other = Namespace {
        id: NamespaceId { inode: 4_026_532_999, instance: u64::MAX },
        name: Some(HostText::from("c0ffee")),
        torn: true,
        limits: None,
        totals: None,
        sem: None,
        shm: None,
        msg: Some(vec![]),
        unreadable: vec![Unreadable { source: HostText::from("setns"), line: 0, error: HostText::from("EPERM (1)") }],
        left_out: LeftOut::default(),
        ..Namespace::default()
    };
    let state = State {
        boot_id: BootId(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10"),
        interval_ms: 10_000,
        page_size: 4096,
        zone: HostText::from("Europe/Berlin"),
        availability: Availability {
            state: SysvipcState::Available,
            evidence: vec![HostText::from("SEM_INFO answered")],
            remedy: HostText::default(),
        },
        users: BTreeMap::from([(0, HostText::from("root")), (33, HostText::cut(b"www\n\x1b\xff"))]),
        groups: BTreeMap::from([(0, HostText::from("root"))]),
        namespaces: vec![namespace, other],
        ..State::default()
    };
    let at = At { wall_ms: 1_795_489_920_123, boot_us: 123_456_789 };
    let span = Span { from_ms: at.wall_ms, to_ms: at.wall_ms + 60_000 };
    let envelope = Envelope {
        host: Some(HostText::from("web-17")),
        host_id: Some("h1".into()),
        asked_at_ms: Some(at.wall_ms + 5),
        covered: Some(span),
        also: Some(vec![]),
        received_at_ms: Some(at.wall_ms + 40),
        skew_ms: Some(-3),
    };
    (Snapshot { at, took_us: 310, state }, envelope)
}

/// `HIGHWATER_GOLDEN=rewrite` writes the file anew.
#[test]
fn the_contract_s_document_is_written_as_the_golden_file_says() {
    let (snapshot, envelope) = example();
    let text = serde_json::to_string_pretty(&SnapshotJson::new(&snapshot, &envelope)).unwrap() + "\n";
    if std::env::var_os("HIGHWATER_GOLDEN").is_some_and(|what| what == "rewrite") {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/json/testdata/snapshot.json"), &text).unwrap();
    } else {
        assert_eq!(text, GOLDEN);
    }
}

#[test]
fn an_agent_alone_writes_none_of_the_collector_s_fields() {
    let (snapshot, _) = example();
    let envelope = Envelope { host: Some(HostText::from("web-17")), ..Envelope::default() };
    let value = serde_json::to_value(SnapshotJson::new(&snapshot, &envelope)).unwrap();
    for absent in ["host_id", "asked_at", "covered", "also", "received_at", "skew_ms"] {
        assert!(value.get(absent).is_none(), "{absent}");
    }
    assert!(value["torn"].as_bool().unwrap());
}

#[test]
fn reads_the_golden_file_and_ignores_fields_of_a_newer_writer() {
    let mut value: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    value["of_a_later_version"] = serde_json::json!({"x": [1]});
    value["namespaces"][0]["sem"][0]["owners"] = serde_json::json!(["httpd"]);
    let json: SnapshotJson = serde_json::from_value(value).unwrap();
    assert_eq!(json.to_snapshot(), Ok(example()));
}

#[test]
fn refuses_what_means_nothing_and_says_where() {
    let golden: SnapshotJson = serde_json::from_str(GOLDEN).unwrap();
    let error = |change: fn(&mut SnapshotJson)| {
        let mut json = golden.clone();
        change(&mut json);
        json.to_snapshot().unwrap_err()
    };
    let message = error(|json| json.namespaces[0].sem.as_mut().unwrap()[0].key = "0x+1+1+1+1".into()).to_string();
    assert_eq!(message, "namespaces[0].sem[0].key is \"0x+1+1+1+1\", not 0x and eight hexadecimal digits");
    for (field, wrong) in [
        ("at", error(|json| json.at = "yesterday".into())),
        ("boot_id", error(|json| json.boot_id = "0".repeat(36))),
        ("boot_us_u64", error(|json| json.boot_us_u64 = "+1".into())),
        ("instance", error(|json| json.namespaces[1].instance = "18446744073709551616".into())),
        ("limits.shmmax_u64", error(|json| json.namespaces[0].limits.as_mut().unwrap().shmmax_u64 = String::new())),
        ("perms", error(|json| json.namespaces[0].shm.as_mut().unwrap()[0].perms = "0x1ff".into())),
        ("host", error(|json| json.host = Some("\\n".into()))),
        ("sysvipc.state", error(|json| json.sysvipc.state = "fine".into())),
    ] {
        assert!(matches!(&wrong, JsonError::Meaning { field: f, .. } if *f == field), "{field}: {wrong}");
    }
    let two = error(|json| json.namespaces[0].shm.as_mut().unwrap()[0].owner.cuser = Some("apache".into()));
    assert!(matches!(two, JsonError::TwoNames { field: "cuser", id: 33, .. }), "{two}");
    let many = error(|json| json.sysvipc.evidence = vec![String::new(); Availability::MAX_EVIDENCE + 1]);
    assert!(matches!(many, JsonError::TooMany { field: "sysvipc.evidence", len: 17, most: 16, .. }), "{many}");
}

proptest! {
    #[test]
    fn json_loses_nothing(snapshot in snapshot(), envelope in envelope()) {
        let text = serde_json::to_string(&SnapshotJson::new(&snapshot, &envelope)).unwrap();
        prop_assert!(!text.contains(|c: char| c.is_control()));
        let json: SnapshotJson = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(json.to_snapshot(), Ok((snapshot, envelope)));
    }
}

fn text() -> impl Strategy<Value = HostText> {
    prop_oneof![
        "[ -~]{0,20}".prop_map(|text| HostText::from(text.as_str())),
        vec(any::<u8>(), 0..40).prop_map(|bytes| HostText::cut(&bytes)),
    ]
}

fn ms() -> impl Strategy<Value = i64> {
    RFC3339_MIN_MS..=RFC3339_MAX_MS
}

fn span() -> impl Strategy<Value = Span> {
    (ms(), ms()).prop_map(|(from_ms, to_ms)| Span { from_ms, to_ms })
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let spans = option::of(vec(span(), 0..3));
    (
        option::of(text()),
        option::of("[a-z0-9-]{1,36}"),
        option::of(ms()),
        option::of(span()),
        spans,
        any::<[Option<i32>; 2]>(),
    )
        .prop_map(|(host, host_id, asked_at_ms, covered, also, [received, skew])| Envelope {
            host,
            host_id,
            asked_at_ms,
            covered,
            also,
            received_at_ms: received.map(i64::from),
            skew_ms: skew.map(i64::from),
        })
}

/// Few ids, so that objects share names.
fn owner() -> impl Strategy<Value = Owner> {
    let id = || prop_oneof![0..4_u32, Just(65_534), Just(u32::MAX)];
    (id(), id(), id(), id()).prop_map(|(uid, gid, cuid, cgid)| Owner { uid, gid, cuid, cgid })
}

fn sem() -> impl Strategy<Value = SemArray> {
    (any::<[i32; 2]>(), any::<[u32; 2]>(), owner(), any::<[i64; 2]>()).prop_map(
        |([key, semid], [perms, nsems], owner, [otime, ctime])| SemArray {
            key: Key(key),
            semid,
            perms: Perms(perms),
            nsems,
            owner,
            otime,
            ctime,
        },
    )
}

fn shm() -> impl Strategy<Value = ShmSegment> {
    (any::<[i32; 4]>(), any::<u32>(), any::<[u64; 4]>(), owner(), any::<[i64; 3]>()).prop_map(
        |([key, shmid, cpid, lpid], perms, [size, nattch, rss, swap], owner, [atime, dtime, ctime])| ShmSegment {
            key: Key(key),
            shmid,
            perms: Perms(perms),
            size,
            cpid,
            lpid,
            nattch,
            owner,
            atime,
            dtime,
            ctime,
            rss,
            swap,
        },
    )
}

fn msg() -> impl Strategy<Value = MsgQueue> {
    (any::<[i32; 4]>(), any::<u32>(), any::<[u64; 2]>(), any::<Option<u64>>(), owner(), any::<[i64; 3]>()).prop_map(
        |([key, msqid, lspid, lrpid], perms, [cbytes, qnum], qbytes, owner, [stime, rtime, ctime])| MsgQueue {
            key: Key(key),
            msqid,
            perms: Perms(perms),
            cbytes,
            qnum,
            qbytes,
            lspid,
            lrpid,
            owner,
            stime,
            rtime,
            ctime,
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    any::<[u64; 12]>().prop_map(|n| Limits {
        semmsl: n[0],
        semmns: n[1],
        semopm: n[2],
        semmni: n[3],
        semvmx: n[4],
        shmmax: n[5],
        shmall: n[6],
        shmmni: n[7],
        shmmin: n[8],
        msgmax: n[9],
        msgmnb: n[10],
        msgmni: n[11],
    })
}

fn totals() -> impl Strategy<Value = Totals> {
    any::<[u64; 11]>().prop_map(|n| Totals {
        sem_arrays: n[0],
        semaphores: n[1],
        shm_segments: n[2],
        shm_pages: n[3],
        shm_resident: n[4],
        shm_swapped: n[5],
        swap_attempts: n[6],
        swap_successes: n[7],
        msg_queues: n[8],
        msg_messages: n[9],
        msg_bytes: n[10],
    })
}

fn namespace() -> impl Strategy<Value = Namespace> {
    let objects = (option::of(vec(sem(), 0..4)), option::of(vec(shm(), 0..4)), option::of(vec(msg(), 0..4)));
    let unreadable =
        (text(), any::<u32>(), text()).prop_map(|(source, line, error)| Unreadable { source, line, error });
    let rest = (vec(unreadable, 0..3), any::<[u64; 3]>());
    let figures = (option::of(limits()), option::of(totals()));
    (any::<(u64, u64, bool)>(), option::of(text()), figures, objects, rest).prop_map(
        |((inode, instance, torn), name, (limits, totals), (sem, shm, msg), (unreadable, left))| Namespace {
            id: NamespaceId { inode, instance },
            name,
            torn,
            limits,
            totals,
            sem,
            shm,
            msg,
            unreadable,
            left_out: LeftOut { sem: left[0], shm: left[1], msg: left[2] },
            ..Namespace::default()
        },
    )
}

fn availability() -> impl Strategy<Value = Availability> {
    (0..SysvipcState::ALL.len(), vec(text(), 0..3), text()).prop_map(|(i, evidence, remedy)| Availability {
        state: SysvipcState::ALL[i],
        evidence,
        remedy,
    })
}

/// A snapshot whose names are those of its objects' ids.
fn snapshot() -> impl Strategy<Value = Snapshot> {
    let names = || proptest::collection::btree_map(prop_oneof![0..4_u32, Just(u32::MAX)], text(), 0..5);
    let numbers = (ms(), any::<u64>(), any::<[u32; 3]>(), any::<[u8; 16]>());
    (numbers, text(), availability(), names(), names(), vec(namespace(), 0..3)).prop_map(
        |(
            (wall_ms, boot_us, [took_us, interval_ms, page_size], boot),
            zone,
            availability,
            users,
            groups,
            namespaces,
        )| {
            let (uids, gids) = ids(&namespaces);
            let state = State {
                boot_id: BootId(boot),
                interval_ms,
                page_size,
                zone,
                availability,
                users: users.into_iter().filter(|(id, _)| uids.contains(id)).collect(),
                groups: groups.into_iter().filter(|(id, _)| gids.contains(id)).collect(),
                namespaces,
                ..State::default()
            };
            Snapshot { at: At { wall_ms, boot_us }, took_us, state }
        },
    )
}

fn ids(namespaces: &[Namespace]) -> (Vec<u32>, Vec<u32>) {
    let owners = namespaces.iter().flat_map(|n| {
        let sem = n.sem.iter().flatten().map(|o| o.owner);
        let shm = n.shm.iter().flatten().map(|o| o.owner);
        let msg = n.msg.iter().flatten().map(|o| o.owner);
        sem.chain(shm).chain(msg)
    });
    owners.map(|o| ([o.uid, o.cuid], [o.gid, o.cgid])).fold(Default::default(), |(mut uids, mut gids), (u, g)| {
        uids.extend(u);
        gids.extend(g);
        (uids, gids)
    })
}
