//! A series in a CSV file, row by row; only one row is in memory.

use std::io::{self, BufRead};

use thiserror::Error;

use crate::evaluate::csv::{self, HEADER};
use crate::forecast::Row;

/// The longest line that is read: longer is no series.
const LONGEST: u64 = 4_096;
/// The last second of the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// What is wrong with a file.
#[derive(Debug, Error)]
pub(super) enum SeriesError {
    /// Cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// Not a file of a series.
    #[error("line 1 is {found:?}: make it the header {HEADER}")]
    Header { found: String },
    /// No four columns.
    #[error("line {line} has {found} columns: at,used,limit,event are expected, the event may be empty")]
    Columns { line: u64, found: usize },
    /// A value that is none.
    #[error("line {line}: {column} is {found:?}: {expected}")]
    Value { line: u64, column: &'static str, found: String, expected: &'static str },
    /// Too long, or not text.
    #[error("line {line} is no text of at most {LONGEST} bytes: is this a CSV file?")]
    NoText { line: u64 },
}

/// The rows of a file.
#[derive(Debug)]
pub(super) struct Rows<R> {
    input: R,
    buffer: Vec<u8>,
    line: u64,
}

impl<R: BufRead> Rows<R> {
    /// Reads the header.
    pub(super) fn of(input: R) -> Result<Self, SeriesError> {
        let mut rows = Self { input, buffer: Vec::with_capacity(128), line: 0 };
        let found = rows.read()?.unwrap_or_default().trim_start_matches('\u{feff}').to_owned();
        if found == HEADER { Ok(rows) } else { Err(SeriesError::Header { found: found.chars().take(80).collect() }) }
    }

    /// The next row; lines without text are passed over.
    pub(super) fn next(&mut self) -> Result<Option<Row>, SeriesError> {
        loop {
            let line = self.line + 1;
            match self.read()? {
                None => return Ok(None),
                Some("") => {}
                Some(text) => return row(text, line).map(Some),
            }
        }
    }

    /// Lines read, without the header.
    pub(super) fn count(&self) -> u64 {
        self.line.saturating_sub(1)
    }

    fn read(&mut self) -> Result<Option<&str>, SeriesError> {
        self.buffer.clear();
        let read = io::Read::take(&mut self.input, LONGEST).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        let no_text = SeriesError::NoText { line: self.line };
        if read as u64 == LONGEST {
            return Err(no_text);
        }
        let text = std::str::from_utf8(&self.buffer).map_err(|_| no_text)?;
        Ok(Some(text.trim_end_matches(['\n', '\r'])))
    }
}

fn row(text: &str, line: u64) -> Result<Row, SeriesError> {
    let mut columns = text.split(',');
    let (Some(at), Some(used), Some(limit), Some(event), None) =
        (columns.next(), columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err(SeriesError::Columns { line, found: text.split(',').count() });
    };
    let wrong = |column, found: &str, expected| {
        let found = found.chars().take(40).collect();
        SeriesError::Value { line, column, found, expected }
    };
    let number = |column, found: &str| {
        let expected = "a whole number from 0 to 18446744073709551615 is expected";
        found.trim().parse::<u64>().map_err(|_| wrong(column, found, expected))
    };
    let seconds = at.trim().parse::<f64>().ok().filter(|at| (0.0..=LAST_SECOND).contains(at));
    Ok(Row {
        at: seconds.ok_or_else(|| wrong("at", at, "unix seconds are expected, whole or decimal"))?,
        used: number("used", used)?,
        limit: number("limit", limit)?,
        event: csv::event(event.trim()).ok_or_else(|| {
            wrong("event", event.trim(), "nothing, gap_start, gap_end, reboot or limit_change is expected")
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Event;

    fn read(text: &str) -> Result<Vec<Row>, String> {
        let mut rows = Rows::of(text.as_bytes()).map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(|e| e.to_string())? {
            all.push(row);
        }
        Ok(all)
    }

    #[test]
    fn rows_are_read_whatever_ends_their_lines() {
        let rows = read("at,used,limit,event\r\n1.5,0,18446744073709551615,reboot\r\n\n2,3,4,\n").unwrap();
        let first = Row { at: 1.5, used: 0, limit: u64::MAX, event: Event::Reboot };
        assert_eq!(rows, [first, Row { at: 2.0, used: 3, limit: 4, event: Event::Sample }]);
        assert_eq!(read("at,used,limit,event"), Ok(vec![]));
    }

    #[test]
    fn an_error_names_the_line_the_column_and_the_remedy() {
        let error = |rows: &str| read(&format!("at,used,limit,event\n1,1,1,\n{rows}\n")).unwrap_err();
        assert_eq!(read("").unwrap_err(), "line 1 is \"\": make it the header at,used,limit,event");
        assert_eq!(read("a,b\n").unwrap_err(), "line 1 is \"a,b\": make it the header at,used,limit,event");
        assert_eq!(error("1,2,3"), "line 3 has 3 columns: at,used,limit,event are expected, the event may be empty");
        assert_eq!(
            error("1,-2,3,"),
            "line 3: used is \"-2\": a whole number from 0 to 18446744073709551615 is expected"
        );
        assert_eq!(error("NaN,2,3,"), "line 3: at is \"NaN\": unix seconds are expected, whole or decimal");
        assert_eq!(
            error("1,2,3,boot"),
            "line 3: event is \"boot\": nothing, gap_start, gap_end, reboot or limit_change is expected"
        );
        assert!(error(&"1".repeat(5_000)).starts_with("line 3 is no text of at most 4096 bytes"));
    }
}
