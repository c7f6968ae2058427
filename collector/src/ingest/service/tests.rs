//! Agents on real TLS and HTTP/2, a real PostgreSQL behind.

mod parts;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use highwater_agent::spool::disk::PrivateDir;
use highwater_agent::transport::enrol::{EnrolError, EnrolOptions, enrol};
use highwater_agent::transport::enrolment::Enrolment as Enrolled;
use highwater_agent::transport::tls::TlsClient;
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::codec;
use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::record::{Body, Chain, Content, GapReason, Keyframe, Record, RecordKind, Seq};
use highwater_ipc::snapshot::{BootId, LeftOut, Namespace, NamespaceId, State};
use highwater_ipc::time::At;
use highwater_proto::chain;
use highwater_proto::token::Token;
use highwater_proto::v1::agent_stream_client::AgentStreamClient;
use highwater_proto::v1::from_agent::Message as Said;
use highwater_proto::v1::from_collector::Message as Told;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::clock::{SystemClock, WallClock as _};
use crate::embedded::supervise::Postgres;
use crate::identity::ca::Authority;
use crate::identity::tokens::{NewToken, Tokens};
use crate::ingest::server::{self, Services};
use crate::ingest::tls::{Material, Tls};
use crate::store::Db;
use crate::writer::{self, Writer};

/// What a test allows for what takes well under a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    directory: tempfile::TempDir,
    postgres: Postgres,
    db: Db,
    pin: [u8; 32],
    server: Option<server::Server>,
    writer: writer::Handle,
}

impl Bench {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let postgres = Postgres::start(directory.path(), |_| {}, &CancellationToken::new()).await.unwrap();
        let db = Db::connect(postgres.options(), 8).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Arc::new(SystemClock);
        let authority = Arc::new(Authority::open(&directory.path().join("ca"), clock.now_ms()).unwrap());
        let certificate = authority.server_certificate(clock.now_ms()).unwrap();
        let material =
            Material { ca: authority.certificate().to_vec(), chain: certificate.chain, key: certificate.key };
        let writer = Writer::start(db.clone(), clock.clone(), writer::Config::default()).await.unwrap();
        let handle = writer.handle();
        let services = Services {
            tls: Tls::new(&material).unwrap(),
            writer,
            enrolment: Enrolment::new(db.clone(), Arc::clone(&authority), clock),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = server::Server::start(listener, services, server::Config::default()).unwrap();
        Self { directory, postgres, db, pin: authority.pin(), server: Some(server), writer: handle }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().address()
    }

    async fn token(&self) -> Token {
        let tokens = Tokens::new(self.db.clone(), self.pin, Arc::new(SystemClock));
        let new = NewToken { ttl_ms: 60_000, uses: 1, host: None, labels: BTreeMap::new() };
        tokens.create("test", &new).await.unwrap().token
    }

    /// Enrols a host and returns a channel that proves it.
    async fn enrolled(&self, name: &str) -> Channel {
        let state_dir = self.directory.path().join(name);
        self.enrol(name, self.token().await).await.unwrap();
        let mut state = PrivateDir::create(&state_dir).unwrap();
        let enrolment = Enrolled::load(&mut state).unwrap().unwrap();
        self.dial(enrolment.tls(&mut state).unwrap()).await
    }

    async fn enrol(&self, name: &str, token: Token) -> Result<(), EnrolError> {
        let options = EnrolOptions {
            collector: self.address().to_string(),
            token,
            state_dir: self.directory.path().join(name),
            hostname: HostText::from(name),
            machine_id: HostText::default(),
        };
        enrol(options).await.map(|_| ())
    }

    async fn dial(&self, tls: TlsClient) -> Channel {
        let address = self.address();
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let tcp = TcpStream::connect(address).await?;
                io::Result::Ok(TokioIo::new(tls.connect(tcp).await?))
            }
        });
        let endpoint = Endpoint::from_static("https://collector.highwater.internal");
        endpoint.connect_with_connector(connector).await.unwrap()
    }

    async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().await;
        }
        self.db.close().await;
        self.postgres.stop().await.unwrap();
    }
}

/// One stream, with the place it has reached.
struct Stream {
    out: mpsc::Sender<v1::FromAgent>,
    answers: Streaming<v1::FromCollector>,
    next: u64,
    chain: Chain,
}

