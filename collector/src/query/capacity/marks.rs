//! What one resource of one namespace used, by the hour: a few bytes a mark, so that a fleet's month is small. Pure.

/// An hour of a host's clock, counted from 1970.
pub type Hour = i64;

/// What is known of an hour in which something changed. Until the next mark its `last` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which hour.
    pub hour: Hour,
    /// In use at its end; `None` = could not be read, or the namespace is gone.
    pub last: Option<u64>,
    /// The most in use at once in it; at least `last`.
    pub most: Option<u64>,
}

impl Mark {
    /// One row says this of an hour, another one that: of a namespace that was made anew both are there. What is known
    /// says more than that something is gone.
    fn merged(self, later: Mark) -> Mark {
        Mark { hour: self.hour, last: later.last.or(self.last), most: later.most.max(self.most) }
    }
}

/// Packs marks.
#[derive(Clone, Debug, Default)]
pub struct Packer {
    /// What is packed.
    pub bytes: Vec<u8>,
    /// Of the last mark.
    hour: Hour,
    used: u64,
}

/// Bits of a mark's first number beside the distance in hours.
const KNOWN: u64 = 1;
const HIGHER: u64 = 2;

impl Packer {
    /// Hours are counted from this one on.
    pub fn new(hour: Hour) -> Self {
        Self { bytes: Vec::new(), hour, used: 0 }
    }

    /// Adds a mark; the order does not matter. Of a mark without `last` only that nothing is known after it and the most
    /// before are kept.
    pub fn push(&mut self, mark: Mark) {
        let distance = zigzag(mark.hour.wrapping_sub(self.hour));
        self.hour = mark.hour;
        let base = mark.last.unwrap_or(self.used);
        let more = mark.most.filter(|most| mark.last.is_none() || *most > base);
        let known = if mark.last.is_some() { KNOWN } else { 0 };
        let higher = if more.is_some() { HIGHER } else { 0 };
        // Hours lie within 2^42 of each other: a distance keeps two bits free.
        put(&mut self.bytes, distance << 2 | known | higher);
        if let Some(last) = mark.last {
            put(&mut self.bytes, zigzag(last.wrapping_sub(self.used).cast_signed()));
            self.used = last;
        }
        if let Some(more) = more {
            put(&mut self.bytes, zigzag(more.wrapping_sub(base).cast_signed()));
        }
    }
}

/// Adds what was packed from that hour on to others.
pub fn unpack(mut bytes: &[u8], from: Hour, marks: &mut Vec<Mark>) {
    let (mut hour, mut used) = (from, 0_u64);
    while let Some(first) = take(&mut bytes) {
        hour = hour.wrapping_add(unzigzag(first >> 2));
        let mut last = None;
        if first & KNOWN != 0 {
            used = used.wrapping_add(unzigzag(take(&mut bytes).unwrap_or(0)).cast_unsigned());
            last = Some(used);
        }
        let mut most = last;
        if first & HIGHER != 0 {
            most = Some(used.wrapping_add(unzigzag(take(&mut bytes).unwrap_or(0)).cast_unsigned()));
        }
        marks.push(Mark { hour, last, most });
    }
}

/// Brings marks into the order of their hours, each hour once.
pub fn order(marks: &mut Vec<Mark>) {
    if marks.is_sorted_by(|a, b| a.hour < b.hour) {
        return;
    }
    marks.sort_by_key(|mark| mark.hour);
    marks.dedup_by(|later, kept| {
        let same = later.hour == kept.hour;
        if same {
            *kept = kept.merged(*later);
        }
        same
    });
}

/// Small numbers of either sign become small ones without.
pub fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

/// The other way round.
pub fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Seven bits a byte, the lowest first.
pub fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// The next number; `None` = there is none, or it is cut off.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0_u32);
    loop {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or(0);
        if first & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark() -> impl Strategy<Value = Mark> {
        let number = prop_oneof![0_u64..50, Just(u64::MAX), any::<u64>()];
        (0_i64..40, prop::option::of(number.clone()), prop::option::of(number)).prop_map(|(hour, last, most)| {
            // As rows are: the most is at least what is there at the end.
            Mark { hour: 494_000 + hour, last, most: most.max(last) }
        })
    }

    proptest! {
        #[test]
        fn marks_come_back_by_hour_whatever_their_order(marks in prop::collection::vec(mark(), 0..60)) {
            let mut packed = Packer::new(494_007);
            let mut expected = std::collections::BTreeMap::new();
            for mark in &marks {
                packed.push(*mark);
                expected.entry(mark.hour).and_modify(|kept: &mut Mark| *kept = kept.merged(*mark)).or_insert(*mark);
            }
            let mut read = Vec::new();
            unpack(&packed.bytes, 494_007, &mut read);
            order(&mut read);
            prop_assert_eq!(read, expected.into_values().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_mark_of_a_usual_hour_takes_three_bytes() {
        let mut packed = Packer::new(494_000);
        for hour in 0_i64..720 {
            let last = Some(40 + hour.cast_unsigned() % 7);
            packed.push(Mark { hour: 494_000 + hour, last, most: last.map(|n| n + 3) });
        }
        assert!(packed.bytes.len() < 720 * 3 + 8, "{}", packed.bytes.len());
    }
}
