//! A service that leaves two arrays behind at each reload: how many reloads are left, while there is time. What lies between
//! two events is a minute as a rule, and a second here (`event_gap`).

use std::time::Duration;

use highwater_tests::answers::text;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, now_ms, until, until_some};
use serde_json::{Value, json};

use super::stage::{Stage, arrays, fields};

/// The evaluator looks some 15 s after use has moved.
const SOON: Duration = PATIENCE.saturating_mul(4);
/// Three event gaps and some: what is closer together is no reload.
const BETWEEN: Duration = Duration::from_millis(3_600);

#[test]
fn a_service_that_leaves_arrays_at_each_reload_says_how_many_reloads_are_left() {
    // By the default nobody is flagged at nine tenths; hosts with that label are.
    let rules = "event_gap = \"1s\"\n[default]\ntight = 1.0\n[[policy]]\nlabels = {role = \"web\"}\ntight = 0.9\n";
    let stage = Stage::judged("web-8", "role=web", rules);
    stage.namespace.shell("echo '250 32000 32 40' > /proc/sys/kernel/sem");
    let mut master = StandIn::new(&stage.namespace, "hw-nginx", 48_061);
    let mut noisy = StandIn::new(&stage.namespace, "hw-php", 48_062);
    assert_eq!(master.call("fill-used 28"), 0);
    let cli = stage.cli();
    for reload in 1..=4 {
        pass(&mut noisy);
        assert_eq!(master.call("fill-used 2"), 0);
        let held = 28 + 2 * reload;
        until("they are seen", PATIENCE, || {
            let now = cli.json(&["ipcs", "web-8", "-s"]);
            now["namespaces"][0]["sem"].as_array().is_some_and(|list| list.len() == held)
        });
    }
    assert_eq!(arrays(&stage.namespace), 36);
    let flag = until_some("it is flagged, with what makes it grow", SOON, || {
        // Time passes in which something changes, though no array.
        assert_eq!(noisy.call("churn msg 1"), 0);
        let flags = cli.json(&["flags", "web-8"]);
        let own = flags["flags"].as_array()?.iter().find(|flag| {
            let is_own = flag["namespace"] == stage.namespace.inode() && flag["resource"] == "SEMMNI";
            is_own && flag["cause"]["seen"] == 4
        });
        own.cloned()
    });
    fields(
        &flag,
        &[
            ("cause.kind", json!("reload")),
            ("cause.comm", json!("hw-nginx")),
            ("cause.per_event", json!(2.0)),
            ("cause.of", json!(4)),
            ("cause.left_u64", json!("2")),
            ("owner.uid", json!(48_061)),
            ("follows", Value::Null),
        ],
    );
    let shown = stage.shown(&["flag", "show", text(&flag, "id")]);
    assert!(shown.contains("cause     +2.0 per reload of hw-nginx (4 of 4), 2 left, at your "), "{shown}");
    assert!(shown.contains("restart hw-nginx instead of reloading it"), "{shown}");
}

/// Time passes, in which another program makes and frees: no sleep, the host is watched.
fn pass(noisy: &mut StandIn) {
    let begun = now_ms();
    until("some time has passed", PATIENCE, || {
        assert_eq!(noisy.call("burst 2 1"), 0);
        now_ms() > begun + i64::try_from(BETWEEN.as_millis()).expect("seconds")
    });
}
