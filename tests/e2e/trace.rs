//! What the kernel's trace events bring to the screen, limit by limit; and what is told where they fail.

use highwater_ipc::time::parse_rfc3339_ms;
use highwater_tests::agent::Agent;
use highwater_tests::answers::text;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, now_ms, until, until_some};
use serde_json::{Value, json};

use crate::stories::stage::{Stage, fields};

#[test]
fn each_limit_that_refuses_is_named_with_its_use() {
    let stage = Stage::new("limits-1");
    let mut app = StandIn::new(&stage.namespace, "oracle", 54_321);
    for call in ["create-sem private 5", "create-shm private 8192", "create-msg private"] {
        assert!(app.call(call) >= 0, "{call}");
    }
    let table = [
        ("echo '250 7 32 128' > /proc/sys/kernel/sem", "SEMMNS", "create-sem private 3", "semget", 5, 7),
        ("echo 1 > /proc/sys/kernel/shmmni", "SHMMNI", "create-shm private 4096", "shmget", 1, 1),
        (
            "echo 4096 > /proc/sys/kernel/shmmni; echo 3 > /proc/sys/kernel/shmall",
            "SHMALL",
            "create-shm private 8192",
            "shmget",
            2,
            3,
        ),
        ("echo 1 > /proc/sys/kernel/msgmni", "MSGMNI", "create-msg private", "msgget", 1, 1),
    ];
    for (lower, resource, call, name, used, limit) in table {
        stage.namespace.shell(lower);
        // A limit is the one that the sample before the call showed.
        stage.event(resource, "limit_changed", |e| e["detail"]["resource"] == resource);
        assert_eq!(app.call(call), -28, "{call}: ENOSPC");
        let refused = stage.event(resource, "refused", |e| e["detail"]["resource"] == resource);
        fields(
            &refused,
            &[
                ("by.comm", json!("oracle")),
                ("by.pid", json!(app.pid())),
                ("by.uid", json!(54_321)),
                ("detail.call", json!(name)),
                ("detail.errno.name", json!("ENOSPC")),
                ("detail.used_u64", json!(used.to_string())),
                ("detail.limit_u64", json!(limit.to_string())),
            ],
        );
    }
}

/// One host whose agent samples every ten seconds.
struct Slow {
    agent: Agent,
    namespace: IpcNamespace,
    up: Up,
    _database: highwater_tests::postgres::Database,
}

impl Slow {
    fn new(host: &'static str, variables: &[(&str, &str)]) -> Self {
        let database = Postgres::shared().database();
        let up = Up::collector(&database);
        let namespace = IpcNamespace::named(host);
        namespace.mount_tracefs();
        let mut agent = Agent::enrol(&up, &namespace);
        for (name, value) in variables {
            agent = agent.with_variable(name, value);
        }
        Self { agent, namespace, up, _database: database }
    }

    fn unseen(&self, host: &str) -> Vec<Value> {
        let snapshot = self.up.cli().json(&["ipcs", host]);
        let all = snapshot["unseen"].as_array().expect("a list");
        all.iter().filter(|part| part["source"] == "tracefs").cloned().collect()
    }

    fn instances(&self) -> Vec<String> {
        let mine = format!("highwater-{}-", self.agent.pid());
        let listed = self.namespace.shell("ls /sys/kernel/tracing/instances");
        listed.lines().filter(|name| name.starts_with(&mine)).map(str::to_owned).collect()
    }
}

