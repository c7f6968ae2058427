//! Everything that `up` runs, from the data directory to "ready" and back.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use highwater_agent::config::Interval;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::data_dir::DataDir;
use super::files::{ClientFile, ReadyFile};
use super::listen::{self, Address, Listening, reachable};
use super::notifying;
use super::this_host::{Setup, ThisHost};
use crate::api;
use crate::cli::migrate;
use crate::clock::{SystemClock, WallClock};
use crate::compact::job;
use crate::compact::upkeep::Upkeep;
use crate::embedded::supervise::{OwnSegment, Postgres};
use crate::evaluate::config::Watched;
use crate::health::{AskDisk, Disk, Health};
use crate::identity::ca::Authority;
use crate::identity::enrolment::Enrolment;
use crate::identity::operators::{Operators, Role};
use crate::identity::tokens::Tokens;
use crate::ingest::tls::Tls;
use crate::ingest::{self, Material};
use crate::notify::receiver::Receivers;
use crate::notify::trial::Desk;
use crate::store::history::Reading;
use crate::store::keep::Keep;
use crate::store::{Db, host_status};
use crate::writer::{self, Writer};

/// Connections that everything but the writers shares.
const CONNECTIONS: u32 = 12;
/// Workers that commit: one machine's agents, or a small fleet's.
const WRITERS: usize = 2;
/// Between two certificates of the collector.
const RENEWED: Duration = Duration::from_secs(30 * 86_400);
/// How long all of it may take to stop, so that `up` ends within 10 s; PostgreSQL gets what the parts before it leave.
const STOPS: Duration = Duration::from_secs(9);
/// How long those parts may take: together 5 s.
const AGENT_STOPS: Duration = Duration::from_millis(2500);
const COLLECTOR_STOPS: Duration = Duration::from_millis(2000);
const DRAIN_MS: u64 = 1500;
const POOL_CLOSES: Duration = Duration::from_millis(500);

/// What `up` was asked to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// An existing database; `None` = a private server.
    pub database_url: Option<migrate::DatabaseUrl>,
    /// Between two samples of this host.
    pub interval: Interval,
    /// Address of the API; `None` = the default one or a free port.
    pub http: Option<Address>,
    /// Address for agents; likewise.
    pub grpc: Option<Address>,
    /// Whether this host gets an agent.
    pub agent: bool,
    /// Where to say that it is ready.
    pub ready_file: Option<PathBuf>,
    /// How long what is kept.
    pub keep: Keep,
    /// Whom to tell of flags.
    pub receivers: Arc<Receivers>,
    /// How hosts are judged.
    pub rules: Watched,
}

/// Where everything is, once it is. No `Debug`: it holds a token.
#[derive(Clone, Default)]
pub struct Ready {
    /// The API, `http://IP:PORT`.
    pub http: String,
    /// For agents, `https://IP:PORT`.
    pub grpc: String,
    /// An operator's token.
    pub token: String,
    /// This host's id; `None` without an agent.
    pub host: Option<String>,
    /// Its name, escaped.
    pub host_name: Option<String>,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// The private PostgreSQL's own System V segment.
    pub own_segment: Option<OwnSegment>,
}

/// The running parts, in the order in which they were started.
pub struct Stack {
    /// Where everything is.
    pub ready: Ready,
    data: DataDir,
    postgres: Option<Postgres>,
    db: Option<Db>,
    serving: CancellationToken,
    api: Option<JoinHandle<()>>,
    ingest: Option<ingest::Server>,
    renewing: Option<JoinHandle<()>>,
    compacting: Option<(CancellationToken, JoinHandle<()>)>,
    upkeep: Option<JoinHandle<()>>,
    notifying: Option<JoinHandle<()>>,
    this_host: Option<ThisHost>,
    ready_file: Option<ReadyFile>,
}

/// What the parts of the collector share.
#[derive(Clone)]
struct Shared {
    db: Db,
    authority: Arc<Authority>,
    clock: Arc<dyn WallClock>,
    operators: Operators,
    tokens: Tokens,
}

impl Stack {
    /// Starts everything. If a part fails, or `stopping` is cancelled, what was started is stopped again.
    pub async fn start(settings: Settings, stopping: &CancellationToken) -> anyhow::Result<Self> {
        let data = DataDir::open(&settings.data_dir)?;
        let mut stack = Self::empty(data);
        match stack.build(settings, stopping).await {
            Ok(()) => Ok(stack),
            Err(e) => {
                if let Err(also) = stack.stop().await {
                    tracing::warn!(error = %also, "stopping what was started");
                }
                Err(e)
            }
        }
    }

