//! What the operator sees of a fleet with such hosts.

use highwater_agent::sys::errno::Errno;
use highwater_tests::agent::Agent;
use highwater_tests::answers::host;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until};

/// S19: `ipcs` in a container says "kernel not configured for semaphores", and it was a policy.
#[test]
fn a_denial_is_listed_as_blocked_with_what_decided() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let namespace = IpcNamespace::named("denied-host");
    namespace.kernel_config(super::YES);
    let mut agent = Agent::enrol(&up, &namespace).refused(Errno::EACCES.0);
    agent.start(&namespace);
    let healthy = IpcNamespace::named("granted-host");
    let _healthy = Agent::running(&up, &healthy);
    for question in [["hosts", "--state", "blocked"].as_slice(), &["hosts", "--lacks-sysvipc"]] {
        until("the host is listed with its first sample", PATIENCE, || {
            agent.must_run();
            host(&cli.json(question), "denied-host").is_some_and(|h| h["last_seen"].is_string())
        });
        let hosts = cli.json(question);
        assert!(host(&hosts, "granted-host").is_none(), "{hosts}");
        let listed = host(&hosts, "denied-host").expect("listed above");
        assert_eq!(listed["state"], "blocked");
        assert_eq!(listed["evidence"][0], "EACCES from semctl while CONFIG_SYSVIPC=y");
        let shown = cli.run(question).must_succeed();
        let words = "EACCES from semctl while CONFIG_SYSVIPC=y";
        assert!(shown.text().contains("denied-host") && shown.text().contains(words), "{}", shown.text());
    }
}
