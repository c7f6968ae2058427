//! Decides who a peer is: the CA and what it signs, enrolment tokens, operators of the HTTP API.
//!
//! - I1 A host is whoever its certificate names; nothing that a peer says about itself counts ([`certificate`]).
//! - I2 Of every secret only its SHA-256 is stored, and the comparison takes the same time wherever it fails
//!   ([`secret`]).
//! - I3 A token's use and the certificate that it bought are one transaction: a lost reply can be asked for again, a
//!   token never buys two keys ([`enrolment`]).
//! - I4 Whatever is created or revoked leaves an audit row in the same transaction.

pub mod ca;
pub mod certificate;
pub mod enrolment;
pub mod operators;
pub mod secret;
#[cfg(test)]
mod tests;
pub mod tokens;
