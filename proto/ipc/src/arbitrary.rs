//! Strategies for property tests: states as odd as a hostile host can make them, and pairs of states that are alike.

mod facts;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::{btree_map, vec as list};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

pub(crate) use self::facts::activity;
use self::facts::{kind, known, named_by, risk, who, who_change};
use crate::availability::{Availability, SysvipcState};
use crate::delta::{Delta, ListChange, NamespaceChange, NamespaceDelta, diff};
use crate::limits::{Limits, Totals};
use crate::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use crate::record::{Body, Chain, Content, Event, GapReason, Keyframe, Record, RecordKind, Seq};
use crate::snapshot::{BootId, LeftOut, Namespace, NamespaceId, State, Unreadable};
use crate::text::HostText;
use crate::time::At;
use crate::who::{Known, Who};

/// Up to [`HostText::MAX`] bytes of any value; short ones mostly.
pub(crate) fn text() -> impl Strategy<Value = HostText> {
    prop_oneof![9 => list(any::<u8>(), 0..12), 1 => list(any::<u8>(), 250..=HostText::MAX)]
        .prop_map(|bytes| HostText::cut(&bytes))
}

/// Small values, edges and anything.
pub(crate) fn word() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..4u64, 1 => select(vec![u64::MAX, u64::MAX - 1, 1 << 63, (1 << 63) - 1]), 1 => any::<u64>()]
}

fn seconds() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0i64), 2 => 1_241_364_800..1_241_364_900i64, 1 => any::<i64>()]
}

fn narrow() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..3u32, 1 => select(vec![u32::MAX, 65534, 1001]), 1 => any::<u32>()]
}

/// Ids, few enough that lists share and repeat some.
fn id() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..12i32, 1 => any::<i32>()]
}

fn owner() -> impl Strategy<Value = Owner> {
    (narrow(), narrow(), 0..2u32, 0..2u32).prop_map(|(uid, gid, cuid, cgid)| Owner { uid, gid, cuid, cgid })
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![3 => Just(0), 1 => any::<i32>()].prop_map(Key)
}

/// Any semaphore array.
pub(crate) fn sem() -> BoxedStrategy<SemArray> {
    (id(), key(), narrow(), 1..3u32, owner(), seconds(), seconds())
        .prop_map(|(semid, key, perms, nsems, owner, otime, ctime)| SemArray {
            key,
            semid,
            perms: Perms(perms),
            nsems,
            owner,
            otime,
            ctime,
        })
        .boxed()
}

/// Any segment.
pub(crate) fn shm() -> BoxedStrategy<ShmSegment> {
    let bytes = (word(), word(), word(), word());
    let times = (seconds(), seconds(), seconds());
    (id(), key(), narrow(), bytes, (id(), id()), owner(), times)
        .prop_map(|(shmid, key, perms, (size, nattch, rss, swap), (cpid, lpid), owner, (atime, dtime, ctime))| {
            ShmSegment {
                key,
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
            }
        })
        .boxed()
}

/// Any queue.
pub(crate) fn msg() -> BoxedStrategy<MsgQueue> {
    let fill = (word(), word(), option::of(word()));
    let times = (seconds(), seconds(), seconds());
    (id(), key(), narrow(), fill, (id(), id()), owner(), times)
        .prop_map(|(msqid, key, perms, (cbytes, qnum, qbytes), (lspid, lrpid), owner, (stime, rtime, ctime))| {
            MsgQueue { key, msqid, perms: Perms(perms), cbytes, qnum, qbytes, lspid, lrpid, owner, stime, rtime, ctime }
        })
        .boxed()
}

/// Any limits.
pub(crate) fn limits() -> BoxedStrategy<Limits> {
    [word(), word(), word(), word(), word(), word(), word(), word(), word(), word(), word(), word()]
        .prop_map(|[semmsl, semmns, semopm, semmni, semvmx, shmmax, shmall, shmmni, shmmin, msgmax, msgmnb, msgmni]| {
            Limits { semmsl, semmns, semopm, semmni, semvmx, shmmax, shmall, shmmni, shmmin, msgmax, msgmnb, msgmni }
        })
        .boxed()
}

/// Any totals.
pub(crate) fn totals() -> BoxedStrategy<Totals> {
    [word(), word(), word(), word(), word(), word(), word(), word(), word()]
        .prop_map(
            |[
                sem_arrays,
                semaphores,
                shm_segments,
                shm_pages,
                shm_resident,
                shm_swapped,
                msg_queues,
                msg_messages,
                msg_bytes,
            ]| {
                Totals {
                    sem_arrays,
                    semaphores,
                    shm_segments,
                    shm_pages,
                    shm_resident,
                    shm_swapped,
                    swap_attempts: sem_arrays,
                    swap_successes: msg_bytes,
                    msg_queues,
                    msg_messages,
                    msg_bytes,
                }
            },
        )
        .boxed()
}

