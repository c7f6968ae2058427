//! TLS to a receiver: its certificate is checked against this machine's roots, or those of the receiver's `ca_file`.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What a receiver's certificate is checked against, cheap to clone.
#[derive(Clone)]
pub struct Trust {
    connector: TlsConnector,
}

/// The certificates of a file, or those of this machine; the error says what is wrong with them.
pub fn roots(pem: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|e| format!("holds what is no certificate (PEM): {e}"))?;
                store.add(certificate).map_err(|e| format!("holds a certificate that cannot be used: {e}"))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
        }
    }
    let remedy = if pem.is_some() { "holds no certificate (PEM)" } else { NO_ROOTS };
    if store.is_empty() { Err(remedy.to_owned()) } else { Ok(store) }
}

const NO_ROOTS: &str = "this machine has no certificates to check a server's against: install ca-certificates, or name \
                        the server's CA with ca_file";

impl Trust {
    /// Trusts these roots, TLS 1.2 or later.
    pub fn new(pem: Option<&[u8]>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots(pem)?)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Shakes hands with the server of that name.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned());
        let name =
            name.map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no name that a certificate can have"))?;
        self.connector.connect(name, stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_in_words() {
        assert_eq!(roots(Some(b"")).unwrap_err(), "holds no certificate (PEM)");
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(roots(Some(broken)).unwrap_err().contains("cannot be used"));
    }
}
