//! Nothing is lost, nothing is retyped, nothing meaningless is taken.

use std::collections::BTreeMap;

use highwater_ipc::activity::{Act, Activity, Actor, Did, Peak};
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::{Limits, Resource, Totals, Usage};
use highwater_ipc::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::snapshot::{BootId, LeftOut, NamedBy, Namespace, NamespaceId, Snapshot, State, Unreadable};
use highwater_ipc::text::HostText;
use highwater_ipc::time::{At, RFC3339_MAX_MS, RFC3339_MIN_MS};
use highwater_ipc::who::{Doubt, Grade, Known, Orphan, Who};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

mod facts;

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
    let orphan = Orphan { grade: Grade::Certain, doubt: Doubt::None, last_pids: vec![811, 812] };
    let unattached = Orphan { grade: Grade::Unattached, doubt: Doubt::MayBeCache, last_pids: vec![] };
    let known = |comm: Option<&str>, orphan| Known { comm: comm.map(HostText::from), orphan };
    let who = Who {
        comms: [(33, vec![HostText::cut(b"www\n"), HostText::from("sh")])].into(),
        objects: [
            ((Kind::Sem, 98304), known(Some("httpd"), Some(orphan))),
            ((Kind::Shm, 6), known(None, Some(unattached))),
            ((Kind::Msg, 0), known(Some("mq"), None)),
        ]
        .into(),
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
        who: Some(who),
        ..Namespace::default()
    };
    let other = Namespace {
        id: NamespaceId { inode: 4_026_532_999, instance: u64::MAX },
        name: Some(HostText::from("c0ffee")),
        named_by: NamedBy::Docker,
        skipped: 3,
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
        risks: vec![Risk { kind: RiskKind::RemoveIpc, why: "uid 1000".into(), remedy: "RemoveIPC=no".into() }],
        unseen: vec![Unreadable { source: "/proc/1/ns/ipc".into(), line: 0, error: "EACCES (13)".into() }],
        namespaces: vec![namespace, other],
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
        activity: Some(happened()),
    };
    (Snapshot { at, took_us: 310, state }, envelope)
}

fn happened() -> Activity {
    let refused = Act {
        did: Did::Refused(28),
        kind: Kind::Sem,
        namespace: Some(NamespaceId { inode: 4_026_531_839, instance: 3 }),
        by: Actor { pid: 8791, comm: HostText::cut(b"apache2\x1b"), uid: Some(33), parent: "cron".into() },
        first_us: 123_056_789,
        last_us: 123_056_800,
        count: 2,
        key: Key(0x51),
        size: 1,
        ids: vec![],
        bound_by: Some(Usage { resource: Resource::Semmni, used: 128, limit: 128 }),
    };
    let by = Actor { pid: 1, comm: "sh".into(), ..Actor::default() };
    let made = Act { did: Did::Created, namespace: None, by, ids: vec![5, 6], bound_by: None, ..refused.clone() };
    let namespace = NamespaceId { inode: 4_026_531_839, instance: 3 };
    let peak = Peak { namespace, boot_us: 123_456_000, sem_arrays: 52, semaphores: u64::MAX };
    Activity { acts: vec![refused, made], more: 1, lost: 2, peaks: vec![peak] }
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
    for absent in ["host_id", "asked_at", "covered", "also", "received_at", "skew_ms", "activity"] {
        assert!(value.get(absent).is_none(), "{absent}");
    }
    assert!(value["torn"].as_bool().unwrap());
}

