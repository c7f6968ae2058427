//! What waits for one worker, in lanes; never full, for what is in it was counted before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::command::{Command, OpenError};
use super::config::Config;
use super::lanes::{Gathered, Lanes, Most};
use super::room::Stopped;
use crate::host::HostId;

/// What waits for one worker. Never full: what is in it was counted, or there is one of it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Something changed.
    bell: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    lanes: Lanes,
    /// When what may be taken began to wait.
    since: Option<Instant>,
    closed: bool,
}

/// What a worker finds.
#[derive(Debug)]
pub(super) enum Look {
    /// A commit's worth, or what has waited long enough for more.
    Found(Gathered),
    /// Something that waits for more until then.
    Soon(Instant),
    /// Nothing that may be taken.
    Nothing,
    /// Nothing, and nothing will come.
    Over,
}

/// A worker's end of its queue: when it is dropped nobody waits for an answer any more.
pub(super) struct Consumer(pub(super) Arc<Queue>);

impl Queue {
    pub(super) fn push(&self, command: Command) -> Result<(), Stopped> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Stopped);
        }
        let replaced = waiting.lanes.push(command);
        drop(waiting);
        self.bell.notify_one();
        if let Some(Command::Open(_, reply)) = replaced {
            // Its stream was there before, waits for the same, and its agent says hello elsewhere now.
            let _ = reply.send(Err(OpenError::Unavailable));
        }
        Ok(())
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_one();
    }

    /// Lets a host's commands wait until what was taken of it is over.
    pub(super) fn hold(&self, hosts: impl IntoIterator<Item = HostId>) {
        let mut waiting = self.lock();
        hosts.into_iter().for_each(|host| waiting.lanes.hold(host));
    }

    /// Lets hosts' commands be taken again.
    pub(super) fn release(&self, hosts: impl IntoIterator<Item = HostId>) {
        let mut waiting = self.lock();
        hosts.into_iter().for_each(|host| waiting.lanes.release(host));
    }

    /// What there is to do now.
    pub(super) fn look(&self, config: &Config) -> Look {
        let most = Most { commands: config.records_per_commit, bytes: config.bytes_per_commit };
        let mut waiting = self.lock();
        if !waiting.lanes.is_ready() {
            return if waiting.closed && waiting.lanes.is_empty() { Look::Over } else { Look::Nothing };
        }
        let now = Instant::now();
        let until = *waiting.since.get_or_insert(now) + Duration::from_millis(config.linger_ms);
        if now < until && !waiting.lanes.fill(most) && !waiting.closed {
            return Look::Soon(until);
        }
        let gathered = waiting.lanes.gather(most);
        // What is left has waited as long.
        waiting.since = waiting.since.filter(|_| waiting.lanes.is_ready());
        Look::Found(gathered)
    }

    /// Waits for what there is to do; `None` once the queue is closed and empty. Cancelling the wait loses nothing.
    pub(super) async fn next(&self, config: &Config) -> Option<Gathered> {
        loop {
            let changed = self.bell.notified();
            match self.look(config) {
                Look::Found(gathered) => return Some(gathered),
                Look::Over => return None,
                Look::Nothing => changed.await,
                // Either way there is another look.
                Look::Soon(until) => drop(tokio::time::timeout_at(until, changed).await),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.0.close();
        self.0.lock().lanes = Lanes::default();
    }
}
