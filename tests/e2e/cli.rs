//! The operator's command line as a person and a script meet it.

use std::io::Read as _;
use std::process::Stdio;

use highwater_tests::agent::Agent;
use highwater_tests::cli::answer;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until};

#[test]
fn without_a_collector_the_error_names_what_was_tried_and_the_remedy() {
    let database = Postgres::shared().database();
    let mut up = Up::collector(&database);
    let cli = up.cli();
    up.stop();
    let refused = cli.run(&["hosts"]).must_exit(1);
    let expected = format!("highwater: cannot reach {}: connection refused; is `highwater up` running?\n", cli.url);
    assert_eq!(refused.err, expected);
    let mut nowhere = cli.command(&["hosts"]);
    nowhere.env_remove("HIGHWATER_URL").env("HOME", "/nonexistent");
    let nowhere = answer(nowhere);
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.err.contains("HIGHWATER_URL") || nowhere.err.contains("cannot reach"), "{nowhere:?}");
    let mut stranger = cli.command(&["hosts"]);
    stranger.env_remove("HIGHWATER_TOKEN").env("HIGHWATER_TOKEN_FILE", "/etc/passwd");
    let stranger = answer(stranger);
    assert!(stranger.code == 1 && stranger.err.contains("/etc/passwd has mode"), "{stranger:?}");
}

#[test]
fn a_wrong_token_is_refused_with_the_remedy() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let mut cli = up.cli();
    cli.token = "hwo1.nobody.secret".to_owned();
    let refused = cli.run(&["hosts"]).must_exit(1);
    assert!(refused.err.contains("HIGHWATER_TOKEN_FILE"), "{refused:?}");
    assert!(!refused.err.contains("secret"), "{refused:?}");
}

#[test]
fn usage_errors_end_with_two_and_every_command_has_examples() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    cli.run(&["ipcs", "--at", "now", "--last"]).must_exit(2);
    cli.run(&["ipcs", "-i", "5"]).must_exit(2);
    cli.run(&["diff"]).must_exit(2);
    for command in ["hosts", "ipcs", "lsipc", "diff", "timeline"] {
        let help = cli.run(&[command, "--help"]).must_succeed();
        assert!(help.text().contains("Examples:"), "{help:?}");
    }
    let table: [(&[&str], &str); 9] = [
        (&["ipcs", "--at", "teatime"], "\"teatime\" is no time: use RFC 3339"),
        (&["lsipc", "--at", "teatime"], "\"teatime\" is no time"),
        (&["hosts", "--at", "teatime"], "\"teatime\" is no time"),
        (&["diff", "--from", "teatime"], "\"teatime\" is no time"),
        (&["timeline", "--since", "teatime"], "\"teatime\" is no time"),
        (&["timeline", "--kind", "created,made"], "possible values: created, removed, changed"),
        (&["hosts", "--state", "gone"], "possible values: available, absent"),
        (&["hosts", "--label", "role"], "KEY=VALUE"),
        (&["timeline", "--limit", "0"], "1..=10000"),
    ];
    for (args, remedy) in table {
        let refused = cli.run(args).must_exit(2);
        assert!(refused.err.contains(remedy), "{refused:?}");
    }
    let mut twice = cli.command(&["ipcs", "--at", "2026-10-25 02:30"]);
    twice.env("TZ", "Europe/Berlin");
    let twice = answer(twice);
    assert!(twice.code == 1 && twice.err.contains("+02:00") && twice.err.contains("+01:00"), "{twice:?}");
}

#[test]
fn an_omitted_host_is_this_machine_in_its_own_zone() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("here");
    let mut agent = Agent::enrol(&up, &namespace);
    agent.start(&namespace);
    agent.await_first_sample(&up, &namespace);
    namespace.create("create-sem private 1 0600");
    let cli = up.cli();
    let inside = |args: &[&str]| {
        let mut command = namespace.command(highwater_tests::binaries::highwater());
        cli.environment(&mut command);
        command.args(args);
        answer(command)
    };
    until("the array", PATIENCE, || inside(&["ipcs", "-s"]).must_succeed().text().contains("0x00000000"));
    let zone = cli.json(&["ipcs", "here"])["tz"].as_str().expect("a zone").to_owned();
    let expected = namespace.shell(&format!("LC_ALL=C TZ={zone:?} ipcs -s -t"));
    assert_eq!(inside(&["ipcs", "-st"]).must_succeed().text(), expected);
}

