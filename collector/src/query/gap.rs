//! An instant without data: between which samples it lies, and why.

use highwater_ipc::record::GapReason;

use crate::store::fleet::Status;
use crate::store::history::{ClosedGap, Stretch};

/// The gap an instant lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Last sample before it, host's wall clock, milliseconds; `None` = before the host's first.
    pub from_ms: Option<i64>,
    /// First sample after it; `None` = none yet.
    pub to_ms: Option<i64>,
    /// Whether it can still change.
    pub state: GapState,
    /// Why; `None` = not a gap for all anybody knows, its records are on their way.
    pub reason: Option<GapReason>,
    /// More about it, escaped; may be empty.
    pub detail: String,
    /// For a pending one: the oldest sample on its way.
    pub backlog_from_ms: Option<i64>,
}

/// Whether a gap can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapState {
    /// Samples are stored after it: it stays as it is.
    Closed,
    /// Nothing came since; it closes, or fills when a backlog arrives.
    Open,
    /// The host has said that it holds records of that time; they are on their way.
    Pending,
    /// A commit of the host's records was acknowledged and is not visible yet: [`crate::store::settling`].
    Settling,
}

/// What a settling gap says, and what to do.
const SETTLING: &str = "settling: an acknowledged commit is not visible yet; ask again";

impl GapState {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            GapState::Closed => "closed",
            GapState::Open => "open",
            GapState::Pending | GapState::Settling => "pending",
        }
    }
}

impl Gap {
    /// The gap of a host that has no sample yet.
    pub fn no_sample_yet() -> Self {
        Self {
            from_ms: None,
            to_ms: None,
            state: GapState::Open,
            reason: Some(GapReason::BeforeFirst),
            detail: String::new(),
            backlog_from_ms: None,
        }
    }

    /// The gap after everything that is stored.
    pub fn after_all(newest: &Stretch, status: Option<&Status>) -> Self {
        let backlog_from_ms = status.and_then(|s| s.backlog_from_ms);
        let (state, reason) = match backlog_from_ms {
            Some(_) => (GapState::Pending, None),
            None => (GapState::Open, Some(why_silent(newest, status))),
        };
        Self { from_ms: Some(newest.end_wall_ms), to_ms: None, state, reason, detail: String::new(), backlog_from_ms }
    }

    /// What is not known after `newest` while a commit of the host is in doubt.
    pub fn settling(newest: Option<&Stretch>) -> Self {
        Self {
            from_ms: newest.map(|s| s.end_wall_ms),
            to_ms: None,
            state: GapState::Settling,
            reason: None,
            detail: SETTLING.to_owned(),
            backlog_from_ms: None,
        }
    }

    /// The gap between two stretches, or before the first; `stored` is what the writer wrote of it.
    pub fn between(before: Option<&Stretch>, after: &Stretch, stored: Option<ClosedGap>) -> Self {
        let mut gap = Self {
            from_ms: before.map(|s| s.end_wall_ms),
            to_ms: Some(after.from_wall_ms),
            state: GapState::Closed,
            reason: Some(GapReason::Unexplained),
            detail: String::new(),
            backlog_from_ms: None,
        };
        match (before, stored) {
            (None, None) => gap.reason = Some(GapReason::BeforeFirst),
            // Before the first that is kept there may have been more.
            (None, Some(stored)) if stored.from_wall_ms.is_none() => {
                (gap.reason, gap.detail) = (Some(stored.reason), stored.detail);
            }
            // What ended where it begins may be forgotten; the gap is what it was.
            (_, Some(stored)) => {
                gap.from_ms = stored.from_wall_ms;
                gap.to_ms = Some(stored.to_wall_ms);
                gap.reason = Some(stored.reason);
                gap.detail = stored.detail;
            }
            (Some(before), None) if clock_was_set_forward(before, after) => {
                gap.detail = "the host's clock was set forward over this instant: it never showed it".to_owned();
            }
            (Some(_), None) => {}
        }
        gap
    }
}

/// Milliseconds past the last sample of a stretch for which that sample still speaks: three intervals, none once
/// somebody has said that the samples ended.
pub fn grace_ms(newest: &Stretch) -> i64 {
    if newest.end_reason.is_some() { 0 } else { newest.interval_ms.saturating_mul(3) }
}

/// What is known of a host that sends nothing: its own last word, else whether an agent with its certificate was turned
/// away since, else whether its connection is gone.
fn why_silent(newest: &Stretch, status: Option<&Status>) -> GapReason {
    match newest.end_reason {
        Some(said) => said,
        None if status.is_some_and(|s| s.turned_away.as_ref().is_some_and(|t| t.at_ms > s.last_seen_ms)) => {
            GapReason::Quarantined
        }
        None if status.is_some_and(|s| s.disconnected_ms.is_some()) => GapReason::Unreachable,
        None => GapReason::Unexplained,
    }
}

/// Two stretches of one boot, without a gap by the boot clock, whose wall clocks do not meet.
fn clock_was_set_forward(before: &Stretch, after: &Stretch) -> bool {
    before.boot_id == after.boot_id
        && before.place.epoch() == after.place.epoch()
        && after.from_boot_us.saturating_sub(before.end_boot_us) <= before.interval_ms.saturating_mul(3_000)
}

#[cfg(test)]
mod tests {
    use highwater_ipc::record::{EpochNo, Seq};
    use highwater_ipc::snapshot::BootId;

