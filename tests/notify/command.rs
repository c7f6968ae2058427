//! `highwater notify`, `status` and `doctor`, and what the file of receivers must be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater::clock::SystemClock;
use highwater::identity::operators::{Operators, Role};
use highwater::notify::notice::Transition;
use highwater_tests::cli::Cli;
use highwater_tests::collector::{Options, Up};
use highwater_tests::http_sink::{Behave, HttpSink};
use highwater_tests::wait::{PATIENCE, until};

use crate::stage::{File, connect, migrated, queue, transition, webhook};

#[tokio::test(flavor = "multi_thread")]
async fn a_test_reaches_every_receiver_says_how_it_went_and_shows_no_secret() {
    let sink = HttpSink::start(|_, _| Behave::Answer(200));
    let gone = HttpSink::start(|_, _| Behave::Answer(404));
    let (database, _db) = migrated().await;
    let slack = "[[receiver]]\nname = \"chat\"\nkind = \"slack\"\nsecret_file = \"chat.url\"\n";
    let text = format!("{}{slack}", webhook("oncall", &sink.url()));
    let file = File::new(&text).with_secret("chat.url", &format!("{}/services/T0/SECRETPATH", gone.url()));
    let path = file.path();
    let up = Up::start(&Options { database: Some(&database), notify_config: Some(&path), ..Options::default() });

    let told = up.cli().run(&["notify", "test"]).must_exit(1);
    assert!(told.text().contains("ok   oncall (webhook, http://127.0.0.1:"), "{told:?}");
    assert!(told.text().contains("answered 404") && told.text().contains("remedy: see whether the path"), "{told:?}");
    let json = up.cli().run(&["notify", "test", "--receiver", "oncall", "--json"]).must_succeed().json();
    assert_eq!((&json["results"][0]["ok"], &json["results"][0]["receiver"]), (&true.into(), &"oncall".into()));
    let unknown = up.cli().run(&["notify", "test", "--receiver", "onkall"]).must_exit(1);
    assert!(unknown.err.contains("there are: oncall, chat"), "{unknown:?}");

    assert_eq!(sink.requests().len(), 2);
    let ids: Vec<_> = sink.requests().iter().map(|r| r.headers["highwater-id"].clone()).collect();
    assert_ne!(ids[0], ids[1], "two tests are two notices");
    assert!(gone.requests()[0].line.contains("SECRETPATH"));

    let listed = up.cli().run(&["notify", "list"]).must_succeed();
    let json = up.cli().json(&["notify", "list"]);
    let [oncall, chat] = [&json["receivers"][0], &json["receivers"][1]];
    assert!(oncall["last_sent_at"].is_string() && oncall["last_failed_at"].is_null(), "{json}");
    assert!(chat["last_sent_at"].is_null() && chat["error"].as_str().is_some_and(|e| e.contains("404")), "{json}");
    for shown in [listed.text(), &json.to_string(), told.text(), &up.output()] {
        assert!(!shown.contains("SECRETPATH") && !shown.contains("s3cret"), "{shown}");
    }
    assert_eq!(
        database.sql("SELECT what, subject FROM audit WHERE what = 'notify.test' ORDER BY at_ms LIMIT 1"),
        "notify.test|oncall,chat\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_is_in_status_and_doctor_with_the_remedy_until_it_is_told() {
    let mended = Arc::new(AtomicBool::new(false));
    let works = mended.clone();
    let sink = HttpSink::start(move |_, _| match works.load(Ordering::SeqCst) {
        true => Behave::Answer(200),
        false => Behave::Answer(503),
    });
    let (database, db) = migrated().await;
    let file = File::new(&webhook("oncall", &sink.url()));
    queue(&db, &file.receivers(), &[transition(1, 1, Transition::Raised)]).await;
    let path = file.path();
    let up = Up::start(&Options { database: Some(&database), notify_config: Some(&path), ..Options::default() });
    until("it fails", PATIENCE, || !sink.requests().is_empty());
    until("doctor knows", PATIENCE, || up.cli().run(&["doctor"]).code == 3);
    let doctor = up.cli().run(&["doctor"]).must_exit(3);
    let line = doctor.text().lines().find(|l| l.starts_with("BAD  notify: oncall: fails since ")).expect("a line");
    assert!(line.contains("1 notices wait: answered 503"), "{line}");
    assert!(doctor.text().contains("highwater notify test --receiver oncall"), "{doctor:?}");
    assert!(up.cli().run(&["status"]).must_succeed().text().contains("lease      notify "));
    mended.store(true, Ordering::SeqCst);
    until("it is told by itself", PATIENCE, || up.cli().run(&["doctor"]).code == 0);
    drop(connect(&database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_receivers_it_says_so_and_a_wrong_file_is_refused_at_the_start() {
    let (database, _db) = migrated().await;
    let up = Up::collector(&database);
    assert!(up.cli().run(&["notify", "list"]).must_succeed().text().contains("--notify-config"));
    assert!(up.cli().run(&["notify", "test"]).must_exit(1).err.contains("--notify-config"));
    let file = File::new(&webhook("a", "https://a.example").replace("secret_file", "secret"));
    let mut command = up.cli().command(&["up", "--no-agent", "--notify-config"]);
    command.arg(file.path()).arg("--data-dir").arg(up.directory().join("other"));
    let refused = highwater_tests::cli::answer(command).must_exit(1);
    assert!(refused.err.contains("did you mean \"secret_file\"?"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_wakes_nobody() {
    let sink = HttpSink::start(|_, _| Behave::Answer(200));
    let (database, db) = migrated().await;
    let file = File::new(&webhook("oncall", &sink.url()));
    let path = file.path();
    let up = Up::start(&Options { database: Some(&database), notify_config: Some(&path), ..Options::default() });
    let operators = Operators::new(db, Arc::new(SystemClock));
    let token = operators.add("reader", "test", Role::Viewer).await.expect("an operator").reveal();
    let reader = Cli { token, ..up.cli() };
    assert!(reader.run(&["notify", "test"]).must_exit(1).err.contains("for operators and admins"));
    assert!(reader.run(&["notify", "list"]).must_succeed().text().contains("oncall"));
    assert_eq!(sink.requests().len(), 0);
}
