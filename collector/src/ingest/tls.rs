//! TLS of the agents' port: 1.3 only, one crypto provider, client certificates of our CA or none.
//!
//! A client without a certificate may only enrol; `service` refuses it everything else. Sessions are not resumed: a
//! resumed one would go on with a certificate that has expired, or was revoked, since.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use highwater_ipc::time::format_rfc3339_ms;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What the port shows and whom it trusts, DER.
#[derive(Clone)]
pub struct Material {
    /// The CA that signs hosts.
    pub ca: Vec<u8>,
    /// The collector's certificate, then its issuers.
    pub chain: Vec<Vec<u8>>,
    /// The collector's private key: PKCS#8, SEC1 or PKCS#1.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("chain", &self.chain.len()).field("key", &"***").finish_non_exhaustive()
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA's certificate is none.
    #[error("the CA certificate cannot be used: {0}")]
    Ca(String),
    /// The server's certificate or key is none, or they do not belong together.
    #[error("the collector's certificate or key cannot be used: {0}")]
    Server(String),
}

/// The configuration that new connections use; [`Tls::replace`] changes it while the port stays open.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Builds it.
    pub fn new(material: &Material) -> Result<Self, TlsError> {
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(config(material)?)) })
    }

    /// New connections use this from now on; those that are open go on.
    pub fn replace(&self, material: &Material) -> Result<(), TlsError> {
        self.current.store(Arc::new(config(material)?));
        Ok(())
    }

    /// Shakes hands on a new connection; returns it with the client's certificate (DER), if it showed one: then that
    /// is signed by our CA and valid now.
    pub(super) async fn shake_hands(&self, tcp: TcpStream) -> Result<(Secured, Option<Arc<[u8]>>), Unshaken> {
        let accepted = TlsAcceptor::from(self.current.load_full()).accept(tcp).into_fallible().await;
        let stream = accepted.map_err(|(error, tcp)| Unshaken::new(&error, tcp))?;
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(|all| all.first()).map(|der| Arc::from(der.as_ref()));
        Ok((stream, certificate))
    }
}

/// A connection after its handshake.
pub(super) type Secured = TlsStream<TcpStream>;

/// A handshake that failed. The peer was told by an alert, as far as it got.
#[derive(Debug)]
pub(super) struct Unshaken {
    /// A word for the log.
    pub(super) reason: &'static str,
    /// What it did, and the remedy.
    pub(super) why: String,
    /// The connection.
    pub(super) tcp: TcpStream,
}

impl Unshaken {
    fn new(error: &io::Error, tcp: TcpStream) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        let (reason, why) = tls.map_or_else(|| ("tls", format!("in the TLS handshake: {error}")), explain);
        Self { reason, why, tcp }
    }
}

/// Why a client did not get in, with the remedy; what is about time says both clocks.
fn explain(error: &rustls::Error) -> (&'static str, String) {
    const AGAIN: &str = "enrol it again with a token from `highwater token create --host HOST`";
    let why = match error {
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => format!(
            "its certificate expired: it is valid until {} and this collector's clock says {}; {AGAIN}, or set the \
             clock that is wrong",
            instant(*not_after),
            instant(*time)
        ),
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => format!(
            "its certificate is not yet valid: it is valid from {} and this collector's clock says {}; set the clock \
             that is wrong",
            instant(*not_before),
            instant(*time)
        ),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            format!("its certificate is not from this collector's CA; {AGAIN}")
        }
        rustls::Error::InvalidCertificate(other) => format!("its certificate is refused: {other}; {AGAIN}"),
        rustls::Error::PeerIncompatible(what) => format!("it does not speak TLS 1.3 as this port does: {what:?}"),
        rustls::Error::NoApplicationProtocol => "it does not offer HTTP/2 (ALPN h2)".to_owned(),
        rustls::Error::InvalidMessage(what) => format!("what it sent is no TLS: {what:?}"),
        rustls::Error::AlertReceived(alert) => {
            format!("it ended the handshake: {alert:?}; does it trust another CA, or is its clock wrong?")
        }
        other => other.to_string(),
    };
    let reason = if matches!(error, rustls::Error::InvalidCertificate(_)) { "certificate" } else { "tls" };
    (reason, why)
}

fn instant(time: UnixTime) -> String {
    format_rfc3339_ms(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000))
}

fn config(material: &Material) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let ca = |e: &dyn std::fmt::Display| TlsError::Ca(e.to_string());
    let server = |e: &dyn std::fmt::Display| TlsError::Server(e.to_string());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(material.ca.clone())).map_err(|e| ca(&e))?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|e| ca(&e))?;
    let key = PrivateKeyDer::try_from(material.key.clone()).map_err(|e| server(&e))?;
    let chain = material.chain.iter().cloned().map(CertificateDer::from).collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| server(&e))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|e| server(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
