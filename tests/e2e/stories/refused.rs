//! "No space left on device: Couldn't create accept lock", with the disk at 40 %: which limit, when, who.

use highwater_ipc::time::parse_rfc3339_ms;
use highwater_tests::answers::text;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::json;

use super::stage::{Stage, fields};

#[test]
fn a_refused_httpd_is_named_with_the_limit_that_bound_and_its_use() {
    let stage = Stage::prepared("web-17", &[("HIGHWATER_ORPHAN_WAIT", "2s")], |_| {});
    stage.namespace.shell("echo '250 32000 32 128' > /proc/sys/kernel/sem");
    let mut old = StandIn::new(&stage.namespace, "httpd", 48);
    assert_eq!(old.call("fill-used 128"), 0);
    stage.knows_whose("httpd", 128);
    old.kill();
    let cli = stage.cli();
    until("they are graded", PATIENCE, || cli.json(&["blame", "web-17"])["owners"][0]["orphans_certain"] == 128);

    let mut httpd = StandIn::new(&stage.namespace, "httpd", 48);
    let before_ms = now_ms();
    assert_eq!(httpd.call("create-sem private 1"), -28, "ENOSPC");
    let after_ms = now_ms();
    let refused = stage.event("the refusal is told", "refused", |_| true);
    println!("on the screen after {} ms, of which this test's command line took a part", now_ms() - before_ms);

    fields(
        &refused,
        &[
            ("by.comm", json!("httpd")),
            ("by.pid", json!(httpd.pid())),
            ("by.uid", json!(48)),
            ("by.source", json!("trace")),
            ("subject", json!(null)),
            ("namespace", json!(stage.namespace.inode())),
            ("own_namespace", json!(true)),
            ("detail.call", json!("semget")),
            ("detail.errno", json!({"number": 28, "name": "ENOSPC"})),
            ("detail.resource", json!("SEMMNI")),
            ("detail.used_u64", json!("128")),
            ("detail.limit_u64", json!("128")),
            ("detail.nsems", json!(1)),
            ("detail.key", json!("0x00000000")),
            ("detail.count", json!(1)),
            ("detail.holder.uid", json!(48)),
            ("detail.holder.comm", json!("httpd")),
            ("detail.holder.arrays", json!(128)),
            ("detail.holder.orphans", json!(128)),
        ],
    );
    assert!(text(&refused["detail"]["holder"], "oldest_orphan_at").starts_with("20"), "{refused}");
    // The instant is the call's own, not that of the sample that told it.
    let at_ms = parse_rfc3339_ms(text(&refused, "at")).expect("a time");
    // A sample's wall clock is cut to milliseconds, and the call's is counted from that.
    assert!((before_ms - 2..=after_ms + 2).contains(&at_ms), "{before_ms} {at_ms} {after_ms}");

    let shown = stage.shown(&["timeline", "web-17", "--since", "-2h", "--kind", "refused,limit_changed,peak"]);
    let line = format!("httpd (pid {}) refused semget: SEMMNI 128/128", httpd.pid());
    assert!(shown.contains(&line), "{shown}");
    assert!(shown.contains("uid 48 httpd holds 128, 128 orphans ("), "{shown}");
}

#[test]
fn an_array_that_is_larger_than_one_may_be_meets_semmsl() {
    let stage = Stage::new("big-1");
    let mut program = StandIn::new(&stage.namespace, "db2sysc", 1005);
    stage.namespace.shell("echo '250 32000 32 128' > /proc/sys/kernel/sem");
    stage.event("the limit is seen", "limit_changed", |e| e["detail"]["resource"] == "SEMMSL");
    assert_eq!(program.call("create-sem 0x1234 251"), -22, "EINVAL");
    let refused = stage.event("the refusal is told", "refused", |_| true);
    fields(
        &refused,
        &[
            ("by.comm", json!("db2sysc")),
            ("detail.errno.name", json!("EINVAL")),
            ("detail.resource", json!("SEMMSL")),
            ("detail.used_u64", json!("251")),
            ("detail.limit_u64", json!("250")),
            ("detail.key", json!("0x00001234")),
        ],
    );
}
