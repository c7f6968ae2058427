//! `notify test` and `notify list`: whom this collector tells, how they fare, and whether one can be told now.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deliver::{Deliver, Failure};
use super::notice;
use super::receiver::{Receiver, Receivers};
use super::text::Sending;
use crate::clock::{self, WallClock};
use crate::store::history::Reading;
use crate::store::notice::Standing;
use crate::store::{Db, StoreError, audit, tx};

/// What answers need, cheap to clone.
#[derive(Clone)]
pub struct Desk {
    receivers: Arc<Receivers>,
    deliver: Arc<dyn Deliver>,
    db: Db,
    clock: Arc<dyn WallClock>,
    /// One test at a time: whoever asks again and again wakes people.
    one: Arc<Semaphore>,
}

/// How the test of one receiver went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Where it is, without secrets.
    pub place: String,
    /// How long it took.
    pub took: Duration,
    /// Why it has not taken it; `None` = it has.
    pub failure: Option<Failure>,
}

/// A receiver and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub receiver: Receiver,
    /// What is known of it; `None` = it was never told anything.
    pub standing: Option<Standing>,
}

/// Why there is no test.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// No file of receivers was named.
    #[error("this collector tells nobody: start it with --notify-config FILE (README.md shows one)")]
    Nobody,
    /// Nobody is called so.
    #[error("no receiver is called {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Who there is.
        known: String,
    },
    /// Another test is under way.
    #[error("another test is under way: try again in a moment")]
    Busy,
    /// There is no randomness for an id.
    #[error("the kernel gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Desk {
    /// For these receivers; none = it says so.
    pub fn new(receivers: Arc<Receivers>, deliver: Arc<dyn Deliver>, db: Db, clock: Arc<dyn WallClock>) -> Self {
        Self { receivers, deliver, db, clock, one: Arc::new(Semaphore::new(1)) }
    }

    /// Every receiver, in the order of the file.
    pub async fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let mut reading = Reading::begin(&self.db).await?;
        let standings = reading.notice_standings(self.clock.now_ms()).await?;
        let listed = |receiver: &Receiver| Listed {
            receiver: receiver.clone(),
            standing: standings.iter().find(|s| s.receiver == receiver.name).cloned(),
        };
        Ok(self.receivers.list.iter().map(listed).collect())
    }

    /// Tells one receiver, or all of them at once, that this is a test; `who` asked for it.
    pub async fn test(&self, name: Option<&str>, who: &str) -> Result<Vec<Outcome>, TrialError> {
        let chosen: Vec<Receiver> = match name {
            None => self.receivers.list.clone(),
            Some(name) => self.receivers.find(name).into_iter().cloned().collect(),
        };
        if self.receivers.list.is_empty() {
            return Err(TrialError::Nobody);
        }
        if chosen.is_empty() {
            let known: Vec<&str> = self.receivers.list.iter().map(|r| &*r.name).collect();
            return Err(TrialError::Unknown { name: name.unwrap_or("").to_owned(), known: known.join(", ") });
        }
        let _one = self.one.try_acquire().map_err(|_| TrialError::Busy)?;
        let salt = u32::from_le_bytes(clock::random().map_err(TrialError::Random)?).max(1);
        let mut under_way = JoinSet::new();
        for (n, receiver) in chosen.into_iter().enumerate() {
            let desk = self.clone();
            under_way.spawn(async move { (n, desk.one_test(receiver, salt).await) });
        }
        let mut outcomes = Vec::new();
        while let Some(done) = under_way.join_next().await {
            outcomes.push(done.map_err(|e| StoreError::Interrupted(e.to_string()))?);
        }
        outcomes.sort_by_key(|(n, _)| *n);
        let outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
        self.keep(&outcomes, salt, who).await?;
        Ok(outcomes)
    }

    async fn one_test(&self, receiver: Receiver, salt: u32) -> Outcome {
        let now_ms = self.clock.now_ms();
        let notice = notice::test(salt, now_ms);
        let runbook_url = self.receivers.runbook_url.as_deref();
        let began = Instant::now();
        let sending = Sending { notice: &notice, now_ms, runbook_url, again: false };
        let failure = self.deliver.deliver(&receiver, sending).await.err();
        Outcome {
            kind: receiver.way.name(),
            place: receiver.place(),
            name: receiver.name,
            took: began.elapsed(),
            failure,
        }
    }

    async fn keep(&self, outcomes: &[Outcome], salt: u32, who: &str) -> Result<(), StoreError> {
        let now_ms = self.clock.now_ms();
        let mut connection = self.db.dedicated().await?;
        let mut tx = connection.write_soon().await?;
        for outcome in outcomes {
            let error = outcome.failure.as_ref().map(|f| format!("{}; {}", f.what, f.remedy));
            crate::store::notice::tested(&mut tx, (i64::from(salt), &outcome.name), now_ms, error.as_deref()).await?;
        }
        tx.commit().await?;
        connection.close().await;
        let mut tx = tx::write(&self.db).await?;
        let names: Vec<&str> = outcomes.iter().map(|o| &*o.name).collect();
        let entry = audit::Entry { at_ms: now_ms, who, what: "notify.test", subject: &names.join(",") };
        audit::insert(&mut tx, entry).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }
}
