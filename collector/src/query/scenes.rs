//! What the tests of this room are told: states that are written as text, a line an object, `+` a later sample.
//!
//! ```text
//! sem 5 key=1 nsems=3 uid=33 cuid=0      an array (likewise shm, msg)
//! limit semmni=128                       a limit
//! unreadable sem                         that list could not be read (likewise shm)
//! left_out sem 2                         rows are missing
//! boot 2                                 another boot
//! namespace 7                            the host's own is another one
//! in 8 pause                             what follows is in another namespace, of that name
//! unseen setns                           the agent cannot enter some namespaces
//! skipped 3                              so many samples pass that one by
//! risk alice                             systemd-logind would remove her objects
//! act created sem 5,6 at=1500 pid=7 comm=php [count=9 in=8 errno=28 nsems=3 bound=128]
//!                                        was traced before this sample, at that millisecond; in=0 = nobody knows where
//! held sem 5 comm=httpd grade=certain     what is known of an object beside its row
//! runs 33 httpd,php                      comms of a uid's processes
//! peak arrays=90 semaphores=120 at=1500  more was in use
//! lost 3                                 events were lost
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_ipc::activity::{Act, Activity, Actor, Did, Peak};
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::{Limits, Resource, Usage};
use highwater_ipc::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::record::{EpochNo, GapReason, Seq};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::snapshot::{BootId, NamedBy, Namespace, NamespaceId, Snapshot, State, Unreadable};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use highwater_ipc::who::{self, Doubt, Grade, Orphan, Who};

use super::change::{AnyObject, What};
use super::diff::object_changes;
use super::event::{Event, Happened, bound_by};
use super::fold::Said;
use super::story::Story;
use super::walk::{Position, Step};
use crate::store::history::{Place, Stretch};

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

pub(super) fn sample_step(epoch: u64, second: i64, state: State, gap: Option<GapReason>) -> Step {
    told_step(epoch, second, state, Activity::default(), gap)
}

pub(super) fn told_step(epoch: u64, second: i64, state: State, activity: Activity, gap: Option<GapReason>) -> Step {
    let seq = u64::try_from(second).unwrap();
    let at = At { wall_ms: second * 1000, boot_us: seq * 1_000_000 };
    let snapshot = Arc::new(Snapshot { at, took_us: 1, state });
    Step {
        position: position(epoch, seq),
        stretch: stretch(epoch),
        wall_ms: at.wall_ms,
        prev_wall_ms: Some((second - 1) * 1000),
        said: Said::Sample { snapshot, gap, activity: Arc::new(activity) },
        received_ms: 0,
        opening: false,
    }
}

pub(super) fn position(epoch: u64, seq: u64) -> Position {
    Position { place: Place::own(EpochNo(epoch), 0), seq: Seq(seq) }
}

/// Every stretch of these stories ends one second before the next one begins.
pub(super) fn stretch(epoch: u64) -> Arc<Stretch> {
    let end_wall_ms = i64::try_from(epoch + 1).unwrap() * 1000;
    Arc::new(Stretch {
        place: Place::own(EpochNo(epoch), 0),
        merged: Seq(0),
        compacted: Seq(0),
        framed: Seq(0),
        from_wall_ms: 0,
        end_wall_ms,
        from_boot_us: 0,
        end_boot_us: 0,
        boot_id: BootId([0; 16]),
        interval_ms: 1000,
        end_reason: None,
    })
}

pub(super) fn show(events: &[Event]) -> String {
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
            Happened::Flag(told) => format!("{} {}", event.kind().name(), told.resource),
            Happened::RiskRaised(risk) | Happened::RiskCleared(risk) => format!("{} {}", event.kind().name(), risk.why),
            Happened::Change { what: What::Changed { after, .. }, .. } => {
                format!("changed {} {}", after.kind().name(), after.id())
            }
            Happened::Change { what: What::LimitChanged { resource, before, after }, .. } => {
                format!("{resource} {before} -> {after}")
            }
            Happened::Reboot { lost: [sem, shm, msg], .. } => format!("reboot, lost {sem} {shm} {msg}"),
            Happened::ClockStep { by_ms } => format!("clock_step {by_ms}"),
            Happened::Unread { kind, gap } => {
                let [from, to] = [gap.from_ms, gap.to_ms].map(|ms| ms.map_or_else(|| "?".to_owned(), seconds));
                format!("unread {} {from}..{to}{}", kind.name(), gap.detail)
            }
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

pub(super) fn show_diff(
    before: &State,
    after: &State,
    survived: &std::collections::BTreeSet<(NamespaceId, Kind, i32)>,
) -> String {
    let word = |change: super::diff::ObjectChange| match (change.before, change.after) {
        (Some(o), None) => format!("removed {}", o.id()),
        (None, Some(o)) => format!("added {}", o.id()),
        (_, o) => format!("changed {}", o.map_or(0, |o: AnyObject| o.id())),
    };
    object_changes(before, after, survived).into_iter().map(word).collect::<Vec<_>>().join(", ")
}

pub(super) fn own() -> NamespaceId {
    NamespaceId { inode: 4026531839, instance: 1 }
}

// Long because: one arm for each word that a story may use.
pub(super) fn state(text: &str) -> State {
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
        let perms = if field("perms") == 0 { Perms(0o600) } else { Perms(field("perms")) };
        let key = Key(field("key").cast_signed());
        match words.as_slice() {
            ["sem", id, ..] => namespace.sem.as_mut().unwrap().push(SemArray {
                key,
                semid: id.parse().unwrap(),
                perms,
                nsems: field("nsems"),
                owner,
                otime: 0,
                ctime: field("ctime").into(),
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
            ["unreadable", "shm"] => namespace.shm = None,
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
            ["runs", uid, comms] => {
                let comms = comms.split(',').map(HostText::from).collect();
                who(&mut namespace).comms.insert(uid.parse().unwrap(), comms);
            }
            ["held", kind, id, ..] => {
                let text = |name: &str| words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
                let grade = |word: &str| Grade::ALL.iter().find(|(_, _, name)| *name == word).unwrap().0;
                let orphan =
                    text("grade").map(|word| Orphan { grade: grade(word), doubt: Doubt::None, last_pids: vec![] });
                let known = who::Known { comm: text("comm").map(HostText::from), orphan };
                let kind = Kind::ALL.into_iter().find(|k| k.name() == *kind).unwrap();
                who(&mut namespace).objects.insert((kind, id.parse().unwrap()), known);
            }
            ["unseen", source] => {
                state.unseen.push(Unreadable { source: HostText::from(*source), line: 0, error: HostText::default() })
            }
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

fn who(namespace: &mut Namespace) -> &mut Who {
    namespace.who.get_or_insert_with(Who::default)
}

fn empty(id: NamespaceId) -> Namespace {
    let (sem, shm, msg) = (Some(vec![]), Some(vec![]), Some(vec![]));
    Namespace { id, limits: Some(limits()), sem, shm, msg, ..Namespace::default() }
}

pub(super) fn other(inode: &str) -> NamespaceId {
    NamespaceId { inode: inode.parse().unwrap(), instance: 1 }
}

/// What the lines `act`, `peak` and `lost` say.
pub(super) fn activity(text: &str) -> Activity {
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
                        ..Actor::default()
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

pub(super) fn limits() -> Limits {
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
