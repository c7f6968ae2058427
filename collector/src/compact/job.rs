//! The job: round after round, whatever is due.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::lease::{Keeper, Now};
use super::tail::Moved;
use super::{CompactError, Held, idle, merge, partitions, tail};
use crate::clock::WallClock;
use crate::evaluate::config::Watched;
use crate::evaluate::rules::Rules;
use crate::health::{Health, Part};
use crate::store::compaction::{Due, Of};
use crate::store::day::Day;
use crate::store::history::Reading;
use crate::store::link::Link;
use crate::store::{Db, StoreError};

/// When something is due.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A tail is compacted when its oldest record is so old, milliseconds: that late are `usage`, `owner_usage` and the
    /// first look of `find`. [default: 10 min]
    pub tail_age_ms: i64,
    /// Or so old, where a limit is near or use has moved by some percent of one: that late is a flag. [default: 15 s]
    pub urgent_age_ms: i64,
    /// Or when it spans so many positions, heartbeats included. [default: 512]
    pub tail_positions: i64,
    /// A day's fresh chunks are merged so long after its end, milliseconds. [default: 1 h]
    pub merge_after_ms: i64,
    /// Partitions of which everything has moved are dropped so often, and flags of hosts on which nothing changes are judged,
    /// milliseconds. [default: 10 min]
    pub partitions_every_ms: i64,
    /// Between two rounds, milliseconds. [default: 5 s]
    pub round_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tail_age_ms: 600_000,
            urgent_age_ms: 15_000,
            tail_positions: 512,
            merge_after_ms: 3_600_000,
            partitions_every_ms: 600_000,
            round_ms: 5_000,
        }
    }
}

/// The lease that compaction works under.
pub const LEASE: &str = "compact";

/// Epochs that are asked for at once.
const PAGE: i64 = 256;
/// Pages of epochs in one round: its lease is renewed between two rounds.
const PAGES: usize = 4;
/// An epoch whose tail is longer than one step waits for others after so many.
const STEPS_AT_ONCE: usize = 4;

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Records that moved from frames to fresh chunks.
    pub compacted: usize,
    /// Records that moved from fresh chunks to merged ones.
    pub merged: usize,
    /// Partitions that went.
    pub dropped: usize,
    /// Epochs that could not be compacted; they are tried again.
    pub failed: usize,
}

/// Compacts, merges, and drops the partitions that are left empty.
pub struct Compactor {
    db: Db,
    link: Link,
    config: Config,
    held: Held,
    rules: Arc<Rules>,
    partitions_ms: Option<i64>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug)]
enum Work {
    Compact(Due),
    Merge(Day),
}

impl Compactor {
    /// One that works under a lease. It does nothing by itself.
    pub fn new(db: Db, config: Config, held: Held) -> Self {
        Self { link: Link::new(db.clone()), db, config, held, rules: Arc::default(), partitions_ms: None }
    }

    /// From now on hosts are judged by these rules.
    pub fn judge_by(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
    }

    /// Does what is due at `now_ms` of the collector's clock.
    pub async fn round(&mut self, now_ms: i64) -> Result<Round, CompactError> {
        let due = Due {
            received_ms: now_ms.saturating_sub(self.config.tail_age_ms),
            urgent_ms: now_ms.saturating_sub(self.config.urgent_age_ms),
            positions: self.config.tail_positions,
            now_ms,
        };
        let mut round = Round::default();
        round.compacted = self.all(Work::Compact(due), &mut round.failed).await?;
        let today = Day::of(now_ms.saturating_sub(self.config.merge_after_ms));
        round.merged = self.all(Work::Merge(today), &mut round.failed).await?;
        let every_ms = self.config.partitions_every_ms;
        if self.partitions_ms.is_none_or(|last| now_ms < last || now_ms >= last.saturating_add(every_ms)) {
            idle::judge(&self.db, &mut self.link, (&self.held, &self.rules)).await?;
            round.dropped =
                self.link.run(move |connection| Box::pin(partitions::drop_moved(connection, now_ms))).await?;
            self.partitions_ms = Some(now_ms);
        }
        Ok(round)
    }

    async fn all(&mut self, work: Work, failed: &mut usize) -> Result<usize, CompactError> {
        let mut records = 0_usize;
        let mut after = None;
        for _ in 0..PAGES {
            let mut reading = Reading::begin(&self.db).await?;
            let due = match work {
                Work::Compact(due) => reading.tails_due(due, after, PAGE).await?,
                Work::Merge(today) => reading.merges_due(today, after, PAGE).await?,
            };
            let mut turns = Vec::with_capacity(due.len());
            for of in &due {
                // What came first is judged first.
                let mut turn = match work {
                    Work::Compact(_) => reading.tails_before(*of).await?,
                    Work::Merge(_) => Vec::new(),
                };
                turn.push(*of);
                turns.push(turn);
            }
            drop(reading);
            after = due.last().copied().or(after);
            for turn in turns {
                records = records.saturating_add(self.turn(work, &turn, failed).await?);
            }
            if i64::try_from(due.len()).unwrap_or(i64::MAX) < PAGE {
                break;
            }
        }
        Ok(records)
    }