    /// Nothing runs yet.
    fn empty(data: DataDir) -> Self {
        Self {
            ready: Ready { data_dir: data.path().to_owned(), ..Ready::default() },
            data,
            postgres: None,
            db: None,
            serving: CancellationToken::new(),
            api: None,
            ingest: None,
            renewing: None,
            compacting: None,
            upkeep: None,
            notifying: None,
            this_host: None,
            ready_file: None,
        }
    }

    async fn build(&mut self, settings: Settings, stopping: &CancellationToken) -> anyhow::Result<()> {
        self.ready_file = settings.ready_file.clone().map(ReadyFile::clear).transpose()?;
        // Before anything slow: an address that was asked for and is taken is known at once.
        let http = listen::http(settings.http).await?;
        let grpc = listen::grpc(settings.grpc).await?;
        let options = match &settings.database_url {
            Some(url) => url.options(),
            None => {
                let postgres = Postgres::start(self.data.path(), say, stopping).await?;
                self.ready.own_segment = postgres.own_segment();
                self.postgres.insert(postgres).options()
            }
        };
        // From here on a signal may cut any step short: what runs by then is in `self`, and is stopped.
        tokio::select! {
            built = self.build_on(options, &settings, http, grpc) => built,
            () = stopping.cancelled() => anyhow::bail!("stopped before it was ready"),
        }
    }

    async fn build_on(
        &mut self,
        options: migrate::Options,
        settings: &Settings,
        http: Listening,
        grpc: Listening,
    ) -> anyhow::Result<()> {
        let shared = self.shared(options).await?;
        if settings.database_url.is_none() {
            // A server of our own has no other collector, and the one before could be killed: nobody holds a host, and
            // no newcomer need wait to see whether somebody does.
            host_status::disconnect_all(&shared.db, shared.clock.now_ms()).await?;
        }
        self.ready.http = format!("http://{}", http.bound);
        self.ready.grpc = format!("https://{}", reachable(grpc.bound));
        for (what, listening) in [("the API", &http), ("agents", &grpc)] {
            if let Some(taken) = listening.instead_of {
                say(&format!("{taken} is taken: {what} listens on {} instead", listening.bound));
            }
        }
        self.ready.token = self.operator_token(&shared).await?;
        let grpc_at = reachable(grpc.bound);
        let health = self.start_ingest(&shared, grpc).await?;
        self.start_compacting(&shared, health.clone(), settings.rules.clone());
        let http_at = http.bound;
        self.start_upkeep(&shared, health.clone(), settings.keep);
        let (clock, receivers) = (shared.clock.clone(), settings.receivers.clone());
        let means = notifying::Means { db: shared.db.clone(), clock, health: health.clone(), receivers };
        let (notifying, desk) = notifying::start(means, self.serving.clone());
        self.notifying = notifying;
        self.start_api(&shared, http, (health, settings, desk));
        answers(http_at).await?;
        if settings.agent {
            self.start_this_host(&shared, settings, grpc_at).await?;
        }
        let Ready { http, token, host, .. } = self.ready.clone();
        ClientFile { http, token, host }.store(self.data.path())?;
        Ok(())
    }

    /// Writes the ready file, if one was asked for.
    pub fn say_ready(&self) -> anyhow::Result<()> {
        match &self.ready_file {
            Some(file) => Ok(file.write(&self.ready)?),
            None => Ok(()),
        }
    }

    /// Connects, migrates, and opens the CA.
    async fn shared(&mut self, options: migrate::Options) -> anyhow::Result<Shared> {
        let db = Db::connect(options, CONNECTIONS).await.context("connecting")?;
        self.db = Some(db.clone());
        db.require_durability().await?;
        for applied in db.migrate().await? {
            tracing::info!(migration = applied, "applied");
        }
        let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
        let authority = Arc::new(Authority::open(&self.data.path().join("ca"), clock.now_ms())?);
        Ok(Shared {
            operators: Operators::new(db.clone(), clock.clone()),
            tokens: Tokens::new(db.clone(), authority.pin(), clock.clone()),
            db,
            authority,
            clock,
        })
    }

