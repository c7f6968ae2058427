//! Numbers, bytes and values that recur, as decisions.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "numbers of a few bits, or such as were masked"
)]

use alloc::vec;
use alloc::vec::Vec;

use super::range::{Bit, Coder};

/// How likely numbers are: learned exactly below 64, by their length and first digits above.
#[derive(Clone)]
pub(super) struct Number {
    /// How many binary digits it has; 7 = more than six, or below 0.
    digits: [Bit; 8],
    minus: Bit,
    /// What follows the first 1 of up to six digits; by the digits so far.
    near: Vec<Bit>,
    /// How many digits a far one has, then by that number the three digits after its first.
    far: Vec<Bit>,
}

/// The fewest digits of a far number.
const FAR: u32 = 7;

impl Number {
    pub(super) const NEW: Number = Number { digits: [Bit::NEW; 8], minus: Bit::NEW, near: Vec::new(), far: Vec::new() };

    /// A number that is hardly ever below 0.
    pub(super) fn code(&mut self, c: &mut impl Coder, value: i64) -> i64 {
        let len = if value < 0 { FAR } else { (64 - value.leading_zeros()).min(FAR) };
        let len = tree(c, &mut self.digits, 3, len.into());
        if len == u64::from(FAR) {
            return self.code_far(c, value);
        }
        if len < 2 {
            return len.cast_signed();
        }
        if self.near.is_empty() {
            self.near = vec![Bit::NEW; 64];
        }
        // Numbers of each length have contexts of their own, as many as there are such numbers.
        let contexts = &mut self.near[1 << (len - 1)..1 << len];
        (1 << (len - 1) | tree(c, contexts, len as u32 - 1, value.cast_unsigned())).cast_signed()
    }

    #[cold]
    fn code_far(&mut self, c: &mut impl Coder, value: i64) -> i64 {
        let minus = c.bit(&mut self.minus, value < 0);
        if self.far.is_empty() {
            self.far = vec![Bit::NEW; 64 + 65 * 8];
        }
        let (digits, firsts) = self.far.split_at_mut(64);
        let size = (if minus { !value } else { value }).cast_unsigned();
        let len = u64::from(64 - size.leading_zeros());
        // Below 0 any length; what a hostile tree says beyond 64 is cut.
        let len = tree(c, digits, 6, len & 63);
        let firsts = &mut firsts[len as usize * 8..][..8];
        let size = if len < 4 {
            tree(c, firsts, 3, size)
        } else {
            let mut left = len as u32 - 4;
            let mut out = 8 | tree(c, firsts, 3, size >> left & 7);
            while left > 0 {
                let count = left.min(16);
                left -= count;
                out = out << count | c.raw(count, size >> left & ((1 << count) - 1));
            }
            out
        };
        let size = size.cast_signed();
        if minus { !size } else { size }
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

/// How likely differences are; 1 up or down is often all there is.
#[derive(Clone)]
pub(super) struct Signed {
    zero: Bit,
    minus: [Bit; 16],
    one: [Bit; 2],
    sizes: [Number; 2],
}

impl Signed {
    pub(super) const NEW: Signed =
        Signed { zero: Bit::NEW, minus: [Bit::NEW; 16], one: [Bit::NEW; 2], sizes: [Number::NEW; 2] };

    /// Any difference, mostly none.
    pub(super) fn code(&mut self, c: &mut impl Coder, value: i64) -> i64 {
        if c.bit(&mut self.zero, value == 0) { 0 } else { self.code_some(c, 0, value) }
    }

    /// A difference that is not 0; its sign goes by a hint below 16.
    pub(super) fn code_some(&mut self, c: &mut impl Coder, hint: usize, value: i64) -> i64 {
        let minus = c.bit(&mut self.minus[hint], value < 0);
        // How much more than 1 it is: of the least of all numbers, 2^63 - 1.
        let size = (if minus { !value } else { value.wrapping_sub(1) }) & i64::MAX;
        let one = c.bit(&mut self.one[usize::from(minus)], size == 0);
        let size = if one { 0 } else { self.sizes[usize::from(minus)].code(c, size.wrapping_sub(1)).wrapping_add(1) };
        if minus { !size } else { size.wrapping_add(1) }
    }
}

/// How likely bytes are after the one before, of which six bits tell.
pub(super) struct Bytes {
    length: Number,
    after: Vec<Bit>,
}

impl Bytes {
    pub(super) const NEW: Bytes = Bytes { length: Number::NEW, after: Vec::new() };

    /// Any bytes, their number before them. `None` if there would be more than `most`; memory is taken as they come.
    pub(super) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        bytes: &[u8],
        most: usize,
    ) -> Result<Vec<u8>, super::ChunkError> {
        let (offset, what, bound) = (c.offset(), "a part's length", most as u64);
        let value = self.length.code(c, bytes.len() as i64).cast_unsigned();
        let length = usize::try_from(value).ok().filter(|length| *length <= most);
        let length = length.ok_or(super::ChunkError::TooLarge { offset, what, value, bound })?;
        if self.after.is_empty() {
            self.after = vec![Bit::NEW; 64 * 256];
        }
        let mut out = Vec::new();
        let mut before = 0;
        for place in 0..length {
            let byte = bytes.get(place).copied().unwrap_or_default();
            let contexts = &mut self.after[usize::from(before & 63) << 8..][..256];
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
                number.code(&mut encoder, value.cast_signed());
                signed.code(&mut encoder, value.cast_signed());
            }
            let (bytes, _) = encoder.finish();
            let mut decoder = Decoder::new(&bytes, 0);
            let (mut number, mut signed) = (Number::NEW, Signed::NEW);
            for value in &values {
                prop_assert_eq!(number.code(&mut decoder, 0), value.cast_signed());
                prop_assert_eq!(signed.code(&mut decoder, 0), value.cast_signed());
            }
            prop_assert_eq!(decoder.ended(), Ok(()));
        }
    }
}
