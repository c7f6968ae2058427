//! What is done to history behind the writer's back, by one collector at a time: partitions made and dropped, tails
//! compacted, and what is older than is kept forgotten.
//!
//! [`lease`] says who works, [`partitions`] makes and drops partitions, [`tail`] makes fresh chunks of frames and [`merge`]
//! large ones of those; [`pack`] is the pure part of both. [`derive`] is what follows from the states (use over time, owners
//! by the hour, what could not be read), pure like the fold that feeds it; [`derived`] stores it. [`job`] does that, round after round.
//! [`retention`] forgets what is older than is kept, with [`baseline`] (pure) for what goes on; [`upkeep`] is its task.
//!
//! - K1 A record lies in one of three places, and `stream` says in which: it moves by compare-and-set in the transaction
//!   that stores it where it goes, and is not removed where it was. So no instant is unreadable at any moment, a
//!   collector can be killed anywhere, and of two that work at once one changes nothing.
//! - K2 A partition goes when nothing is read in it any more, looked at again under the lock that drops it.
//! - K3 Whoever lost its lease commits nothing: the fence is checked in the transaction.
//! - K4 What is derived from states is written in the transaction that moves their records, so exactly once.

pub mod baseline;
pub mod derive;
pub mod derived;
#[cfg(test)]
mod derived_tests;
pub mod idle;
pub mod job;
pub mod lease;
pub mod merge;
pub mod pack;
pub mod partitions;
pub mod retention;
pub mod tail;
pub mod upkeep;

use crate::query::AskError;
use crate::query::fold::FoldError;
use crate::store::StoreError;
use crate::store::lease::{Fence, LeaseError, check};
use crate::store::tx::Write;

/// The lease that one works under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The job.
    pub name: String,
    /// Its number.
    pub fence: Fence,
}

impl Held {
    /// The first question of a job's transaction: whether nobody else has taken the lease, and until it ends nobody does.
    async fn still(&self, tx: &mut Write<'_>) -> Result<bool, StoreError> {
        match check(tx, &self.name, self.fence).await {
            Ok(()) => Ok(true),
            Err(LeaseError::Lost { .. }) => Ok(false),
            Err(LeaseError::Store(error)) => Err(error),
        }
    }
}

/// Why a step was not done. Nothing is lost: it is done again.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was stored before could not be read.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A stored record makes no state.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// Records make no chunk.
    #[error(transparent)]
    Pack(#[from] pack::PackError),
    /// Another collector works now.
    #[error("another collector has taken the lease")]
    LeaseLost,
}
