//! One run of the server: started or taken over, ready, ended.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{self, NAME};
use super::error::{EmbeddedError, failed};
use super::layout::{Layout, PORT};
use super::postmaster::{self, Found};
use super::process::{self, LOOK, Programs};

/// Until a server that has to recover first must accept connections.
const READY: Duration = Duration::from_secs(300);
/// For one attempt to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Within which a server is stopped for which nobody set another deadline.
pub const STOPS: Duration = Duration::from_secs(4);
/// The part of a deadline that is kept for an immediate shutdown, and that for SIGKILL.
const FORCED: Duration = Duration::from_secs(1);
/// Connections that the server allows.
const CONNECTIONS: u32 = 60;

/// A server that this process watches over.
pub struct Server {
    process: Process,
    programs: Programs,
    layout: Layout,
    password: String,
    log_from: u64,
}

enum Process {
    /// Started here.
    Child(Child),
    /// Left running by an `up` that was killed.
    Left(u32),
}

impl Server {
    /// Takes over the server that runs on this cluster, or starts one, unless `stopping` is cancelled by then. It need
    /// not be ready yet.
    pub async fn take_or_start(
        layout: &Layout,
        programs: &Programs,
        stopping: &CancellationToken,
    ) -> Result<Self, EmbeddedError> {
        let password = cluster::password(layout)?;
        cluster::write_hba(layout)?;
        layout.make_run(&programs.account)?;
        let of = |process, log_from| Self {
            process,
            programs: programs.clone(),
            layout: layout.clone(),
            password: password.clone(),
            log_from,
        };
        if let Some(left) = postmaster::read(&layout.cluster()) {
            match postmaster::look(left.pid, &layout.cluster()) {
                Found::Server => {
                    tracing::info!(pid = left.pid, "PostgreSQL was left running");
                    let mut server = of(Process::Left(left.pid), process::log_len(&layout.log()));
                    if left.ready && left.socket_folder == layout.run {
                        return Ok(server);
                    }
                    server.stop(Instant::now() + STOPS).await?;
                    if stopping.is_cancelled() {
                        return Err(EmbeddedError::Stopped);
                    }
                }
                // It may have written this pid before a reboot, and would take whoever has it now for a server.
                Found::Other => clear_stale(layout)?,
                Found::Unclear => {}
            }
        } else {
            clear_stale(layout)?;
        }
        process::rotate_log(&layout.log())?;
        let log_from = process::log_len(&layout.log());
        let child = programs.start("postgres", command(layout, programs))?;
        Ok(of(Process::Child(child), log_from))
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Child(child) => child.id(),
            Process::Left(pid) => *pid,
        }
    }

    /// How to connect as the collector's role.
    pub fn options(&self) -> PgConnectOptions {
        options(&self.layout, &self.password)
    }

    /// Waits until the server takes the collector's connection.
    pub async fn ready(&mut self) -> Result<(), EmbeddedError> {
        let log = self.layout.log();
        match tokio::time::timeout(READY, self.until_ready()).await {
            Ok(ready) => ready,
            Err(_) => Err(EmbeddedError::TooSlow { what: "PostgreSQL's start", seconds: READY.as_secs(), log }),
        }
    }

    async fn until_ready(&mut self) -> Result<(), EmbeddedError> {
        loop {
            if let Some(how) = self.ended() {
                let said = process::log_since(&self.layout.log(), self.log_from);
                return Err(self.programs.failure("postgres", how, &said));
            }
            if self.connects().await? {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How the server ended, if it did.
    pub fn ended(&mut self) -> Option<String> {
        match &mut self.process {
            Process::Child(child) => match child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(status.to_string()),
                Err(e) => Some(e.to_string()),
            },
            Process::Left(pid) => match postmaster::look(*pid, &self.layout.cluster()) {
                Found::Server => None,
                Found::Other | Found::Unclear => Some("it is gone".to_owned()),
            },
        }
    }

    /// Stops the server by `deadline`: fast, then immediately, then by SIGKILL, whoever started it. Returns when it is
    /// gone.
    pub async fn stop(&mut self, deadline: Instant) -> Result<(), EmbeddedError> {
        let before = |time| deadline.checked_sub(time).unwrap_or(deadline);
        let started = Instant::now();
        // What the server's postmaster takes them for: a fast shutdown (it writes a checkpoint), an immediate one.
        for (signal, until) in [("INT", before(FORCED * 2)), ("QUIT", before(FORCED)), ("KILL", deadline)] {
            if tokio::time::timeout_at(until, self.end_by(signal)).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(pid = self.pid(), signal, "PostgreSQL did not stop in time");
        }
        Err(EmbeddedError::TooSlow {
            what: "stopping PostgreSQL",
            seconds: started.elapsed().as_secs(),
            log: self.layout.log(),
        })
    }

    /// Signals the server if it is still there and is this cluster's, and waits until it is gone.
    async fn end_by(&mut self, signal: &'static str) {
        if self.ended().is_none() {
            self.programs.signal(signal, self.pid()).await;
        }
        while self.ended().is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `false` = not yet; a refused password is an error, for it will not get better.
    async fn connects(&self) -> Result<bool, EmbeddedError> {
        if !self.layout.socket().exists() {
            return Ok(false);
        }
        let options = self.options().disable_statement_logging();
        match tokio::time::timeout(CONNECT, PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => {
                let _ = connection.close().await;
                Ok(true)
            }
            Ok(Err(sqlx::Error::Database(e))) if matches!(e.code().as_deref(), Some("28P01" | "28000" | "3D000")) => {
                Err(EmbeddedError::Password {
                    cluster: self.layout.cluster(),
                    file: self.layout.password(),
                    why: e.to_string(),
                })
            }
            Ok(Err(_)) | Err(_) => Ok(false),
        }
    }
}

fn options(layout: &Layout, password: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(&layout.run)
        .port(PORT)
        .username(NAME)
        .password(password)
        .database(NAME)
        .application_name("highwater")
}

/// Everything the server needs is on its command line: the cluster's own configuration stays as initdb wrote it.
fn command(layout: &Layout, programs: &Programs) -> Command {
    let mut command = programs.command("postgres");
    command.arg("-D").arg(layout.cluster());
    let run = layout.run.display().to_string();
    let hba = layout.hba().display().to_string();
    for (name, value) in [
        ("listen_addresses", ""),
        ("port", &PORT.to_string()),
        ("unix_socket_directories", &quoted_list(&run)),
        ("unix_socket_permissions", "0700"),
        ("hba_file", &hba),
        ("password_encryption", "scram-sha-256"),
        ("max_connections", &CONNECTIONS.to_string()),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
        ("log_checkpoints", "off"),
        ("log_min_messages", "warning"),
        ("log_min_error_statement", "panic"),
        ("cluster_name", "highwater"),
    ] {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command
}

/// A list of one folder, as a setting that holds a list: a comma or quote in the path is part of it.
fn quoted_list(folder: &str) -> String {
    format!("\"{}\"", folder.replace('"', "\"\""))
}

/// Removes what a server that is gone left: its pid file and socket would stop the next one if their pid lives again.
fn clear_stale(layout: &Layout) -> Result<(), EmbeddedError> {
    let socket = layout.socket();
    let mut lock = socket.clone().into_os_string();
    lock.push(".lock");
    for file in [layout.cluster().join("postmaster.pid"), socket, lock.into()] {
        match fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("removing", &file)(e)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_odd_letters_is_still_one_folder() {
        assert_eq!(quoted_list("/a b,c"), "\"/a b,c\"");
        assert_eq!(quoted_list("/a\"b"), "\"/a\"\"b\"");
    }
}
