//! The certificate authority of one installation: an ECDSA P-256 key in a file, and what it signs.
//!
//! The key's file is all that matters: its public half is the pin in every enrolment token. The CA's certificate is
//! made again from the key if its file is missing.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use highwater_proto::bounds::COLLECTOR_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType,
};
use sha2::{Digest as _, Sha256};

use super::certificate::{self, Validity};
use crate::secret_file::{self, SecretFileError};

/// Days that the CA's certificate lives.
const CA_DAYS: i64 = 3650;
/// Days that a collector's certificate lives; a new one is issued at each start.
const SERVER_DAYS: i64 = 397;
/// Bytes that a key or certificate file may have.
const MOST_BYTES: usize = 16 << 10;
const KEY_FILE: &str = "ca.key";
const CERTIFICATE_FILE: &str = "ca.der";

/// The CA: signs hosts' and collectors' certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
    pin: [u8; 32],
}

/// What a collector shows to agents.
#[derive(Clone)]
pub struct ServerCertificate {
    /// The collector's certificate, then the CA's: an enrolling agent looks for the pinned key in it. DER.
    pub chain: Vec<Vec<u8>>,
    /// Its private key, PKCS#8 DER; lives in memory only.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").field("chain", &self.chain.len()).field("key", &"***").finish()
    }
}

/// Why there is no CA, or why it did not sign.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Its key or certificate could not be read or written.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// Its directory cannot be made, or others may enter it.
    #[error("the CA's directory {}: {why}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file holds no usable key or certificate.
    #[error("{} holds no usable {what} ({why}): restore it from a backup; every host would have to enrol again with a new CA", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Key or certificate.
        what: &'static str,
        /// What the parser said.
        why: String,
    },
    /// Signing failed.
    #[error("signing {what}: {why}")]
    Signing {
        /// What for.
        what: &'static str,
        /// What the library said.
        why: rcgen::Error,
    },
}

impl Authority {
    /// Loads the CA of this directory (0700, made if missing), or makes one.
    pub fn open(directory: &Path, now_ms: i64) -> Result<Self, CaError> {
        private_directory(directory)?;
        let key_path = directory.join(KEY_FILE);
        let key = match load_key(&key_path) {
            Err(CaError::File(e)) if e.is_missing() => create_key(&key_path)?,
            other => other?,
        };
        let path = directory.join(CERTIFICATE_FILE);
        let certificate = match secret_file::read(&path, MOST_BYTES) {
            Ok(der) => der,
            Err(e) if e.is_missing() => {
                let der = self_sign(&key, now_ms)?;
                secret_file::replace(&path, &der)?;
                der
            }
            Err(e) => return Err(e.into()),
        };
        Self::from_parts(key, certificate, &path)
    }

    fn from_parts(key: KeyPair, certificate: Vec<u8>, path: &Path) -> Result<Self, CaError> {
        let damaged =
            |why: String| CaError::Damaged { path: path.to_owned(), what: "certificate of this CA's key", why };
        let spki = certificate::public_key_of(&certificate).map_err(|e| damaged(e.to_string()))?;
        if spki != key.subject_public_key_info() {
            return Err(damaged("it is another key's".to_owned()));
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate.as_slice().into(), key).map_err(|e| damaged(e.to_string()))?;
        Ok(Self { issuer, certificate, pin: Sha256::digest(&spki).into() })
    }

    /// The CA's certificate, DER: what peers are verified against.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the CA's SubjectPublicKeyInfo: the pin in enrolment tokens.
    pub fn pin(&self) -> [u8; 32] {
        self.pin
    }