fn namespace_id() -> impl Strategy<Value = NamespaceId> {
    prop_oneof![8 => (4_026_531_839..4_026_531_843u64, Just(0)), 1 => (word(), word())]
        .prop_map(|(inode, instance)| NamespaceId { inode, instance })
}

fn unreadable() -> impl Strategy<Value = Unreadable> {
    (text(), narrow(), text()).prop_map(|(source, line, error)| Unreadable { source, line, error })
}

fn left_out() -> impl Strategy<Value = LeftOut> {
    (word(), word(), word()).prop_map(|(sem, shm, msg)| LeftOut { sem, shm, msg })
}

/// Any namespace; ids in its lists may repeat, as a torn read can show them.
pub(crate) fn namespace() -> BoxedStrategy<Namespace> {
    let lists = (option::of(list(sem(), 0..8)), option::of(list(shm(), 0..6)), option::of(list(msg(), 0..6)));
    let whole = (option::of(limits()), option::of(totals()));
    let named = (option::of(text()), named_by(), narrow());
    let rest = (list(unreadable(), 0..3), left_out(), option::of(who()));
    (namespace_id(), named, any::<bool>(), whole, lists, rest)
        .prop_map(|(id, named, torn, (limits, totals), (sem, shm, msg), (unreadable, left_out, who))| Namespace {
            id,
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
            left_out,
            who,
        })
        .boxed()
}

fn availability() -> BoxedStrategy<Availability> {
    (select(SysvipcState::ALL.to_vec()), list(text(), 0..=Availability::MAX_EVIDENCE), text())
        .prop_map(|(state, evidence, remedy)| Availability { state, evidence, remedy })
        .boxed()
}

fn names() -> impl Strategy<Value = BTreeMap<u32, HostText>> {
    btree_map(narrow(), text(), 0..5)
}

/// Any state.
pub(crate) fn state() -> BoxedStrategy<State> {
    let numbers = (narrow(), narrow());
    let namespaces = list(namespace(), 0..4);
    let facts = (availability(), list(risk(), 0..3), list(unreadable(), 0..3));
    (any::<[u8; 16]>(), numbers, text(), facts, names(), names(), namespaces)
        .prop_map(|(boot_id, (interval_ms, page_size), zone, facts, users, groups, namespaces)| State {
            boot_id: BootId(boot_id),
            interval_ms,
            page_size,
            zone,
            availability: facts.0,
            users,
            groups,
            risks: facts.1,
            unseen: facts.2,
            namespaces,
        })
        .boxed()
}

/// One small thing that happens to a state between two samples.
#[derive(Clone, Debug)]
enum Step {
    Appear(Index, Box<Namespace>),
    Go(Index),
    Swap(Index, Index),
    Insert(Index, Index, SemArray),
    Remove(Index, Index),
    Touch(Index, Index, i64),
    Reuse(Index, Index, u32),
    Move(Index, Index, Index),
    Blind(Index),
    Queue(Index, Vec<MsgQueue>),
    Segments(Index, Vec<ShmSegment>),
    Use(Index, Index, i64, i32),
    Name(u32, HostText),
    Own(Index, Box<Who>),
    Learn(Index, (Kind, i32), Known),
    Forget(Index, Index),
}

fn step() -> BoxedStrategy<Step> {
    let at = any::<Index>;
    prop_oneof![
        1 => (at(), namespace()).prop_map(|(i, n)| Step::Appear(i, Box::new(n))),
        1 => at().prop_map(Step::Go),
        1 => (at(), at()).prop_map(|(i, j)| Step::Swap(i, j)),
        6 => (at(), at(), sem()).prop_map(|(n, i, s)| Step::Insert(n, i, s)),
        4 => (at(), at()).prop_map(|(n, i)| Step::Remove(n, i)),
        4 => (at(), at(), seconds()).prop_map(|(n, i, t)| Step::Touch(n, i, t)),
        2 => (at(), at(), narrow()).prop_map(|(n, i, s)| Step::Reuse(n, i, s)),
        1 => (at(), at(), at()).prop_map(|(n, i, j)| Step::Move(n, i, j)),
        1 => at().prop_map(Step::Blind),
        1 => (at(), list(msg(), 0..4)).prop_map(|(n, m)| Step::Queue(n, m)),
        1 => (at(), list(shm(), 0..4)).prop_map(|(n, s)| Step::Segments(n, s)),
        4 => (at(), at(), seconds(), id()).prop_map(|(n, i, t, pid)| Step::Use(n, i, t, pid)),
        1 => (narrow(), text()).prop_map(|(uid, name)| Step::Name(uid, name)),
        1 => (at(), who()).prop_map(|(n, who)| Step::Own(n, Box::new(who))),
        2 => (at(), (kind(), id()), known()).prop_map(|(n, key, known)| Step::Learn(n, key, known)),
        1 => (at(), at()).prop_map(|(n, i)| Step::Forget(n, i)),
    ]
    .boxed()
}

