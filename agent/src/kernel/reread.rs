//! A file of `/proc/sysvipc` that is read again and again: of most lines it says what it said before.
//!
//! Beside the text that was parsed last are its objects. The lines that a new text begins with as that one did, and those
//! that it ends with, mean what they meant; only what is between them is parsed. The result is what parsing all of it
//! gives, whatever changed: a line has no context but the header, which must be the same.

use super::sysvipc::{Extent, Listing, ParseError};

/// Text that is remembered at most, bytes: some 3,000 arrays. Beyond, memory is worth more than time.
const MAX_KEPT: usize = 256 << 10;

/// One file as it was parsed last; empty before that.
#[derive(Debug)]
pub struct Reread<T> {
    text: Vec<u8>,
    /// Where each line of it ends, behind the newline; the header's first.
    ends: Vec<usize>,
    /// What the lines behind the header say.
    objects: Vec<T>,
    lacking: Vec<&'static str>,
    /// The lines between, below the header.
    changed: Vec<u8>,
}

impl<T> Default for Reread<T> {
    fn default() -> Self {
        Self { text: Vec::new(), ends: Vec::new(), objects: Vec::new(), lacking: Vec::new(), changed: Vec::new() }
    }
}

impl<T: Copy> Reread<T> {
    /// What `parse` makes of the bytes.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        extent: Extent,
        parse: impl Fn(&[u8], Extent) -> Result<Listing<T>, ParseError>,
    ) -> Result<Listing<T>, ParseError> {
        if self.take_over(bytes, extent, &parse).is_none() {
            let listing = parse(bytes, extent);
            self.keep(bytes, extent, listing.as_ref().ok());
            return listing;
        }
        Ok(Listing { objects: self.objects.clone(), left_out: 0, lacking: self.lacking.clone() })
    }

    /// Becomes what the bytes say; `None` = they must be parsed as a whole, and nothing was changed.
    fn take_over(
        &mut self,
        bytes: &[u8],
        extent: Extent,
        parse: impl Fn(&[u8], Extent) -> Result<Listing<T>, ParseError>,
    ) -> Option<()> {
        let header = self.text.get(..*self.ends.first()?)?;
        if !extent.whole || bytes.len() > MAX_KEPT {
            return None;
        }
        let same = same_beginning(&self.text, bytes);
        let first = self.ends.partition_point(|end| *end <= same);
        let begins = *self.ends.get(first.checked_sub(1)?)?;
        let same = same_end(self.text.get(begins..)?, bytes.get(begins..)?);
        // The lines from here on are the same, but perhaps elsewhere in the file.
        let last = self.ends.partition_point(|end| *end < self.text.len() - same) + 1;
        let last = last.clamp(first, self.ends.len());
        let old_end = *self.ends.get(last - 1)?;
        let ends = bytes.len().checked_sub(self.text.len() - old_end)?;
        let between = bytes.get(begins..ends)?;
        let mut found = Vec::new();
        if !between.is_empty() {
            self.changed.clear();
            self.changed.extend_from_slice(header);
            self.changed.extend_from_slice(between);
            found = parse(&self.changed, Extent { budget: usize::MAX, whole: true }).ok()?.objects;
        }
        if self.objects.len() - (last - first) + found.len() > extent.budget {
            return None;
        }
        self.objects.splice(first - 1..last - 1, found);
        self.ends.iter_mut().skip(last).for_each(|end| *end = *end - old_end + ends);
        self.ends.splice(first..last, line_ends(between).map(|end| begins + end));
        self.text.splice(begins..old_end, between.iter().copied());
        Some(())
    }

    fn keep(&mut self, bytes: &[u8], extent: Extent, listing: Option<&Listing<T>>) {
        let whole = extent.whole && bytes.len() <= MAX_KEPT;
        let Some(listing) = listing.filter(|listing| whole && listing.left_out == 0) else {
            *self = Self::default();
            return;
        };
        self.text = bytes.to_vec();
        self.ends = line_ends(bytes).collect();
        self.objects.clone_from(&listing.objects);
        self.lacking.clone_from(&listing.lacking);
    }
}

/// Behind each newline.
fn line_ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1)
}

/// Bytes that are compared at once.
const STEP: usize = 128;