    /// The token of the client file of an earlier run, if this database still knows it; else a new one.
    async fn operator_token(&self, shared: &Shared) -> anyhow::Result<String> {
        if let Some(earlier) = ClientFile::load(self.data.path())?
            && shared.operators.verify(&earlier.token).await?.is_some_and(|o| o.role == Role::Admin)
        {
            return Ok(earlier.token);
        }
        Ok(shared.operators.add("up", "up", Role::Admin).await?.reveal())
    }

    async fn start_ingest(&mut self, shared: &Shared, grpc: Listening) -> anyhow::Result<Arc<Health>> {
        let tls = Tls::new(&material(shared)?)?;
        let writing = writer::Config { workers: WRITERS, drain_ms: DRAIN_MS, ..writer::Config::default() };
        let writer = Writer::start(shared.db.clone(), shared.clock.clone(), writing).await?;
        let health = writer.health();
        let enrolment = Enrolment::new(shared.db.clone(), shared.authority.clone(), shared.clock.clone());
        self.renewing = Some(tokio::spawn(renew(tls.clone(), shared.clone())));
        let services = ingest::Services { tls, writer, enrolment };
        let config = ingest::Config::default();
        self.ingest = Some(ingest::Server::start(grpc.listener, services, config).context("serving agents")?);
        Ok(health)
    }

    fn start_api(&mut self, shared: &Shared, http: Listening, with: (Arc<Health>, &Settings, Desk)) {
        let (health, settings, notify) = with;
        let cluster = settings.database_url.is_none().then(|| self.data.path().join("postgres"));
        let state = api::ApiState {
            db: shared.db.clone(),
            clock: shared.clock.clone(),
            operators: shared.operators.clone(),
            tokens: shared.tokens.clone(),
            health,
            disk: cluster.map(ask_disk),
            keep: settings.keep,
            notify,
            rules: settings.rules.clone(),
        };
        let stop = self.serving.clone().cancelled_owned();
        self.api = Some(tokio::spawn(async move {
            if let Err(e) = api::serve(http.listener, state, stop).await {
                tracing::error!(error = %e, "the API ended");
            }
        }));
    }

    fn start_compacting(&mut self, shared: &Shared, health: Arc<Health>, rules: Watched) {
        let (stop, holder) = (CancellationToken::new(), format!("pid {}", std::process::id()));
        let job = job::Job { db: shared.db.clone(), clock: shared.clock.clone(), health, holder, rules };
        self.compacting = Some((stop.clone(), tokio::spawn(job.run(job::Config::default(), stop))));
    }

    fn start_upkeep(&mut self, shared: &Shared, health: Arc<Health>, keep: Keep) {
        let (db, clock) = (shared.db.clone(), shared.clock.clone());
        let holder = format!("pid {}", std::process::id());
        let upkeep = Upkeep { db, clock, health, keep, holder };
        self.upkeep = Some(tokio::spawn(upkeep.run(self.serving.clone())));
    }

    async fn start_this_host(&mut self, shared: &Shared, settings: &Settings, grpc: SocketAddr) -> anyhow::Result<()> {
        let since_ms = shared.clock.now_ms();
        let setup = Setup {
            db: &shared.db,
            tokens: &shared.tokens,
            pin: shared.authority.pin(),
            grpc,
            state_dir: self.data.path().join("agent"),
            interval: settings.interval,
            now_ms: since_ms,
        };
        let this_host = self.this_host.insert(ThisHost::start(setup).await?);
        this_host.first_sample(&shared.db, since_ms, settings.interval).await?;
        self.ready.host = Some(this_host.host.to_string());
        let mut reading = Reading::begin(&shared.db).await?;
        self.ready.host_name = reading.host_by_id(this_host.host).await?.map(|h| h.name);
        Ok(())
    }

