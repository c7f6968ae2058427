//! The tail of a stream: its records from `compacted_to` on, which are rows of `frame`.

use highwater_ipc::record::{EpochNo, RecordKind, Seq};
use sqlx::FromRow;

use super::{Reading, Stretch, Until, day_of};
use crate::host::HostId;
use crate::store::StoreError;
use crate::store::day::Day;
use crate::store::number::{bigint, unsigned};

/// A record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its position in its epoch.
    pub seq: Seq,
    /// What its body is.
    pub kind: RecordKind,
    /// Host's wall clock when the sample began, milliseconds.
    pub wall_ms: i64,
    /// Wall clock of the sample before it in the epoch; `None` = there is none.
    pub prev_wall_ms: Option<i64>,
    /// Collector's wall clock when it came, milliseconds.
    pub received_ms: i64,
    /// Packed body.
    pub body: Vec<u8>,
}

/// A record of a tail, with what its place among the chunks depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailRecord {
    /// The stretch it lies in.
    pub stretch: u32,
    /// Its partition.
    pub day: Day,
    /// The record.
    pub record: StoredRecord,
}

/// Where a state-bearing record of a tail and the keyframe it builds on are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatePlace {
    /// The record.
    pub seq: Seq,
    /// The keyframe it builds on; itself, if it is one. It may lie before the tail, in a chunk.
    pub base_seq: Seq,
    day: i32,
}

// Days count from 1970-01-01, which is the fallback partition's day: a record whose time could not be believed may be
// there, so every search also looks there.
const STATE_AT_SQL: &str = "SELECT seq, base_seq, day - DATE '1970-01-01' AS day FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND wall_ms <= $4 AND kind IN (1, 2) AND seq >= $7 \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY wall_ms DESC, seq DESC LIMIT 1";
const STATE_BEFORE_SQL: &str = "SELECT seq, base_seq, day - DATE '1970-01-01' AS day FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND seq < $4 AND kind IN (1, 2) AND seq >= $7 \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY seq DESC LIMIT 1";
const STATE_RECORDS_SQL: &str = "SELECT seq, kind, wall_ms, prev_wall_ms, received_ms, body FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND seq BETWEEN $3 AND $4 AND kind IN (1, 2) ORDER BY seq";
const NEXT_STATE_SQL: &str = "SELECT prev_wall_ms, day - DATE '1970-01-01' AS day FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND seq >= $4 AND kind IN (1, 2) \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY seq LIMIT 1";
const PAGE_SQL: &str = "SELECT seq, kind, wall_ms, prev_wall_ms, received_ms, body FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND seq >= $4 AND wall_ms <= $7 \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY seq LIMIT $8";
const TAIL_SQL: &str = "SELECT seq, kind, wall_ms, prev_wall_ms, received_ms, body, stretch, \
     day - DATE '1970-01-01' AS day FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND seq >= $3 ORDER BY seq LIMIT $4";

impl Reading {
    /// The last state-bearing record of a stretch up to `until` that is in the tail.
    pub async fn tail_place(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        until: Until,
    ) -> Result<Option<StatePlace>, StoreError> {
        if stretch.framed <= stretch.compacted {
            return Ok(None);
        }
        let (sql, bound, last) = match until {
            Until::Wall(wall_ms) => (STATE_AT_SQL, wall_ms, wall_ms.min(stretch.end_wall_ms)),
            Until::Before(seq) => (STATE_BEFORE_SQL, bigint(seq.0), stretch.end_wall_ms),
        };
        let (first, last) = (day_of(stretch.from_wall_ms), day_of(last));
        for from in [first.max(last.saturating_sub(1)), first] {
            let query = sqlx::query_as(sql).bind(host.0).bind(bigint(stretch.place.epoch().0));
            let query = query.bind(stretch.place.number()).bind(bound).bind(from).bind(last);
            let row: Option<PlaceRow> = query.bind(bigint(stretch.compacted.0)).fetch_optional(&mut *self.tx).await?;
            if is_final(row.as_ref().map(|r| r.day), from == first) {
                return row.map(PlaceRow::domain).transpose();
            }
        }
        Ok(None)
    }

    /// The records of the tail that make the state of `place`: from its keyframe on, or from where the tail begins.
    pub async fn tail_records(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        place: &StatePlace,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let from = place.base_seq.max(stretch.compacted);
        let query = sqlx::query_as(STATE_RECORDS_SQL).bind(host.0).bind(bigint(stretch.place.epoch().0));
        let query = query.bind(bigint(from.0)).bind(bigint(place.seq.0));
        let rows: Vec<FrameRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(FrameRow::domain).collect()
    }

