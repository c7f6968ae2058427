//! Enrols, connects, sends records, takes acks.
//!
//! [`session`] and [`pace`] decide what is sent and when, without a socket or a clock; [`tls`] decides whom to trust;
//! [`enrol`] and [`stream`] speak gRPC and are the only files that know the generated types.

pub mod address;
pub mod enrol;
pub mod enrolment;
#[cfg(test)]
pub(crate) mod fake_collector;
pub mod pace;
pub mod session;
pub mod stream;
pub mod tls;