/// Makes the step where there is something to make it on.
fn take(state: &mut State, step: Step) {
    let namespaces = &mut state.namespaces;
    match step {
        Step::Appear(i, n) => namespaces.insert(i.index(namespaces.len() + 1), *n),
        Step::Name(uid, name) => drop(state.users.insert(uid, name)),
        _ if namespaces.is_empty() => {}
        Step::Go(i) => drop(namespaces.remove(i.index(namespaces.len()))),
        Step::Swap(i, j) => {
            let len = namespaces.len();
            namespaces.swap(i.index(len), j.index(len));
        }
        Step::Own(n, who) => nth(namespaces, n).who = Some(*who),
        Step::Learn(n, key, known) => {
            drop(nth(namespaces, n).who.get_or_insert_default().objects.insert(key, known));
        }
        Step::Forget(n, i) => {
            let who = nth(namespaces, n).who.get_or_insert_default();
            let keys: Vec<_> = who.objects.keys().copied().collect();
            keys.get(i.index(keys.len().max(1))).map(|key| who.objects.remove(key));
        }
        Step::Blind(n) => nth(namespaces, n).sem = None,
        Step::Queue(n, queues) => nth(namespaces, n).msg = Some(queues),
        Step::Segments(n, segments) => nth(namespaces, n).shm = Some(segments),
        Step::Use(n, i, time, pid) => use_objects(nth(namespaces, n), i, time, pid),
        Step::Insert(n, i, row) => {
            let rows = nth(namespaces, n).sem.get_or_insert_default();
            rows.insert(i.index(rows.len() + 1), row);
        }
        Step::Remove(n, i) => on_row(namespaces, n, |rows| {
            rows.remove(i.index(rows.len()));
        }),
        Step::Touch(n, i, time) => on_row(namespaces, n, |rows| i.get_mut(rows).ctime = time),
        Step::Reuse(n, i, nsems) => on_row(namespaces, n, |rows| i.get_mut(rows).nsems = nsems),
        Step::Move(n, i, j) => on_row(namespaces, n, |rows| {
            let len = rows.len();
            rows.swap(i.index(len), j.index(len));
        }),
    }
}

fn nth(namespaces: &mut [Namespace], n: Index) -> &mut Namespace {
    n.get_mut(namespaces)
}

/// A process attaches a segment and sends a message, and both are counted.
fn use_objects(namespace: &mut Namespace, i: Index, time: i64, pid: i32) {
    if let Some(segments) = namespace.shm.as_mut().filter(|segments| !segments.is_empty()) {
        let segment = i.get_mut(segments);
        (segment.atime, segment.lpid, segment.nattch) = (time, pid, segment.nattch.wrapping_add(1));
        segment.rss = segment.rss.wrapping_add(4096);
    }
    if let Some(queues) = namespace.msg.as_mut().filter(|queues| !queues.is_empty()) {
        let queue = i.get_mut(queues);
        (queue.stime, queue.lspid, queue.qnum) = (time, pid, queue.qnum.wrapping_add(1));
        queue.cbytes = queue.cbytes.wrapping_add(256);
    }
    if let Some(totals) = &mut namespace.totals {
        totals.msg_messages = totals.msg_messages.wrapping_add(1);
    }
}

fn on_row(namespaces: &mut [Namespace], n: Index, change: impl FnOnce(&mut Vec<SemArray>)) {
    if let Some(rows) = nth(namespaces, n).sem.as_mut().filter(|rows| !rows.is_empty()) {
        change(rows);
    }
}

/// Two states: unrelated ones, or one and what a few steps make of it.
pub(crate) fn states() -> BoxedStrategy<(State, State)> {
    let alike = (state(), list(step(), 0..6)).prop_map(|(before, steps)| {
        let mut after = before.clone();
        steps.into_iter().for_each(|step| take(&mut after, step));
        (before, after)
    });
    prop_oneof![3 => alike, 1 => (state(), state())].boxed()
}

