//! S11: systemd-logind removes what a login user holds as the last session ends; whom it will hit is known before, and
//! who did it after. The remover is a stand-in by name; configuration and accounts are fixtures.

use std::io::Write as _;
use std::process::Stdio;

use highwater_tests::agent::Agent;
use highwater_tests::answers::{host, text};
use highwater_tests::binaries;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until, until_some};
use serde_json::Value;

/// The user that holds objects, as a database's.
const ORACLE: u32 = 54_321;

/// A host with systemd as its init, a user `oracle`, and that `logind.conf`.
fn systemd_host(name: &str, logind_conf: &str) -> IpcNamespace {
    let namespace = IpcNamespace::named(name);
    namespace.shell(&format!(
        "mkdir -p /run/systemd /etc/systemd
         mount -t tmpfs fixture /run/systemd; mkdir /run/systemd/system
         mount -t tmpfs fixture /etc/systemd; printf '{logind_conf}' > /etc/systemd/logind.conf
         cat /etc/passwd > /run/systemd/passwd; echo oracle:x:{ORACLE}:{ORACLE}::/:/bin/sh >> /run/systemd/passwd
         mount --bind /run/systemd/passwd /etc/passwd
         mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing"
    ));
    namespace
}

/// Nine arrays and three segments of that user; their ids.
fn held_by(namespace: &IpcNamespace, uid: u32) -> (Vec<i32>, Vec<i32>) {
    let make = |line: &str, kind: &str| {
        let id = namespace.create(line);
        namespace.tool(&format!("chown {kind} {id} {uid} {uid}"));
        id
    };
    let sem = (0..9).map(|_| make("create-sem private 4", "sem")).collect();
    let shm = (0..3).map(|_| make("create-shm private 4096", "shm")).collect();
    (sem, shm)
}

#[test]
fn a_login_users_objects_are_at_risk_and_their_removal_names_logind() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let ora = systemd_host("ora-2", "[Login]\\nRemoveIPC=yes\\n");
    let (sem, shm) = held_by(&ora, ORACLE);
    // The same user where it is off, and a system user where it is on, are safe.
    let off = systemd_host("ora-off", "[Login]\\nRemoveIPC=no\\n");
    held_by(&off, ORACLE);
    let system = systemd_host("ora-system", "[Login]\\n");
    held_by(&system, 33);
    let _agents = [&ora, &off, &system].map(|namespace| Agent::running(&up, namespace));

    let question = ["hosts", "--at-risk", "removeipc"];
    until("the risk is told", PATIENCE, || host(&cli.json(&question), "ora-2").is_some());
    let listed = cli.json(&question);
    assert!(host(&listed, "ora-off").is_none() && host(&listed, "ora-system").is_none(), "{listed}");
    let risk = &host(&listed, "ora-2").expect("listed above")["at_risk"][0];
    assert_eq!(risk["kind"], "removeipc");
    let why = text(risk, "why");
    assert!(
        why.starts_with("uid 54321 (oracle) owns semaphore arrays, shared memory segments; systemd-logind"),
        "{why}"
    );
    assert!(why.ends_with("RemoveIPC=yes in /etc/systemd/logind.conf"), "{why}");
    assert!(text(risk, "remedy").contains("echo RemoveIPC=no"), "{risk}");

    // The last session ends.
    let logind = tempfile::tempdir().expect("a temporary directory");
    let program = logind.path().join("systemd-logind");
    binaries::copy(binaries::ipc_tool(), &program);
    let mut lines: Vec<String> = sem.iter().map(|id| format!("remove sem {id}")).collect();
    lines.extend(shm.iter().map(|id| format!("remove shm {id}")));
    let mut session_end = ora.command(&program).arg("script").stdin(Stdio::piped()).spawn().expect("the stand-in");
    let mut input = session_end.stdin.take().expect("a pipe to it");
    input.write_all((lines.join("\n") + "\n").as_bytes()).expect("it reads");

    let removed = until_some("every removal is told", PATIENCE, || {
        let told = cli.json(&["timeline", "ora-2", "--kind", "removed", "--since", "-1h"]);
        let events = told["events"].as_array().expect("a list").clone();
        (events.len() >= 12).then_some(events)
    });
    assert_eq!(removed.len(), 12, "{removed:?}");
    for (kind, ids) in [("sem", &sem), ("shm", &shm)] {
        let of_kind = removed.iter().filter(|event| event["subject"]["kind"] == kind);
        let mut told: Vec<i64> = of_kind.filter_map(|event| event["subject"]["id"].as_i64()).collect();
        told.sort_unstable();
        let mut ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
        ids.sort_unstable();
        assert_eq!(told, ids, "{kind}");
    }
    // It lives on, as logind does, until here: who it is can be asked.
    drop(input);
    assert!(session_end.wait().expect("the stand-in").success());
    for event in &removed {
        assert_eq!((&event["by"]["comm"], &event["by"]["uid"]), (&Value::from("systemd-logind"), &Value::from(0)));
        assert!(event["by"]["pid"].as_i64().is_some_and(|pid| pid > 1), "{event}");
        assert_eq!(event["by"]["source"], "trace");
    }
    let shown = cli.run(&["timeline", "ora-2", "--kind", "removed", "--since", "-1h"]).must_succeed();
    assert!(shown.text().contains("systemd-logind"), "{}", shown.text());
    until("nothing is left to be at risk", PATIENCE, || host(&cli.json(&question), "ora-2").is_none());
}
