//! A client that does what it is told: any certificate, any TLS version, any bytes, from any loopback address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use highwater::host::HostId;
use highwater::identity::ca::Authority;
use highwater::identity::certificate::read_request;
use highwater_agent::spool::disk::{Disk as _, PrivateDir};
use highwater_agent::transport::enrol::{EnrolOptions, enrol};
use highwater_agent::transport::enrolment::{Enrolment, KEY_FILE};
use highwater_proto::bounds::COLLECTOR_NAME;
use highwater_proto::token::Token;
use highwater_tests::collector::Up;
use highwater_tests::wait::{PATIENCE, now_ms};
use http::{HeaderMap, Request, Response};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A day, milliseconds.
pub(super) const DAY_MS: i64 = 86_400_000;
/// The stream's RPC.
pub(super) const STREAM: &str = "/highwater.v1.AgentStream/Connect";
/// The only one without a certificate.
pub(super) const ENROL: &str = "/highwater.v1.Enrolment/Enrol";

/// Runs a story to its end.
pub(super) fn play<T>(story: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(story)
}

/// What a client proves itself with.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) chain: Vec<Vec<u8>>,
    key: Vec<u8>,
    not_after_ms: i64,
}

impl Proof {
    /// Signed by a CA for a host, as if it were `now_ms` by the collector's clock.
    pub(super) fn signed(ca: &Authority, host: HostId, now_ms: i64) -> Self {
        let key = KeyPair::generate().expect("a key");
        let request = CertificateParams::default().serialize_request(&key).expect("a request");
        let request = read_request(request.der()).expect("a request of ours");
        let signed = ca.sign_host(&request, host, now_ms).expect("a certificate");
        Self { chain: vec![signed.der], key: key.serialize_der(), not_after_ms: signed.validity.not_after_ms }
    }

    /// What the collector itself shows.
    pub(super) fn of_a_server(ca: &Authority) -> Self {
        let shown = ca.server_certificate(now_ms()).expect("a certificate");
        Self { chain: shown.chain, key: shown.key, not_after_ms: 0 }
    }

    /// Signed by itself, with this subject.
    pub(super) fn of_itself(subject: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, subject);
        let signed = params.self_signed(&key).expect("a certificate");
        Self { chain: vec![signed.der().to_vec()], key: key.serialize_der(), not_after_ms: 0 }
    }

    pub(super) fn key(&self) -> Vec<u8> {
        self.key.clone()
    }

    /// Puts it in the place of what an enrolled agent's state directory holds.
    pub(super) fn put_in(&self, state: &Path) {
        let mut state = PrivateDir::open(state).expect("a state directory");
        let mut enrolment = Enrolment::load(&mut state).expect("readable").expect("enrolled");
        enrolment.certificate_pem = highwater_agent::transport::tls::certificate_pem(&self.chain[0]);
        enrolment.not_after_ms = self.not_after_ms;
        enrolment.store(&mut state).expect("stored");
        let key = KeyPair::try_from(self.key.as_slice()).expect("a key");
        state.replace(KEY_FILE, key.serialize_pem().as_bytes()).expect("stored");
    }

    /// What an enrolled agent's state directory holds.
    pub(super) fn of_state(state: &Path) -> (Self, HostId) {
        let mut state = PrivateDir::open(state).expect("a state directory");
        let enrolment = Enrolment::load(&mut state).expect("readable").expect("enrolled");
        let key = state.read_whole(KEY_FILE, 4096).expect("readable").expect("a key");
        let key = PrivateKeyDer::from_pem_slice(&key).expect("a key");
        let certificate = CertificateDer::from_pem_slice(enrolment.certificate_pem.as_bytes()).expect("PEM");
        let proof = Self {
            chain: vec![certificate.to_vec()],
            key: key.secret_der().to_vec(),
            not_after_ms: enrolment.not_after_ms,
        };
        (proof, HostId::parse(&enrolment.host_id).expect("an id"))
    }
}

