//! What a person means by a time. Pure: now and the zone are arguments.
//!
//! RFC 3339, `now`, `-2h`, `2h ago`, `today`, `yesterday`, `HH:MM[:SS]` (of today), `YYYY-MM-DD[ HH:MM[:SS]]`, `@unix`.
//! Texts without an offset are local. A local time that happens twice or never is refused with both offsets.

use highwater_ipc::time::parse_rfc3339_ms;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// An instant as it was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The present, whenever the question arrives.
    Now,
    /// Milliseconds since 1970.
    At(i64),
}

/// Why a text is no time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    /// Not one of the forms.
    #[error(
        "{text:?} is no time: use RFC 3339 (2026-11-24T03:12:00Z), now, -2h, `2h ago`, today, yesterday, HH:MM[:SS], \
         `YYYY-MM-DD[ HH:MM[:SS]]` or @unix"
    )]
    Form {
        /// The text.
        text: String,
    },
    /// The clocks were set back: it happened twice.
    #[error(
        "{text} happened twice in {zone}, at {first} and again at {second}, because the clocks were set back: \
         say which, e.g. {example}"
    )]
    Twice {
        /// The text.
        text: String,
        /// The zone.
        zone: String,
        /// The offset the first time.
        first: String,
        /// The offset the second time.
        second: String,
        /// The first one, in full.
        example: String,
    },
    /// The clocks were set forward: it never happened.
    #[error(
        "{text} never happened in {zone}: the clocks were set forward from {before} to {after}; say what is meant with \
         an offset, e.g. {example}"
    )]
    Never {
        /// The text.
        text: String,
        /// The zone.
        zone: String,
        /// The offset before.
        before: String,
        /// The offset after.
        after: String,
        /// With the offset before, in full.
        example: String,
    },
}

/// Reads a time; `now_ms` and `zone` are those of whoever asks.
pub fn parse(text: &str, now_ms: i64, zone: &TimeZone) -> Result<When, WhenError> {
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("now") {
        return Ok(When::Now);
    }
    if let Some(at_ms) = parse_rfc3339_ms(trimmed).or_else(|| unix(trimmed)).or_else(|| relative(trimmed, now_ms)) {
        return Ok(When::At(at_ms));
    }
    let form = || WhenError::Form { text: text.to_owned() };
    let local = civil(trimmed, now_ms, zone).ok_or_else(form)?;
    resolve(trimmed, local, zone).map(When::At)
}

/// A time as it was typed, if it has one of the forms; what it means is known once clock and zone are.
pub fn typed(text: &str) -> Result<String, WhenError> {
    // In UTC every local time happens once.
    parse(text, 0, &TimeZone::UTC).map(|_| text.to_owned())
}

/// Whether a text is read relative to a clock: then it matters whose.
pub fn needs_clock(text: &str) -> bool {
    let text = text.trim();
    let of_today = ["today", "yesterday"].iter().any(|word| text.eq_ignore_ascii_case(word));
    of_today || relative(text, 0).is_some() || (text.contains(':') && !text.contains('-'))
}

/// An instant as people read it, local with its offset: `2026-11-24 03:12:04 +0100`. An instant outside the years -9999
/// to 9999 is shown as the nearest inside.
pub fn show(ms: i64, zone: &TimeZone) -> String {
    format!("{} {}", show_date(ms, zone), show_time(ms, zone))
}

/// The date of [`show`].
pub fn show_date(ms: i64, zone: &TimeZone) -> String {
    zone.to_datetime(timestamp(ms)).strftime("%Y-%m-%d").to_string()
}

/// The time of day of [`show`], with its offset.
pub fn show_time(ms: i64, zone: &TimeZone) -> String {
    let at = timestamp(ms);
    let seconds = zone.to_offset(at).seconds();
    let (sign, away) = if seconds < 0 { ('-', seconds.unsigned_abs()) } else { ('+', seconds.unsigned_abs()) };
    let clock = zone.to_datetime(at).strftime("%H:%M:%S").to_string();
    format!("{clock} {sign}{:02}{:02}", away / 3600, away / 60 % 60)
}

/// A duration as people say it: the two largest units, e.g. `3 h 12 min`.
pub fn show_duration(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let Some(first) = parts.iter().position(|(n, _)| *n > 0) else {
        return if ms < 1000 { format!("{} ms", ms.max(0)) } else { "0 s".to_owned() };
    };
    let shown = parts.iter().skip(first).take(2).filter(|(n, _)| *n > 0);
    shown.map(|(n, unit)| format!("{n} {unit}")).collect::<Vec<_>>().join(" ")
}

