//! Least privilege: an unprivileged user with exactly the capabilities of the systemd unit can do everything, without
//! each of them exactly that feature is lost and said, and with none at all the agent still reports what it can see.
//!
//! tracefs is mounted and prepared by the unit's own commands, in a mount namespace of the test; what they change there
//! is undone by the unit's other commands (tracefs is one file system, wherever it is mounted).

use std::collections::BTreeMap;
use std::process::Command;

use highwater_tests::agent::Agent;
use highwater_tests::binaries;
use highwater_tests::cli::{Answer, answer};
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::process::run;
use highwater_tests::wait::{PATIENCE, until_some};
use serde_json::Value;

/// A user that no machine has.
const UID: &str = "64321";

/// The unit as it is shipped.
fn unit() -> String {
    let path = binaries::repository().join("packaging/systemd/highwater-agent.service");
    std::fs::read_to_string(path).expect("the unit").replace("\\\n", " ")
}

/// The values of a setting, in order.
fn values(unit: &str, setting: &str) -> Vec<String> {
    unit.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('=')).map(str::to_owned).collect()
}

/// A host with an IPC namespace beside its own, an array that only root may read, and a tracefs prepared by the unit.
struct Host {
    own: IpcNamespace,
    /// Beside it, so that there is one to enter; it holds one array of 7 semaphores.
    other: IpcNamespace,
    program: &'static str,
    undo: Vec<String>,
}

/// Permissions of tracefs are one machine's: whoever prepares it waits for whoever did before.
static TRACEFS: std::sync::Mutex<()> = std::sync::Mutex::new(());

impl Host {
    fn new() -> Self {
        let unit = unit();
        let own = IpcNamespace::new();
        own.create("create-sem 0x0d4d1234 2 0600");
        own.shell("mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing");
        let as_root = |setting: &str| {
            let commands = values(&unit, setting);
            let commands = commands.iter().map(|c| c.strip_prefix("-+").expect("a command of root that may fail"));
            commands.map(|command| command.replace("highwater-agent", UID)).collect::<Vec<_>>()
        };
        let other = IpcNamespace::new();
        other.create("create-sem private 7 0600");
        let host = Self { program: own.public_agent(), own, other, undo: as_root("ExecStopPost") };
        for command in as_root("ExecStartPre") {
            host.own.shell(&command);
        }
        host
    }

    /// `highwater-agent ARGS` as that user with those capabilities and no others.
    fn agent(&self, capabilities: &[String], args: &[&str]) -> Answer {
        let plus: Vec<String> =
            capabilities.iter().map(|c| format!("+{}", c.trim_start_matches("CAP_").to_lowercase())).collect();
        let set = ["-all".to_owned()].into_iter().chain(plus).collect::<Vec<_>>().join(",");
        let mut command: Command = self.own.command("setpriv");
        command.args(["--reuid", UID, "--regid", UID, "--clear-groups", "--no-new-privs"]);
        command.arg(format!("--inh-caps={set}")).arg(format!("--ambient-caps={set}"));
        command.arg(format!("--bounding-set={set}")).arg("--").arg(self.program).args(args);
        command.env("HIGHWATER_NAMESPACES", "all");
        answer(command)
    }

    /// What `snapshot` says of the other namespace: its semaphores (`None` = it is not shown), and what it says it does
    /// not see.
    fn other(&self, capabilities: &[String]) -> (Option<Value>, String) {
        let seen = self.agent(capabilities, &["snapshot", "--json"]).must_succeed().json();
        let namespaces = seen["namespaces"].as_array().expect("a list");
        let other = namespaces.iter().find(|n| n["id"] == self.other.inode());
        (other.map(|n| n["totals"]["semaphores"].clone()), seen["unseen"].to_string())
    }

