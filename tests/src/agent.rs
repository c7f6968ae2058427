//! `highwater-agent`, enrolled and running in a namespace of its own.

use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries;
use crate::cli::{Answer, answer};
use crate::collector::Up;
use crate::ipc_namespace::IpcNamespace;
use crate::process::{Process, run};
use crate::small_disk::SmallDisk;
use crate::wait::{PATIENCE, until};

/// An enrolled agent with its state directory.
#[derive(Debug)]
pub struct Agent {
    // Dropped first: where the test fails it shows what the process wrote, which lies in `state`.
    process: Option<Process>,
    // Before what it is mounted in.
    disk: Option<SmallDisk>,
    state: TempDir,
    wrapper: Vec<PathBuf>,
    variables: Vec<(String, String)>,
}

impl Agent {
    /// Enrols in `namespace` with a fresh token of `up`; does not run yet.
    #[track_caller]
    pub fn enrol(up: &Up, namespace: &IpcNamespace) -> Self {
        let mut this = Self::with_state(None);
        this.enrol_at(up, up.grpc(), namespace, &[]);
        this
    }

    /// The same with a token made by `token create WITH ..`.
    #[track_caller]
    pub fn enrol_with(up: &Up, namespace: &IpcNamespace, with: &[&str]) -> Self {
        let mut this = Self::with_state(None);
        this.enrol_at(up, up.grpc(), namespace, with);
        this
    }

    /// The same in a new namespace of that name, with a state directory on a file system of its own of so many MiB. What is
    /// mounted after a namespace was made is not seen in it.
    #[track_caller]
    pub fn enrol_on_small_disk(up: &Up, name: &str, mib: u32) -> (Self, IpcNamespace) {
        let mut this = Self::with_state(Some(mib));
        let namespace = IpcNamespace::named(name);
        this.enrol_at(up, up.grpc(), &namespace, &[]);
        (this, namespace)
    }

    fn with_state(small: Option<u32>) -> Self {
        let state = tempfile::Builder::new().prefix("highwater-agent-").tempdir().expect("a temporary directory");
        std::fs::set_permissions(state.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let disk = small.map(|mib| {
            let directory = state.path().join("disk");
            std::fs::create_dir(&directory).expect("mkdir");
            SmallDisk::mount(&directory, mib)
        });
        Self { state, disk, process: None, wrapper: Vec::new(), variables: Vec::new() }
    }

    /// Enrols with a fresh token, made by `token create WITH ..`, at the collector of that address: `up`, or a way to it.
    /// After a first enrolment this is what brings a host back whose state is gone.
    #[track_caller]
    pub fn enrol_at(&mut self, up: &Up, collector: &str, namespace: &IpcNamespace, with: &[&str]) {
        let token = up.cli().json(&[&["token", "create"], with].concat());
        let file = self.state.path().join("token");
        let _ = std::fs::remove_file(&file);
        write_secret(&file, token["token"].as_str().expect("`token` in the answer"));
        let mut enrol = namespace.command(binaries::agent());
        enrol.args(["enrol", "--collector", collector, "--token-file"]).arg(&file);
        enrol.arg("--state-dir").arg(self.state_dir());
        run(enrol);
    }

    /// Enrols and runs, sampling every 100 ms; returns when its first sample can be read back.
    #[track_caller]
    pub fn running(up: &Up, namespace: &IpcNamespace) -> Self {
        let mut agent = Self::enrol(up, namespace);
        agent.start(namespace);
        agent.await_first_sample(up, namespace);
        agent
    }

    /// From the next start on every System V IPC call of the agent is answered ENOSYS.
    #[must_use]
    pub fn without_sysvipc(mut self) -> Self {
        self.wrapper = vec![binaries::ipc_tool(), "without-sysvipc".into(), "--".into()];
        self
    }

    /// The same with another errno.
    #[must_use]
    pub fn refused(mut self, errno: i32) -> Self {
        self.wrapper = vec![binaries::ipc_tool(), "refused".into(), errno.to_string().into(), "--".into()];
        self
    }

    /// From the next start on it is run by that command.
    #[must_use]
    pub fn behind(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(PathBuf::from).collect();
        self
    }

    /// Sets an environment variable from the next start on.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs it with an interval of 100 ms.
    #[track_caller]
    pub fn start(&mut self, namespace: &IpcNamespace) {
        let command = self.command(namespace, &["run", "--interval", "100ms"]);
        self.process = Some(Process::spawn("highwater-agent", command, &self.state.path().join("agent.log")));
    }

    /// Runs it with that interval, and returns when its first sample can be read back.
    #[track_caller]
    pub fn start_every(&mut self, interval: &str, up: &Up, namespace: &IpcNamespace) {
        let command = self.command(namespace, &["run", "--interval", interval]);
        self.process = Some(Process::spawn("highwater-agent", command, &self.state.path().join("agent.log")));
        self.await_first_sample(up, namespace);
    }

    /// An agent on a copy of the state directory, as it is at this moment, whether this one runs or not.
    #[track_caller]
    pub fn copy(&self) -> Self {
        let state = tempfile::Builder::new().prefix("highwater-copy-").tempdir().expect("a temporary directory");
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.state_dir()).arg(state.path());
        run(copy);
        Self { state, disk: None, process: None, wrapper: Vec::new(), variables: Vec::new() }
    }

