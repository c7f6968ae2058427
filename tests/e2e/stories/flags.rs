//! A limit that runs out is seen before anybody is refused: which one, who, what to do; and it is over when room is made.

use highwater_tests::answers::text;
use highwater_tests::process::stdout_of;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, until, until_some};
use serde_json::{Value, json};

use super::stage::{Stage, arrays, fields};

/// The evaluator looks some 15 s after use has moved.
const SOON: std::time::Duration = PATIENCE.saturating_mul(4);

fn flags(stage: &Stage, args: &[&str]) -> Vec<Value> {
    let cli = stage.cli();
    let answer = cli.json(&[&["flags"], args].concat());
    let all = answer["flags"].as_array().expect("a list").clone();
    all.into_iter().filter(|flag| flag["namespace"] == stage.namespace.inode()).collect()
}

/// A flag for 37 of 40 arrays: in a list, whole, and for people.
fn shows_what_was_used(listed: &Value, whole: &Value, shown: &str) {
    assert!(listed["samples"].is_null(), "only one flag has them: {listed}");
    assert!(shown.contains("  samples  "), "{shown}");
    let samples = whole["samples"].as_array().expect("a list");
    assert!((1..=48).contains(&samples.len()), "{whole}");
    let last = samples.last().expect("a sample");
    fields(last, &[("used_u64", json!("37")), ("limit_u64", json!("40"))]);
}

#[test]
fn a_leak_is_flagged_before_anybody_is_refused_with_its_owner_and_cleared_after_the_clean_up() {
    let stage = Stage::prepared("web-9", &[("HIGHWATER_ORPHAN_WAIT", "2s")], |_| {});
    stage.namespace.shell("echo '250 32000 32 40' > /proc/sys/kernel/sem");
    let cli = stage.cli();
    let mut httpd = StandIn::new(&stage.namespace, "flag-httpd", 48_009);
    assert_eq!(httpd.call("fill-used 37"), 0);
    stage.knows_whose("flag-httpd", 37);
    httpd.kill();
    until("they are graded", PATIENCE, || cli.json(&["blame", "web-9"])["owners"][0]["orphans_certain"] == 37);
    let flag = until_some("it is flagged, with what nobody holds", SOON, || {
        let mut flags = flags(&stage, &["web-9"]).into_iter();
        flags.find(|f| f["resource"] == "SEMMNI" && f["owner"]["orphans"] == 37)
    });
    fields(
        &flag,
        &[
            ("host", json!("web-9")),
            ("state", json!("open")),
            ("cleared_at", json!(null)),
            ("used_u64", json!("37")),
            ("limit_u64", json!("40")),
            ("owner.uid", json!(48_009)),
            ("owner.comm", json!("flag-httpd")),
            ("owner.arrays", json!(37)),
        ],
    );
    let refused = cli.json(&["timeline", "web-9", "--kind", "refused"]);
    let own = |event: &&Value| event["own_namespace"] == true;
    assert_eq!(refused["events"].as_array().expect("a list").iter().filter(own).count(), 0, "nobody was refused yet");
    assert_eq!(cli.run(&["flags", "web-9", "--exit-code"]).code, 3);
    let id = text(&flag, "id");
    let shown = stage.shown(&["flag", "show", id]);
    assert!(shown.contains("37 of 40 arrays used"), "{shown}");
    assert!(shown.contains("1. raise SEMMNI from 40"), "raising comes first: {shown}");
    shows_what_was_used(&flag, &cli.json(&["flag", "show", id]), &shown);
    let raised = stage.event("the timeline has it", "flag_raised", |event| event["detail"]["flag"]["id"] == id);
    assert_eq!(raised["detail"]["flag"]["resource"], "SEMMNI");

    // Somebody knows; it stays up.
    let known = cli.json(&["flag", "ack", id, "--note", "restart planned"]);
    fields(&known, &[("state", json!("acknowledged")), ("note.note", json!("restart planned"))]);
    cli.json(&["flag", "silence", "web-9", "--for", "1h", "--note", "patching"]);
    assert_eq!(cli.json(&["flag", "show", id])["state"], "silenced");
    cli.json(&["flag", "silence", "web-9", "--for", "0s", "--note", "done"]);
    assert_eq!(cli.json(&["flag", "show", id])["state"], "acknowledged");

    // What the flag says to do, done.
    let whole = cli.json(&["flag", "show", id]);
    let steps = whole["remedy"].as_array().expect("a list");
    let removal =
        steps.iter().find(|s| s["step"].as_str().is_some_and(|s| s.starts_with("remove"))).expect("a removal");
    let mut shell = stage.namespace.command("sh");
    shell.args(["-c", text(removal, "command")]);
    stdout_of(shell);
    assert_eq!(arrays(&stage.namespace), 0);
    let over = until_some("it is over", SOON, || {
        let flags = flags(&stage, &["web-9", "--all"]);
        flags.into_iter().find(|f| f["id"] == id && f["state"] == "cleared")
    });
    assert!(over["cleared_at"].is_string(), "{over}");
    let whole = cli.json(&["flag", "show", id]);
    let what: Vec<&str> = whole["events"].as_array().expect("a list").iter().map(|e| text(e, "what")).collect();
    assert_eq!((what.first(), what.last()), (Some(&"raised"), Some(&"cleared")), "{whole}");
    let samples = whole["samples"].as_array().expect("a list");
    let last = samples.last().expect("a sample");
    fields(last, &[("used_u64", whole["used_u64"].clone()), ("at", over["cleared_at"].clone())]);
    assert!(samples.iter().any(|sample| sample["used_u64"] == "37"), "the highest stays: {whole}");
    stage.event("the timeline has that, too", "flag_cleared", |event| event["detail"]["flag"]["id"] == id);
    assert!(flags(&stage, &["web-9"]).is_empty());
}
