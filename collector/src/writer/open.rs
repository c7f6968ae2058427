//! Begins a session: one transaction that fences every older session of the host and says what is stored.

use std::sync::Arc;

use highwater_ipc::session::{Hello, StoredEpoch, Verdict};
use tracing::warn;

use super::ack::{Ended, Outbox};
use super::admit::{self, Quarantine};
use super::state::{HostState, Skew};
use super::worker::{Entry, Worker};
use crate::clock;
use crate::host::HostId;
use crate::store::host_facts::Facts;
use crate::store::host_status::Present;
use crate::store::stream::{Session, Stream};
use crate::store::tx::{Committed, Dedicated};
use crate::store::{StoreError, host_facts, host_name, host_status, stream};

/// The transaction is tried this often: a connection that broke while nobody used it, or another collector that opens
/// the same host.
const MOST_TRIES: u32 = 3;

/// A host says hello.
#[derive(Debug)]
pub struct OpenRequest {
    /// Who its certificate names.
    pub host: HostId,
    /// What it says.
    pub hello: Hello,
    /// Collector's clock when that was read, milliseconds since 1970: what it waits for after that is no skew.
    pub read_ms: i64,
    /// Where its stream listens.
    pub outbox: Arc<Outbox>,
}

/// A session has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub session: Session,
    /// The collector's clock, milliseconds since 1970.
    pub server_wall_ms: i64,
    /// Each epoch of the hello, in its order.
    pub epochs: Vec<StoredEpoch>,
}

/// Why no session began.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The certificate is this collector's, the host is not in its database.
    #[error("this host is not enrolled in the collector's database: enrol it with `highwater-agent enrol`")]
    UnknownHost,
    /// A copy of a host that is written already.
    #[error(transparent)]
    Quarantined(#[from] Quarantine),
    /// The database did not answer.
    #[error("the collector's database cannot be reached now; try again later")]
    Unavailable,
    /// The collector is stopping.
    #[error("the collector is stopping; connect again")]
    Stopping,
}

/// What is stored of a host.
pub(super) struct Read {
    pub(super) streams: Vec<Stream>,
    pub(super) facts: Option<Facts>,
    pub(super) proof: Committed,
}

/// What the opening transaction found.
struct Taken {
    epochs: Vec<StoredEpoch>,
    streams: Vec<Stream>,
    facts: Option<Facts>,
    present: Option<Present>,
}

impl Worker {
    /// Opens a session. The stream that held the host before ends.
    pub(super) async fn open(&mut self, request: OpenRequest) -> Result<Opened, OpenError> {
        let host = request.host;
        let now = self.moment();
        let (server_wall_ms, read_ms) = (now.wall_ms, request.read_ms);
        let hello = Arc::new(request.hello);
        let session = new_session().ok_or(OpenError::Unavailable)?;
        let opening = Opening { host, session, now_ms: now.wall_ms, read_ms, hello: Arc::clone(&hello) };
        let taken = self.take(&opening).await?;
        if let Some(before) = self.hosts.remove(&host) {
            before.outbox.end(Ended::Replaced);
        }
        if admit::wants_keyframe(&taken.epochs, &taken.streams) {
            request.outbox.want_keyframe();
        }
        let opened = Opened { session, server_wall_ms, epochs: taken.epochs.clone() };
        let state = HostState {
            session,
            hello: Arc::new(hello.facts.clone()),
            skew: Skew::at_hello(hello.now, now.back_to(read_ms)),
            streams: admit::writable(&taken.epochs, &taken.streams).into_iter().map(|s| (s.epoch.no, s)).collect(),
            facts: taken.facts.map(Arc::new),
            present: taken.present,
            // A backlog outlives the session that announced it: the next may say so only seconds later.
            ahead: taken.present.and_then(|p| p.backlog_from_ms).map(|_| hello.now),
        };
        self.hosts.insert(host, Entry { state, outbox: request.outbox });
        Ok(opened)
    }

    async fn take(&mut self, opening: &Opening) -> Result<Taken, OpenError> {
        for _ in 0..MOST_TRIES {
            let (host, opening) = (opening.host, opening.clone());
            match self.link.run(move |connection| Box::pin(transaction(connection, opening))).await {
                Ok(Some(taken)) => return taken,
                Ok(None) => {}
                Err(error) => warn!(%error, %host, "opening a session"),
            }
        }
        Err(OpenError::Unavailable)
    }
}

/// What the opening transaction needs.
#[derive(Clone)]
struct Opening {
    host: HostId,
    session: Session,
    now_ms: i64,
    read_ms: i64,
    hello: Arc<Hello>,
}

/// `None`: another collector opened the same host in between; to be done again.
async fn transaction(
    connection: &mut Dedicated,
    opening: Opening,
) -> Result<Option<Result<Taken, OpenError>>, StoreError> {
    let Opening { host, session, now_ms, read_ms, hello } = opening;
    let mut tx = connection.write().await?;
    // The reference table first: Citus refuses it after a distributed one.
    if !host_name::set(&mut tx, host, &hello.facts.hostname.escaped()).await? {
        tx.rollback().await?;
        return Ok(Some(Err(OpenError::UnknownHost)));
    }
    let stored = stream::of_host(&mut tx, host).await?;
    let epochs = match admit::judge(&hello, &stored) {
        Ok(epochs) => epochs,
        Err(quarantine) => {
            tx.rollback().await?;
            return Ok(Some(Err(quarantine.into())));
        }
    };
    let missing: Vec<_> = hello
        .epochs
        .iter()
        .zip(&epochs)
        .filter(|(_, answer)| answer.verdict == Verdict::Continue && admit::row(&stored, answer.no).is_none())
        .map(|(spooled, _)| (spooled.epoch, spooled.boot_id))
        .collect();
    if !missing.is_empty() {
        stream::insert_missing(&mut tx, host, session, now_ms, &missing).await?;
    }
    // Waits for a commit under way, and what it returns is what no older session can change any more.
    let streams = stream::set_session(&mut tx, host, session).await?;
    if admit::judge(&hello, &streams).as_ref() != Ok(&epochs) {
        tx.rollback().await?;
        return Ok(None);
    }
    let skew_ms = hello.now.wall_ms.saturating_sub(read_ms);
    let present = host_status::resume(&mut tx, host, session, skew_ms, now_ms).await?;
    let facts = host_facts::latest(&mut tx, host).await?;
    tx.commit().await?;
    Ok(Some(Ok(Taken { epochs, streams, facts, present })))
}

/// Reads what is stored of a host.
pub(super) async fn read(connection: &mut Dedicated, host: HostId) -> Result<Read, StoreError> {
    let mut tx = connection.write().await?;
    let streams = stream::of_host(&mut tx, host).await?;
    let facts = host_facts::latest(&mut tx, host).await?;
    let proof = tx.commit().await?;
    Ok(Read { streams, facts, proof })
}

fn new_session() -> Option<Session> {
    let [a, b, c, d, e, f, g, h] = clock::random::<8>().ok()?;
    Some(Session(i64::from_be_bytes([a & 0x7f, b, c, d, e, f, g, h]).max(1)))
}
