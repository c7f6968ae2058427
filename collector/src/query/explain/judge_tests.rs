//! Verdicts and steps from scenes.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::Arc;

use highwater_ipc::activity::{Act, Actor, Did};
use highwater_ipc::availability::SysvipcState;
use highwater_ipc::limits::{Limits, Resource, Totals, Usage};
use highwater_ipc::object::{Key, Kind};
use highwater_ipc::snapshot::{NamespaceId, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;

use super::super::change::What;
use super::super::event::{Event, Happened, Names, Place};
use super::super::scenes::{limits, other, own, state};
use super::evidence::{Evidence, hear, see};
use super::judge::judge;
use super::{Explanation, Verdict, steps};
use crate::explain::{Catalogue, Told, catalogue, read};

const APACHE: &str = "[emerg] (28)No space left on device: Couldn't create accept lock";
const PHP: &str = "sem_get(): failed for key 0x6602b303: No space left on device";

/// 128 of 128 arrays: 2 certain orphans of httpd, one of PostgreSQL, the rest of nobody in the list.
const FULL: &str = "limit semmni=128
    name 48 apache
    name 26 postgres
    sem 1 key=0 nsems=1 uid=48
    sem 2 key=0 nsems=1 uid=48
    sem 3 key=0 nsems=17 uid=26
    held sem 1 comm=httpd grade=certain
    held sem 2 comm=httpd grade=certain
    held sem 3 comm=postgres grade=certain";

fn all() -> &'static Catalogue {
    catalogue().unwrap()
}

fn told(line: &str) -> Told<'static> {
    read(all(), line).unwrap()
}

/// A sample of that scene at that second, with so many arrays in use in each namespace.
fn sample(text: &str, second: i64, arrays: &[u64]) -> Arc<Snapshot> {
    let mut state = state(text);
    for (namespace, arrays) in state.namespaces.iter_mut().zip(arrays) {
        namespace.totals = Some(Totals { sem_arrays: *arrays, semaphores: *arrays, ..Totals::default() });
    }
    let at = At { wall_ms: second * 1000, boot_us: 0 };
    Arc::new(Snapshot { at, took_us: 1, state })
}

fn evidence(line: &str, held: &Arc<Snapshot>, samples: &[Arc<Snapshot>], events: Vec<Event>) -> Evidence {
    let mut most = BTreeMap::new();
    for snapshot in samples {
        see(snapshot, told(line).cause.limits(), 1_000_000, &mut most);
    }
    let most = most.into_values().collect();
    let mut found =
        Evidence { asked_ms: 1_000_000, held: held.clone(), refused: None, removed: None, most, gaps: vec![] };
    for event in events {
        hear(&told(line), event, &mut found);
    }
    found
}

fn explained(line: &str, evidence: Evidence, present: Option<&Snapshot>) -> Explanation {
    let mut it = judge(&told(line), evidence);
    steps::add(&mut it, (all(), &told(line)), present);
    it
}

fn refused(comm: &str, second: i64, (errno, key): (u32, i32), snapshot: &Arc<Snapshot>) -> Event {
    let act = Act {
        did: Did::Refused(errno),
        kind: Kind::Sem,
        namespace: Some(own()),
        by: Actor { pid: 13_808, comm: HostText::from(comm), uid: Some(48), parent: HostText::default() },
        first_us: 0,
        last_us: 0,
        count: 2,
        key: Key(key),
        size: 1,
        ids: vec![],
        bound_by: (errno == 28).then_some(Usage { resource: Resource::Semmni, used: 128, limit: 128 }),
    };
    let limits: Option<Limits> = Some(limits());
    let names = Names(snapshot.clone());
    let at_ms = second * 1000;
    let happened = Happened::Acted { act: Box::new(act), last_ms: at_ms, transient: false, limits, names };
    let place = Place { own: Some(true), name: None };
    Event { at_ms, after_ms: None, namespace: Some(own()), place, happened }
}

fn step(it: &Explanation, words: &str) -> Option<usize> {
    it.steps.iter().position(|step| step.what.contains(words))
}

