//! Who does not get in, or not far: refused with words, logged once in ten seconds and then with a count.

use highwater::host::HostId;
use highwater_proto::v1;
use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::held_now;
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use prost::Message as _;
use v1::from_agent::Message as Said;

use super::peer::{
    Call, Client, DAY_MS, ENROL, Proof, Refusal, STREAM, authority, enrolled, framed, other_authority, play,
};
use super::refusals::{is_wild, must_be_escaped, of};

/// Unauthenticated, permission denied, invalid argument, out of range, unimplemented of gRPC.
const NO_ONE: i32 = 16;
const DENIED: i32 = 7;
const INVALID: i32 = 3;
const RANGE: i32 = 11;
const UNKNOWN_CALL: i32 = 12;

/// Each is done so often.
const TIMES: usize = 3;
/// What tries to become a line of its own in the log, and to colour it.
const WILD: &str = "\u{1b}[31m\nFORGED\r\u{202e}";

/// What the log must say of an address.
#[derive(Debug)]
struct Expected {
    from: String,
    reason: &'static str,
    why: &'static str,
}

/// The cases, told apart by the address they come from.
struct Intruders<'a> {
    up: &'a Up,
    expected: Vec<Expected>,
}

impl Intruders<'_> {
    fn client(&mut self, reason: &'static str, why: &'static str) -> Client {
        let from = format!("127.0.0.{}", 11 + self.expected.len());
        let client = Client::new(self.up, &from);
        self.expected.push(Expected { from, reason, why });
        client
    }

    /// A connection that ends in, or right after, its handshake.
    async fn ends(&mut self, reason: &'static str, why: &'static str, told: &str, as_: impl Fn(Client) -> Client) {
        let client = as_(self.client(reason, why));
        for _ in 0..TIMES {
            let said = client.ending(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            assert!(said.contains(told), "{why}: told {said:?} instead of {told:?}");
        }
    }

    /// Bytes instead of TLS.
    async fn throws(&mut self, reason: &'static str, why: &'static str, bytes: &[u8]) {
        let client = self.client(reason, why);
        for _ in 0..TIMES {
            let answer = client.throw(bytes).await;
            // An alert of TLS: type 21, then the version.
            assert!(answer.is_empty() || answer.starts_with(&[21, 3]), "{why}: {answer:?}");
        }
    }

    /// A call that ends with a status.
    async fn calls(
        &mut self,
        (reason, why): (&'static str, &'static str),
        (code, told): (i32, &str),
        path: &str,
        (headers, body): (&[(&str, &str)], &[u8]),
        proof: Option<&Proof>,
    ) {
        let mut client = self.client(reason, why);
        if let Some(proof) = proof {
            client = client.with(proof);
        }
        for _ in 0..TIMES {
            let refusal = client.call(path, headers, body).await;
            assert_eq!(refusal.code, code, "{why}: {refusal:?}");
            assert!(refusal.words.contains(told), "{why}: {refusal:?}");
        }
    }

    /// One line at once, one with the count ten seconds later, and no other.
    fn must_be_logged(&self) {
        for Expected { from, reason, why } in &self.expected {
            let count = |lines: &[super::refusals::Line]| lines.iter().map(|line| line.count).sum::<u64>();
            until(&format!("{from} ({reason}: {why}) is logged with its count"), PATIENCE, || {
                count(&of(self.up, from)) >= TIMES as u64
            });
            let lines = of(self.up, from);
            assert!(lines.iter().all(|l| l.reason == *reason && l.why.contains(why)), "{reason}: {why}: {lines:?}");
            let counts: Vec<u64> = lines.iter().map(|line| line.count).collect();
            assert_eq!(counts, [1, TIMES as u64 - 1], "{lines:?}");
            let apart = (lines[1].at - lines[0].at).rem_euclid(86_400.0);
            assert!(apart >= 9.9, "{apart} s between {lines:?}");
        }
    }
}

/// A good agent's namespace with what it holds, and whether the collector knows.
fn must_be_current(up: &Up, agent: &mut Agent, namespace: &IpcNamespace) {
    let made: i64 = namespace.create("create-sem private 2").into();
    agent.must_run();
    let (cli, host) = (up.cli(), host_name(namespace));
    until(&format!("{host} is current"), PATIENCE, || held_now(&cli, &host).is_some_and(|ids| ids.contains(&made)));
}

/// `hosts` lists a host by this name, escaped: each on a line, and no line does what it likes.
fn must_show(up: &Up, escaped: &str) {
    let asked = up.cli().run(&["hosts", "--all"]).must_succeed();
    assert!(asked.text().contains(escaped), "no {escaped} in {}", asked.text());
    assert!(!asked.text().lines().any(|line| is_wild(line) || line.starts_with("FORGED")), "{}", asked.text());
}

fn said(message: Said) -> Vec<u8> {
    framed(&v1::FromAgent { message: Some(message) }.encode_to_vec())
}

