//! What happened to people, played by real processes in namespaces of their own; what they needed to know must be in one
//! answer.

mod apache;
mod cause;
mod explain;
mod flags;
mod leak;
mod logout;
mod pod;
mod refused;
mod removed;
pub(crate) mod stage;
mod unseen;