#[test]
fn a_traced_refusal_names_limit_moment_holder_victim_and_only_safe_commands() {
    let full = sample(FULL, 1000, &[128]);
    let events = vec![refused("cron", 999, (28, 0), &full), refused("httpd", 1060, (28, 0), &full)];
    let it = explained(APACHE, evidence(APACHE, &full, from_ref(&full), events), Some(&full));
    assert_eq!((it.verdict, it.at_ms), (Verdict::Refused, 1_060_000), "its own program's, though another's is nearer");
    let met = it.limit.unwrap();
    assert_eq!((met.resource, met.used, met.limit), ("SEMMNI", Some(128), 128));
    let holder = it.holder.as_ref().unwrap();
    assert_eq!((holder.owner.uid, holder.owner.after.objects, holder.certain()), (48, 2, 2));
    assert_eq!((it.others_hold, it.others[0].uid), (1, 26));
    let victim = it.victim.as_ref().unwrap();
    assert_eq!((victim.by.pid, victim.user.as_ref().map(HostText::escaped)), (13_808, Some("apache".to_owned())));
    assert_eq!(step(&it, "raise SEMMNI from 128 (128 in use) to 256"), Some(0), "{:#?}", it.steps);
    let removal = &it.steps[step(&it, "remove the 2 arrays of uid 48 (apache)").unwrap()];
    assert!(removal.command.as_ref().unwrap().contains("0 1 600 1 48"));
    assert_eq!(step(&it, "uid 26"), None, "PostgreSQL's are never named, certain or not");
    assert!(step(&it, "TimeoutStopSec").is_some());
}

#[test]
fn without_a_trace_the_most_in_use_is_told_and_no_victim() {
    let (calm, full) = (sample(FULL, 400, &[12]), sample(FULL, 950, &[128]));
    let now = sample(FULL, 1000, &[12]);
    let it = explained(PHP, evidence(PHP, &now, &[calm, full, now.clone()], vec![]), Some(&now));
    assert_eq!((it.verdict, it.at_ms, it.victim), (Verdict::Full, 950_000, None));
    assert_eq!(it.limit.unwrap().used, Some(128));
    let near = sample(FULL, 990, &[110]);
    let it = explained(PHP, evidence(PHP, &now, &[near], vec![]), Some(&now));
    assert_eq!(it.verdict, Verdict::Near);
    assert!(it.why.contains("SEMMNI was 110 of 128"), "{}", it.why);
}

#[test]
fn where_no_limit_was_near_that_is_said_with_the_figures_of_all_namespaces() {
    let text = "sem 1 key=0 nsems=1\nin 7 pod-a\n sem 2 key=0 nsems=1";
    let calm = sample(text, 1000, &[12, 3]);
    let it = explained(APACHE, evidence(APACHE, &calm, from_ref(&calm), vec![]), Some(&calm));
    assert_eq!((it.verdict, it.limit, it.holder.is_some()), (Verdict::NotReached, None, false));
    assert!(
        it.why.contains("SEMMNI was 12 of 32000 and SEMMNS was 12 of 1024000000 at most: it was not that"),
        "{}",
        it.why
    );
    assert!(it.why.contains("any of the 2 namespaces"), "{}", it.why);
    assert_eq!(it.looked.len(), 4);
    assert!(step(&it, "container that is not seen").is_some());
    assert!(it.steps.iter().all(|step| step.command.is_none()));
}

#[test]
fn a_full_container_is_found_where_the_host_itself_has_room() {
    let text = "sem 1 key=0 nsems=1\nin 7 pod-a\n limit semmni=3\n sem 2 key=0 nsems=1 uid=5";
    let full = sample(text, 1000, &[12, 3]);
    let it = explained(PHP, evidence(PHP, &full, from_ref(&full), vec![]), Some(&full));
    assert_eq!(it.verdict, Verdict::Full);
    assert_eq!(it.place.as_ref().map(|(id, _)| *id), Some(other("7")));
    assert!(it.steps[0].command.as_ref().unwrap().starts_with("nsenter"), "{:?}", it.steps);
}

#[test]
fn a_refusal_in_a_namespace_that_is_not_sampled_comes_after_one_that_is_and_says_so() {
    let full = sample(FULL, 1000, &[128]);
    let elsewhere = |second: i64| {
        let mut event = refused("httpd", second, (28, 0), &full);
        let Happened::Acted { act, .. } = &mut event.happened else { panic!("a refusal") };
        (act.namespace, act.bound_by) = (Some(other("9")), None);
        event
    };
    let events = vec![refused("httpd", 900, (28, 0), &full), elsewhere(1000)];
    let it = explained(APACHE, evidence(APACHE, &full, from_ref(&full), events), Some(&full));
    assert_eq!((it.verdict, it.at_ms), (Verdict::Refused, 900_000));
    let it = explained(APACHE, evidence(APACHE, &full, from_ref(&full), vec![elsewhere(1000)]), Some(&full));
    assert_eq!((it.verdict, it.limit), (Verdict::NotKnown, None));
    assert!(it.why.contains("refused in namespace 9, which is not sampled"), "{}", it.why);
    assert!(step(&it, "highwater-agent doctor").is_some());
}

