//! Any sequence of transitions and failures: each transition is told at least once, in order for each flag and receiver, and
//! never a later one before an earlier one was told. Rounds run one by one on a clock that the test moves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use highwater::clock::WallClock;
use highwater::notify::courier::Courier;
use highwater::notify::deliver::{Deliver, Delivery, Failure};
use highwater::notify::notice::{Severity, Transition};
use highwater::notify::outbox;
use highwater::notify::receiver::{Endpoint, Receiver, Receivers, Way};
use highwater::notify::text::Sending;
use highwater::store::{Db, lease, notice};
use highwater_tests::chance::Chance;

use crate::stage::{migrated, transition};

/// A clock that stands still until it is moved.
struct Moved(AtomicI64);

impl WallClock for Moved {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A receiver that fails before it takes a notice, or after.
struct Moody {
    chance: Mutex<Chance>,
    fails_one_in: u64,
    taken: Mutex<Vec<(i64, u32, bool)>>,
}

impl Deliver for Moody {
    fn deliver<'a>(&'a self, _: &'a Receiver, sending: Sending<'a>) -> Delivery<'a> {
        let (fails, takes, refused) = {
            let mut chance = self.chance.lock().expect("nobody panics with it");
            (chance.one_in(self.fails_one_in), chance.one_in(2), chance.one_in(2))
        };
        if !fails || takes {
            let flag = sending.notice.flag.flag_id;
            self.taken.lock().expect("likewise").push((flag, sending.notice.number, sending.again));
        }
        let failure = Failure { what: "moody".to_owned(), remedy: "wait", refused, wait_ms: None };
        Box::pin(async move { if fails { Err(failure) } else { Ok(()) } })
    }
}

