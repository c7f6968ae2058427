//! The partitions of `frame`: made days ahead by a task of its own, and on demand for a backlog or a clock ahead.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Backoff;
use crate::clock::WallClock;
use crate::store::StoreError;
use crate::store::day::Day;
use crate::store::link::Link;
use crate::store::partition::{self, Table};

/// Days made ahead of the collector's clock: each empty one costs 24 KiB.
const AHEAD: i32 = 2;
/// Days that may have a partition; beyond that records of further days go to the fallback day. More than a year of
/// backlog is no backlog, but a clock that walks.
const MOST_DAYS: usize = 400;
/// How often the days ahead are looked after.
const EVERY: Duration = Duration::from_secs(3600);

/// Which days have a partition. The database is asked over the caller's own link, within the deadline of a commit.
pub(super) struct Partitions {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    days: BTreeSet<Day>,
    /// That there are too many was said.
    full: bool,
}

impl Partitions {
    /// Reads which there are and makes those ahead.
    pub(super) async fn prepare(link: &mut Link, now_ms: i64) -> Result<Self, StoreError> {
        let this = Self { known: Mutex::default() };
        this.refresh(link, now_ms).await?;
        Ok(this)
    }

    /// The partition of a wall time.
    pub(super) fn day(&self, wall_ms: i64, now_ms: i64) -> Day {
        let day = Day::believed(wall_ms, now_ms).filter(|day| self.lock().days.contains(day));
        day.unwrap_or(Day::FALLBACK)
    }

    /// The days that these wall times need made, as far as the bound allows.
    pub(super) fn missing(&self, wall_ms: impl Iterator<Item = i64>, now_ms: i64) -> Vec<Day> {
        let wanted: BTreeSet<Day> = wall_ms.filter_map(|wall| Day::believed(wall, now_ms)).collect();
        let known = self.lock();
        let room = MOST_DAYS.saturating_sub(known.days.len());
        wanted.into_iter().filter(|day| !known.days.contains(day)).take(room).collect()
    }

    /// Makes days. Waits while the database is away; what it refuses to make goes to the fallback day.
    pub(super) async fn make(&self, link: &mut Link, missing: Vec<Day>, stop: &CancellationToken) {
        for day in missing {
            let made = create(link, day, stop).await;
            let mut known = self.lock();
            if made {
                known.days.insert(day);
            }
            if known.days.len() >= MOST_DAYS && !std::mem::replace(&mut known.full, true) {
                warn!(days = MOST_DAYS, "no more partitions on demand: records of further days go to the fallback day");
            }
        }
    }

    /// Keeps the days ahead made until told to stop.
    pub(super) async fn look_after(&self, mut link: Link, clock: &dyn WallClock, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return link.close().await,
                () = tokio::time::sleep(EVERY) => {}
            }
            if let Err(error) = self.refresh(&mut link, clock.now_ms()).await {
                warn!(%error, "making the coming days' partitions; tried again in an hour");
            }
        }
    }

    /// Reads again which there are: the database says that one is gone. Waits while it is away.
    pub(super) async fn read_again(&self, link: &mut Link, now_ms: i64, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        while let Err(error) = self.refresh(link, now_ms).await {
            warn!(%error, tries = backoff.tries(), "reading which partitions there are; trying again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }

    async fn refresh(&self, link: &mut Link, now_ms: i64) -> Result<(), StoreError> {
        let mut days: BTreeSet<Day> =
            link.run(|connection| Box::pin(partition::list(connection, Table::Frame))).await?.into_iter().collect();
        // Yesterday's is made when a record of it comes: once it is compacted it goes.
        for day in (0..=AHEAD).map(|ahead| Day::of(now_ms).plus(ahead)) {
            if days.contains(&day) {
                continue;
            }
            match link.run(move |connection| Box::pin(partition::ensure(connection, Table::Frame, day))).await {
                Ok(()) => drop(days.insert(day)),
                Err(error) if error.may_pass() => return Err(error),
                Err(error) => warn!(%error, day = day.0, "making a partition; its records go to the fallback day"),
            }
        }
        *self.lock() = Known { full: days.len() >= MOST_DAYS, days };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the day has a partition now.
async fn create(link: &mut Link, day: Day, stop: &CancellationToken) -> bool {
    let mut backoff = Backoff::default();
    loop {
        match link.run(move |connection| Box::pin(partition::ensure(connection, Table::Frame, day))).await {
            Ok(()) => {
                info!(day = day.0, "made the partition of a day (since 1970) that records came for");
                return true;
            }
            Err(error) if error.may_pass() => {
                warn!(%error, tries = backoff.tries(), "making a partition; trying again");
                tokio::select! {
                    () = stop.cancelled() => return false,
                    () = tokio::time::sleep(backoff.next()) => {}
                }
            }
            Err(error) => {
                warn!(%error, day = day.0, "making a partition; its records go to the fallback day");
                return false;
            }
        }
    }
}
