//! A series as text: the CSV that `export --series` writes and `backtest` reads. Pure.

use crate::forecast::{Event, Row};

/// The first line.
pub const HEADER: &str = "at,used,limit,event";

/// Events and their words; an ordinary row has none.
const WORDS: [(Event, &str); 5] = [
    (Event::Sample, ""),
    (Event::GapStart, "gap_start"),
    (Event::GapEnd, "gap_end"),
    (Event::Reboot, "reboot"),
    (Event::LimitChange, "limit_change"),
];

/// The event that a word means.
pub fn event(word: &str) -> Option<Event> {
    WORDS.into_iter().find(|(_, known)| *known == word).map(|(event, _)| event)
}

/// A row as a line, without its end. Its time has milliseconds where it is no whole second: read again it is the same
/// number.
pub fn line(row: &Row) -> String {
    let word = WORDS.into_iter().find(|(event, _)| *event == row.event).map_or("", |(_, word)| word);
    format!("{},{},{},{word}", seconds(row.at), row.used, row.limit)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates; rows have whole milliseconds")]
fn seconds(at: f64) -> String {
    let ms = (at * 1000.0).round() as i64;
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    match ms % 1000 {
        0 => format!("{sign}{}", ms / 1000),
        part => format!("{sign}{}.{part:03}", ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_a_line_with_the_word_of_its_event() {
        let row = Row { at: 1_767_571_200.0, used: 0, limit: u64::MAX, event: Event::Reboot };
        assert_eq!(line(&row), "1767571200,0,18446744073709551615,reboot");
        let row = Row { at: -0.007, used: 3, limit: 4, event: Event::Sample };
        assert_eq!(line(&row), "-0.007,3,4,");
    }

    proptest! {
        /// As the evaluator has it from wall time in milliseconds.
        #[test]
        fn a_time_read_again_is_the_same_number(ms in 0_i64..253_402_300_799_000) {
            let at = ms as f64 / 1000.0;
            prop_assert_eq!(seconds(at).parse::<f64>().unwrap(), at);
        }
    }
}
