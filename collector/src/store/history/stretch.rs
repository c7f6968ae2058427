//! Stretches: runs of samples without a gap, in the order of history.

use highwater_ipc::record::{EpochNo, GapReason, Seq};
use highwater_ipc::snapshot::BootId;
use sqlx::FromRow;

use super::{Reading, reason};
use crate::host::HostId;
use crate::store::StoreError;
use crate::store::number::{bigint, fixed, unsigned};

/// Where a stretch stands in its host's history: order is this, never wall time. An imported one stands right behind the
/// agent's own stretch that was before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Epoch and number, or those of the agent's own stretch before it.
    base: (EpochNo, i32),
    /// Epoch and number of an imported one.
    imported: Option<(EpochNo, i32)>,
}

impl Place {
    /// Of an agent's own stretch.
    pub const fn own(epoch: EpochNo, number: i32) -> Self {
        Self { base: (epoch, number), imported: None }
    }

    /// Of an imported stretch that stands behind that of `after`; (0, -1) is before everything.
    pub const fn imported(after: (EpochNo, i32), epoch: EpochNo, number: i32) -> Self {
        Self { base: after, imported: Some((epoch, number)) }
    }

    /// The epoch whose records it holds.
    pub fn epoch(self) -> EpochNo {
        self.imported.unwrap_or(self.base).0
    }

    /// Its number in that epoch.
    pub fn number(self) -> i32 {
        self.imported.unwrap_or(self.base).1
    }

    /// For an imported one: the agent's own stretch before it.
    pub fn after(self) -> Option<(EpochNo, i32)> {
        self.imported.map(|_| self.base)
    }

    /// As columns: base epoch and number, whether imported, epoch and number.
    fn columns(self) -> (i64, i32, bool, i64, i32) {
        let base = (bigint(self.base.0.0), self.base.1);
        (base.0, base.1, self.imported.is_some(), bigint(self.epoch().0), self.number())
    }
}

/// A run of samples without a gap, in which wall time is monotone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where it stands, and so its epoch and its number there.
    pub place: Place,
    /// Records of its epoch before this one are in merged chunks ..
    pub merged: Seq,
    /// .. from there to this one in fresh chunks, from there on in frames.
    pub compacted: Seq,
    /// One past the newest record of its epoch that is stored.
    pub framed: Seq,
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

macro_rules! stretches {
    ($rest:literal) => {
        concat!(
            "SELECT s.epoch_no, s.stretch, s.from_wall_ms, s.from_boot_us, \
             COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) AS end_wall_ms, \
             COALESCE(s.to_boot_us, st.covered_boot_us, s.from_boot_us) AS end_boot_us, \
             st.boot_id, st.interval_ms, COALESCE(st.end_reason, st.pending_reason) AS end_reason, \
             st.after_epoch_no, st.after_stretch, st.merged_to, st.compacted_to, st.framed_to \
             FROM stretch s JOIN stream st ON st.host_id = s.host_id AND st.epoch_no = s.epoch_no \
             WHERE s.host_id = $1 ",
            $rest
        )
    };
}

// The order of history; an agent never counts to 2^62, which is where imported epochs begin.
const NEWEST_OWN_SQL: &str =
    stretches!("AND s.epoch_no < 4611686018427387904 ORDER BY s.epoch_no DESC, s.stretch DESC LIMIT 1");
const NEWEST_IMPORTED_SQL: &str = stretches!("ORDER BY s.epoch_no DESC, s.stretch DESC LIMIT 1");
const STRETCHES_AT_SQL: &str = stretches!(
    "AND s.from_wall_ms <= $2 AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) >= $2 \
     ORDER BY COALESCE(st.after_epoch_no, s.epoch_no) DESC, COALESCE(st.after_stretch, s.stretch) DESC, \
     st.after_epoch_no IS NOT NULL DESC, s.epoch_no DESC, s.stretch DESC LIMIT $3"
);
const STRETCHES_BETWEEN_SQL: &str = stretches!(
    "AND s.from_wall_ms <= $3 AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) >= $2 \
     AND (COALESCE(st.after_epoch_no, s.epoch_no), COALESCE(st.after_stretch, s.stretch), \
     st.after_epoch_no IS NOT NULL, s.epoch_no, s.stretch) > ($4, $5, $6, $7, $8) \
     ORDER BY COALESCE(st.after_epoch_no, s.epoch_no), COALESCE(st.after_stretch, s.stretch), \
     st.after_epoch_no IS NOT NULL, s.epoch_no, s.stretch LIMIT $9"
);
const STRETCH_ENDED_BEFORE_SQL: &str = stretches!(
    "AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) < $2 \
     ORDER BY end_wall_ms DESC, s.epoch_no DESC, s.stretch DESC LIMIT 1"
);
const STRETCH_BEGUN_AFTER_SQL: &str =
    stretches!("AND s.from_wall_ms > $2 ORDER BY s.from_wall_ms, s.epoch_no, s.stretch LIMIT 1");
