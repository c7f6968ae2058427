//! When a notice is tried again. Pure: clock and randomness are handed in.

/// Between the first try and the second, milliseconds, about.
pub const FIRST_MS: i64 = 5_000;
/// Between two tries at the most.
pub const LONGEST_MS: i64 = 600_000;

/// The wait after so many failed tries: doubles from `first_ms` to [`LONGEST_MS`], and is that or up to half of it less by
/// `random`, so that receivers do not get all notices in step when they are back. `asked_ms` is what the receiver itself
/// asked for; it is heard up to the longest wait.
pub fn wait_ms(first_ms: i64, tries: u32, random: u16, asked_ms: Option<i64>) -> i64 {
    let doubled = first_ms.saturating_mul(1 << tries.saturating_sub(1).min(20)).clamp(0, LONGEST_MS);
    let less = (doubled / 2).saturating_mul(i64::from(random)) / i64::from(u16::MAX);
    (doubled - less).max(asked_ms.unwrap_or(0).clamp(0, LONGEST_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest_and_vary_by_half() {
        assert_eq!((1..=4).map(|n| wait_ms(5_000, n, 0, None)).collect::<Vec<_>>(), [5_000, 10_000, 20_000, 40_000]);
        assert_eq!((wait_ms(5_000, 1, u16::MAX, None), wait_ms(5_000, u32::MAX, 0, None)), (2_500, LONGEST_MS));
    }

    #[test]
    fn a_receiver_that_asks_for_more_time_gets_it_within_bounds() {
        assert_eq!(wait_ms(5_000, 1, 0, Some(30_000)), 30_000);
        assert_eq!(wait_ms(5_000, 1, 0, Some(i64::MAX)), LONGEST_MS);
        assert_eq!(wait_ms(5_000, 2, 0, Some(-1)), 10_000);
    }
}
