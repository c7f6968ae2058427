//! What calls and samples come to.

use std::sync::Arc;

use highwater_ipc::limits::{Limits, Resource, Totals};
use highwater_ipc::object::{Owner, Perms, SemArray};
use highwater_ipc::text::HostText;
use proptest::prelude::*;

use super::*;
use crate::trace::Caller;

const HOST: NamespaceId = NamespaceId { inode: 5, instance: 50 };
const BOX: NamespaceId = NamespaceId { inode: 6, instance: 60 };
const NEW: Asked = Asked { key: 0, size: 2, flags: 0o600 };

fn limits(semmni: u64) -> Limits {
    Limits {
        semmsl: 250,
        semmns: 100,
        semopm: 1,
        semmni,
        semvmx: 1,
        shmmax: 1 << 20,
        shmall: 100,
        shmmni: 4,
        shmmin: 1,
        msgmax: 1,
        msgmnb: 1,
        msgmni: 2,
    }
}

/// A namespace with arrays of two semaphores each.
fn namespace(id: NamespaceId, semmni: u64, ids: &[i32]) -> Namespace {
    let owner = Owner { uid: 33, cuid: 34, ..Owner::default() };
    let array = |semid: &i32| SemArray {
        key: Key(7),
        semid: *semid,
        perms: Perms(0o600),
        nsems: 2,
        owner,
        otime: 0,
        ctime: 1000,
    };
    let count = ids.len() as u64;
    let totals = Totals { sem_arrays: count, semaphores: 2 * count, ..Totals::default() };
    Namespace {
        id,
        limits: Some(limits(semmni)),
        totals: Some(totals),
        sem: Some(ids.iter().map(array).collect()),
        shm: Some(Vec::new()),
        msg: Some(Vec::new()),
        ..Namespace::default()
    }
}

fn state(namespaces: Vec<Namespace>) -> State {
    State { page_size: 4096, namespaces, ..State::default() }
}

fn at(boot_us: u64) -> At {
    At { wall_ms: 1_000_000 + i64::try_from(boot_us / 1000).unwrap(), boot_us }
}

fn caller(pid: i32, place: Option<NamespaceId>) -> Arc<Caller> {
    let place = place.map(|id| Place { inode: id.inode, instance: Some(id.instance) });
    let uid = place.map(|_| 33);
    Arc::new(Caller { pid, comm: "apache2".into(), uid, place, parent: "cron".into() })
}

fn get(at_us: u64, by: &Arc<Caller>, asked: Asked, answer: i64) -> Call {
    let what = What::Get { asked: Some(asked), answer };
    Call { at_ns: at_us * 1000, kind: Kind::Sem, what, by: Arc::clone(by) }
}

fn removal(at_us: u64, by: &Arc<Caller>, id: i32) -> Call {
    Call { at_ns: at_us * 1000, kind: Kind::Sem, what: What::Remove(id), by: Arc::clone(by) }
}

fn calls(calls: Vec<Call>) -> Calls {
    Calls { calls, more: 0, lost: 0 }
}

/// A ledger that knows this sample, taken at boot time 0.
fn knowing(namespaces: Vec<Namespace>) -> Ledger {
    let mut ledger = Ledger::default();
    assert!(ledger.close(&state(namespaces), &at(0), Calls::default()).is_empty());
    ledger
}

#[test]
fn what_came_and_went_between_two_samples_is_a_peak_and_its_maker_is_named_t6() {
    let mut ledger = knowing(vec![namespace(HOST, 128, &[1])]);
    let by = caller(41, Some(HOST));
    let made = (0..50_i32).map(|n| get(100 + u64::from(n.unsigned_abs()), &by, NEW, i64::from(10 + n)));
    let removed = (0..50_i32).map(|n| removal(300 + u64::from(n.unsigned_abs()), &by, 10 + n));
    let mut both: Vec<Call> = made.chain(removed).collect();
    both.reverse();
    let activity = ledger.close(&state(vec![namespace(HOST, 128, &[1])]), &at(1000), calls(both));
    let peak = Peak { namespace: HOST, boot_us: 149, sem_arrays: 51, semaphores: 102 };
    assert_eq!(activity.peaks, [peak]);
    let [created, removed] = activity.acts.as_slice() else { panic!("{:?}", activity.acts) };
    let actor = Actor { pid: 41, comm: "apache2".into(), uid: Some(33), parent: "cron".into() };
    assert_eq!((created.did, created.count, &created.by), (Did::Created, 50, &actor));
    assert_eq!((created.first_us, created.last_us, created.size), (100, 149, 2));
    assert_eq!(created.ids, (10..60).collect::<Vec<_>>());
    assert_eq!((removed.did, removed.count, removed.size, removed.key), (Did::Removed, 50, 0, Key(0)));
    assert_eq!((created.namespace, removed.namespace), (Some(HOST), Some(HOST)));
}

