//! Which states of a piece belong together, and until when each speaks: runs without a pause. Pure.

use super::hole::{Mark, Piece};

/// A line speaks until the next one if that comes within this many steps.
const STEPS: i64 = 3;

/// Consecutive states without a pause: they become one imported stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Its first and its last mark.
    pub(super) marks: (usize, usize),
    /// The last instant it speaks for, host's wall clock, milliseconds.
    pub(super) end_ms: i64,
}

/// The steps between consecutive lines of a file, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(std::collections::BTreeMap<i64, u64>);

impl Steps {
    /// One step, milliseconds; what is none is not counted.
    pub(super) fn count(&mut self, step_ms: i64) {
        if step_ms > 0 {
            let count = self.0.entry(step_ms).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// The one in the middle, of two the shorter one; 0 = there is none.
    pub(super) fn median_ms(&self) -> i64 {
        let all = self.0.values().fold(0_u64, |all, n| all.saturating_add(*n));
        let mut left = all.div_ceil(2);
        for (step_ms, count) in &self.0 {
            left = left.saturating_sub(*count);
            if left == 0 {
                return *step_ms;
            }
        }
        0
    }
}

/// The runs of a piece, in order; `median_ms` is the file's median step.
pub(super) fn runs(piece: &Piece, median_ms: i64) -> Vec<Run> {
    let Piece { marks, hole, .. } = piece;
    let joins = |before: &Mark, end_ms: i64, next_ms: i64| {
        let step_ms = median_ms.max(i64::from(before.interval_ms));
        next_ms.saturating_sub(end_ms) <= step_ms.saturating_mul(STEPS)
    };
    let mut runs = Vec::new();
    let mut begin = 0;
    for (i, pair) in marks.windows(2).enumerate() {
        let [before, next] = pair else { continue };
        let carried_ms = piece.carried_ms.filter(|_| i == 0);
        if next.breaks || !joins(before, carried_ms.unwrap_or(before.end_ms), next.from_ms) {
            // What is carried over but does not reach the first line says nothing here.
            if carried_ms.is_none() {
                runs.push(Run { marks: (begin, i), end_ms: before.end_ms });
            }
            begin = i.saturating_add(1);
        }
    }
    if let Some(last) = marks.last() {
        let to_high = piece.next_ms.is_some_and(|next_ms| joins(last, last.end_ms, next_ms));
        let end_ms =
            if to_high { hole.cut(piece.next_ms.unwrap_or(last.end_ms)).max(last.end_ms) } else { last.end_ms };
        runs.push(Run { marks: (begin, marks.len().saturating_sub(1)), end_ms });
    }
    runs
}

#[cfg(test)]
mod tests {
    use highwater_ipc::record::{EpochNo, Seq};
    use proptest::prelude::*;

    use super::super::hole::{High, Hole};
    use super::super::pack::Packed;
    use super::*;

    fn mark(from_ms: i64, end_ms: i64) -> Mark {
        Mark { from_ms, end_ms, interval_ms: 0, is_same: false, is_own: false, breaks: false, reason: None }
    }

    fn piece(marks: Vec<Mark>, high_ms: Option<i64>) -> Piece {
        let high = high_ms.map(|from_ms| High { first: (EpochNo(1), Seq(0)), from_ms, gap: None });
        let hole = Hole { after: (EpochNo(0), -1), low_ms: None, high };
        Piece { hole, packed: Packed::default(), marks, carried_ms: None, next_ms: None, tail: None }
    }

    fn spans(piece: &Piece, median_ms: i64) -> Vec<(i64, i64)> {
        let runs = runs(piece, median_ms);
        runs.iter().map(|run| (piece.marks[run.marks.0].from_ms, run.end_ms)).collect()
    }

    #[test]
    fn the_median_is_a_step_that_is_there() {
        let median = |steps: &[i64]| {
            let mut counted = Steps::default();
            steps.iter().for_each(|s| counted.count(*s));
            counted.median_ms()
        };
        assert_eq!(median(&[]), 0);
        assert_eq!(median(&[0, -5]), 0);
        assert_eq!(median(&[7]), 7);
        assert_eq!(median(&[9, 1]), 1);
        assert_eq!(median(&[1, 60, 60, 3_600]), 60);
    }

    #[test]
    fn a_line_speaks_until_the_next_within_three_median_steps() {
        let at = |times: &[i64]| piece(times.iter().map(|t| mark(*t, *t)).collect(), None);
        assert_eq!(spans(&at(&[0, 60, 240, 421, 481]), 60), [(0, 240), (421, 481)]);
        assert_eq!(spans(&at(&[5]), 60), [(5, 5)]);
        assert_eq!(spans(&at(&[]), 60), []);
    }

    #[test]
    fn what_the_file_says_of_its_own_samples_counts_where_it_is_longer() {
        let slow = Mark { interval_ms: 600, ..mark(60, 120) };
        assert_eq!(spans(&piece(vec![mark(0, 0), slow, mark(1_920, 1_920)], None), 60), [(0, 1_920)]);
        let gap = Mark { breaks: true, ..mark(180, 180) };
        assert_eq!(spans(&piece(vec![mark(0, 0), slow, gap], None), 60), [(0, 120), (180, 180)]);
    }

    #[test]
    fn the_last_line_before_stored_history_reaches_it_if_the_next_line_comes_soon_enough() {
        let before = |next_ms| Piece { next_ms, ..piece(vec![mark(0, 0), mark(60, 60)], Some(100)) };
        assert_eq!(spans(&before(Some(120)), 60), [(0, 99)]);
        assert_eq!(spans(&before(Some(241)), 60), [(0, 60)]);
        assert_eq!(spans(&before(None), 60), [(0, 60)]);
    }

    #[test]
    fn a_line_that_is_stored_already_reaches_into_the_hole_if_the_next_line_comes_soon_enough() {
        let carried =
            |carried_ms| Piece { carried_ms: Some(carried_ms), ..piece(vec![mark(101, 101), mark(240, 240)], None) };
        assert_eq!(spans(&carried(60), 60), [(101, 240)]);
        assert_eq!(spans(&carried(59), 60), [(240, 240)]);
    }

    proptest! {
        #[test]
        fn an_instant_is_covered_exactly_where_the_lines_around_it_are_near_enough(
            steps in proptest::collection::vec((0_i64..400, 0_i64..100, any::<bool>()), 1..30),
            median_ms in 1_i64..200,
        ) {
            let mut at = 0;
            let marks: Vec<Mark> = steps
                .iter()
                .map(|(step, lasts, breaks)| {
                    let from = at + step;
                    at = from + lasts;
                    Mark { breaks: *breaks, ..mark(from, at) }
                })
                .collect();
            let piece = piece(marks.clone(), None);
            let spans = spans(&piece, median_ms);
            for t in 0..=at + 1 {
                let before = marks.iter().rposition(|m| m.from_ms <= t);
                let expected = before.is_some_and(|i| {
                    let near = marks.get(i + 1).is_some_and(|n| !n.breaks && n.from_ms - marks[i].end_ms <= 3 * median_ms);
                    t <= marks[i].end_ms || near
                });
                prop_assert_eq!(spans.iter().any(|(from, end)| (*from..=*end).contains(&t)), expected, "{}", t);
            }
            let all: usize = runs(&piece, median_ms).iter().map(|r| r.marks.1 - r.marks.0 + 1).sum();
            prop_assert_eq!(all, marks.len());
        }
    }
}