const STRETCH_OF_PLACE_BEFORE_SQL: &str = stretches!(
    "AND s.from_wall_ms <= $8 AND COALESCE(s.to_wall_ms, st.covered_wall_ms, s.from_wall_ms) >= $7 \
     AND (COALESCE(st.after_epoch_no, s.epoch_no), COALESCE(st.after_stretch, s.stretch), \
     st.after_epoch_no IS NOT NULL, s.epoch_no, s.stretch) < ($2, $3, $4, $5, $6) \
     ORDER BY COALESCE(st.after_epoch_no, s.epoch_no) DESC, COALESCE(st.after_stretch, s.stretch) DESC, \
     st.after_epoch_no IS NOT NULL DESC, s.epoch_no DESC, s.stretch DESC LIMIT 1"
);
const STRETCH_SQL: &str = stretches!("AND s.epoch_no = $2 AND s.stretch = $3");

impl Reading {
    /// The last stretch of a host's history; `None` = it has no sample yet.
    pub async fn newest_stretch(&mut self, host: HostId) -> Result<Option<Stretch>, StoreError> {
        for sql in [NEWEST_OWN_SQL, NEWEST_IMPORTED_SQL] {
            let row: Option<StretchRow> = sqlx::query_as(sql).bind(host.0).fetch_optional(&mut *self.tx).await?;
            if let Some(row) = row {
                return row.domain().map(Some);
            }
        }
        Ok(None)
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
        after: Option<Place>,
        most: i64,
    ) -> Result<Vec<Stretch>, StoreError> {
        let after = after.map_or((-1, -1, false, -1, -1), Place::columns);
        let query = sqlx::query_as(STRETCHES_BETWEEN_SQL).bind(host.0).bind(from_ms).bind(to_ms);
        let query = query.bind(after.0).bind(after.1).bind(after.2).bind(after.3).bind(after.4);
        let rows: Vec<StretchRow> = query.bind(most).fetch_all(&mut *self.tx).await?;
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
    pub async fn stretch_before(&mut self, host: HostId, place: Place) -> Result<Option<Stretch>, StoreError> {
        self.stretch_before_in(host, place, (i64::MIN, i64::MAX)).await
    }

    /// The last stretch before a place that shares an instant with `from..=to`.
    pub async fn stretch_before_in(
        &mut self,
        host: HostId,
        place: Place,
        (from_ms, to_ms): (i64, i64),
    ) -> Result<Option<Stretch>, StoreError> {
        let place = place.columns();
        let query = sqlx::query_as(STRETCH_OF_PLACE_BEFORE_SQL).bind(host.0);
        let query = query.bind(place.0).bind(place.1).bind(place.2).bind(place.3).bind(place.4);
        let row: Option<StretchRow> = query.bind(from_ms).bind(to_ms).fetch_optional(&mut *self.tx).await?;
        row.map(StretchRow::domain).transpose()
    }

    /// The stretch of that epoch and number.
    pub async fn stretch(
        &mut self,
        host: HostId,
        (epoch, number): (EpochNo, i32),
    ) -> Result<Option<Stretch>, StoreError> {
        let query = sqlx::query_as(STRETCH_SQL).bind(host.0).bind(bigint(epoch.0)).bind(number);
        let row: Option<StretchRow> = query.fetch_optional(&mut *self.tx).await?;
        row.map(StretchRow::domain).transpose()
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
    after_epoch_no: Option<i64>,
    after_stretch: Option<i32>,
    merged_to: i64,
    compacted_to: i64,
    framed_to: i64,
}

impl StretchRow {
    fn domain(self) -> Result<Stretch, StoreError> {
        Ok(Stretch {
            place: place((self.epoch_no, self.stretch), self.after_epoch_no.zip(self.after_stretch))?,
            merged: Seq(unsigned("stream.merged_to", self.merged_to)?),
            compacted: Seq(unsigned("stream.compacted_to", self.compacted_to)?),
            framed: Seq(unsigned("stream.framed_to", self.framed_to)?),
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

/// Where the stretch of these columns stands.
pub(super) fn place((epoch, number): (i64, i32), after: Option<(i64, i32)>) -> Result<Place, StoreError> {
    let epoch = EpochNo(unsigned("stretch.epoch_no", epoch)?);
    Ok(match after {
        Some((after, stretch)) => {
            Place::imported((EpochNo(unsigned("stream.after_epoch_no", after)?), stretch), epoch, number)
        }
        None => Place::own(epoch, number),
    })
}
