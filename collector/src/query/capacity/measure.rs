//! What a series of marks amounts to over a span: peak, 95th percentile, the lowest, each day's low. Pure.

use super::marks::{Hour, Mark};

/// Hours of a day, by the host's clock in UTC.
const DAY_HOURS: i64 = 24;

/// A stretch of hours at whose ends the same was in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its first hour.
    pub from: Hour,
    /// Its last.
    pub to: Hour,
    /// In use; `None` = not known.
    pub last: Option<u64>,
    /// The most in use at once in its first hour; later on it is `last`.
    pub most: Option<u64>,
}

/// Cuts marks (by hour) into runs that cover the hours from the first that is known of to `to`, those before `from` left
/// out. What was in use at the end of an hour is in use until another mark says otherwise: an hour without a row is one in
/// which nothing changed. A mark without a number begins a run of which nothing is known.
pub fn runs(marks: &[Mark], (from, to): (Hour, Hour)) -> impl Iterator<Item = Run> + '_ {
    let ends = marks.iter().skip(1).map(|next| next.hour.saturating_sub(1)).chain(std::iter::once(to));
    marks.iter().zip(ends).filter_map(move |(mark, end)| {
        let end = end.min(to);
        // What came before the span says only what is in use as it begins.
        let most = if mark.hour < from { mark.last } else { mark.most.max(mark.last) };
        let run = Run { from: mark.hour.max(from), to: end, last: mark.last, most };
        (run.from <= run.to).then_some(run)
    })
}

/// What a span amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The most in use at once.
    pub peak: Option<u64>,
    /// The least that was in use at the end of an hour.
    pub lowest: Option<u64>,
    /// At the end of 95 of 100 hours no more was in use: the smallest such number. Each known hour counts once.
    pub p95: Option<u64>,
    /// How many hours are known.
    pub hours: i64,
    /// The least in use at the end of an hour, by day (since 1970), of days of which at least one hour is known.
    pub lows: Vec<(i64, u64)>,
}

/// Measures; `values` is room that is used again.
pub fn measure(runs: impl Iterator<Item = Run>, values: &mut Vec<(u64, i64)>) -> Measured {
    let mut measured = Measured::default();
    values.clear();
    for run in runs {
        measured.peak = measured.peak.max(run.most);
        let Some(last) = run.last else { continue };
        let hours = run.to - run.from + 1;
        measured.hours += hours;
        measured.lowest = Some(measured.lowest.map_or(last, |lowest| lowest.min(last)));
        match values.last_mut() {
            Some((value, weight)) if *value == last => *weight += hours,
            _ => values.push((last, hours)),
        }
        for day in run.from.div_euclid(DAY_HOURS)..=run.to.div_euclid(DAY_HOURS) {
            match measured.lows.last_mut() {
                Some((of, low)) if *of == day => *low = last.min(*low),
                _ => measured.lows.push((day, last)),
            }
        }
    }
    measured.p95 = percentile95(values, measured.hours);
    measured
}

/// Of values with weights that sum up to `hours`, by nearest rank.
fn percentile95(values: &mut [(u64, i64)], hours: i64) -> Option<u64> {
    values.sort_unstable();
    let mut counted = 0_i64;
    values.iter().find_map(|(value, weight)| {
        counted += weight;
        (counted * 100 >= hours * 95).then_some(*value)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(hour: Hour, last: Option<u64>, most: Option<u64>) -> Mark {
        Mark { hour, last, most }
    }

    /// The same, hour by hour.
    fn naive(marks: &[Mark], (from, to): (Hour, Hour)) -> Measured {
        let mut expanded: Vec<(Hour, u64)> = Vec::new();
        let mut peak = None;
        for hour in from..=to {
            let here = marks.iter().find(|m| m.hour == hour);
            let in_force = marks.iter().rfind(|m| m.hour <= hour).and_then(|m| m.last);
            peak = peak.max(in_force).max(here.and_then(|m| m.most));
            expanded.extend(in_force.map(|value| (hour, value)));
        }
        let mut sorted: Vec<u64> = expanded.iter().map(|(_, value)| *value).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 95).div_ceil(100);
        let mut lows = std::collections::BTreeMap::new();
        for (hour, value) in &expanded {
            lows.entry(hour.div_euclid(24)).and_modify(|low: &mut u64| *low = (*low).min(*value)).or_insert(*value);
        }
        Measured {
            peak,
            lowest: sorted.first().copied(),
            p95: rank.checked_sub(1).map(|at| sorted[at]),
            hours: i64::try_from(sorted.len()).unwrap(),
            lows: lows.into_iter().collect(),
        }
    }

    proptest! {
        #[test]
        fn a_span_amounts_to_what_it_does_hour_by_hour(
            marks in prop::collection::btree_map(-30_i64..200, (prop::option::of(0_u64..9), prop::option::of(0_u64..12)), 0..40),
            from in 0_i64..100,
            length in 0_i64..150,
        ) {
            let most = |last: Option<u64>, most: Option<u64>| most.max(last);
            let marks: Vec<Mark> = marks.into_iter().map(|(hour, (last, high))| mark(hour, last, most(last, high))).collect();
            let span = (from, from + length);
            prop_assert_eq!(measure(runs(&marks, span), &mut Vec::new()), naive(&marks, span));
        }
    }

    #[test]
    fn what_held_for_long_counts_for_long_and_a_peak_between_samples_counts_as_peak_alone() {
        // A hundred hours: 95 of 10, then five of 99, in one of which 120 were in use at once.
        let marks = [mark(0, Some(10), Some(10)), mark(95, Some(99), Some(120))];
        let measured = measure(runs(&marks, (0, 99)), &mut Vec::new());
        assert_eq!((measured.peak, measured.p95, measured.hours), (Some(120), Some(10), 100));
        let measured = measure(runs(&marks, (0, 100)), &mut Vec::new());
        assert_eq!(measured.p95, Some(99), "six of 101 hours");
    }

    #[test]
    fn nothing_is_guessed_across_hours_of_which_nothing_is_known() {
        let marks = [mark(0, Some(10), Some(10)), mark(5, None, Some(12)), mark(50, Some(20), Some(20))];
        let measured = measure(runs(&marks, (2, 59)), &mut Vec::new());
        assert_eq!((measured.hours, measured.peak, measured.lowest), (3 + 10, Some(20), Some(10)));
        assert_eq!(measure(runs(&marks, (6, 49)), &mut Vec::new()), Measured::default());
    }
}