    /// Issues a collector's certificate with a new key, for the name that every agent asks for.
    pub fn server_certificate(&self, now_ms: i64) -> Result<ServerCertificate, CaError> {
        let signing = |why| CaError::Signing { what: "the collector's certificate", why };
        let key = KeyPair::generate().map_err(signing)?;
        let mut params = certificate::leaf(COLLECTOR_NAME, &Validity::of_days(now_ms, SERVER_DAYS));
        params.subject_alt_names = vec![SanType::DnsName(COLLECTOR_NAME.try_into().map_err(signing)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let signed = params.signed_by(&key, &self.issuer).map_err(signing)?;
        Ok(ServerCertificate {
            chain: vec![signed.der().to_vec(), self.certificate.clone()],
            key: key.serialized_der().to_vec(),
        })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

fn load_key(path: &Path) -> Result<KeyPair, CaError> {
    let der = secret_file::read(path, MOST_BYTES)?;
    KeyPair::try_from(der.as_slice()).map_err(|e| CaError::Damaged {
        path: path.to_owned(),
        what: "private key",
        why: e.to_string(),
    })
}

fn create_key(path: &Path) -> Result<KeyPair, CaError> {
    let key = KeyPair::generate().map_err(|why| CaError::Signing { what: "the CA's key", why })?;
    secret_file::create(path, key.serialized_der())?;
    Ok(key)
}

fn self_sign(key: &KeyPair, now_ms: i64) -> Result<Vec<u8>, CaError> {
    let validity = Validity::of_days(now_ms, CA_DAYS);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Highwater CA");
    validity.apply(&mut params);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let signed = params.self_signed(key).map_err(|why| CaError::Signing { what: "the CA's own certificate", why })?;
    Ok(signed.der().to_vec())
}

/// Makes the directory 0700, or checks that the one there is this user's and closed to others.
fn private_directory(path: &Path) -> Result<(), CaError> {
    let wrong = |why: String| CaError::Directory { path: path.to_owned(), why };
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.map_err(|e| wrong(e.to_string()))?,
    }
    let found = fs::symlink_metadata(path).map_err(|e| wrong(e.to_string()))?;
    let own = secret_file::effective_uid().map_err(|e| wrong(e.to_string()))?;
    if !found.is_dir() {
        return Err(wrong("it is no directory".to_owned()));
    }
    if found.uid() != own {
        return Err(wrong(format!("it belongs to uid {}, this process is uid {own}", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        return Err(wrong(format!("it has mode {:04o}: chmod 700 it", found.mode() & 0o7777)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: i64 = 1_795_000_000_000;

    #[test]
    fn the_same_directory_is_the_same_ca() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        let first = Authority::open(&ca, NOW).unwrap();
        let second = Authority::open(&ca, NOW + 5000).unwrap();
        assert_eq!((first.pin(), first.certificate()), (second.pin(), second.certificate()));
        assert_eq!(fs::metadata(ca.join(KEY_FILE)).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_lost_certificate_is_made_again_with_the_same_pin() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        let first = Authority::open(&ca, NOW).unwrap();
        fs::remove_file(ca.join(CERTIFICATE_FILE)).unwrap();
        assert_eq!(Authority::open(&ca, NOW).unwrap().pin(), first.pin());
    }

    #[test]
    fn a_key_that_others_could_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        Authority::open(&ca, NOW).unwrap();
        fs::set_permissions(ca.join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Authority::open(&ca, NOW).unwrap_err();
        assert!(matches!(refused, CaError::File(SecretFileError::Mode { mode: 0o644, .. })), "{refused}");
        fs::set_permissions(&ca, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Authority::open(&ca, NOW), Err(CaError::Directory { .. })));
    }

    #[test]
    fn a_damaged_key_is_an_error_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        Authority::open(&ca, NOW).unwrap();
        secret_file::replace(&ca.join(KEY_FILE), b"junk").unwrap();
        assert!(matches!(Authority::open(&ca, NOW), Err(CaError::Damaged { what: "private key", .. })));
        assert_eq!(fs::read(ca.join(KEY_FILE)).unwrap(), b"junk");
    }

    #[test]
    fn debug_shows_no_byte_of_a_private_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca");
        let ca = Authority::open(&path, NOW).unwrap();
        let key = fs::read(path.join(KEY_FILE)).unwrap();
        // The private scalar of a P-256 key in PKCS#8, as a list and as digits.
        let at = key.windows(2).position(|w| w == [0x04, 0x20]).unwrap() + 2;
        let scalar = &key[at..at + 32];
        let list = format!("{:?}", &scalar[..8]);
        let shown = format!("{ca:?}");
        assert!(shown.contains("Authority"));
        assert!(!shown.contains(list.trim_matches(['[', ']'])), "{shown}");
        assert!(!shown.to_lowercase().contains(&highwater_proto::token::to_hex(&scalar[..8])), "{shown}");
    }

    #[test]
    fn the_servers_chain_ends_in_the_pinned_key() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::open(&dir.path().join("ca"), NOW).unwrap();
        let server = ca.server_certificate(NOW).unwrap();
        assert_eq!(server.chain.len(), 2);
        let spki = certificate::public_key_of(&server.chain[1]).unwrap();
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&spki)), ca.pin());
        assert!(!format!("{server:?}").contains(&format!("{:?}", server.key)));
    }
}