#[test]
fn a_refusal_is_on_the_screen_long_before_the_next_sample_is_due() {
    const HOST: &str = "slow-1";
    let mut slow = Slow::new(HOST, &[]);
    slow.namespace.shell("echo '250 32000 32 0' > /proc/sys/kernel/sem");
    slow.agent.start_every("10s", &slow.up, &slow.namespace);
    // Samples come every ten seconds: the one that says that it traces may be the second.
    until("it traces", PATIENCE, || slow.unseen(HOST).is_empty());
    let mut app = StandIn::new(&slow.namespace, "apache2", 61);
    let called_ms = now_ms();
    assert_eq!(app.call("create-sem private 1"), -28);
    let cli = slow.up.cli();
    let refused = until_some("the refusal", PATIENCE, || {
        let timeline = cli.json(&["timeline", HOST, "--kind", "refused"]);
        timeline["events"].as_array().expect("a list").iter().find(|e| e["by"]["pid"] == app.pid()).cloned()
    });
    let shown_ms = now_ms();
    let at_ms = parse_rfc3339_ms(text(&refused, "at")).expect("a time");
    println!("called {called_ms}, told for {at_ms}, read after {} ms", shown_ms - called_ms);
    assert!((called_ms - 2..=shown_ms + 2).contains(&at_ms), "{called_ms} {at_ms} {shown_ms}");
    assert!(shown_ms - called_ms < 11_000, "one interval and a second: {} ms", shown_ms - called_ms);

    // From then on the host is sampled at the floor of one second.
    let mut seen: Vec<i64> = Vec::new();
    until("three samples in a row are close", PATIENCE, || {
        let at = parse_rfc3339_ms(text(&cli.json(&["ipcs", HOST])["covered"], "to")).expect("a time");
        if seen.last() != Some(&at) {
            seen.push(at);
        }
        let last = seen.get(seen.len().saturating_sub(3)..).unwrap_or_default();
        last.len() == 3 && last[2] - last[0] < 5_000
    });
}

#[test]
fn what_is_turned_off_is_not_seen_and_said_while_all_else_goes_on() {
    const HOST: &str = "off-1";
    let mut slow = Slow::new(HOST, &[("HIGHWATER_TRACE", "off")]);
    slow.agent.start(&slow.namespace);
    slow.agent.await_first_sample(&slow.up, &slow.namespace);
    let mut app = StandIn::new(&slow.namespace, "app", 1000);
    let id = app.call("create-sem private 2");
    let cli = slow.up.cli();
    let created = until_some("the array", PATIENCE, || {
        let timeline = cli.json(&["timeline", HOST, "--kind", "created"]);
        timeline["events"].as_array().expect("a list").iter().find(|e| e["subject"]["id"] == id).cloned()
    });
    assert_ne!(created["by"]["source"], "trace", "{created}");
    assert_eq!(slow.instances(), Vec::<String>::new());
    let unseen = slow.unseen(HOST);
    assert!(unseen.len() == 1 && text(&unseen[0], "error").contains("trace"), "{unseen:?}");
}

#[test]
fn what_a_killed_agent_leaves_is_removed_by_its_next_start() {
    const HOST: &str = "left-1";
    let mut slow = Slow::new(HOST, &[]);
    slow.agent.start(&slow.namespace);
    slow.agent.await_first_sample(&slow.up, &slow.namespace);
    until("it traces", PATIENCE, || slow.unseen(HOST).is_empty());
    let left = slow.instances();
    assert_eq!(left.len(), 1, "{left:?}");
    slow.agent.kill();
    let there = |name: &str| slow.namespace.shell("ls /sys/kernel/tracing/instances").lines().any(|n| n == name);
    assert!(there(&left[0]), "SIGKILL leaves it: this test would show nothing");
    slow.agent.start(&slow.namespace);
    until("it is gone", PATIENCE, || !there(&left[0]));
}

#[test]
fn events_that_found_no_room_are_counted_and_said() {
    const HOST: &str = "burst-1";
    let mut slow = Slow::new(HOST, &[]);
    slow.agent.start(&slow.namespace);
    slow.agent.await_first_sample(&slow.up, &slow.namespace);
    until("it traces", PATIENCE, || slow.unseen(HOST).is_empty());
    let signal = |name: &str| slow.namespace.shell(&format!("kill -{name} {}", slow.agent.pid()));
    signal("STOP");
    let mut app = StandIn::new(&slow.namespace, "churn", 1000);
    // While the agent does not read, the kernel's buffers fill.
    assert_eq!(app.call("churn sem 20000"), 0);
    signal("CONT");
    let cli = slow.up.cli();
    let told = until_some("the loss", PATIENCE, || {
        let timeline = cli.json(&["timeline", HOST, "--kind", "lost"]);
        timeline["events"].get(0).cloned()
    });
    // Three events a turn, and 64 KiB a processor hold a few thousand.
    let lost = told["detail"]["events_lost"].as_u64().expect("a number");
    assert!((10_000..=60_000).contains(&lost), "{told}");
}
