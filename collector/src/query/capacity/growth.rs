//! How fast use grows, and when the limit is reached at that pace. Pure.
//!
//! What matters is what stays: a service that takes twenty arrays each morning and gives them back each night does not grow,
//! one that forgets an array a day does. So growth is that of the *lows* of the days. Its pace is the median of the slopes
//! between all pairs of days (Theil and Sen): up to a quarter of the days may be anything. A restart, which frees at once
//! what was forgotten over days, is no negative growth: pairs on both sides of one are not compared. That is cautious: what
//! is restarted often enough never reaches its limit.
//!
//! Whether it grows at all is asked apart (Mann and Kendall): if the order of the days had no meaning, rises would outweigh
//! falls as much as they do in 25 of 1,000 cases at most. Else there is no pace to go by, and no number of days is told.

/// How many lows are compared, at most: of longer spans the lows of several days are one.
const MOST_POINTS: i64 = 60;
/// Fewer days say nothing of a trend.
const FEWEST_POINTS: usize = 5;
/// The normal deviate that is exceeded by chance in 25 of 1,000 cases.
const CERTAIN: f64 = 1.96;
/// A limit that is further away is no forecast any more: ten years.
const MOST_DAYS: f64 = 3_650.0;

/// Whether use grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// It grows, beyond what chance does.
    Growing,
    /// It shrinks, beyond what chance does.
    Shrinking,
    /// Neither.
    Steady,
    /// There are too few days to say.
    Unknown,
}

impl Trend {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Trend::Growing => "growing",
            Trend::Shrinking => "shrinking",
            Trend::Steady => "steady",
            Trend::Unknown => "unknown",
        }
    }
}

/// How fast use grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Whether it does.
    pub trend: Trend,
    /// By how much a day, the median; `None` = too few days.
    pub a_day: Option<f64>,
    /// A quarter of the slopes is below this one, a quarter above that one.
    pub quarters: (f64, f64),
}

impl Growth {
    /// Of which nothing is known.
    pub const UNKNOWN: Growth = Growth { trend: Trend::Unknown, a_day: None, quarters: (0.0, 0.0) };

    /// The same, `factor` times as fast.
    pub fn times(self, factor: f64) -> Growth {
        let (low, high) = self.quarters;
        Growth { a_day: self.a_day.map(|a_day| a_day * factor), quarters: (low * factor, high * factor), ..self }
    }

    /// Days until `room` more are in use: at this pace, at the soonest and at the latest. `None` = it does not grow, or
    /// that is more than ten years away; of the latest alone: as likely as not never.
    #[allow(clippy::cast_precision_loss, reason = "days are told with two digits")]
    pub fn days_left(&self, room: u64) -> Option<DaysLeft> {
        let at = |a_day: f64| (a_day > 0.0).then(|| room as f64 / a_day).filter(|days| *days <= MOST_DAYS);
        let days = self.a_day.filter(|_| self.trend == Trend::Growing).and_then(at)?;
        Some(DaysLeft { days, soonest: at(self.quarters.1).unwrap_or(days), latest: at(self.quarters.0) })
    }
}

/// When a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DaysLeft {
    /// At the median pace.
    pub days: f64,
    /// At the pace that a quarter of the slopes exceeds.
    pub soonest: f64,
    /// At the pace that a quarter of the slopes falls short of; `None` = not within ten years.
    pub latest: Option<f64>,
}

/// As precise as a forecast is: two digits, cut, so that nothing seems further away than it is.
pub fn two_digits(days: f64) -> f64 {
    if days >= 1_000.0 {
        (days / 100.0).floor() * 100.0
    } else if days >= 100.0 {
        (days / 10.0).floor() * 10.0
    } else {
        days.floor()
    }
}

