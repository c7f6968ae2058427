//! A private PostgreSQL server, on a socket in a temporary directory.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{Watchdog, run, signal, stdout_of};
use crate::small_disk::SmallDisk;
use crate::wait::{PATIENCE, until};

/// A server of its own: a cluster in a temporary directory, one socket, no port. Stopped and removed on drop, or when
/// the test process ends.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    root: PathBuf,
    account: Option<Account>,
    disk: Option<SmallDisk>,
    databases: AtomicU32,
    running: Option<(Child, Watchdog)>,
    settings: Vec<&'static str>,
}

/// The unprivileged account the server runs as when the tests run as root.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

/// A database of its own on a [`Postgres`], owned by a role that is no superuser.
#[derive(Clone, Debug)]
pub struct Database {
    /// For `--database-url`.
    pub url: String,
    /// Its name on the server.
    pub name: String,
    bin: PathBuf,
    socket: PathBuf,
}

impl Postgres {
    /// The one server that the tests of a binary share; each takes a [`Postgres::database`] of its own.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Postgres::start)
    }

    /// A server for one test alone, for those that kill it.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed or does not start.
    pub fn start() -> Self {
        Self::start_on(None, &[])
    }

    /// The same on a file system of its own of so many MiB, which [`Postgres::disk`] fills.
    ///
    /// # Panics
    ///
    /// If this process may not mount one, too.
    pub fn on_small_disk(mib: u32) -> Self {
        Self::start_on(Some(mib), &[])
    }

    /// The same with settings of its own, each as `name=value`.
    ///
    /// # Panics
    ///
    /// Likewise.
    pub fn start_with(settings: &[&'static str]) -> Self {
        Self::start_on(None, settings)
    }

    fn start_on(small: Option<u32>, settings: &[&'static str]) -> Self {
        let bin = find_bin();
        let root = tempfile::Builder::new().prefix("highwater-pg-").tempdir().expect("a temporary directory").keep();
        let account = account();
        // The server's user has to pass through; what is inside is its own.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o711)).expect("chmod");
        let mut disk = None;
        for inner in ["data", "socket"] {
            fs::create_dir(root.join(inner)).expect("mkdir");
            if let (Some(mib), "data") = (small, inner) {
                disk = Some(SmallDisk::mount(&root.join(inner), mib));
                fs::create_dir(root.join("data/cluster")).expect("mkdir");
                if let Some(a) = account {
                    chown(root.join("data/cluster"), Some(a.uid), Some(a.gid)).expect("chown");
                }
            }
            if let Some(a) = account {
                chown(root.join(inner), Some(a.uid), Some(a.gid)).expect("chown");
            }
        }
        let (databases, settings) = (AtomicU32::new(0), settings.to_vec());
        let mut server = Self { bin, root, account, disk, databases, running: None, settings };
        let mut initdb = server.command("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.arg("-D").arg(server.data());
        run(initdb);
        server.launch();
        let role = "CREATE ROLE highwater LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE";
        run(psql(&server.bin, &server.socket(), "postgres", role));
        server
    }

    /// A new, empty database.
    pub fn database(&self) -> Database {
        let name = format!("highwater_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} OWNER highwater");
        run(psql(&self.bin, &self.socket(), "postgres", &create));
        let url = format!("postgres://highwater@localhost/{name}?host={}", self.socket().display());
        Database { url, name, bin: self.bin.clone(), socket: self.socket() }
    }

    /// SIGKILL to the postmaster alone; its children notice and end by themselves.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn kill_postmaster(&mut self) {
        let (mut postmaster, mut watchdog) = self.running.take().expect("a running server");
        watchdog.disarm();
        postmaster.kill().expect("SIGKILL to a child");
        postmaster.wait().expect("waiting for a child");
    }

    /// Writes to its log until it dies of a full disk, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn fill_its_log(&mut self, database: &Database) {
        let mut write = psql(
            &self.bin,
            &self.socket(),
            &database.name,
            "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000)) FROM generate_series(1, 200)",
        );
        let _ = write.stdout(Stdio::null()).stderr(Stdio::null()).status();
        until("the server is gone", PATIENCE, || {
            self.running.as_mut().is_none_or(|(postmaster, _)| postmaster.try_wait().expect("waiting").is_some())
        });
        if let Some((_, mut watchdog)) = self.running.take() {
            watchdog.disarm();
        }
    }

    /// Starts the server again after [`Postgres::kill_postmaster`]; waits until it accepts connections.
    pub fn restart(&mut self) {
        self.launch();
    }

    /// SIGSTOP to the postmaster and all its children: connections stay open and new ones are taken by the kernel, and
    /// nothing is ever answered. What is sent meanwhile arrives when they go on.
    pub fn pause(&self) {
        self.signal_all("STOP");
    }

    /// Lets them go on.
    pub fn resume(&self) {
        self.signal_all("CONT");
    }

    fn signal_all(&self, name: &str) {
        let postmaster = self.running.as_ref().expect("a running server").0.id();
        // The postmaster first: then no child is born unseen.
        signal(postmaster, name);
        for child in children_of(postmaster) {
            signal(child, name);
        }
    }

    /// Directory of the socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("socket")
    }

    /// The file system that it is alone on.
    ///
    /// # Panics
    ///
    /// If it shares one.
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a server on a small disk")
    }

    fn data(&self) -> PathBuf {
        // A mounted file system's root belongs to its mounter.
        self.root.join(if self.disk.is_some() { "data/cluster" } else { "data" })
    }

    /// The postmaster is a child of the test, so that its process id is free as soon as it is dead: where process 1
    /// reaps slowly, the id of a dead one looks alive to the next and keeps it from starting.
    fn launch(&mut self) {
        until("PostgreSQL accepts connections", PATIENCE, || {
            if self.running.as_mut().is_none_or(|(postmaster, _)| postmaster.try_wait().expect("waiting").is_some()) {
                // Not yet started; or refused, as a killed postmaster's children still hold its memory. Whoever watched
                // the one that was refused would remove the directory once it is let go.
                if let Some((_, mut watchdog)) = self.running.take() {
                    watchdog.disarm();
                }
                self.running = Some(self.spawn());
            }
            let mut ready = self.command("pg_isready");
            ready.arg("-q").arg("-h").arg(self.socket());
            ready.status().expect("pg_isready").success()
        });
    }

    fn spawn(&self) -> (Child, Watchdog) {
        let log = File::options().create(true).append(true).open(self.root.join("log")).expect("a log file");
        let mut start = self.command("postgres");
        start.arg("-D").arg(self.data()).arg("-k").arg(self.socket());
        start.args(["-c", "listen_addresses=", "-c", "shared_buffers=32MB"]);
        // For commits that a test leaves in doubt.
        start.args(["-c", "max_prepared_transactions=4"]);
        if self.disk.is_some() {
            start.args(["-c", "min_wal_size=32MB", "-c", "max_wal_size=48MB"]);
        }
        for setting in &self.settings {
            start.args(["-c", setting]);
        }
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let postmaster = start.spawn().expect("postgres");
        let watchdog = Watchdog::of(postmaster.id(), "INT", Some(&self.root));
        (postmaster, watchdog)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir("/").env("LC_ALL", "C");
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.resume();
        }
        if let Some((mut postmaster, mut watchdog)) = self.running.take() {
            watchdog.disarm();
            signal(postmaster.id(), "INT");
            let _ = postmaster.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL's log ---\n{}", fs::read_to_string(self.root.join("log")).unwrap_or_default());
        }
        drop(self.disk.take());
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl Database {
    /// Runs SQL as the server's superuser and returns the rows, fields separated by `|`.
    ///
    /// # Panics
    ///
    /// If the server refuses it.
    #[track_caller]
    pub fn sql(&self, text: &str) -> String {
        stdout_of(psql(&self.bin, &self.socket, &self.name, text))
    }

    /// Runs a file of SQL in one transaction as the role that owns the database, as a migration runs.
    #[track_caller]
    pub fn apply(&self, file: &Path) {
        let mut command = Command::new(self.bin.join("psql"));
        command.args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "--single-transaction",
            "-U",
            "highwater",
            "-d",
            &self.name,
        ]);
        command.arg("-h").arg(&self.socket).arg("-f").arg(file);
        run(command);
    }

    /// Everything in it as `pg_dump` prints it, while it is in use.
    pub fn dump(&self) -> String {
        let mut command = Command::new(self.bin.join("pg_dump"));
        command.args(["-U", "postgres", "-d", &self.name, "-h"]).arg(&self.socket);
        stdout_of(command)
    }

    /// Puts a dump in the place of what is there, as after a loss; who is connected is thrown out.
    ///
    /// # Panics
    ///
    /// If the server refuses a statement of it.
    #[track_caller]
    pub fn restore(&self, dump: &str) {
        let name = &self.name;
        for statement in
            [format!("DROP DATABASE {name} WITH (FORCE)"), format!("CREATE DATABASE {name} OWNER highwater")]
        {
            run(psql(&self.bin, &self.socket, "postgres", &statement));
        }
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(dump.as_bytes()).expect("writing the dump");
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", name, "-h"]).arg(&self.socket);
        command.arg("-f").arg(file.path());
        run(command);
    }

    /// Runs SQL in a transaction that stays open until the answer is dropped, e.g. to hold a lock.
    ///
    /// # Panics
    ///
    /// If the server refuses it.
    #[track_caller]
    pub fn hold(&self, text: &str) -> Held {
        let mut command = psql(&self.bin, &self.socket, &self.name, "BEGIN");
        command.arg("-c").arg(text).args(["-c", "SELECT 'held'", "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql");
        let mut first = String::new();
        let printed = child.stdout.as_mut().map(|out| BufReader::new(out).read_line(&mut first));
        assert!(printed.is_some_and(|read| read.is_ok()) && first == "held\n", "psql did not run {text}: {first}");
        Held(child)
    }

    /// The schema as `pg_dump --schema-only` prints it.
    pub fn dump_schema(&self) -> String {
        let mut command = Command::new(self.bin.join("pg_dump"));
        command.args(["--schema-only", "--no-owner", "--no-privileges", "-U", "postgres", "-d", &self.name]);
        command.arg("-h").arg(&self.socket);
        stdout_of(command)
    }
}

