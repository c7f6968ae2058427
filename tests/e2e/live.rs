//! `highwater up` as a newcomer meets it: the screen shows what `ipcs` shows, now and for the past.

use highwater_tests::agent::host_name;
use highwater_tests::answers::{instant, text};
use highwater_tests::cli::{Answer, answer};
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::process::stdout_of;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::Value;

#[test]
fn an_array_is_seen_goes_and_is_still_there_in_the_past() {
    let namespace = IpcNamespace::named("live");
    let options = Options { agent: true, inside: Some(&namespace), interval: Some("200ms"), ..Options::default() };
    let mut up = Up::start(&options);
    let began = instant(now_ms());
    let made = namespace.shell("LC_ALL=C ipcmk -S 4");
    let id: i64 = made.split_whitespace().next_back().and_then(|word| word.parse().ok()).expect("an id");
    until("now is as ipcs says", PATIENCE, || same_as_ipcs(&up, &namespace, "-s"));
    for flag in ["-q", "-u", "-l"] {
        until(&format!("{flag} is as ipcs says"), PATIENCE, || same_as_ipcs(&up, &namespace, flag));
    }
    // The private PostgreSQL's own segment: processes come and go.
    until("-m is as ipcs says", PATIENCE, || {
        without_nattch(&here(&up, &namespace, &["ipcs", "-m"])) == without_nattch(&theirs(&namespace, "-m"))
    });

    let between = instant(now_ms());
    namespace.shell(&format!("ipcrm -s {id}"));
    until("it is gone from now", PATIENCE, || same_as_ipcs(&up, &namespace, "-s"));
    let gone = here(&up, &namespace, &["ipcs", "-s"]);
    assert!(!lists(&gone, id), "{gone}");
    let past = here(&up, &namespace, &["ipcs", "-s", "--at", &between]);
    assert!(lists(&past, id), "{past}");

    let timeline = json(&up, &namespace, &["timeline", "--since", &began, "--kind", "created,removed"]);
    let of_it: Vec<&Value> = events(&timeline).filter(|e| e["subject"]["id"] == id).collect();
    assert_eq!(of_it.iter().map(|e| text(e, "kind")).collect::<Vec<_>>(), ["created", "removed"], "{timeline}");
    assert_eq!((&of_it[0]["by"]["uid"], text(&of_it[0]["by"], "user")), (&Value::from(0), "root"), "{timeline}");
    let diff = json(&up, &namespace, &["diff", "--from", &between, "--to", "now"]);
    let removed = diff["objects"].as_array().expect("a list");
    assert_eq!(removed.len(), 1, "{diff}");
    assert_eq!(text(&removed[0], "change"), "removed", "{diff}");
    assert_eq!(
        (&removed[0]["before"]["uid"], text(&removed[0]["before"], "user")),
        (&Value::from(0), "root"),
        "{diff}"
    );

    // A second `up` finds the first one's history.
    assert!(up.stop().success(), "{}", up.output());
    up.start_again(&options);
    assert!(lists(&here(&up, &namespace, &["ipcs", "-s", "--at", &between]), id));
    assert_eq!(json(&up, &namespace, &["hosts"])["hosts"].as_array().expect("a list").len(), 1, "the same host");
    assert_eq!(host_name(&namespace), "live");

    // And so does one after a kill that left its PostgreSQL running.
    up.kill();
    up.start_again(&options);
    assert!(lists(&here(&up, &namespace, &["ipcs", "-s", "--at", &between]), id));
    assert!(up.stop().success(), "{}", up.output());
}

fn same_as_ipcs(up: &Up, namespace: &IpcNamespace, flag: &str) -> bool {
    here(up, namespace, &["ipcs", flag]) == theirs(namespace, flag)
}

/// What the real `ipcs` prints in the namespace.
fn theirs(namespace: &IpcNamespace, flag: &str) -> String {
    let mut command = namespace.command("ipcs");
    command.arg(flag).env("LC_ALL", "C").env("TZ", "UTC");
    stdout_of(command)
}

/// `highwater ARGS` in the namespace, where "this host" is the one that `up` watches.
fn here(up: &Up, namespace: &IpcNamespace, args: &[&str]) -> String {
    ask(up, namespace, args).must_succeed().text().to_owned()
}

fn json(up: &Up, namespace: &IpcNamespace, args: &[&str]) -> Value {
    ask(up, namespace, &[args, &["--json"]].concat()).must_succeed().json()
}

fn ask(up: &Up, namespace: &IpcNamespace, args: &[&str]) -> Answer {
    let mut command = namespace.command(highwater_tests::binaries::highwater());
    up.cli().environment(&mut command);
    command.args(args);
    answer(command)
}

fn lists(printed: &str, id: i64) -> bool {
    printed.lines().any(|line| line.split_whitespace().nth(1) == Some(&id.to_string()))
}

fn events(timeline: &Value) -> impl Iterator<Item = &Value> {
    timeline["events"].as_array().expect("a list").iter()
}

/// Rows are `key shmid owner perms bytes nattch status`.
fn without_nattch(printed: &str) -> Vec<Vec<String>> {
    let row = |line: &str| {
        let words = line.split_whitespace().enumerate().filter(|(n, _)| !(line.starts_with("0x") && *n == 5));
        words.map(|(_, word)| word.to_owned()).collect()
    };
    printed.lines().map(row).collect()
}
