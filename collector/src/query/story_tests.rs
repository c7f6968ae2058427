//! Stories told from states that are written as text: a line an object, `+` a later sample.
//!
//! ```text
//! sem 5 key=1 nsems=3 uid=33 cuid=0      an array (likewise shm, msg)
//! limit semmni=128                       a limit
//! unreadable sem                         that list could not be read
//! left_out sem 2                         rows are missing
//! boot 2                                 another boot
//! namespace 7                            the host's own is another one
//! in 8 pause                             what follows is in another namespace, of that name
//! skipped 3                              so many samples pass that one by
//! risk alice                             systemd-logind would remove her objects
//! act created sem 5,6 at=1500 pid=7 comm=php [count=9 in=8 errno=28 nsems=3 bound=128]
//!                                        was traced before this sample, at that millisecond; in=0 = nobody knows where
//! peak arrays=90 semaphores=120 at=1500  more was in use
//! lost 3                                 events were lost
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_ipc::activity::{Act, Activity, Actor, Did, Peak};
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::{Limits, Resource, Usage};
use highwater_ipc::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::record::{EpochNo, Event as Beside, GapReason, Seq};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::snapshot::{BootId, NamedBy, Namespace, NamespaceId, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;

use super::change::{AnyObject, What};
use super::diff::{bury, ids_of, object_changes, owner_changes};
use super::event::{Event, Happened, bound_by};
use super::fold::Said;
use super::story::Story;
use super::walk::{Position, Step};
use crate::store::history::Stretch;

#[test]
fn what_came_and_went_is_told_with_both_samples() {
    check(
        "sem 5 key=1 nsems=3
         +
         sem 5 key=1 nsems=3
         sem 6 key=2 nsems=1 uid=33
         +
         sem 6 key=2 nsems=1 uid=33",
        "1s agent_started
         (1s..2s created sem 6
         (2s..3s removed sem 5",
    );
}

#[test]
fn an_id_that_returns_with_other_fixed_fields_is_another_object() {
    check(
        "sem 5 key=1 nsems=3\n+\nsem 5 key=1 nsems=4\n+\nsem 5 key=1 nsems=4 uid=7",
        "1s agent_started
         (1s..2s removed sem 5
         (1s..2s created sem 5
         (2s..3s changed sem 5",
    );
    // IPC_RMID on an attached segment turns its key into 0: it is still the same one.
    check("shm 5 key=1 size=10\n+\nshm 5 key=0 size=10", "1s agent_started\n(1s..2s changed shm 5");
}

#[test]
fn a_list_that_could_not_be_read_is_not_all_removed_and_its_return_not_all_created() {
    check(
        "sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3
         +
         unreadable sem
         +
         sem 6 key=2 nsems=3\nsem 7 key=3 nsems=3",
        "1s agent_started
         (2s..3s removed sem 5
         (2s..3s created sem 7",
    );
    check("unreadable sem\n+\nsem 6 key=2 nsems=3", "1s agent_started");
}

#[test]
fn a_row_that_was_left_out_is_not_removed() {
    check(
        "sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3
         +
         sem 6 key=2 nsems=3\nleft_out sem 1
         +
         sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3
         +
         sem 6 key=2 nsems=3",
        "1s agent_started\n(3s..4s removed sem 5",
    );
}

#[test]
fn a_reboot_takes_everything_and_is_told_once() {
    check(
        "limit semmni=131072\nsem 5 key=1 nsems=3\nshm 9 key=1 size=10
         +
         boot 2\nlimit semmni=128\nsem 5 key=1 nsems=3",
        "1s agent_started
         (1s..2s reboot, lost 1 1 0
         2s agent_started
         (1s..2s SEMMNI 131072 -> 128
         (1s..2s created sem 5",
    );
}

#[test]
fn names_are_no_events() {
    check("sem 5 key=1 nsems=3\nname 0 root\n+\nsem 5 key=1 nsems=3\nname 0 toor", "1s agent_started");
}

#[test]
fn what_the_agent_says_beside_its_samples_is_told() {
    let mut story = Story::default();
    let at = At { wall_ms: 7_000, boot_us: 0 };
    let step = |said| Step { position: position(0, 9), stretch: stretch(0), prev_wall_ms: None, said, opening: false };
    let clock = story.tell(&step(Said::Event(at, Beside::ClockStep { before: at, by_ms: -3_600_000 })));
    assert_eq!(show(&clock), "7s clock_step -3600000");
    assert_eq!(show(&story.tell(&step(Said::GapReason(at, GapReason::AgentStopped)))), "7s agent_stopped");
    assert_eq!(show(&story.tell(&step(Said::GapReason(at, GapReason::Suspended)))), "");
    assert_eq!(show(&story.tell(&step(Said::Heartbeat(at)))), "");
}

#[test]
fn a_new_epoch_that_continues_the_same_process_is_no_start() {
    let mut story = Story::default();
    story.tell(&sample_step(0, 1, state("sem 5 key=1 nsems=3"), None));
    let forked = story.tell(&sample_step(1, 2, state("sem 5 key=1 nsems=3"), Some(GapReason::Forked)));
    assert_eq!(show(&forked), "");
    let started = story.tell(&sample_step(2, 3, state("sem 5 key=1 nsems=3"), Some(GapReason::AgentKilled)));
    assert_eq!(show(&started), "3s agent_started");
}

#[test]
fn a_diff_lists_what_went_what_changed_and_what_came() {
    let before = state("sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3\nsem 8 key=4 nsems=1");
    let after = state("sem 6 key=2 nsems=3 uid=9\nsem 7 key=3 nsems=3\nsem 8 key=4 nsems=1");
    let all = [5, 6, 8].map(|id| (own(), Kind::Sem, id));
    let survived = all.into_iter().filter(|(_, _, id)| *id != 5).collect();
    assert_eq!(show_diff(&before, &after, &survived), "removed 5, changed 6, added 7");
    // An object that a sample in between lacked is another one, though nothing in it differs.
    let survived = all.into_iter().filter(|(_, _, id)| *id == 6).collect();
    assert_eq!(show_diff(&before, &after, &survived), "removed 5, changed 6, removed 8, added 7, added 8");
}

#[test]
fn a_diff_says_nothing_of_a_list_that_one_side_could_not_read() {
    let (some, none) = (state("sem 5 key=1 nsems=3"), state("unreadable sem"));
    let survived = [(own(), Kind::Sem, 5)].into();
    assert_eq!(show_diff(&some, &none, &survived), "");
    assert_eq!(show_diff(&none, &some, &Default::default()), "");
    assert!(owner_changes(&some, &none).is_empty());
}

#[test]
fn a_diff_adds_nothing_that_the_earlier_list_left_out_and_sums_no_list_with_holes() {
    let holes = state("sem 5 key=1 nsems=3\nleft_out sem 1");
    let both = state("sem 5 key=1 nsems=3\nsem 6 key=2 nsems=3");
    let survived = ids_of(&holes);
    assert_eq!(show_diff(&holes, &both, &survived), "");
    assert!(owner_changes(&holes, &both).is_empty());
    // What is listed later is there, whatever else is: a row more was added.
    let more = state("sem 5 key=1 nsems=3\nsem 7 key=3 nsems=3\nleft_out sem 1");
    assert_eq!(show_diff(&both, &more, &ids_of(&both)), "added 7");
    assert!(owner_changes(&both, &more).is_empty());
}

#[test]
fn a_diff_removes_the_objects_of_a_namespace_that_is_gone() {
    let (before, after) = (state("sem 5 key=1 nsems=3"), state("namespace 7\nsem 6 key=1 nsems=3"));
    let mut story = Story::default();
    let mut survived = ids_of(&before);
    for (second, state) in [(1, &before), (2, &after)] {
        for event in story.tell(&sample_step(0, second, state.clone(), None)) {
            bury(&mut survived, &event);
        }
    }
    assert_eq!(show_diff(&before, &after, &survived), "removed 5, added 6");
}

#[test]
fn owners_are_summed_by_kind() {
    let before = state("sem 5 key=1 nsems=3 uid=33\nshm 1 key=0 size=100 uid=33");
    let after = state("sem 5 key=1 nsems=3 uid=33\nsem 6 key=2 nsems=4 uid=33\nshm 1 key=0 size=100 uid=33");
    let sums = owner_changes(&before, &after);
    let [one] = sums.as_slice() else { panic!("{sums:?}") };
    assert_eq!((one.kind, one.uid), (Kind::Sem, 33));
    assert_eq!((one.before.objects, one.after.objects, one.after.semaphores), (1, 2, 7));
}

/// Tells samples that follow each other by a second, a boot being an epoch of its own.
pub(super) fn check(samples: &str, expected: &str) {
    let mut story = Story::default();
    let mut told = Vec::new();
    let mut epoch = 0;
    let mut boot = None;
    for (index, text) in samples.split('+').enumerate() {
        let state = state(text);
        if boot.is_some_and(|b| b != state.boot_id) {
            epoch += 1;
        }
        boot = Some(state.boot_id);
        let second = i64::try_from(index).unwrap() + 1;
        told.extend(story.tell(&told_step(epoch, second, state, activity(text), None)));
    }
    let expected: Vec<&str> = expected.lines().map(str::trim).collect();
    assert_eq!(show(&told), expected.join("\n"), "{samples}");
}

fn sample_step(epoch: u64, second: i64, state: State, gap: Option<GapReason>) -> Step {
    told_step(epoch, second, state, Activity::default(), gap)
}

fn told_step(epoch: u64, second: i64, state: State, activity: Activity, gap: Option<GapReason>) -> Step {
    let seq = u64::try_from(second).unwrap();
    let at = At { wall_ms: second * 1000, boot_us: seq * 1_000_000 };
    let snapshot = Arc::new(Snapshot { at, took_us: 1, state });
    Step {
        position: position(epoch, seq),
        stretch: stretch(epoch),
        prev_wall_ms: Some((second - 1) * 1000),
        said: Said::Sample { snapshot, gap, activity: Arc::new(activity) },
        opening: false,
    }
}

fn position(epoch: u64, seq: u64) -> Position {
    Position { epoch: EpochNo(epoch), stretch: 0, seq: Seq(seq) }
}

/// Every stretch of these stories ends one second before the next one begins.
fn stretch(epoch: u64) -> Arc<Stretch> {
    let end_wall_ms = i64::try_from(epoch + 1).unwrap() * 1000;
    Arc::new(Stretch {
        epoch: EpochNo(epoch),
        number: 0,
        from_wall_ms: 0,
        end_wall_ms,
        from_boot_us: 0,
        end_boot_us: 0,
        boot_id: BootId([0; 16]),
        interval_ms: 1000,
        end_reason: None,
    })
}

fn show(events: &[Event]) -> String {
    let line = |event: &Event| {
        let what = match &event.happened {
            Happened::Change { what: What::Created(o), by, .. } => {
                format!("created {} {}{}", o.kind().name(), o.id(), show_actor(by.as_ref()))
            }
            Happened::Change { what: What::Removed(o), by, .. } => {
                format!("removed {} {}{}", o.kind().name(), o.id(), show_actor(by.as_ref()))
            }
            Happened::Change { what: What::NamespaceGone { lost: [sem, shm, msg], bytes, .. }, .. } => {
                format!("namespace_gone, {sem} {shm} {msg} with {bytes} bytes")
            }
            Happened::Acted { act, transient, limits, .. } => {
                let more = if *transient { " transient" } else { "" };
                let bound = bound_by(act, limits.as_ref());
                let bound = bound.map_or(String::new(), |b| format!(" {} {}/{}", b.resource, b.used, b.limit));
                format!(
                    "{} {} x{}{more}{bound}{}",
                    event.kind().name(),
                    act.kind.name(),
                    act.count,
                    show_actor(Some(&act.by))
                )
            }
            Happened::Peak { peak, .. } => format!("peak {} / {}", peak.sem_arrays, peak.semaphores),
            Happened::Lost { lost, .. } => format!("lost {lost}"),
            Happened::RiskRaised(risk) | Happened::RiskCleared(risk) => format!("{} {}", event.kind().name(), risk.why),
            Happened::Change { what: What::Changed { after, .. }, .. } => {
                format!("changed {} {}", after.kind().name(), after.id())
            }
            Happened::Change { what: What::LimitChanged { resource, before, after }, .. } => {
                format!("{resource} {before} -> {after}")
            }
            Happened::Reboot { lost: [sem, shm, msg], .. } => format!("reboot, lost {sem} {shm} {msg}"),
            Happened::ClockStep { by_ms } => format!("clock_step {by_ms}"),
            _ => event.kind().name().to_owned(),
        };
        let what = match (&event.place.own, &event.place.name) {
            (Some(false), Some(name)) => format!("{what} in {name}"),
            _ => what,
        };
        let at = seconds(event.at_ms);
        match event.after_ms {
            Some(after) => format!("({}..{at} {what}", seconds(after)),
            None => format!("{at} {what}"),
        }
    };
    events.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn seconds(ms: i64) -> String {
    if ms % 1000 == 0 { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

fn show_actor(by: Option<&Actor>) -> String {
    by.map_or(String::new(), |by| format!(" by {} {}", by.comm, by.pid))
}

fn show_diff(before: &State, after: &State, survived: &std::collections::BTreeSet<(NamespaceId, Kind, i32)>) -> String {
    let word = |change: super::diff::ObjectChange| match (change.before, change.after) {
        (Some(o), None) => format!("removed {}", o.id()),
        (None, Some(o)) => format!("added {}", o.id()),
        (_, o) => format!("changed {}", o.map_or(0, |o: AnyObject| o.id())),
    };
    object_changes(before, after, survived).into_iter().map(word).collect::<Vec<_>>().join(", ")
}

fn own() -> NamespaceId {
    NamespaceId { inode: 4026531839, instance: 1 }
}

// Long because: one arm for each word that a story may use.
fn state(text: &str) -> State {
    let mut state = State {
        boot_id: BootId([1; 16]),
        interval_ms: 1000,
        page_size: 4096,
        zone: HostText::default(),
        availability: Availability { state: SysvipcState::Available, evidence: vec![], remedy: HostText::default() },
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        namespaces: Vec::new(),
        risks: Vec::new(),
        unseen: Vec::new(),
    };
    let mut namespace = empty(own());
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let field = |name: &str| -> u32 {
            let prefix = format!("{name}=");
            words.iter().find_map(|w| w.strip_prefix(&prefix)).map_or(0, |v| v.parse().unwrap())
        };
        let owner = Owner { uid: field("uid"), gid: 0, cuid: field("cuid"), cgid: 0 };
        let (key, perms) = (Key(field("key").cast_signed()), Perms(0o600));
        match words.as_slice() {
            ["sem", id, ..] => namespace.sem.as_mut().unwrap().push(SemArray {
                key,
                semid: id.parse().unwrap(),
                perms,
                nsems: field("nsems"),
                owner,
                otime: 0,
                ctime: 0,
            }),
            ["shm", id, ..] => namespace.shm.as_mut().unwrap().push(ShmSegment {
                key,
                shmid: id.parse().unwrap(),
                perms,
                size: field("size").into(),
                cpid: 1,
                lpid: 0,
                nattch: 0,
                owner,
                atime: 0,
                dtime: 0,
                ctime: 0,
                rss: 0,
                swap: 0,
            }),
            ["msg", id, ..] => namespace.msg.as_mut().unwrap().push(MsgQueue {
                key,
                msqid: id.parse().unwrap(),
                perms,
                cbytes: 0,
                qnum: 0,
                qbytes: None,
                lspid: 0,
                lrpid: 0,
                owner,
                stime: 0,
                rtime: 0,
                ctime: 0,
            }),
            ["limit", ..] => namespace.limits.as_mut().unwrap().semmni = field("semmni").into(),
            ["unreadable", "sem"] => namespace.sem = None,
            ["left_out", "sem", count] => namespace.left_out.sem = count.parse().unwrap(),
            ["name", uid, name] => {
                state.users.insert(uid.parse().unwrap(), HostText::from(*name));
            }
            ["namespace", inode] => namespace.id.inode = inode.parse().unwrap(),
            ["in", inode, name] => {
                state.namespaces.push(std::mem::replace(&mut namespace, empty(other(inode))));
                namespace.name = Some(HostText::from(*name));
                namespace.named_by = NamedBy::Comm;
            }
            ["skipped", count] => namespace.skipped = count.parse().unwrap(),
            ["risk", why] => state.risks.push(Risk {
                kind: RiskKind::RemoveIpc,
                why: HostText::from(*why),
                remedy: HostText::default(),
            }),
            ["act" | "peak" | "lost", ..] => {}
            ["boot", number] => state.boot_id = BootId([number.parse().unwrap(); 16]),
            other => panic!("no such line: {other:?}"),
        }
    }
    state.namespaces.push(namespace);
    state
}

fn empty(id: NamespaceId) -> Namespace {
    let (sem, shm, msg) = (Some(vec![]), Some(vec![]), Some(vec![]));
    Namespace { id, limits: Some(limits()), sem, shm, msg, ..Namespace::default() }
}

fn other(inode: &str) -> NamespaceId {
    NamespaceId { inode: inode.parse().unwrap(), instance: 1 }
}

/// What the lines `act`, `peak` and `lost` say.
fn activity(text: &str) -> Activity {
    let mut activity = Activity::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let field = |name: &str| words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| field(name).map(|v| v.parse::<u64>().unwrap());
        match words.as_slice() {
            ["act", did, kind, ids, ..] => {
                let ids: Vec<i32> = ids.split(',').filter(|i| *i != "-").map(|i| i.parse().unwrap()).collect();
                let us = number("at").unwrap() * 1000;
                activity.acts.push(Act {
                    did: match *did {
                        "created" => Did::Created,
                        "removed" => Did::Removed,
                        _ => Did::Refused(u32::try_from(number("errno").unwrap()).unwrap()),
                    },
                    kind: Kind::ALL.into_iter().find(|k| k.name() == *kind).unwrap(),
                    namespace: match field("in") {
                        None => Some(own()),
                        Some("0") => None,
                        Some(inode) => Some(other(inode)),
                    },
                    by: Actor {
                        pid: i32::try_from(number("pid").unwrap()).unwrap(),
                        comm: HostText::from(field("comm").unwrap()),
                        uid: Some(33),
                    },
                    first_us: us,
                    last_us: us,
                    count: number("count").unwrap_or(u64::try_from(ids.len()).unwrap()),
                    key: Key(0),
                    size: number("nsems").unwrap_or(1),
                    ids,
                    bound_by: number("bound").map(|n| Usage { resource: Resource::Semmni, used: n, limit: n }),
                });
            }
            ["peak", ..] => activity.peaks.push(Peak {
                namespace: own(),
                boot_us: number("at").unwrap() * 1000,
                sem_arrays: number("arrays").unwrap(),
                semaphores: number("semaphores").unwrap(),
            }),
            ["lost", count] => activity.lost = count.parse().unwrap(),
            _ => {}
        }
    }
    activity
}

fn limits() -> Limits {
    Limits {
        semmsl: 32000,
        semmns: 1024000000,
        semopm: 500,
        semmni: 32000,
        semvmx: 32767,
        shmmax: u64::MAX,
        shmall: u64::MAX,
        shmmni: 4096,
        shmmin: 1,
        msgmax: 8192,
        msgmnb: 16384,
        msgmni: 32000,
    }
}
