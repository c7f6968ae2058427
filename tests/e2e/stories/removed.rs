//! A "disappearing semaphore array": the moment it went, and who removed it.

use highwater_tests::process::run;
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

    let mut remove = stage.namespace.command("setpriv");
    remove.args(["--reuid", "1001", "--regid", "1001", "--clear-groups", "ipcrm", "-s", &id.to_string()]);
    run(remove);
    let removed = stage.event("it is seen to be gone", "removed", of_it);
    fields(&removed, &[("by.comm", json!("ipcrm")), ("by.source", json!("trace"))]);
    // It lives for a millisecond: its name is in the kernel's own memory, its uid only if it was asked in time.
    let uid = &removed["by"]["uid"];
    assert!(*uid == 1001 || uid.is_null(), "{removed}");
    let by = if uid.is_null() { "by ipcrm" } else { "by uid 1001 ipcrm" };
    let pid = removed["by"]["pid"].as_u64().expect("a pid");
    let shown = stage.shown(&["timeline", "job-9", "--kind", "created,removed"]);
    let told = |kind: &str, who: &str| shown.lines().any(|l| l.contains(kind) && l.ends_with(who));
    assert!(told("created", &format!("by uid 1001 pgcopydb pid {}", job.pid())), "{shown}");
    assert!(told("removed", &format!("{by} pid {pid}")), "{shown}");

    let gone =
        stage.shown(&["ipcs", "job-9", "-s", "-i", &id.to_string(), "--at", created["at"].as_str().expect("a time")]);
    assert!(gone.contains(&format!("by uid 1001 pgcopydb pid {}\n", job.pid())), "{gone}");
    assert!(gone.contains(&format!("{by} pid {pid}\n")), "{gone}");
}
