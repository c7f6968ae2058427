//! Processes that stand in for the programs of a story, by name and uid.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::binaries;
use crate::ipc_namespace::IpcNamespace;
use crate::process::Watchdog;

/// A process with a comm and a uid that makes System V IPC calls as it is told. Killed on drop.
#[derive(Debug)]
pub struct StandIn {
    child: Child,
    watchdog: Watchdog,
    input: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl StandIn {
    /// Starts it in a namespace without processes of its own.
    ///
    /// # Panics
    ///
    /// If it cannot take that name and uid.
    #[track_caller]
    pub fn new(namespace: &IpcNamespace, comm: &str, uid: u32) -> Self {
        let mut command = namespace.command(binaries::ipc_tool());
        command.args(["as", comm, &uid.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("nsenter of util-linux");
        let watchdog = Watchdog::of(child.id(), "KILL", None);
        let input = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a pipe from it"));
        let mut this = Self { child, watchdog, input, answers };
        assert_eq!(this.answer(), "ready");
        this
    }

    /// Its process id, as the machine's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it one line of `ipc-tool`; what the call answered: an id, 0, or a negative errno.
    ///
    /// # Panics
    ///
    /// If it has ended.
    #[track_caller]
    pub fn call(&mut self, line: &str) -> i32 {
        writeln!(self.input.as_mut().expect("a pipe to it"), "{line}").expect("it reads");
        let answer = self.answer();
        answer.parse().unwrap_or_else(|_| panic!("{line}: {answer:?}"))
    }

    /// SIGKILL, and waits for it to be gone.
    pub fn kill(mut self) {
        self.end();
    }

    #[track_caller]
    fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim_end().to_owned()
    }

    fn end(&mut self) {
        // The watchdog goes first: after `wait` the id may belong to another process.
        self.watchdog.disarm();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.end();
    }
}