#[test]
fn a_host_without_system_v_ipc_is_listed_with_evidence_and_remedy() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("lacking");
    let mut agent = Agent::enrol(&up, &namespace).without_sysvipc();
    agent.start(&namespace);
    agent.await_first_sample(&up, &namespace);
    let cli = up.cli();
    let hosts = cli.json(&["hosts", "--lacks-sysvipc"]);
    assert_eq!(hosts["hosts"][0]["name"], "lacking", "{hosts}");
    let state = hosts["hosts"][0]["state"].as_str().expect("a state").to_owned();
    assert!(["blocked", "absent"].contains(&state.as_str()), "{hosts}");
    assert!(!hosts["hosts"][0]["evidence"].as_array().expect("evidence").is_empty(), "{hosts}");
    cli.run(&["hosts", "--exit-code"]).must_exit(3);
    cli.run(&["hosts", "--state", "available", "--exit-code"]).must_exit(0);
    let words = cli.run(&["hosts", "--lacks-sysvipc"]).must_succeed();
    assert!(words.text().starts_with(&format!("1 host lacks System V IPC: 1 {state}\n")), "{words:?}");
    assert!(words.text().contains("\n  evidence  ") && words.text().contains("\n  remedy    "), "{words:?}");
    let table = cli.run(&["ipcs", "lacking", "-u"]).must_succeed();
    assert!(table.text().contains("kernel not configured for semaphores"), "{table:?}");
    assert!(table.err.contains(&format!("System V IPC is {state}")), "{table:?}");
    assert_eq!(cli.json(&["hosts", "--lacks-sysvipc", "--at", "2020-01-01"])["hosts"], serde_json::json!([]));
    // The exit code is about every page, though one is printed.
    let first = IpcNamespace::named("above");
    let _agent = Agent::running(&up, &first);
    let page = cli.run(&["hosts", "--json", "--limit", "1", "--exit-code"]).must_exit(3).json();
    assert_eq!(page["hosts"].as_array().expect("a page").len(), 1);
    assert_eq!(page["hosts"][0]["name"], "above");
}

#[test]
fn of_two_agents_with_one_host_name_every_answer_is_about_the_newer_and_says_so() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespaces = [IpcNamespace::named("twin"), IpcNamespace::named("twin")];
    let _older = Agent::running(&up, &namespaces[0]);
    let older = up.cli().json(&["hosts"])["hosts"][0]["id"].as_str().expect("an id").to_owned();
    let _newer = Agent::running(&up, &namespaces[1]);
    let cli = up.cli();
    until("the newer one answers", PATIENCE, || {
        let answer = cli.run(&["ipcs", "twin", "--json"]);
        answer.code == 0 && answer.json()["host_id"] != older.as_str()
    });
    for args in [
        &["ipcs", "twin", "--json"][..],
        &["ipcs", "twin", "--json", "--namespace", "all"],
        &["lsipc", "twin", "--json"],
        &["timeline", "twin", "--json"],
        &["diff", "twin", "--from", "now", "--json"],
    ] {
        let answer = cli.run(args).must_succeed();
        assert_ne!(answer.json()["host_id"], older.as_str(), "{args:?}");
        assert!(answer.err.contains(&older), "{args:?}: {answer:?}");
        assert!(answer.json()["notes"][0].as_str().expect("a note").contains(&older), "{args:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("piped");
    namespace.script("fill sem 2000\n");
    let _agent = Agent::running(&up, &namespace);
    let mut command = up.cli().command(&["ipcs", "piped"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("highwater");
    drop(child.stdout.take());
    let mut words = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut words).expect("its words");
    assert!(child.wait().expect("its end").success());
    assert_eq!(words, "");
}