impl Stream {
    async fn open(channel: &Channel) -> Result<Self, Status> {
        let (out, messages) = mpsc::channel(16);
        let mut client = AgentStreamClient::new(channel.clone());
        let answers = within(client.connect(ReceiverStream::new(messages))).await?.into_inner();
        Ok(Self { out, answers, next: 0, chain: Chain::default() })
    }

    /// Opens and says hello.
    async fn greet(channel: &Channel, epoch_no: u64, boot: u8) -> Result<(Self, v1::Welcome), Status> {
        let mut this = Self::open(channel).await?;
        this.say(Said::Hello(hello(epoch_no, boot))).await;
        match this.hear().await? {
            Told::Welcome(welcome) => Ok((this, welcome)),
            other => panic!("no welcome but {other:?}"),
        }
    }

    async fn say(&self, message: Said) {
        self.out.send(v1::FromAgent { message: Some(message) }).await.unwrap();
    }

    async fn hear(&mut self) -> Result<Told, Status> {
        let message = within(self.answers.message()).await?;
        Ok(message.expect("the stream ended without a status").message.expect("a message"))
    }

    async fn refused(&mut self) -> Status {
        loop {
            if let Err(status) = self.hear().await {
                return status;
            }
        }
    }

    /// Sends a record, in as many messages as it has parts.
    async fn send(&mut self, epoch_no: u64, content: Content) {
        let record = self.make(content);
        for part in convert::record_to_wire(&record) {
            self.say(Said::Records(v1::Records { epoch_no, records: vec![part] })).await;
        }
    }

    fn make(&mut self, content: Content) -> Record {
        let seconds = self.next + 1;
        let at = At { wall_ms: SystemClock.now_ms(), boot_us: seconds * 1_000_000 };
        let body = Body { at, content };
        let (kind, seq) = (body.content.kind(), Seq(self.next));
        let record =
            Record { kind, first_seq: seq, seq, chain: self.chain, missing: None, body: codec::encode_body(&body) };
        self.next += 1;
        self.chain = chain::after(record.chain, kind, &record.body);
        record
    }

    async fn acked(&mut self, epoch_no: u64) {
        self.acked_to(epoch_no, self.next).await;
    }