fn timestamp(ms: i64) -> Timestamp {
    let nearest = if ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(ms).unwrap_or(nearest)
}

/// `@1795558861` or `@1795558861.250`.
fn unix(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('@')?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    let ms: i64 = thousandths.parse().ok()?;
    let ms = if whole.starts_with('-') { -ms } else { ms };
    seconds.checked_mul(1000)?.checked_add(ms)
}

/// `-2h`, `-1h30m`, `2h ago`, `90 s ago`.
fn relative(text: &str, now_ms: i64) -> Option<i64> {
    let amount = match text.strip_suffix("ago") {
        Some(amount) => amount.trim(),
        None => text.strip_prefix('-')?,
    };
    now_ms.checked_sub(duration_ms(amount)?)
}

/// `2h`, `1h30m`, `90 s`, `7 days`.
fn duration_ms(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut sum = 0_i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 7 * 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_ms)?)?;
        rest = tail.trim_start();
    }
    Some(sum)
}

fn civil(text: &str, now_ms: i64, zone: &TimeZone) -> Option<DateTime> {
    let today = || zone.to_datetime(timestamp(now_ms)).date();
    if text.eq_ignore_ascii_case("today") {
        return Some(today().to_datetime(Time::midnight()));
    }
    if text.eq_ignore_ascii_case("yesterday") {
        return today().yesterday().ok().map(|d| d.to_datetime(Time::midnight()));
    }
    match text.split_once([' ', 'T']) {
        Some((date, time)) => Some(date_of(date)?.to_datetime(time_of(time.trim())?)),
        None if text.contains(':') => Some(today().to_datetime(time_of(text)?)),
        None => Some(date_of(text)?.to_datetime(Time::midnight())),
    }
}

/// `YYYY-MM-DD` and nothing shorter.
fn date_of(text: &str) -> Option<Date> {
    let numbers: Vec<&str> = text.split('-').collect();
    let [year, month, day] = numbers.as_slice() else { return None };
    let digits = |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// `HH:MM` or `HH:MM:SS`.
fn time_of(text: &str) -> Option<Time> {
    let numbers: Vec<&str> = text.split(':').collect();
    let number = |t: &str| -> Option<i8> {
        if (1..=2).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit()) { t.parse().ok() } else { None }
    };
    match numbers.as_slice() {
        [hour, minute] if minute.len() == 2 => Time::new(number(hour)?, number(minute)?, 0, 0).ok(),
        [hour, minute, second] if minute.len() == 2 && second.len() == 2 => {
            Time::new(number(hour)?, number(minute)?, number(second)?, 0).ok()
        }
        _ => None,
    }
}

fn resolve(text: &str, local: DateTime, zone: &TimeZone) -> Result<i64, WhenError> {
    let zone_name = || zone.iana_name().unwrap_or("the local zone").to_owned();
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let full = |offset: jiff::tz::Offset| format!("{}{}", local.strftime("%Y-%m-%dT%H:%M:%S"), colon(offset));
    let (text, zone) = (text.to_owned(), zone_name());
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => {
            let out_of_range = |_| WhenError::Form { text: text.clone() };
            offset.to_timestamp(local).map(|t| t.as_millisecond()).map_err(out_of_range)
        }
        AmbiguousOffset::Fold { before, after } => {
            Err(WhenError::Twice { text, zone, first: colon(before), second: colon(after), example: full(before) })
        }
        AmbiguousOffset::Gap { before, after } => {
            Err(WhenError::Never { text, zone, before: colon(before), after: colon(after), example: full(before) })
        }
    }
}

