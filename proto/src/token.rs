//! The enrolment token `hw1.<id>.<secret>.<pin>`: who may enrol, proof of it, and which collector to trust.

use std::fmt;

use crate::{bounds, v1};

/// An enrolment token. The secret shows as `***` in `Debug`; [`Token::reveal`] is the only way to write it out.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id; may be shown and logged.
    pub id: String,
    /// The secret; the collector holds only its SHA-256.
    pub secret: String,
    /// SHA-256 of the collector CA's SubjectPublicKeyInfo: checked before the secret is sent.
    pub pin: [u8; 32],
}

impl Token {
    /// Reads a token; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('.');
        let (Some("hw1"), Some(id), Some(secret), Some(pin), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Shape);
        };
        let word = |t: &str, most| !t.is_empty() && t.len() <= most && t.bytes().all(|b| b.is_ascii_alphanumeric());
        if !word(id, bounds::SHORT_TEXT) || !word(secret, bounds::SECRET) {
            return Err(TokenError::Shape);
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned(), pin: from_hex(pin).ok_or(TokenError::Pin)? })
    }

    /// The whole token, secret included: for the file it is handed over in, never for a log.
    pub fn reveal(&self) -> String {
        format!("hw1.{}.{}.{}", self.id, self.secret, to_hex(&self.pin))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hw1.{}.***.{}", self.id, to_hex(&self.pin))
    }
}

impl fmt::Debug for v1::EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest").field("token_id", &self.token_id).field("secret", &"***").finish_non_exhaustive()
    }
}

/// Why text is no token. It never quotes the text: that may hold the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not four parts of the right kind.
    #[error("not an enrolment token: it has the form hw1.<id>.<secret>.<pin>, as `highwater token create` prints it")]
    Shape,
    /// The last part is no SHA-256.
    #[error("the token's last part is not 64 hexadecimal digits: was it cut when copied?")]
    Pin,
}

/// Lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Exactly `N` bytes from hexadecimal digits.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_reveals_and_hides_the_secret_in_debug() {
        let token = Token { id: "a1".into(), secret: "topsecret9".into(), pin: [0xab; 32] };
        assert_eq!(Token::parse(&format!(" {}\n", token.reveal())), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("topsecret9"));
    }

    #[test]
    fn a_request_to_enrol_hides_the_secret_in_debug() {
        let request = v1::EnrolRequest { token_id: "a1".into(), secret: "topsecret9".into(), ..Default::default() };
        let shown = format!("{request:?}");
        assert!(shown.contains("a1") && !shown.contains("topsecret9"), "{shown}");
    }

    #[test]
    fn refuses_other_text_without_quoting_it() {
        assert_eq!(Token::parse("hw1.a.b"), Err(TokenError::Shape));
        assert_eq!(Token::parse(&format!("hw2.a.b.{}", "0".repeat(64))), Err(TokenError::Shape));
        assert_eq!(Token::parse("hw1.a.b.zz"), Err(TokenError::Pin));
    }
}
