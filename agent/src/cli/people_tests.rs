//! The text of `snapshot` for captured machines, and for a made-up one that has everything to say.

use std::fs;
use std::path::{Path, PathBuf};

use highwater_ipc::limits::Totals;
use highwater_ipc::object::{Key, Perms, SemArray, ShmSegment};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::snapshot::{NamespaceId, Unreadable};
use highwater_ipc::time::At;
use highwater_ipc::who::{Orphan, Who};

use super::*;
use crate::clock::SystemClock;
use crate::kernel::fake::FakeKernel;
use crate::kernel::identity::host_facts;
use crate::sampler::Assembler;

fn folder(machine: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kernels").join(machine)
}

/// As sampled at 2026-11-24T03:12:00Z, two days after boot.
fn of(machine: &str) -> (HostFacts, Snapshot) {
    let mut kernel = FakeKernel::captured(&folder(machine)).unwrap();
    let facts = host_facts(&mut kernel);
    let snapshot = Assembler::new(Box::new(kernel)).sample(&SystemClock, 0).snapshot;
    let at = At { wall_ms: 1_795_489_920_000, boot_us: 172_800_000_000 };
    (facts, Snapshot { at, took_us: 310, ..snapshot })
}

/// Compares with the golden file, or writes it (HIGHWATER_BLESS=1).
fn golden(file: &Path, text: &str) {
    if std::env::var_os("HIGHWATER_BLESS").is_some() {
        fs::write(file, text).unwrap();
    }
    assert_eq!(fs::read_to_string(file).unwrap_or_default(), text, "HIGHWATER_BLESS=1 rewrites {}", file.display());
}

#[test]
fn each_captured_machine_reads_as_its_golden_text() {
    for machine in ["busy", "extremes", "absent", "blocked", "proc-hidden", "no-config", "truncated", "founding-note"] {
        let (facts, snapshot) = of(machine);
        golden(&folder(machine).join("snapshot.txt"), &summary(&facts, &snapshot));
    }
}

fn orphan(comm: Option<&str>, grade: Grade, doubt: Doubt) -> Known {
    Known { comm: comm.map(Into::into), orphan: Some(Orphan { grade, doubt, last_pids: vec![7] }) }
}

/// `busy` with a full container beside it, orphans, a risk, a name that wants to break the terminal.
fn sick() -> (HostFacts, Snapshot) {
    let (facts, mut snapshot) = of("busy");
    let state = &mut snapshot.state;
    let owner = Owner { uid: 33, gid: 33, cuid: 0, cgid: 0 };
    let array = |semid| SemArray { key: Key(0), semid, perms: Perms(0o600), nsems: 1, owner, otime: 5, ctime: 4 };
    let segment = ShmSegment { owner, ..state.namespaces[0].shm.as_ref().unwrap()[0] };
    let shmid = segment.shmid;
    let mut container = Namespace {
        id: NamespaceId { inode: 4_026_532_000, instance: 9 },
        name: Some("4f1e\u{1b}[31m\nX".into()),
        named_by: NamedBy::Docker,
        sem: Some((0..8).map(array).collect()),
        shm: Some(vec![segment]),
        ..state.namespaces[0].clone()
    };
    container.limits.as_mut().unwrap().semmni = 8;
    container.totals = Some(Totals { sem_arrays: 8, semaphores: 8, shm_segments: 1, ..Totals::default() });
    let mut who = Who::default();
    who.comms.insert(33, vec!["apache2".into(), "evil\n\u{1b}".into()]);
    for semid in 0..5 {
        who.objects.insert((Kind::Sem, semid), orphan(Some("apache2"), Grade::Likely, Doubt::MakerLives));
    }
    who.objects.insert((Kind::Sem, 5), orphan(None, Grade::Likely, Doubt::MakerUnknown));
    who.objects.insert((Kind::Shm, shmid), orphan(Some("cache"), Grade::Unattached, Doubt::MayBeCache));
    container.who = Some(who);
    state.namespaces.push(container);
    state.risks.push(Risk {
        kind: RiskKind::RemoveIpc,
        why: "uid 1001 (ora) owns 9 arrays; systemd-logind removes them when its last session ends: RemoveIPC=yes"
            .into(),
        remedy: "set RemoveIPC=no in /etc/systemd/logind.conf.d/ipc.conf".into(),
    });
    state.unseen.push(Unreadable {
        source: "setns".into(),
        line: 0,
        error: "EPERM (1): operation not permitted: 2 IPC namespaces cannot be entered: the agent lacks CAP_SYS_ADMIN"
            .into(),
    });
    (facts, snapshot)
}

#[test]
fn a_sick_host_reads_as_its_golden_text() {
    let (facts, snapshot) = sick();
    let text = summary(&facts, &snapshot);
    golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sick.txt"), &text);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[test]
fn a_container_without_objects_is_one_line_unless_its_limits_are_near() {
    let (facts, mut snapshot) = sick();
    let container = &mut snapshot.state.namespaces[1];
    (container.sem, container.shm, container.msg) = (Some(vec![]), Some(vec![]), Some(vec![]));
    container.totals = Some(Totals::default());
    let text = summary(&facts, &snapshot);
    let line = "\n\nIPC namespace 4026532000, by its own claim Docker container 4f1e\\x1b[31m\\x0aX:\nno objects (SEMMNI 8, \
                SEMMNS 1024000000, SHMMNI 4096, MSGMNI 32000)\n";
    assert!(text.ends_with(line), "{text}");
    snapshot.state.namespaces[1].limits.as_mut().unwrap().semmni = 0;
    assert!(
        summary(&facts, &snapshot).contains("SEMMNI: 0 of 0 in use (100.00 %) CRITICAL"),
        "nothing can be made there"
    );
}

#[test]
fn at_the_kernel_s_maximum_that_is_said_in_place_of_a_command() {
    let (facts, mut snapshot) = sick();
    let container = &mut snapshot.state.namespaces[1];
    container.limits.as_mut().unwrap().semmni = 32_768;
    container.totals = Some(Totals { sem_arrays: 32_768, ..Totals::default() });
    let text = summary(&facts, &snapshot);
    assert!(text.contains("Raise it      not possible: 32768 is the most that this kernel takes\n"), "{text}");
}

#[test]
fn prose_is_wrapped_between_words_and_a_long_word_stays_whole() {
    let mut text = Text::default();
    let long = "x".repeat(100);
    text.said("Not seen", format_args!("a {long} b"));
    assert_eq!(text.0, format!("Not seen      a\n              {long}\n              b\n"));
}
