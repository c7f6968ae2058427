//! Tens of thousands of lines in `ipcs -s`, and "Configuration Failed": who holds them, and which may go.

use highwater_tests::answers::text;
use highwater_tests::process::stdout_of;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, until, until_some};
use serde_json::{Value, json};

use super::stage::{Stage, arrays, fields};

/// What apache leaked; more than one command names.
const LEAKED: usize = 1_200;

#[test]
fn thousands_of_leaked_arrays_are_blamed_on_their_owner_and_removed_by_exact_ids() {
    let stage = Stage::prepared("web-17", &[("HIGHWATER_ORPHAN_WAIT", "2s")], |_| {});
    let cli = stage.cli();
    let mut zabbix = StandIn::new(&stage.namespace, "zabbix_server", 120);
    let held: Vec<i32> = (1..=11).map(|key| zabbix.call(&format!("create-sem {key} 2"))).collect();
    // A uid and a name of its own: a process of another test must not hold what this one left.
    let mut httpd = StandIn::new(&stage.namespace, "leaky-httpd", 4_801);
    assert_eq!(httpd.call(&format!("fill-used {LEAKED}")), 0);
    // It leaked for months: each array was seen with the living process that used it.
    stage.knows_whose("leaky-httpd", LEAKED);
    httpd.kill();

    let blame = until_some("all that httpd left is certain", PATIENCE, || {
        let blame = cli.json(&["blame", "web-17"]);
        (blame["owners"][0]["orphans_certain"] == LEAKED).then_some(blame)
    });
    fields(
        &blame,
        &[
            ("owners.0.uid", json!(4_801)),
            ("owners.0.comm", json!("leaky-httpd")),
            ("owners.0.arrays_after", json!(LEAKED)),
            ("owners.0.orphans", json!(LEAKED)),
            ("owners.1.uid", json!(120)),
            ("owners.1.arrays_after", json!(held.len())),
            ("owners.1.orphans", json!(0)),
        ],
    );
    let shown = stage.shown(&["blame", "web-17"]);
    assert!(shown.contains(&format!("remove 500 of the {LEAKED} arrays of uid 4801 that nobody holds")), "{shown}");

    // Each answer names the next ones, by exact ids, until none is left; nobody else's goes.
    for left in [LEAKED - 500, LEAKED - 1_000, 0] {
        let blame = until_some("an answer that names what is still there", PATIENCE, || {
            let blame = cli.json(&["blame", "web-17"]);
            removal(&blame).map(str::to_owned)
        });
        let mut shell = stage.namespace.command("sh");
        shell.args(["-c", &blame]);
        stdout_of(shell);
        until("those are gone", PATIENCE, || arrays(&stage.namespace) == left + held.len());
        until("the next answer knows that", PATIENCE, || {
            let now = cli.json(&["ipcs", "web-17", "-s"]);
            now["namespaces"][0]["sem"].as_array().is_some_and(|list| list.len() == left + held.len())
        });
    }
    let ids: Vec<Value> = cli.json(&["ipcs", "web-17", "-s"])["namespaces"][0]["sem"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["semid"].clone())
        .collect();
    assert_eq!(ids, held.iter().map(|id| json!(id)).collect::<Vec<_>>());
}

/// The command of the answer that removes arrays.
fn removal(blame: &Value) -> Option<&str> {
    let steps = blame["remedy"].as_array()?;
    steps
        .iter()
        .filter(|step| !step["command"].is_null())
        .map(|step| text(step, "command"))
        .find(|c| c.contains("ipcrm"))
}
