//! What enrolment left in the state directory.

use std::io::{self, ErrorKind};

use serde::{Deserialize, Serialize};

use super::tls::{Identity, TlsClient, TlsError};
use crate::spool::disk::Disk;

/// The private key's file: PKCS#8 in PEM, made before enrolment.
pub const KEY_FILE: &str = "key.pem";
/// Most bytes of it.
pub const KEY_MAX: usize = 4 << 10;
/// The file of everything else, JSON; replaced whole, so certificate and CA always belong together.
const FILE: &str = "enrolment.json";
const FILE_MAX: usize = 64 << 10;

/// Who this host is at which collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The host's id, opaque.
    pub host_id: String,
    /// The collector's address, as given at enrolment.
    pub collector: String,
    /// Number that the epoch after enrolment must have at least.
    pub next_epoch_no: u64,
    /// End of the certificate's life, milliseconds since 1970.
    pub not_after_ms: i64,
    /// The host's certificate.
    pub certificate_pem: String,
    /// The CA that it and the collector's certificate come from.
    pub ca_pem: String,
}

impl Enrolment {
    /// Stores it durably, replacing an older one.
    pub fn store(&self, state: &mut dyn Disk) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        state.replace(FILE, &text)
    }

    /// Reads it back; `None` if this state directory was never enrolled.
    pub fn load(state: &mut dyn Disk) -> io::Result<Option<Self>> {
        let Some(text) = state.read_whole(FILE, FILE_MAX)? else { return Ok(None) };
        let read = serde_json::from_slice(&text);
        let broken = |e| io::Error::new(ErrorKind::InvalidData, format!("{FILE}: {e}; enrol again"));
        read.map(Some).map_err(broken)
    }

    /// The TLS client that proves this identity.
    pub fn tls(&self, state: &mut dyn Disk) -> Result<TlsClient, EnrolmentError> {
        let key = state.read_whole(KEY_FILE, KEY_MAX)?.ok_or(EnrolmentError::NoKey)?;
        let key = String::from_utf8(key).map_err(|_| TlsError::Pem("private key"))?;
        let identity = Identity { ca: &self.ca_pem, certificate: &self.certificate_pem, key: &key };
        Ok(TlsClient::enrolled(&identity)?)
    }
}

/// Why a stored enrolment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The state directory cannot be read.
    #[error("the state directory: {0}")]
    State(#[from] io::Error),
    /// The key is gone.
    #[error("the state directory has no {KEY_FILE}; enrol again with a new token")]
    NoKey,
    /// Key or certificate are not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}
