//! Processes that end with the test that started them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use crate::wait::{PATIENCE, found_within, until_some};

/// A running process. Killed on drop; killed by its watchdog if the test itself is killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    watchdog: Watchdog,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with no input, its output appended to `log`.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[track_caller]
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("a log file");
        let err = out.try_clone().expect("a second handle of the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        let watchdog = Watchdog::of(child.id(), "TERM", None);
        Self { name: name.to_owned(), child, watchdog, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, both streams.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waiting for a child")
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// SIGKILL, and waits for it to be gone.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("waiting for a child");
    }

    /// SIGTERM, then waits up to `patience` for it to end.
    ///
    /// # Panics
    ///
    /// If it does not end in time, with what it printed.
    #[track_caller]
    pub fn terminate(&mut self, patience: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit(patience)
    }

    /// Waits up to `patience` for it to end by itself.
    ///
    /// # Panics
    ///
    /// If it does not end in time.
    #[track_caller]
    pub fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("{} ends (its output: {})", self.name, self.log.display());
        until_some(&what, patience, || self.try_wait())
    }

    /// SIGTERM, and up to 10 s to follow it; what is left of it is killed on drop.
    pub(crate) fn end_gently(&mut self) {
        self.signal("TERM");
        let _ = found_within(Duration::from_secs(10), || self.try_wait());
    }

    /// Panics with what it printed if it has ended.
    #[track_caller]
    pub fn must_run(&mut self) {
        if let Some(status) = self.try_wait() {
            panic!("{} ended with {status} and printed:\n{}", self.name, self.output());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog goes first: after `wait` the id may belong to another process.
        self.watchdog.disarm();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of {} ---\n{}", self.name, self.output());
        }
    }
}

/// Ends a process, and removes a directory, when the test process goes away, however it goes: the watchdog reads from
/// a pipe whose other end only the test holds.
#[derive(Debug)]
pub(crate) struct Watchdog(Child);

impl Watchdog {
    /// Will send `signal` to `pid`, wait for its end (after 10 s SIGKILL makes it) and remove `directory`.
    pub(crate) fn of(pid: u32, signal: &str, directory: Option<&Path>) -> Self {
        const SCRIPT: &str = r#"read -r _
            kill -s "$2" "$1" 2>/dev/null
            n=0; while grep -qs '^State:.[^Z]' "/proc/$1/status" && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
            [ $n -lt 100 ] || kill -s KILL "$1"
            [ -z "$3" ] || rm -rf -- "$3""#;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "watchdog", &pid.to_string(), signal]);
        command.arg(directory.unwrap_or(Path::new("")));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("sh, which every system has"))
    }

    /// Calls it off.
    pub(crate) fn disarm(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a signal by name to a process that the caller started.
pub fn signal(pid: u32, name: &str) {
    // A missing process is no error here: it may just have ended.
    let _ =
        Command::new("sh").args(["-c", r#"kill -s "$1" "$2" 2>/dev/null"#, "kill", name, &pid.to_string()]).status();
}

/// Runs a command to its end and returns its output.
///
/// # Panics
///
/// If it cannot be started or fails, with what it printed.
#[track_caller]
pub fn run(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command as [`run`] does and returns what it printed on stdout.
#[track_caller]
pub fn stdout_of(command: Command) -> String {
    String::from_utf8(run(command).stdout).expect("UTF-8 from a tool of the harness")
}

/// Panics unless the test runs as root, naming the remedy.
#[track_caller]
pub fn need_root(what: &str) {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let effective = status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().nth(1));
    assert_eq!(effective, Some("0"), "{what} needs root: run `sudo make test`, or `make test` as root");
}

/// Waits for a file to be there with content, for as long as the process that writes it runs.
#[track_caller]
pub fn await_file(process: &mut Process, path: &Path) -> String {
    let what = format!("{} writes {}", process.name.clone(), path.display());
    until_some(&what, PATIENCE, || {
        process.must_run();
        std::fs::read_to_string(path).ok().filter(|text| !text.is_empty())
    })
}