/// A transaction that is open; dropped, it is rolled back.
#[derive(Debug)]
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        // psql ends with its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let of = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        (line.trim().parse() == Ok(parent)).then_some(pid)
    };
    fs::read_dir("/proc").expect("/proc").filter_map(Result::ok).filter_map(of).collect()
}

fn psql(bin: &Path, socket: &Path, database: &str, text: &str) -> Command {
    let mut command = Command::new(bin.join("psql"));
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
    command.arg("-h").arg(socket).arg("-c").arg(text);
    command
}

/// The newest installed server, as `up` looks for it.
fn find_bin() -> PathBuf {
    let version = |dir: &fs::DirEntry| dir.file_name().to_str().and_then(|n| n.parse::<u32>().ok());
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let newest = installed.filter(|d| d.path().join("bin/postgres").is_file()).max_by_key(version);
    newest.map(|d| d.path().join("bin")).expect("PostgreSQL's server in /usr/lib/postgresql: `make test` installs it")
}

/// PostgreSQL refuses to run as root; then the account that its package made is used.
fn account() -> Option<Account> {
    if !fs::read_to_string("/proc/self/status").is_ok_and(|s| s.contains("\nUid:\t0\t0\t")) {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = passwd.lines().find(|l| l.starts_with("postgres:")).expect("the user postgres, which its package makes");
    let field = |n| line.split(':').nth(n).and_then(|v| v.parse().ok()).expect("numbers in /etc/passwd");
    Some(Account { uid: field(2), gid: field(3) })
}
