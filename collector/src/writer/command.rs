//! What a worker is asked to do, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use highwater_ipc::record::EpochNo;
use highwater_ipc::session::{Hello, Now, StoredEpoch};
use tokio::sync::oneshot;

use super::ack::Outbox;
use super::admit;
use super::arrival::Arrival;
use super::room::Room;
use crate::host::{HostId, Quarantine};
use crate::store::host_status::TurnedAway;
use crate::store::stream::Session;

/// What a worker is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Store a record.
    Record(Item),
    /// Begin a session.
    Open(OpenRequest, oneshot::Sender<Result<Opened, OpenError>>),
    /// Note the present of a host that is behind.
    Now(HostId, Session, Box<Now>),
    /// A session's stream has ended.
    Close(HostId, Session),
    /// A newcomer was quarantined.
    TurnedAway(TurnedAway),
}

impl Command {
    /// Whose.
    pub(super) fn host(&self) -> HostId {
        match self {
            Command::Record(item) => item.host,
            Command::Open(request, _) => request.host,
            Command::Now(host, ..) | Command::Close(host, _) => *host,
            Command::TurnedAway(newcomer) => newcomer.host,
        }
    }
}

/// A record on its way to a commit.
#[derive(Debug)]
pub struct Item {
    /// Whose.
    pub host: HostId,
    /// The session it came in.
    pub session: Session,
    /// Its epoch.
    pub epoch: EpochNo,
    /// The record.
    pub arrival: Arrival,
    /// Its room, given back when it is dropped.
    pub _share: Option<Room>,
}

/// A host says hello.
#[derive(Debug)]
pub struct OpenRequest {
    /// Who its certificate names.
    pub host: HostId,
    /// Collector's clock when its certificate was signed, milliseconds since 1970, rounded down to a second.
    pub enrolled_ms: i64,
    /// What it says.
    pub hello: Hello,
    /// Collector's clock when that was read, milliseconds since 1970: what it waits for after that is no skew.
    pub read_ms: i64,
    /// Where its stream listens.
    pub outbox: Arc<Outbox>,
}

/// A session has begun, or could not because the current epoch is a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number.
    pub session: Session,
    /// The collector's clock, milliseconds since 1970.
    pub server_wall_ms: i64,
    /// Each epoch of the hello, in its order.
    pub epochs: Vec<StoredEpoch>,
}

impl Opened {
    /// Whether the current epoch is a fork: nothing can be written under this session, and the host's own goes on.
    pub fn is_forked(&self) -> bool {
        admit::is_forked(&self.epochs)
    }
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
    /// Another collector held the host and has not said that it no longer does.
    #[error(
        "another collector held this host until a moment ago: another agent of it takes its place when that one has \
         been silent for three intervals; try again"
    )]
    Held {
        /// When it may be known.
        again: Duration,
    },
    /// The database did not answer.
    #[error("the collector's database cannot be reached now; try again later")]
    Unavailable,
    /// The collector is stopping.
    #[error("the collector is stopping; connect again")]
    Stopping,
}
