//! Reads this host's System V IPC state and streams it to a Highwater collector, as a library; `main.rs` is thin.
//!
//! In path order: [`sys`] holds the system calls, [`kernel`] asks and parses, [`sampler`] decides when and makes
//! records, [`spool`] keeps them until they are acked, [`transport`] sends them. [`agent`] joins them, [`cli`] is the
//! command line, [`doctor`] what it can and cannot read, [`config`] the configuration, [`clock`] the real clocks.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod kernel;
pub mod sampler;
pub mod spool;
pub mod sys;
pub mod trace;
pub mod transport;
