//! Reads what was stored of one host: stretches, records, gaps. Every question is asked inside one [`Reading`], so that
//! a commit or a compaction between two statements changes nothing.

use highwater_ipc::record::{EpochNo, GapReason, RecordKind, Seq};
use highwater_ipc::snapshot::BootId;
use sqlx::postgres::Postgres;
use sqlx::{FromRow, Transaction};

use super::number::{bigint, fixed, unsigned};
use super::{Db, StoreError, tx};
use crate::host::HostId;

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

/// A run of samples without a gap, in which wall time is monotone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The epoch it belongs to.
    pub epoch: EpochNo,
    /// Its number in that epoch, from 0.
    pub number: i32,
    /// Its first sample, host's wall clock, milliseconds.
    pub from_wall_ms: i64,
    /// Its last sample stored or covered, likewise.
    pub end_wall_ms: i64,
    /// Boot time of its first sample, microseconds.
    pub from_boot_us: i64,
    /// Boot time of its last sample, microseconds.
    pub end_boot_us: i64,
    /// The boot of its epoch.
    pub boot_id: BootId,
    /// Time between two samples as last said in its epoch, milliseconds.
    pub interval_ms: i64,
    /// Why no samples follow, where the agent or the collector knows.
    pub end_reason: Option<GapReason>,
}

impl Stretch {
    /// Its place in the host's history: order is this, never wall time.
    pub fn place(&self) -> (EpochNo, i32) {
        (self.epoch, self.number)
    }
}

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

/// Where a state-bearing record and the keyframe it builds on are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatePlace {
    /// The record.
    pub seq: Seq,
    /// The keyframe it builds on; itself, if it is one.
    pub base_seq: Seq,
    day: i32,
    base_day: i32,
}

/// A closed span without samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedGap {
    /// Epoch of the record that closed it.
    pub epoch: EpochNo,
    /// Position of that record.
    pub seq: Seq,
    /// Last sample before it; `None` = before the host's first.
    pub from_wall_ms: Option<i64>,
    /// First sample after it.
    pub to_wall_ms: i64,
    /// Why.
    pub reason: GapReason,
    /// More about it, escaped; may be empty.
    pub detail: String,
}

/// Which record of a stretch a search wants: the last state-bearing one ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// ... whose sample began at or before this wall time, milliseconds.
    Wall(i64),
    /// ... before this position.
    Before(Seq),
}

macro_rules! stretches {
    ($rest:literal) => {
        concat!(
            "SELECT s.epoch_no, s.stretch, s.from_wall_ms, s.from_boot_us, \
             COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) AS end_wall_ms, \
             COALESCE(s.to_boot_us, st.covered_boot_us, s.from_boot_us) AS end_boot_us, \
             st.boot_id, st.interval_ms, COALESCE(st.end_reason, st.pending_reason) AS end_reason \
             FROM stretch s JOIN stream st ON st.host_id = s.host_id AND st.epoch_no = s.epoch_no \
             WHERE s.host_id = $1 ",
            $rest
        )
    };
}

const NEWEST_STRETCH_SQL: &str = stretches!("ORDER BY s.epoch_no DESC, s.stretch DESC LIMIT 1");
const STRETCHES_AT_SQL: &str = stretches!(
    "AND s.from_wall_ms <= $2 AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) >= $2 \
     ORDER BY s.epoch_no DESC, s.stretch DESC LIMIT $3"
);
const STRETCHES_BETWEEN_SQL: &str = stretches!(
    "AND s.from_wall_ms <= $3 AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) >= $2 \
     AND (s.epoch_no, s.stretch) > ($4, $5) ORDER BY s.epoch_no, s.stretch LIMIT $6"
);
const STRETCH_ENDED_BEFORE_SQL: &str = stretches!(
    "AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) < $2 \
     ORDER BY end_wall_ms DESC, s.epoch_no DESC, s.stretch DESC LIMIT 1"
);
const STRETCH_BEGUN_AFTER_SQL: &str =
    stretches!("AND s.from_wall_ms > $2 ORDER BY s.from_wall_ms, s.epoch_no, s.stretch LIMIT 1");
