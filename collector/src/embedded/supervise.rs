//! Keeps the server running until it is told to stop: what `up` holds.

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::binaries;
use super::cluster;
use super::error::EmbeddedError;
use super::layout::Layout;
use super::postmaster::{self, Segment};
use super::process::Programs;
use super::server::{STOPS, Server};
use crate::clock;

/// Between two looks whether the server still runs.
const WATCH: Duration = Duration::from_millis(500);
/// First and longest wait before the server is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The private PostgreSQL: ready when made, started again when it dies, stopped by [`Postgres::stop`].
///
/// Dropped without that, the server goes on running and the next `up` takes it over.
pub struct Postgres {
    options: PgConnectOptions,
    layout: Layout,
    account: Account,
    stop: CancellationToken,
    /// Gives back the server when it is told to stop watching.
    watching: JoinHandle<Server>,
}

/// PostgreSQL's own System V shared memory segment: the only System V object that `up` brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSegment {
    /// Key and id.
    pub segment: Segment,
    /// The user that it belongs to.
    pub user: String,
    /// Its number.
    pub uid: u32,
}

impl Postgres {
    /// Finds the binaries, makes the cluster if there is none, and starts the server or takes it over. `say` gets a
    /// line for each step that takes long. `data_dir` must exist, and the caller must hold its lock. Once `stopping`
    /// is cancelled, what was begun is ended and the answer is [`EmbeddedError::Stopped`].
    pub async fn start(
        data_dir: &Path,
        say: impl Fn(&str),
        stopping: &CancellationToken,
    ) -> Result<Self, EmbeddedError> {
        let account = Account::choose(&data_dir.join("postgres"))?;
        account.check_reaches(data_dir)?;
        let layout = Layout::of(data_dir, &account)?;
        let version = cluster::version(&layout)?;
        let binaries = binaries::choose(&binaries::find()?, &layout.cluster(), version.as_deref())?;
        let programs = Programs { binaries, account: account.clone(), log: layout.log() };
        if version.is_none() {
            say(&format!(
                "making a private PostgreSQL {} cluster in {} (once; takes some seconds)",
                programs.binaries.major,
                layout.cluster().display()
            ));
            cluster::make(&layout, &programs, stopping).await?;
        }
        let mut server = Server::take_or_start(&layout, &programs, stopping).await?;
        let ready = tokio::select! {
            ready = server.ready() => ready,
            () = stopping.cancelled() => Err(EmbeddedError::Stopped),
        };
        if let Err(e) = ready {
            // The error says more than what stopping could add.
            let _ = server.stop(Instant::now() + STOPS).await;
            return Err(e);
        }
        let options = server.options();
        let stop = CancellationToken::new();
        let watching = tokio::spawn(watch_over(server, layout.clone(), programs, stop.clone()));
        Ok(Self { options, layout, account, stop, watching })
    }

    /// How to connect as the collector's role, which owns the database and is no superuser.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The server's own shared memory segment, as its pid file names it now.
    pub fn own_segment(&self) -> Option<OwnSegment> {
        let segment = postmaster::read(&self.layout.cluster())?.segment?;
        Some(OwnSegment { segment, user: self.account.name.clone(), uid: self.account.uid })
    }

    /// [`Postgres::stop_by`] a deadline some seconds away.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        self.stop_by(Instant::now() + STOPS).await
    }

    /// Stops the server and waits until it is gone, which is usually far earlier than `deadline`; the last two seconds
    /// are for force.
    pub async fn stop_by(mut self, deadline: Instant) -> Result<(), EmbeddedError> {
        self.stop.cancel();
        match (&mut self.watching).await {
            Ok(mut server) => server.stop(deadline).await,
            // The watcher panicked, and with it went the only handle of the server.
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nobody is left who could stop it: the server goes on, unwatched.
        self.watching.abort();
    }
}

async fn watch_over(mut server: Server, layout: Layout, programs: Programs, stopped: CancellationToken) -> Server {
    loop {
        if !sleep_unless_stopped(WATCH, &stopped).await {
            return server;
        }
        let Some(how) = server.ended() else { continue };
        tracing::warn!(pid = server.pid(), how, "PostgreSQL ended by itself: starting it again");
        let mut wait = BACKOFF.0;
        loop {
            if !sleep_unless_stopped(jittered(wait), &stopped).await {
                return server;
            }
            match restart(&layout, &programs, &mut server, &stopped).await {
                Ok(()) => break,
                Err(e) => tracing::warn!(error = %e, "PostgreSQL does not start yet"),
            }
            wait = (wait * 2).min(BACKOFF.1);
        }
    }
}

/// Ends early, with the server as far as it has come, when told to stop.
async fn restart(
    layout: &Layout,
    programs: &Programs,
    server: &mut Server,
    stopped: &CancellationToken,
) -> Result<(), EmbeddedError> {
    *server = Server::take_or_start(layout, programs, stopped).await?;
    tokio::select! {
        ready = server.ready() => {
            if ready.is_ok() {
                tracing::warn!(pid = server.pid(), "PostgreSQL runs again");
            }
            ready
        }
        () = stopped.cancelled() => Ok(()),
    }
}

/// `false` = told to stop.
async fn sleep_unless_stopped(time: Duration, stopped: &CancellationToken) -> bool {
    tokio::time::timeout(time, stopped.cancelled()).await.is_err()
}

/// Between half of it and the whole.
fn jittered(wait: Duration) -> Duration {
    let [random] = clock::random::<1>().unwrap_or([128]);
    wait / 2 + wait * u32::from(random) / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_over_half_their_length() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(8));
            assert!((Duration::from_secs(4)..=Duration::from_secs(8)).contains(&wait), "{wait:?}");
        }
    }
}
