//! Whom to trust, and who we are: TLS 1.3 with one crypto provider.
//!
//! Enrolled: the collector must show a certificate of the enrolment's CA for [`COLLECTOR_NAME`], whatever address was
//! dialled, and is shown the host's certificate. Before enrolment: the same, with the CA being whichever certificate
//! of the collector's chain has the public key that the token pins; nothing is sent before that holds.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use highwater_ipc::time::format_rfc3339_ms;
use highwater_proto::bounds::COLLECTOR_NAME;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Opens TLS connections to one collector.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// What an enrolled agent proves its identity with, as PEM texts.
pub struct Identity<'a> {
    /// The CA that collector and host certificates come from.
    pub ca: &'a str,
    /// The host's certificate.
    pub certificate: &'a str,
    /// Its private key (PKCS#8).
    pub key: &'a str,
}

impl TlsClient {
    /// For the stream: trusts the enrolment's CA alone and shows the host's certificate. Sessions are resumed as long
    /// as this value lives.
    pub fn enrolled(identity: &Identity<'_>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(identity.ca.as_bytes()).map_err(|_| TlsError::Pem("CA certificate"))?;
        roots.add(ca)?;
        let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| TlsError::Pem("host certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|_| TlsError::Pem("private key"))?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Self::new(config)
    }

    /// For enrolment: trusts the CA whose public key has this SHA-256, and shows no certificate.
    pub fn pinned(pin: [u8; 32]) -> Result<Self, TlsError> {
        let provider = provider();
        let verifier = Arc::new(PinnedCa { pin, provider: provider.clone() });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Self::new(config)
    }

    fn new(mut config: ClientConfig) -> Result<Self, TlsError> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        // One collector: the default store of 256 servers is 255 too many.
        if config.client_auth_cert_resolver.has_certs() {
            config.resumption = Resumption::in_memory_sessions(1);
        }
        let name = ServerName::try_from(COLLECTOR_NAME).map_err(|_| TlsError::Pem("collector name"))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Shakes hands on a fresh connection.
    pub async fn connect(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), tcp).await
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Accepts a chain that holds the pinned CA and is valid under it, for the collector's name.
#[derive(Debug)]
struct PinnedCa {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|der| public_key_pin(der) == Some(self.pin));
        let other_ca = rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let ca = pinned.ok_or(other_ca)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, `None` if it is no certificate.
pub fn public_key_pin(der: &[u8]) -> Option<[u8; 32]> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(Sha256::digest(certificate.tbs_certificate.subject_pki.raw).into())
}

/// Whether a certificate is for this public key (SubjectPublicKeyInfo's key bits).
pub fn certifies(der: &[u8], public_key: &[u8]) -> bool {
    X509Certificate::from_der(der)
        .is_ok_and(|(_, c)| c.tbs_certificate.subject_pki.subject_public_key.data.as_ref() == public_key)
}

/// A certificate as PEM text, for people and for [`Identity`].
pub fn certificate_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = three.iter().fold(0_u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
            for i in 0..4 {
                let six = (bits >> (18 - 6 * i) & 63) as usize;
                out.push(if i > three.len() { '=' } else { char::from(ALPHABET[six]) });
            }
        }
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// The times that errors about validity are explained with, milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// This host's wall clock.
    pub now_ms: i64,
    /// End of life of this host's certificate, if it has one.
    pub not_after_ms: Option<i64>,
}

