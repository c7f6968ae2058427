//! A pod whose database is killed again and again: each restart leaves a segment in the namespace that its pause process
//! holds, where `ipcs` on the host shows nothing.

use highwater_tests::answers::text;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, until, until_some};
use serde_json::{Value, json};

use super::stage::{Stage, fields};

const SIZE: u64 = 136 << 20;

#[test]
fn segments_that_a_pod_s_restarts_left_are_shown_inside_it_and_go_with_it() {
    let stage = Stage::prepared("node-4", &[("HIGHWATER_NAMESPACES", "all")], |_| {});
    let cli = stage.cli();
    let pause = StandIn::in_its_own(&stage.namespace, "pause", 65_535);
    let (inode, pod) = (pause.inode(), pause.inode().to_string());
    for _ in 0..8 {
        let mut pgpool = pause.beside("pgpool", 1_001);
        assert!(pgpool.call(&format!("create-shm private {SIZE}")) >= 0);
        pgpool.kill();
    }
    let inside = |of: &str| {
        let answer = cli.run(&["ipcs", "node-4", "--namespace", of, "--json"]);
        (answer.code == 0).then(|| answer.json()["namespaces"][0].clone())
    };
    // A look between its unshare and its taking of the name finds another one; a name is asked anew with each look at all
    // processes, at least every ten seconds.
    let seen = until_some("all of them are seen, in what is called pause", PATIENCE, || {
        inside(&pod).filter(|pod| pod["shm"].as_array().is_some_and(|list| list.len() == 8) && pod["name"] == "pause")
    });
    assert_eq!(text(&seen, "named_by"), "comm", "{seen}");
    for segment in seen["shm"].as_array().expect("a list") {
        fields(segment, &[("nattch", json!(0)), ("uid", json!(1_001)), ("size_u64", json!(SIZE.to_string()))]);
    }
    // As the real one prints it inside, found by inode among all of the machine.
    let mut theirs = std::process::Command::new("nsenter");
    theirs.args(["--ipc", "--target", &pause.pid().to_string(), "--", "ipcs", "-m"]).env("LC_ALL", "C");
    let theirs = highwater_tests::process::stdout_of(theirs);
    assert_eq!(cli.run(&["ipcs", "node-4", "-m", "--namespace", &pod]).must_succeed().text(), theirs);
    let all = stage.shown(&["ipcs", "node-4", "-m", "--namespace", "all"]);
    assert!(all.contains(&format!("namespace {pod} pause\n{theirs}")), "{all}");
    assert!(!stage.shown(&["ipcs", "node-4", "-m"]).contains(&SIZE.to_string()), "not in the host's own");

    // The pod goes, and the memory with it.
    pause.kill();
    let gone = until_some("it is told gone", PATIENCE, || {
        let timeline = cli.json(&["timeline", "node-4", "--kind", "namespace_gone"]);
        let events = timeline["events"].as_array().expect("a list").clone();
        events.into_iter().find(|event| event["namespace"] == inode)
    });
    fields(
        &gone,
        &[
            ("namespace_name", json!("pause")),
            ("detail.named_by", json!("comm")),
            ("detail.lost", json!({"sem": 0, "shm": 8, "msg": 0})),
            ("detail.bytes_u64", json!((8 * SIZE).to_string())),
            ("by", json!(null)),
        ],
    );
    until("nothing was removed by anybody", PATIENCE, || {
        let timeline = cli.json(&["timeline", "node-4", "--kind", "removed"]);
        let events = timeline["events"].as_array().expect("a list");
        !events.iter().any(|event: &Value| event["namespace"] == inode)
    });
    stage.shown(&["timeline", "node-4", "--kind", "namespace_appeared,namespace_gone"]);
}
