//! gRPC to the collector: dials, turns domain messages into wire messages and back.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use highwater_ipc::text::HostText;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::address::Address;
use super::tls::TlsClient;

/// How long name resolution, TCP and TLS together may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);
/// HTTP/2 asks for a sign of life this often, also between samples.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// And waits this long for it.
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(20);
/// Flow-control window: acks are tiny, and what is not buffered is not resident.
const WINDOW: u32 = 65_535;

/// Connects to the collector and shakes hands.
pub(super) async fn dial(address: &Address, tls: &TlsClient) -> Result<Channel, DialError> {
    let target = (address.host.clone(), address.port);
    let tls = tls.clone();
    let connector = service_fn(move |_| {
        let (target, tls) = (target.clone(), tls.clone());
        async move {
            let tcp = TcpStream::connect(target).await?;
            tcp.set_nodelay(true)?;
            Ok::<_, io::Error>(TokioIo::new(tls.connect(tcp).await?))
        }
    });
    // The name is fixed: it becomes :authority, while the address only says where to dial.
    let channel = Endpoint::from_static("https://collector.highwater.internal")
        .connect_timeout(DIAL_PATIENCE)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_PATIENCE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(16 << 10)
        .buffer_size(4_usize)
        .connect_with_connector(connector)
        .await?;
    Ok(channel)
}

/// Why the collector was not reached, or what it answered.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error("{}", deepest(.0))]
    Transport(#[from] tonic::transport::Error),
    /// The collector answered with an error.
    #[error("{}", said(.0))]
    Status(#[from] Box<tonic::Status>),
}

impl From<tonic::Status> for DialError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// What a status says: the collector's words (escaped, cut), or the failure of the connection beneath it.
fn said(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) => deepest(source),
        None => format!("{}: {}", status.code(), HostText::from(status.message())),
    }
}

/// The innermost cause, which names what really happened.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let innermost = super::tls::sources(error).last().unwrap_or(error);
    HostText::from(innermost.to_string().as_str()).to_string()
}
