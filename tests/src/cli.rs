//! The operator's command line, as a person in a terminal runs it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::binaries;

/// How to reach a collector's HTTP API.
#[derive(Clone, Debug)]
pub struct Cli {
    /// E.g. `http://127.0.0.1:8080`.
    pub url: String,
    /// The API's credential.
    pub token: String,
    /// A directory without a client file, so that no `up` of this machine is found by accident.
    pub home: PathBuf,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Answer {
    /// What was asked, for messages.
    pub asked: String,
    /// The exit code; 128 + signal if it was killed.
    pub code: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Cli {
    /// Runs `highwater ARGS`.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Answer {
        answer(self.command(args))
    }

    /// The command, to change before it runs (e.g. its `TZ`); see [`answer`].
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binaries::highwater());
        self.environment(&mut command);
        command.args(args);
        command
    }

    /// Sets the variables the command line reads, and no other.
    pub fn environment(&self, command: &mut Command) {
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HIGHWATER_URL", &self.url).env("HIGHWATER_TOKEN", &self.token);
        command.env("HOME", &self.home).env("XDG_DATA_HOME", &self.home).env("LC_ALL", "C").env("TZ", "UTC");
    }

    /// Runs `highwater ARGS --json` and returns the document.
    ///
    /// # Panics
    ///
    /// If it does not exit with 0 or prints no JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.run(&[args, &["--json"]].concat()).must_succeed().json()
    }
}

/// Runs a command to its end.
///
/// # Panics
///
/// If it cannot be started.
#[track_caller]
pub fn answer(mut command: Command) -> Answer {
    use std::os::unix::process::ExitStatusExt as _;
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    Answer {
        asked: args.join(" "),
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Answer {
    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("UTF-8 from highwater")
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Itself, if the exit code is the one expected.
    #[track_caller]
    pub fn must_exit(self, code: i32) -> Self {
        let out = String::from_utf8_lossy(&self.out);
        assert_eq!(self.code, code, "`{}` printed:\n{out}{}", self.asked, self.err);
        self
    }

    /// Itself, if the exit code is 0.
    #[track_caller]
    pub fn must_succeed(self) -> Self {
        self.must_exit(0)
    }
}