/// Enrols a host of that name in `state`; returns its proof.
pub(super) async fn enrolled(up: &Up, state: &Path, name: &str) -> (Proof, HostId) {
    let token = Token::parse(up.cli().json(&["token", "create"])["token"].as_str().expect("text")).expect("a token");
    let options = EnrolOptions {
        collector: up.grpc().to_owned(),
        token,
        state_dir: state.to_owned(),
        hostname: name.into(),
        machine_id: "m".into(),
    };
    enrol(options).await.expect("enrolment");
    Proof::of_state(state)
}

/// The CA of a running `up`: what somebody who stole it could sign with.
pub(super) fn authority(up: &Up) -> Authority {
    Authority::open(&up.data().join("ca"), now_ms()).expect("the CA of `up`")
}

/// A server's certificate of a CA for a name that no agent asks for, and its key.
pub(super) fn for_another_name(directory: &Path, name: &str) -> (Vec<u8>, Vec<u8>) {
    let read = |file: &str| std::fs::read(directory.join(file)).expect("a file of the CA");
    let ca_key = KeyPair::try_from(read("ca.key").as_slice()).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_der(&read("ca.der").as_slice().into(), ca_key).expect("a CA");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    (params.signed_by(&key, &issuer).expect("a certificate").der().to_vec(), key.serialize_der())
}

/// Another CA, of the same name.
pub(super) fn other_authority(directory: &Path) -> Authority {
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    Authority::open(&directory.join("other-ca"), now_ms()).expect("another CA")
}

/// Where a client comes from and what it offers.
#[derive(Clone, Debug)]
pub(super) struct Client {
    to: SocketAddr,
    from: IpAddr,
    ca: Vec<u8>,
    version: &'static SupportedProtocolVersion,
    alpn: Vec<Vec<u8>>,
    proof: Option<Proof>,
}

impl Client {
    /// From a loopback address, in all else as an agent before enrolment.
    pub(super) fn new(up: &Up, from: &str) -> Self {
        Self {
            to: up.grpc().rsplit('/').next().and_then(|a| a.parse().ok()).expect("an address"),
            from: from.parse().expect("an address"),
            ca: authority(up).certificate().to_vec(),
            version: &rustls::version::TLS13,
            alpn: vec![b"h2".to_vec()],
            proof: None,
        }
    }

    pub(super) fn with(mut self, proof: &Proof) -> Self {
        self.proof = Some(proof.clone());
        self
    }

    pub(super) fn speaking(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.version = version;
        self
    }

    pub(super) fn offering(mut self, alpn: &[&[u8]]) -> Self {
        self.alpn = alpn.iter().map(|name| name.to_vec()).collect();
        self
    }

    /// A connection before TLS.
    pub(super) async fn tcp(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.from, 0).into())?;
        socket.connect(self.to).await
    }

    pub(super) fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone().into()).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[self.version]);
        let builder = builder.expect("versions").with_root_certificates(roots);
        let mut config = match &self.proof {
            None => builder.with_no_client_auth(),
            Some(proof) => {
                let chain = proof.chain.iter().cloned().map(CertificateDer::from).collect();
                let key = PrivateKeyDer::try_from(proof.key.clone()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a certificate of the key")
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    /// A connection after TLS, as far as the client can tell: 1.3 lets it go on before the server has looked.
    pub(super) async fn tls(&self) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(COLLECTOR_NAME).expect("a name");
        TlsConnector::from(Arc::new(self.config())).connect(name, self.tcp().await?).await
    }

    /// What the server says to raw bytes before it hangs up, within ten seconds.
    pub(super) async fn throw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut tcp = self.tcp().await.expect("a connection");
        tcp.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), tcp.read_to_end(&mut answer)).await;
        // A reset after the answer is an end as well.
        assert!(read.is_ok(), "the server keeps the connection");
        answer
    }

    /// How a connection over TLS ends that says `bytes` and waits: the words of the error, or of the alert.
    pub(super) async fn ending(&self, bytes: &[u8]) -> String {
        let said = async {
            let mut tls = self.tls().await?;
            tls.write_all(bytes).await?;
            tls.flush().await?;
            let mut answer = Vec::new();
            tls.read_to_end(&mut answer).await?;
            io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let said = tokio::time::timeout(PATIENCE, said).await.expect("an end in time");
        said.unwrap_or_else(|error| error.to_string())
    }

    /// A connection that speaks HTTP/2.
    pub(super) async fn http2(&self) -> SendRequest<Bytes> {
        let tls = self.tls().await.expect("TLS");
        let (send, connection) = h2::client::handshake(tls).await.expect("HTTP/2");
        tokio::spawn(connection);
        send.ready().await.expect("HTTP/2")
    }

    /// The refusal of one call: its gRPC code and words.
    pub(super) async fn call(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Refusal {
        let mut http2 = self.http2().await;
        let mut call = Call::begin(&mut http2, path, headers);
        // A stream that the client ends by itself is nothing to refuse.
        call.say(body, path != STREAM);
        call.refusal().await
    }
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) http: u16,
    pub(super) code: i32,
    pub(super) words: String,
}

