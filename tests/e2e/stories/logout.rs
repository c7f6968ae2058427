//! Databases that die when somebody logs out: systemd-logind removes what a user's last session leaves. Which hosts are
//! next, and afterwards who it was.

use highwater_tests::answers::{host, instant, text};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::{Value, json};

use super::stage::{Stage, fields};

/// A host whose init is systemd, with RemoveIPC=yes.
fn removes_ipc(namespace: &IpcNamespace) {
    namespace.shell(
        "mount -t tmpfs highwater-run /run
         mkdir -p /run/systemd/system /etc/systemd
         mount -t tmpfs highwater-logind /etc/systemd
         printf '[Login]\\nRemoveIPC=yes\\n' > /etc/systemd/logind.conf",
    );
}

#[test]
fn a_host_whose_next_logout_removes_objects_is_listed_and_the_removal_names_logind() {
    let stage = Stage::prepared("ora-2", &[], removes_ipc);
    let cli = stage.cli();
    assert_eq!(cli.run(&["hosts", "--at-risk", "removeipc"]).must_succeed().text(), "no host is at risk: removeipc\n");
    let safe = instant(now_ms());

    let mut oracle = StandIn::new(&stage.namespace, "oracle", 54_321);
    let arrays: Vec<i32> = (0..9).map(|key| oracle.call(&format!("create-sem {} 4", key + 1))).collect();
    let segments: Vec<i32> = (0..3).map(|key| oracle.call(&format!("create-shm {} 8192", key + 1))).collect();
    let raised = stage.host_event("the risk is told", "risk_raised");
    fields(&raised, &[("detail.risk.kind", json!("removeipc")), ("subject", json!(null)), ("by", json!(null))]);
    assert!(text(&raised["detail"]["risk"], "why").contains("uid 54321"), "{raised}");
    assert!(text(&raised["detail"]["risk"], "remedy").contains("RemoveIPC=no"), "{raised}");

    let listed = cli.json(&["hosts", "--at-risk", "removeipc"]);
    let found = host(&listed, "ora-2").expect("it is listed");
    assert_eq!(found["at_risk"].as_array().map(Vec::len), Some(1), "{listed}");
    cli.run(&["hosts", "--at-risk", "removeipc", "--exit-code"]).must_exit(3);
    let shown = stage.shown(&["hosts", "--at-risk", "removeipc"]);
    assert!(shown.starts_with("1 host is at risk: 1 removeipc\n\nora-2  "), "{shown}");
    // The same question of a moment before: then it was not.
    let then = cli.json(&["hosts", "--at-risk", "removeipc", "--at", &safe]);
    assert!(host(&then, "ora-2").is_none(), "{then}");

    until("who runs as their owner is known", PATIENCE, || {
        let owners = &cli.json(&["ipcs", "ora-2"])["namespaces"][0]["owners"];
        owners.as_array().is_some_and(|list| list.iter().any(|o| o["uid"] == 54_321 && o["comms"][0] == "oracle"))
    });

    let mut logind = StandIn::new(&stage.namespace, "systemd-logind", 0);
    for id in &arrays {
        assert_eq!(logind.call(&format!("remove sem {id}")), 0);
    }
    for id in &segments {
        assert_eq!(logind.call(&format!("remove shm {id}")), 0);
    }
    until("each removal names logind", PATIENCE, || {
        let timeline = cli.json(&["timeline", "ora-2", "--kind", "removed", "--since", "-1h"]);
        let events = timeline["events"].as_array().expect("a list");
        let of_it = |e: &&Value| e["own_namespace"] == true && e["by"]["comm"] == "systemd-logind";
        let removed: Vec<&Value> = events.iter().filter(of_it).collect();
        assert!(removed.iter().all(|e| e["by"]["pid"] == logind.pid() && e["by"]["uid"] == 0), "{timeline}");
        removed.len() == arrays.len() + segments.len()
    });
    stage.host_event("the risk is over", "risk_cleared");
    let listed = cli.json(&["hosts", "--at-risk", "removeipc"]);
    assert!(host(&listed, "ora-2").is_none(), "{listed}");
    let shown = stage.shown(&["timeline", "ora-2", "--kind", "removed,risk_raised,risk_cleared", "--since", "-1h"]);
    let by = format!("by uid 0 systemd-logind pid {}", logind.pid());
    let told = |line: &str| line.contains(&by) && line.contains("  while oracle runs as its owner");
    assert_eq!(shown.lines().filter(|line| told(line)).count(), arrays.len() + segments.len(), "{shown}");
}
