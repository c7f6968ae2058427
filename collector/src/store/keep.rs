//! How long what is kept: pure.

use std::str::FromStr;

use super::day::Day;
use super::partition::Table;

const DAY_MS: i64 = 86_400_000;
/// The longest that anything is kept: a hundred years.
const MOST_DAYS: u32 = 36_500;

/// How long what is kept. The present is kept however old it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Exact history; also imported history, from its import on. Default 90 days.
    pub chunks: Days,
    /// Use of limits in ten minutes, and of owners in an hour; flags from their end on. Default 400 days.
    pub usage: Days,
    /// Use of limits in an hour. Default 3 years.
    pub rollups: Days,
}

impl Default for Keep {
    fn default() -> Self {
        Self { chunks: Days(90), usage: Days(400), rollups: Days(3 * 365) }
    }
}

impl Keep {
    /// How long rows of a table are kept; `None` = it is no question of age: they go when they were moved.
    pub fn of(&self, table: Table) -> Option<Days> {
        match table {
            Table::Frame | Table::ChunkFresh => None,
            Table::Chunk => Some(self.chunks),
            Table::Usage | Table::OwnerUsage => Some(self.usage),
            Table::UsageHour | Table::UsagePack => Some(self.rollups),
        }
    }

    /// Whether a whole partition is older than is kept, by the collector's clock.
    pub fn is_expired(&self, table: Table, first: Day, now_ms: i64) -> bool {
        self.horizon_ms(table, now_ms).is_some_and(|horizon_ms| table.next(first).start_ms() < horizon_ms)
    }

    /// Collector's clock before which rows of a table are not kept.
    pub fn horizon_ms(&self, table: Table, now_ms: i64) -> Option<i64> {
        self.of(table).map(|days| now_ms.saturating_sub(i64::from(days.0).saturating_mul(DAY_MS)))
    }
}

/// A number of days, written `90d`, `13w` or `3y` (of 365 days), from one day to a hundred years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Days(pub u32);

impl FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [('d', 1), ('w', 7), ('y', 365)];
        let read = units.iter().find_map(|(unit, days)| {
            let number: u32 = text.strip_suffix(*unit)?.parse().ok()?;
            number.checked_mul(*days).filter(|days| (1..=MOST_DAYS).contains(days))
        });
        read.map(Days).ok_or_else(|| format!("{text:?} is no time to keep history: 1d to 100y, e.g. 90d, 13w or 3y"))
    }
}

impl std::fmt::Display for Days {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            days if days >= 730 && days.is_multiple_of(365) => write!(f, "{}y", days / 365),
            days => write!(f, "{days}d"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_goes_when_its_end_is_older_than_is_kept() {
        let keep = Keep::default();
        let monday = Day(20_815);
        let end = monday.plus(7).start_ms();
        let kept = 90 * DAY_MS;
        assert!(!keep.is_expired(Table::Chunk, monday, end + kept));
        assert!(keep.is_expired(Table::Chunk, monday, end + kept + 1));
        assert!(!keep.is_expired(Table::Usage, monday.month(), end + kept + 1));
        assert!(!keep.is_expired(Table::Frame, monday, i64::MAX));
    }

    #[test]
    fn times_to_keep_are_days_weeks_or_years() {
        for (text, days) in [("90d", 90), ("13w", 91), ("3y", 1_095), ("1d", 1), ("100y", 36_500)] {
            assert_eq!(text.parse(), Ok(Days(days)), "{text}");
        }
        for other in ["", "d", "90", "0d", "101y", "-1d", "4294967295y", "1.5d", "90 d", "9é"] {
            assert!(other.parse::<Days>().is_err(), "{other}");
        }
        assert_eq!([90, 400, 1_095].map(|d| Days(d).to_string()), ["90d", "400d", "3y"]);
    }
}