#[test]
fn a_refusal_names_the_limit_that_bound_as_it_stood_then() {
    let mut ledger = knowing(vec![namespace(HOST, 3, &[1, 2]), namespace(BOX, 128, &[1])]);
    let (host, boxed) = (caller(41, Some(HOST)), caller(42, Some(BOX)));
    let activity = ledger.close(
        &state(vec![namespace(HOST, 3, &[1, 2]), namespace(BOX, 128, &[1])]),
        &at(1000),
        calls(vec![
            get(10, &host, NEW, 9),
            get(11, &host, NEW, -28),
            get(12, &host, NEW, -28),
            removal(13, &host, 9),
            get(14, &boxed, Asked { size: 99, ..NEW }, -28),
        ]),
    );
    let refused: Vec<_> = activity.acts.iter().filter(|act| act.did == Did::Refused(28)).collect();
    let [first, second] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!((first.count, first.by.pid, first.namespace), (2, 41, Some(HOST)));
    assert_eq!(first.bound_by, Some(Usage { resource: Resource::Semmni, used: 3, limit: 3 }));
    assert!(first.ids.is_empty());
    assert_eq!(second.bound_by, Some(Usage { resource: Resource::Semmns, used: 2, limit: 100 }));
}

#[test]
fn a_call_that_found_an_object_is_no_creation_and_one_that_failed_removed_nothing_t7() {
    let mut ledger = knowing(vec![namespace(HOST, 128, &[1])]);
    let by = caller(41, Some(HOST));
    let named = Asked { key: 7, flags: 0o1600, size: 2 };
    let activity = ledger.close(
        &state(vec![namespace(HOST, 128, &[1, 2])]),
        &at(1000),
        calls(vec![get(1, &by, named, 1), get(2, &by, named, 2), get(3, &by, named, 2), removal(4, &by, 99)]),
    );
    let [created] = activity.acts.as_slice() else { panic!("{:?}", activity.acts) };
    assert_eq!((created.did, created.count, created.ids.as_slice()), (Did::Created, 1, &[2][..]));
    assert_eq!(activity.peaks, []);
}

#[test]
fn einval_is_told_where_more_was_asked_for_than_one_array_may_have() {
    let mut ledger = knowing(vec![namespace(HOST, 128, &[])]);
    let (by, gone) = (caller(41, Some(HOST)), caller(42, None));
    let asks = |size| Asked { size, ..NEW };
    let activity = ledger.close(
        &state(vec![namespace(HOST, 128, &[])]),
        &at(1000),
        calls(vec![
            get(1, &by, asks(250), -22),
            get(2, &by, asks(251), -22),
            get(3, &gone, asks(251), -22),
            get(4, &gone, asks(250), -22),
            get(5, &by, asks(2), -17),
            get(6, &by, asks(2), -12),
        ]),
    );
    let told: Vec<_> = activity.acts.iter().map(|act| (act.did, act.by.pid, act.size, act.bound_by)).collect();
    assert_eq!(
        told,
        [(Did::Refused(22), 41, 251, None), (Did::Refused(22), 42, 251, None), (Did::Refused(12), 41, 2, None)]
    );
}

