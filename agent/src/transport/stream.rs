//! gRPC to the collector: dials, turns domain messages into wire messages and back.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::text::HostText;
use highwater_proto::convert::{self, WireError};
use highwater_proto::v1::agent_stream_client::AgentStreamClient;
use highwater_proto::v1::{self, from_agent, from_collector};
use highwater_proto::{bounds, v1::FromAgent};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::address::Address;
use super::session::{FromCollector, ToCollector};
use super::tls::{self, Clocks, TlsClient};

/// How long name resolution, TCP and TLS together may take.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);
/// HTTP/2 asks for a sign of life this often, also between samples.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// And waits this long for it.
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(20);
/// Flow-control window: acks are tiny, and what is not buffered is not resident.
const WINDOW: u32 = 65_535;
/// Messages that wait for the network; beyond it the sender waits.
const QUEUE: usize = 2;
/// Bytes of a collector's message: the largest is the welcome, with 1,024 epochs.
const MESSAGE_IN: usize = bounds::MESSAGE;

/// Dials and says hello, which is made once the collector is reached: until then ten seconds may pass. The collector's
/// answer is the first message to receive.
pub async fn open(
    address: &Address,
    tls: &TlsClient,
    hello: impl FnOnce() -> ToCollector,
) -> Result<(Sender, Receiver), DialError> {
    let channel = dial(address, tls).await?;
    let mut client = AgentStreamClient::new(channel)
        .max_decoding_message_size(MESSAGE_IN)
        .max_encoding_message_size(bounds::MESSAGE);
    let (outgoing, queue) = mpsc::channel(QUEUE);
    for message in to_wire(hello()) {
        // There is room: hello is one message and nothing else was sent.
        let _ = outgoing.try_send(message);
    }
    let incoming = client.connect(ReceiverStream::new(queue)).await?.into_inner();
    Ok((Sender { outgoing }, Receiver { incoming }))
}

/// The collector's messages.
#[derive(Debug)]
pub struct Receiver {
    incoming: tonic::Streaming<v1::FromCollector>,
}

impl Receiver {
    /// The next message.
    pub async fn receive(&mut self) -> Result<FromCollector, DialError> {
        match self.incoming.message().await? {
            Some(message) => Ok(from_wire(message)?),
            None => Err(DialError::Closed),
        }
    }
}

/// Sends to the collector. Dropping it ends the stream.
#[derive(Debug)]
pub struct Sender {
    outgoing: mpsc::Sender<FromAgent>,
}

impl Sender {
    /// Sends a message, waiting while the collector takes nothing. Fails once the connection is gone. Cancelled half
    /// way it may have sent a part of a large record: the connection is of no use then.
    pub async fn send(&self, message: ToCollector) -> Result<(), DialError> {
        for part in to_wire(message) {
            self.outgoing.send(part).await.map_err(|_| DialError::Closed)?;
        }
        Ok(())
    }
}

/// The messages of one: several for a record that travels in parts.
fn to_wire(message: ToCollector) -> Vec<FromAgent> {
    let wrap = |message| FromAgent { message: Some(message) };
    match message {
        ToCollector::Hello(hello) => vec![wrap(from_agent::Message::Hello(convert::hello_to_wire(&hello)))],
        ToCollector::Now(now) => vec![wrap(from_agent::Message::Now(convert::now_to_wire(&now)))],
        ToCollector::Pong(nonce) => vec![wrap(from_agent::Message::Pong(v1::Pong { nonce }))],
        ToCollector::Records(epoch, records) => {
            let parts: Vec<v1::Record> = records.iter().flat_map(convert::record_to_wire).collect();
            let records = |records| wrap(from_agent::Message::Records(v1::Records { epoch_no: epoch.0, records }));
            if parts.len() > records_of(&parts) {
                return parts.into_iter().map(|part| records(vec![part])).collect();
            }
            vec![records(parts)]
        }
    }
}

/// How many whole records these parts are.
fn records_of(parts: &[v1::Record]) -> usize {
    parts.iter().filter(|p| p.part == 0).count()
}

fn from_wire(message: v1::FromCollector) -> Result<FromCollector, WireError> {
    use from_collector::Message;
    Ok(match message.message.ok_or(WireError::Missing { field: "FromCollector.message" })? {
        Message::Welcome(welcome) => FromCollector::Welcome(convert::welcome_from_wire(&welcome)?),
        Message::Ack(ack) => FromCollector::Ack(EpochNo(ack.epoch_no), Seq(ack.next_seq)),
        Message::Keyframe(v1::KeyframeRequest {}) => FromCollector::Keyframe,
        Message::Interval(i) => FromCollector::Interval(convert::interval("Interval.interval_ms", i.interval_ms)?),
        Message::Ping(ping) => FromCollector::Ping(ping.nonce),
    })
}

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

/// Why the collector was not reached, or what it answered. Each text is whole: it has no source to print behind it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No connection.
    #[error("{}", deepest(&**.0))]
    Transport(Box<tonic::transport::Error>),
    /// The collector answered with an error.
    #[error("{}", said(.0))]
    Status(Box<tonic::Status>),
    /// The stream ended without an error.
    #[error("the collector closed the stream")]
    Closed,
    /// The collector sent what is no message.
    #[error("the collector sent something unreadable: {0}")]
    Wire(#[from] WireError),
}

impl From<tonic::transport::Error> for DialError {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Transport(Box::new(error))
    }
}

impl From<tonic::Status> for DialError {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl DialError {
    /// What it says about certificates, with the remedy; `None` if it is about something else.
    pub fn about_certificates(&self, clocks: Clocks) -> Option<String> {
        match self {
            Self::Transport(e) => tls::explain(&**e, clocks),
            Self::Status(status) => tls::explain(&**status, clocks),
            Self::Closed | Self::Wire(_) => None,
        }
    }

    /// Whether trying again soon is in vain: the collector knows this host and does not want it.
    pub fn is_refusal(&self) -> bool {
        let refusals = [Code::Unauthenticated, Code::PermissionDenied, Code::FailedPrecondition, Code::Unimplemented];
        matches!(self, Self::Status(status) if refusals.contains(&status.code()))
    }
}

/// What a status says: the collector's words (escaped, cut), or the failure of the connection beneath it.
fn said(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) => deepest(source),
        None => HostText::from(status.message()).to_string(),
    }
}

/// The innermost cause, which names what really happened.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let innermost = tls::sources(error).last().unwrap_or(error);
    let said = innermost.to_string();
    // HTTP/2 keeps of an I/O error its words only.
    let cut = innermost.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
        || said.contains("without sending TLS close_notify");
    if cut { "the connection was cut".to_owned() } else { HostText::from(said.as_str()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_cut_is_said_in_our_words_however_it_was_wrapped() {
        let eof =
            || io::Error::new(io::ErrorKind::UnexpectedEof, "peer closed without sending TLS close_notify: see URL");
        assert_eq!(deepest(&eof()), "the connection was cut");
        assert_eq!(deepest(&io::Error::other(eof().to_string())), "the connection was cut");
        assert_eq!(deepest(&io::Error::other("refused\n")), r"refused\x0a");
    }
}
