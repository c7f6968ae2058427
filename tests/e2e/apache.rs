//! The founding note with the real program: an Apache that was killed leaves its semaphores behind, and each start
//! takes new ones.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use highwater_tests::agent::Agent;
use highwater_tests::answers::{held_now, instant, objects, text};
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::Value;

/// With one `Listen` Apache serializes nobody, and takes no semaphore.
const CONFIG: &str = "
ServerName localhost
PidFile DIR/httpd.pid
ErrorLog DIR/error.log
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
Listen 8081
Listen 8082
User www-data
Group www-data
Mutex sysvsem default
StartServers 2
";

#[test]
fn a_killed_apache_leaves_its_array_behind_and_the_next_one_adds_its_own() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let cli = up.cli();
    let host = "web-17";
    let namespace = IpcNamespace::with_processes(host);
    let _agent = Agent::running(&up, &namespace);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let apache = Apache { namespace: &namespace, directory: directory.path() };
    let began = instant(now_ms());
    assert_eq!(held_now(&cli, host).expect("an answer").len(), 0);

    apache.start();
    until("its array is seen", PATIENCE, || held_now(&cli, host).is_some_and(|ids| !ids.is_empty()));
    let first = cli.json(&["ipcs", host]);
    for row in objects(&first, "sem") {
        assert_eq!((text(row, "user"), text(row, "cuser")), ("www-data", "root"), "{row}");
    }
    let of_first = held_now(&cli, host).expect("an answer");

    apache.kill_all();
    apache.start();
    until("the next start adds its own", PATIENCE, || {
        held_now(&cli, host).is_some_and(|ids| ids.len() == 2 * of_first.len() && ids.is_superset(&of_first))
    });
    let truth = namespace.shell("LC_ALL=C ipcs -s");
    assert_eq!(cli.run(&["ipcs", host, "-s"]).must_succeed().text(), truth);

    let of_second = &held_now(&cli, host).expect("an answer") - &of_first;

    apache.stop();
    until("a clean stop takes its own away", PATIENCE, || held_now(&cli, host).as_ref() == Some(&of_first));

    // Apache also makes and removes one while it starts, which a sample may catch; the story is of those that stay.
    let timeline = cli.json(&["timeline", host, "--since", &began, "--kind", "created,removed"]);
    let told: Vec<(&str, i64)> = timeline["events"].as_array().expect("a list").iter().map(step).collect();
    let ids = |kind: &str| -> BTreeSet<i64> { told.iter().filter(|(k, _)| *k == kind).map(|(_, id)| *id).collect() };
    assert!(ids("created").is_superset(&(&of_first | &of_second)), "{timeline}");
    assert!(ids("removed").is_superset(&of_second), "{timeline}");
    assert!(ids("removed").is_disjoint(&of_first), "the killed one's stays: {timeline}");

    let diff = cli.json(&["diff", host, "--from", &began, "--to", "now"]);
    let added = diff["objects"].as_array().expect("a list");
    assert_eq!(added.len(), of_first.len(), "{diff}");
    for object in added {
        assert_eq!((text(object, "change"), text(object, "kind")), ("added", "sem"), "{object}");
        assert_eq!(text(&object["after"], "user"), "www-data", "{object}");
    }
}

fn step(event: &Value) -> (&str, i64) {
    assert_eq!(text(&event["subject"], "kind"), "sem", "{event}");
    (text(event, "kind"), event["subject"]["id"].as_i64().expect("a number"))
}

/// A real Apache with its configuration in that directory, in a namespace with processes of its own.
pub(crate) struct Apache<'a> {
    pub(crate) namespace: &'a IpcNamespace,
    pub(crate) directory: &'a Path,
}

impl Apache<'_> {
    /// Returns when it is in the background, serving.
    #[track_caller]
    fn start(&self) {
        assert_eq!(self.try_start(), Ok(()));
    }

    /// The same, or what it logged instead. Its ports are in a network namespace of its own.
    #[track_caller]
    pub(crate) fn try_start(&self) -> Result<(), String> {
        let config = self.directory.join("httpd.conf");
        let text = CONFIG.replace("DIR", self.directory.to_str().expect("UTF-8"));
        std::fs::write(&config, text).expect("its configuration");
        let _ = std::fs::remove_file(self.directory.join("httpd.pid"));
        let mut command: Command = self.namespace.command("unshare");
        command.args(["--net", "/usr/sbin/apache2", "-k", "start", "-f"]).arg(&config);
        command.arg("-d").arg(self.directory);
        let output = command.output().expect("apache2");
        let log = self.directory.join("error.log");
        if !output.status.success() {
            let logged = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(logged + &String::from_utf8_lossy(&output.stderr));
        }
        until("Apache runs", PATIENCE, || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            self.directory.join("httpd.pid").exists() && said.contains("resuming normal operations")
        });
        std::fs::remove_file(log).expect("its log");
        Ok(())
    }

    /// The way servers really end: no chance to clean up.
    pub(crate) fn kill_all(&self) {
        // A worker may be gone by the time it is its turn.
        self.namespace.shell("pkill -KILL -x apache2");
        self.await_end();
    }

    pub(crate) fn stop(&self) {
        self.namespace.shell(&format!("kill -TERM $(cat {}/httpd.pid)", self.directory.display()));
        self.await_end();
    }

    fn await_end(&self) {
        until("Apache is gone", PATIENCE, || self.namespace.shell("ps -o pid= -C apache2 || true").trim().is_empty());
    }
}
