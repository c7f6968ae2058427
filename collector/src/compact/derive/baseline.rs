//! Where partitions begin: at the first of a month or a year.

use crate::store::day::Day;

const DAY_MS: i64 = 86_400_000;
/// 2020-01-01: times before it are not believed, and their one partition is never dropped.
const FIRST_DAY: i32 = 18_262;
/// 10000-01-01, likewise.
const END_DAY: i32 = 2_932_897;
/// The most baselines of one series between two samples, the latest: ten years of months. Whatever a clock claims, the
/// work is bounded.
const MOST: usize = 120;

/// The firsts of months, or years (`first_of`), after `since_ms` up to `until_ms`, the latest first.
pub(super) fn between(since_ms: i64, until_ms: i64, first_of: fn(Day) -> Day) -> impl Iterator<Item = i64> {
    let until = until_ms.min(i64::from(END_DAY).saturating_mul(DAY_MS).saturating_sub(1));
    let begin_ms = |day: Day| i64::from(day.0).saturating_mul(DAY_MS);
    let first = Some(first_of(Day::of(until)));
    let firsts = std::iter::successors(first, move |day| (day.0 > FIRST_DAY).then(|| first_of(day.plus(-1))));
    firsts.take(MOST).take_while(move |day| day.0 >= FIRST_DAY && begin_ms(*day) > since_ms).map(begin_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        highwater_ipc::time::parse_rfc3339_ms(text).unwrap()
    }

    #[test]
    fn partitions_begin_at_the_first_of_each_month_or_year_in_utc() {
        let (since, until) = (ms("2025-11-30T23:59:59.999Z"), ms("2026-02-01T00:00:00Z"));
        let months: Vec<i64> = between(since, until, Day::month).collect();
        let firsts = ["2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z", "2025-12-01T00:00:00Z"];
        assert_eq!(months, firsts.map(ms));
        assert_eq!(between(since, until, Day::year).collect::<Vec<_>>(), [ms("2026-01-01T00:00:00Z")]);
        assert_eq!(between(until, until, Day::month).count(), 0, "the instant itself is a sample's");
        assert_eq!(between(until, until + 1, Day::month).count(), 0);
    }

    #[test]
    fn a_clock_that_claims_anything_costs_little() {
        for (since, until) in [(i64::MIN, i64::MAX), (0, i64::MAX), (i64::MAX, i64::MIN)] {
            assert!(between(since, until, Day::month).count() <= MOST);
        }
        assert_eq!(between(i64::MIN, 1_577_836_799_999, Day::month).count(), 0, "before 2020");
        assert_eq!(between(i64::MIN, 1_577_836_800_000, Day::month).count(), 1);
    }
}