#[test]
fn where_a_caller_was_gone_the_samples_say_where_it_was_if_only_one_can() {
    let before = vec![namespace(HOST, 128, &[1, 3]), namespace(BOX, 128, &[1])];
    let mut ledger = knowing(before);
    let gone = caller(41, None);
    let named = Asked { key: 7, flags: 0o1600, size: 2 };
    let after = state(vec![namespace(HOST, 128, &[1, 2]), namespace(BOX, 128, &[1])]);
    let history = vec![
        get(1, &gone, named, 2),
        removal(2, &gone, 3),
        get(3, &gone, named, 1),
        get(4, &gone, NEW, 77),
        removal(5, &gone, 99),
    ];
    let activity = ledger.close(&after, &at(1000), calls(history));
    let told: Vec<_> = activity.acts.iter().map(|act| (act.did, act.namespace, act.by.uid, act.ids.clone())).collect();
    assert_eq!(
        told,
        [
            (Did::Created, Some(HOST), Some(34), vec![2]),
            (Did::Removed, Some(HOST), None, vec![3]),
            (Did::Created, None, None, vec![77]),
            (Did::Removed, None, None, vec![99]),
        ],
        "an IPC_CREAT that can have found 1 is not told; 34 made array 2"
    );
}

#[test]
fn a_namespace_that_came_since_begins_with_nothing() {
    let mut ledger = knowing(vec![namespace(HOST, 128, &[])]);
    let by = caller(41, Some(BOX));
    let named = Asked { key: 7, flags: 0o1600, size: 2 };
    // Array 1 was changed last at second 1000, when this boot's microsecond 0 was.
    let history = vec![get(1, &by, NEW, 5), get(2, &by, NEW, 6), get(3, &by, named, 1), get(4, &by, named, 6)];
    let after = state(vec![namespace(HOST, 128, &[]), namespace(BOX, 2, &[1, 5])]);
    let activity = ledger.close(&after, &at(900_000), calls(history));
    let ids: Vec<_> = activity.acts.iter().flat_map(|act| act.ids.clone()).collect();
    assert_eq!(ids, [5, 6, 1]);
    assert_eq!(activity.peaks, [Peak { namespace: BOX, boot_us: 3, sem_arrays: 3, semaphores: 6 }]);
    let mut old = knowing(vec![namespace(HOST, 128, &[])]);
    let history = vec![get(5_000_000, &by, named, 1)];
    let activity = old.close(&after, &at(6_000_000), calls(history));
    assert_eq!(activity.acts, [], "it was there before that call");
}

#[test]
fn calls_that_fell_into_a_samples_reading_are_told_once_and_replayed_for_the_next() {
    let mut ledger = knowing(vec![namespace(HOST, 128, &[1])]);
    let by = caller(41, Some(HOST));
    // Sample at 1000 reads [1, 2] amid these: 9 came and went before, 3 came after.
    let during = vec![get(1001, &by, NEW, 9), removal(1002, &by, 9), get(1003, &by, NEW, 2), get(1004, &by, NEW, 3)];
    let first = ledger.close(&state(vec![namespace(HOST, 128, &[1, 2])]), &at(1000), calls(during));
    assert_eq!(first.acts.iter().map(|act| act.count).sum::<u64>(), 4);
    let later = vec![removal(1500, &by, 3)];
    let second = ledger.close(&state(vec![namespace(HOST, 128, &[1, 2])]), &at(2000), calls(later));
    assert_eq!(second.acts.len(), 1);
    assert_eq!(second.peaks.iter().map(|peak| peak.sem_arrays).collect::<Vec<_>>(), [3], "9 is not counted again");
}

#[test]
fn what_does_not_fit_is_counted_t4() {
    let mut ledger = knowing(vec![namespace(HOST, 128, &[])]);
    let many = (0..300_i32).map(|n| get(u64::from(n.unsigned_abs()), &caller(n, Some(HOST)), NEW, -28));
    let one = caller(9999, Some(HOST));
    let ids = (0..100).map(|n| get(n, &one, NEW, i64::try_from(n).unwrap()));
    let given = Calls { calls: ids.chain(many).collect(), more: 5, lost: 6 };
    let activity = ledger.close(&state(vec![namespace(HOST, 128, &[])]), &at(1000), given);
    assert_eq!((activity.acts.len(), activity.more, activity.lost), (256, 5 + 45, 6));
    let made = activity.acts.iter().find(|act| act.did == Did::Created).unwrap();
    assert_eq!((made.count, made.ids.len()), (100, Activity::MAX_IDS));
}

