//! Chunks as they are read: by wall time, or one after the other.

use highwater_ipc::record::Seq;
use sqlx::FromRow;

use super::{Reading, Stretch, Until};
use crate::host::HostId;
use crate::store::StoreError;
use crate::store::number::{bigint, unsigned};

/// Which chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Table `chunk`.
    Merged,
    /// Table `chunk_fresh`, of which what is merged is not looked at.
    Fresh,
}

/// A chunk, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Position of its first record, which is a sample.
    pub from: Seq,
    /// Position of its last record.
    pub to: Seq,
    /// Wall time of its first record.
    pub from_wall_ms: i64,
    /// Wall time of its last record.
    pub to_wall_ms: i64,
    /// Wall time of the sample before its first record; `None` = the first of its epoch.
    pub prev_wall_ms: Option<i64>,
    /// The records, packed by [`highwater_ipc::chunk`].
    pub body: Vec<u8>,
}

macro_rules! chunks {
    ($table:literal, $rest:literal) => {
        concat!(
            "SELECT from_seq, to_seq, from_wall_ms, to_wall_ms, prev_wall_ms, body FROM ",
            $table,
            " WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 ",
            $rest
        )
    };
}

// Within a stretch wall time never falls, so that the key's order is that of records. From $5 on: what is merged is still
// in chunk_fresh until its partition goes.
const MERGED_AT_SQL: &str =
    chunks!("chunk", "AND from_wall_ms <= $4 AND to_seq >= $5 ORDER BY from_wall_ms DESC, to_seq DESC LIMIT 1");
const FRESH_AT_SQL: &str =
    chunks!("chunk_fresh", "AND from_wall_ms <= $4 AND to_seq >= $5 ORDER BY from_wall_ms DESC, to_seq DESC LIMIT 1");
const MERGED_BEFORE_SQL: &str =
    chunks!("chunk", "AND from_seq < $4 AND to_seq >= $5 ORDER BY from_wall_ms DESC, to_seq DESC LIMIT 1");
const FRESH_BEFORE_SQL: &str =
    chunks!("chunk_fresh", "AND from_seq < $4 AND to_seq >= $5 ORDER BY from_wall_ms DESC, to_seq DESC LIMIT 1");
const MERGED_NEXT_SQL: &str =
    chunks!("chunk", "AND to_seq >= $4 AND to_seq >= $5 ORDER BY from_wall_ms, to_seq LIMIT 1");
const FRESH_NEXT_SQL: &str =
    chunks!("chunk_fresh", "AND to_seq >= $4 AND to_seq >= $5 ORDER BY from_wall_ms, to_seq LIMIT 1");
const MERGED_CONFIRMS_SQL: &str = "SELECT prev_wall_ms FROM chunk WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 \
     AND from_seq >= $4 AND to_seq >= $5 ORDER BY from_wall_ms, to_seq LIMIT 1";
const FRESH_CONFIRMS_SQL: &str = "SELECT prev_wall_ms FROM chunk_fresh WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 \
     AND from_seq >= $4 AND to_seq >= $5 ORDER BY from_wall_ms, to_seq LIMIT 1";

impl Tier {
    /// The position from which on a stretch's records may be in these chunks, and the one before which they are.
    fn span(self, stretch: &Stretch) -> (Seq, Seq) {
        match self {
            Tier::Merged => (Seq(0), stretch.merged),
            Tier::Fresh => (stretch.merged, stretch.compacted),
        }
    }

    fn sql(self, of: [&'static str; 2]) -> &'static str {
        match self {
            Tier::Merged => of[0],
            Tier::Fresh => of[1],
        }
    }
}

impl Reading {
    /// The last chunk of a stretch that begins up to `until`.
    pub async fn chunk_until(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        (tier, until): (Tier, Until),
    ) -> Result<Option<Packed>, StoreError> {
        let (sql, bound) = match until {
            Until::Wall(wall_ms) => (tier.sql([MERGED_AT_SQL, FRESH_AT_SQL]), wall_ms),
            Until::Before(seq) => (tier.sql([MERGED_BEFORE_SQL, FRESH_BEFORE_SQL]), bigint(seq.0)),
        };
        self.chunk(sql, host, stretch, (tier, bound)).await
    }

    /// The first chunk of a stretch that holds a record from `from` on.
    pub async fn chunk_from(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        (tier, from): (Tier, Seq),
    ) -> Result<Option<Packed>, StoreError> {
        self.chunk(tier.sql([MERGED_NEXT_SQL, FRESH_NEXT_SQL]), host, stretch, (tier, bigint(from.0))).await
    }

    /// Until when the state before the first chunk that begins at or after `from` was confirmed; `None` = there is none.
    pub async fn chunk_confirms(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        (tier, from): (Tier, Seq),
    ) -> Result<Option<i64>, StoreError> {
        let (least, end) = tier.span(stretch);
        if least.max(from) >= end {
            return Ok(None);
        }
        let query = sqlx::query_scalar(tier.sql([MERGED_CONFIRMS_SQL, FRESH_CONFIRMS_SQL]));
        let query = query.bind(host.0).bind(bigint(stretch.place.epoch().0)).bind(stretch.place.number());
        let found: Option<Option<i64>> =
            query.bind(bigint(from.0)).bind(bigint(least.0)).fetch_optional(&mut *self.tx).await?;
        Ok(found.map(|previous| previous.unwrap_or(stretch.end_wall_ms)))
    }

    async fn chunk(
        &mut self,
        sql: &'static str,
        host: HostId,
        stretch: &Stretch,
        (tier, bound): (Tier, i64),
    ) -> Result<Option<Packed>, StoreError> {
        let (least, end) = tier.span(stretch);
        if least >= end {
            return Ok(None);
        }
        let query = sqlx::query_as(sql).bind(host.0).bind(bigint(stretch.place.epoch().0));
        let query = query.bind(stretch.place.number()).bind(bound).bind(bigint(least.0));
        let row: Option<Row> = query.fetch_optional(&mut *self.tx).await?;
        row.map(Row::domain).transpose()
    }
}

#[derive(FromRow)]
struct Row {
    from_seq: i64,
    to_seq: i64,
    from_wall_ms: i64,
    to_wall_ms: i64,
    prev_wall_ms: Option<i64>,
    body: Vec<u8>,
}

impl Row {
    fn domain(self) -> Result<Packed, StoreError> {
        Ok(Packed {
            from: Seq(unsigned("chunk.from_seq", self.from_seq)?),
            to: Seq(unsigned("chunk.to_seq", self.to_seq)?),
            from_wall_ms: self.from_wall_ms,
            to_wall_ms: self.to_wall_ms,
            prev_wall_ms: self.prev_wall_ms,
            body: self.body,
        })
    }
}
