//! tracefs: descriptions of events, and the raw pages that they come in, on the way to what a sample tells.

use std::sync::{Arc, LazyLock};

use highwater_agent::trace::event::{Decoder, TRACED};
use highwater_agent::trace::format::{Format, PageHeader};
use highwater_agent::trace::page;
use highwater_agent::trace::pair::Pairing;
use highwater_agent::trace::tracefs::{Owner, parse_kb, parse_lost};
use highwater_agent::trace::{Caller, Calls, Ledger, Place, What};
use highwater_ipc::activity::{Activity, Did};
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Key, Owner as ObjectOwner, Perms, SemArray};
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::time::At;

/// The parsers of tracefs's text, on the same bytes.
pub fn trace_format(data: &[u8]) {
    let _ = (parse_lost(data), parse_kb(data));
    if let Ok(name) = std::str::from_utf8(data)
        && let Some(owner) = Owner::of_name(name)
    {
        assert_eq!(Owner::of_name(&owner.name(0)), Some(owner));
    }
    if let Some(header) = PageHeader::parse(data) {
        assert!(header.data < header.page && header.page <= PageHeader::MAX_PAGE);
        assert!(header.timestamp.offset + header.timestamp.size <= header.data);
        // Whatever a kernel says of its pages, one is read within itself.
        let mut handed = 0;
        let bytes: Vec<u8> = data.iter().copied().cycle().take(header.page.min(8192)).collect();
        page::read(&header, &bytes, &mut |_, event| handed += event.len());
        assert!(handed <= bytes.len());
    }
    let Some(format) = Format::parse(data) else { return };
    for name in ["common_pid", "key", "nsems", "size", "ret"] {
        if let Some(field) = format.field(name) {
            assert!(field.offset <= 4096 && matches!(field.size, 1 | 2 | 4 | 8));
        }
    }
    for (event, _) in TRACED {
        let mut decoder = Decoder::default();
        if decoder.learn(event, &format) {
            let id = format.id.to_le_bytes();
            for length in [2, 16, 64, data.len()] {
                let bytes: Vec<u8> = id.iter().chain(data).copied().take(length).collect();
                let _ = decoder.decode(7, &bytes);
            }
        }
    }
}

/// Pages one behind another, each after its length in two bytes: from there to what a sample tells.
pub fn trace_page(data: &[u8]) {
    let (header, decoder) = &*KERNEL;
    let (mut events, mut rest) = (Vec::new(), data);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        let mut handed = 0;
        let summary = page::read(header, bytes, &mut |at_ns, event| {
            // Each has a word before it that says how long it is.
            handed += event.len() + 4;
            events.extend(decoder.decode(at_ns, event));
        });
        assert!(handed == 0 || handed + header.data <= bytes.len(), "a page hands out no more than it has");
        assert!(summary.missed || summary.missed_count == 0);
    }
    events.sort_by_key(|event| event.at_ns);
    let seen = events.len();
    let (mut pairing, mut calls) = (Pairing::default(), Vec::new());
    for event in &events {
        pairing.feed(event, &mut |tid, _| caller(tid), &mut |call| calls.push(call));
    }
    pairing.settle(u64::MAX, &mut |call| calls.push(call));
    assert!(calls.len() <= seen, "no event makes two calls");
    for call in &calls {
        if let What::Get { asked: None, answer } = call.what {
            assert!(matches!(answer, -28 | -38 | -12), "without its beginning only a refusal is told");
        }
    }
    ledger(calls);
}

/// Four samples: what was called falls into them by its time.
fn ledger(mut calls: Vec<highwater_agent::trace::Call>) {
    let mut ledger = Ledger::default();
    calls.sort_by_key(|call| call.at_ns);
    let told = calls.len() as u64;
    let mut rows = 0;
    let chunk = calls.len() / 3 + 1;
    let mut last_us = 0;
    for round in 0..4_usize {
        let now: Vec<_> = calls.drain(..chunk.min(calls.len())).collect();
        // Some calls fall into the reading of the sample that tells them.
        last_us = now.get(now.len() / 2).map_or(last_us, |call| call.at_ns / 1000);
        let at = At { wall_ms: 1_795_000_000_000, boot_us: last_us };
        let state = state(round);
        let activity = ledger.close(&state, &at, Calls { calls: now, more: 0, lost: 0 });
        rows += holds(&activity, &state);
    }
    assert!(rows <= told, "no call is told twice");
}

