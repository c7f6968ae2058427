//! One receiver's notices: what is due is told in order, and marked. Everything it waits for has a bound, and it waits for
//! no other receiver.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff;
use super::deliver::{Deliver, Failure};
use super::json;
use super::notice::{Notice, Transition};
use super::receiver::Receiver;
use super::text::Sending;
use crate::clock::WallClock;
use crate::compact::lease::{LENGTH_MS, RENEW_MS};
use crate::store::lease::{self, Fence, LeaseError};
use crate::store::notice::{self, Due};
use crate::store::tx::Dedicated;

/// The most flags that are told in one round.
const MOST: i64 = 50;

/// How long a round may begin deliveries after it looked: so long at least the lease lasts. Whoever was stopped for longer
/// would tell what somebody else has told meanwhile, and after what came later.
pub const ROUND: Duration = Duration::from_millis((LENGTH_MS - RENEW_MS).unsigned_abs());

/// Random numbers, handed in.
pub type Random = Arc<dyn Fn() -> u16 + Send + Sync>;

/// Whoever tells one receiver.
pub struct Courier {
    /// Whom.
    pub receiver: Receiver,
    /// See [`Sending::runbook_url`].
    pub runbook_url: Option<String>,
    /// How.
    pub deliver: Arc<dyn Deliver>,
    /// The collector's wall clock.
    pub clock: Arc<dyn WallClock>,
    /// For waits that differ.
    pub random: Random,
    /// The first wait after a failure, milliseconds.
    pub first_wait_ms: i64,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Notices that were taken.
    pub told: usize,
    /// Notices that were not.
    pub failed: usize,
}

impl Courier {
    /// Tells what is due. Once the receiver cannot be reached the rest of the round waits: each would take as long again.
    pub async fn round(&mut self, connection: &mut Dedicated, fence: Fence) -> Result<Round, LeaseError> {
        let mut round = Round::default();
        let looked = Instant::now();
        for due in self.due(connection, fence).await? {
            if looked.elapsed() >= ROUND {
                break;
            }
            let told = match json::read(&due.body) {
                Ok(notice) => self.tell(&notice, due.again).await.map(|()| Some(notice)),
                Err(error) => {
                    tracing::error!(receiver = self.receiver.name, %error, "a kept notice is given up");
                    self.give_up(connection, fence, &due, &error.to_string()).await?;
                    continue;
                }
            };
            let over = told.as_ref().is_err_and(|failure| !failure.refused);
            self.mark(connection, fence, &due, told).await.map(|told| match told {
                true => round.told += 1,
                false => round.failed += 1,
            })?;
            if over {
                break;
            }
        }
        Ok(round)
    }

    async fn due(&self, connection: &mut Dedicated, fence: Fence) -> Result<Vec<Due>, LeaseError> {
        let mut tx = connection.write_soon().await?;
        lease::check(&mut tx, super::LEASE, fence).await?;
        let due = notice::due(&mut tx, &self.receiver.name, self.clock.now_ms(), MOST).await?;
        tx.commit().await?;
        Ok(due)
    }

    async fn tell(&self, notice: &Notice, again: bool) -> Result<(), Failure> {
        let runbook_url = self.runbook_url.as_deref();
        let sending = Sending { notice, now_ms: self.clock.now_ms(), runbook_url, again };
        self.deliver.deliver(&self.receiver, sending).await
    }

    /// Says whether it was told. Whoever lost the lease meanwhile marks nothing: it is told again by somebody else.
    async fn mark(
        &mut self,
        connection: &mut Dedicated,
        fence: Fence,
        due: &Due,
        told: Result<Option<Notice>, Failure>,
    ) -> Result<bool, LeaseError> {
        let now_ms = self.clock.now_ms();
        let mut tx = connection.write_soon().await?;
        lease::check(&mut tx, super::LEASE, fence).await?;
        let ok = told.is_ok();
        match told {
            Ok(notice) => {
                let lasts = notice.is_some_and(|n| n.transition != Transition::Cleared);
                let again_ms = self.receiver.way.refresh_ms().filter(|_| lasts).map(|ms| now_ms.saturating_add(ms));
                notice::sent(&mut tx, &due.key, now_ms, again_ms).await?;
            }
            Err(failure) => {
                let wait = backoff::wait_ms(self.first_wait_ms, due.tries + 1, (self.random)(), failure.wait_ms);
                let words = format!("{}; {}", failure.what, failure.remedy);
                if due.tries == 0 {
                    tracing::warn!(
                        receiver = self.receiver.name,
                        error = words,
                        "a receiver was not told; trying again"
                    );
                }
                notice::failed(&mut tx, &due.key, (now_ms, now_ms.saturating_add(wait)), &words).await?;
            }
        }
        tx.commit().await?;
        Ok(ok)
    }

    async fn give_up(
        &self,
        connection: &mut Dedicated,
        fence: Fence,
        due: &Due,
        error: &str,
    ) -> Result<(), LeaseError> {
        let mut tx = connection.write_soon().await?;
        lease::check(&mut tx, super::LEASE, fence).await?;
        notice::give_up(&mut tx, &due.key, self.clock.now_ms(), error).await?;
        tx.commit().await?;
        Ok(())
    }
}
