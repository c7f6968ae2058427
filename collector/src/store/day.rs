//! The partition of a record: the UTC day of its own time, or one fixed day where that cannot be believed.

use jiff::Span;
use jiff::civil::Date;

const DAY_MS: i64 = 86_400_000;
/// 9999-12-31, in days since 1970.
const MOST_DAYS: i32 = 2_932_896;
/// 2020-01-01, in days since 1970.
const FIRST_BELIEVED: i64 = 18_262;

/// A UTC day, as days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

impl Day {
    /// The day of records whose time cannot be believed: 1970-01-01. A host booted in 1970, or far ahead, must not
    /// fail the batch of others, nor make partitions without end.
    pub const FALLBACK: Day = Day(0);

    /// The day of a host's clock, `None` if that lies outside 2020 .. the collector's now + 1 day.
    pub fn believed(wall_ms: i64, now_ms: i64) -> Option<Day> {
        let day = wall_ms.div_euclid(DAY_MS);
        let known = day >= FIRST_BELIEVED && wall_ms <= now_ms.saturating_add(DAY_MS);
        if known { i32::try_from(day).ok().map(Day) } else { None }
    }

    /// The day of the collector's own clock.
    pub fn of(wall_ms: i64) -> Day {
        i32::try_from(wall_ms.div_euclid(DAY_MS)).map_or(Day::FALLBACK, Day)
    }

    /// The Monday of its week; the fallback day is its own.
    pub fn week(self) -> Day {
        self.back_by(|date| i32::from(date.weekday().to_monday_zero_offset()))
    }

    /// The first of its month; the fallback day is its own.
    pub fn month(self) -> Day {
        self.back_by(|date| i32::from(date.day()) - 1)
    }

    /// The first of January of its year; the fallback day is its own.
    pub fn year(self) -> Day {
        self.back_by(|date| i32::from(date.day_of_year()) - 1)
    }

    fn back_by(self, days: impl Fn(Date) -> i32) -> Day {
        const EPOCH: Date = Date::constant(1970, 1, 1);
        let date = EPOCH.checked_add(Span::new().days(self.0.clamp(0, MOST_DAYS))).ok();
        match date.filter(|_| self != Self::FALLBACK) {
            Some(date) => Day(self.0 - days(date)),
            None => self,
        }
    }

    /// When it begins, milliseconds since 1970.
    pub fn start_ms(self) -> i64 {
        i64::from(self.0).saturating_mul(DAY_MS)
    }

    /// This many days later; saturates.
    pub fn plus(self, days: i32) -> Day {
        Day(self.0.saturating_add(days))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_558_861_000;

    #[test]
    fn a_time_outside_2020_to_tomorrow_is_not_believed() {
        assert_eq!(Day::believed(NOW, NOW), Some(Day(20_781)));
        assert_eq!(Day::believed(NOW + DAY_MS, NOW), Some(Day(20_782)));
        assert_eq!(Day::believed(1_577_836_800_000, NOW), Some(Day(18_262)));
        for wall in [NOW + DAY_MS + 1, 1_577_836_799_999, 0, -1, i64::MIN, i64::MAX] {
            assert_eq!(Day::believed(wall, NOW), None, "{wall}");
        }
    }

    #[test]
    fn weeks_begin_on_monday_months_and_years_on_their_first() {
        use jiff::Unit;
        use jiff::civil::date;
        let epoch = date(1970, 1, 1);
        let number = |d: jiff::civil::Date| Day(epoch.until((Unit::Day, d)).unwrap().get_days());
        for days in (1..80_000).step_by(13) {
            let day = epoch + Span::new().days(days);
            let (d, back) = (number(day), i64::from(day.weekday().to_monday_zero_offset()));
            assert_eq!(d.week(), number(day - Span::new().days(back)), "{day}");
            assert_eq!(d.month(), number(day.first_of_month()), "{day}");
            assert_eq!(d.year(), number(day.first_of_year()), "{day}");
        }
        assert_eq!([Day::FALLBACK.week(), Day::FALLBACK.month(), Day::FALLBACK.year()], [Day::FALLBACK; 3]);
    }
}
