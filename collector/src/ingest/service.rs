//! The two gRPC services, and the only file that knows gRPC: wire messages in and out, refusals to statuses.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use highwater_ipc::record::EpochNo;
use highwater_ipc::text::HostText;
use highwater_proto::convert::{self, Assembler, WireError};
use highwater_proto::v1::agent_stream_server::{AgentStream, AgentStreamServer};
use highwater_proto::v1::enrolment_server::{Enrolment as EnrolmentService, EnrolmentServer};
use highwater_proto::{bounds, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codegen::http;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status, Streaming};

use super::connection::{PeerInfo, PeerIo};
use super::live::{self, Answer, Caller, Peer, Said, Shared};
use super::refusal::{Refusal, RefusalLog};
use crate::host::HostId;
use crate::identity::certificate::{CertificateError, host_of_certificate, signed_ms};
use crate::identity::enrolment::{EnrolError, EnrolRequest, Enrolment};
use crate::writer::ack::{Durable, Position};
use crate::writer::{OpenError, Stopped};

/// Messages that wait for an agent to read them; then its stream waits, its acks pile up as one.
const UNREAD: usize = 8;
/// A refusal waits this long for an agent to read it.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Requests at once on one connection: an agent needs one.
const REQUESTS_PER_CONNECTION: u32 = 4;
/// HTTP/2 asks for a sign of life this often, and waits this long for it.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// A connection is asked to come anew after this long, and cut after that.
const CONNECTION_AGE: (Duration, Duration) = (Duration::from_secs(24 * 3600), Duration::from_secs(60));
/// Bytes of headers in a request.
const HEADERS: u32 = 8 << 10;
/// Bytes under way on a stream, and on a connection, that are not read yet. While the database is away the first is what
/// each stream can make the collector hold, so it is HTTP/2's own default and not more: 6 MB/s at 10 ms of round trip.
/// The second is more than all streams of a connection may have: h2 cuts a connection whose unread small frames fall
/// short of 256 bytes each by more than half of it together, and a waiting agent may fill its stream with such.
const WINDOWS: (u32, u32) = (64 << 10, 1 << 20);
/// Bytes of an enrolment request: its fields' bounds together, and some.
const ENROL: usize = 8 << 10;
/// Streams that a peer may reset before they were looked at, and that we reset for its errors (rapid reset).
const RESETS: usize = 16;

/// What the services work with.
#[derive(Clone)]
pub(super) struct Handlers {
    pub(super) shared: Shared,
    pub(super) enrolment: Enrolment,
    pub(super) refused: Arc<RefusalLog>,
    /// The streams' tasks; they end by themselves when told to stop.
    pub(super) streams: TaskTracker,
}

/// Serves connections until `stop`, then lets those that are open finish.
pub(super) async fn serve(
    handlers: Handlers,
    connections: mpsc::Receiver<io::Result<PeerIo>>,
    stop: CancellationToken,
) -> Result<(), io::Error> {
    let streams = AgentStreamServer::new(handlers.clone())
        .max_decoding_message_size(bounds::MESSAGE)
        .max_encoding_message_size(bounds::MESSAGE);
    let refused = Arc::clone(&handlers.refused);
    let enrolment = EnrolmentServer::new(handlers).max_decoding_message_size(ENROL);
    Server::builder()
        .layer(tower::layer::layer_fn(move |inner| Observed { inner, refused: Arc::clone(&refused) }))
        .max_concurrent_streams(REQUESTS_PER_CONNECTION)
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION as usize)
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .http2_max_local_error_reset_streams(Some(RESETS))
        .http2_max_header_list_size(HEADERS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_connection_age(CONNECTION_AGE.0)
        .max_connection_age_grace(CONNECTION_AGE.1)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .add_service(streams)
        .add_service(enrolment)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop.cancelled_owned())
        .await
        .map_err(io::Error::other)
}

/// Logs the requests that the gRPC library refuses before a handler sees them: no such method, a message beyond its
/// bound, a compression that is not spoken here.
#[derive(Clone)]
struct Observed<S> {
    inner: S,
    refused: Arc<RefusalLog>,
}

