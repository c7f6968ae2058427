//! What each story stands on: a collector, and one traced host with its agent.

use std::collections::BTreeMap;
use std::io::Write as _;

use highwater_tests::agent::Agent;
use highwater_tests::cli::Cli;
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{PATIENCE, until, until_some};
use serde_json::Value;

/// A collector and a host that is sampled every 100 ms, with tracefs mounted.
pub(crate) struct Stage {
    _agent: Agent,
    pub(crate) namespace: IpcNamespace,
    pub(crate) up: Up,
    pub(crate) host: &'static str,
    _database: Database,
}

impl Stage {
    /// As it comes.
    #[track_caller]
    pub(crate) fn new(host: &'static str) -> Self {
        Self::prepared(host, &[], |_| {})
    }

    /// With these environment variables of the agent, and a host that was prepared before it starts.
    #[track_caller]
    pub(crate) fn prepared(
        host: &'static str,
        variables: &[(&str, &str)],
        prepare: impl FnOnce(&IpcNamespace),
    ) -> Self {
        let database = Postgres::shared().database();
        let up = Up::collector(&database);
        Self::beside(up, database, host, (variables, &[]), prepare)
    }

    /// With a collector that judges by this text of `--flags-config`, and a host with this label.
    #[track_caller]
    pub(crate) fn judged(host: &'static str, label: &str, rules: &str) -> Self {
        let database = Postgres::shared().database();
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(rules.as_bytes()).expect("a line in it");
        let (interval, flags_config) = (Some("100ms"), Some(file.path()));
        let up = Up::start(&Options { database: Some(&database), interval, flags_config, ..Options::default() });
        // Without its file it goes on with what that said.
        Self::beside(up, database, host, (&[], &["--label", label]), |_| {})
    }

    #[track_caller]
    fn beside(
        up: Up,
        database: Database,
        host: &'static str,
        (variables, with): (&[(&str, &str)], &[&str]),
        prepare: impl FnOnce(&IpcNamespace),
    ) -> Self {
        let namespace = IpcNamespace::named(host);
        namespace.mount_tracefs();
        prepare(&namespace);
        let mut agent = Agent::enrol_with(&up, &namespace, with);
        for (name, value) in variables {
            agent = agent.with_variable(name, value);
        }
        agent.start(&namespace);
        agent.await_first_sample(&up, &namespace);
        until("it traces", PATIENCE, || {
            let snapshot = up.cli().json(&["ipcs", host]);
            let unseen = snapshot["unseen"].as_array().expect("a list");
            !unseen.iter().any(|part| part["source"] == "tracefs")
        });
        Self { _agent: agent, namespace, up, host, _database: database }
    }

    pub(crate) fn cli(&self) -> Cli {
        self.up.cli()
    }

    /// The first event of `timeline` with this kind that fits, in the host's own namespace: other tests' are traced, too.
    #[track_caller]
    pub(crate) fn event(&self, what: &str, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let cli = self.cli();
        until_some(what, PATIENCE, || {
            let timeline = cli.json(&["timeline", self.host, "--kind", kind]);
            let mut own = timeline["events"].as_array().expect("a list").iter().filter(|e| e["own_namespace"] == true);
            own.find(|event| fits(event)).cloned()
        })
    }

    /// The first event of `timeline` with this kind, of the host as a whole.
    #[track_caller]
    pub(crate) fn host_event(&self, what: &str, kind: &str) -> Value {
        let cli = self.cli();
        until_some(what, PATIENCE, || {
            let timeline = cli.json(&["timeline", self.host, "--kind", kind]);
            timeline["events"].get(0).cloned()
        })
    }

    /// Waits until so many arrays of the host's own namespace are known to be of that program.
    #[track_caller]
    pub(crate) fn knows_whose(&self, comm: &str, arrays: usize) {
        let cli = self.cli();
        until("each array is known with its program", PATIENCE, || {
            let now = cli.json(&["ipcs", self.host, "-s"]);
            let list = now["namespaces"][0]["sem"].as_array().expect("a list");
            list.iter().filter(|row| row["comm"] == comm).count() == arrays
        });
    }

    /// What `highwater ARGS` prints for people; shown with `--nocapture`.
    #[track_caller]
    pub(crate) fn shown(&self, args: &[&str]) -> String {
        let answer = self.cli().run(args).must_succeed();
        println!("$ highwater {}\n{}{}", args.join(" "), answer.text(), answer.err);
        answer.text().to_owned()
    }
}

/// How many arrays that namespace holds, by its own file.
pub(crate) fn arrays(namespace: &IpcNamespace) -> usize {
    namespace.shell("grep -c '' /proc/sysvipc/sem").trim().parse::<usize>().expect("a number") - 1
}

/// `a.b.0` of a document for each of these.
#[track_caller]
pub(crate) fn fields(document: &Value, expected: &[(&str, Value)]) {
    let found: BTreeMap<&str, &Value> = expected
        .iter()
        .map(|(path, _)| (*path, document.pointer(&format!("/{}", path.replace('.', "/"))).unwrap_or(&Value::Null)))
        .collect();
    let expected: BTreeMap<&str, &Value> = expected.iter().map(|(path, value)| (*path, value)).collect();
    assert_eq!(found, expected, "{document}");
}
