//! The task that tells receivers: one collector at a time, by the lease `notify`; each receiver by a courier of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::LEASE;
use super::backoff::{self, FIRST_MS};
use super::courier::{Courier, Random};
use super::deliver::Deliver;
use super::receiver::{Receiver, Receivers};
use super::teller;
use crate::clock::{self, WallClock};
use crate::compact::lease::{Keeper, Now};
use crate::health::{Health, Part};
use crate::store::lease::{self, Fence, LeaseError};
use crate::store::notice;
use crate::store::tx::Dedicated;
use crate::store::{Db, StoreError};

/// What was not told by then is given up, milliseconds.
pub const GIVEN_UP_MS: i64 = 24 * 3_600_000;
/// How long what is told is kept after its flag's end, milliseconds.
const KEPT_MS: i64 = 7 * 24 * 3_600_000;
/// And without such an end: no flag lasts as long.
const KEPT_LONG_MS: i64 = 400 * 24 * 3_600_000;
/// Between two rounds of giving up and forgetting.
const TIDY: Duration = Duration::from_secs(60);
/// Rows at a time.
const BATCH: i64 = 1_000;

/// How fast it goes.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Between two looks at what is due.
    pub look: Duration,
    /// The first wait after a failure, milliseconds.
    pub first_wait_ms: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { look: Duration::from_secs(1), first_wait_ms: FIRST_MS }
    }
}

/// What the task needs.
pub struct Sender {
    /// The database.
    pub db: Db,
    /// The collector's wall clock.
    pub clock: Arc<dyn WallClock>,
    /// Where it says what it fails at itself; what receivers fail at is in the table.
    pub health: Arc<Health>,
    /// Whom.
    pub receivers: Arc<Receivers>,
    /// How.
    pub deliver: Arc<dyn Deliver>,
    /// This process, for people.
    pub holder: String,
    /// How fast.
    pub config: Config,
}

impl Sender {
    /// Works until told to stop; what is being told then is finished.
    pub async fn run(self, stop: CancellationToken) {
        let started = Instant::now();
        let (say, heard) = watch::channel(None);
        let mut couriers = JoinSet::new();
        for receiver in &self.receivers.list {
            couriers.spawn(self.serve(receiver, heard.clone(), stop.clone()));
        }
        let mut keeper = Keeper::new(LEASE, self.holder.clone());
        let mut connection = None;
        let mut tidied: Option<Instant> = None;
        while !stop.is_cancelled() {
            let steady_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
            let now = Now { wall_ms: self.clock.now_ms(), steady_ms };
            let held = keeper.hold(&self.db, now).await.map_err(LeaseError::from);
            let mut fence = *held.as_ref().unwrap_or(&None);
            let is_due = tidied.is_none_or(|at| at.elapsed() >= TIDY);
            if let Some(fence) = fence
                && let Err(error) = self.tell(&mut connection, fence, now.wall_ms).await
            {
                warn!(%error, "looking for flags that nobody was told of; trying again");
            }
            let worked = match (held, fence) {
                (Ok(_), Some(fence)) if is_due => {
                    tidied = Some(Instant::now());
                    self.tidy(&mut connection, fence, now.wall_ms).await
                }
                (held, _) => held.map(drop),
            };
            match worked {
                Ok(()) => self.health.works(Part::Notifier),
                Err(LeaseError::Lost { .. }) => {
                    keeper.lost(now);
                    fence = None;
                }
                Err(LeaseError::Store(error)) => self.failed(&error),
            }
            let _ = say.send(fence);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.config.look) => {}
            }
        }
        while couriers.join_next().await.is_some() {}
        keeper.release(&self.db).await;
    }

    /// One receiver, while this collector holds the lease.
    fn serve(
        &self,
        receiver: &Receiver,
        mut fence: watch::Receiver<Option<Fence>>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (db, health, clock) = (self.db.clone(), self.health.clone(), self.clock.clone());
        let Config { look, first_wait_ms } = self.config;
        let mut courier = Courier {
            receiver: receiver.clone(),
            runbook_url: self.receivers.runbook_url.clone(),
            deliver: self.deliver.clone(),
            clock: clock.clone(),
            random: random(),
            first_wait_ms,
        };
        async move {
            let mut connection = None;
            let mut failures = 0_u32;
            let mut lost = None;
            while !stop.is_cancelled() {
                let held = *fence.borrow_and_update();
                let mut wait = look;
                if let Some(held) = held.filter(|held| lost != Some(*held)) {
                    match round(&mut courier, &db, &mut connection, held).await {
                        // Its rows wait each by itself; the receiver as a whole is let alone a little, too.
                        Ok(round) if round.failed > 0 && round.told == 0 => failures = failures.saturating_add(1),
                        Ok(_) => failures = 0,
                        // Nothing more under this number: somebody else works.
                        Err(LeaseError::Lost { .. }) => lost = Some(held),
                        Err(LeaseError::Store(error)) => {
                            warn!(%error, receiver = courier.receiver.name, "looking for what is to be told");
                            health.failed(Part::Notifier, clock.now_ms(), error.to_string(), error.sqlstate());
                        }
                    }
                }
                if failures > 0 {
                    let ms = backoff::wait_ms(first_wait_ms / 5, failures, (courier.random)(), None).min(60_000);
                    wait = wait.max(Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
            if let Some(connection) = connection {
                connection.close().await;
            }
        }
    }

    /// Queues what receivers do not know yet.
    async fn tell(&self, kept: &mut Option<Dedicated>, fence: Fence, now_ms: i64) -> Result<(), LeaseError> {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.db.dedicated().await?,
        };
        teller::tell(&mut connection, fence, &self.receivers, now_ms).await?;
        *kept = Some(connection);
        Ok(())
    }

    /// Gives up what waited for a day, and forgets what is over.
    async fn tidy(&self, kept: &mut Option<Dedicated>, fence: Fence, now_ms: i64) -> Result<(), LeaseError> {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.db.dedicated().await?,
        };
        let before = |ms: i64| now_ms.saturating_sub(ms);
        loop {
            let mut tx = connection.write_soon().await?;
            lease::check(&mut tx, LEASE, fence).await?;
            let expired = notice::expire(&mut tx, (before(GIVEN_UP_MS), now_ms), BATCH).await?;
            let gone = notice::forget(&mut tx, (before(KEPT_MS), before(KEPT_LONG_MS)), BATCH).await?;
            tx.commit().await?;
            if expired > 0 {
                warn!(notices = expired, "given up: no receiver took them for a day");
            }
            if i64::try_from(expired.max(gone)).unwrap_or(i64::MAX) < BATCH {
                break;
            }
        }
        *kept = Some(connection);
        Ok(())
    }

    fn failed(&self, error: &StoreError) {
        warn!(%error, "holding the lease of notifications; trying again");
        self.health.failed(Part::Notifier, self.clock.now_ms(), error.to_string(), error.sqlstate());
    }
}

async fn round(
    courier: &mut Courier,
    db: &Db,
    kept: &mut Option<Dedicated>,
    fence: Fence,
) -> Result<super::courier::Round, LeaseError> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => db.dedicated().await?,
    };
    let done = courier.round(&mut connection, fence).await;
    // In an unknown state it is thrown away.
    if done.is_ok() {
        *kept = Some(connection);
    }
    done
}

/// The machine's own randomness; without it waits do not differ, which is no reason not to tell.
fn random() -> Random {
    Arc::new(|| clock::random::<2>().map_or(0, u16::from_le_bytes))
}