fn receiver(chance: &mut Chance) -> Receiver {
    let endpoint = Endpoint::parse("http://127.0.0.1:1/").expect("a URL");
    let way = match chance.one_in(2) {
        true => Way::Alertmanager { endpoint, authorization: None, refresh_ms: 60_000 },
        false => Way::Slack { endpoint },
    };
    Receiver { name: "r".into(), way, severities: Severity::ALL.to_vec(), labels: BTreeMap::new(), ca_pem: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_sequence_of_transitions_and_failures_is_told_whole_and_in_order() {
    for seed in 0..12 {
        let (_database, db) = migrated().await;
        world(&db, seed).await;
    }
}

async fn world(db: &Db, seed: u64) {
    let mut chance = Chance::new(seed);
    let clock = Arc::new(Moved(AtomicI64::new(1_795_558_800_000)));
    let fails_one_in = 1 + chance.below(4) + u64::from(chance.one_in(2));
    let moody = Moody {
        chance: Mutex::new(Chance::new(seed ^ 77)),
        fails_one_in: fails_one_in.max(2),
        taken: Mutex::default(),
    };
    let moody = Arc::new(moody);
    let receivers = Receivers { list: vec![receiver(&mut chance)], runbook_url: None };
    let mut connection = db.dedicated().await.expect("a connection");
    let taken = lease::take(&mut connection, "notify", "test", clock.now_ms(), i64::MAX / 100).await;
    let fence = taken.expect("a lease").expect("nobody else has it");
    let mut courier = Courier {
        receiver: receivers.list[0].clone(),
        runbook_url: None,
        deliver: moody.clone(),
        clock: clock.clone(),
        random: Arc::new(|| 0),
        first_wait_ms: 5_000,
    };
    let mut told: BTreeMap<i64, u32> = BTreeMap::new();
    let mut steps = 0;
    loop {
        if steps < 40 {
            for _ in 0..chance.below(3) {
                let flag = 1 + i64::try_from(chance.below(4)).expect("small");
                let number = told.entry(flag).or_insert(0);
                *number += 1;
                let what = chance.pick(&[Transition::Worsened, Transition::Eased, Transition::Cleared]);
                let what = if *number == 1 { Transition::Raised } else { what };
                let rows = outbox::rows(&receivers, &transition(flag, *number, what), clock.now_ms());
                let mut tx = connection.write().await.expect("a transaction");
                assert_eq!(notice::insert(&mut tx, &rows).await.expect("a row"), 1);
                // Who evaluates the same again tells nobody twice.
                assert_eq!(notice::insert(&mut tx, &rows).await.expect("no row"), 0);
                tx.commit().await.expect("a commit");
            }
        }
        courier.round(&mut connection, fence).await.expect("a round");
        clock.0.fetch_add(i64::try_from(chance.below(120_000)).expect("small"), Ordering::SeqCst);
        steps += 1;
        let mut tx = connection.write().await.expect("a transaction");
        let waiting = notice::due(&mut tx, "r", i64::MAX, 100).await.expect("rows");
        tx.commit().await.expect("a commit");
        if steps >= 40 && waiting.iter().all(|due| due.again) {
            break;
        }
        assert!(steps < 2_000, "seed {seed}: {waiting:?} is never told");
    }
    check(seed, &told, &moody.taken.lock().expect("nobody panics with it"));
}

/// Of each flag: numbers never fall, none is left out, and the last one is the last that was queued.
#[track_caller]
fn check(seed: u64, queued: &BTreeMap<i64, u32>, taken: &[(i64, u32, bool)]) {
    for (flag, last) in queued {
        let numbers: Vec<u32> = taken.iter().filter(|(f, ..)| f == flag).map(|(_, n, _)| *n).collect();
        let mut first = numbers.clone();
        first.dedup();
        let expect: Vec<u32> = (1..=*last).collect();
        assert_eq!(first, expect, "seed {seed}, flag {flag}: taken {numbers:?}");
    }
}

/// What is too much is given up, oldest first, and the newest is still told.
#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_of_a_host_is_bounded_and_keeps_the_newest() {
    let (database, db) = migrated().await;
    let receivers = Receivers { list: vec![receiver(&mut Chance::new(1))], runbook_url: None };
    let most = u32::try_from(notice::MOST_WAITING).expect("small");
    let mut connection = db.dedicated().await.expect("a connection");
    let mut tx = connection.write().await.expect("a transaction");
    for number in 1..=most + 5 {
        let rows = outbox::rows(&receivers, &transition(1, number, Transition::Worsened), i64::from(number));
        notice::insert(&mut tx, &rows).await.expect("a row");
    }
    tx.commit().await.expect("a commit");
    assert_eq!(
        database.sql("SELECT state, min(number), max(number) FROM notice GROUP BY state ORDER BY state"),
        format!("given_up|1|5\nwaiting|6|{}\n", most + 5)
    );
}

/// After a day it is no news any more; what is over is forgotten a week later, and what lasts is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_took_for_a_day_is_given_up_and_what_is_over_is_forgotten() {
    const HOUR: i64 = 3_600_000;
    let (database, db) = migrated().await;
    let receivers = Receivers { list: vec![receiver(&mut Chance::new(1))], runbook_url: None };
    let mut connection = db.dedicated().await.expect("a connection");
    let mut tx = connection.write().await.expect("a transaction");
    for (flag, number, what, at) in [
        (1, 1, Transition::Raised, HOUR),
        (2, 1, Transition::Raised, 30 * HOUR),
        (3, 1, Transition::Raised, HOUR),
        (3, 2, Transition::Cleared, HOUR),
    ] {
        let rows = outbox::rows(&receivers, &transition(flag, number, what), at);
        notice::insert(&mut tx, &rows).await.expect("a row");
    }
    let now = 40 * HOUR;
    assert_eq!(notice::expire(&mut tx, (now - 24 * HOUR, now), 100).await.expect("a statement"), 3);
    assert_eq!(notice::forget(&mut tx, (now - 1, now - 100 * HOUR), 100).await.expect("a statement"), 0);
    let later = now + 200 * HOUR;
    assert_eq!(notice::forget(&mut tx, (later - 168 * HOUR, 0), 100).await.expect("a statement"), 2);
    tx.commit().await.expect("a commit");
    assert_eq!(database.sql("SELECT flag_id, state FROM notice ORDER BY flag_id"), "1|given_up\n2|waiting\n");
}
