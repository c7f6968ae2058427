//! A "disappearing semaphore array": the moment it went, and who removed it.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use highwater_tests::stand_in::StandIn;
use serde_json::json;

use super::stage::{Stage, fields};

#[test]
fn an_array_that_somebody_removed_names_its_maker_and_its_remover() {
    let stage = Stage::new("job-9");
    let mut job = StandIn::new(&stage.namespace, "pgcopydb", 1001);
    let id = job.call("create-sem 0x51 1");
    let of_it = |event: &serde_json::Value| event["subject"]["id"] == id;
    let created = stage.event("it is seen", "created", of_it);
    fields(&created, &[("by.comm", json!("pgcopydb")), ("by.pid", json!(job.pid())), ("by.source", json!("trace"))]);

    // A shell that is called cron runs it, and does not wait for it until it was seen: whoever ended and was not waited
    // for can still be asked who it was.
    let folder = tempfile::tempdir().expect("a directory");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("its mode");
    let cron = folder.path().join("cron");
    stage.namespace.command("cp").arg("/bin/sh").arg(&cron).status().expect("cp");
    let mut remove = stage.namespace.command("setpriv");
    remove.args(["--reuid", "1001", "--regid", "1001", "--clear-groups"]).arg(&cron).arg("-c");
    remove.arg(format!("exec 3<&0; ipcrm -s {id} & echo $!; read x <&3")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut remover = remove.spawn().expect("setpriv");
    let mut pid = String::new();
    BufReader::new(remover.stdout.take().expect("its output")).read_line(&mut pid).expect("a pid");
    let pid: i32 = pid.trim().parse().expect("a pid");
    let removed = stage.event("it is seen to be gone", "removed", of_it);
    drop(remover.stdin.take());
    remover.wait().expect("its end");
    fields(&removed, &[("by.comm", json!("ipcrm")), ("by.pid", json!(pid)), ("by.uid", json!(1001))]);
    fields(&removed, &[("by.source", json!("trace")), ("by.parent", json!("cron"))]);
    let by = "by uid 1001 ipcrm";
    let shown = stage.shown(&["timeline", "job-9", "--kind", "created,removed"]);
    let told = |kind: &str, who: &str| shown.lines().any(|l| l.contains(kind) && l.contains(who));
    assert!(told("created", &format!("by uid 1001 pgcopydb pid {}", job.pid())), "{shown}");
    assert!(told("removed", &format!("{by} pid {pid} of cron")), "{shown}");

    let gone =
        stage.shown(&["ipcs", "job-9", "-s", "-i", &id.to_string(), "--at", created["at"].as_str().expect("a time")]);
    assert!(gone.contains(&format!("by uid 1001 pgcopydb pid {}", job.pid())), "{gone}");
    assert!(gone.contains(&format!("{by} pid {pid} of cron\n")), "{gone}");
}
