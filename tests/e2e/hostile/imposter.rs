//! Servers that pretend to be the collector: an agent tells them nothing.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater::identity::ca::Authority;
use highwater_proto::token::{Token, to_hex};
use highwater_tests::binaries;
use highwater_tests::cli::{Answer, answer};
use highwater_tests::collector::Up;
use highwater_tests::postgres::Postgres;
use highwater_tests::process::Process;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use super::peer::{DAY_MS, authority, enrolled, for_another_name, other_authority, play};

/// What an imposter has heard: what came over TCP, and what of it TLS let through.
#[derive(Debug, Default)]
struct Heard {
    connections: usize,
    handshakes: usize,
    plain: Vec<u8>,
}

/// A server with a chain of its own choice that writes down what it hears. Without TLS if there is no chain.
struct Imposter {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    _runtime: Runtime,
}

impl Imposter {
    fn start(shown: Option<(Vec<Vec<u8>>, Vec<u8>)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let heard = Arc::new(Mutex::new(Heard::default()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        let acceptor = shown.map(|(chain, key)| {
            let chain = chain.into_iter().map(CertificateDer::from).collect();
            let key = PrivateKeyDer::try_from(key).expect("a key");
            let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(chain, key)
                .expect("a certificate of the key");
            config.alpn_protocols = vec![b"h2".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        let log = Arc::clone(&heard);
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                log.lock().expect("a log").connections += 1;
                let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
                tokio::spawn(async move {
                    let mut heard = Vec::new();
                    let within = Duration::from_secs(2);
                    match acceptor {
                        None => {
                            let mut tcp = tcp;
                            let _ = tokio::time::timeout(within, tcp.read_to_end(&mut heard)).await;
                        }
                        Some(acceptor) => {
                            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                            log.lock().expect("a log").handshakes += 1;
                            // SETTINGS, so that the client goes on to its request.
                            let _ = tls.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
                            let _ = tokio::time::timeout(within, tls.read_to_end(&mut heard)).await;
                        }
                    }
                    log.lock().expect("a log").plain.extend(heard);
                });
            }
        });
        Self { address, heard, _runtime: runtime }
    }

    fn heard_anything_of(&self, secret: &str) -> bool {
        let heard = self.heard.lock().expect("a log");
        heard.plain.windows(secret.len()).any(|window| window == secret.as_bytes())
    }

    fn handshakes(&self) -> usize {
        self.heard.lock().expect("a log").handshakes
    }

    fn connections(&self) -> usize {
        self.heard.lock().expect("a log").connections
    }
}

/// A certificate of `ca`'s chain for another name, or for the right one signed by itself.
fn leaf_of_itself(names: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let signed = CertificateParams::new(names).expect("names").self_signed(&key).expect("a certificate");
    (signed.der().to_vec(), key.serialize_der())
}

fn enrol(address: SocketAddr, directory: &Path, token: &Token) -> Answer {
    let file = directory.join(format!("token-{}-{}", address.port(), now_ms()));
    let mut opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).expect("a file");
    opened.write_all(token.reveal().as_bytes()).expect("written");
    let mut command = Command::new(binaries::agent());
    command.args(["enrol", "--collector", &address.to_string(), "--token-file"]).arg(&file);
    command.arg("--state-dir").arg(directory.join(format!("state-{}", address.port()))).env("RUST_LOG", "trace");
    answer(command)
}

#[test]
fn the_pin_is_checked_before_the_secret_is_sent_whatever_chain_an_imposter_shows() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ca = Authority::open(&directory.path().join("ca"), now_ms()).expect("a CA");
    let other = other_authority(directory.path());
    let token = Token { id: "t1".into(), secret: "s3cretOfTheToken".into(), pin: ca.pin() };
    let of_other = other.server_certificate(now_ms()).expect("a certificate");
    let (own, own_key) = leaf_of_itself(&["collector.highwater.internal"]);
    let genuine_ca = ca.certificate().to_vec();
    let expired = ca.server_certificate(now_ms() - 500 * DAY_MS).expect("a certificate");
    let early = ca.server_certificate(now_ms() + 3 * DAY_MS).expect("a certificate");
    let host = super::peer::Proof::signed(&ca, highwater::host::HostId(7), now_ms());
    let (named, named_key) = for_another_name(&directory.path().join("ca"), "127.0.0.1");
    let cases = [
        ("another CA", vec![of_other.chain[0].clone(), of_other.chain[1].clone()], of_other.key.clone(), "pin"),
        // The pinned CA is public: showing it beside a leaf that it has not signed is no proof.
        (
            "another's leaf before the pinned CA",
            vec![of_other.chain[0].clone(), genuine_ca.clone()],
            of_other.key,
            "CA",
        ),
        ("a leaf of its own before the pinned CA", vec![own, genuine_ca.clone()], own_key, "CA"),
        ("an expired one", expired.chain, expired.key, "this host's clock says 20"),
        ("one that begins in two days", early.chain, early.key, "this host's clock says 20"),
        ("one of the pinned CA for the address", vec![named, genuine_ca.clone()], named_key, "for other names"),
        // A host that was enrolled by this CA plays collector to the next one.
        ("a host's own", [host.chain.clone(), vec![genuine_ca]].concat(), host.key(), "certificate"),
    ];
    for (what, chain, key, told) in cases {
        let imposter = Imposter::start(Some((chain, key)));
        let refused = enrol(imposter.address, directory.path(), &token).must_exit(1);
        assert!(refused.err.contains(told), "{what}: {}", refused.err);
        assert!(!refused.err.contains(&token.secret), "{what}: {}", refused.err);
        assert_eq!((imposter.connections(), imposter.handshakes()), (1, 0), "{what}");
        assert!(!imposter.heard_anything_of(&token.secret), "{what}");
    }
    let plain = Imposter::start(None);
    enrol(plain.address, directory.path(), &token).must_exit(1);
    assert_eq!(plain.connections(), 1);
    assert!(!plain.heard_anything_of(&token.secret) && !plain.heard_anything_of(&to_hex(&token.pin)));

