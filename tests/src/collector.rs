//! `highwater up`, started and stopped as a person would.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries;
use crate::cli::Cli;
use crate::ipc_namespace::IpcNamespace;
use crate::postgres::Database;
use crate::process::{Process, await_file, run, signal};
use crate::wait::found_within;

/// What to start.
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// An existing database instead of the private PostgreSQL.
    pub database: Option<&'a Database>,
    /// Whether `up` also runs an agent for this host.
    pub agent: bool,
    /// The namespace to run in; with an agent or a private PostgreSQL always give one.
    pub inside: Option<&'a IpcNamespace>,
    /// `--interval`, e.g. `100ms`.
    pub interval: Option<&'a str>,
    /// `--notify-config`.
    pub notify_config: Option<&'a Path>,
    /// `--flags-config`.
    pub flags_config: Option<&'a Path>,
}

/// A running `highwater up` and its data directory.
#[derive(Debug)]
pub struct Up {
    directory: TempDir,
    process: Option<Process>,
    ready: Value,
}

impl Up {
    /// Only a collector on a database of its own.
    pub fn collector(database: &Database) -> Self {
        Self::start(&Options { database: Some(database), interval: Some("100ms"), ..Options::default() })
    }

    /// Starts it and waits for its ready file.
    ///
    /// # Panics
    ///
    /// If it ends before, or never gets ready, with what it printed.
    #[track_caller]
    pub fn start(options: &Options<'_>) -> Self {
        let mut up = Self::nowhere();
        up.start_again(options);
        up
    }

    /// Starts a second one that hosts trust as they trust this one: with the same CA. The same database is the caller's.
    #[track_caller]
    pub fn beside(&self, options: &Options<'_>) -> Self {
        let mut up = Self::nowhere();
        std::fs::DirBuilder::new().mode(0o711).create(up.data()).expect("a data directory");
        let mut copy = Command::new("cp");
        // With the lock file, by which a data directory is known.
        copy.arg("-a").args([self.data().join("ca"), self.data().join("up.lock")]).arg(up.data());
        run(copy);
        up.start_again(options);
        up
    }

    fn nowhere() -> Self {
        let directory = tempfile::Builder::new().prefix("highwater-up-").tempdir().expect("a temporary directory");
        // The private PostgreSQL's user has to pass through.
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(directory.path(), open).expect("chmod");
        Self { directory, process: None, ready: Value::Null }
    }

    /// Starts it on the same data directory and the same addresses, after it was stopped or killed.
    #[track_caller]
    pub fn start_again(&mut self, options: &Options<'_>) {
        let file = self.directory.path().join("ready.json");
        let _ = std::fs::remove_file(&file);
        let process = Process::spawn("highwater up", self.command(options), &self.log());
        let written = await_file(self.process.insert(process), &file);
        self.ready = serde_json::from_str(&written).expect("JSON in the ready file");
    }

    fn command(&self, options: &Options<'_>) -> Command {
        let mut command = match options.inside {
            Some(namespace) => namespace.command(binaries::highwater()),
            None => Command::new(binaries::highwater()),
        };
        // Any free port at first; then the same, where agents look for it.
        let address = |field: &str| match self.ready[field].as_str() {
            Some(url) => url.rsplit('/').next().unwrap_or(url).to_owned(),
            None => "127.0.0.1:0".to_owned(),
        };
        command.env("HIGHWATER_NAMESPACES", "own");
        command.arg("up").args(["--http", &address("http"), "--grpc", &address("grpc")]);
        command.arg("--data-dir").arg(self.data());
        command.arg("--ready-file").arg(self.directory.path().join("ready.json"));
        if let Some(database) = options.database {
            command.arg("--database-url").arg(&database.url);
        }
        if !options.agent {
            command.arg("--no-agent");
        }
        if let Some(interval) = options.interval {
            command.arg("--interval").arg(interval);
        }
        if let Some(file) = options.notify_config {
            command.arg("--notify-config").arg(file);
        }
        if let Some(file) = options.flags_config {
            command.arg("--flags-config").arg(file);
        }
        command
    }

    /// `--data-dir`.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory for what the test puts beside it: tokens, state of agents, logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("up.log")
    }

    /// Where agents connect.
    pub fn grpc(&self) -> &str {
        self.ready["grpc"].as_str().expect("`grpc` in the ready file")
    }

    /// What the ready file said.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// The operator's command line for it.
    pub fn cli(&self) -> Cli {
        let text = |field: &str| self.ready[field].as_str().expect("text in the ready file").to_owned();
        Cli { url: text("http"), token: text("token"), home: self.directory.path().join("nobody") }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running `up`").pid()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("a running `up`").kill();
    }

    /// SIGTERM; waits for the 10 s that the contract gives it.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("a running `up`").terminate(Duration::from_secs(10))
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log()).unwrap_or_default()).into_owned()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Asked, it takes its private PostgreSQL along.
        if let Some(mut process) = self.process.take() {
            process.end_gently();
        }
        // Killed, it has left it running.
        let cluster = self.data().join("postgres");
        let running = || {
            let file = std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
            let pid: u32 = file.lines().next()?.parse().ok()?;
            (std::fs::read_link(format!("/proc/{pid}/cwd")).ok()? == cluster).then_some(pid)
        };
        if let Some(pid) = running() {
            signal(pid, "INT");
            let _ = found_within(Duration::from_secs(10), || running().is_none().then_some(()));
        }
    }
}
