//! The accept loop: a permit before each connection, TLS within a time, back-off when the process is out of files.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::refusal::RefusalLog;
use super::tls::{Secured, Tls};

/// A TLS handshake takes at most this long.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A connection without a certificate may enrol, and lives this long.
const STRANGER_LIVES: Duration = Duration::from_secs(60);
/// Connections without a certificate at once, handshakes under way included; they must not keep hosts out.
const MOST_STRANGERS: usize = 1024;
/// Wait after a refused `accept`: doubles up to the second figure, milliseconds.
const BACKOFF_MS: (u64, u64) = (10, 1000);

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, DER, signed by our CA and valid now; `None` = it showed none.
    pub certificate: Option<Arc<[u8]>>,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct PeerIo {
    stream: Secured,
    info: PeerInfo,
    /// When a connection without certificate ends.
    until: Option<Pin<Box<Sleep>>>,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl PeerIo {
    /// Who it is.
    pub fn info(&self) -> PeerInfo {
        self.info.clone()
    }
}

/// Takes connections until told to stop; each goes out when its handshake is done.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Tls,
    most_connections: usize,
    out: mpsc::Sender<io::Result<PeerIo>>,
    refused: Arc<RefusalLog>,
    stop: CancellationToken,
) {
    let gate = Gate {
        tls,
        out,
        refused,
        started: Instant::now(),
        strangers: Arc::new(Semaphore::new(MOST_STRANGERS.min(most_connections))),
    };
    let handshakes = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(most_connections));
    let mut wait_ms = BACKOFF_MS.0;
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((tcp, address)) => {
                wait_ms = BACKOFF_MS.0;
                let (gate, stop) = (gate.clone(), stop.clone());
                handshakes.spawn(async move {
                    tokio::select! {
                        () = gate.shake_hands(tcp, address, permit) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            // The peer hung up before it was taken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of files or memory: trying at once would spin, and the connections that are there need the CPU.
                warn!(%error, wait_ms, "cannot take a connection; is the limit of open files too low?");
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                wait_ms = (wait_ms * 2).min(BACKOFF_MS.1);
            }
        }
    }
    handshakes.close();
    handshakes.wait().await;
}

#[derive(Clone)]
struct Gate {
    tls: Tls,
    out: mpsc::Sender<io::Result<PeerIo>>,
    refused: Arc<RefusalLog>,
    started: Instant,
    strangers: Arc<Semaphore>,
}

impl Gate {
    async fn shake_hands(self, tcp: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) {
        // Everybody is a stranger until the handshake is done.
        let Ok(stranger) = Arc::clone(&self.strangers).try_acquire_owned() else {
            return self.refuse(address, "crowd", "too many connections without a certificate");
        };
        if let Err(error) = tcp.set_nodelay(true) {
            return self.refuse(address, "socket", &error.to_string());
        }
        let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, self.tls.shake_hands(tcp)).await;
        let (stream, certificate) = match shaken {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(error)) => return self.refuse(address, "tls", &error.to_string()),
            Err(_) => return self.refuse(address, "slow", "the TLS handshake took more than 10 s"),
        };
        let known = certificate.is_some();
        let peer = PeerIo {
            stream,
            info: PeerInfo { address, certificate },
            until: (!known).then(|| Box::pin(tokio::time::sleep(STRANGER_LIVES))),
            _permits: (permit, (!known).then_some(stranger)),
        };
        // The server is gone only when the collector stops.
        let _ = self.out.send(Ok(peer)).await;
    }

    fn refuse(&self, address: SocketAddr, reason: &'static str, why: &str) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.refused.note(now_ms, address.ip(), reason, why);
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(until) = &mut self.until
            && until.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "a connection without certificate is over",
            )));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