const STRETCH_OF_PLACE_BEFORE_SQL: &str =
    stretches!("AND (s.epoch_no, s.stretch) < ($2, $3) ORDER BY s.epoch_no DESC, s.stretch DESC LIMIT 1");

// Days count from 1970-01-01, which is the fallback partition's day: a record whose time could not be believed may be
// there, so every search also looks there.
const STATE_AT_SQL: &str = "SELECT seq, base_seq, day - DATE '1970-01-01' AS day, \
     base_day - DATE '1970-01-01' AS base_day FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND wall_ms <= $4 AND kind IN (1, 2) \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY wall_ms DESC, seq DESC LIMIT 1";
const STATE_BEFORE_SQL: &str = "SELECT seq, base_seq, day - DATE '1970-01-01' AS day, \
     base_day - DATE '1970-01-01' AS base_day FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND seq < $4 AND kind IN (1, 2) \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY seq DESC LIMIT 1";
const STATE_RECORDS_SQL: &str = "SELECT seq, kind, wall_ms, prev_wall_ms, received_ms, body FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND seq BETWEEN $3 AND $4 AND kind IN (1, 2) \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY seq";
const NEXT_STATE_SQL: &str = "SELECT prev_wall_ms, day - DATE '1970-01-01' AS day FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND seq > $4 AND kind IN (1, 2) \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY seq LIMIT 1";
const PAGE_SQL: &str = "SELECT seq, kind, wall_ms, prev_wall_ms, received_ms, body FROM frame \
     WHERE host_id = $1 AND epoch_no = $2 AND stretch = $3 AND seq > $4 AND wall_ms <= $7 \
     AND (day BETWEEN DATE '1970-01-01' + $5::int AND DATE '1970-01-01' + $6::int OR day = DATE '1970-01-01') \
     ORDER BY seq LIMIT $8";
const GAP_AT_SQL: &str = "SELECT epoch_no, seq, from_wall_ms, to_wall_ms, reason, detail FROM gap \
     WHERE host_id = $1 AND to_wall_ms >= $2 AND (from_wall_ms IS NULL OR from_wall_ms <= $2) \
     ORDER BY epoch_no DESC, seq DESC LIMIT 1";
const GAPS_BETWEEN_SQL: &str = "SELECT epoch_no, seq, from_wall_ms, to_wall_ms, reason, detail FROM gap \
     WHERE host_id = $1 AND to_wall_ms >= $2 AND (from_wall_ms IS NULL OR from_wall_ms <= $3) \
     ORDER BY epoch_no, seq LIMIT $4";

impl Reading {
    /// The last stretch of a host's history; `None` = it has no sample yet.
    pub async fn newest_stretch(&mut self, host: HostId) -> Result<Option<Stretch>, StoreError> {
        let row: Option<StretchRow> =
            sqlx::query_as(NEWEST_STRETCH_SQL).bind(host.0).fetch_optional(&mut *self.tx).await?;
        row.map(StretchRow::domain).transpose()
    }

    /// The stretches that hold this wall time, the last first, at most `most`.
    pub async fn stretches_at(&mut self, host: HostId, wall_ms: i64, most: i64) -> Result<Vec<Stretch>, StoreError> {
        let query = sqlx::query_as(STRETCHES_AT_SQL).bind(host.0).bind(wall_ms).bind(most);
        let rows: Vec<StretchRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(StretchRow::domain).collect()
    }

    /// The stretches that share an instant with `from..=to` and come after the place `after`, in order, at most `most`.
    pub async fn stretches_between(
        &mut self,
        host: HostId,
        (from_ms, to_ms): (i64, i64),
        after: Option<(EpochNo, i32)>,
        most: i64,
    ) -> Result<Vec<Stretch>, StoreError> {
        let (epoch, number) = after.map_or((-1, -1), |(e, n)| (bigint(e.0), n));
        let query = sqlx::query_as(STRETCHES_BETWEEN_SQL).bind(host.0).bind(from_ms).bind(to_ms);
        let rows: Vec<StretchRow> = query.bind(epoch).bind(number).bind(most).fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(StretchRow::domain).collect()
    }