/// Growth of what is in use at least, by day; days ascend. `slopes` is room that is used again.
#[allow(clippy::cast_precision_loss, reason = "a pace is told with few digits")]
pub fn growth(lows: &[(i64, u64)], slopes: &mut Vec<f64>) -> Growth {
    let points = thinned(lows);
    if points.len() < FEWEST_POINTS {
        return Growth::UNKNOWN;
    }
    if points.windows(2).all(|pair| matches!(pair, [a, b] if a.1 == b.1)) {
        return Growth { trend: Trend::Steady, a_day: Some(0.0), quarters: (0.0, 0.0) };
    }
    slopes.clear();
    let (mut rises, mut variance) = (0_i64, 0.0);
    for piece in points.split_inclusive(restarts(&points)) {
        let n = piece.len() as f64;
        variance += n * (n - 1.0) * (2.0 * n + 5.0) / 18.0;
        for (at, (day, low)) in piece.iter().enumerate() {
            for (later_day, later) in piece.iter().skip(at + 1) {
                let by = difference(*later, *low);
                rises += i64::from(by > 0.0) - i64::from(by < 0.0);
                slopes.push(by / (later_day - day) as f64);
            }
        }
    }
    let Some([low, a_day, high]) = quartiles(slopes) else { return Growth::UNKNOWN };
    // One less: the count goes in steps, the normal deviate does not.
    let deviate = (rises.unsigned_abs().saturating_sub(1)) as f64 / f64::sqrt(variance);
    let trend = match (deviate >= CERTAIN, rises > 0) {
        (true, true) if a_day > 0.0 => Trend::Growing,
        (true, false) if a_day < 0.0 => Trend::Shrinking,
        _ => Trend::Steady,
    };
    Growth { trend, a_day: Some(a_day), quarters: (low, high) }
}

/// At most [`MOST_POINTS`].
fn thinned(lows: &[(i64, u64)]) -> Vec<(i64, u64)> {
    let (Some((first, _)), Some((last, _))) = (lows.first(), lows.last()) else { return Vec::new() };
    let together = (last - first + 1 + MOST_POINTS - 1) / MOST_POINTS;
    let mut points: Vec<(i64, u64)> = Vec::new();
    for (day, low) in lows {
        let begin = first + (day - first) / together * together;
        match points.last_mut() {
            Some((of, lowest)) if *of == begin => *lowest = (*lowest).min(*low),
            _ => points.push((begin, *low)),
        }
    }
    points
}

/// Says after which points use fell as only a restart, or somebody who cleans up, makes it fall: by half of all that it
/// ever moved, and by more than three usual days do.
fn restarts(points: &[(i64, u64)]) -> impl FnMut(&(i64, u64)) -> bool + use<> {
    let lows = || points.iter().map(|(_, low)| *low);
    let range = lows().max().unwrap_or(0).saturating_sub(lows().min().unwrap_or(0));
    let mut moves: Vec<u64> = lows().zip(lows().skip(1)).map(|(a, b)| a.abs_diff(b)).collect();
    moves.sort_unstable();
    let usual = moves.get(moves.len() / 2).copied().unwrap_or(0);
    let least = (range / 2).max(usual.saturating_mul(3)).max(1);
    let falls: Vec<i64> = points
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] if a.1.saturating_sub(b.1) >= least => Some(a.0),
            _ => None,
        })
        .collect();
    move |(day, _)| falls.binary_search(day).is_ok()
}

#[allow(clippy::cast_precision_loss, reason = "a pace is told with few digits")]
fn difference(later: u64, before: u64) -> f64 {
    let size = later.abs_diff(before) as f64;
    if later < before { -size } else { size }
}

