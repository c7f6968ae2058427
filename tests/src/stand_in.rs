//! Processes that stand in for the programs of a story, by name and uid.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::binaries;
use crate::ipc_namespace::{IpcNamespace, inode_of};
use crate::process::{Watchdog, stdout_of};

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
        Self::spawn(namespace.command(binaries::ipc_tool()), comm, uid)
    }

    /// The same in an IPC namespace of its own below that one: its first process.
    #[track_caller]
    pub fn in_its_own(namespace: &IpcNamespace, comm: &str, uid: u32) -> Self {
        let mut command = namespace.command("unshare");
        command.args(["--ipc", "--"]).arg(binaries::ipc_tool());
        Self::spawn(command, comm, uid)
    }

    /// The same in the IPC namespace of another one.
    #[track_caller]
    pub fn beside(&self, comm: &str, uid: u32) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["--ipc", "--target", &self.pid().to_string(), "--"]).arg(binaries::ipc_tool());
        Self::spawn(command, comm, uid)
    }

    /// The same in an IPC namespace of its own below that of another one.
    #[track_caller]
    pub fn below(&self, comm: &str, uid: u32) -> Self {
        let mut command = self.command("unshare");
        command.args(["--ipc", "--"]).arg(binaries::ipc_tool());
        Self::spawn(command, comm, uid)
    }

    /// A command of root's that will run in its IPC namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--ipc", "--target", &self.pid().to_string(), "--", program]);
        command
    }

    /// What a shell command in its IPC namespace printed.
    ///
    /// # Panics
    ///
    /// If it fails.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let mut command = self.command("sh");
        command.args(["-e", "-c", script]);
        stdout_of(command)
    }

    #[track_caller]
    fn spawn(mut command: Command, comm: &str, uid: u32) -> Self {
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

    /// Inode of its IPC namespace.
    pub fn inode(&self) -> u64 {
        inode_of(self.pid())
    }

    /// Tells it one line of `ipc-tool`; what the call answered: an id, 0, or a negative errno.
    ///
    /// # Panics
    ///
    /// If it has ended.
    #[track_caller]
    pub fn call(&mut self, line: &str) -> i32 {
        self.tell(line);
        let answer = self.answer();
        answer.parse().unwrap_or_else(|_| panic!("{line}: {answer:?}"))
    }

    /// Tells it a line that it does not answer before it is done with it.
    ///
    /// # Panics
    ///
    /// If it has ended.
    #[track_caller]
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("a pipe to it"), "{line}").expect("it reads");
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