/// One call under way.
pub(super) struct Call {
    out: h2::SendStream<Bytes>,
    answer: Answer,
}

enum Answer {
    Awaited(h2::client::ResponseFuture),
    Begun(u16, h2::RecvStream),
}

impl Call {
    pub(super) fn begin(http2: &mut SendRequest<Bytes>, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::post(format!("https://{COLLECTOR_NAME}{path}"));
        request = request.header("content-type", "application/grpc").header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (answer, out) = http2.send_request(request.body(()).expect("a request"), false).expect("sent");
        Self { out, answer: Answer::Awaited(answer) }
    }

    /// Bytes of the body; what the server no longer wants is lost.
    pub(super) fn say(&mut self, bytes: &[u8], last: bool) {
        let _ = self.out.send_data(Bytes::copy_from_slice(bytes), last);
    }

    /// Waits for the first message of the answer.
    pub(super) async fn welcome(&mut self) {
        let Answer::Awaited(answer) = &mut self.answer else { panic!("the answer has begun") };
        let response = tokio::time::timeout(PATIENCE, answer).await.expect("in time").expect("an answer");
        let http = response.status().as_u16();
        let mut body = response.into_body();
        let first = tokio::time::timeout(PATIENCE, body.data()).await.expect("in time").expect("a message");
        first.expect("bytes");
        self.answer = Answer::Begun(http, body);
    }

    /// Its end, if it is one with a status.
    pub(super) async fn refusal(self) -> Refusal {
        let ended = tokio::time::timeout(PATIENCE, self.answer.end()).await.expect("an end of the call in time");
        ended.unwrap_or_else(|error| Refusal { words: error.to_string(), ..Refusal::default() })
    }
}

impl Answer {
    async fn end(self) -> Result<Refusal, h2::Error> {
        let (http, mut body) = match self {
            Answer::Begun(http, body) => (http, body),
            Answer::Awaited(answer) => {
                let response: Response<h2::RecvStream> = answer.await?;
                let http = response.status().as_u16();
                if let Some(refusal) = status(http, response.headers()) {
                    return Ok(refusal);
                }
                (http, response.into_body())
            }
        };
        while let Some(data) = body.data().await {
            let _ = body.flow_control().release_capacity(data?.len());
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok(status(http, &trailers).unwrap_or(Refusal { http, ..Refusal::default() }))
    }
}

fn status(http: u16, headers: &HeaderMap) -> Option<Refusal> {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let code = text("grpc-status")?.parse().expect("a number");
    Some(Refusal { http, code, words: decoded(&text("grpc-message").unwrap_or_default()) })
}

/// Without its percent signs.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        out.push(u8::from_str_radix(code, 16).expect("two hexadecimal digits"));
        out.extend(rest.as_bytes());
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A gRPC message: flag, length, bytes.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0][..], &length.to_be_bytes(), message].concat()
}