#[test]
fn reads_the_golden_file_and_ignores_fields_of_a_newer_writer() {
    let mut value: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    value["of_a_later_version"] = serde_json::json!({"x": [1]});
    value["namespaces"][0]["sem"][0]["of_a_later_version"] = serde_json::json!(["httpd"]);
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
        ("named_by", error(|json| json.namespaces[0].named_by = "guess".into())),
        ("at_risk.kind", error(|json| json.at_risk[0].kind = "doom".into())),
        ("did", error(|json| json.activity.as_mut().unwrap().acts[0].errno = None)),
        (
            "bound_by.resource",
            error(|json| {
                json.activity.as_mut().unwrap().acts[0].bound_by.as_mut().unwrap().resource = "SEMVMX".into();
            }),
        ),
        (
            "orphan.doubt",
            error(|json| {
                let held = &mut json.namespaces[0].sem.as_mut().unwrap()[0].held;
                held.orphan.as_mut().unwrap().as_mut().unwrap().doubt = "much".into();
            }),
        ),
        ("sysvipc.state", error(|json| json.sysvipc.state = "fine".into())),
    ] {
        assert!(matches!(&wrong, JsonError::Meaning { field: f, .. } if *f == field), "{field}: {wrong}");
    }
    let two = error(|json| json.namespaces[0].shm.as_mut().unwrap()[0].owner.cuser = Some("apache".into()));
    assert!(matches!(two, JsonError::TwoNames { field: "cuser", id: 33, .. }), "{two}");
    let many = error(|json| json.sysvipc.evidence = vec![String::new(); Availability::MAX_EVIDENCE + 1]);
    assert!(matches!(many, JsonError::TooMany { field: "sysvipc.evidence", len: 17, most: 16, .. }), "{many}");
    let many = |change: fn(&mut SnapshotJson)| match error(change) {
        JsonError::TooMany { field, most, .. } => (field, most),
        other => panic!("{other}"),
    };
    let risk = |json: &mut SnapshotJson| json.at_risk = vec![json.at_risk[0].clone(); 17];
    assert_eq!(many(risk), ("at_risk", 16));
    assert_eq!(many(|json| json.unseen = vec![json.unseen[0].clone(); 17]), ("unseen", 16));
    let pids = |json: &mut SnapshotJson| {
        json.namespaces[0].sem.as_mut().unwrap()[0].held.last_pids = Some(Some(vec![1; 9]));
    };
    assert_eq!(many(pids), ("last_pids", 8));
    let acts = |json: &mut SnapshotJson| {
        let acts = &mut json.activity.as_mut().unwrap().acts;
        *acts = vec![acts[0].clone(); 257];
    };
    assert_eq!(many(acts), ("activity.acts", 256));
    let comms = |json: &mut SnapshotJson| {
        let owners = json.namespaces[0].owners.as_mut().unwrap().as_mut().unwrap();
        owners[0].comms = vec![String::new(); 9];
    };
    assert_eq!(many(comms), ("owners.comms", 8));
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
        option::of(facts::activity()),
    )
        .prop_map(|(host, host_id, asked_at_ms, covered, also, [received, skew], activity)| Envelope {
            host,
            host_id,
            asked_at_ms,
            covered,
            also,
            received_at_ms: received.map(i64::from),
            skew_ms: skew.map(i64::from),
            activity,
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
    let rest = (vec(unreadable, 0..3), any::<[u64; 3]>(), option::of(facts::who()));
    let named = (option::of(text()), facts::named_by(), any::<u32>());
    let figures = (option::of(limits()), option::of(totals()));
    (any::<(u64, u64, bool)>(), named, figures, objects, rest).prop_map(
        |((inode, instance, torn), named, (limits, totals), (sem, shm, msg), (unreadable, left, who))| Namespace {
            id: NamespaceId { inode, instance },
            name: named.0,
            named_by: named.1,
            skipped: named.2,
            torn,
            limits,
            totals,
            sem,
            shm,
            msg,
            unreadable,
            left_out: LeftOut { sem: left[0], shm: left[1], msg: left[2] },
            who,
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
    let facts = (availability(), vec(facts::risk(), 0..3), vec(facts::unseen(), 0..3));
    (numbers, text(), facts, names(), names(), vec(namespace(), 0..3)).prop_map(
        |(
            (wall_ms, boot_us, [took_us, interval_ms, page_size], boot),
            zone,
            (availability, risks, unseen),
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
                risks,
                unseen,
                namespaces,
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
    let holders = namespaces.iter().flat_map(|n| n.who.iter().flat_map(|who| who.comms.keys().copied())).collect();
    owners.map(|o| ([o.uid, o.cuid], [o.gid, o.cgid])).fold(
        (holders, vec![]),
        |(mut uids, mut gids): (Vec<_>, Vec<_>), (u, g)| {
            uids.extend(u);
            gids.extend(g);
            (uids, gids)
        },
    )
}
