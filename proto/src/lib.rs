//! How agent and collector write down what they agree on: protobuf on the wire, JSON for people and scripts.
//!
//! The meaning of all of it is in `highwater-ipc`; this crate holds the generated types ([`v1`]), the one place where
//! wire and domain meet ([`convert`]), the bounds that are enforced there ([`bounds`]), the chain's hash ([`chain`])
//! and the contract's JSON of a snapshot ([`json`]).
#![forbid(unsafe_code)]

pub mod bounds;
pub mod chain;
pub mod convert;
pub mod json;
pub mod token;

/// Generated from `highwater/v1/*.proto`, which document every field.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto files carry the documentation")]
pub mod v1 {
    tonic::include_proto!("highwater.v1");
}