#[test]
fn a_namespace_that_samples_pass_over_has_no_peak() {
    let skipped = || vec![Namespace { skipped: 3, ..namespace(HOST, 128, &[1]) }];
    let mut ledger = knowing(skipped());
    let by = caller(41, Some(HOST));
    let activity = ledger.close(&state(skipped()), &at(1000), calls(vec![get(1, &by, NEW, 5), removal(2, &by, 5)]));
    assert_eq!((activity.acts.len(), activity.peaks.len()), (2, 0));
}

#[test]
fn a_filters_refusal_is_told_without_what_was_asked_for() {
    let mut ledger = knowing(vec![namespace(HOST, 128, &[1])]);
    let what = What::Get { asked: None, answer: -38 };
    let call = Call { at_ns: 1000, kind: Kind::Shm, what, by: caller(41, Some(HOST)) };
    let activity = ledger.close(&state(vec![namespace(HOST, 128, &[1])]), &at(1000), calls(vec![call]));
    let [act] = activity.acts.as_slice() else { panic!() };
    assert_eq!((act.did, act.kind, act.size, act.key), (Did::Refused(38), Kind::Shm, 0, Key(0)));
    assert_eq!(act.by.comm, HostText::from("apache2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A history of arrays made (a new id each) and removed, sampled now and then, each sample's reading somewhere in
    /// it: a peak is never above what was in use at once, and where no call fell into a reading it is exactly that.
    #[test]
    fn a_peak_is_the_most_that_was_in_use_at_once(
        steps in proptest::collection::vec((0_u8..4, 0_usize..3, 0_usize..3), 1..80),
        quiet in any::<bool>(),
    ) {
        let by = caller(41, Some(HOST));
        let (mut alive, mut next, mut now) = (Vec::<i32>::new(), 0, 0_u64);
        let mut ledger = knowing(vec![namespace(HOST, 1 << 20, &[])]);
        let (mut pending, mut most, mut before) = (Vec::new(), 0, 0);
        let mut step = |which: u8, alive: &mut Vec<i32>, now: &mut u64| {
            *now += 10;
            if which == 0 && !alive.is_empty() {
                let id = alive.remove(alive.len() / 2);
                return removal(*now, &by, id);
            }
            next += 1;
            alive.push(next);
            get(*now, &by, NEW, next.into())
        };
        for (which, ahead, behind) in steps {
            if which < 3 {
                pending.push(step(which, &mut alive, &mut now));
                most = most.max(alive.len());
                continue;
            }
            let began = now + 5;
            let (ahead, behind) = if quiet { (0, 0) } else { (ahead, behind) };
            let began_with = alive.len();
            let mut most_during = alive.len();
            for n in 0..ahead {
                pending.push(step(u8::from(n % 2 == 1), &mut alive, &mut now));
                most_during = most_during.max(alive.len());
            }
            let read = namespace(HOST, 1 << 20, &alive);
            let shown = alive.len();
            for n in 0..behind {
                pending.push(step(u8::from(n % 2 == 0), &mut alive, &mut now));
                most_during = most_during.max(alive.len());
            }
            most = most.max(most_during);
            let told = u64::try_from(pending.len()).unwrap();
            let activity = ledger.close(&state(vec![read]), &at(began), calls(std::mem::take(&mut pending)));
            prop_assert_eq!(activity.acts.iter().map(|act| act.count).sum::<u64>(), told);
            let peak = activity.peaks.first().map(|peak| usize::try_from(peak.sem_arrays).unwrap());
            if let Some(peak) = peak {
                prop_assert!(peak <= most && peak > shown && peak > before, "{} {} {} {}", peak, most, shown, before);
            }
            if quiet {
                prop_assert_eq!(peak, Some(most).filter(|most| *most > shown.max(before)));
            }
            // What was in use while this sample was read counts for the next one too.
            most = most_during.max(began_with);
            before = shown;
            now += 100;
        }
    }
}