/// What becomes of a state, a few steps at a time.
pub(crate) fn history() -> impl Strategy<Value = Vec<State>> {
    (state(), list(list(step(), 0..4), 0..12)).prop_map(|(first, samples)| {
        let mut out = vec![first];
        for steps in samples {
            let mut next = out.last().cloned().unwrap_or_default();
            steps.into_iter().for_each(|step| take(&mut next, step));
            out.push(next);
        }
        out
    })
}

fn list_change<T: core::fmt::Debug + Clone>(
    row: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = ListChange<T>> {
    prop_oneof![
        Just(ListChange::Same),
        Just(ListChange::Unreadable),
        list(row.clone(), 0..4).prop_map(ListChange::Whole),
        (list(id(), 0..4), list(row.clone(), 0..4), list((narrow(), row), 0..4))
            .prop_map(|(removed, changed, added)| ListChange::Edits { removed, changed, added }),
    ]
}

fn namespace_delta() -> BoxedStrategy<NamespaceDelta> {
    let lists = (list_change(sem().boxed()), list_change(shm().boxed()), list_change(msg().boxed()));
    let whole = (option::of(option::of(limits())), option::of(option::of(totals())));
    let rest = (option::of(list(unreadable(), 0..3)), option::of(left_out()));
    let named = (option::of(option::of(text())), option::of(named_by()), option::of(narrow()));
    let small = (namespace_id(), named, option::of(any::<bool>()));
    let change = (small, whole, lists, rest, who_change()).prop_map(
        |((id, named, torn), (limits, totals), (sem, shm, msg), (unreadable, left_out), who)| NamespaceChange {
            id,
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
            left_out,
            who,
        },
    );
    prop_oneof![
        1 => namespace_id().prop_map(NamespaceDelta::Gone),
        1 => (narrow(), namespace()).prop_map(|(position, namespace)| NamespaceDelta::Appeared { position, namespace }),
        3 => change.prop_map(NamespaceDelta::Changed),
    ]
    .boxed()
}

/// A delta that no two states need to have: what a hostile peer could send.
pub(crate) fn delta() -> BoxedStrategy<Delta> {
    let names = || list((narrow(), option::of(text())), 0..4);
    let numbers = (narrow(), option::of(any::<[u8; 16]>()), option::of(narrow()), option::of(narrow()));
    let texts = (option::of(text()), option::of(availability()));
    let facts = (option::of(list(risk(), 0..3)), option::of(list(unreadable(), 0..3)), activity());
    (numbers, texts, facts, names(), names(), list(namespace_delta(), 0..4))
        .prop_map(|(numbers, (zone, availability), (risks, unseen, activity), users, groups, namespaces)| {
            let (took_us, boot_id, interval_ms, page_size) = numbers;
            Delta {
                took_us,
                boot_id: boot_id.map(BootId),
                interval_ms,
                page_size,
                zone,
                availability,
                users,
                groups,
                risks,
                unseen,
                activity,
                namespaces,
            }
        })
        .boxed()
}

/// Any time of a record.
pub(crate) fn at() -> impl Strategy<Value = At> {
    (any::<i64>(), 0..=u64::MAX >> 1).prop_map(|(wall_ms, boot_us)| At { wall_ms, boot_us })
}

fn gap() -> impl Strategy<Value = GapReason> {
    select(GapReason::ALL.map(|(reason, ..)| reason).to_vec())
}

/// Any body of any kind.
pub(crate) fn body() -> BoxedStrategy<Body> {
    let keyframe = (option::of(gap()), narrow(), activity(), state())
        .prop_map(|(gap, took_us, activity, state)| Content::Keyframe(Keyframe { gap, took_us, activity, state }));
    let difference = states().prop_filter_map("equal states", |(a, b)| diff(&a, &b, 7).map(Content::Delta));
    let step = (at(), any::<i64>()).prop_map(|(before, by_ms)| Content::Event(Event::ClockStep { before, by_ms }));
    let content = prop_oneof![
        3 => keyframe,
        3 => difference,
        3 => delta().prop_map(Content::Delta),
        1 => Just(Content::Heartbeat),
        1 => step,
        1 => gap().prop_map(Content::GapReason),
    ];
    (at(), content).prop_map(|(at, content)| Body { at, content }).boxed()
}

/// Any record that a receiver takes; its body is any bytes.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    let place = (select(RecordKind::ALL.to_vec()), word(), word());
    (place, any::<[u8; 8]>(), list(any::<u8>(), 0..40)).prop_map(|((kind, seq, merged), chain, body)| {
        let merged = if kind == RecordKind::Heartbeat { merged } else { 0 };
        Record {
            kind,
            first_seq: Seq(seq.saturating_sub(merged)),
            seq: Seq(seq),
            chain: Chain(chain),
            missing: None,
            body,
        }
    })
}
