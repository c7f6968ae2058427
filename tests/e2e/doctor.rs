//! `highwater-agent doctor` of an enrolled host: what it says of the way to the collector. What it says of privileges is in
//! `privileges.rs`.

use highwater_tests::agent::Agent;
use highwater_tests::cli::{Answer, answer};
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use serde_json::Value;

/// The check of that name.
#[track_caller]
fn check(told: &Answer, name: &str) -> Value {
    let document = told.json();
    let checks = document["checks"].as_array().expect("a list");
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {document}")).clone()
}

#[test]
fn enrolment_collector_and_spool_are_looked_at() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("examined-host");
    namespace.shell("mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing");
    let mut agent = Agent::enrol(&up, &namespace);
    agent.start(&namespace);
    agent.await_first_sample(&up, &namespace);
    let doctor = |collector: Option<&str>, form: &[&str]| {
        let mut command = agent.command(&namespace, &[&["doctor"], form].concat());
        command.envs(collector.map(|address| ("HIGHWATER_COLLECTOR", address)));
        answer(command)
    };

    let told = doctor(None, &["--json"]);
    for name in ["enrolment", "collector", "spool", "System V IPC", "trace events"] {
        assert_eq!(check(&told, name)["verdict"], "fine", "{}", told.text());
    }
    assert!(check(&told, "trace events")["found"][0].as_str().is_some_and(|t| t.contains(" ns ") && t.contains("KiB")));
    assert_eq!(told.json()["trouble"], told.code == 3);
    // The running agent goes on: doctor took neither its stream nor its lock.
    assert_eq!(up.cli().run(&["ipcs", "examined-host", "--json"]).code, 0);

    // Nobody listens on port 1.
    let told = doctor(Some("127.0.0.1:1"), &["--json"]).must_exit(3);
    let collector = check(&told, "collector");
    assert_eq!(collector["verdict"], "trouble");
    assert!(collector["found"][0].as_str().is_some_and(|t| t.contains("127.0.0.1:1")), "{collector}");
    assert!(!collector["lost"].is_null() && !collector["remedy"].is_null(), "{collector}");
    let shown = doctor(Some("127.0.0.1:1"), &[]).must_exit(3);
    let line = shown.text().lines().find(|line| line.contains(" collector ")).expect("a line of it");
    assert!(line.starts_with("TROUBLE"), "{line}");
}

#[test]
fn a_state_directory_without_an_enrolment_is_trouble() {
    let namespace = IpcNamespace::new();
    let empty = tempfile::tempdir().expect("a temporary directory");
    let mut command = namespace.command(highwater_tests::binaries::agent());
    command.args(["doctor", "--json", "--state-dir"]).arg(empty.path().join("none")).env("HIGHWATER_TRACE", "off");
    let told = answer(command).must_exit(3);
    assert_eq!(check(&told, "enrolment")["verdict"], "trouble");
    assert_eq!(check(&told, "trace events")["verdict"], "note");
}
