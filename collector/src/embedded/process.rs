//! Runs PostgreSQL's programs as the server's user, with their words in the log.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::binaries::Binaries;
use super::error::{EmbeddedError, failed};
use crate::secret_file;

/// A log beyond this is put aside before the next start, bytes.
const LOG_BYTES: u64 = 4 << 20;
/// The most of a log that is read to explain a failure, bytes.
const TAIL_BYTES: u64 = 64 << 10;
/// How long a program may take to end when it is asked to.
const ENDS: Duration = Duration::from_secs(3);
/// Between two looks at a process.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// How programs are run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Which PostgreSQL.
    pub binaries: Binaries,
    /// As whom.
    pub account: Account,
    /// Where their words go.
    pub log: PathBuf,
}

/// A program that ends with its owner: dropping this kills it.
pub struct Running {
    child: Child,
}

impl Programs {
    /// A command with a bare environment, in a process group of its own: Ctrl-C in the terminal is for `up` alone.
    pub fn command(&self, program: &'static str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null());
        self.account.apply(&mut command);
        command
    }

    /// Starts a command with its output in the log.
    pub fn start(&self, program: &'static str, mut command: Command) -> Result<Child, EmbeddedError> {
        let log = open_log(&self.log)?;
        let second = log.try_clone().map_err(failed("opening", &self.log))?;
        command.stdout(log).stderr(second);
        command.spawn().map_err(failed("starting", &self.binaries.program(program)))
    }

    /// Runs a command to its end, with `input` on its stdin; a status other than 0 is an error. Returns what it said.
    /// Once `stopping` is cancelled it is asked to end (a server that is killed leaves its shared memory behind).
    pub async fn run(
        &self,
        program: &'static str,
        mut command: Command,
        input: &str,
        most: Duration,
        stopping: &CancellationToken,
    ) -> Result<String, EmbeddedError> {
        let from = log_len(&self.log);
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut running = Running { child: self.start(program, command)? };
        if let Some(mut stdin) = running.child.stdin.take() {
            // A program that ends early says so by its status.
            let _ = stdin.write_all(input.as_bytes());
        }
        let status = tokio::select! {
            status = running.wait(program, most, &self.log) => status?,
            () = stopping.cancelled() => {
                self.signal("TERM", running.child.id()).await;
                // What it says of its end is of no interest, and if it does not end it is killed.
                let _ = running.wait(program, ENDS, &self.log).await;
                return Err(EmbeddedError::Stopped);
            }
        };
        let said = log_since(&self.log, from);
        if !status.success() {
            return Err(self.failure(program, status.to_string(), &said));
        }
        Ok(said)
    }

    /// Sends a signal, such as `TERM`, by PostgreSQL's own tool: the process may be another user's.
    pub async fn signal(&self, signal: &'static str, pid: u32) {
        let mut kill = self.command("pg_ctl");
        kill.args(["kill", signal, &pid.to_string()]);
        let sent = async { Running { child: self.start("pg_ctl", kill)? }.wait("pg_ctl", ENDS, &self.log).await };
        if let Err(e) = sent.await {
            tracing::debug!(error = %e, signal, pid, "pg_ctl kill");
        }
    }

    /// The error for a program that failed, explained from what it said.
    pub fn failure(&self, program: &'static str, status: String, said: &str) -> EmbeddedError {
        if let Some(line) = lacks_sysvipc(said) {
            return EmbeddedError::NoSysVIpc { said: line.to_owned() };
        }
        EmbeddedError::Program { program, status, said: telling_line(said).to_owned(), log: self.log.clone() }
    }
}

impl Running {
    async fn wait(&mut self, program: &'static str, most: Duration, log: &Path) -> Result<ExitStatus, EmbeddedError> {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().map_err(failed("waiting for", Path::new(program)))? {
                    return Ok(status);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(most, ended).await {
            Ok(status) => status,
            Err(_) => Err(EmbeddedError::TooSlow { what: program, seconds: most.as_secs(), log: log.to_owned() }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Length of the log now, bytes.
pub fn log_len(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |m| m.len())
}

/// What was written to the log since it had `from` bytes; the last 64 KiB of it.
pub fn log_since(log: &Path, from: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Puts a log that has grown too large aside. Only while no server writes to it.
pub fn rotate_log(log: &Path) -> Result<(), EmbeddedError> {
    if log_len(log) > LOG_BYTES {
        fs::rename(log, log.with_extension("log.1")).map_err(failed("putting aside", log))?;
    }
    Ok(())
}

fn open_log(log: &Path) -> Result<File, EmbeddedError> {
    Ok(secret_file::open(log, OpenOptions::new().append(true))?)
}

/// The line in which PostgreSQL says that the kernel has no System V shared memory: shmget gave ENOSYS.
fn lacks_sysvipc(said: &str) -> Option<&str> {
    said.lines()
        .find(|l| l.contains("could not create shared memory segment") && l.contains("Function not implemented"))
        .map(strip_stamp)
}

/// The first line that tells of a failure, else the last one.
fn telling_line(said: &str) -> &str {
    let grave = |l: &&str| ["PANIC:", "FATAL:", "ERROR:", "error:"].iter().any(|word| l.contains(word));
    let line = said.lines().find(grave).or_else(|| said.lines().rfind(|l| !l.trim().is_empty()));
    line.map_or("it said nothing", strip_stamp)
}

/// Without the time and process id before the level.
fn strip_stamp(line: &str) -> &str {
    let level = ["PANIC:", "FATAL:", "ERROR:"].iter().find_map(|word| line.find(word));
    line.get(level.unwrap_or(0)..).unwrap_or(line).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_by_its_own_line() {
        let said = "2026-11-24 22:00:00.000 UTC [7] LOG:  starting\n\
                    2026-11-24 22:00:00.000 UTC [7] FATAL:  lock file \"postmaster.pid\" already exists\n\
                    2026-11-24 22:00:00.000 UTC [7] HINT:  x\n";
        assert_eq!(telling_line(said), "FATAL:  lock file \"postmaster.pid\" already exists");
        assert_eq!(telling_line("one\ntwo\n\n"), "two");
        assert_eq!(telling_line(""), "it said nothing");
        assert_eq!(lacks_sysvipc(said), None);
    }

    #[test]
    fn a_kernel_without_system_v_ipc_is_recognised() {
        let said = "2026-11-24 22:00:00 UTC [7] FATAL:  could not create shared memory segment: Function not implemented\n\
                    2026-11-24 22:00:00 UTC [7] DETAIL:  Failed system call was shmget(key=1, size=56, 03600).\n";
        assert_eq!(
            lacks_sysvipc(said),
            Some("FATAL:  could not create shared memory segment: Function not implemented")
        );
    }

    #[test]
    fn the_log_is_read_from_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("postgres.log");
        writeln!(open_log(&log).unwrap(), "old").unwrap();
        let from = log_len(&log);
        writeln!(open_log(&log).unwrap(), "new").unwrap();
        assert_eq!(log_since(&log, from), "new\n");
        assert_eq!(log_since(&dir.path().join("none"), 0), "");
    }
}
