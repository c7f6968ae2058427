//! Numbers, bytes and values that recur, as decisions.
#![allow(clippy::cast_possible_truncation, reason = "numbers of a few bits, or such as were masked")]

use alloc::vec;
use alloc::vec::Vec;

use super::range::{Bit, Coder};

/// How likely numbers are: learned exactly below 128, by their length and first digits above.
#[derive(Clone)]
pub(super) struct Number {
    /// Whether it has more than seven binary digits.
    far: Bit,
    /// How many it has else.
    digits: [Bit; 8],
    /// What follows the first 1 of up to seven digits; by the digits so far.
    near: Vec<Bit>,
    /// How many digits a far one has, then by that number the three digits after its first.
    far_digits: Vec<Bit>,
}

impl Number {
    pub(super) const NEW: Number =
        Number { far: Bit::NEW, digits: [Bit::NEW; 8], near: Vec::new(), far_digits: Vec::new() };

    pub(super) fn code(&mut self, c: &mut impl Coder, value: u64) -> u64 {
        let len = u64::from(64 - value.leading_zeros());
        if c.bit(&mut self.far, len > 7) {
            return self.code_far(c, value, len);
        }
        let len = tree(c, &mut self.digits, 3, len);
        if len < 2 {
            return len;
        }
        if self.near.is_empty() {
            self.near = vec![Bit::NEW; 128];
        }
        let mut out = 1;
        for place in (0..len - 1).rev() {
            // Numbers of different length share no context: the place in the tree of the longest names both.
            let context = &mut self.near[(1 << (len - 1) | out) as usize];
            out = out << 1 | u64::from(c.bit(context, value >> place & 1 == 1));
        }
        out
    }

    fn code_far(&mut self, c: &mut impl Coder, value: u64, len: u64) -> u64 {
        if self.far_digits.is_empty() {
            self.far_digits = vec![Bit::NEW; 64 + 64 * 8];
        }
        let (digits, firsts) = self.far_digits.split_at_mut(64);
        // 8 to 64 digits; what a hostile tree says beyond is cut.
        let len = (tree(c, digits, 6, len.wrapping_sub(8) & 63) + 8).min(64);
        let mut left = (len - 1) as u32;
        let firsts = &mut firsts[(len as usize - 8) * 8..][..8];
        let mut out = 8 | tree(c, firsts, 3, value >> (left - 3) & 7);
        left -= 3;
        while left > 0 {
            let count = left.min(16);
            left -= count;
            out = out << count | c.raw(count, value >> left & ((1 << count) - 1));
        }
        out
    }
}

/// `count` binary digits, each by those before it.
pub(super) fn tree(c: &mut impl Coder, contexts: &mut [Bit], count: u32, value: u64) -> u64 {
    let mut node = 1;
    for place in (0..count).rev() {
        node = node << 1 | usize::from(c.bit(&mut contexts[node], value >> place & 1 == 1));
    }
    node as u64 - (1 << count)
}

/// How likely differences are; each has a sign, and 1 is often all there is.
#[derive(Clone)]
pub(super) struct Signed {
    zero: Bit,
    minus: [Bit; 16],
    one: [Bit; 2],
    up: Number,
    down: Number,
}

impl Signed {
    pub(super) const NEW: Signed =
        Signed { zero: Bit::NEW, minus: [Bit::NEW; 16], one: [Bit::NEW; 2], up: Number::NEW, down: Number::NEW };

    /// Any difference, mostly none.
    pub(super) fn code(&mut self, c: &mut impl Coder, value: i64) -> i64 {
        if c.bit(&mut self.zero, value == 0) { 0 } else { self.code_some(c, 0, value) }
    }

    /// A difference that is not 0; its sign goes by a hint below 16.
    pub(super) fn code_some(&mut self, c: &mut impl Coder, hint: usize, value: i64) -> i64 {
        let minus = c.bit(&mut self.minus[hint], value < 0);
        let size = value.unsigned_abs();
        let size = if c.bit(&mut self.one[usize::from(minus)], size == 1) {
            1
        } else {
            let number = if minus { &mut self.down } else { &mut self.up };
            number.code(c, size.wrapping_sub(2)).wrapping_add(2)
        };
        if minus { size.wrapping_neg().cast_signed() } else { size.cast_signed() }
    }

