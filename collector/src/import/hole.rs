//! Where nothing is stored, and what a file says of it. Pure.

use highwater_ipc::record::{EpochNo, GapReason, Seq};

use super::pack::Packed;

/// A span of a host's history in which nothing is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// The agent's own stretch before it; (0, -1) = none.
    pub(super) after: (EpochNo, i32),
    /// The last instant that is stored before it, host's wall clock, milliseconds.
    pub(super) low_ms: Option<i64>,
    /// What follows it.
    pub(super) high: Option<High>,
}

/// The stretch that follows a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct High {
    /// Its first record.
    pub(super) first: (EpochNo, Seq),
    /// Its first instant, host's wall clock, milliseconds.
    pub(super) from_ms: i64,
    /// What is stored of the gap that this record closed.
    pub(super) gap: Option<Gap>,
}

/// A closed gap, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Last sample before it.
    pub(super) from_ms: Option<i64>,
    /// Why.
    pub(super) reason: GapReason,
    /// More about it.
    pub(super) detail: String,
}

impl Hole {
    /// The last instant of it that a line confirmed until `end_ms` can fill.
    pub(super) fn cut(&self, end_ms: i64) -> i64 {
        self.high.as_ref().map_or(end_ms, |high| end_ms.min(high.from_ms.saturating_sub(1)))
    }

    /// Whether this instant lies in what follows it.
    pub(super) fn is_over_at(&self, wall_ms: i64) -> bool {
        self.high.as_ref().is_some_and(|high| wall_ms >= high.from_ms)
    }

    /// Whether what is stored of a gap is of this hole, not of one of another time (the clock was set back).
    pub(super) fn gap(&self) -> Option<&Gap> {
        let gap = self.high.as_ref()?.gap.as_ref()?;
        (gap.from_ms == self.low_ms).then_some(gap)
    }
}

/// One state of a piece: from when to when it was confirmed, and how it follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// As stored, host's wall clock, milliseconds: never before the one before ends.
    pub(super) from_ms: i64,
    /// Last sample that read the same, likewise.
    pub(super) end_ms: i64,
    /// Planned time between samples where the line says one, milliseconds; 0 = it does not.
    pub(super) interval_ms: u32,
    /// It reads the same as the one before in the piece.
    pub(super) is_same: bool,
    /// It is a record of its own even then: the file says that it is, or what happened before it.
    pub(super) is_own: bool,
    /// Nothing covers the time between the one before and it: the file has a gap there, or the host was booted.
    pub(super) breaks: bool,
    /// Why, as far as the file says it.
    pub(super) reason: Option<GapReason>,
}

/// What a file says of one hole: states, in order, packed; a mark for each.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) hole: Hole,
    pub(super) packed: Packed,
    pub(super) marks: Vec<Mark>,
    /// The first state is that of a line before the hole that is stored already, confirmed until then: it covers the time
    /// to the second if that comes soon enough.
    pub(super) carried_ms: Option<i64>,
    /// The next line of the file, if nothing breaks between.
    pub(super) next_ms: Option<i64>,
    /// Why nothing follows the last state, as far as the file says it.
    pub(super) tail: Option<GapReason>,
}