/// What a failed connection says about certificates, with the remedy; `None` if the failure is of another kind.
pub fn explain(error: &(dyn StdError + 'static), clocks: Clocks) -> Option<String> {
    let tls = sources(error).find_map(tls_error)?;
    let ours = format_rfc3339_ms(clocks.now_ms);
    let mut out = String::new();
    let _ = match &tls {
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => write!(
            out,
            "the collector's certificate expired: it is valid until {} and this host's clock says {ours}; set the clock \
             that is wrong, or restart the collector to renew it",
            instant(*not_after)
        ),
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. }) => write!(
            out,
            "the collector's certificate is not yet valid: it is valid from {} and this host's clock says {ours}; set \
             the clock that is wrong",
            instant(*not_before)
        ),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            write!(
                out,
                "the collector's certificate is not from the CA of the enrolment: is this the right address? if the \
                 collector was set up anew, enrol again with a token of it"
            )
        }
        rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => write!(
            out,
            "what answers there is not the collector that made the token: the token pins another CA; its secret was not \
             sent. Is this the right address, and the token one of this collector?"
        ),
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => {
            write!(out, "what answers at that address is no Highwater collector: its certificate is for other names")
        }
        rustls::Error::InvalidCertificate(other) => write!(out, "the collector's certificate was refused: {other}"),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => write!(
            out,
            "the collector says this host's certificate expired, or is not valid yet by its clock: it is valid until {} \
             and this host's clock says {ours}; enrol again with a token from `highwater token create --host HOST`, or set the clock that is wrong",
            clocks.not_after_ms.map_or_else(|| "an unknown time".to_owned(), format_rfc3339_ms)
        ),
        rustls::Error::AlertReceived(AlertDescription::CertificateRevoked) => {
            write!(out, "the collector revoked this host's certificate; an operator can make a new token for it")
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied,
        ) => write!(
            out,
            "the collector refused this host's certificate: enrol again with a token of that collector (`highwater \
             token create --host HOST`)"
        ),
        other => write!(out, "TLS: {other}"),
    };
    Some(out)
}

/// An error and what it wraps, outermost first, at most 16.
pub(super) fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e: &&'a (dyn StdError + 'static)| (*e).source()).take(16)
}

/// The TLS error itself, or inside an I/O error, whose `source` skips what it wraps.
fn tls_error(error: &(dyn StdError + 'static)) -> Option<rustls::Error> {
    let inner = error.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
    let tls = error.downcast_ref().or_else(|| inner.and_then(|e| e.downcast_ref()));
    tls.cloned().or_else(|| alert_in(&error.to_string()))
}

/// The alert that a text quotes: in TLS 1.3 a server looks at the client's certificate after the client's handshake is
/// done, so its refusal comes up through HTTP/2, which keeps an error's words alone.
fn alert_in(text: &str) -> Option<rustls::Error> {
    let alerts = [
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateRevoked,
        AlertDescription::UnknownCA,
        AlertDescription::BadCertificate,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::DecryptError,
        AlertDescription::AccessDenied,
    ];
    alerts.into_iter().map(rustls::Error::AlertReceived).find(|alert| text.ends_with(&alert.to_string()))
}

fn instant(time: UnixTime) -> String {
    format_rfc3339_ms(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000))
}

/// Why there is no TLS client.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A stored file is not what enrolment wrote.
    #[error("the stored {0} cannot be read; enrol again")]
    Pem(&'static str),
    /// The TLS library refused key or certificate.
    #[error("key or certificate: {0}; enrol again")]
    Rustls(#[from] rustls::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_texts_are_read_back_by_the_parser() {
        for len in [1, 2, 3, 47, 48, 49, 1000] {
            let der: Vec<u8> = (0..=255).cycle().take(len).collect();
            let read = CertificateDer::from_pem_slice(certificate_pem(&der).as_bytes()).unwrap();
            assert_eq!(read.as_ref(), der);
        }
    }

    #[test]
    fn an_expired_certificate_is_explained_with_both_clocks() {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(2_000));
        let not_after = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_000));
        let cause = rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after });
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, cause);
        let clocks = Clocks { now_ms: 2_000_999, not_after_ms: Some(0) };
        let text = explain(&wrapped, clocks).unwrap();
        assert!(text.contains("until 1970-01-01T00:16:40") && text.contains("says 1970-01-01T00:33:20.999Z"), "{text}");
        let text = explain(&rustls::Error::AlertReceived(AlertDescription::CertificateExpired), clocks).unwrap();
        assert!(text.contains("until 1970-01-01T00:00:00") && text.contains("enrol again"), "{text}");
        // What HTTP/2 leaves of it.
        let words = rustls::Error::AlertReceived(AlertDescription::CertificateExpired).to_string();
        assert_eq!(explain(&io::Error::other(format!("connection error: {words}")), clocks), Some(text));
        assert_eq!(explain(&io::Error::from(io::ErrorKind::ConnectionRefused), clocks), None);
    }
}