fn holds(activity: &Activity, state: &State) -> u64 {
    assert!(activity.acts.len() <= Activity::MAX_ACTS && activity.peaks.len() <= Activity::MAX_PEAKS);
    for act in &activity.acts {
        assert!(act.count > 0 && act.first_us <= act.last_us && act.ids.len() <= Activity::MAX_IDS);
        assert!(act.ids.len() as u64 <= act.count);
        assert!(act.bound_by.is_none() || matches!(act.did, Did::Refused(28)));
    }
    for peak in &activity.peaks {
        let shown = state.namespaces.iter().find(|namespace| namespace.id == peak.namespace);
        if let Some(totals) = shown.and_then(|namespace| namespace.totals) {
            assert!(peak.sem_arrays >= totals.sem_arrays && peak.semaphores >= totals.semaphores);
        }
    }
    activity.acts.iter().map(|act| act.count).sum::<u64>().saturating_add(activity.more)
}

/// What a Linux 6.18 says of its events and pages.
static KERNEL: LazyLock<(PageHeader, Decoder)> = LazyLock::new(|| {
    let mut decoder = Decoder::default();
    for (event, format) in FORMATS {
        assert!(decoder.learn(event, &Format::parse(format).unwrap()), "{event}");
    }
    (PageHeader::parse(include_bytes!("../formats/header_page")).unwrap(), decoder)
});

macro_rules! formats {
    ($($event:literal),*) => { [$(($event, include_bytes!(concat!("../formats/", $event)))),*] };
}

const FORMATS: [(&str, &[u8]); 12] = formats!(
    "sys_enter_semget",
    "sys_exit_semget",
    "sys_enter_shmget",
    "sys_exit_shmget",
    "sys_enter_msgget",
    "sys_exit_msgget",
    "sys_enter_semctl",
    "sys_exit_semctl",
    "sys_enter_shmctl",
    "sys_exit_shmctl",
    "sys_enter_msgctl",
    "sys_exit_msgctl"
);

/// Threads are of three processes, in two namespaces, and some could not be asked.
fn caller(tid: i32) -> Arc<Caller> {
    let pid = tid.rem_euclid(3);
    let place = match tid.rem_euclid(4) {
        0 => None,
        1 => Some(Place { inode: 9, instance: Some(90) }),
        _ => Some(Place { inode: 5, instance: Some(50) }),
    };
    Arc::new(Caller { pid, comm: "app".into(), uid: Some(33), place, ..Caller::default() })
}

fn state(round: usize) -> State {
    let array = |semid| SemArray {
        key: Key(0),
        semid,
        perms: Perms(0o600),
        nsems: 3,
        owner: ObjectOwner::default(),
        otime: 0,
        ctime: 1_795_000_000,
    };
    let ids: &[i32] = [&[][..], &[0, 1], &[1, 2, 3], &[3]].get(round).copied().unwrap_or_default();
    let arrays = ids.len() as u64;
    let limits = Limits {
        semmsl: 250,
        semmns: 12,
        semopm: 32,
        semmni: 4,
        semvmx: 32_767,
        shmmax: u64::MAX,
        shmall: u64::MAX,
        shmmni: 2,
        shmmin: 1,
        msgmax: 8192,
        msgmnb: 16_384,
        msgmni: 2,
    };
    let namespace = Namespace {
        id: NamespaceId { inode: 5, instance: 50 },
        limits: Some(limits),
        totals: Some(Totals { sem_arrays: arrays, semaphores: 3 * arrays, ..Totals::default() }),
        sem: Some(ids.iter().copied().map(array).collect()),
        shm: Some(Vec::new()),
        msg: Some(Vec::new()),
        ..Namespace::default()
    };
    State { page_size: 4096, namespaces: vec![namespace], ..State::default() }
}