/// How many bytes both begin with.
fn same_beginning(a: &[u8], b: &[u8]) -> usize {
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
    let rest = a.iter().skip(steps).zip(b.iter().skip(steps));
    steps + rest.take_while(|(a, b)| a == b).count()
}

/// How many bytes both end with.
fn same_end(a: &[u8], b: &[u8]) -> usize {
    let steps = a.rchunks_exact(STEP).zip(b.rchunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
    let rest = a.iter().rev().skip(steps).zip(b.iter().rev().skip(steps));
    steps + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use highwater_ipc::object::SemArray;
    use proptest::prelude::*;

    use super::super::sysvipc::parse_sem;
    use super::*;

    const HEADER: &str = "key semid perms nsems uid gid cuid cgid otime ctime\n";
    const ALL: Extent = Extent { budget: usize::MAX, whole: true };

    fn text(rows: &[(u8, u16)]) -> String {
        let rows = rows.iter().map(|(id, time)| format!("0 {id} 600 1 0 0 0 0 {time} 5\n"));
        HEADER.to_owned() + &rows.collect::<String>()
    }

    /// Parses, and says how many bytes of rows were parsed for it.
    fn again(known: &mut Reread<SemArray>, text: &str) -> (usize, Result<Listing<SemArray>, ParseError>) {
        let parsed = std::cell::Cell::new(0);
        let listing = known.parse(text.as_bytes(), ALL, |bytes, extent| {
            parsed.set(parsed.get() + bytes.len() - HEADER.len());
            parse_sem(bytes, extent)
        });
        (parsed.get(), listing)
    }

    #[test]
    fn only_lines_that_changed_are_parsed() {
        let mut known = Reread::default();
        let row = "0 1 600 1 0 0 0 0 1 5\n".len();
        for (rows, lines) in [
            (&[(1, 1), (2, 1), (3, 1)][..], 3),
            (&[(1, 1), (2, 1), (3, 1)], 0),
            (&[(1, 1), (2, 9), (3, 1)], 1),
            (&[(1, 1), (3, 1)], 0),
            (&[(1, 1), (3, 1), (4, 1)], 1),
            (&[(7, 1), (1, 1), (3, 1), (4, 1)], 1),
            (&[], 0),
            (&[(1, 1)], 1),
        ] {
            let text = text(rows);
            let (parsed, listing) = again(&mut known, &text);
            assert_eq!((parsed, &listing), (lines * row, &parse_sem(text.as_bytes(), ALL)), "{rows:?}");
        }
    }

    #[test]
    fn an_error_names_its_line_and_nothing_is_remembered_of_it() {
        let mut known = Reread::default();
        let good = text(&[(1, 1), (2, 1), (3, 1)]);
        again(&mut known, &good).1.unwrap();
        let broken = good.replace("0 3 600", "0 3 6x0");
        assert_eq!(again(&mut known, &broken).1, parse_sem(broken.as_bytes(), ALL));
        assert_eq!(again(&mut known, &broken).1.unwrap_err().line, 4);
        assert_eq!(again(&mut known, &good).1.unwrap().objects.len(), 3);
    }

    #[test]
    fn a_budget_and_a_text_that_is_cut_hold_as_ever() {
        let mut known = Reread::default();
        let good = text(&[(1, 1), (2, 1), (3, 1)]);
        again(&mut known, &good).1.unwrap();
        for extent in [Extent { budget: 2, whole: true }, Extent { budget: 9, whole: false }, ALL] {
            for bytes in [good.as_bytes(), &good.as_bytes()[..good.len() - 4]] {
                assert_eq!(known.parse(bytes, extent, parse_sem), parse_sem(bytes, extent), "{extent:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_changes_the_result_is_that_of_parsing_all(
            texts in proptest::collection::vec((proptest::collection::vec((0_u8..6, 0_u16..3), 0..9), 0_u8..12), 1..9),
        ) {
            let mut known = Reread::default();
            for (rows, damage) in texts {
                let mut text = text(&rows).into_bytes();
                match damage {
                    0 => drop(text.pop()),
                    1 => text.push(b'x'),
                    2 => text[0] = b'q',
                    3 => text.truncate(text.len() / 2),
                    _ => {}
                }
                prop_assert_eq!(known.parse(&text, ALL, parse_sem), parse_sem(&text, ALL));
            }
        }
    }
}