    /// Runs until `stopping` is cancelled; an error is a part that ended by itself.
    pub async fn run(&mut self, stopping: &CancellationToken) -> anyhow::Result<()> {
        let agent_ended = async {
            match &mut self.this_host {
                Some(this_host) => this_host.ended().await,
                None => std::future::pending().await,
            }
        };
        let api_ended = async {
            match &mut self.api {
                Some(api) => api.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopping.cancelled() => Ok(()),
            error = agent_ended => {
                self.this_host = None;
                Err(error)
            }
            ended = api_ended => {
                self.api = None;
                ended.context("the API")?;
                anyhow::bail!("the API ended by itself")
            }
        }
    }

    /// Stops everything: the agent first (its last words are still stored), the collector, the API, PostgreSQL.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + STOPS;
        if let Some(file) = self.ready_file.take() {
            file.remove();
        }
        if let Some(this_host) = self.this_host.take() {
            within(AGENT_STOPS, "this host's agent", this_host.stop()).await;
        }
        if let Some(renewing) = self.renewing.take() {
            renewing.abort();
        }
        self.serving.cancel();
        let compacting = self.compacting.take();
        if let Some((stop, _)) = &compacting {
            stop.cancel();
        }
        let (ingest, api) = (self.ingest.take(), self.api.take());
        let ingest = async {
            if let Some(server) = ingest {
                within(COLLECTOR_STOPS, "the collector", server.shutdown()).await;
            }
        };
        let api = async {
            if let Some(mut task) = api
                && within(COLLECTOR_STOPS, "the API", &mut task).await.is_none()
            {
                task.abort();
            }
        };
        let compacting = async {
            // A step that is cut short changes nothing, or is done.
            if let Some((_, mut task)) = compacting
                && within(COLLECTOR_STOPS, "compaction", &mut task).await.is_none()
            {
                task.abort();
            }
        };
        let upkeep = self.upkeep.take();
        let upkeep = async {
            if let Some(mut task) = upkeep
                && within(COLLECTOR_STOPS, "what looks after partitions", &mut task).await.is_none()
            {
                task.abort();
            }
        };
        let notifying = self.notifying.take();
        let notifying = async {
            // What a receiver has taken and was not marked is sent again under the same id.
            if let Some(mut task) = notifying
                && within(COLLECTOR_STOPS, "telling receivers", &mut task).await.is_none()
            {
                task.abort();
            }
        };
        tokio::join!(ingest, api, compacting, upkeep, notifying);
        if let Some(db) = self.db.take() {
            within(POOL_CLOSES, "the database connections", db.close()).await;
        }
        match self.postgres.take() {
            Some(postgres) => Ok(postgres.stop_by(deadline).await?),
            None => Ok(()),
        }
    }
}

/// What the collector shows to agents, with a new key.
fn material(shared: &Shared) -> anyhow::Result<Material> {
    let shown = shared.authority.server_certificate(shared.clock.now_ms())?;
    Ok(Material { ca: shared.authority.certificate().to_vec(), chain: shown.chain, key: shown.key })
}

/// Shows a new certificate now and then: `up` may run longer than one lives.
async fn renew(tls: Tls, shared: Shared) {
    loop {
        tokio::time::sleep(RENEWED).await;
        let renewed = material(&shared).and_then(|material| Ok(tls.replace(&material)?));
        if let Err(error) = renewed {
            tracing::warn!(%error, "the collector's certificate was not renewed");
        }
    }
}

async fn within<T>(most: Duration, what: &str, work: impl Future<Output = T>) -> Option<T> {
    let done = tokio::time::timeout(most, work).await.ok();
    if done.is_none() {
        tracing::warn!(what, "did not stop in time");
    }
    done
}

/// Asks for the room on the disk of a directory.
fn ask_disk(directory: PathBuf) -> AskDisk {
    Arc::new(move || {
        let room = highwater_agent::sys::disk::room(&directory).ok()?;
        Some(Disk { path: directory.display().to_string(), free: room.free, size: room.size })
    })
}

/// Asks the API whether it answers.
async fn answers(http: SocketAddr) -> anyhow::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let asked = async {
        let mut connection = tokio::net::TcpStream::connect(http).await?;
        connection.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        connection.take(4096).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let failed = || format!("asking the API on {http}");
    let answer =
        tokio::time::timeout(Duration::from_secs(5), asked).await.with_context(failed)?.with_context(failed)?;
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "the API on {http} does not answer as it should");
    Ok(())
}

/// A line about a step that takes long, or a choice that was made.
fn say(line: &str) {
    eprintln!("highwater: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_api_that_ends_by_itself_ends_up_with_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&dir.path().join("data")).unwrap();
        let mut stack = Stack::empty(data);
        stack.api = Some(tokio::spawn(async {}));
        let error = stack.run(&CancellationToken::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "the API ended by itself");
        stack.stop().await.unwrap();
    }
}
