//! Closed gaps.

use highwater_ipc::record::{EpochNo, GapReason, Seq};
use sqlx::FromRow;

use super::stretch::{Place, place};
use super::{Reading, reason};
use crate::host::HostId;
use crate::store::StoreError;
use crate::store::number::{bigint, unsigned};

/// A closed span without samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedGap {
    /// The stretch that begins where it ends.
    pub before: Place,
    /// Position of its first record.
    pub seq: Seq,
    /// Last sample before it; `None` = before the host's first that is kept.
    pub from_wall_ms: Option<i64>,
    /// First sample after it.
    pub to_wall_ms: i64,
    /// Why.
    pub reason: GapReason,
    /// More about it, escaped; may be empty.
    pub detail: String,
}

// A gap's key is the record that closes it, which is the first of a stretch.
macro_rules! gaps {
    ($rest:literal) => {
        concat!(
            "SELECT g.epoch_no, g.seq, COALESCE(s.stretch, 0) AS stretch, g.from_wall_ms, g.to_wall_ms, g.reason, g.detail, \
             st.after_epoch_no, st.after_stretch FROM gap g \
             LEFT JOIN stretch s ON s.host_id = g.host_id AND s.epoch_no = g.epoch_no AND s.from_seq = g.seq \
             LEFT JOIN stream st ON st.host_id = g.host_id AND st.epoch_no = g.epoch_no \
             WHERE g.host_id = $1 ",
            $rest
        )
    };
}

const GAP_AT_SQL: &str = gaps!(
    "AND g.to_wall_ms >= $2 AND (g.from_wall_ms IS NULL OR g.from_wall_ms <= $2) \
     ORDER BY COALESCE(st.after_epoch_no, g.epoch_no) DESC, st.after_epoch_no IS NOT NULL DESC, g.epoch_no DESC, \
     g.seq DESC LIMIT 1"
);
const GAPS_BETWEEN_SQL: &str = gaps!(
    "AND g.to_wall_ms >= $2 AND (g.from_wall_ms IS NULL OR g.from_wall_ms <= $3) \
     ORDER BY COALESCE(st.after_epoch_no, g.epoch_no), \
     COALESCE(st.after_stretch, s.stretch, 0), st.after_epoch_no IS NOT NULL, g.epoch_no, g.seq LIMIT $4"
);

const FORGOTTEN_SQL: &str = gaps!("AND g.reason = $2 ORDER BY g.epoch_no DESC, g.seq DESC LIMIT 1");

const GAP_CLOSED_BY_SQL: &str = gaps!("AND g.epoch_no = $2 AND g.seq = $3");

impl Reading {
    /// The gap that this record closed.
    pub async fn gap_closed_by(
        &mut self,
        host: HostId,
        (epoch, seq): (EpochNo, Seq),
    ) -> Result<Option<ClosedGap>, StoreError> {
        let query = sqlx::query_as(GAP_CLOSED_BY_SQL).bind(host.0).bind(bigint(epoch.0)).bind(bigint(seq.0));
        let row: Option<GapRow> = query.fetch_optional(&mut *self.tx).await?;
        row.map(GapRow::domain).transpose()
    }

    /// The closed gap that holds this wall time, the last one if there are several.
    pub async fn gap_at(&mut self, host: HostId, wall_ms: i64) -> Result<Option<ClosedGap>, StoreError> {
        let query = sqlx::query_as(GAP_AT_SQL).bind(host.0).bind(wall_ms);
        let row: Option<GapRow> = query.fetch_optional(&mut *self.tx).await?;
        row.map(GapRow::domain).transpose()
    }

    /// The gap that says what went by retention; `None` = nothing did.
    pub async fn forgotten(&mut self, host: HostId) -> Result<Option<ClosedGap>, StoreError> {
        let query = sqlx::query_as(FORGOTTEN_SQL).bind(host.0).bind(i16::from(GapReason::Retention.code()));
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
struct GapRow {
    epoch_no: i64,
    seq: i64,
    stretch: i32,
    from_wall_ms: Option<i64>,
    to_wall_ms: i64,
    reason: i16,
    detail: String,
    after_epoch_no: Option<i64>,
    after_stretch: Option<i32>,
}

impl GapRow {
    fn domain(self) -> Result<ClosedGap, StoreError> {
        Ok(ClosedGap {
            before: place((self.epoch_no, self.stretch), self.after_epoch_no.zip(self.after_stretch))?,
            seq: Seq(unsigned("gap.seq", self.seq)?),
            from_wall_ms: self.from_wall_ms,
            to_wall_ms: self.to_wall_ms,
            reason: reason("gap.reason", self.reason)?,
            detail: self.detail,
        })
    }
}
