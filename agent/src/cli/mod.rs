//! The agent's command line.

pub mod snapshot;
