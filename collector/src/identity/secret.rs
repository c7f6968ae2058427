//! Secrets of tokens: random when made, hashed when stored, compared in constant time.

use std::hint::black_box;

use highwater_proto::token::to_hex;
use sha2::{Digest as _, Sha256};

use crate::clock;

/// A new id: 64 random bits as hexadecimal digits. It may be shown and logged.
pub fn new_id() -> Result<String, getrandom::Error> {
    Ok(to_hex(&clock::random::<8>()?))
}

/// A new secret: 256 random bits as hexadecimal digits.
pub fn new_secret() -> Result<String, getrandom::Error> {
    Ok(to_hex(&clock::random::<32>()?))
}

/// What is stored of a secret. It has 256 random bits, so a plain hash cannot be searched.
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether the secret is the one whose digest was stored.
pub fn matches(secret: &str, stored: &[u8; 32]) -> bool {
    let given = digest(secret);
    let differing = given.iter().zip(stored).fold(0, |acc, (a, b)| black_box(acc | (a ^ b)));
    differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_matches() {
        let secret = new_secret().unwrap();
        assert!(matches(&secret, &digest(&secret)));
        assert!(!matches(&new_secret().unwrap(), &digest(&secret)));
        assert!(!matches("", &digest(&secret)));
    }
}