    /// Moves what some epochs of a host have, each once the one before it has no more; says how many records that were. One
    /// that does not read keeps no other from moving.
    async fn turn(&mut self, work: Work, turn: &[Of], failed: &mut usize) -> Result<usize, CompactError> {
        let mut records = 0_usize;
        for of in turn {
            match self.epoch(work, *of).await {
                Ok((moved, more)) => {
                    records = records.saturating_add(moved);
                    if more {
                        break;
                    }
                }
                Err(error @ CompactError::LeaseLost) => return Err(error),
                // Of a database that does not answer, the others need not be asked.
                Err(CompactError::Store(error)) if !matches!(error, StoreError::Corrupt { .. }) => {
                    return Err(error.into());
                }
                Err(error) => {
                    error!(host = %of.0, epoch = of.1.0, %error, "history cannot be compacted");
                    *failed = failed.saturating_add(1);
                }
            }
        }
        Ok(records)
    }

    /// The same of one epoch, as far as it goes at once; whether there is more.
    async fn epoch(&mut self, work: Work, of: Of) -> Result<(usize, bool), CompactError> {
        let mut records = 0_usize;
        for _ in 0..STEPS_AT_ONCE {
            let moved = match work {
                Work::Compact(due) => {
                    let by = (&self.held, &*self.rules);
                    tail::compact(&self.db, &mut self.link, of, by, due.now_ms).await?
                }
                Work::Merge(today) => merge::merge(&self.db, &mut self.link, of, today, &self.held).await?,
            };
            match moved {
                Moved::Some { records: moved, more } => {
                    records = records.saturating_add(moved);
                    if !more {
                        return Ok((records, false));
                    }
                }
                Moved::Nothing => return Ok((records, false)),
            }
        }
        Ok((records, true))
    }
}

/// The job, and what it needs.
pub struct Job {
    /// The database.
    pub db: Db,
    /// The collector's wall clock.
    pub clock: Arc<dyn WallClock>,
    /// Where it says what it fails at.
    pub health: Arc<Health>,
    /// This process, for people.
    pub holder: String,
    /// How hosts are judged.
    pub rules: Watched,
}

impl Job {
    /// Works whenever nobody else does, until told to stop.
    pub async fn run(self, config: Config, stop: CancellationToken) {
        let began = Instant::now();
        let mut keeper = Keeper::new(LEASE, self.holder.clone());
        let mut compactor: Option<Compactor> = None;
        while !stop.is_cancelled() {
            let steady_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
            let now = Now { wall_ms: self.clock.now_ms(), steady_ms };
            match self.round(&mut keeper, &mut compactor, config, now).await {
                Ok(()) => {
                    self.health.works(Part::Compactor);
                    self.health.works(Part::Database);
                }
                Err(CompactError::LeaseLost) => {
                    info!("another collector compacts now");
                    keeper.lost(now);
                }
                Err(error) => {
                    warn!(%error, "compacting; tried again");
                    let store = if let CompactError::Store(error) = &error { Some(error) } else { None };
                    let sqlstate = store.and_then(StoreError::sqlstate);
                    // Not since the round began: when that was, it may have been well.
                    let failed_ms = self.clock.now_ms();
                    if store.is_some_and(StoreError::is_away) {
                        self.health.failed(Part::Database, failed_ms, error.to_string(), sqlstate.clone());
                    }
                    self.health.failed(Part::Compactor, failed_ms, error.to_string(), sqlstate);
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_millis(config.round_ms)) => {}
            }
        }
        keeper.release(&self.db).await;
    }

    async fn round(
        &self,
        keeper: &mut Keeper,
        compactor: &mut Option<Compactor>,
        config: Config,
        now: Now,
    ) -> Result<(), CompactError> {
        let Some(fence) = keeper.hold(&self.db, now).await? else { return Ok(()) };
        let held = Held { name: LEASE.to_owned(), fence };
        let compactor = match compactor {
            Some(compactor) if compactor.held == held => compactor,
            other => other.insert(Compactor::new(self.db.clone(), config, held)),
        };
        compactor.judge_by(self.rules.rules());
        let round = compactor.round(now.wall_ms).await?;
        if round != Round::default() {
            debug!(?round, "compacted");
        }
        Ok(())
    }
}