fn hello(hostname: &[u8]) -> v1::Hello {
    let boot_id = vec![7; 16];
    let epoch = v1::SpooledEpoch {
        epoch_no: 1,
        epoch_id: 9,
        chain: vec![0; 8],
        boot_id: boot_id.clone(),
        ..v1::SpooledEpoch::default()
    };
    v1::Hello { boot_id, hostname: hostname.to_vec(), epochs: vec![epoch], ..v1::Hello::default() }
}

async fn handshakes(intruders: &mut Intruders<'_>, victim: HostId, others: &std::path::Path) {
    let ca = authority(intruders.up);
    let other = other_authority(others);
    let stranger = Proof::signed(&other, victim, now_ms());
    let foreign = "not from this collector's CA";
    intruders.ends("certificate", foreign, "alert", |c| c.with(&stranger)).await;
    let itself = Proof::of_itself(&format!("{victim}{WILD}"));
    intruders.ends("certificate", foreign, "alert", |c| c.with(&itself)).await;
    // The victim's true certificate before a leaf of the thief's own making.
    let mut borrowed = stranger.clone();
    borrowed.chain.push(ca.certificate().to_vec());
    intruders.ends("certificate", foreign, "alert", |c| c.with(&borrowed)).await;
    let server = Proof::of_a_server(&ca);
    intruders.ends("certificate", "is refused", "alert", |c| c.with(&server)).await;
    // Signed 91 days ago for 90; signed in two days, back-dated by one.
    let expired = Proof::signed(&ca, victim, now_ms() - 91 * DAY_MS);
    intruders.ends("certificate", "expired: it is valid until 20", "CertificateExpired", |c| c.with(&expired)).await;
    let early = Proof::signed(&ca, victim, now_ms() + 2 * DAY_MS);
    let not_yet = "not yet valid: it is valid from 20";
    intruders.ends("certificate", not_yet, "CertificateExpired", |c| c.with(&early)).await;
    // A host whose clock, or a collector whose clock, is 23 h behind is no intruder: certificates are back-dated a day.
    let nearly = Proof::signed(&ca, victim, now_ms() + 23 * 3_600_000);
    let refusal = Client::new(intruders.up, "127.0.0.8").with(&nearly).call(STREAM, &[], &framed(&[0x22, 0])).await;
    assert!(refusal.words.contains("no hello"), "{refusal:?}");
    let old = |c: Client| c.speaking(&rustls::version::TLS12);
    intruders.ends("tls", "does not speak TLS 1.3", "ProtocolVersion", old).await;
    let http1 = |c: Client| c.offering(&[b"http/1.1"]);
    intruders.ends("tls", "does not offer HTTP/2", "NoApplicationProtocol", http1).await;
}

async fn noises(intruders: &mut Intruders<'_>) {
    let request = format!("GET /{WILD} HTTP/1.1\r\nHost: x\r\n\r\n");
    intruders.throws("tls", "is no TLS", request.as_bytes()).await;
    intruders.throws("tls", "is no TLS", WILD.as_bytes()).await;
    // A record that says it is a handshake of 16 KiB, and is none.
    let claim = [&[22, 3, 3, 0x40, 0][..], &[0xff; 0x4000]].concat();
    intruders.throws("tls", "is no TLS", &claim).await;
    // Garbage behind a good handshake, and HTTP/1 there.
    let client = intruders.client("no_http2", "is no HTTP/2");
    for noise in [WILD.as_bytes(), request.as_bytes(), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        client.clone().offering(&[]).ending(noise).await;
    }
}

/// A name for the server with an escape and a line break in it: that handshake may do as it likes, but not in the log.
async fn wild_server_name(up: &Up) {
    let client = Client::new(up, "127.0.0.9");
    let name = rustls::pki_types::ServerName::try_from("collector.highwater.internal").expect("a name");
    let mut hello = Vec::new();
    let mut tls = rustls::ClientConnection::new(client.config().into(), name).expect("a client");
    tls.write_tls(&mut hello).expect("a ClientHello");
    let at = hello.windows(9).position(|w| w == b"collector").expect("the name");
    hello[at..at + 9].copy_from_slice(b"\x1b[31m\nFOR");
    client.throw(&hello).await;
}

