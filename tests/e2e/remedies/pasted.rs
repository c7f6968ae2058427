//! A root shell to paste commands into whose `/proc` is made of files, and in which `ipcrm` removes nothing and says what it
//! was told. The text of a command stays as it is printed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use highwater_ipc::object::SemArray;
use highwater_ipc::remedy::INITIAL_PID_NAMESPACE;
use highwater_tests::process::need_root;
use tempfile::TempDir;

use super::machine::Machine;

/// What a shell finds.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Inode of its IPC namespace.
    pub(crate) ipc: u64,
    /// Inode of its pid namespace.
    pub(crate) pid: u64,
    /// Whether it sees other processes.
    pub(crate) sees: bool,
}

/// The shell; ended on drop, and with its input.
pub(crate) struct Shell {
    root: TempDir,
    child: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Says what it was told.
const IPCRM: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" >> \"$HIGHWATER_BOX/removed\"\n";
/// As `ipcs -s -i ID` of util-linux prints.
const IPCS: &str = "#!/bin/sh\n[ \"$1 $2\" = '-s -i' ] && cat \"$HIGHWATER_BOX/semaphores/$3\"\n";
/// Enters the IPC namespace of a process.
const NSENTER: &str = "#!/bin/sh
[ \"$1 $2\" = '-i -t' ] && there=$(readlink \"/proc/$3/ns/ipc\") || exit 1
shift 3
ln -sfn \"$there\" /proc/self/ns/ipc
ln -sfn \"/proc/.ipc/$there\" /proc/sysvipc
exec \"$@\"
";
/// Runs a command a line of its input.
const LOOP: &str = "mount --bind \"$HIGHWATER_BOX/proc\" /proc && cd / && PATH=$HIGHWATER_BOX/bin:$PATH && echo ready
while read -r line; do sh \"$HIGHWATER_BOX/command\" > \"$HIGHWATER_BOX/out\" 2>&1; echo \"done $?\"; done";

impl Shell {
    /// Opens it.
    pub(crate) fn open() -> Self {
        need_root("a mount namespace");
        let root = tempfile::Builder::new().prefix("highwater-box-").tempdir().unwrap();
        for directory in ["bin", "proc", "semaphores"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        for (name, text) in [("ipcrm", IPCRM), ("ipcs", IPCS), ("nsenter", NSENTER)] {
            let file = root.path().join("bin").join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", LOOP]).env("HIGHWATER_BOX", root.path()).env("LC_ALL", "C");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare of util-linux");
        let (input, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut this = Self { root, child, input, answers };
        assert_eq!(this.answer(), "ready");
        this
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn path(&self, of: &str) -> PathBuf {
        self.root.path().join(of)
    }

    /// Runs a command on a machine as it is now: the ids that were removed.
    pub(crate) fn paste(&mut self, command: &str, machine: &Machine, place: &Place) -> Vec<i32> {
        self.build(machine, place);
        fs::write(self.path("command"), format!("{command}\n")).unwrap();
        fs::write(self.path("removed"), "").unwrap();
        self.input.write_all(b"paste\n").unwrap();
        let answer = self.answer();
        assert!(answer.starts_with("done "), "{answer}");
        let told = fs::read_to_string(self.path("removed")).unwrap();
        let mut words = told.lines();
        let mut removed = Vec::new();
        while let Some(word) = words.next() {
            // Nothing but `-v` once and `-s ID`: neither all, nor a key.
            match word {
                "-v" if removed.is_empty() => {}
                "-s" => removed.push(words.next().unwrap().parse().unwrap()),
                _ => panic!("ipcrm {told}"),
            }
        }
        removed
    }

    fn build(&self, machine: &Machine, place: &Place) {
        let proc = self.path("proc");
        for entry in fs::read_dir(&proc).unwrap().map(|entry| entry.unwrap()) {
            let is_directory = entry.file_type().unwrap().is_dir();
            if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }.unwrap();
        }
        let write = |file: &str, text: &str| {
            let file = proc.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("sys/kernel/random/boot_id", &format!("{}\n", machine.boot_id));
        let link = |file: &str, text: &str| {
            let file = proc.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            symlink(text, file).unwrap();
        };
        link("self/ns/ipc", &format!("ipc:[{}]", place.ipc));
        link("self/ns/pid", &format!("pid:[{}]", place.pid));
        let elsewhere = INITIAL_PID_NAMESPACE + 77;
        if place.sees {
            for (pid, process) in &machine.processes {
                write(&format!("{pid}/status"), &machine.status(*pid));
                let inode = if process.inside { machine.namespace.inode } else { elsewhere };
                link(&format!("{pid}/ns/ipc"), &format!("ipc:[{inode}]"));
            }
        }
        let rows: Vec<SemArray> = machine.arrays.values().map(|array| array.row).collect();
        write(&format!(".ipc/ipc:[{}]/sem", machine.namespace.inode), &table(&rows));
        // The same ids are in use elsewhere, by others.
        write(&format!(".ipc/ipc:[{}]/sem", elsewhere), &table(&rows));
        write(&format!(".ipc/ipc:[{}]/sem", place.ipc), &table(&rows));
        link("sysvipc", &format!("/proc/.ipc/ipc:[{}]", place.ipc));
        for semid in machine.arrays.keys() {
            fs::write(self.path("semaphores").join(semid.to_string()), semaphores(machine, *semid)).unwrap();
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `sysvipc_sem_proc_show` of `ipc/sem.c`.
fn table(rows: &[SemArray]) -> String {
    let head = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
    let row = |row: &SemArray| {
        let SemArray { key, semid, perms, nsems, owner, otime, ctime } = row;
        format!(
            "{:10} {semid:10}  {:4o} {nsems:10} {:5} {:5} {:5} {:5} {otime:10} {ctime:10}\n",
            key.0, perms.0, owner.uid, owner.gid, owner.cuid, owner.cgid
        )
    };
    rows.iter().fold(head.to_owned(), |table, of| table + &row(of))
}

/// `print_sem` of util-linux' `sys-utils/ipcs.c`.
fn semaphores(machine: &Machine, semid: i32) -> String {
    let head =
        format!("\nSemaphore Array semid={semid}\nuid=33\t gid=0\t cuid=0\t cgid=0\nmode=0600, access_perms=0600\n");
    let times = "otime = Not set                   \nctime = Mon Nov 30 13:45:37 2026  \n";
    let names = format!("{:<10} {:<10} {:<10} {:<10} {:<10}\n", "semnum", "value", "ncount", "zcount", "pid");
    let rows = machine
        .semaphores(semid)
        .into_iter()
        .enumerate()
        .map(|(number, (waits, pid))| format!("{number:<10} {:<10} {waits:<10} {:<10} {pid:<10}\n", 0, 0));
    head + times + &names + &rows.collect::<String>() + "\n"
}
