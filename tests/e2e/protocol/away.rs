//! An agent that is gone, for good or for a while: what is known of it meanwhile, and what becomes of the gap.

use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::{held_now, host as host_in, instant, text};
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::Value;

use super::gate::Gate;
use super::log::{Hole, Log, Told, at, hole, reasons, stored_once};

/// `ipcs` now, once it is a gap.
fn now_is_a_gap(up: &Up, host: &str) -> Value {
    let ask = || up.cli().run(&["ipcs", host, "--json"]);
    until("now has no answer", PATIENCE, || ask().code == 4);
    ask().must_exit(4).json()
}

#[test]
fn an_agent_that_is_gone_is_an_open_gap_that_nothing_stores_and_closes_with_its_reason_when_it_is_back() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let namespace = IpcNamespace::named("gone");
    let mut agent = Agent::running(&up, &namespace);
    let host = host_name(&namespace);
    let mut log = Log::new();
    let step = |log: &mut Log<'_>, n: usize| log.change(n, || _ = namespace.create("create-sem private 1"));
    step(&mut log, 1);
    until("now is right", PATIENCE, || held_now(&cli, &host).is_some_and(|h| h.len() == 1));
    assert_eq!(text(host_in(&cli.json(&["hosts"]), &host).unwrap(), "lifecycle"), "live");
    agent.kill();
    step(&mut log, 2);

    let rows = || {
        database
            .sql("SELECT (SELECT count(*) FROM gap), (SELECT count(*) FROM frame), (SELECT sum(next_seq) FROM stream)")
    };
    let answer = now_is_a_gap(&up, &host);
    let before = rows();
    let open = hole(&answer["gap"]);
    assert_eq!((open.state.as_str(), open.to, open.reason.as_deref()), ("open", None, Some("unreachable")), "{answer}");
    let last = open.from.unwrap();
    // Up to three intervals after it the last sample speaks, then nobody.
    assert!(matches!(at(&cli, &host, last), Told::Held { .. }));
    assert!(matches!(at(&cli, &host, last + 300), Told::Held { .. }));
    let Told::Gap(beyond) = at(&cli, &host, last + 301) else { panic!("a state beyond three intervals") };
    assert_eq!(beyond, open);
    until("three seconds are over", PATIENCE, || {
        text(host_in(&cli.json(&["hosts"]), &host).unwrap(), "lifecycle") == "silent"
    });
    let told = cli.json(&["timeline", &host, "--kind", "gap"]);
    assert_eq!(hole(&told["events"][0]["detail"]["gap"]), open, "{told}");
    // A person is told what is known last, as a command.
    let words = cli.run(&["ipcs", &host]).must_exit(4);
    let ready = words.err.lines().chain(words.text().lines()).find_map(|line| {
        let (_, command) = line.split_once("highwater ")?;
        command.contains("--at").then(|| command.trim().to_owned())
    });
    let ready = ready.unwrap_or_else(|| panic!("no command in {words:?}"));
    let args: Vec<&str> = ready.split_whitespace().collect();
    cli.run(&args).must_succeed();
    assert_eq!(rows(), before, "asking stored nothing");

    agent.start(&namespace);
    until("now is right", PATIENCE, || held_now(&cli, &host).is_some_and(|h| h.len() == 2));
    step(&mut log, 3);
    until("now is right", PATIENCE, || held_now(&cli, &host).is_some_and(|h| h.len() == 3));
    log.end();
    let inside = log.spans[1].from + 400;
    let Told::Gap(Hole { from, state, reason, .. }) = at(&cli, &host, inside) else { panic!("a state") };
    assert_eq!((state.as_str(), reason.as_deref()), ("closed", Some("agent_killed")));
    // A sample that was spooled and not yet sent when the agent died comes with the next one.
    let from = from.unwrap();
    assert!(from >= last && from < log.spans[1].from, "{from}, not {last}");
    assert_eq!(database.sql("SELECT count(*) FROM gap WHERE from_wall_ms IS NOT NULL"), "1\n");
    let gaps = log.check(|asked| at(&cli, &host, asked));
    assert!(reasons(&gaps).iter().all(|reason| *reason == "agent_killed"), "{gaps:?}");
    stored_once(&database);
}

#[test]
fn an_agent_that_was_cut_off_is_pending_while_its_backlog_drains_and_then_the_gap_is_filled() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let gate = Gate::to(up.grpc());
    let namespace = IpcNamespace::named("cut-off");
    let mut agent = Agent::enrol(&up, &namespace);
    agent.enrol_at(&up, &gate.url(), &namespace, &["--host", &host_id(&up)]);
    agent.start(&namespace);
    agent.await_first_sample(&up, &namespace);
    let host = host_name(&namespace);
    let mut log = Log::new();
    let step = |log: &mut Log<'_>, n: usize| log.change(n, || _ = namespace.create("create-sem private 1"));
    step(&mut log, 1);
    until("now is right", PATIENCE, || held_now(&cli, &host).is_some_and(|h| h.len() == 1));
    gate.close();
    step(&mut log, 2);
    let open = hole(&now_is_a_gap(&up, &host)["gap"]);
    assert_eq!((open.state.as_str(), open.reason.as_deref()), ("open", Some("unreachable")));
    step(&mut log, 3);
    let inside = log.spans[1].from + 350;
    // Behind is who holds records of more than ten seconds.
    log.pause(10_500);
    // Nothing more is stored until this is let go of, but the present is noted and questions are answered.
    let held_up = database.hold("LOCK TABLE frame IN SHARE MODE");
    gate.open();
    let pending = || cli.run(&["ipcs", &host, "--json"]).json()["gap"]["state"] == "pending";
    until("the backlog is announced", PATIENCE, pending);
    for asked in [inside, now_ms() - 1_000] {
        let Told::Gap(gap) = at(&cli, &host, asked) else { panic!("the older state, at {asked}") };
        assert_eq!((gap.state.as_str(), gap.reason.as_deref(), gap.from), ("pending", None, open.from), "at {asked}");
    }
    let listed = cli.json(&["hosts"]);
    assert_eq!(text(host_in(&listed, &host).unwrap(), "lifecycle"), "live", "{listed}");
    drop(held_up);
    until("now is right", PATIENCE, || held_now(&cli, &host).is_some_and(|h| h.len() == 3));
    log.end();
    let gaps = log.check(|asked| at(&cli, &host, asked));
    assert!(reasons(&gaps).is_empty(), "{gaps:?}");
    assert!(matches!(at(&cli, &host, inside), Told::Held { arrays: 2, .. }));
    assert_eq!(cli.run(&["ipcs", &host, "--at", &instant(inside)]).code, 0);
    stored_once(&database);
}

/// The id of the only host.
fn host_id(up: &Up) -> String {
    let hosts = up.cli().json(&["hosts"]);
    text(&hosts["hosts"][0], "id").to_owned()
}
