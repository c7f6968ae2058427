//! When to sample, what a sample is, and which record it becomes; no sockets.
//!
//! [`cadence`] and [`adaptive`] say when (pure), [`assemble`] turns the kernel's answers into a `Snapshot`, [`record`] turns snapshots
//! into records (pure), [`who`] says who holds the objects, [`thread`] is the thread that samples: apart from the agent's
//! runtime, because it will enter other IPC namespaces, which belong to a thread.

pub mod adaptive;
pub mod assemble;
mod availability;
pub mod cadence;
pub mod namespaces;
mod objects;
pub mod record;
mod risks;
mod sight;
pub mod thread;
mod unread;
pub mod who;

pub use assemble::{Assembler, Sample};
pub use namespaces::Scope;
pub use record::Recorder;
pub use thread::{Pace, Sampler, SamplerHandle, blind};