    /// Runs it as [`Agent::start`] does, but at another collector than the one of its enrolment.
    #[track_caller]
    pub fn start_at(&mut self, namespace: &IpcNamespace, collector: &str) {
        let command = self.command(namespace, &["run", "--interval", "100ms", "--collector", collector]);
        self.process = Some(Process::spawn("highwater-agent", command, &self.state.path().join("agent.log")));
    }

    /// `--state-dir`. What lies beside it is the test's.
    pub fn state_dir(&self) -> PathBuf {
        self.state.path().join(if self.disk.is_some() { "disk/state" } else { "state" })
    }

    /// The file system that its state is alone on.
    ///
    /// # Panics
    ///
    /// If it shares one.
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("an agent on a small disk")
    }

    /// `highwater-agent ARGS --state-dir ..` in the namespace.
    pub fn command(&self, namespace: &IpcNamespace, args: &[&str]) -> Command {
        let mut words = self.wrapper.clone();
        words.push(binaries::agent());
        let mut words = words.into_iter();
        let mut command = namespace.command(words.next().expect("at least the agent"));
        command.args(words).args(args).arg("--state-dir").arg(self.state_dir());
        command.envs(self.variables.iter().map(|(n, v)| (n, v)));
        command
    }

    /// Waits until the collector can say what this host holds now.
    #[track_caller]
    pub fn await_first_sample(&mut self, up: &Up, namespace: &IpcNamespace) {
        let (cli, host) = (up.cli(), host_name(namespace));
        until("the agent's first sample can be read back", PATIENCE, || {
            self.process.as_mut().expect("a running agent").must_run();
            cli.run(&["ipcs", &host, "--json"]).code == 0
        });
    }

    /// Its process id, as this test sees it.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a running agent").pid()
    }

    /// Fails with what it printed if it has ended.
    #[track_caller]
    pub fn must_run(&mut self) {
        self.process.as_mut().expect("a started agent").must_run();
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.take().expect("a running agent").kill();
    }

    /// SIGTERM, and waits for its end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("a running agent").terminate(Duration::from_secs(10))
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.state.path().join("agent.log")).unwrap_or_default()).into_owned()
    }
}

/// `highwater-agent snapshot --json` in the namespace: the truth, without collector and database.
#[track_caller]
pub fn snapshot(namespace: &IpcNamespace) -> Value {
    let mut command = namespace.command(binaries::agent());
    command.args(["snapshot", "--json"]);
    let answer: Answer = answer(command);
    answer.must_succeed().json()
}

/// The host name that an agent in the namespace reports.
pub fn host_name(namespace: &IpcNamespace) -> String {
    namespace.shell("cat /proc/sys/kernel/hostname").trim_end().to_owned()
}

fn write_secret(path: &Path, text: &str) {
    use std::io::Write as _;
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes())).expect("a token file");
}
