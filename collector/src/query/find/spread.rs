//! Where numbers lie, as a few ranges: exact while there are few different ones, and then the widest gaps between them
//! stay known. Pure.

use std::collections::BTreeMap;

use super::pack::{Reader, length, push_number};

/// Ranges of numbers, each with a mark of whose they are: the bits of all that were added to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    /// By their first number: the last one, and the marks.
    ranges: BTreeMap<u64, (u64, u8)>,
}

/// The most ranges that are held while they are gathered.
const MOST_HELD: usize = 512;

impl Spread {
    /// Adds a number; the mark has at most three bits.
    pub(super) fn add(&mut self, number: u64, mark: u8) {
        if let Some((_, (last, marks))) = self.ranges.range_mut(..=number).next_back()
            && *last >= number
        {
            *marks |= mark;
            return;
        }
        self.ranges.insert(number, (number, mark));
        if self.ranges.len() > MOST_HELD {
            self.ranges = joined(&self.ranges, MOST_HELD / 2);
        }
    }

    /// Whether both hold the same numbers with the same marks.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.ranges == other.ranges
    }

    /// Packs at most so many ranges, the widest gaps between them kept.
    pub(super) fn push(&self, out: &mut Vec<u8>, most: usize) {
        let ranges = joined(&self.ranges, most);
        push_number(out, length(ranges.len()));
        let mut next = 0_u64;
        for (first, (last, marks)) in ranges {
            let is_range = last != first;
            // The lowest bits of the gap go with what is told of the range: most gaps of small numbers fit one byte.
            let gap = first.saturating_sub(next);
            let told = u64::from(marks & 7) | u64::from(is_range) << 3 | (gap & 0xffff_ffff) << 4;
            push_number(out, told | u64::from(gap >> 32 != 0) << 36);
            if gap >> 32 != 0 {
                push_number(out, gap >> 32);
            }
            if is_range {
                push_number(out, last.saturating_sub(first));
            }
            next = last.saturating_add(1);
        }
    }

    /// Reads what [`Spread::push`] wrote: for each range its bounds, both included, and its marks; `None` = it is damaged.
    pub(super) fn read(reader: &mut Reader<'_>, mut each: impl FnMut((u64, u64), u8)) -> Option<()> {
        let count = reader.count()?;
        let mut next = 0_u64;
        for _ in 0..count {
            let told = reader.number()?;
            if told >> 37 != 0 {
                return None;
            }
            let high = if told >> 36 == 1 { reader.number()? } else { 0 };
            if high >> 32 != 0 {
                return None;
            }
            let gap = high << 32 | (told >> 4 & 0xffff_ffff);
            let first = next.checked_add(gap)?;
            let span = if told >> 3 & 1 == 1 { reader.number()? } else { 0 };
            let last = first.checked_add(span)?;
            each((first, last), told.to_le_bytes()[0] & 7);
            next = last.saturating_add(1);
        }
        Some(())
    }
}

/// The same in at most so many ranges: those nearest to each other are one.
fn joined(ranges: &BTreeMap<u64, (u64, u8)>, most: usize) -> BTreeMap<u64, (u64, u8)> {
    if ranges.len() <= most {
        return ranges.clone();
    }
    let firsts = ranges.keys().skip(1).copied();
    let mut gaps: Vec<(u64, u64)> =
        ranges.values().zip(firsts).map(|((last, _), first)| (first.saturating_sub(*last), first)).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    gaps.truncate(most.saturating_sub(1));
    let mut begins: Vec<u64> = gaps.into_iter().map(|(_, first)| first).collect();
    begins.sort_unstable();
    let mut begins = begins.into_iter().peekable();
    let mut out: BTreeMap<u64, (u64, u8)> = BTreeMap::new();
    for (first, (last, marks)) in ranges {
        let is_new = begins.next_if_eq(first).is_some() || out.is_empty();
        match out.last_entry() {
            Some(mut before) if !is_new => {
                before.get_mut().0 = *last;
                before.get_mut().1 |= marks;
            }
            _ => {
                out.insert(*first, (*last, *marks));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(bytes: &[u8]) -> Option<Vec<((u64, u64), u8)>> {
        let mut ranges = Vec::new();
        let mut reader = Reader::new(bytes);
        Spread::read(&mut reader, |range, marks| ranges.push((range, marks)))?;
        reader.is_at_end().then_some(ranges)
    }

    fn packed(numbers: &[(u64, u8)], most: usize) -> Vec<u8> {
        let mut spread = Spread::default();
        numbers.iter().for_each(|(number, mark)| spread.add(*number, *mark));
        let mut out = Vec::new();
        spread.push(&mut out, most);
        out
    }

    #[test]
    fn few_numbers_are_exact_and_of_many_the_widest_gaps_are_kept() {
        let bytes = packed(&[(33, 1), (0, 1), (33, 4), (1001, 2)], 8);
        assert_eq!(read_back(&bytes).unwrap(), [((0, 0), 1), ((33, 33), 5), ((1001, 1001), 2)]);
        assert_eq!(bytes.len(), 6);
        let bytes = packed(&[(1, 1), (2, 1), (900, 2), (903, 1), (u64::MAX, 4)], 3);
        assert_eq!(read_back(&bytes).unwrap(), [((1, 2), 1), ((900, 903), 3), ((u64::MAX, u64::MAX), 4)]);
    }

    proptest! {
        #[test]
        fn every_number_lies_in_a_range_with_its_mark(
            numbers in proptest::collection::vec((prop_oneof![0..2_000_u64, any::<u64>()], 1..8_u8), 0..1_500),
            most in 1..40_usize,
        ) {
            let ranges = read_back(&packed(&numbers, most)).unwrap();
            prop_assert!(ranges.len() <= most);
            for (number, mark) in numbers {
                let fits = |((first, last), marks): &((u64, u64), u8)| {
                    (*first..=*last).contains(&number) && marks & mark == mark
                };
                prop_assert!(ranges.iter().any(fits), "{number} {mark}");
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            read_back(&bytes);
        }
    }
}
