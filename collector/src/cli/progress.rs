//! How far a long transfer is, on stderr for people.

use std::io::{self, Write as _};

/// What is between two words, bytes.
const EVERY: u64 = 4 << 20;

/// A line on stderr that is written anew while bytes pass; nothing where nobody looks.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    shows: bool,
    size: Option<u64>,
    lines: u64,
    bytes: u64,
    said: u64,
}

impl Progress {
    /// Of a transfer of unknown size; `shows` = somebody looks.
    pub fn new(what: &'static str, shows: bool) -> Self {
        Self::of(what, shows, None)
    }

    /// Of a transfer of this many bytes.
    pub fn of(what: &'static str, shows: bool, size: Option<u64>) -> Self {
        Self { what, shows, size, lines: 0, bytes: 0, said: 0 }
    }

    /// More has passed.
    pub fn add(&mut self, lines: u64, bytes: u64) {
        self.lines = self.lines.saturating_add(lines);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.shows && self.bytes >= self.said.saturating_add(EVERY) {
            self.said = self.bytes;
            let _ = write!(io::stderr(), "\r{}", self.words());
        }
    }

    /// All has passed: the line goes.
    pub fn end(&mut self) {
        if self.shows && self.said > 0 {
            let blank = " ".repeat(self.words().len());
            let _ = write!(io::stderr(), "\r{blank}\r");
        }
    }

    fn words(&self) -> String {
        let mebibytes = |bytes: u64| bytes >> 20;
        let lines = if self.lines > 0 { format!("{} {}, ", self.lines, self.what) } else { String::new() };
        let of = self.size.map(|size| format!(" of {}", mebibytes(size))).unwrap_or_default();
        format!("{lines}{}{of} MiB", mebibytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_far_it_is_where_the_size_is_known() {
        let mut progress = Progress::of("lines", false, Some(10 << 20));
        progress.add(0, 5 << 20);
        assert_eq!(progress.words(), "5 of 10 MiB");
        let mut progress = Progress::new("lines", false);
        progress.add(3, 1);
        assert_eq!(progress.words(), "3 lines, 0 MiB");
    }
}