/// A quarter, half and three quarters of the numbers are not above them. The outer two are looked for in the half that
/// they are in.
fn quartiles(numbers: &mut [f64]) -> Option<[f64; 3]> {
    let last = numbers.len().checked_sub(1)?;
    let [low_at, at, high_at] = [1, 2, 3].map(|quarters| last * quarters / 4);
    let (below, median, above) = numbers.select_nth_unstable_by(at, f64::total_cmp);
    let of = |part: &mut [f64], at: usize| *part.select_nth_unstable_by(at, f64::total_cmp).1;
    let low = if low_at < at { of(below, low_at) } else { *median };
    let high = if high_at > at { of(above, high_at - at - 1) } else { *median };
    Some([low, *median, high])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lows: impl IntoIterator<Item = u64>) -> Growth {
        let lows: Vec<(i64, u64)> = (20_000_i64..).zip(lows).collect();
        growth(&lows, &mut Vec::new())
    }

    #[test]
    fn one_a_day_is_seven_a_week_and_the_room_decides_when() {
        let growth = of(20..50);
        assert_eq!((growth.trend, growth.a_day), (Trend::Growing, Some(1.0)));
        assert_eq!(growth.days_left(79).unwrap(), DaysLeft { days: 79.0, soonest: 79.0, latest: Some(79.0) });
        assert_eq!(growth.days_left(0).unwrap().days, 0.0);
        assert_eq!(growth.days_left(4_000), None, "more than ten years");
        assert_eq!(growth.times(2.0).days_left(80).unwrap().days, 40.0);
    }

    #[test]
    fn what_is_given_back_by_a_restart_is_no_negative_growth() {
        // Ten a day, all free again each week.
        let sawtooth = of((0..28).map(|day| 100 + day % 7 * 10));
        assert_eq!((sawtooth.trend, sawtooth.a_day), (Trend::Growing, Some(10.0)));
        // The same, and a restart that frees not all.
        let stairs = of((0..28).map(|day| 100 + day / 14 * 30 + day % 14 * 10));
        assert_eq!((stairs.trend, stairs.a_day), (Trend::Growing, Some(10.0)));
    }

    #[test]
    fn noise_a_single_step_and_too_few_days_are_no_growth() {
        let trend = |lows: &[u64]| of(lows.iter().copied()).trend;
        assert_eq!(trend(&[20, 21, 20, 21, 20, 21, 20, 21, 20, 21, 20, 21]), Trend::Steady);
        assert_eq!(trend(&[20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 30]), Trend::Steady);
        assert_eq!(trend(&[7; 30]), Trend::Steady);
        assert_eq!(trend(&[1, 2, 3, 4]), Trend::Unknown);
        assert_eq!(of([7; 30]).days_left(1), None);
        assert_eq!(of([30, 29, 27, 26, 24, 22, 21, 20, 18]).trend, Trend::Shrinking);
    }

    #[test]
    fn a_forecast_is_told_with_two_digits_and_never_later_than_it_is() {
        for (days, told) in [(0.4, 0.0), (9.99, 9.0), (47.6, 47.0), (129.0, 120.0), (999.0, 990.0), (1_990.0, 1_900.0)]
        {
            assert_eq!(two_digits(days), told, "{days}");
        }
    }

    proptest! {
        #[test]
        fn quartiles_are_where_they_are_in_order(numbers in prop::collection::vec(-9_i8..9, 0..40)) {
            let mut numbers: Vec<f64> = numbers.into_iter().map(f64::from).collect();
            let found = quartiles(&mut numbers);
            numbers.sort_unstable_by(f64::total_cmp);
            let expected = numbers.len().checked_sub(1).map(|last| [1, 2, 3].map(|n| numbers[last * n / 4]));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_steady_pace_is_found_through_a_quarter_of_wrong_days(
            pace in 1_u64..1_000, days in 12_u64..200, wrong in prop::collection::vec((0_u64..200, 0_u64..40), 0..3),
        ) {
            let mut lows: Vec<u64> = (0..days).map(|day| 1_000 + day * pace).collect();
            for (day, by) in wrong {
                if let Some(low) = lows.get_mut(usize::try_from(day).unwrap()) {
                    *low = low.saturating_add(by);
                }
            }
            let a_day = of(lows).a_day.unwrap();
            prop_assert!((a_day - pace as f64).abs() <= pace as f64 * 0.35 + 1.0, "{} for {}", a_day, pace);
        }

        #[test]
        fn no_days_make_it_panic(lows in prop::collection::vec((0_i64..400, any::<u64>()), 0..90), room: u64) {
            let mut lows = lows;
            lows.sort_unstable();
            lows.dedup_by_key(|(day, _)| *day);
            let growth = growth(&lows, &mut Vec::new());
            let left = growth.days_left(room);
            prop_assert!(left.is_none_or(|left| left.days >= 0.0 && left.soonest <= left.days));
        }
    }
}
