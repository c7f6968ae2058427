//! Holds a lease while there is work: what to do when is decided by clocks that are handed in.
//!
//! A holder believes in its lease by its own steady clock, from before it asked; whoever was stopped for longer finds it
//! run out and works no further. That is courtesy: what makes it safe is the fence, which the first statement of each of
//! a job's transactions checks ([`crate::store::lease::check`]).

use crate::store::lease::{self, Fence, LeaseError};
use crate::store::tx::Dedicated;
use crate::store::{Db, StoreError};

/// How long a lease lasts, unless it is renewed, milliseconds.
pub const LENGTH_MS: i64 = 30_000;
/// How old it is renewed.
pub const RENEW_MS: i64 = 10_000;

/// Where a worker stands with its lease; times are of its steady clock, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not held; asked last at that time, if ever.
    Without {
        /// When.
        asked_ms: Option<i64>,
    },
    /// Held.
    Holding {
        /// By this number.
        fence: Fence,
        /// It was asked for, or renewed, at that time at the earliest.
        since_ms: i64,
    },
}

/// What a worker does about its lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for it.
    Take,
    /// Wait so many milliseconds before asking again.
    Wait(i64),
    /// Renew it, then work.
    Renew(Fence),
    /// Work.
    Work(Fence),
}

impl Standing {
    /// What to do at this time.
    pub fn step(self, now_ms: i64) -> Step {
        match self {
            Self::Without { asked_ms: None } => Step::Take,
            Self::Without { asked_ms: Some(asked) } => match asked.saturating_add(RENEW_MS).saturating_sub(now_ms) {
                left if left > 0 => Step::Wait(left),
                _ => Step::Take,
            },
            Self::Holding { fence, since_ms } => match now_ms.saturating_sub(since_ms) {
                age if age < RENEW_MS => Step::Work(fence),
                // Run out, too: if nobody has taken it, it is still ours.
                _ => Step::Renew(fence),
            },
        }
    }
}

/// The clocks of a worker, milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The collector's wall clock: what the table is told.
    pub wall_ms: i64,
    /// A clock that is never set.
    pub steady_ms: i64,
}

/// One worker's lease.
pub struct Keeper {
    name: String,
    holder: String,
    standing: Standing,
    connection: Option<Dedicated>,
}

impl Keeper {
    /// Nothing is asked yet. `holder` names this process to people.
    pub fn new(name: impl Into<String>, holder: impl Into<String>) -> Self {
        let standing = Standing::Without { asked_ms: None };
        Self { name: name.into(), holder: holder.into(), standing, connection: None }
    }

    /// The job.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fence to work under now: takes the lease or renews it where that is due. `None` = somebody else works. An error
    /// is the database's: work nothing.
    pub async fn hold(&mut self, db: &Db, now: Now) -> Result<Option<Fence>, StoreError> {
        let fence = match self.standing.step(now.steady_ms) {
            Step::Wait(_) => return Ok(None),
            Step::Work(fence) => return Ok(Some(fence)),
            Step::Take => self.take(db, now).await?,
            Step::Renew(fence) => self.renew(db, fence, now).await?.then_some(fence),
        };
        self.standing = match fence {
            Some(fence) => Standing::Holding { fence, since_ms: now.steady_ms },
            None => Standing::Without { asked_ms: Some(now.steady_ms) },
        };
        Ok(fence)
    }

    /// A job's transaction said so: somebody else works.
    pub fn lost(&mut self, now: Now) {
        self.standing = Standing::Without { asked_ms: Some(now.steady_ms) };
    }

    /// Gives the lease back, so that others need not wait until it runs out. Errors do not matter any more.
    pub async fn release(mut self, db: &Db) {
        let Standing::Holding { fence, .. } = self.standing else { return };
        if let Ok(mut connection) = self.connect(db).await
            && lease::release(&mut connection, &self.name, fence).await.is_ok()
        {
            connection.close().await;
        }
    }

    async fn take(&mut self, db: &Db, now: Now) -> Result<Option<Fence>, StoreError> {
        let mut connection = self.connect(db).await?;
        let taken = lease::take(&mut connection, &self.name, &self.holder, now.wall_ms, LENGTH_MS).await;
        self.keep(connection, &taken);
        // The holder is committing under it just now.
        if taken.as_ref().is_err_and(StoreError::was_locked) { Ok(None) } else { taken }
    }

    async fn renew(&mut self, db: &Db, fence: Fence, now: Now) -> Result<bool, StoreError> {
        let mut connection = self.connect(db).await?;
        let until_ms = now.wall_ms.saturating_add(LENGTH_MS);
        let kept = lease::renew(&mut connection, &self.name, fence, until_ms).await;
        self.keep(connection, &kept);
        kept
    }

    async fn connect(&mut self, db: &Db) -> Result<Dedicated, StoreError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => db.dedicated().await,
        }
    }

    fn keep<T>(&mut self, connection: Dedicated, done: &Result<T, StoreError>) {
        if done.as_ref().err().is_none_or(StoreError::from_server) {
            self.connection = Some(connection);
        }
    }
}

/// Whether a job's error is that of a lease that somebody else has taken.
pub fn is_lost(error: &LeaseError) -> bool {
    matches!(error, LeaseError::Lost { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_asked_for_in_turns_renewed_in_time_and_works_between() {
        let fence = Fence(3);
        let without = |asked_ms| Standing::Without { asked_ms };
        let held = Standing::Holding { fence, since_ms: 100 };
        assert_eq!(without(None).step(0), Step::Take);
        assert_eq!(without(Some(100)).step(100), Step::Wait(RENEW_MS));
        assert_eq!(without(Some(100)).step(100 + RENEW_MS), Step::Take);
        assert_eq!(held.step(100), Step::Work(fence));
        assert_eq!(held.step(99 + RENEW_MS), Step::Work(fence));
        assert_eq!(held.step(100 + RENEW_MS), Step::Renew(fence));
        assert_eq!(held.step(i64::MAX), Step::Renew(fence));
        const { assert!(RENEW_MS * 2 < LENGTH_MS) };
    }
}