    async fn acked_to(&mut self, epoch_no: u64, next: u64) {
        loop {
            if let Told::Ack(ack) = self.hear().await.unwrap()
                && (ack.epoch_no, ack.next_seq) == (epoch_no, next)
            {
                return;
            }
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}

fn hello(epoch_no: u64, boot: u8) -> v1::Hello {
    let epoch = v1::SpooledEpoch {
        epoch_no,
        epoch_id: epoch_no * 100 + u64::from(boot),
        first_seq: 0,
        next_seq: 0,
        chain: vec![0; 8],
        boot_id: vec![boot; 16],
    };
    v1::Hello { boot_id: vec![boot; 16], hostname: b"web-1".to_vec(), epochs: vec![epoch], ..v1::Hello::default() }
}

fn keyframe(arrays: i32) -> Content {
    let array = |semid: i32| SemArray {
        key: Key(semid.wrapping_mul(7919)),
        semid,
        perms: Perms(0o600),
        nsems: 3,
        owner: Owner { uid: semid.unsigned_abs().wrapping_mul(31), ..Owner::default() },
        otime: i64::from(semid) * 977,
        ctime: 1_241_364_839 + i64::from(semid) * 313,
    };
    let namespace = Namespace {
        id: NamespaceId { inode: 1, instance: 1 },
        name: None,
        torn: false,
        limits: None,
        totals: None,
        sem: Some((0..arrays).map(array).collect()),
        shm: None,
        msg: None,
        unreadable: Vec::new(),
        left_out: LeftOut::default(),
        ..Namespace::default()
    };
    let availability =
        Availability { state: SysvipcState::Available, evidence: Vec::new(), remedy: HostText::default() };
    let state = State {
        boot_id: BootId([1; 16]),
        interval_ms: 1000,
        page_size: 4096,
        zone: HostText::default(),
        availability,
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        namespaces: vec![namespace],
        risks: Vec::new(),
        unseen: Vec::new(),
    };
    Content::Keyframe(Keyframe { gap: None, took_us: 1, state, activity: Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_enrols_streams_and_is_told_when_the_collector_stops() {
    let bench = Bench::start().await;
    let channel = bench.enrolled("one").await;
    let (mut stream, welcome) = Stream::greet(&channel, 1, 1).await.unwrap();
    assert_eq!(welcome.epochs[0].verdict(), v1::Verdict::Continue);
    stream.send(1, keyframe(30_000)).await;
    stream.send(1, Content::Heartbeat).await;
    stream.acked(1).await;
    let told = tokio::spawn(async move { stream.refused().await });
    bench.stop().await;
    let status = within(told).await.unwrap();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the collector is stopping; connect again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_quarantined_while_the_other_answers_and_replaces_one_that_does_not() {
    let bench = Bench::start().await;
    let channel = bench.enrolled("one").await;
    let (mut there, _) = Stream::greet(&channel, 1, 1).await.unwrap();
    there.send(1, keyframe(1)).await;
    there.acked(1).await;
    let other = channel.clone();
    let copy = tokio::spawn(async move { Stream::greet(&other, 2, 1).await.err() });
    let Told::Ping(ping) = there.hear().await.unwrap() else { panic!("no ping") };
    there.say(Said::Pong(v1::Pong { nonce: ping.nonce })).await;
    let status = within(copy).await.unwrap().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().starts_with("quarantined: another agent"), "{status}");
    there.send(1, Content::Heartbeat).await;
    there.acked(1).await;
    // An agent that was killed does not answer: the next one takes its place.
    let (mut next, welcome) = Stream::greet(&channel, 2, 1).await.unwrap();
    assert_eq!(welcome.epochs[0].verdict(), v1::Verdict::Continue);
    assert_eq!(there.refused().await.code(), Code::Aborted);
    next.send(2, keyframe(1)).await;
    next.acked(2).await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_certificate_of_ours_does_not_stream() {
    let bench = Bench::start().await;
    let stranger = bench.dial(TlsClient::pinned(bench.pin).unwrap()).await;
    let status = Stream::open(&stranger).await.err().unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("highwater-agent enrol"), "{status}");
    let token = bench.token().await;
    let wrong = Token { secret: "wrong".to_owned(), ..token.clone() };
    assert!(bench.enrol("two", wrong).await.unwrap_err().to_string().contains("not known here"));
    bench.enrol("two", token.clone()).await.unwrap();
    // The same token with another key: used.
    assert!(bench.enrol("three", token).await.unwrap_err().to_string().contains("used already"));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_ends_the_stream_with_a_status_that_names_it() {
    let bench = Bench::start().await;
    let channel = bench.enrolled("one").await;
    let heartbeat = Said::Records(v1::Records { epoch_no: 1, records: Vec::new() });
    let cases: Vec<(Said, &str)> = vec![
        (heartbeat, "the first message is no hello"),
        (Said::Hello(v1::Hello { boot_id: vec![1; 15], ..hello(1, 1) }), "Hello.boot_id has 15 bytes, not 16"),
        (Said::Hello(v1::Hello { epochs: Vec::new(), ..hello(1, 1) }), "Hello.epochs is missing"),
        (Said::Hello(v1::Hello { kernel: vec![b'x'; 300_000], ..hello(1, 1) }), "a message larger than 256 KiB"),
    ];
    for (message, expected) in cases {
        let mut stream = Stream::open(&channel).await.unwrap();
        stream.say(message).await;
        let status = stream.refused().await;
        assert!(status.message().starts_with(expected), "{status}");
    }
    let record = |seq, kind: RecordKind, body: Vec<u8>| v1::Record {
        kind: i32::from(kind.code()),
        seq,
        chain: vec![0; 8],
        body,
        ..v1::Record::default()
    };
    let word = codec::encode_body(&Body { at: At::default(), content: Content::GapReason(GapReason::Stalled) });
    let records = vec![
        (record(0, RecordKind::Event, word.clone()), "epoch 1 does not begin with a keyframe"),
        (record(7, RecordKind::GapReason, word), "record 7 of epoch 1 jumps from 0, and is no keyframe"),
        (record(0, RecordKind::Keyframe, vec![0xff; 9]), "the body of record 0 of epoch 1 cannot be read"),
        (v1::Record { merged: 1, ..record(3, RecordKind::Delta, vec![]) }, "Record.merged is set on a record"),
    ];
    for (record, expected) in records {
        let (mut stream, _) = Stream::greet(&channel, 1, 1).await.unwrap();
        stream.say(Said::Records(v1::Records { epoch_no: 1, records: vec![record] })).await;
        let status = stream.refused().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().starts_with(expected), "{status}");
    }
    bench.stop().await;
}