    /// Until when the state before the first state-bearing record of the tail from `from` on was confirmed; `None` = the
    /// tail holds none of that stretch.
    pub async fn tail_confirms(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        from: Seq,
    ) -> Result<Option<i64>, StoreError> {
        if stretch.framed <= stretch.compacted.max(from) {
            return Ok(None);
        }
        let from = bigint(from.max(stretch.compacted).0);
        let query = sqlx::query_as(NEXT_STATE_SQL).bind(host.0).bind(bigint(stretch.place.epoch().0));
        let query = query.bind(stretch.place.number()).bind(from).bind(day_of(stretch.from_wall_ms));
        let query = query.bind(day_of(stretch.end_wall_ms));
        let row: Option<(Option<i64>, i32)> = query.fetch_optional(&mut *self.tx).await?;
        Ok(row.map(|(previous, _)| previous.unwrap_or(stretch.end_wall_ms)))
    }

    /// Records of every kind of a stretch in the tail from `from` on whose time is at or before `until_ms`, in order, at
    /// most `most`.
    pub async fn tail_page(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        from: Seq,
        (until_ms, most): (i64, i64),
    ) -> Result<Vec<StoredRecord>, StoreError> {
        if stretch.framed <= stretch.compacted.max(from) {
            return Ok(Vec::new());
        }
        let query = sqlx::query_as(PAGE_SQL).bind(host.0).bind(bigint(stretch.place.epoch().0));
        let query = query.bind(stretch.place.number()).bind(bigint(from.max(stretch.compacted).0));
        // An agent's last word comes after its last sample, and so perhaps a day later.
        let last_day = day_of(stretch.end_wall_ms.min(until_ms)).saturating_add(1);
        let query = query.bind(day_of(stretch.from_wall_ms)).bind(last_day).bind(until_ms).bind(most);
        let rows: Vec<FrameRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(FrameRow::domain).collect()
    }

    /// The records of an epoch from `from` on, of whatever stretch, in order, at most `most`.
    pub async fn tail(
        &mut self,
        host: HostId,
        (epoch, from): (EpochNo, Seq),
        most: i64,
    ) -> Result<Vec<TailRecord>, StoreError> {
        let query = sqlx::query_as(TAIL_SQL).bind(host.0).bind(bigint(epoch.0)).bind(bigint(from.0)).bind(most);
        let rows: Vec<TailRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(TailRow::domain).collect()
    }
}

#[derive(FromRow)]
struct PlaceRow {
    seq: i64,
    base_seq: i64,
    day: i32,
}

impl PlaceRow {
    fn domain(self) -> Result<StatePlace, StoreError> {
        Ok(StatePlace {
            seq: Seq(unsigned("frame.seq", self.seq)?),
            base_seq: Seq(unsigned("frame.base_seq", self.base_seq)?),
            day: self.day,
        })
    }
}

#[derive(FromRow)]
struct FrameRow {
    seq: i64,
    kind: i16,
    wall_ms: i64,
    prev_wall_ms: Option<i64>,
    received_ms: i64,
    body: Vec<u8>,
}

impl FrameRow {
    fn domain(self) -> Result<StoredRecord, StoreError> {
        let kind = u8::try_from(self.kind).ok().and_then(RecordKind::from_code);
        Ok(StoredRecord {
            seq: Seq(unsigned("frame.seq", self.seq)?),
            kind: kind.ok_or_else(|| StoreError::Corrupt { what: format!("frame.kind {}", self.kind) })?,
            wall_ms: self.wall_ms,
            prev_wall_ms: self.prev_wall_ms,
            received_ms: self.received_ms,
            body: self.body,
        })
    }
}

#[derive(FromRow)]
struct TailRow {
    #[sqlx(flatten)]
    frame: FrameRow,
    stretch: i32,
    day: i32,
}

impl TailRow {
    fn domain(self) -> Result<TailRecord, StoreError> {
        let stretch = u32::try_from(self.stretch);
        Ok(TailRecord {
            stretch: stretch.map_err(|_| StoreError::Corrupt { what: format!("frame.stretch {}", self.stretch) })?,
            day: Day(self.day),
            record: self.frame.domain()?,
        })
    }
}

/// Whether a search need go no further: two days were searched before all of the stretch's, because planning a question to
/// ninety partitions costs more than answering it. A row of the fallback day says nothing about the days between.
fn is_final(day_found: Option<i32>, searched_all: bool) -> bool {
    searched_all || day_found.is_some_and(|day| day != 0)
}
