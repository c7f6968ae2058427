//! Gets this host's certificate: a token and a signing request in, a certificate out.
//!
//! The key is made here, stored (0600) before the first call, never leaves, and is used again when the call is
//! repeated: the collector then gives the same answer, so a lost reply costs nothing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use highwater_ipc::record::EpochNo;
use highwater_ipc::text::HostText;
use highwater_ipc::time::Clock as _;
use highwater_proto::token::Token;
use highwater_proto::{bounds, v1};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use v1::enrolment_client::EnrolmentClient;

use super::address::{Address, AddressError};
use super::enrolment::{Enrolment, KEY_FILE, KEY_MAX};
use super::stream;
use super::tls::{self, Clocks, TlsClient, TlsError};
use crate::clock::SystemClock;
use crate::spool::disk::{Disk as _, PrivateDir};

/// What enrolment needs to know.
#[derive(Clone, Debug)]
pub struct EnrolOptions {
    /// Address of the collector, `https://HOST:PORT` or `HOST:PORT`.
    pub collector: String,
    /// The token; the collector at that address must show the CA it pins before its secret is sent.
    pub token: Token,
    /// State directory; made with mode 0700 if missing.
    pub state_dir: PathBuf,
    /// What this host calls itself (`gethostname(2)`).
    pub hostname: HostText,
    /// `/etc/machine-id`, or empty.
    pub machine_id: HostText,
}

/// What enrolment brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The host's id at the collector, opaque.
    pub host_id: String,
    /// The collector's address as it will be dialled.
    pub collector: String,
    /// Number of the next epoch.
    pub next_epoch_no: EpochNo,
    /// End of the certificate's life, milliseconds since 1970.
    pub not_after_ms: i64,
}

/// How long enrolment waits for the collector's answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Enrols this host and stores what came back in the state directory. Repeating it is harmless.
pub async fn enrol(options: EnrolOptions) -> Result<Enrolled, EnrolError> {
    let address = Address::parse(&options.collector)?;
    let mut state = PrivateDir::create(&options.state_dir).map_err(EnrolError::State)?;
    let key = load_or_make_key(&mut state)?;
    let csr = CertificateParams::default().serialize_request(&key).map_err(EnrolError::Key)?;
    let tls = TlsClient::pinned(options.token.pin)?;
    let request = v1::EnrolRequest {
        token_id: options.token.id.clone(),
        secret: options.token.secret.clone(),
        csr: csr.der().to_vec(),
        hostname: options.hostname.as_bytes().to_vec(),
        machine_id: options.machine_id.as_bytes().to_vec(),
    };
    let ask = async {
        let channel = stream::dial(&address, &tls).await?;
        let mut client = EnrolmentClient::new(channel).max_decoding_message_size(bounds::MESSAGE);
        client.enrol(request).await.map_err(stream::DialError::from)
    };
    let reply = tokio::time::timeout(PATIENCE, ask)
        .await
        .map_err(|_| EnrolError::NoAnswer { address: address.clone() })?
        .map_err(|e| EnrolError::refused(&address, &e))?
        .into_inner();
    let enrolment = accept(reply, &options.token, &key, &address)?;
    enrolment.store(&mut state).map_err(EnrolError::State)?;
    Ok(Enrolled {
        host_id: enrolment.host_id,
        collector: enrolment.collector,
        next_epoch_no: EpochNo(enrolment.next_epoch_no),
        not_after_ms: enrolment.not_after_ms,
    })
}

/// The host's key; made and durable before anybody hears of it.
fn load_or_make_key(state: &mut PrivateDir) -> Result<KeyPair, EnrolError> {
    if let Some(pem) = state.read_whole(KEY_FILE, KEY_MAX).map_err(EnrolError::State)? {
        let pem = String::from_utf8(pem).map_err(|_| EnrolError::StoredKey { state: state.path().to_owned() })?;
        return KeyPair::from_pem(&pem).map_err(|_| EnrolError::StoredKey { state: state.path().to_owned() });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(EnrolError::Key)?;
    state.replace(KEY_FILE, key.serialize_pem().as_bytes()).map_err(EnrolError::State)?;
    Ok(key)
}

/// Checks a reply before it is stored: a certificate for this key, and the CA that the token pins.
fn accept(reply: v1::EnrolReply, token: &Token, key: &KeyPair, address: &Address) -> Result<Enrolment, EnrolError> {
    let (Some(leaf), Some(ca), None) = (reply.chain.first(), reply.chain.get(1), reply.chain.get(2)) else {
        return Err(EnrolError::Reply("it has not two certificates, the host's and the CA's"));
    };
    if tls::public_key_pin(ca) != Some(token.pin) {
        return Err(EnrolError::Reply("its CA is not the one that the token pins"));
    }
    if !tls::certifies(leaf, key.der_bytes()) {
        return Err(EnrolError::Reply("its certificate is for another key"));
    }
    let shown = |c: char| c.is_ascii_graphic();
    if reply.host_id.is_empty() || reply.host_id.len() > bounds::SHORT_TEXT || !reply.host_id.chars().all(shown) {
        return Err(EnrolError::Reply("its host id is not 1 to 64 printable characters"));
    }
    if reply.next_epoch_no == 0 || reply.next_epoch_no >= bounds::NUMBER {
        return Err(EnrolError::Reply("its epoch number is out of range"));
    }
    Ok(Enrolment {
        host_id: reply.host_id,
        collector: address.to_string(),
        next_epoch_no: reply.next_epoch_no,
        not_after_ms: reply.not_after_ms,
        certificate_pem: tls::certificate_pem(leaf),
        ca_pem: tls::certificate_pem(ca),
    })
}

impl EnrolError {
    fn refused(address: &Address, error: &stream::DialError) -> Self {
        let clocks = Clocks { now_ms: SystemClock.now().wall_ms, not_after_ms: None };
        let why = error.about_certificates(clocks).unwrap_or_else(|| error.to_string());
        Self::Call { address: address.clone(), why }
    }
}

/// Why enrolment failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The state directory cannot be used.
    #[error("the state directory: {0}")]
    State(#[source] io::Error),
    /// The stored key is no key.
    #[error("{}/{KEY_FILE} holds no private key: move it away and enrol again with a new token", state.display())]
    StoredKey {
        /// The state directory.
        state: PathBuf,
    },
    /// No key or signing request could be made.
    #[error("making a key: {0}")]
    Key(#[source] rcgen::Error),
    /// No TLS client could be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The collector could not be reached or refused.
    #[error("enrolling at {address}: {why}")]
    Call {
        /// Where.
        address: Address,
        /// What happened, escaped.
        why: String,
    },
    /// Nothing came back in time.
    #[error("{address} did not answer within 30 s: is it a Highwater collector? Enrolling again is harmless")]
    NoAnswer {
        /// Where.
        address: Address,
    },
    /// The answer is not acceptable; nothing was stored.
    #[error("the collector's answer was refused: {0}")]
    Reply(&'static str),
}

#[cfg(test)]
#[path = "enrol_tests.rs"]
mod tests;
