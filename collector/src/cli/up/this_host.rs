//! This host's own agent inside `up`: enrolled and connected by mutual TLS like any other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use highwater_agent::agent::{self, AgentHandle};
use highwater_agent::config::{Config, Interval};
use highwater_agent::kernel::identity::host_facts;
use highwater_agent::kernel::real::RealKernel;
use highwater_agent::spool::disk::PrivateDir;
use highwater_agent::transport::enrol::{EnrolOptions, enrol};
use highwater_agent::transport::enrolment::Enrolment;

use crate::host::HostId;
use crate::identity::certificate;
use crate::identity::tokens::{NewToken, Tokens};
use crate::store::Db;
use crate::store::history::Reading;

/// A certificate that lives no longer than this is replaced at the next start, milliseconds.
const RENEW_BEFORE_MS: i64 = 30 * 86_400_000;
/// Life of the token with which this host enrols, milliseconds: it is used at once.
const TOKEN_MS: i64 = 600_000;
/// Until this host's first sample must be stored, beyond three intervals: behind a collector that was killed with its
/// agent, the new one waits for so long to see whether the old one lives.
const FIRST_SAMPLE: Duration = Duration::from_secs(30);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// The agent of this host and who it is.
pub struct ThisHost {
    /// Its id.
    pub host: HostId,
    agent: AgentHandle,
}

/// What the agent needs.
pub struct Setup<'a> {
    /// The database: is this host still known there?
    pub db: &'a Db,
    /// Makes the token.
    pub tokens: &'a Tokens,
    /// The CA's: is the one that this host trusts still it?
    pub pin: [u8; 32],
    /// Where the collector listens, as this machine reaches it.
    pub grpc: SocketAddr,
    /// The agent's state.
    pub state_dir: PathBuf,
    /// Between two samples.
    pub interval: Interval,
    /// Wall clock now, milliseconds since 1970.
    pub now_ms: i64,
}

impl ThisHost {
    /// Enrols this host unless it is, and starts its agent.
    pub async fn start(setup: Setup<'_>) -> anyhow::Result<Self> {
        let host = match known(&setup).await? {
            Known::Enrolled(host) => host,
            Known::Renews(host) => enrol_here(&setup, Some(host)).await?,
            Known::No => enrol_here(&setup, None).await?,
        };
        let config = Config {
            collector: Some(format!("https://{}", setup.grpc)),
            state_dir: setup.state_dir,
            interval: setup.interval,
            ..Config::from_environment(&|name| std::env::var_os(name))?
        };
        let agent = agent::spawn(config).context("starting this host's agent")?;
        Ok(Self { host, agent })
    }

    /// Waits until a sample taken after `since_ms` (wall clock) is stored.
    pub async fn first_sample(&mut self, db: &Db, since_ms: i64, interval: Interval) -> anyhow::Result<()> {
        let host = self.host;
        let stored = async {
            loop {
                let mut reading = Reading::begin(db).await?;
                let newest = reading.newest_stretch(host).await?;
                drop(reading);
                if newest.is_some_and(|stretch| stretch.end_wall_ms >= since_ms) {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let most = FIRST_SAMPLE + 3 * Duration::from_millis(interval.ms().into());
        let too_late =
            || format!("no sample of this host was stored within {} s: run again with -v to see why", most.as_secs());
        tokio::select! {
            stored = tokio::time::timeout(most, stored) => stored.with_context(too_late)?,
            error = self.ended() => Err(error),
        }
    }

    /// Returns only if the agent ends by itself, which it should not.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.agent.ended().await {
            Ok(()) => anyhow::anyhow!("this host's agent ended by itself"),
            Err(e) => anyhow::Error::new(e).context("this host's agent"),
        }
    }

    /// Ends the agent in order.
    pub async fn stop(self) {
        match tokio::task::spawn_blocking(|| self.agent.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "this host's agent"),
            Err(error) => tracing::warn!(%error, "stopping this host's agent"),
        }
    }
}

enum Known {
    /// The state directory's host is the database's.
    Enrolled(HostId),
    /// It is, but its certificate ends soon.
    Renews(HostId),
    /// Never enrolled, or at another collector or database.
    No,
}

async fn known(setup: &Setup<'_>) -> anyhow::Result<Known> {
    let Some(enrolment) = load(&setup.state_dir)? else { return Ok(Known::No) };
    let Some(host) = HostId::parse(&enrolment.host_id) else { return Ok(Known::No) };
    let mut reading = Reading::begin(setup.db).await?;
    if reading.host_by_id(host).await?.is_none() {
        return Ok(Known::No);
    }
    let same_ca = certificate::pin_of_pem(&enrolment.ca_pem).is_ok_and(|pin| pin == setup.pin);
    let lives = enrolment.not_after_ms.saturating_sub(setup.now_ms) > RENEW_BEFORE_MS;
    Ok(if same_ca && lives { Known::Enrolled(host) } else { Known::Renews(host) })
}

fn load(state_dir: &Path) -> anyhow::Result<Option<Enrolment>> {
    let mut state = PrivateDir::create(state_dir)
        .with_context(|| format!("the agent's state directory {}", state_dir.display()))?;
    Enrolment::load(&mut state).with_context(|| format!("the agent's state in {}", state_dir.display()))
}

/// By the same way as any other host: a token, used once, over TLS.
async fn enrol_here(setup: &Setup<'_>, host: Option<HostId>) -> anyhow::Result<HostId> {
    let new = NewToken { ttl_ms: TOKEN_MS, host, ..NewToken::default() };
    let token = setup.tokens.create("up", &new).await?.token;
    let facts = host_facts(&mut RealKernel::new());
    let enrolled = enrol(EnrolOptions {
        collector: format!("https://{}", setup.grpc),
        token,
        state_dir: setup.state_dir.clone(),
        hostname: facts.hostname,
        machine_id: facts.machine_id,
    })
    .await
    .context("enrolling this host")?;
    HostId::parse(&enrolled.host_id).context("the collector gave this host an id that is none")
}
