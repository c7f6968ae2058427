//! Instants of a host, cut once when sampled; how they are written down.

use alloc::format;
use alloc::string::String;

/// When a sample began, on the sampled host.
///
/// Order in a stream is (epoch, seq), never this: wall clocks are set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At {
    /// Wall clock (CLOCK_REALTIME), milliseconds since 1970, cut (not rounded) when sampled.
    pub wall_ms: i64,
    /// CLOCK_BOOTTIME, microseconds since boot, suspend included.
    pub boot_us: u64,
}

impl At {
    /// The change of the wall clock against the boot clock since `before`, milliseconds: 0 while nobody sets the clock.
    /// Saturates on absurd input.
    pub fn step_since(&self, before: &At) -> i64 {
        let boot = i128::from(self.boot_us) / 1000 - i128::from(before.boot_us) / 1000;
        let wall = i128::from(self.wall_ms) - i128::from(before.wall_ms);
        let clamped = (wall - boot).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        i64::try_from(clamped).unwrap_or(i64::MAX)
    }

    /// Boot time since `before`, microseconds; 0 if it ran backwards (another boot).
    pub fn boot_since(&self, before: &At) -> u64 {
        self.boot_us.saturating_sub(before.boot_us)
    }
}

/// The source of instants, handed to whatever needs one. The real ones live in the two binaries.
pub trait Clock: Send + Sync {
    /// Wall and boot time now.
    fn now(&self) -> At;
}

/// A host's time zone, as far as rendering needs it: the database of zones is the caller's.
pub trait Zone {
    /// Seconds east of UTC in force at that instant (seconds since 1970); total, also for absurd instants.
    fn offset_at(&self, unix_seconds: i64) -> i32;
}

/// UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utc;

impl Zone for Utc {
    fn offset_at(&self, _: i64) -> i32 {
        0
    }
}

/// An instant as a calendar shows it (proleptic Gregorian).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Civil {
    /// Year; 0 is 1 BC.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59: there are no leap seconds in Unix time.
    pub second: u8,
    /// 0 = Sunday to 6 = Saturday.
    pub weekday: u8,
}

impl Civil {
    /// Seconds since 1970 in that zone. Total: saturates at the ends of `i64`.
    pub fn at(unix_seconds: i64, zone: &dyn Zone) -> Civil {
        let local = unix_seconds.saturating_add(i64::from(zone.offset_at(unix_seconds)));
        let (day_number, in_day) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        // Years begin in March here, so that the leap day is a year's last; an era is 400 of them, 146,097 days.
        let days = day_number + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Civil {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: small(month),
            day: small(day_of_year - (153 * march_month + 2) / 5 + 1),
            hour: small(in_day / 3_600),
            minute: small(in_day / 60 % 60),
            second: small(in_day % 60),
            weekday: small((day_number + 4).rem_euclid(7)),
        }
    }

    /// `Sun` to `Sat`.
    pub fn weekday_name(&self) -> &'static str {
        const NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
        NAMES.get(usize::from(self.weekday)).copied().unwrap_or("???")
    }

    /// `Jan` to `Dec`.
    pub fn month_name(&self) -> &'static str {
        const NAMES: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        usize::from(self.month).checked_sub(1).and_then(|i| NAMES.get(i)).copied().unwrap_or("???")
    }
}

/// The first instant that RFC 3339 can write: 0000-01-01T00:00:00.000Z, milliseconds since 1970.
pub const RFC3339_MIN_MS: i64 = -62_167_219_200_000;
/// The last one: 9999-12-31T23:59:59.999Z.
pub const RFC3339_MAX_MS: i64 = 253_402_300_799_999;