    // The one with the right chain hears it: this is how the others would have.
    let shown = ca.server_certificate(now_ms()).expect("a certificate");
    let genuine = Imposter::start(Some((shown.chain, shown.key)));
    enrol(genuine.address, directory.path(), &token).must_exit(1);
    assert_eq!(genuine.handshakes(), 1);
    until("the secret is sent to the pinned collector", PATIENCE, || genuine.heard_anything_of(&token.secret));
}

#[test]
fn an_enrolled_agent_streams_to_no_one_but_its_own_ca_under_the_fixed_name() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state");
    play(enrolled(&up, &state, "raw"));
    let ca = authority(&up);
    let of_other = other_authority(directory.path()).server_certificate(now_ms()).expect("a certificate");
    let expired = ca.server_certificate(now_ms() - 500 * DAY_MS).expect("a certificate");
    let (own, own_key) = leaf_of_itself(&["127.0.0.1", "localhost"]);
    let host = super::peer::Proof::signed(&ca, highwater::host::HostId(7), now_ms());
    let (named, named_key) = for_another_name(&up.data().join("ca"), "127.0.0.1");
    let cases = [
        (of_other.chain, of_other.key, "not from the CA of the enrolment"),
        (vec![own], own_key, "not from the CA of the enrolment"),
        (expired.chain, expired.key, "the collector's certificate expired: it is valid until 20"),
        // Of the same CA, for the address that is dialled, but not for the name that an agent asks for.
        (vec![named], named_key, "its certificate is for other names"),
        (host.chain.clone(), host.key(), "certificate"),
    ];
    for (chain, key, told) in cases {
        let imposter = Imposter::start(Some((chain, key)));
        let mut command = Command::new(binaries::agent());
        command.args(["run", "--collector", &imposter.address.to_string(), "--interval", "100ms", "--state-dir"]);
        command.arg(&state);
        let log = directory.path().join(format!("log-{}", imposter.address.port()));
        let mut agent = Process::spawn("highwater-agent", command, &log);
        until(&format!("the agent says {told:?}"), PATIENCE, || {
            agent.must_run();
            agent.output().contains(told)
        });
        assert!(imposter.connections() >= 1);
        assert_eq!(imposter.handshakes(), 0, "{told}");
        assert!(agent.terminate(Duration::from_secs(10)).success());
    }
}

/// What the collector refuses, told by the agent itself: its certificate expired, or is another CA's.
#[test]
fn an_agent_whose_certificate_is_refused_says_so_with_both_clocks_and_the_remedy() {
    let database = Postgres::shared().database();
    let up = Up::collector(&database);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("state");
    let (_, host) = play(enrolled(&up, &state, "raw"));
    let other = other_authority(directory.path());
    let ca = authority(&up);
    let cases = [
        (&ca, now_ms() - 91 * DAY_MS, "this host's clock says 20", "highwater token create --host"),
        (&ca, now_ms() + 2 * DAY_MS, "not valid yet", "set the clock that is wrong"),
        (&other, now_ms(), "refused this host's certificate", "highwater token create --host"),
    ];
    for (n, (signer, signed_ms, told, remedy)) in cases.into_iter().enumerate() {
        super::peer::Proof::signed(signer, host, signed_ms).put_in(&state);
        let mut command = Command::new(binaries::agent());
        command.args(["run", "--interval", "100ms", "--state-dir"]).arg(&state);
        let log = directory.path().join(format!("log-{n}"));
        let mut agent = Process::spawn("highwater-agent", command, &log);
        until(&format!("the agent says {told:?}"), PATIENCE, || {
            agent.must_run();
            agent.output().contains(told) && agent.output().contains(remedy)
        });
        assert!(agent.terminate(Duration::from_secs(10)).success());
    }
}
