//! The task that forgets what is older than is kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::lease::{Keeper, Now};
use super::retention::Retention;
use crate::clock::WallClock;
use crate::health::{Health, Part};
use crate::store::Db;
use crate::store::keep::Keep;
use crate::store::lease::{Fence, LeaseError};

/// Name of the lease under which partitions go: one collector does it.
pub const LEASE: &str = "retention";
/// Between two rounds.
const EVERY: Duration = Duration::from_secs(600);
/// After a round that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// What the task needs.
pub struct Upkeep {
    /// The database.
    pub db: Db,
    /// The collector's wall clock.
    pub clock: Arc<dyn WallClock>,
    /// Where it says what it fails at.
    pub health: Arc<Health>,
    /// How long what is kept.
    pub keep: Keep,
    /// This process, for people.
    pub holder: String,
}

impl Upkeep {
    /// Works until told to stop; a round that is under way then is finished.
    pub async fn run(self, stop: CancellationToken) {
        let started = Instant::now();
        let mut keeper = Keeper::new(LEASE, self.holder.clone());
        loop {
            let now = self.now(started);
            let wait = match self.round(&mut keeper, now).await {
                Ok(()) => {
                    self.health.works(Part::Retention);
                    EVERY
                }
                Err(error) => {
                    if let LeaseError::Lost { .. } = error {
                        keeper.lost(self.now(started));
                    }
                    warn!(%error, "looking after partitions; trying again");
                    let sqlstate = match &error {
                        LeaseError::Store(error) => error.sqlstate(),
                        LeaseError::Lost { .. } => None,
                    };
                    let failed_ms = self.now(started).wall_ms;
                    self.health.failed(Part::Retention, failed_ms, error.to_string(), sqlstate);
                    AGAIN
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        keeper.release(&self.db).await;
    }

    async fn round(&self, keeper: &mut Keeper, now: Now) -> Result<(), LeaseError> {
        let Some(fence) = keeper.hold(&self.db, now).await? else { return Ok(()) };
        let mut connection = self.db.dedicated().await?;
        self.retention(fence).run(&mut connection, now.wall_ms).await?;
        connection.close().await;
        Ok(())
    }

    fn retention(&self, fence: Fence) -> Retention {
        Retention { keep: self.keep, lease: LEASE.to_owned(), fence }
    }

    fn now(&self, started: Instant) -> Now {
        let steady_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Now { wall_ms: self.clock.now_ms(), steady_ms }
    }
}