    /// The checks of `doctor` in trouble, with what is lost.
    fn trouble(&self, capabilities: &[String]) -> BTreeMap<String, String> {
        let told = self.agent(capabilities, &["doctor", "--json"]);
        let document = told.json();
        let checks = document["checks"].as_array().expect("a list").clone();
        let lost: BTreeMap<String, String> = checks
            .iter()
            .filter(|check| check["verdict"] == "trouble")
            .map(|check| (text(check, "check"), text(check, "lost") + " | " + &text(check, "remedy")))
            .collect();
        assert_eq!(told.code, if lost.is_empty() { 0 } else { 3 }, "{document}");
        lost
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for script in &self.undo {
            let mut command = self.own.command("sh");
            command.args(["-c", script]);
            run(command);
        }
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no text in `{field}` of {value}")).to_owned()
}

/// What of a host's trouble has nothing to do with capabilities: a machine may keep its processes in a pid namespace.
fn lost_by(told: &BTreeMap<String, String>) -> Vec<&str> {
    told.keys().map(String::as_str).filter(|check| *check != "processes").collect()
}

#[test]
fn exactly_the_capabilities_of_the_unit_are_enough_and_each_is_needed() {
    let _alone = TRACEFS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let host = Host::new();
    let granted: Vec<String> = values(&unit(), "AmbientCapabilities")[0].split(' ').map(str::to_owned).collect();
    assert_eq!(granted, ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_IPC_OWNER"]);
    assert_eq!(lost_by(&host.trouble(&granted)), Vec::<&str>::new());
    assert_eq!(host.other(&granted).0, Some(Value::from(7)));

    for (missing, checks) in [
        ("CAP_SYS_ADMIN", ["other IPC namespaces"].as_slice()),
        ("CAP_SYS_PTRACE", &["IPC namespaces found", "other IPC namespaces"]),
        ("CAP_IPC_OWNER", &["last users of semaphores"]),
    ] {
        let rest: Vec<String> = granted.iter().filter(|c| *c != missing).cloned().collect();
        let told = host.trouble(&rest);
        assert_eq!(lost_by(&told), checks, "without {missing}");
        assert!(checks.iter().all(|check| told[*check].contains(missing)), "{told:?}");
        let (other, unseen) = host.other(&rest);
        if missing == "CAP_IPC_OWNER" {
            assert_eq!(other, Some(Value::from(7)));
        } else {
            assert_eq!(other, None, "without {missing}");
            assert!(unseen.contains(&format!("lacks {missing}")), "{unseen}");
        }
    }
}

#[test]
fn without_any_privilege_it_reports_all_it_can_see_and_says_the_rest() {
    let _alone = TRACEFS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let host = Host::new();
    let seen = host.agent(&[], &["snapshot", "--json"]).must_succeed().json();
    assert_eq!(seen["sysvipc"]["state"], "available");
    let namespaces = seen["namespaces"].as_array().expect("a list");
    assert_eq!(namespaces.len(), 1, "another namespace was entered without CAP_SYS_ADMIN: {seen}");
    let rows = namespaces[0]["sem"].as_array().expect("a list");
    assert_eq!((rows.len(), &rows[0]["perms"]), (1, &Value::from("600")), "{seen}");
    assert_eq!(namespaces[0]["totals"]["semaphores"], 2);
    assert!(namespaces[0]["limits"]["semmni"].is_u64(), "{seen}");
    let told = host.trouble(&[]);
    assert_eq!(
        lost_by(&told),
        ["IPC namespaces found", "last users of semaphores", "other IPC namespaces"],
        "{told:?}"
    );
}

#[test]
fn without_the_units_preparation_tracing_alone_is_lost() {
    let _alone = TRACEFS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut host = Host::new();
    for script in std::mem::take(&mut host.undo) {
        host.own.shell(&script);
    }
    let granted: Vec<String> = values(&unit(), "AmbientCapabilities")[0].split(' ').map(str::to_owned).collect();
    let told = host.trouble(&granted);
    assert_eq!(lost_by(&told), ["trace events"]);
    assert!(told["trace events"].contains("CAP_DAC_OVERRIDE"), "{told:?}");
    let with: Vec<String> = granted.into_iter().chain(["CAP_DAC_OVERRIDE".to_owned()]).collect();
    assert_eq!(lost_by(&host.trouble(&with)), Vec::<&str>::new());
    assert_eq!(
        host.own.shell("stat -c '%a %U' /sys/kernel/tracing /sys/kernel/tracing/instances"),
        "700 root\n750 root\n"
    );
}

/// The unit's filter of system calls allows every one that the agent makes.
#[test]
fn the_units_filter_allows_what_the_agent_calls() {
    let unit = unit();
    let mut allowed = std::collections::BTreeSet::new();
    for words in values(&unit, "SystemCallFilter") {
        let (deny, words) = words.strip_prefix('~').map_or((false, words.as_str()), |rest| (true, rest));
        for call in words.split(' ').flat_map(expand) {
            if deny {
                allowed.remove(&call);
            } else {
                allowed.insert(call);
            }
        }
    }
    assert!(allowed.contains("setns") && allowed.contains("semctl") && !allowed.contains("init_module"));
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let namespace = IpcNamespace::named("filtered-host");
    namespace.shell("mountpoint -q /sys/kernel/tracing || mount -t tracefs nodev /sys/kernel/tracing");
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = log.path().to_str().expect("a path in UTF-8");
    let mut agent = Agent::enrol(&up, &namespace).behind(&["strace", "-D", "-f", "-q", "-o", path]);
    let _other = IpcNamespace::new();
    agent.start(&namespace);
    agent.await_first_sample(&up, &namespace);
    agent.stop();
    let log = until_some("strace writes the agent's end down", PATIENCE, || {
        std::fs::read_to_string(path).ok().filter(|log| log.contains("exit_group("))
    });
    let called = log.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('(').next());
    let called: std::collections::BTreeSet<&str> =
        called.filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).collect();
    assert!(called.contains("semctl") && called.len() > 20, "{called:?}");
    let refused: Vec<&&str> = called.iter().filter(|name| !allowed.contains(**name)).collect();
    assert!(refused.is_empty(), "the unit would refuse {refused:?}");
}

/// A set of system calls, as systemd has it; a name stands for itself.
fn expand(word: &str) -> Vec<String> {
    if !word.starts_with('@') {
        return vec![word.to_owned()];
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["--no-pager", "syscall-filter", word]);
    let listed = answer(command).must_succeed();
    let names = listed.text().lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.flat_map(expand).collect()
}
