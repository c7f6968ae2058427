//! A host's certificate: signed from a request of which only the public key counts, read back to know who a peer is.

use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, date_time_ymd,
};
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::ca::Authority;
use crate::clock;
use crate::host::HostId;

/// Days that a host's certificate lives.
pub const HOST_DAYS: i64 = 90;
/// A certificate begins this long before it is signed, milliseconds: hosts' clocks are late.
pub const BACKDATED_MS: i64 = DAY_MS;
/// How the subject alternative name spells a host.
const HOST_URI: &str = "urn:highwater:host:";
const DAY_MS: i64 = 86_400_000;
/// Latest instant that a certificate may name, milliseconds since 1970: the end of the year 9999.
const LAST_MS: i64 = 253_402_300_799_000;

/// Span of a certificate's life, milliseconds since 1970, whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First instant.
    pub not_before_ms: i64,
    /// Last instant.
    pub not_after_ms: i64,
}

/// A certificate as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Serial number, big endian.
    pub serial: Vec<u8>,
    /// SHA-256 of the host's SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// Its life.
    pub validity: Validity,
    /// The certificate.
    pub der: Vec<u8>,
}

/// A checked certificate request: a public key whose owner holds the private one.
#[derive(Debug)]
pub struct Request(CertificateSigningRequestParams);

/// Why a certificate or request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The request cannot be read, or its signature is not its key's.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// The bytes are no certificate.
    #[error("not a certificate: {0}")]
    NotACertificate(String),
    /// It is a certificate, but of no host.
    #[error("the certificate names no host of Highwater: {0}")]
    NoHost(&'static str),
    /// Signing failed.
    #[error("signing the host's certificate: {0}")]
    Signing(String),
}

/// Reads a PKCS#10 request (DER) and checks that whoever made it holds the key; names and extensions in it are ignored.
pub fn read_request(der: &[u8]) -> Result<Request, CertificateError> {
    let refused = |why: String| CertificateError::Request(why);
    let request = CertificateSigningRequestParams::from_der(&der.into()).map_err(|e| refused(e.to_string()))?;
    // rcgen takes the key's type from the signature's: where the request itself says another one, the certificate
    // would hold a key that nobody has.
    let (_, parsed) = x509_parser::certification_request::X509CertificationRequest::from_der(der)
        .map_err(|e| refused(e.to_string()))?;
    let public_key = parsed.certification_request_info.subject_pki.raw;
    if public_key != request.public_key.subject_public_key_info() {
        return Err(refused("its key must be ECDSA P-256 or P-384 or Ed25519, signed with its own hash".to_owned()));
    }
    Ok(Request(request))
}

impl Request {
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.0.public_key.subject_public_key_info()).into()
    }
}

impl Authority {
    /// Signs the request's public key as `host`, from [`BACKDATED_MS`] before now for [`HOST_DAYS`].
    pub fn sign_host(&self, request: &Request, host: HostId, now_ms: i64) -> Result<Signed, CertificateError> {
        let signing = |why: String| CertificateError::Signing(why);
        let validity = Validity::of_days(now_ms, HOST_DAYS);
        let mut serial = clock::random::<16>().map_err(|e| signing(e.to_string()))?;
        // Positive and of full length, so that what is stored is what the certificate says.
        serial[0] = serial[0] & 0x7f | 0x40;
        let mut params = leaf(&host.to_string(), &validity);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let name = format!("{HOST_URI}{host}");
        params.subject_alt_names =
            vec![SanType::URI(name.try_into().map_err(|e: rcgen::Error| signing(e.to_string()))?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = &request.0.public_key;
        let signed = params.signed_by(key, self.issuer()).map_err(|e| signing(e.to_string()))?;
        Ok(Signed { serial: serial.to_vec(), spki_sha256: request.spki_sha256(), validity, der: signed.der().to_vec() })
    }
}

/// When a host's certificate (DER) was signed, by the collector's clock, milliseconds since 1970, rounded down to a
/// second.
pub fn signed_ms(der: &[u8]) -> Result<i64, CertificateError> {
    let begins_s = parse(der)?.validity().not_before.timestamp();
    Ok(begins_s.saturating_mul(1000).saturating_add(BACKDATED_MS))
}

/// The host that a certificate (DER) names. That the CA signed it and that it is valid now is for TLS to check.
pub fn host_of_certificate(der: &[u8]) -> Result<HostId, CertificateError> {
    let certificate = parse(der)?;
    let usage = certificate.extended_key_usage().map_err(|_| CertificateError::NoHost("its key usage is repeated"))?;
    if !usage.is_some_and(|u| u.value.client_auth) {
        return Err(CertificateError::NoHost("it is not for client authentication"));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| CertificateError::NoHost("its alternative names are repeated"))?
        .ok_or(CertificateError::NoHost("it has no alternative name"))?;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => uri
            .strip_prefix(HOST_URI)
            .and_then(HostId::parse)
            .ok_or(CertificateError::NoHost("its name is not a host's")),
        _ => Err(CertificateError::NoHost("it must have exactly one alternative name, a URI")),
    }
}

/// The SubjectPublicKeyInfo (DER) of a certificate (DER).
pub fn public_key_of(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

/// SHA-256 of the SubjectPublicKeyInfo of a certificate in PEM: of a CA's, the pin of its tokens.
pub fn pin_of_pem(pem: &str) -> Result<[u8; 32], CertificateError> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|e| CertificateError::NotACertificate(e.to_string()))?;
    Ok(Sha256::digest(public_key_of(&pem.contents)?).into())
}

