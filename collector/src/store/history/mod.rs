//! Reads what was stored of one host: stretches, records, gaps. Every question is asked inside one [`Reading`], so that
//! a commit or a compaction between two statements changes nothing.
//!
//! A record is in one of three places, which its stretch tells ([`Stretch`]): a merged chunk, a fresh chunk, a frame.

mod chunk;
mod frame;
mod gap;
mod stretch;

use highwater_ipc::record::{GapReason, Seq};
use sqlx::Transaction;
use sqlx::postgres::Postgres;

pub use chunk::{Packed, Tier};
pub use frame::{StatePlace, StoredRecord, TailRecord};
pub use gap::ClosedGap;
pub use stretch::{Place, Stretch};

use super::{Db, StoreError, tx};

/// One REPEATABLE READ READ ONLY transaction; dropping it ends it.
#[derive(Debug)]
pub struct Reading {
    pub(super) tx: Transaction<'static, Postgres>,
}

impl Reading {
    /// Begins: everything read through it is one state of the database.
    pub async fn begin(db: &Db) -> Result<Self, StoreError> {
        Ok(Self { tx: tx::snapshot(db).await? })
    }
}

/// Which record of a stretch a search wants: the last state-bearing one ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// ... whose sample began at or before this wall time, milliseconds.
    Wall(i64),
    /// ... before this position.
    Before(Seq),
}

/// The day of a wall time, counted from 1970-01-01, within what a `date` can hold and partitions exist for.
fn day_of(wall_ms: i64) -> i32 {
    const YEAR_9999: i64 = 2_932_896;
    i32::try_from(wall_ms.div_euclid(86_400_000).clamp(0, YEAR_9999)).unwrap_or(0)
}

fn reason(column: &'static str, code: i16) -> Result<GapReason, StoreError> {
    let known = u8::try_from(code).ok().and_then(GapReason::from_code);
    known.ok_or_else(|| StoreError::Corrupt { what: format!("{column} {code}") })
}
