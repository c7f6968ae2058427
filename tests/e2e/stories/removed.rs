//! A "disappearing semaphore array": the moment it went, and who removed it.

use std::fs;

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
    // Not waited for until it was seen: whoever ended and was not waited for can still be asked who it was.
    let mut remover = remove.spawn().expect("setpriv");
    let removed = stage.event("it is seen to be gone", "removed", of_it);
    let pid = remover.id();
    assert!(remover.wait().expect("its end").success());
    // This process is to it what cron is to a job.
    let cron = fs::read_to_string("/proc/self/comm").expect("a name");
    let cron = cron.trim_end();
    fields(&removed, &[("by.comm", json!("ipcrm")), ("by.pid", json!(pid)), ("by.uid", json!(1001))]);
    fields(&removed, &[("by.source", json!("trace")), ("by.parent", json!(cron))]);
    let by = "by uid 1001 ipcrm";
    let shown = stage.shown(&["timeline", "job-9", "--kind", "created,removed"]);
    let told = |kind: &str, who: &str| shown.lines().any(|l| l.contains(kind) && l.contains(who));
    assert!(told("created", &format!("by uid 1001 pgcopydb pid {}", job.pid())), "{shown}");
    assert!(told("removed", &format!("{by} pid {pid} of {cron}")), "{shown}");

    let gone =
        stage.shown(&["ipcs", "job-9", "-s", "-i", &id.to_string(), "--at", created["at"].as_str().expect("a time")]);
    assert!(gone.contains(&format!("by uid 1001 pgcopydb pid {}", job.pid())), "{gone}");
    assert!(gone.contains(&format!("{by} pid {pid} of {cron}\n")), "{gone}");
}