    /// Of the stretches that ended before this wall time, the one that ended last.
    pub async fn stretch_ended_before(&mut self, host: HostId, wall_ms: i64) -> Result<Option<Stretch>, StoreError> {
        let query = sqlx::query_as(STRETCH_ENDED_BEFORE_SQL).bind(host.0).bind(wall_ms);
        let row: Option<StretchRow> = query.fetch_optional(&mut *self.tx).await?;
        row.map(StretchRow::domain).transpose()
    }

    /// Of the stretches that began after this wall time, the one that began first.
    pub async fn stretch_begun_after(&mut self, host: HostId, wall_ms: i64) -> Result<Option<Stretch>, StoreError> {
        let query = sqlx::query_as(STRETCH_BEGUN_AFTER_SQL).bind(host.0).bind(wall_ms);
        let row: Option<StretchRow> = query.fetch_optional(&mut *self.tx).await?;
        row.map(StretchRow::domain).transpose()
    }

    /// The stretch just before a place.
    pub async fn stretch_before(&mut self, host: HostId, place: (EpochNo, i32)) -> Result<Option<Stretch>, StoreError> {
        let query = sqlx::query_as(STRETCH_OF_PLACE_BEFORE_SQL).bind(host.0).bind(bigint(place.0.0)).bind(place.1);
        let row: Option<StretchRow> = query.fetch_optional(&mut *self.tx).await?;
        row.map(StretchRow::domain).transpose()
    }

    /// The last state-bearing record of a stretch up to `until`.
    pub async fn state_place(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        until: Until,
    ) -> Result<Option<StatePlace>, StoreError> {
        let (sql, bound, last) = match until {
            Until::Wall(wall_ms) => (STATE_AT_SQL, wall_ms, wall_ms.min(stretch.end_wall_ms)),
            Until::Before(seq) => (STATE_BEFORE_SQL, bigint(seq.0), stretch.end_wall_ms),
        };
        let (first, last) = (day_of(stretch.from_wall_ms), day_of(last));
        for (from, to) in [(first.max(last.saturating_sub(1)), last), (first, last)] {
            let query = sqlx::query_as(sql).bind(host.0).bind(bigint(stretch.epoch.0)).bind(stretch.number);
            let query = query.bind(bound).bind(from).bind(to);
            let row: Option<PlaceRow> = query.fetch_optional(&mut *self.tx).await?;
            if is_final(row.as_ref().map(|r| r.day), from == first) {
                return row.map(PlaceRow::domain).transpose();
            }
        }
        Ok(None)
    }

    /// The records that make the state of `place`: its keyframe first, itself last.
    pub async fn state_records(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        place: &StatePlace,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        // One of the two in the fallback day says nothing of the days of what lies between them.
        let in_fallback = place.day.min(place.base_day) == 0;
        let end_day = if in_fallback { day_of(stretch.end_wall_ms) } else { 0 };
        let query = sqlx::query_as(STATE_RECORDS_SQL).bind(host.0).bind(bigint(stretch.epoch.0));
        let query = query.bind(bigint(place.base_seq.0)).bind(bigint(place.seq.0));
        let query = query.bind(place.base_day.min(place.day)).bind(place.day.max(place.base_day).max(end_day));
        let rows: Vec<FrameRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(FrameRow::domain).collect()
    }

    /// Until when the state of `place` was confirmed: the sample before the next state-bearing record of its stretch, or
    /// the stretch's end.
    pub async fn confirmed_to(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        place: &StatePlace,
    ) -> Result<i64, StoreError> {
        let last = day_of(stretch.end_wall_ms).max(place.day);
        for to in [last.min(place.day.saturating_add(1)), last] {
            let query = sqlx::query_as(NEXT_STATE_SQL).bind(host.0).bind(bigint(stretch.epoch.0));
            let query = query.bind(stretch.number).bind(bigint(place.seq.0)).bind(place.day).bind(to);
            let row: Option<(Option<i64>, i32)> = query.fetch_optional(&mut *self.tx).await?;
            if is_final(row.map(|(_, day)| day), to == last) {
                return Ok(row.and_then(|(previous, _)| previous).unwrap_or(stretch.end_wall_ms));
            }
        }
        Ok(stretch.end_wall_ms)
    }