/// RFC 3339 in UTC with milliseconds, e.g. `2026-11-24T03:12:00.000Z`. What lies outside the years 0 to 9999 (a
/// hostile host's clock) is written as the nearest instant inside.
pub fn format_rfc3339_ms(unix_ms: i64) -> String {
    let ms = unix_ms.clamp(RFC3339_MIN_MS, RFC3339_MAX_MS);
    let t = Civil::at(ms.div_euclid(1_000), &Utc);
    let (year, month, day, hour, minute, second) = (t.year, t.month, t.day, t.hour, t.minute, t.second);
    let thousandth = ms.rem_euclid(1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{thousandth:03}Z")
}

/// Milliseconds since 1970 of an RFC 3339 text with any offset; digits beyond milliseconds are cut, second 60 is the
/// second after. `None`: no such text or no such day.
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let (year, month, day) = (digits(bytes, 0, 4)?, digits(bytes, 5, 2)?, digits(bytes, 8, 2)?);
    let (hour, minute, second) = (digits(bytes, 11, 2)?, digits(bytes, 14, 2)?, digits(bytes, 17, 2)?);
    let marks = [4, 7, 10, 13, 16].map(|i| bytes.get(i).copied().unwrap_or(0));
    let [b'-', b'-', b'T' | b't' | b' ', b':', b':'] = marks else { return None };
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (thousandth, rest) = fraction(bytes.get(19..)?)?;
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(rest, 1, 2)?, digits(rest, 4, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let east = hours * 3_600 + minutes * 60;
            if *sign == b'-' { -east } else { east }
        }
        _ => return None,
    };
    let seconds = day_number(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    Some(seconds * 1_000 + thousandth)
}

/// The number that `count` decimal digits from `start` on are.
fn digits(bytes: &[u8], start: usize, count: usize) -> Option<i64> {
    bytes
        .get(start..start + count)?
        .iter()
        .try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + i64::from(digit - b'0')))
}

/// Thousandths of a second from an optional `.ddd`, and what follows it.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(tail) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let len = tail.iter().take_while(|b| b.is_ascii_digit()).count();
    let digit = |i: usize| if i < len { tail.get(i).map_or(0, |b| i64::from(b - b'0')) } else { 0 };
    (len > 0).then(|| (digit(0) * 100 + digit(1) * 10 + digit(2), tail.get(len..).unwrap_or_default()))
}

fn days_in(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    day_number(next_year, next, 1) - day_number(year, month, 1)
}

/// Days since 1970 of a date (month 1 to 12); the inverse of [`Civil::at`].
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let march_year = year - i64::from(month <= 2);
    let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A number that the calendar keeps below 100.
fn small(n: i64) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn knows_leap_days_and_the_ends_of_the_years() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (RFC3339_MIN_MS, "0000-01-01T00:00:00.000Z"),
            (RFC3339_MAX_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(format_rfc3339_ms(ms), text);
            assert_eq!(parse_rfc3339_ms(text), Some(ms));
        }
    }

    #[test]
    fn writes_an_absurd_instant_as_the_nearest_possible_one() {
        assert_eq!(format_rfc3339_ms(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(format_rfc3339_ms(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn reads_offsets_and_any_fraction() {
        let at = Some(1_795_490_000_000);
        assert_eq!(parse_rfc3339_ms("2026-11-24T03:13:20Z"), at);
        assert_eq!(parse_rfc3339_ms("2026-11-24t04:13:20.0009+01:00"), at);
        assert_eq!(parse_rfc3339_ms("2026-11-23 21:43:20.000-05:30"), at);
    }

    #[test]
    fn refuses_what_is_no_instant() {
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T03:13:20",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-24T24:00:00Z",
            "2026-11-24T03:13:20.Z",
            "2026-11-24T03:13:20+0100",
            "2026-11-24T03:13:20Zx",
            "+026-11-24T03:13:20Z",
            "2026-11-24T03:13:20.\u{e9}Z",
        ] {
            assert_eq!(parse_rfc3339_ms(text), None, "{text}");
        }
    }

    #[test]
    fn the_calendar_survives_any_instant() {
        for seconds in [i64::MIN, i64::MAX, 0] {
            assert_ne!(Civil::at(seconds, &Utc).month_name(), "???");
        }
        assert_eq!(Civil::at(1_241_364_839, &Utc).weekday_name(), "Sun");
    }

    proptest! {
        #[test]
        fn rfc3339_loses_no_millisecond(ms in RFC3339_MIN_MS..=RFC3339_MAX_MS) {
            prop_assert_eq!(parse_rfc3339_ms(&format_rfc3339_ms(ms)), Some(ms));
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,40}") {
            let _ = parse_rfc3339_ms(&text);
        }
    }
}
