//! "No space left on device: AH00023: Couldn't create the mpm-accept mutex", to its end: a real Apache that was killed too
//! often is refused, the leak has a name, and what is certainly nobody's can be removed.

use std::process::Command;

use highwater_tests::answers::objects;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::wait::{PATIENCE, now_ms, until, until_some};
use serde_json::{Value, json};

use super::stage::{Stage, arrays, fields};
use crate::apache::Apache;

/// How long an array must look abandoned here.
const WAIT_MS: i64 = 3_000;

#[test]
fn a_killed_apache_fills_the_limit_is_refused_and_starts_again_once_its_orphans_are_removed() {
    let low = |namespace: &IpcNamespace| drop(namespace.shell("echo '32000 1024000000 500 12' > /proc/sys/kernel/sem"));
    let stage = Stage::prepared("web-17", &[("HIGHWATER_ORPHAN_WAIT", "3s")], low);
    let machine = stage.namespace.processes();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let apache = Apache { namespace: &machine, directory: directory.path() };

    while_the_master_is_stopped_nothing_is_certain(&stage, &apache);
    let mut killed = 1;
    let log = loop {
        match apache.try_start() {
            Ok(()) => {
                // What lives long enough to be seen is known by name when it is dead.
                let held = arrays(&machine);
                until("its arrays are seen", PATIENCE, || seen(&stage).len() >= held);
                apache.kill_all();
                killed += 1;
            }
            Err(log) => break log,
        }
        assert!(killed < 40, "SEMMNI is 12, and each leaves an array");
    };
    assert!(log.contains("No space left on device: AH00023"), "{log}");
    // The mutexes that it made before the one it was refused are its own to remove, so some room may be left.
    let left = arrays(&machine);

    the_refused_one_is_named(&stage);
    let blame = until_some("all of it is certain", PATIENCE, || {
        let blame = stage.cli().json(&["blame", "web-17"]);
        (blame["owners"][0]["orphans_certain"] == left).then_some(blame)
    });
    fields(
        &blame["owners"][0],
        &[
            ("kind", json!("sem")),
            ("uid", json!(33)),
            ("user", json!("www-data")),
            ("comm", json!("apache2")),
            ("net", json!(left)),
            ("orphans", json!(left)),
        ],
    );
    stage.shown(&["blame", "web-17"]);
    let steps = blame["remedy"].as_array().expect("steps");
    assert!(
        steps[0]["command"].as_str().is_some_and(|c| c.starts_with("sysctl -w kernel.sem=")),
        "raise first: {blame}"
    );
    let removal =
        steps.iter().filter_map(|step| step["command"].as_str()).find(|c| c.contains("ipcrm")).expect("ipcrm");

    it_removes_those_and_no_other(&stage, &machine, removal);
    stage.namespace.shell("echo '32000 1024000000 500 12' > /proc/sys/kernel/sem");
    assert_eq!(apache.try_start(), Ok(()));
    apache.stop();
}

/// Apache's children are dead (zombies: a stopped master waits for nobody), and the master still has its mutex.
fn while_the_master_is_stopped_nothing_is_certain(stage: &Stage, apache: &Apache<'_>) {
    assert_eq!(apache.try_start(), Ok(()));
    let machine = apache.namespace;
    let held = arrays(machine);
    assert!(held > 0);
    until("its arrays are seen", PATIENCE, || seen(stage).len() >= held);
    let master = machine.shell(&format!("cat {}/httpd.pid", apache.directory.display()));
    let master = master.trim();
    machine.shell(&format!("kill -STOP {master}; kill -KILL $(ps -o pid= --ppid {master})"));
    let began = now_ms();
    until("three waiting periods are over", PATIENCE, || {
        let rows = seen(stage);
        assert!(rows.len() >= held && rows.iter().all(|row| row["orphan"]["grade"] != "certain"), "{rows:?}");
        now_ms() > began + 3 * WAIT_MS
    });
    stage.shown(&["ipcs", "web-17", "-s"]);
    machine.shell(&format!("kill -CONT {master}"));
    apache.kill_all();
}

fn the_refused_one_is_named(stage: &Stage) {
    let refused = stage.event("the refusal is told", "refused", |e| e["by"]["comm"] == "apache2");
    fields(
        &refused,
        &[
            ("detail.call", json!("semget")),
            ("detail.errno.name", json!("ENOSPC")),
            ("detail.resource", json!("SEMMNI")),
            ("detail.used_u64", json!("12")),
            ("detail.limit_u64", json!("12")),
            ("by.source", json!("trace")),
        ],
    );
    let pid = refused["by"]["pid"].as_u64().expect("its pid");
    let shown = stage.shown(&["timeline", "web-17", "--kind", "refused"]);
    assert!(shown.contains(&format!("apache2 (pid {pid}) refused semget: SEMMNI 12/12")), "{shown}");
}

fn it_removes_those_and_no_other(stage: &Stage, machine: &IpcNamespace, removal: &str) {
    // Somebody else's array stays.
    stage.namespace.shell("echo '32000 1024000000 500 13' > /proc/sys/kernel/sem");
    let other = stage.namespace.create("create-sem 0x77 1");
    // Another test may have a process of that uid for a while: then the command does nothing, says so by its exit code,
    // and can be run again.
    until("the command removed what it names", 4 * PATIENCE, || {
        let mut shell: Command = stage.namespace.command("sh");
        shell.args(["-c", removal]);
        let done = shell.output().expect("a shell");
        assert!(done.status.success() || done.stdout.is_empty(), "{done:?}");
        arrays(machine) == 1
    });
    assert_eq!(machine.shell("ipcs -s | grep -c 0x00000077").trim(), "1", "{other} is still there");
}

/// The arrays as the collector knows them.
fn seen(stage: &Stage) -> Vec<Value> {
    let now = stage.cli().json(&["ipcs", "web-17"]);
    objects(&now, "sem").to_vec()
}
