//! The accept loop: a permit before each connection, TLS within a time, back-off when the process is out of files.
//!
//! Whoever is sent away is logged by address and reason here, up to the first bytes of HTTP/2; from there on `service`
//! does it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::refusal::RefusalLog;
use super::strangers::{Stranger, Strangers};
use super::tls::{Secured, Tls};

/// A TLS handshake takes at most this long.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A connection without a certificate may enrol, and lives this long.
const STRANGER_LIVES: Duration = Duration::from_secs(60);
/// Connections without a certificate at once, handshakes under way included; they must not keep hosts out.
const MOST_STRANGERS: usize = 1024;
/// At that bound, how long each may stay before it makes room: a handshake takes milliseconds.
const STRANGER_STAYS: Duration = Duration::from_secs(1);
/// How long a peer may take to read why it is sent away, and how much of what it sent meanwhile is read for that.
const LAST_WORDS: (Duration, u64) = (Duration::from_secs(1), 64 << 10);
/// What every HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
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
    /// How many bytes of [`PREFACE`] it has said.
    prefaced: usize,
    /// Its place and when it ends, if it has no certificate.
    stranger: Option<(Stranger, Pin<Box<Sleep>>)>,
    refused: Arc<RefusalLog>,
    _permit: OwnedSemaphorePermit,
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
    let gate =
        Gate { tls, out, refused, strangers: Strangers::new(MOST_STRANGERS.min(most_connections), STRANGER_STAYS) };
    let handshakes = TaskTracker::new();
    let (refused, told) = (Arc::clone(&gate.refused), stop.clone());
    handshakes.spawn(async move { refused.tell_counts(told).await });
    let permits = Arc::new(Semaphore::new(most_connections));
    let mut wait_ms = BACKOFF_MS.0;
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        let Ok(permit) = permit else { break };
        // Everybody is a stranger until the handshake is done.
        let place = tokio::select! {
            place = gate.strangers.place() => place,
            () = stop.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((tcp, address)) => {
                wait_ms = BACKOFF_MS.0;
                let stranger = gate.strangers.enter(place);
                let (gate, stop) = (gate.clone(), stop.clone());
                handshakes.spawn(async move {
                    tokio::select! {
                        () = gate.shake_hands(tcp, address, permit, stranger) => {}
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
    strangers: Arc<Strangers>,
}

impl Gate {
    async fn shake_hands(
        self,
        tcp: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
        mut stranger: Stranger,
    ) {
        let refuse = |reason, why: &str| self.refused.note(address.ip(), reason, why);
        if let Err(error) = tcp.set_nodelay(true) {
            return refuse("socket", &error.to_string());
        }
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_WITHIN, self.tls.shake_hands(tcp)) => shaken,
            () = &mut stranger => return refuse("crowd", CROWD),
        };
        let (stream, certificate) = match shaken {
            Ok(Ok(shaken)) => shaken,
            Ok(Err(failed)) => {
                refuse(failed.reason, &failed.why);
                return last_words(failed.tcp).await;
            }
            Err(_) => return refuse("slow", "the TLS handshake took more than 10 s"),
        };
        let lives = || Box::pin(tokio::time::sleep(STRANGER_LIVES));
        let peer = PeerIo {
            stream,
            prefaced: 0,
            stranger: certificate.is_none().then(|| (stranger, lives())),
            info: PeerInfo { address, certificate },
            refused: self.refused,
            _permit: permit,
        };
        // The server is gone only when the collector stops.
        let _ = self.out.send(Ok(peer)).await;
    }
}

const CROWD: &str = "too many connections without a certificate, and this one was the oldest";

/// Lets the peer read the alert that it was sent: closing a socket with unread bytes in it makes the kernel tell the
/// peer of a reset instead.
async fn last_words(mut tcp: TcpStream) {
    let read = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(LAST_WORDS.1), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LAST_WORDS.0, read).await;
}

impl PeerIo {
    /// Why a connection without certificate is over.
    fn overstayed(&mut self, cx: &mut Context<'_>) -> Option<(&'static str, &'static str)> {
        let (stranger, until) = self.stranger.as_mut()?;
        if Pin::new(stranger).poll(cx).is_ready() {
            return Some(("crowd", CROWD));
        }
        let over = until.as_mut().poll(cx).is_ready();
        over.then_some(("slow", "a connection without certificate lives 60 s: long enough to enrol"))
    }

    /// Compares what it says first with what every HTTP/2 client says.
    fn is_http2(&mut self, said: &[u8]) -> bool {
        let expected = PREFACE.get(self.prefaced..).unwrap_or_default();
        self.prefaced = self.prefaced.saturating_add(said.len());
        expected.iter().zip(said).all(|(a, b)| a == b)
    }

    fn refuse(&mut self, reason: &'static str, why: &'static str) -> io::Error {
        // Once: the connection may be asked again while it ends.
        self.stranger = None;
        self.prefaced = PREFACE.len();
        self.refused.note(self.info.address.ip(), reason, why);
        io::Error::new(io::ErrorKind::ConnectionAborted, why)
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some((reason, why)) = self.overstayed(cx) {
            return Poll::Ready(Err(self.refuse(reason, why)));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.prefaced < PREFACE.len() && !self.is_http2(buf.filled().get(before..).unwrap_or_default()) {
            return Poll::Ready(Err(self.refuse("no_http2", "what came first is no HTTP/2")));
        }
        Poll::Ready(Ok(()))
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