#[test]
fn a_limit_that_was_raised_since_is_not_raised_to_less_and_an_absent_host_gets_no_command() {
    let full = sample(FULL, 1000, &[128]);
    let raised = sample(&FULL.replace("semmni=128", "semmni=32000"), 5000, &[200]);
    let it = explained(APACHE, evidence(APACHE, &full, from_ref(&full), vec![]), Some(&raised));
    assert_eq!(step(&it, "SEMMNI was raised since, from 128 to 32000"), Some(0));
    assert!(!it.steps.iter().filter_map(|s| s.command.as_ref()).any(|c| c.contains("sysctl")), "{:#?}", it.steps);
    let it = explained(APACHE, evidence(APACHE, &full, from_ref(&full), vec![]), None);
    assert!(it.steps.iter().all(|step| step.command.is_none()), "{:#?}", it.steps);
    assert!(step(&it, "once the host is in sight").is_some());
}

#[test]
fn a_holder_whose_objects_must_stay_is_named_with_its_procedure() {
    let text = "limit semmni=2\nname 996 mqm\nsem 1 key=0 nsems=1 uid=996\nsem 2 key=0 nsems=1 uid=996
        held sem 1 comm=amqzxma0 grade=certain";
    let full = sample(text, 1000, &[2]);
    let it = explained(PHP, evidence(PHP, &full, from_ref(&full), vec![]), Some(&full));
    assert_eq!(it.keeper.as_ref().map(|p| p.name.as_str()), Some("IBM MQ"));
    assert!(step(&it, "amqiclen -x -m QMGR").is_some());
    assert!(!it.steps.iter().filter_map(|s| s.command.as_ref()).any(|c| c.contains("ipcrm")));
}

#[test]
fn a_host_without_system_v_ipc_answers_with_its_state_and_evidence() {
    let mut state: State = state("");
    state.availability.state = SysvipcState::Absent;
    state.availability.evidence = vec![HostText::from("# CONFIG_SYSVIPC is not set")];
    state.availability.remedy = HostText::from("boot a kernel with CONFIG_SYSVIPC=y");
    let held = Arc::new(Snapshot { at: At { wall_ms: 0, boot_us: 0 }, took_us: 1, state });
    let line = "(38)Function not implemented: Couldn't create accept lock";
    let it = explained(line, evidence(line, &held, &[], vec![]), Some(&held));
    assert_eq!(it.verdict, Verdict::NoSysvipc);
    assert!(it.why.contains("the kernel of this host has no System V IPC: # CONFIG_SYSVIPC is not set"), "{}", it.why);
    assert!(step(&it, "boot a kernel with CONFIG_SYSVIPC=y").is_some());
    let works = sample("", 1000, &[0]);
    let it = explained(line, evidence(line, &works, &[], vec![refused("httpd", 990, (38, 0), &works)]), Some(&works));
    assert_eq!((it.verdict, it.victim.is_some()), (Verdict::NoSysvipc, true));
    assert!(it.why.contains("a seccomp filter, a sandbox or a container runtime"), "{}", it.why);
}

