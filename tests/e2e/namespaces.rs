//! Every IPC namespace of a host, seen from an agent in one of them: each as `ipcs` shows it inside, gone when it is gone,
//! never taken for another one, and never at a hostile one's mercy.
//!
//! The host is a set of namespaces with processes of its own, so that the agent sees its containers and no other test's.

mod crowd;
mod story;

use std::ffi::OsStr;
use std::fs;

use highwater_tests::agent::Agent;
use highwater_tests::binaries;
use highwater_tests::cli::Cli;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::{IpcNamespace, only_child};
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, until_some};
use serde_json::Value;

/// A host whose agent sees all its namespaces, its collector and the command line.
struct Host {
    name: &'static str,
    cli: Cli,
    agent: Agent,
    _up: Up,
    namespace: IpcNamespace,
}

impl Host {
    /// Sampling at that interval.
    #[track_caller]
    fn new(name: &'static str, interval: &str) -> Self {
        let database = Postgres::shared().database();
        let namespace = IpcNamespace::with_processes(name);
        let up = Up::collector(&database);
        let mut agent = Agent::enrol(&up, &namespace).with_variable("HIGHWATER_NAMESPACES", "all");
        agent.start_every(interval, &up, &namespace);
        Self { name, cli: up.cli(), agent, _up: up, namespace }
    }

    fn container(&self) -> IpcNamespace {
        self.namespace.container(&[binaries::ipc_tool().as_os_str()])
    }

    /// What it holds now, all of it.
    fn now(&self) -> Option<Value> {
        let answer = self.cli.run(&["ipcs", self.name, "--json"]);
        (answer.code == 0).then(|| answer.json())
    }

    /// The namespace with that inode, once it is shown and `wanted` is true of it.
    #[track_caller]
    fn until_shown(&self, inode: u64, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until_some(what, PATIENCE, || {
            let now = self.now()?;
            let all = now["namespaces"].as_array()?;
            all.iter().find(|namespace| namespace["id"] == inode).filter(|namespace| wanted(namespace)).cloned()
        })
    }

    /// The events of that kind about that namespace.
    fn events(&self, kind: &str, inode: u64) -> Vec<Value> {
        let told = self.cli.json(&["timeline", self.name, "--kind", kind, "--since", "-1h"]);
        let all = told["events"].as_array().expect("events").clone();
        all.into_iter().filter(|event| event["namespace"] == inode).collect()
    }

    /// The agent's pid: `nsenter` forked it.
    fn agent_pid(&self) -> u32 {
        only_child(self.agent.pid())
    }

    /// Whether a descriptor or a thread of the agent is in that namespace.
    fn agent_holds(&self, inode: u64) -> bool {
        let (agent, link) = (self.agent_pid(), format!("ipc:[{inode}]"));
        let links = |directory: String, below: &str| -> Vec<String> {
            let entries = fs::read_dir(directory).expect("the agent runs");
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path().join(below)));
            paths.filter_map(|path| Some(fs::read_link(path).ok()?.to_string_lossy().into_owned())).collect()
        };
        let held = links(format!("/proc/{agent}/fd"), "").into_iter();
        held.chain(links(format!("/proc/{agent}/task"), "ns/ipc")).any(|held| held == link)
    }
}

fn tool() -> std::ffi::OsString {
    binaries::ipc_tool().into_os_string()
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}