    /// A number that is hardly ever below 0.
    pub(super) fn code_natural(&mut self, c: &mut impl Coder, value: i64) -> i64 {
        if c.bit(&mut self.minus[0], value < 0) {
            !self.down.code(c, (!value).cast_unsigned()).cast_signed()
        } else {
            self.up.code(c, value.cast_unsigned()).cast_signed()
        }
    }
}

/// How likely bytes are after the one before.
pub(super) struct Bytes {
    length: Number,
    alone: Vec<Bit>,
    after: Vec<Bit>,
}

impl Bytes {
    pub(super) const NEW: Bytes = Bytes { length: Number::NEW, alone: Vec::new(), after: Vec::new() };

    /// Any bytes, their number before them. `None` if there would be more than `most`; memory is taken as they come.
    pub(super) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        bytes: &[u8],
        most: usize,
    ) -> Result<Vec<u8>, super::ChunkError> {
        let (offset, what, bound) = (c.offset(), "a part's length", most as u64);
        let value = self.length.code(c, bytes.len() as u64);
        let length = usize::try_from(value).ok().filter(|length| *length <= most);
        let length = length.ok_or(super::ChunkError::TooLarge { offset, what, value, bound })?;
        if self.alone.is_empty() {
            self.alone = vec![Bit::NEW; 256];
            self.after = vec![Bit::NEW; 256 * 256];
        }
        let mut out = Vec::new();
        let mut before = 0;
        for place in 0..length {
            let byte = bytes.get(place).copied().unwrap_or_default();
            let contexts = &mut self.after[usize::from(before) << 8..][..256];
            before = tree(c, contexts, 8, byte.into()) as u8;
            out.push(before);
            c.checked()?;
        }
        Ok(out)
    }
}

/// Values that recur: the most frequent is asked for first.
pub(super) struct Frequent<T> {
    known: Vec<Entry<T>>,
    /// The number that the next to be learned gets.
    next: u8,
}

struct Entry<T> {
    value: T,
    name: u8,
    /// How often it was the one.
    count: u32,
    /// Whether it is, by the hint.
    is: [Bit; 8],
}

impl<T: Copy + PartialEq> Frequent<T> {
    /// How many are remembered.
    const MAX: usize = 12;

    pub(super) const NEW: Frequent<T> = Frequent { known: Vec::new(), next: 0 };

    /// The value and its number, if it is known; else it must be told, and [`Frequent::learn`]ed. `hint` below 8 says of
    /// the number of each known value how it stands to what is coded.
    pub(super) fn code(&mut self, c: &mut impl Coder, value: T, hint: impl Fn(u8) -> usize) -> Option<(T, u8)> {
        let asked = |entry: &mut Entry<T>| c.bit(&mut entry.is[hint(entry.name)], entry.value == value);
        let mut place = self.known.iter_mut().position(asked)?;
        let found = &mut self.known[place];
        found.count += 1;
        let found = (found.value, found.name);
        while place > 0 && self.known[place].count > self.known[place - 1].count {
            self.known.swap(place, place - 1);
            place -= 1;
        }
        Some(found)
    }

    /// Remembers a value and gives it a number, below 255; the rarest is forgotten.
    pub(super) fn learn(&mut self, value: T) -> u8 {
        let name = self.next;
        self.next = (name + 1) % u8::MAX;
        self.known.truncate(Self::MAX - 1);
        self.known.push(Entry { value, name, count: 1, is: [Bit::NEW; 8] });
        name
    }
}

#[cfg(test)]
mod tests {
    use super::super::range::{Decoder, Encoder};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_number_is_read_again(values in proptest::collection::vec(crate::arbitrary::word(), 0..60)) {
            let mut encoder = Encoder::new(None);
            let (mut number, mut signed) = (Number::NEW, Signed::NEW);
            for value in &values {
                number.code(&mut encoder, *value);
                signed.code(&mut encoder, value.cast_signed());
                signed.code_natural(&mut encoder, value.cast_signed());
            }
            let (bytes, _) = encoder.finish();
            let mut decoder = Decoder::new(&bytes, 0);
            let (mut number, mut signed) = (Number::NEW, Signed::NEW);
            for value in &values {
                prop_assert_eq!(number.code(&mut decoder, 0), *value);
                prop_assert_eq!(signed.code(&mut decoder, 0), value.cast_signed());
                prop_assert_eq!(signed.code_natural(&mut decoder, 0), value.cast_signed());
            }
            prop_assert_eq!(decoder.ended(), Ok(()));
        }
    }
}
