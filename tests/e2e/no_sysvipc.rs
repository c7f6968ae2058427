//! A host that cannot do System V IPC is an answer, not an error: its state, what decided, what to do.

use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::{host, text};
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until};

#[test]
fn a_filter_on_a_kernel_that_has_it_is_blocked() {
    let said = lacking("blocked-host", Some("CONFIG_X=y\nCONFIG_SYSVIPC=y\n"));
    assert_eq!(said.state, "blocked");
    assert!(said.evidence.contains("CONFIG_SYSVIPC=y"), "{}", said.evidence);
    assert!(said.evidence.contains("ENOSYS"), "{}", said.evidence);
    assert!(said.remedy.contains("semget"), "{}", said.remedy);
}

#[test]
fn a_kernel_built_without_it_is_absent() {
    let said = lacking("absent-host", Some("CONFIG_X=y\n# CONFIG_SYSVIPC is not set\n"));
    assert_eq!(said.state, "absent");
    assert!(said.evidence.contains("CONFIG_SYSVIPC is not set"), "{}", said.evidence);
    assert!(said.evidence.contains("/proc/sysvipc/sem is missing"), "{}", said.evidence);
    assert!(said.remedy.contains("CONFIG_SYSVIPC"), "{}", said.remedy);
}

#[test]
fn without_a_configuration_it_is_absent_and_says_that_none_was_found() {
    let said = lacking("unconfigured-host", None);
    assert_eq!(said.state, "absent");
    assert!(said.evidence.contains("no kernel configuration was found"), "{}", said.evidence);
    assert!(!said.remedy.is_empty());
}

struct Said {
    state: String,
    evidence: String,
    remedy: String,
}

/// What `hosts --lacks-sysvipc` says of a host whose calls answer ENOSYS, whose `/proc/sysvipc` is hidden, and whose
/// kernel's configuration is `config`. Fails if the agent stops reporting, or a healthy host is listed too.
fn lacking(name: &str, config: Option<&str>) -> Said {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let healthy = IpcNamespace::named("healthy-host");
    let _healthy_agent = Agent::running(&up, &healthy);
    let namespace = IpcNamespace::named(name);
    namespace.hide_directory("/proc/sysvipc");
    namespace.kernel_config(config);
    let mut agent = Agent::enrol(&up, &namespace).without_sysvipc();
    agent.start(&namespace);
    until("the host is listed with its first sample", PATIENCE, || {
        agent.must_run();
        host(&cli.json(&["hosts", "--lacks-sysvipc"]), name).is_some_and(|h| h["last_seen"].is_string())
    });
    let hosts = cli.json(&["hosts", "--lacks-sysvipc"]);
    assert!(host(&hosts, &host_name(&healthy)).is_none(), "{hosts}");
    let listed = host(&hosts, name).expect("listed above").clone();
    let seen = text(&listed, "last_seen").to_owned();
    until("the agent keeps reporting", PATIENCE, || {
        agent.must_run();
        let hosts = cli.json(&["hosts"]);
        host(&hosts, name).is_some_and(|h| text(h, "last_seen") > seen.as_str())
    });
    let lines: Vec<&str> = listed["evidence"].as_array().expect("a list").iter().filter_map(|l| l.as_str()).collect();
    assert_eq!(cli.run(&["ipcs", name, "--json"]).must_succeed().json()["sysvipc"]["state"], listed["state"]);
    let line = "[emerg] (38)Function not implemented: Couldn't create accept lock";
    let explained = cli.json(&["explain", line, "--host", name]);
    assert_eq!(explained["verdict"], "no_sysvipc", "{explained}");
    assert!(lines.iter().all(|evidence| text(&explained, "why").contains(evidence)), "{explained}");
    assert_eq!(explained["remedy"][0]["step"], listed["remedy"], "{explained}");
    Said {
        state: text(&listed, "state").to_owned(),
        evidence: lines.join("\n"),
        remedy: text(&listed, "remedy").to_owned(),
    }
}