async fn calls(intruders: &mut Intruders<'_>, proof: &Proof, unknown: &Proof) {
    let nothing: (&[(&str, &str)], &[u8]) = (&[], &[]);
    let message: (&[(&str, &str)], &[u8]) = (&[], &framed(b""));
    let enrol = "enrol this host with `highwater-agent enrol`";
    intruders.calls(("no_host", enrol), (NO_ONE, enrol), STREAM, message, None).await;
    let gone = "not enrolled";
    // The only one of these that is let in, once it proves who it is.
    let first = said(Said::Hello(hello(format!("good {WILD}").as_bytes())));
    intruders.calls(("unknown_host", gone), (NO_ONE, "enrol"), STREAM, (&[], &first), Some(unknown)).await;
    let request = |token_id: &str| v1::EnrolRequest {
        token_id: token_id.to_owned(),
        secret: WILD.to_owned(),
        hostname: WILD.as_bytes().to_vec(),
        csr: b"no request".to_vec(),
        machine_id: Vec::new(),
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let csr = rcgen::CertificateParams::default().serialize_request(&key).expect("a request").der().to_vec();
    let body = framed(&v1::EnrolRequest { csr, ..request(WILD) }.encode_to_vec());
    let unheard = ("enrol", "the token is not known here");
    intruders.calls(unheard, (DENIED, "highwater token create"), ENROL, (&[], &body), None).await;
    let body = framed(&request(WILD).encode_to_vec());
    let refused = "certificate request is refused";
    intruders.calls(("enrol", refused), (INVALID, "request"), ENROL, (&[], &body), None).await;
    let body = framed(&request(&"x".repeat(9000)).encode_to_vec());
    intruders.calls(("request", "OutOfRange"), (RANGE, "too large"), ENROL, (&[], &body), None).await;
    let path = "/highwater.v1.Enrolment/%1b%5b31m";
    intruders.calls(("request", "Unimplemented"), (UNKNOWN_CALL, ""), path, nothing, None).await;
    // A bomb would be gzip; nothing is inflated here.
    let zipped = (&[("grpc-encoding", "gzip")][..], &[1, 0, 0, 0, 4, 0x1f, 0x8b, 8, 0][..]);
    intruders.calls(("request", "gzip"), (UNKNOWN_CALL, "gzip"), STREAM, zipped, Some(proof)).await;
    intruders.calls(("request", "gzip"), (UNKNOWN_CALL, "gzip"), ENROL, zipped, None).await;
    let large = ("out_of_place", "larger than 256 KiB");
    let told = (INVALID, "a message larger than 256 KiB, or none of this protocol");
    let flagged = [1, 0, 0, 0, 4, 0x1f, 0x8b, 8, 0];
    intruders.calls(large, told, STREAM, (&[], &flagged), Some(proof)).await;
    intruders.calls(large, told, STREAM, (&[], &[0, 0xff, 0xff, 0xff, 0xff, 0]), Some(proof)).await;
    let oversized = said(Said::Hello(v1::Hello { kernel: vec![b'x'; 300_000], ..hello(b"x") }));
    intruders.calls(large, told, STREAM, (&[], &oversized), Some(proof)).await;
    intruders.calls(large, told, STREAM, (&[], &framed(&[0xff; 64])), Some(proof)).await;
    let records = vec![v1::Record { chain: vec![0; 8], ..v1::Record::default() }; 1025];
    let many = [first, said(Said::Records(v1::Records { epoch_no: 1, records }))].concat();
    let bound = "Records.records is 1025, the bound is 1024";
    let mut client = intruders.client("malformed", "Records.records");
    client = client.with(proof);
    for _ in 0..TIMES {
        // The records after the welcome: before it they are out of place.
        let refusal = after_the_welcome(&client, &many).await;
        assert_eq!(refusal.code, INVALID, "{refusal:?}");
        assert!(refusal.words.contains("Records.records"), "{bound}: {refusal:?}");
    }
    let token = Said::Hello(hello(&[b'x'; 257]));
    let told = (INVALID, "Hello.hostname");
    intruders.calls(("malformed", "Hello.hostname"), told, STREAM, (&[], &said(token)), Some(proof)).await;
}

/// A hello, the answer to it, and then the rest.
async fn after_the_welcome(client: &Client, messages: &[u8]) -> Refusal {
    let length = u32::from_be_bytes(messages[1..5].try_into().expect("four bytes")) as usize + 5;
    let mut http2 = client.http2().await;
    let mut call = Call::begin(&mut http2, STREAM, &[]);
    call.say(&messages[..length], false);
    call.welcome().await;
    call.say(&messages[length..], false);
    call.refusal().await
}

#[test]
fn whoever_does_not_belong_is_refused_with_words_and_one_line_in_ten_seconds_and_good_agents_go_on() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let (before, after) = (IpcNamespace::named("good-before"), IpcNamespace::named("good-after"));
    let mut first = Agent::running(&up, &before);
    let directory = tempfile::tempdir().expect("a temporary directory");
    play(async {
        let mut intruders = Intruders { up: &up, expected: Vec::new() };
        let (proof, victim) = enrolled(&up, &directory.path().join("host"), &format!("raw {WILD}")).await;
        must_show(&up, r"raw \x1b[31m\x0aFORGED\x0d\xe2\x80\xae");
        let unknown = Proof::signed(&authority(&up), HostId(0x77), now_ms());
        handshakes(&mut intruders, victim, directory.path()).await;
        noises(&mut intruders).await;
        wild_server_name(&up).await;
        calls(&mut intruders, &proof, &unknown).await;
        must_show(&up, r"good \x1b[31m\x0aFORGED\x0d\xe2\x80\xae");
        must_be_current(&up, &mut first, &before);
        intruders.must_be_logged();
        println!("{} kinds of intruder, {TIMES} times each: two lines each", intruders.expected.len());
    });
    let mut second = Agent::running(&up, &after);
    must_be_current(&up, &mut second, &after);
    must_be_current(&up, &mut first, &before);
    must_be_escaped(&up);
}
