//! The accept loop: a permit before each connection, TLS within a time, back-off when the process is out of files.
//!
//! Whoever is sent away is logged by address and reason here, up to the first bytes of HTTP/2; from there on `service`
//! does it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::connection::{CROWD, PeerInfo, PeerIo, Place};
use super::hosts::Hosts;
use super::refusal::RefusalLog;
use super::strangers::{Stranger, Strangers};
use super::tls::Tls;
use crate::identity::certificate::host_of_certificate;

/// A TLS handshake takes at most this long.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// Connections without a certificate at once, handshakes under way included; they must not keep hosts out.
const MOST_STRANGERS: usize = 1024;
/// At that bound, how long each may stay before it makes room: a handshake takes milliseconds.
const STRANGER_STAYS: Duration = Duration::from_secs(1);
/// How long a peer may take to read why it is sent away, and how much of what it sent meanwhile is read for that.
const LAST_WORDS: (Duration, u64) = (Duration::from_secs(1), 64 << 10);
/// Connections of one host at once: an agent has one, two for a moment when it comes back.
const MOST_OF_HOST: usize = 8;
/// Wait after a refused `accept`: doubles up to the second figure, milliseconds.
const BACKOFF_MS: (u64, u64) = (10, 1000);

/// Takes connections until told to stop; each goes out when its handshake is done.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Tls,
    most_connections: usize,
    out: mpsc::Sender<io::Result<PeerIo>>,
    refused: Arc<RefusalLog>,
    stop: CancellationToken,
) {
    let strangers = Strangers::new(MOST_STRANGERS.min(most_connections), STRANGER_STAYS);
    let gate = Gate { tls, out, refused, strangers, hosts: Hosts::new(MOST_OF_HOST) };
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
    hosts: Arc<Hosts>,
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
        // One whose certificate names no host is refused by `service`; until then it counts as if it had none.
        let place = match certificate.as_deref().and_then(|der| host_of_certificate(der).ok()) {
            Some(host) => Place::OfHost(self.hosts.enter(host)),
            None => Place::Stranger(stranger),
        };
        let peer = PeerIo::new(stream, PeerInfo { address, certificate }, place, self.refused, permit);
        // The server is gone only when the collector stops.
        let _ = self.out.send(Ok(peer)).await;
    }
}

/// Lets the peer read the alert that it was sent: closing a socket with unread bytes in it makes the kernel tell the
/// peer of a reset instead.
async fn last_words(mut tcp: TcpStream) {
    let read = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(LAST_WORDS.1), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LAST_WORDS.0, read).await;
}