    use super::*;
    use crate::host::Quarantine;
    use crate::store::fleet::TurnedAway;
    use crate::store::history::Place;

    fn stretch(epoch: u64, from_wall_ms: i64, end_wall_ms: i64) -> Stretch {
        Stretch {
            place: Place::own(EpochNo(epoch), 0),
            merged: Seq(0),
            compacted: Seq(0),
            framed: Seq(0),
            from_wall_ms,
            end_wall_ms,
            from_boot_us: from_wall_ms * 1000,
            end_boot_us: end_wall_ms * 1000,
            boot_id: BootId([1; 16]),
            interval_ms: 1000,
            end_reason: None,
        }
    }

    fn status() -> Status {
        Status {
            last_seen_ms: 0,
            sampled_wall_ms: 0,
            skew_ms: 0,
            interval_ms: 1000,
            backlog_from_ms: None,
            disconnected_ms: None,
            turned_away: None,
            namespace: None,
            usage: vec![],
        }
    }

    #[test]
    fn a_silent_host_is_explained_by_its_last_word_then_by_its_connection() {
        let newest = stretch(1, 0, 5_000);
        let reason = |stretch: &Stretch, status: &Status| Gap::after_all(stretch, Some(status)).reason;
        assert_eq!(reason(&newest, &status()), Some(GapReason::Unexplained));
        let gone = Status { disconnected_ms: Some(9), ..status() };
        assert_eq!(reason(&newest, &gone), Some(GapReason::Unreachable));
        let turned_away = |at_ms| Some(TurnedAway { at_ms, why: Quarantine::BootReturned, peer: "::1".to_owned() });
        let quarantined = Status { last_seen_ms: 5, turned_away: turned_away(6), ..gone.clone() };
        assert_eq!(reason(&newest, &quarantined), Some(GapReason::Quarantined));
        let before_that = Status { last_seen_ms: 5, turned_away: turned_away(4), ..gone.clone() };
        assert_eq!(reason(&newest, &before_that), Some(GapReason::Unreachable));
        let said = Stretch { end_reason: Some(GapReason::AgentStopped), ..newest };
        assert_eq!(reason(&said, &gone), Some(GapReason::AgentStopped));
        assert_eq!((grace_ms(&stretch(1, 0, 0)), grace_ms(&said)), (3_000, 0));
    }

    #[test]
    fn a_host_that_holds_records_is_pending_without_a_reason() {
        let behind = Status { backlog_from_ms: Some(6_000), ..status() };
        let gap = Gap::after_all(&stretch(1, 0, 5_000), Some(&behind));
        assert_eq!((gap.state, gap.reason, gap.backlog_from_ms), (GapState::Pending, None, Some(6_000)));
    }

    #[test]
    fn what_is_in_doubt_is_pending_and_says_that_it_settles() {
        let gap = Gap::settling(Some(&stretch(1, 0, 5_000)));
        assert_eq!((gap.from_ms, gap.state.name(), gap.reason), (Some(5_000), "pending", None));
        assert!(gap.detail.starts_with("settling"), "{gap:?}");
        assert_eq!(Gap::settling(None).from_ms, None);
    }

    #[test]
    fn what_the_writer_stored_of_a_gap_wins_over_what_stretches_show() {
        let (before, after) = (stretch(1, 0, 5_000), stretch(2, 20_000, 30_000));
        let derived = Gap::between(Some(&before), &after, None);
        assert_eq!((derived.from_ms, derived.to_ms), (Some(5_000), Some(20_000)));
        assert_eq!((derived.reason, derived.detail.as_str()), (Some(GapReason::Unexplained), ""));
        let stored = ClosedGap {
            before: Place::own(EpochNo(2), 0),
            seq: Seq(0),
            from_wall_ms: Some(5_500),
            to_wall_ms: 20_000,
            reason: GapReason::HostDown,
            detail: "d".into(),
        };
        let gap = Gap::between(Some(&before), &after, Some(stored));
        assert_eq!((gap.from_ms, gap.reason, gap.detail.as_str()), (Some(5_500), Some(GapReason::HostDown), "d"));
        assert_eq!(Gap::between(None, &after, None).reason, Some(GapReason::BeforeFirst));
    }

    /// Found by a world: the clock had been set back since, so that the first stretch after the instant by its times was
    /// not the one that ended the gap.
    #[test]
    fn a_gap_stays_what_it_was_when_what_lay_before_it_is_forgotten() {
        let (before, after) = (stretch(1, 0, 5_000), stretch(2, 12_000, 30_000));
        let stored = ClosedGap {
            before: Place::own(EpochNo(2), 0),
            seq: Seq(0),
            from_wall_ms: Some(5_000),
            to_wall_ms: 20_000,
            reason: GapReason::StateLost,
            detail: String::new(),
        };
        let gap = |before| Gap::between(before, &after, Some(stored.clone()));
        assert_eq!(gap(None), gap(Some(&before)));
        let first = Gap::between(None, &after, Some(ClosedGap { from_wall_ms: None, ..stored.clone() }));
        assert_eq!((first.from_ms, first.to_ms), (None, Some(12_000)));
    }

    #[test]
    fn an_hour_over_which_the_clock_was_set_says_so() {
        let before = stretch(1, 0, 5_000);
        let after =
            Stretch { place: Place::own(EpochNo(1), 1), from_boot_us: 6_000_000, ..stretch(1, 3_606_000, 3_700_000) };
        assert!(Gap::between(Some(&before), &after, None).detail.contains("set forward"));
    }
}