/// What every leaf has in common: subject, life, and that it signs handshakes only.
pub(super) fn leaf(common_name: &str, validity: &Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    validity.apply(&mut params);
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

impl Validity {
    /// From [`BACKDATED_MS`] before now for `days` after it.
    pub(super) fn of_days(now_ms: i64, days: i64) -> Self {
        let second = |ms: i64| ms.clamp(0, LAST_MS) / 1000 * 1000;
        Self {
            not_before_ms: second(now_ms.saturating_sub(BACKDATED_MS)),
            not_after_ms: second(now_ms.saturating_add(days.saturating_mul(DAY_MS))),
        }
    }

    /// Writes it into rcgen's parameters; in range, so that adding cannot overflow its calendar.
    pub(super) fn apply(&self, params: &mut CertificateParams) {
        let date = |ms: i64| date_time_ymd(1970, 1, 1) + Duration::from_millis(ms.clamp(0, LAST_MS).unsigned_abs());
        params.not_before = date(self.not_before_ms);
        params.not_after = date(self.not_after_ms);
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|e| CertificateError::NotACertificate(e.to_string()))?;
    if !rest.is_empty() {
        return Err(CertificateError::NotACertificate(format!("{} bytes follow it", rest.len())));
    }
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    const NOW: i64 = 1_795_000_000_123;

    fn authority() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(&dir.path().join("ca"), NOW).unwrap();
        (dir, authority)
    }

    fn request(key: &KeyPair, name: &str) -> Vec<u8> {
        CertificateParams::new([name.to_owned()]).unwrap().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_names_the_host_it_was_signed_for_whatever_the_request_says() {
        let (_dir, authority) = authority();
        let key = KeyPair::generate().unwrap();
        let asked = read_request(&request(&key, "urn.highwater.host.0000000000000007")).unwrap();
        let signed = authority.sign_host(&asked, HostId(42), NOW).unwrap();
        assert_eq!(host_of_certificate(&signed.der), Ok(HostId(42)));
        assert_eq!(public_key_of(&signed.der).unwrap(), key.subject_public_key_info());
        let parsed = parse(&signed.der).unwrap();
        assert_eq!(parsed.raw_serial(), signed.serial);
        assert_eq!(parsed.validity().not_before.timestamp() * 1000, signed.validity.not_before_ms);
        assert_eq!(parsed.validity().not_after.timestamp() * 1000, signed.validity.not_after_ms);
        assert_eq!(signed.validity.not_before_ms, (NOW - BACKDATED_MS) / 1000 * 1000);
        let ca = parse(authority.certificate()).unwrap();
        assert_eq!(parsed.issuer(), ca.subject());
        assert!(ca.is_ca() && !parsed.is_ca());
    }

    #[test]
    fn certificates_of_other_kinds_name_no_host() {
        let (_dir, authority) = authority();
        let server = authority.server_certificate(NOW).unwrap();
        assert!(matches!(host_of_certificate(&server.chain[0]), Err(CertificateError::NoHost(_))));
        assert!(matches!(host_of_certificate(authority.certificate()), Err(CertificateError::NoHost(_))));
        assert!(matches!(host_of_certificate(b"junk"), Err(CertificateError::NotACertificate(_))));
        let key = KeyPair::generate().unwrap();
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let mine = "urn:highwater:host:000000000000002a";
        for names in [
            vec![],
            vec![uri("urn:highwater:host:")],
            vec![uri("urn:highwater:host:2a")],
            vec![uri("spiffe://x/000000000000002a")],
            vec![uri(mine), uri("urn:highwater:host:000000000000002b")],
            vec![uri(mine), SanType::DnsName("x".try_into().unwrap())],
        ] {
            let mut params = leaf("x", &Validity::of_days(NOW, 1));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.subject_alt_names = names.clone();
            let signed = params.signed_by(&key, authority.issuer()).unwrap();
            assert!(matches!(host_of_certificate(signed.der()), Err(CertificateError::NoHost(_))), "{names:?}");
        }
    }

    #[test]
    fn a_request_whose_signature_is_not_its_keys_is_refused() {
        let der = request(&KeyPair::generate().unwrap(), "x");
        assert!(read_request(&der).is_ok());
        let mut forged = der.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(read_request(&forged), Err(CertificateError::Request(_))));
        for cut in [0, 1, der.len() / 2, der.len() - 1] {
            assert!(read_request(&der[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn keys_of_the_modern_curves_are_signed() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert!(read_request(&request(&key, "x")).is_ok(), "{algorithm:?}");
        }
    }

    #[test]
    fn a_clock_out_of_range_still_gives_a_life() {
        for now in [i64::MIN, -1, 0, i64::MAX] {
            let validity = Validity::of_days(now, HOST_DAYS);
            assert!(validity.not_before_ms <= validity.not_after_ms, "{now}");
            validity.apply(&mut CertificateParams::default());
        }
    }
}
