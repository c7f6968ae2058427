//! The partition of a record: the UTC day of its own time, or one fixed day where that cannot be believed.

const DAY_MS: i64 = 86_400_000;
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
}