/// An offset as RFC 3339 writes it.
fn colon(offset: jiff::tz::Offset) -> String {
    let seconds = offset.seconds();
    let (sign, away) = if seconds < 0 { ('-', seconds.unsigned_abs()) } else { ('+', seconds.unsigned_abs()) };
    format!("{sign}{:02}:{:02}", away / 3600, away / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-24 03:12:04.500 in Berlin (+01:00).
    const NOW: i64 = 1_795_486_324_500;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    #[test]
    fn every_form_of_the_contract_means_what_it_says() {
        let table = [
            ("2026-11-24T03:12:04.500+01:00", "2026-11-24 03:12:04 +0100"),
            ("2026-11-24T02:12:04Z", "2026-11-24 03:12:04 +0100"),
            ("-2h", "2026-11-24 01:12:04 +0100"),
            ("2h ago", "2026-11-24 01:12:04 +0100"),
            ("-1h30m", "2026-11-24 01:42:04 +0100"),
            ("90 seconds ago", "2026-11-24 03:10:34 +0100"),
            ("-30d", "2026-10-25 03:12:04 +0100"),
            ("-31d", "2026-10-24 04:12:04 +0200"),
            ("1 week ago", "2026-11-17 03:12:04 +0100"),
            ("today", "2026-11-24 00:00:00 +0100"),
            ("yesterday", "2026-11-23 00:00:00 +0100"),
            ("02:30", "2026-11-24 02:30:00 +0100"),
            ("2:30", "2026-11-24 02:30:00 +0100"),
            ("02:30:59", "2026-11-24 02:30:59 +0100"),
            ("2026-07-01", "2026-07-01 00:00:00 +0200"),
            ("2026-07-01 12:00", "2026-07-01 12:00:00 +0200"),
            ("2026-07-01 12:00:07", "2026-07-01 12:00:07 +0200"),
            ("2026-07-01T12:00:07", "2026-07-01 12:00:07 +0200"),
            (" 2026-07-01 ", "2026-07-01 00:00:00 +0200"),
            ("@0", "1970-01-01 01:00:00 +0100"),
            ("@1795486324.5", "2026-11-24 03:12:04 +0100"),
            ("@-1", "1970-01-01 00:59:59 +0100"),
        ];
        for (text, means) in table {
            match parse(text, NOW, &berlin()) {
                Ok(When::At(ms)) => assert_eq!(show(ms, &berlin()), means, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(parse("Now", NOW, &berlin()), Ok(When::Now));
        assert_eq!(parse("@1.25", NOW, &berlin()), Ok(When::At(1_250)));
    }

    #[test]
    fn other_texts_are_refused_with_the_forms() {
        let others = [
            "",
            "-",
            "ago",
            "-2",
            "2h",
            "-2x",
            "25:00",
            "12:60",
            "12:5",
            "12",
            "tomorrow",
            "2026-13-01",
            "2026-02-30",
            "26-02-03",
            "2026-07-01 12",
            "@",
            "@x",
            "@1.",
            "--2h",
            "-99999999999999d",
            "24/11/2026",
        ];
        for text in others {
            assert!(matches!(parse(text, NOW, &berlin()), Err(WhenError::Form { .. })), "{text:?}");
            assert!(typed(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_local_time_that_happens_twice_lists_both_offsets() {
        assert_eq!(typed("2026-10-25 02:30").unwrap(), "2026-10-25 02:30", "that is no question of form");
        let error = parse("2026-10-25 02:30", NOW, &berlin()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2026-10-25 02:30 happened twice in Europe/Berlin, at +02:00 and again at +01:00, because the clocks were \
             set back: say which, e.g. 2026-10-25T02:30:00+02:00"
        );
    }

    #[test]
    fn a_local_time_that_never_happens_lists_both_offsets() {
        let error = parse("2026-03-29 02:30", NOW, &berlin()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "2026-03-29 02:30 never happened in Europe/Berlin: the clocks were set forward from +01:00 to +02:00; say \
             what is meant with an offset, e.g. 2026-03-29T02:30:00+01:00"
        );
    }

    #[test]
    fn only_times_relative_to_a_clock_need_one() {
        for text in ["-2h", "2h ago", "today", "yesterday", "03:12"] {
            assert!(needs_clock(text), "{text}");
        }
        for text in ["now", "@5", "2026-11-24T03:12:00Z", "2026-11-24", "2026-11-24 03:12"] {
            assert!(!needs_clock(text), "{text}");
        }
    }

    #[test]
    fn absurd_instants_are_shown_as_the_nearest_one() {
        assert!(show(i64::MAX, &TimeZone::UTC).starts_with("9999-12-30"));
        assert!(show(i64::MIN, &TimeZone::UTC).starts_with("-9999"));
    }

    #[test]
    fn a_duration_shows_its_two_largest_units() {
        assert_eq!(show_duration(999), "999 ms");
        assert_eq!(show_duration(11_520_000), "3 h 12 min");
        assert_eq!(show_duration(86_400_000), "1 d");
        assert_eq!(show_duration(90_000), "1 min 30 s");
        assert_eq!(show_duration(-5), "0 ms");
    }
}
