//! What the writer tells a stream: what is durable, that a keyframe is wanted, that it is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use highwater_ipc::record::{EpochNo, Seq};
use tokio::sync::Notify;

use crate::store::tx::Committed;

/// A value that is true of what a returned COMMIT stored. The ack encoder takes nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    /// Only a proof makes one.
    pub(super) fn witnessed(value: T, _proof: &Committed) -> Self {
        Self(value)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// A position in a host's history: everything of that epoch before `next` is stored, covered or in a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The epoch.
    pub epoch: EpochNo,
    /// Position after its last durable record.
    pub next: Seq,
}

/// Why the writer ended a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Another stream of this host was opened.
    #[error("another stream of this host was opened")]
    Replaced,
    /// What was sent does not follow what is stored.
    #[error("{0}")]
    DoesNotFollow(String),
    /// The collector is stopping.
    #[error("the collector is stopping; connect again")]
    Stopping,
}

/// The writer's side of a stream: the writer never waits for it, so it keeps only the newest position of each epoch.
/// Bounded by the number of epochs in a hello.
#[derive(Debug, Default)]
pub struct Outbox {
    news: Mutex<News>,
    bell: Notify,
}

/// What an outbox holds.
#[derive(Debug, Default)]
pub struct News {
    /// Newest durable position of each epoch, ascending.
    pub acks: BTreeMap<EpochNo, Durable<Position>>,
    /// The next sample is to be sent whole.
    pub keyframe: bool,
    /// The session is over; nothing more will come.
    pub ended: Option<Ended>,
}

impl Outbox {
    /// Waits until there is news and takes it. Cancelling the wait loses nothing.
    pub async fn take(&self) -> News {
        loop {
            if let Some(news) = self.look() {
                return news;
            }
            self.bell.notified().await;
        }
    }

    fn look(&self) -> Option<News> {
        let mut news = self.lock();
        let any = !news.acks.is_empty() || news.keyframe || news.ended.is_some();
        any.then(|| std::mem::take(&mut *news))
    }

    /// Says what is durable.
    pub(super) fn ack(&self, position: Durable<Position>) {
        self.lock().acks.insert(position.0.epoch, position);
        self.bell.notify_one();
    }

    /// Asks for a whole state.
    pub(super) fn want_keyframe(&self) {
        self.lock().keyframe = true;
        self.bell.notify_one();
    }

    /// Ends the session; the first reason stays.
    pub(super) fn end(&self, why: Ended) {
        self.lock().ended.get_or_insert(why);
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
