//! The one place that starts an agent in this process.

use std::sync::Arc;

use highwater_agent::agent::{AgentHandle, spawn_sampling};
use highwater_agent::clock::HostClock;
use highwater_agent::config::Config;
use highwater_agent::kernel::Kernel;

use crate::wait::{PATIENCE, until_some};

/// Starts an agent that samples `kernel`.
///
/// A process that another test has just forked holds the lock of the agent before it, until it executes its program: so
/// whoever comes too early tries again.
///
/// # Panics
///
/// If it does not start, or somebody holds its state directory.
#[track_caller]
pub fn start(config: &Config, kernel: impl Fn() -> Box<dyn Kernel>, clock: &Arc<dyn HostClock>) -> AgentHandle {
    until_some("nobody holds the agent's state", PATIENCE, || {
        match spawn_sampling(config.clone(), kernel(), Arc::clone(clock)) {
            Ok(agent) => Some(agent),
            Err(error) if error.to_string().contains("in use by another agent") => None,
            Err(error) => panic!("an agent does not start: {error}"),
        }
    })
}
