//! Takes records from agents; knows no SQL.
//!
//! In path order: [`accept`] takes connections (a permit before each, TLS by [`tls`], so many without a certificate by
//! `strangers` and of each host by `hosts`), [`connection`] is one of them until it is over, [`service`] is the only
//! file that knows gRPC, [`identity`](crate::identity) says which host a certificate names, `live` drives one stream,
//! `session` (pure) says of each record whether it follows, `registry` knows which hosts are connected here, and
//! [`server`] starts and ends all of it. Records go to the [`writer`](crate::writer); acks come back from it.
//!
//! Invariants
//! - **I1** Which host a stream writes as comes from its certificate alone.
//! - **I2** No handler awaits the database: it asks the writer, or a task of its own, and a client that goes away
//!   cancels neither.
//! - **I3** A record reaches the writer only if it is the next of its epoch by seq and chain, or a keyframe after a
//!   jump, and its body can be read.
//! - **I4** Every message, header, wait and count of a peer is bounded; a peer that exceeds one is refused with a
//!   status that names it, and loses nothing: its agent still holds what was not acked.

pub mod accept;
pub mod connection;
mod hosts;
mod live;
mod refusal;
mod registry;
pub mod server;
pub mod service;
pub mod session;
mod strangers;
pub mod tls;

pub use server::{Config, Server, Services};
pub use tls::{Material, TlsError};
