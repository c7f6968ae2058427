//! TLS of the agents' port: 1.3 only, one crypto provider, client certificates of our CA or none.
//!
//! A client without a certificate may only enrol; `service` refuses it everything else. Sessions are not resumed: a
//! resumed one would go on with a certificate that has expired, or was revoked, since.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
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
    pub(super) async fn shake_hands(&self, tcp: TcpStream) -> io::Result<(Secured, Option<Arc<[u8]>>)> {
        let stream = TlsAcceptor::from(self.current.load_full()).accept(tcp).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(|all| all.first()).map(|der| Arc::from(der.as_ref()));
        Ok((stream, certificate))
    }
}

/// A connection after its handshake.
pub(super) type Secured = TlsStream<TcpStream>;

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
