//! A collector of a few lines behind real TLS and gRPC: it keeps records in memory, checks their order and chain as the
//! protocol says, and does what a test tells it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use highwater_ipc::record::{Chain, Epoch, Record, RecordKind, Seq};
use highwater_ipc::session::{Hello, Now, StoredEpoch, Verdict, Welcome};
use highwater_proto::token::Token;
use highwater_proto::v1::agent_stream_server::{AgentStream, AgentStreamServer};
use highwater_proto::v1::enrolment_server::{Enrolment as EnrolmentService, EnrolmentServer};
use highwater_proto::v1::{self, from_agent, from_collector};
use highwater_proto::{bounds, chain, convert};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::enrolment::{Enrolment, KEY_FILE};
use super::tls;
use crate::spool::disk::{Disk as _, PrivateDir};

/// What an epoch has stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) epoch: Epoch,
    pub(crate) next: Seq,
    pub(crate) chain: Chain,
    pub(crate) records: Vec<Record>,
}

/// What the fake has seen, and what it is to do.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) stored: Vec<Stored>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) nows: Vec<Now>,
    pub(crate) pongs: Vec<u64>,
    pub(crate) enrolments: u32,
    /// What went against the protocol.
    pub(crate) faults: Vec<String>,
    /// Verdict for the current epoch of the next hello.
    pub(crate) verdict: Option<Verdict>,
    /// Epochs below this number are forks.
    pub(crate) forked_below: u64,
    /// Ends each stream after so many messages with records, storing them without an ack.
    pub(crate) cut_after: Option<u32>,
    /// Said once, after the next welcome.
    pub(crate) say: Vec<v1::from_collector::Message>,
    /// Interval in welcomes.
    pub(crate) interval_ms: Option<u32>,
}

/// A running fake. Dropping it ends it.
pub(crate) struct FakeCollector {
    pub(crate) address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
    changed: watch::Receiver<u64>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    ca: Vec<u8>,
    _stop: mpsc::Sender<()>,
}

impl FakeCollector {
    pub(crate) async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().der().to_vec();
        let issuer = Arc::new(Issuer::new(params, key));
        let server_key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![bounds::COLLECTOR_NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&server_key, &*issuer).unwrap();

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_single_cert(
                vec![certificate.der().clone(), ca.clone().into()],
                server_key.serialized_der().to_vec().try_into().unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = Arc::new(Mutex::new(Memory::default()));
        let (tell, changed) = watch::channel(0);
        let service =
            Service { memory: memory.clone(), tell: Arc::new(tell), issuer: issuer.clone(), ca: Arc::new(ca.clone()) };
        let (stop, mut stopped) = mpsc::channel::<()>(1);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (incoming, queue) = mpsc::channel(4);
        tokio::spawn(async move {
            loop {
                let tcp = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = stopped.recv() => return,
                };
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                let (near, mut far) = tokio::io::duplex(64 << 10);
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tls, &mut far).await });
                let _ = incoming.send(Ok::<_, std::io::Error>(near)).await;
            }
        });
        let router = tonic::transport::Server::builder()
            .add_service(AgentStreamServer::new(service.clone()).max_decoding_message_size(bounds::MESSAGE))
            .add_service(EnrolmentServer::new(service));
        tokio::spawn(router.serve_with_incoming(ReceiverStream::new(queue)));
        Self { address, memory, changed, issuer, ca, _stop: stop }
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    /// A token of this collector.
    pub(crate) fn token(&self) -> Token {
        let pin = tls::public_key_pin(&self.ca).unwrap();
        Token { id: "t1".into(), secret: "s3cret".into(), pin }
    }

    /// Puts an enrolment at this collector into a state directory.
    pub(crate) fn enrol(&self, state_dir: &Path) {
        let mut state = PrivateDir::create(state_dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().signed_by(&key, &*self.issuer).unwrap();
        state.replace(KEY_FILE, key.serialize_pem().as_bytes()).unwrap();
        let enrolment = Enrolment {
            host_id: "h1".into(),
            collector: format!("https://{}", self.address),
            next_epoch_no: 1,
            not_after_ms: 0,
            certificate_pem: tls::certificate_pem(certificate.der()),
            ca_pem: tls::certificate_pem(&self.ca),
        };
        enrolment.store(&mut state).unwrap();
    }

    /// Waits until what the fake has seen is as wanted; fails after 20 s.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Memory) -> bool) {
        let waited = async {
            while !wanted(&self.memory.lock().unwrap()) {
                self.changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waited).await;
        assert!(waited.is_ok(), "{what} did not happen: {:#?}", self.memory.lock().unwrap());
    }

    /// All records of an epoch, checked to be in order.
    pub(crate) fn records(&self, epoch_no: u64) -> Vec<Record> {
        let memory = self.memory();
        assert_eq!(memory.faults, Vec::<String>::new());
        memory.stored.iter().filter(|s| s.epoch.no.0 == epoch_no).flat_map(|s| s.records.clone()).collect()
    }
}

#[derive(Clone)]
struct Service {
    memory: Arc<Mutex<Memory>>,
    tell: Arc<watch::Sender<u64>>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    ca: Arc<Vec<u8>>,
}

impl Service {
    fn on<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> T {
        let answer = act(&mut self.memory.lock().unwrap());
        self.tell.send_modify(|n| *n += 1);
        answer
    }

