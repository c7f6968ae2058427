//! Samples come faster where a limit is near. How it gets slower again takes minutes, and is tested with a clock of its
//! own (`agent/src/sampler/adaptive_tests.rs`).

use highwater_ipc::time::parse_rfc3339_ms;
use highwater_tests::agent::Agent;
use highwater_tests::answers::text;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, until, until_some};

#[test]
fn near_a_limit_an_agent_samples_at_its_fastest_and_sees_what_a_slow_one_would_not() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("web-17");
    namespace.shell("echo '32000 1024000000 500 12' > /proc/sys/kernel/sem");
    let mut agent = Agent::enrol(&up, &namespace).with_variable("HIGHWATER_FASTEST", "200ms");
    agent.start_every("5s", &up, &namespace);
    let cli = up.cli();
    assert_eq!(cli.json(&["ipcs", "web-17"])["interval_ms"], 5_000);

    let mut program = StandIn::new(&namespace, "near-limit", 4_802);
    assert_eq!(program.call("fill-used 11"), 0);
    until("it samples at its fastest", PATIENCE, || cli.json(&["ipcs", "web-17"])["interval_ms"] == 200);

    // One more, that is gone soon: between two samples five seconds apart nobody would have seen it.
    let id = program.call("create-sem private 1");
    assert!(id >= 0);
    let created = until_some("it is seen", PATIENCE, || {
        let timeline = cli.json(&["timeline", "web-17", "--kind", "created"]);
        timeline["events"].as_array().expect("a list").iter().find(|e| e["subject"]["id"] == id).cloned()
    });
    assert_eq!(program.call(&format!("remove sem {id}")), 0);
    let at = |time: &str| parse_rfc3339_ms(time).expect("a time");
    let within_ms = at(text(&created, "at")) - at(text(&created["detail"], "not_before"));
    assert!(within_ms < 5_000, "{created}");
}
