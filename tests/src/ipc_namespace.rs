//! IPC namespaces to make objects in, so that no test touches the machine's own.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use crate::binaries;
use crate::process::{need_root, run, stdout_of};
use crate::wait::{PATIENCE, until_some};

/// Private namespaces, held by a process that ends with this value (and with the test process, as its input closes).
#[derive(Debug)]
pub struct IpcNamespace {
    unshare: Child,
    holder: u32,
    entered: &'static [&'static str],
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl IpcNamespace {
    /// A new IPC namespace and a mount namespace; processes and files are the machine's. In the mount namespace
    /// fixtures can be bound over files ([`IpcNamespace::bind`]).
    ///
    /// # Panics
    ///
    /// Without root.
    pub fn new() -> Self {
        Self::unshare(&["--ipc", "--mount"], &["--ipc", "--mount"], None)
    }

    /// The same with a host name of its own, so that an agent in it is told apart by name.
    pub fn named(host: &str) -> Self {
        Self::unshare(&["--ipc", "--mount", "--uts"], &["--ipc", "--mount", "--uts"], Some(host))
    }

    /// The same with processes of its own: whatever still runs in it is killed when it goes.
    pub fn with_processes(host: &str) -> Self {
        let outer = ["--ipc", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"];
        Self::unshare(&outer, &["--ipc", "--mount", "--uts", "--pid"], Some(host))
    }

    /// Processes of their own within this namespace: whatever still runs among them is killed when they go. Seen from the
    /// machine they are ordinary ones, so an agent outside sees all of them.
    pub fn processes(&self) -> Self {
        let mut command = self.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command.arg(binaries::ipc_tool()).arg("hold");
        Self::held(command, &["--ipc", "--mount", "--uts", "--pid"], true)
    }

    /// A further IPC namespace below this one, which must have processes of its own: a container, to an agent in this one.
    /// Its first process is `program`, a copy of `ipc-tool` or a way to run it (`setpriv .. ipc-tool`).
    pub fn container(&self, program: &[&OsStr]) -> Self {
        assert!(self.entered.contains(&"--pid"), "an agent elsewhere would take it for another host's");
        let mut command = self.command("unshare");
        command.args(["--ipc", "--"]).args(program).arg("hold");
        Self::held(command, self.entered, true)
    }

    /// The same as an unprivileged user can make it: root in a user namespace of its own.
    pub fn unprivileged_container(&self, program: &[&OsStr]) -> Self {
        assert!(self.entered.contains(&"--pid"), "an agent elsewhere would take it for another host's");
        let mut command = self.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
        command.args(["unshare", "--user", "--map-root-user", "--ipc", "--"]).args(program).arg("hold");
        // What the test runs in it is root of the machine all the same.
        Self::held(command, self.entered, true)
    }

    fn unshare(flags: &[&str], entered: &'static [&'static str], host: Option<&str>) -> Self {
        need_root("an IPC namespace");
        let mut command = Command::new("unshare");
        command.args(flags).arg("--").arg(binaries::ipc_tool()).arg("hold");
        let made = Self::held(command, entered, flags.contains(&"--fork"));
        if let Some(name) = host {
            made.shell(&format!("echo {name} > /proc/sys/kernel/hostname"));
        }
        made
    }

    /// The namespaces of the holder that this command, or its only child, becomes.
    fn held(mut command: Command, entered: &'static [&'static str], forks: bool) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut unshare = command.spawn().expect("unshare of util-linux");
        let input = unshare.stdin.take().expect("a pipe to the holder");
        let mut answers = BufReader::new(unshare.stdout.take().expect("a pipe from the holder"));
        let mut ready = String::new();
        answers.read_line(&mut ready).expect("a line");
        assert_eq!(ready, "holding\n", "the namespace's holder did not start: {command:?}");
        let holder = if forks { only_child(unshare.id()) } else { unshare.id() };
        Self { unshare, holder, entered, pipes: Mutex::new((input, answers)) }
    }

    /// Kills the process that holds it, and with the last one it is gone.
    pub fn kill(self) {
        crate::process::signal(self.holder, "KILL");
    }

    /// A process in it, as this test sees it.
    pub fn pid(&self) -> u32 {
        self.holder
    }

    /// Inode of the IPC namespace, as `/proc/PID/ns/ipc` names it.
    pub fn inode(&self) -> u64 {
        inode_of(self.holder)
    }

    /// A command that will run in it. With processes of its own the command is a child of `nsenter`; otherwise
    /// `nsenter` becomes the command, so that the process started is the command itself.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.to_string()).args(self.entered).arg("--").arg(program);
        // Other tests have namespaces at the same time; whoever tests that an agent sees them says otherwise.
        command.env("HIGHWATER_NAMESPACES", "own");
        command
    }

    /// Runs a shell command in it and returns what it printed.
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

    /// Shows the file or directory `source` in place of `target`, for processes in this namespace only.
    #[track_caller]
    pub fn bind(&self, source: &Path, target: &str) {
        let mut command = self.command("mount");
        command.arg("--bind").arg(source).arg(target);
        run(command);
    }

    /// Hides a directory behind an empty one, for processes in this namespace only.
    #[track_caller]
    pub fn hide_directory(&self, target: &str) {
        let mut command = self.command("mount");
        command.args(["-t", "tmpfs", "-o", "ro", "highwater-hidden", target]);
        run(command);
    }

    /// Mounts tracefs, for processes in this namespace only: an agent in it can trace.
    #[track_caller]
    pub fn mount_tracefs(&self) {
        self.shell("mount -t tracefs nodev /sys/kernel/tracing");
    }

    /// What a process in this namespace finds as the running kernel's configuration: `text`, or none at all.
    #[track_caller]
    pub fn kernel_config(&self, text: Option<&str>) {
        // An empty file is no configuration; where the kernel offers none, the other places decide.
        self.shell("[ ! -e /proc/config.gz ] || mount --bind /dev/null /proc/config.gz");
        self.shell("for d in /boot /lib/modules; do [ ! -d $d ] || mount -t tmpfs highwater-hidden $d; done");
        if let Some(text) = text {
            let mut command = self.command("sh");
            command.args([
                "-e",
                "-c",
                r#"mkdir -p /boot; printf '%s' "$1" > "/boot/config-$(uname -r)""#,
                "config",
                text,
            ]);
            run(command);
        }
    }

    /// The agent where every user may run it, for processes in this namespace only: the build's own directory need not
    /// be open to others.
    ///
    /// # Panics
    ///
    /// If it cannot be put there.
    #[track_caller]
    pub fn public_agent(&self) -> &'static str {
        const PLACE: &str = "/var/lib/highwater-public";
        let mut command = self.command("sh");
        let script = "mount -t tmpfs -o mode=0755 fixture /var/lib; mkdir $1; cp $2 $1/highwater-agent; chmod 755 $1/*";
        command.args(["-e", "-c", script, "public", PLACE]).arg(binaries::agent());
        run(command);
        "/var/lib/highwater-public/highwater-agent"
    }

    /// Runs `ipc-tool` on one line and returns what it printed: the id for `create-…`, nothing otherwise.
    /// The commands are those of `tests/src/bin/ipc_tool.rs`.
    #[track_caller]
    pub fn tool(&self, line: &str) -> String {
        self.script(line).trim_end().to_owned()
    }

    /// Makes an object with a `create-…` command of `ipc-tool`; returns its id.
    #[track_caller]
    pub fn create(&self, line: &str) -> i32 {
        self.tool(line).parse().expect("an id from ipc-tool")
    }

    /// Attaches a shared memory segment for as long as the namespace lives; removing it then leaves it as `dest`.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    #[track_caller]
    pub fn attach(&self, shmid: i32) {
        let mut pipes = self.pipes.lock().expect("a holder that has not failed before");
        writeln!(pipes.0, "attach {shmid}").expect("the holder reads");
        let mut answer = String::new();
        pipes.1.read_line(&mut answer).expect("the holder answers");
        assert_eq!(answer, "attached\n", "attaching {shmid}");
    }

    /// Runs many lines in one process; returns the ids that its `create-…` lines made, one a line.
    ///
    /// # Panics
    ///
    /// If one fails, with its error.
    #[track_caller]
    pub fn script(&self, lines: &str) -> String {
        let mut command = self.command(binaries::ipc_tool());
        command.arg("script").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut tool = command.spawn().expect("nsenter of util-linux");
        let mut input = tool.stdin.take().expect("a pipe to ipc-tool");
        input.write_all(lines.as_bytes()).expect("ipc-tool reads its script before it prints more than a pipe holds");
        drop(input);
        let mut printed = String::new();
        tool.stdout.take().expect("a pipe from ipc-tool").read_to_string(&mut printed).expect("UTF-8");
        assert!(tool.wait().expect("ipc-tool").success(), "ipc-tool refused a line of:\n{lines}");
        printed
    }
}

impl Default for IpcNamespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for IpcNamespace {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Inode of a process's IPC namespace.
pub(crate) fn inode_of(pid: u32) -> u64 {
    let link = fs::read_link(format!("/proc/{pid}/ns/ipc")).expect("a process's namespace");
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("an inode")
}

/// The child of `unshare --fork`, which is process 1 in its namespace, or of an `nsenter` that entered a PID namespace.
pub fn only_child(parent: u32) -> u32 {
    let list = format!("/proc/{parent}/task/{parent}/children");
    until_some("unshare forks the holder", PATIENCE, || {
        fs::read_to_string(&list).ok()?.split_whitespace().next()?.parse().ok()
    })
}
