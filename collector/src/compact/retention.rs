//! Forgets what is older than is kept, by partition, and never the present: before a partition goes, whatever goes on past
//! its end begins anew in the next one.
//!
//! What goes when is decided purely ([`Keep::is_expired`]); each transaction checks the lease. Killed anywhere, it goes
//! on where it was: baselines are keyed, stretches are cut once, a partition is there or not.

use tracing::{info, warn};

use super::baseline::{Rest, rest};
use super::partitions::drop_patiently;
use crate::store::chunk::Chunk;
use crate::store::day::Day;
use crate::store::keep::Keep;
use crate::store::lease::{self, Fence, LeaseError};
use crate::store::partition::{self, Dropped, Table};
use crate::store::retention::{self, Which};
use crate::store::tx::Dedicated;

/// Rows of small tables in one transaction, and stretches looked up at once.
const BATCH: i64 = 500;

/// Forgets, for the holder of one lease.
pub struct Retention {
    /// How long what is kept.
    pub keep: Keep,
    /// Name of the lease it works under.
    pub lease: String,
    /// Its fence.
    pub fence: Fence,
}

impl Retention {
    /// Forgets all that is older than is kept; says how many partitions went. What is in use is left for another time.
    pub async fn run(&self, connection: &mut Dedicated, now_ms: i64) -> Result<usize, LeaseError> {
        let mut gone = 0;
        for table in Table::AGED {
            // The oldest again and again: what goes on from it lies in the next one, which may be too old as well.
            while let Some(first) = partition::list(connection, table).await?.first().copied() {
                let stays = !self.keep.is_expired(table, first, now_ms);
                if stays || self.is_awaited(connection, table, first).await? {
                    break;
                }
                if self.drop(connection, table, first).await? != Dropped::Gone {
                    break;
                }
                gone += 1;
            }
        }
        if let Some(horizon_ms) = self.keep.horizon_ms(Table::Chunk, now_ms) {
            self.forget_small(connection, horizon_ms).await?;
        }
        if let Some(horizon_ms) = self.keep.horizon_ms(Table::Usage, now_ms) {
            self.forget_flags(connection, horizon_ms).await?;
        }
        Ok(gone)
    }

    /// Whether records of before the partition's end still wait to be moved into it.
    async fn is_awaited(&self, connection: &mut Dedicated, table: Table, first: Day) -> Result<bool, LeaseError> {
        for tail in [Table::Frame, Table::ChunkFresh] {
            for day in partition::list(connection, tail).await? {
                if day < table.next(first) && partition::is_wanted(connection, tail, day).await? {
                    info!(table = table.name(), week = first.0, day = day.0, "kept: records of then wait to be moved");
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Writes the baselines and drops one partition.
    async fn drop(&self, connection: &mut Dedicated, table: Table, first: Day) -> Result<Dropped, LeaseError> {
        partition::ensure(connection, table, table.next(first)).await?;
        if table == Table::Chunk {
            self.begin_stretches(connection, first).await?;
            self.forget_ended(connection, first).await?;
        } else {
            let mut tx = connection.write().await?;
            lease::check(&mut tx, &self.lease, self.fence).await?;
            retention::begin_series(&mut tx, table, first).await?;
            tx.commit().await?;
        }
        Ok(drop_patiently(connection, table, first).await?)
    }

    /// Lets every stretch that goes on begin with its baseline.
    async fn begin_stretches(&self, connection: &mut Dedicated, first: Day) -> Result<(), LeaseError> {
        loop {
            let going_on = retention::going_on(connection, first, BATCH).await?;
            for which in &going_on {
                self.begin_stretch(connection, *which, first).await?;
            }
            if going_on.len() < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }

    async fn begin_stretch(&self, connection: &mut Dedicated, which: Which, first: Day) -> Result<(), LeaseError> {
        let border = Table::Chunk.next(first);
        let Some(last) = retention::last_of_week(connection, which, first).await? else { return Ok(()) };
        let (baseline, at) = match rest(&last.body, border.start_ms()) {
            Ok(Some(rest)) => (beginning(last, &rest), Some(rest.at)),
            // One that does not read keeps no week: what it holds goes on as it is.
            Ok(None) => (last, None),
            Err(why) => {
                warn!(host = %which.host, epoch = which.epoch.0, %why, "a chunk that cannot be read is kept whole");
                (last, None)
            }
        };
        let mut tx = connection.write().await?;
        lease::check(&mut tx, &self.lease, self.fence).await?;
        retention::begin_at_baseline(&mut tx, &baseline, at).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn forget_ended(&self, connection: &mut Dedicated, first: Day) -> Result<(), LeaseError> {
        loop {
            let mut tx = connection.write().await?;
            lease::check(&mut tx, &self.lease, self.fence).await?;
            let count = retention::forget_ended(&mut tx, first, BATCH).await?;
            tx.commit().await?;
            if count == 0 {
                return Ok(());
            }
        }
    }

    async fn forget_small(&self, connection: &mut Dedicated, horizon_ms: i64) -> Result<(), LeaseError> {
        loop {
            let mut tx = connection.write().await?;
            lease::check(&mut tx, &self.lease, self.fence).await?;
            let count = retention::forget_small(&mut tx, horizon_ms, BATCH).await?;
            tx.commit().await?;
            if count == 0 {
                return Ok(());
            }
        }
    }

    async fn forget_flags(&self, connection: &mut Dedicated, horizon_ms: i64) -> Result<(), LeaseError> {
        loop {
            let mut tx = connection.write().await?;
            lease::check(&mut tx, &self.lease, self.fence).await?;
            let count = retention::forget_flags(&mut tx, horizon_ms, BATCH).await?;
            tx.commit().await?;
            if count == 0 {
                return Ok(());
            }
        }
    }
}

/// A chunk cut down to what stays of it.
fn beginning(last: Chunk, rest: &Rest) -> Chunk {
    Chunk {
        from_wall_ms: rest.from_wall_ms,
        from: rest.from,
        to: rest.to,
        to_wall_ms: rest.to_wall_ms,
        prev_wall_ms: rest.prev_wall_ms,
        records: rest.records,
        objects: rest.objects.clone(),
        body: rest.body.clone(),
        ..last
    }
}