    /// What the collector says to a message; `None` ends the stream.
    fn take(
        &self,
        message: from_agent::Message,
        assembler: &mut convert::Assembler,
        taken: &mut u32,
    ) -> Option<Vec<from_collector::Message>> {
        self.on(|memory| match message {
            from_agent::Message::Hello(hello) => match convert::hello_from_wire(hello) {
                Ok(hello) => Some(memory.welcome(hello)),
                Err(e) => {
                    memory.faults.push(e.to_string());
                    None
                }
            },
            from_agent::Message::Records(records) => {
                let mut ack = None;
                for part in records.records {
                    match assembler.push(part) {
                        Ok(Some(record)) => ack = Some(memory.store(records.epoch_no, record)),
                        Ok(None) => {}
                        Err(e) => memory.faults.push(e.to_string()),
                    }
                }
                *taken += 1;
                if memory.cut_after.is_some_and(|most| *taken >= most) {
                    return None;
                }
                let ack = ack.map(|next| v1::Ack { epoch_no: records.epoch_no, next_seq: next.0 });
                Some(ack.map(from_collector::Message::Ack).into_iter().collect())
            }
            from_agent::Message::Now(now) => {
                match convert::now_from_wire(&now) {
                    Ok(now) => memory.nows.push(now),
                    Err(e) => memory.faults.push(e.to_string()),
                }
                Some(Vec::new())
            }
            from_agent::Message::Pong(pong) => {
                memory.pongs.push(pong.nonce);
                Some(Vec::new())
            }
        })
    }
}

impl Memory {
    fn welcome(&mut self, hello: Hello) -> Vec<from_collector::Message> {
        let last = hello.epochs.len() - 1;
        let mut epochs = Vec::new();
        for (i, spooled) in hello.epochs.iter().enumerate() {
            let known = self.stored.iter().find(|s| s.epoch == spooled.epoch);
            let (next, chain) = known.map_or((Seq(0), Chain::default()), |s| (s.next, s.chain));
            let overtaken = spooled.epoch.no.0 < self.forked_below;
            let otherwise = if overtaken { Verdict::Forked } else { Verdict::Continue };
            let verdict = self.verdict.filter(|_| i == last).unwrap_or(otherwise);
            if known.is_none() && verdict == Verdict::Continue {
                self.stored.push(Stored { epoch: spooled.epoch, next, chain, records: Vec::new() });
            }
            epochs.push(StoredEpoch { no: spooled.epoch.no, next, chain, verdict });
        }
        self.verdict = None;
        self.hellos.push(hello);
        let session = self.hellos.len() as u64;
        let welcome = Welcome { session, server_wall_ms: 0, interval_ms: self.interval_ms, epochs };
        let mut out = vec![from_collector::Message::Welcome(convert::welcome_to_wire(&welcome))];
        out.append(&mut self.say);
        out
    }

    /// Stores a record as the protocol allows; returns what is acked.
    fn store(&mut self, epoch_no: u64, record: Record) -> Seq {
        let Some(stored) = self.stored.iter_mut().find(|s| s.epoch.no.0 == epoch_no) else {
            self.faults.push(format!("epoch {epoch_no} was not welcome"));
            return Seq(0);
        };
        if record.seq < stored.next {
            self.faults.push(format!("seq {} of epoch {epoch_no} was sent again after the welcome", record.seq.0));
        }
        let jump = record.first_seq > stored.next;
        if jump && record.kind != RecordKind::Keyframe {
            self.faults.push(format!("a jump from {} to {record:?}", stored.next.0));
        }
        if !jump && record.chain != stored.chain {
            self.faults.push(format!("another chain at {}", record.first_seq.0));
        }
        stored.next = record.seq.next();
        stored.chain = chain::after(record.chain, record.kind, &record.body);
        stored.records.push(record);
        stored.next
    }
}

#[tonic::async_trait]
impl AgentStream for Service {
    type ConnectStream = ReceiverStream<Result<v1::FromCollector, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut incoming = request.into_inner();
        let (out, queue) = mpsc::channel(16);
        let service = self.clone();
        tokio::spawn(async move {
            let mut assembler = convert::Assembler::default();
            let mut taken = 0;
            while let Ok(Some(message)) = incoming.message().await {
                let Some(answers) = service.take(message.message.unwrap(), &mut assembler, &mut taken) else {
                    let _ = out.send(Err(Status::unavailable("cut"))).await;
                    return;
                };
                for message in answers {
                    let _ = out.send(Ok(v1::FromCollector { message: Some(message) })).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

#[tonic::async_trait]
impl EnrolmentService for Service {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolReply>, Status> {
        let request = request.into_inner();
        self.on(|memory| memory.enrolments += 1);
        if request.secret != "s3cret" {
            return Err(Status::permission_denied("no such token\u{1b}[31m"));
        }
        let csr = CertificateSigningRequestParams::from_der(&request.csr.into()).unwrap();
        let signed = csr.signed_by(&*self.issuer).unwrap();
        let chain = vec![signed.der().to_vec(), self.ca.to_vec()];
        Ok(Response::new(v1::EnrolReply { chain, host_id: "h1".into(), next_epoch_no: 1, not_after_ms: 5 }))
    }
}
