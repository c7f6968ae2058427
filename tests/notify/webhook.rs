//! Webhooks against a server that misbehaves.

use highwater::notify::notice::Transition;
use highwater::notify::webhook::signature;
use highwater_tests::collector::{Options, Up};
use highwater_tests::http_sink::{Behave, HttpSink, Request};
use highwater_tests::wait::{PATIENCE, until};
use serde_json::Value;

use crate::stage::{File, SECRET, Working, connect, migrated, queue, transition, webhook};

fn ids(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|r| r.headers["highwater-id"].as_str()).collect()
}

#[track_caller]
fn must_be_signed(request: &Request) {
    let timestamp = &request.headers["highwater-timestamp"];
    let expect = format!("v1={}", signature(SECRET.as_bytes(), timestamp, request.body.as_bytes()));
    assert_eq!(request.headers["highwater-signature"], expect);
    let body: Value = serde_json::from_str(&request.body).expect("JSON");
    assert_eq!(body["id"], request.headers["highwater-id"]);
    let sent: i64 = timestamp.parse().expect("seconds");
    assert!((sent - highwater_tests::wait::now_ms() / 1000).abs() < 300, "{timestamp}");
}

/// Fails twice, hangs, takes it and hangs up, and at last answers: the same id each time, signed anew each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_hangs_and_hangs_up_is_told_at_last_under_the_same_id() {
    let sink = HttpSink::start(|n, _| match n {
        0 | 1 => Behave::Answer(500),
        2 => Behave::Hang,
        3 => Behave::HangUp,
        4 => Behave::Redirect,
        _ => Behave::Answer(200),
    });
    let (database, db) = migrated().await;
    let receivers = File::new(&webhook("a", &sink.url())).receivers();
    let notices = [Transition::Raised, Transition::Worsened, Transition::Cleared];
    let notices: Vec<_> = (1..).zip(notices).map(|(n, t)| transition(0x51, n, t)).collect();
    queue(&db, &receivers, &notices).await;
    let working = Working::start(&db, &receivers);
    until("all three are told", PATIENCE, || sink.requests().len() >= 8);
    until("and marked", PATIENCE, || database.sql("SELECT count(*) FROM notice WHERE state = 'sent'") == "3\n");
    working.stop().await;
    let requests = sink.requests();
    let [one, two, three] = ["0000000000000051-1", "0000000000000051-2", "0000000000000051-3"];
    assert_eq!(ids(&requests), [one, one, one, one, one, one, two, three]);
    requests.iter().for_each(must_be_signed);
    assert!(requests.iter().all(|r| r.line.starts_with("POST /hook ")), "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_holds_up_no_other() {
    let hanging = HttpSink::start(|_, _| Behave::Hang);
    let sink = HttpSink::start(|_, _| Behave::Answer(204));
    let (database, db) = migrated().await;
    let text = format!("{}{}", webhook("hangs", &hanging.url()), webhook("well", &sink.url()));
    let receivers = File::new(&text).receivers();
    let notices: Vec<_> = (1..=20).map(|flag| transition(flag, 1, Transition::Raised)).collect();
    queue(&db, &receivers, &notices).await;
    let working = Working::start(&db, &receivers);
    until("the other has all", PATIENCE, || sink.requests().len() == 20);
    assert!(hanging.requests().len() < 20, "each hanging delivery takes its half second");
    until("the failure is kept", PATIENCE, || {
        database
            .sql("SELECT count(*) > 0 FROM notice WHERE receiver = 'hangs' AND error LIKE '%no answer within 0.5 s%'")
            == "t\n"
    });
    working.stop().await;
}

/// One that is not taken for itself (422) lets those of other flags pass, and holds up its own flag's.
#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_refused_holds_up_its_own_flag_alone() {
    let sink = HttpSink::start(|_, r| match r.headers["highwater-id"].as_str() {
        "0000000000000001-1" => Behave::Answer(422),
        _ => Behave::Answer(200),
    });
    let (_database, db) = migrated().await;
    let receivers = File::new(&webhook("a", &sink.url())).receivers();
    let notices = [(1, 1), (1, 2), (2, 1), (3, 1)].map(|(flag, n)| transition(flag, n, Transition::Raised));
    queue(&db, &receivers, &notices).await;
    let working = Working::start(&db, &receivers);
    until("others are told, and it is tried again", PATIENCE, || {
        let requests = sink.requests();
        let seen = ids(&requests);
        seen.contains(&"0000000000000003-1") && seen.iter().filter(|id| **id == "0000000000000001-1").count() > 2
    });
    working.stop().await;
    assert!(!ids(&sink.requests()).contains(&"0000000000000001-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_to_be_left_alone_is() {
    let sink = HttpSink::start(|_, _| Behave::Later(60));
    let (database, db) = migrated().await;
    let receivers = File::new(&webhook("a", &sink.url())).receivers();
    queue(&db, &receivers, &[transition(1, 1, Transition::Raised)]).await;
    let working = Working::start(&db, &receivers);
    until("it waits", PATIENCE, || database.sql("SELECT tries FROM notice") == "1\n");
    assert_eq!(database.sql("SELECT due_ms - failed_ms >= 60000 FROM notice"), "t\n");
    working.stop().await;
}

/// The receiver has it, the table does not know yet, and the collector dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_killed_between_delivery_and_mark_delivers_again_under_the_same_id() {
    let sink = HttpSink::start(|_, _| Behave::Answer(200));
    let (database, db) = migrated().await;
    let file = File::new(&webhook("a", &sink.url()));
    queue(&db, &file.receivers(), &[transition(0x77, 1, Transition::Raised)]).await;
    // Whoever marks the row waits for its lock.
    let held = database.hold("SELECT FROM notice FOR UPDATE");
    let path = file.path();
    let options = Options { database: Some(&database), notify_config: Some(&path), ..Options::default() };
    let mut up = Up::start(&options);
    until("it is delivered", PATIENCE, || !sink.requests().is_empty());
    up.kill();
    drop(held);
    assert_eq!(database.sql("SELECT state FROM notice"), "waiting\n");
    let before = sink.requests().len();
    // A dead holder's lease runs out after half a minute; here it is given back at once.
    database.sql("UPDATE lease SET until_ms = 0 WHERE name = 'notify'");
    up.start_again(&options);
    until("it is delivered again", PATIENCE, || sink.requests().len() > before);
    until("and marked", PATIENCE, || database.sql("SELECT state FROM notice") == "sent\n");
    let requests = sink.requests();
    assert!(ids(&requests).iter().all(|id| *id == "0000000000000077-1"), "{:?}", ids(&requests));
    requests.iter().for_each(must_be_signed);
    drop(connect(&database).await);
}