impl<S, B, R> tower::Service<http::Request<B>> for Observed<S>
where
    S: tower::Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let peer = request.extensions().get::<PeerInfo>().map(|peer| peer.address.ip());
        let (answering, refused) = (self.inner.call(request), Arc::clone(&self.refused));
        Box::pin(async move {
            let answer = answering.await?;
            // Handlers give other codes, and log those themselves.
            let own = [Code::Unknown, Code::ResourceExhausted, Code::OutOfRange, Code::Unimplemented, Code::Internal];
            if let (Some(peer), Some(status)) = (peer, Status::from_header_map(answer.headers()))
                && own.contains(&status.code())
            {
                refused.note(peer, "request", &format!("{:?}: {}", status.code(), status.message()));
            }
            Ok(answer)
        })
    }
}

impl Connected for PeerIo {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info()
    }
}

#[tonic::async_trait]
impl AgentStream for Handlers {
    type ConnectStream = ReceiverStream<Result<v1::FromCollector, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = peer_info(&request)?;
        let caller = identify(&peer).map_err(|refusal| self.refuse(&peer, None, &refusal))?;
        let (out, answers) = mpsc::channel(UNREAD);
        let this = self.clone();
        let mut wire = Wire { messages: request.into_inner(), parts: Assembler::default(), begins: None, out };
        // A task of its own: a client that goes away drops this handler, not what it has begun.
        self.streams.spawn(async move {
            if let Err(refusal) = live::drive(&mut wire, caller, &this.shared).await {
                let status = this.refuse(&peer, Some(caller.host), &refusal);
                let _ = tokio::time::timeout(LAST_WORDS, wire.out.send(Err(status))).await;
                if let Refusal::Open(OpenError::Quarantined(why)) = refusal {
                    // A collector that stops notes nothing more; the newcomer comes back.
                    let _: Result<(), Stopped> =
                        this.shared.writer.turned_away(caller.host, why, peer.address.ip()).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

#[tonic::async_trait]
impl EnrolmentService for Handlers {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolReply>, Status> {
        let peer = peer_info(&request)?;
        let asked = request.into_inner();
        let refuse = |code: Code, why: String| {
            self.note(&peer, "enrol", &why);
            Status::new(code, HostText::from(why.as_str()).escaped())
        };
        if asked.hostname.len() > HostText::MAX {
            return Err(refuse(Code::InvalidArgument, "hostname is longer than 256 bytes".to_owned()));
        }
        let request = EnrolRequest {
            token_id: asked.token_id,
            secret: asked.secret,
            csr: asked.csr,
            hostname: HostText::cut(&asked.hostname),
        };
        let reply = self.enrolment.enrol(request).await.map_err(|error| refuse(code_of(&error), error.to_string()))?;
        Ok(Response::new(v1::EnrolReply {
            chain: reply.chain,
            host_id: reply.host.to_string(),
            next_epoch_no: reply.next_epoch_no,
            not_after_ms: reply.not_after_ms,
        }))
    }
}

impl Handlers {
    fn refuse(&self, peer: &PeerInfo, host: Option<HostId>, refusal: &Refusal) -> Status {
        let why = host.map_or_else(|| refusal.to_string(), |host| format!("host {host}: {refusal}"));
        // An orderly end is no news.
        if !matches!(refusal, Refusal::Stopping(_)) {
            self.note(peer, refusal.reason(), &why);
        }
        let words = refusal.to_string();
        let code = match refusal {
            Refusal::NoHost(_) | Refusal::Open(OpenError::UnknownHost) => Code::Unauthenticated,
            Refusal::Open(OpenError::Quarantined(_)) => Code::PermissionDenied,
            Refusal::Malformed(_) | Refusal::OutOfPlace(_) | Refusal::Record(_) => Code::InvalidArgument,
            Refusal::Silent(_) | Refusal::Stalled(_) | Refusal::Unread(_) => Code::DeadlineExceeded,
            Refusal::Ended(_) => Code::Aborted,
            Refusal::Open(_) | Refusal::Busy | Refusal::Stopping(_) => Code::Unavailable,
        };
        Status::new(code, HostText::from(words.as_str()).escaped())
    }

    fn note(&self, peer: &PeerInfo, reason: &'static str, why: &str) {
        self.refused.note(peer.address.ip(), reason, why);
    }
}

fn peer_info<T>(request: &Request<T>) -> Result<PeerInfo, Status> {
    let info = request.extensions().get::<PeerInfo>().cloned();
    info.ok_or_else(|| Status::internal("the connection does not say who is at its other end"))
}

fn identify(peer: &PeerInfo) -> Result<Caller, Refusal> {
    let Some(der) = &peer.certificate else {
        let why = "a client certificate is needed: enrol this host with `highwater-agent enrol`";
        return Err(Refusal::NoHost(why.to_owned()));
    };
    let caller = || Ok(Caller { host: host_of_certificate(der)?, enrolled_ms: signed_ms(der)? });
    caller().map_err(|error: CertificateError| Refusal::NoHost(error.to_string()))
}

fn code_of(error: &EnrolError) -> Code {
    if error.is_malformed() {
        Code::InvalidArgument
    } else if error.may_retry() {
        Code::Unavailable
    } else {
        Code::PermissionDenied
    }
}

/// The agent's end, in wire messages.
struct Wire {
    messages: Streaming<v1::FromAgent>,
    parts: Assembler,
    /// Bytes of a record whose first part came with the last message: the others need room.
    begins: Option<usize>,
    out: mpsc::Sender<Result<v1::FromCollector, Status>>,
}

impl Peer for Wire {
    async fn next(&mut self) -> Result<Option<Said>, Refusal> {
        if let Some(bytes) = self.begins.take() {
            return Ok(Some(Said::Begins(bytes)));
        }
        match self.messages.message().await {
            Ok(Some(message)) => self.read(message).map(Some),
            Ok(None) => Ok(None),
            // Too large or no protobuf; anything else is a connection that ended.
            Err(status) => match status.code() {
                Code::OutOfRange | Code::ResourceExhausted | Code::Internal => {
                    Err(Refusal::OutOfPlace("a message larger than 256 KiB, or none of this protocol"))
                }
                _ => Ok(None),
            },
        }
    }

    async fn tell(&mut self, answer: Answer) {
        let message = match answer {
            Answer::Welcome(welcome) => v1::from_collector::Message::Welcome(convert::welcome_to_wire(&welcome)),
            Answer::Ack(position) => v1::from_collector::Message::Ack(ack_to_wire(position)),
            Answer::Keyframe => v1::from_collector::Message::Keyframe(v1::KeyframeRequest {}),
            Answer::Ping(nonce) => v1::from_collector::Message::Ping(v1::Ping { nonce }),
        };
        // To one that is gone nothing can be told; the next read says so.
        let _ = self.out.send(Ok(v1::FromCollector { message: Some(message) })).await;
    }

    async fn gone(&self) {
        self.out.closed().await;
    }
}

impl Wire {
    fn read(&mut self, message: v1::FromAgent) -> Result<Said, Refusal> {
        Ok(match message.message {
            None => return Err(WireError::Missing { field: "FromAgent.message" }.into()),
            Some(v1::from_agent::Message::Hello(hello)) => Said::Hello(convert::hello_from_wire(hello)?),
            Some(v1::from_agent::Message::Now(now)) => Said::Now(convert::now_from_wire(&now)?),
            Some(v1::from_agent::Message::Pong(pong)) => Said::Pong(pong.nonce),
            Some(v1::from_agent::Message::Records(records)) => self.records(records)?,
        })
    }

    /// The records that are whole now; parts of one that is not wait for the rest.
    fn records(&mut self, records: v1::Records) -> Result<Said, Refusal> {
        let (count, bound) = (records.records.len(), bounds::RECORDS);
        if count > bound {
            let (value, bound) = (count as u64, bound as u64);
            return Err(WireError::TooLarge { field: "Records.records", value, bound }.into());
        }
        if records.epoch_no >= bounds::NUMBER {
            let (value, bound) = (records.epoch_no, bounds::NUMBER - 1);
            return Err(WireError::TooLarge { field: "Records.epoch_no", value, bound }.into());
        }
        let mut whole = Vec::with_capacity(count);
        let mut going_on = self.parts.expects().is_some();
        let mut full = false;
        for part in records.records {
            full |= part.body.len() == bounds::PART;
            let record = self.parts.push(part)?;
            going_on &= record.is_none();
            whole.extend(record);
        }
        self.begins = self.parts.expects().filter(|_| !going_on);
        if going_on && full {
            return Ok(Said::Part);
        }
        Ok(Said::Records(EpochNo(records.epoch_no), whole))
    }
}

/// Only what is durable can be acked.
fn ack_to_wire(position: Durable<Position>) -> v1::Ack {
    let Position { epoch, next } = position.into_inner();
    v1::Ack { epoch_no: epoch.0, next_seq: next.0 }
}

#[cfg(test)]
mod tests;