    /// Records of every kind of a stretch after `after` whose time is at or before `until_ms`, in order, at most `most`.
    pub async fn records_after(
        &mut self,
        host: HostId,
        stretch: &Stretch,
        after: Option<Seq>,
        (until_ms, most): (i64, i64),
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let query = sqlx::query_as(PAGE_SQL).bind(host.0).bind(bigint(stretch.epoch.0)).bind(stretch.number);
        let query = query.bind(after.map_or(-1, |s| bigint(s.0))).bind(day_of(stretch.from_wall_ms));
        // An agent's last word comes after its last sample, and so perhaps a day later.
        let last_day = day_of(stretch.end_wall_ms.min(until_ms)).saturating_add(1);
        let query = query.bind(last_day).bind(until_ms).bind(most);
        let rows: Vec<FrameRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(FrameRow::domain).collect()
    }

    /// The closed gap that holds this wall time, the last one if there are several.
    pub async fn gap_at(&mut self, host: HostId, wall_ms: i64) -> Result<Option<ClosedGap>, StoreError> {
        let query = sqlx::query_as(GAP_AT_SQL).bind(host.0).bind(wall_ms);
        let row: Option<GapRow> = query.fetch_optional(&mut *self.tx).await?;
        row.map(GapRow::domain).transpose()
    }

    /// The closed gaps that share an instant with `from..=to`, in order, at most `most`.
    pub async fn gaps_between(
        &mut self,
        host: HostId,
        (from_ms, to_ms): (i64, i64),
        most: i64,
    ) -> Result<Vec<ClosedGap>, StoreError> {
        let query = sqlx::query_as(GAPS_BETWEEN_SQL).bind(host.0).bind(from_ms).bind(to_ms).bind(most);
        let rows: Vec<GapRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(GapRow::domain).collect()
    }
}

#[derive(FromRow)]
struct StretchRow {
    epoch_no: i64,
    stretch: i32,
    from_wall_ms: i64,
    from_boot_us: i64,
    end_wall_ms: i64,
    end_boot_us: i64,
    boot_id: Vec<u8>,
    interval_ms: i32,
    end_reason: Option<i16>,
}

impl StretchRow {
    fn domain(self) -> Result<Stretch, StoreError> {
        Ok(Stretch {
            epoch: EpochNo(unsigned("stretch.epoch_no", self.epoch_no)?),
            number: self.stretch,
            from_wall_ms: self.from_wall_ms,
            end_wall_ms: self.end_wall_ms,
            from_boot_us: self.from_boot_us,
            end_boot_us: self.end_boot_us,
            boot_id: BootId(fixed("stream.boot_id", &self.boot_id)?),
            interval_ms: i64::from(self.interval_ms),
            end_reason: self.end_reason.map(|code| reason("stream.end_reason", code)).transpose()?,
        })
    }
}

#[derive(FromRow)]
struct PlaceRow {
    seq: i64,
    base_seq: i64,
    day: i32,
    base_day: i32,
}

impl PlaceRow {
    fn domain(self) -> Result<StatePlace, StoreError> {
        Ok(StatePlace {
            seq: Seq(unsigned("frame.seq", self.seq)?),
            base_seq: Seq(unsigned("frame.base_seq", self.base_seq)?),
            day: self.day,
            base_day: self.base_day,
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
struct GapRow {
    epoch_no: i64,
    seq: i64,
    from_wall_ms: Option<i64>,
    to_wall_ms: i64,
    reason: i16,
    detail: String,
}

impl GapRow {
    fn domain(self) -> Result<ClosedGap, StoreError> {
        Ok(ClosedGap {
            epoch: EpochNo(unsigned("gap.epoch_no", self.epoch_no)?),
            seq: Seq(unsigned("gap.seq", self.seq)?),
            from_wall_ms: self.from_wall_ms,
            to_wall_ms: self.to_wall_ms,
            reason: reason("gap.reason", self.reason)?,
            detail: self.detail,
        })
    }
}

/// Whether a search need go no further: two days were searched before all of the stretch's, because planning a question to
/// ninety partitions costs more than answering it. A row of the fallback day says nothing about the days between.
fn is_final(day_found: Option<i32>, searched_all: bool) -> bool {
    searched_all || day_found.is_some_and(|day| day != 0)
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
