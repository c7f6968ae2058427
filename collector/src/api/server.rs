//! Accepts connections and hands them to the router, until told to stop.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::router::{ApiState, router};

/// The most connections served at once; the next one waits in the listener's queue.
const MOST_CONNECTIONS: usize = 256;

/// How long a client may take to send the head of a request, from accept or from its previous request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an answer under way may take once the server is told to stop; then its connection is dropped.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait before the next accept when the process is out of file descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// Serves the API on `listener` until `stop` completes; then takes no more connections, finishes what is being
/// answered (5 s at most) and returns. Fails only if the listener's address cannot be read.
pub async fn serve(listener: TcpListener, state: ApiState, stop: impl Future<Output = ()> + Send) -> io::Result<()> {
    let app = router(state, listener.local_addr()?);
    let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let stopping = CancellationToken::new();
    let connections = TaskTracker::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((socket, _peer)) => {
                let (app, stopping) = (app.clone(), stopping.clone());
                connections.spawn(async move {
                    serve_connection(socket, app, stopping).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection; trying again");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    stopping.cancel();
    connections.close();
    if timeout(STOP_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "dropped HTTP connections that did not end in time");
    }
    Ok(())
}

async fn serve_connection(socket: TcpStream, app: axum::Router, stopping: CancellationToken) {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_headers(64);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), TowerToHyperService::new(app)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(STOP_TIMEOUT, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
