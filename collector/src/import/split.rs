//! Bytes to lines. Pure.

use super::MOST_LINE;

/// Takes bytes as they come and gives whole lines; holds at most one line of [`MOST_LINE`] bytes and what came with its end.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    bytes: Vec<u8>,
    /// What lies before has been given.
    start: usize,
    /// No line ends before this place.
    looked: usize,
}

/// A line is longer than one may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Splitter {
    /// More of the file.
    pub(super) fn push(&mut self, more: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.looked -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// The next whole line, without its end; `None` = more is needed.
    pub(super) fn line(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let rest = self.bytes.get(self.looked..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n').map(|at| self.looked + at) else {
            self.looked = self.bytes.len();
            return if self.looked - self.start > MOST_LINE { Err(TooLong) } else { Ok(None) };
        };
        let from = std::mem::replace(&mut self.start, end + 1);
        self.looked = self.start;
        if end - from > MOST_LINE { Err(TooLong) } else { Ok(Some(without_return(&self.bytes[from..end]))) }
    }

    /// What follows the last line's end, once nothing more comes; empty for a file that ends as it should.
    pub(super) fn rest(&mut self) -> Result<&[u8], TooLong> {
        let from = std::mem::replace(&mut self.start, self.bytes.len());
        self.looked = self.start;
        let rest = &self.bytes[from..];
        if rest.len() > MOST_LINE { Err(TooLong) } else { Ok(without_return(rest)) }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece);
            while let Some(line) = splitter.line().unwrap() {
                lines.push(line.to_vec());
            }
        }
        lines.push(splitter.rest().unwrap().to_vec());
        lines
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_come(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            size in 1_usize..20,
        ) {
            let whole: Vec<Vec<u8>> =
                text.split(|b| *b == b'\n').map(|l| without_return(l).to_vec()).collect();
            prop_assert_eq!(lines(&text.chunks(size).collect::<Vec<_>>()), whole);
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
        let mut splitter = Splitter::default();
        let piece = vec![b'x'; 1 << 20];
        let taken = (0..100).take_while(|_| {
            splitter.push(&piece);
            splitter.line() == Ok(None)
        });
        assert_eq!(taken.count(), MOST_LINE >> 20);
        let mut splitter = Splitter::default();
        splitter.push(&vec![b'x'; MOST_LINE + 1]);
        splitter.push(b"\n");
        assert_eq!(splitter.line(), Err(TooLong));
    }
}
