//! Starts the agents' port and ends it in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::accept;
use super::live::Shared;
use super::refusal::RefusalLog;
use super::service::{self, Handlers};
use super::tls::Tls;
use crate::identity::enrolment::Enrolment;
use crate::writer::Writer;

/// Connections that are shaken hands with and not served yet.
const WAITING: usize = 64;
/// How long streams, and then connections, have to end when the collector stops.
const GRACE: Duration = Duration::from_secs(2);

/// How the port behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections at once, at least 1; further ones wait in the kernel's queue. Each needs an open file. Default
    /// 16,384.
    pub connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { connections: 16_384 }
    }
}

/// What the port works with.
pub struct Services {
    /// Its certificate and whom it trusts.
    pub tls: Tls,
    /// Stores records; ends with the server.
    pub writer: Writer,
    /// Enrols hosts.
    pub enrolment: Enrolment,
}

/// The open port.
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
    serving: JoinHandle<Result<(), io::Error>>,
    streams: TaskTracker,
    writer: Writer,
}

impl Server {
    /// Serves agents on `listener`.
    pub fn start(listener: TcpListener, services: Services, config: Config) -> io::Result<Self> {
        let Services { tls, writer, enrolment } = services;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let refused = Arc::new(RefusalLog::new());
        let streams = TaskTracker::new();
        let handlers = Handlers {
            shared: Shared { writer: writer.handle(), registry: Arc::default(), stop: stop.clone() },
            enrolment,
            refused: Arc::clone(&refused),
            streams: streams.clone(),
        };
        let (out, connections) = mpsc::channel(WAITING);
        let most = config.connections.max(1);
        let accepting = tokio::spawn(accept::accept(listener, tls, most, out, refused, stop.clone()));
        let serving = tokio::spawn(service::serve(handlers, connections, stop.clone()));
        Ok(Self { address, stop, accepting, serving, streams, writer })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, tells every agent to come back later, and commits what is queued; its agents hear of
    /// it in their next welcome. Takes at most some seconds; what is not durable by then stays with the agents.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.streams.close();
        if tokio::time::timeout(GRACE, self.streams.wait()).await.is_err() {
            warn!("some agents do not end their streams; leaving them");
        }
        if tokio::time::timeout(GRACE, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
        if tokio::time::timeout(GRACE, &mut self.accepting).await.is_err() {
            self.accepting.abort();
        }
        self.writer.shutdown().await;
    }
}