#[test]
fn an_array_that_was_removed_is_told_with_its_remover_and_what_will_do_it_again() {
    let held = sample("risk alice", 1000, &[0]);
    let removed_by = |id: i32, second: i64, comm: &str| {
        let gone = state(&format!("sem {id} key=0 nsems=1 uid=26")).namespaces[0].sem.as_ref().unwrap()[0];
        let by = Some(Actor { pid: 812, comm: HostText::from(comm), uid: Some(0), parent: HostText::default() });
        let happened =
            Happened::Change { what: What::Removed(super::AnyObject::Sem(gone)), names: Names(held.clone()), by };
        let place = Place { own: Some(true), name: None };
        Event { at_ms: second * 1000, after_ms: None, namespace: Some(own()), place, happened }
    };
    let removed = |id, second| removed_by(id, second, "systemd-logind");
    let line = "FATAL:  semctl(163858, 9, SETVAL, 0) failed: Invalid argument (pg_sema.c:151)";
    let events = vec![removed(163_858, 400), removed(7, 999)];
    let it = explained(line, evidence(line, &held, &[], events), Some(&held));
    assert_eq!((it.verdict, it.at_ms), (Verdict::Removed, 400_000), "the one that the message names");
    assert_eq!(it.why, "semaphore array 163858 was removed by systemd-logind (pid 812)");
    assert!(step(&it, "alice").is_some() && step(&it, "RemoveIPC=no").is_some(), "{:#?}", it.steps);
    let it = explained(line, evidence(line, &held, &[], vec![]), Some(&held));
    assert_eq!(it.verdict, Verdict::NotKnown);
    let line = "[emerg] (43)Identifier removed: couldn't grab the accept mutex";
    let events = vec![removed_by(5, 990, "ipcrm"), removed_by(6, 999, "httpd")];
    let it = explained(line, evidence(line, &held, &[], events), Some(&held));
    assert_eq!(it.at_ms, 990_000, "what httpd removes itself is not what it misses");
}

#[test]
fn of_one_object_what_was_asked_for_is_held_against_its_limit() {
    let held = sample("sem 1 key=0 nsems=1", 1000, &[1]);
    let asked = |line: &str| {
        let it = explained(line, evidence(line, &held, &[], vec![]), Some(&held));
        (it.verdict, it.limit.unwrap().limit, it.why)
    };
    let (verdict, limit, why) = asked("semget(5432001, 40000, 03600): Invalid argument");
    assert_eq!((verdict, limit), (Verdict::TooMuch, 32_000), "{why}");
    let (verdict, _, why) = asked("semget(5432001, 17, 03600): Invalid argument");
    assert_eq!(verdict, Verdict::NotReached);
    assert!(why.contains("an object with that key may be smaller"), "{why}");
    let (verdict, limit, _) = asked("semop: Argument list too long");
    assert_eq!((verdict, limit), (Verdict::TooMuch, 500), "E2BIG has no other reason");
    let (verdict, limit, why) = asked("semget: Invalid argument");
    assert_eq!((verdict, limit), (Verdict::NotKnown, 32_000), "EINVAL has others");
    assert!(why.starts_with("either it asked for more than SEMMSL"), "{why}");
}

#[test]
fn a_full_queue_is_found_and_its_reader_s_procedure_told() {
    let line = "ndo2db: Warning: queue send error, retrying...";
    let queue = |cbytes: u64| {
        let mut held = sample("name 500 nagios\nmsg 1409024 key=0 uid=500", 1000, &[0]);
        let queue = &mut Arc::get_mut(&mut held).unwrap().state.namespaces[0].msg.as_mut().unwrap()[0];
        (queue.cbytes, queue.qbytes) = (cbytes, Some(131_072_000));
        held
    };
    let full = queue(130_000_000);
    let it = explained(line, evidence(line, &full, from_ref(&full), vec![]), Some(&full));
    assert_eq!((it.verdict, it.limit.unwrap().resource), (Verdict::Full, "MSGMNB"));
    assert!(it.why.contains("msqid 1409024, held 130000000 of 131072000 bytes"), "{}", it.why);
    assert_eq!(it.holder.as_ref().map(|h| h.owner.uid), Some(500));
    assert!(step(&it, "do not remove what Nagios NDOUtils holds").is_some());
    let room = queue(5);
    assert_eq!(
        explained(line, evidence(line, &room, from_ref(&room), vec![]), Some(&room)).verdict,
        Verdict::NotReached
    );
}

#[test]
fn what_is_no_limit_is_said_to_be_none() {
    let held = sample("", 1000, &[0]);
    let of = |line: &str| explained(line, evidence(line, &held, &[], vec![]), Some(&held)).verdict;
    assert_eq!(of("shm_open: No space left on device"), Verdict::Posix);
    assert_eq!(of("shmget: Cannot allocate memory"), Verdict::Memory);
    assert_eq!(of("semop: Permission denied"), Verdict::Denied);
    assert_eq!(of("semget: File exists"), Verdict::Exists);
    assert_eq!(of("msgget: No such file or directory"), Verdict::Missing);
    assert_eq!(Verdict::ALL.iter().map(|(v, _)| v.name()).filter(|name| name.is_empty()).count(), 0);
    let _: NamespaceId = own();
}
