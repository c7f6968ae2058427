//! How a filter's parts are packed: numbers in groups of seven bits, and sorted numbers as the gaps between them. Pure;
//! reading refuses whatever is cut off or does not fit, and is bounded by the bytes there are.

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// How many, as a number that is packed.
pub(super) fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Bytes that are read from the front; `None` = they are no filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (these, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(these)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Ascending 32-bit numbers without repetition: the gaps between them as exponential Golomb codes, whose order is the one
/// that makes them shortest. Random numbers cost about the bits of their average gap and two, runs three bits each.
pub(super) fn push_ascending(out: &mut Vec<u8>, numbers: impl Iterator<Item = u32> + Clone) {
    let best = (0..32_u8).min_by_key(|order| gaps(numbers.clone()).map(|gap| code_bits(gap, *order)).sum::<u64>());
    let order = best.unwrap_or(0);
    let mut bits = BitWriter::default();
    for gap in gaps(numbers.clone()) {
        bits.push_code(gap, order);
    }
    let packed = bits.finish();
    push_number(out, length(numbers.count()));
    out.push(order);
    push_number(out, length(packed.len()));
    out.extend_from_slice(&packed);
}

/// Passes over what [`push_ascending`] wrote; `None` = it is cut off.
pub(super) fn pass_ascending(reader: &mut Reader<'_>) -> Option<()> {
    let (_count, _order) = (reader.count()?, reader.byte()?);
    let length = reader.count()?;
    reader.bytes(length).map(|_| ())
}

/// Reads what [`push_ascending`] wrote, until `each` wants no more; `None` = it is damaged.
pub(super) fn read_ascending(reader: &mut Reader<'_>, mut each: impl FnMut(u32) -> bool) -> Option<()> {
    let (count, order) = (reader.count()?, reader.byte()?);
    let length = reader.count()?;
    let mut bits = BitReader { bytes: reader.bytes(length)?, window: 0, held: 0 };
    let mut next = 0_u64;
    if order >= 32 || count > length.saturating_mul(8) {
        return None;
    }
    for _ in 0..count {
        let number = next.checked_add(bits.code(order)?)?;
        if !each(u32::try_from(number).ok()?) {
            break;
        }
        next = number.checked_add(1)?;
    }
    Some(())
}

/// How far each number is from the smallest that could follow the one before.
fn gaps(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = u64> {
    let mut next = 0_u64;
    numbers.map(move |number| {
        let gap = u64::from(number).saturating_sub(next);
        next = u64::from(number).saturating_add(1);
        gap
    })
}

/// One more than the gap without its lowest bits: as many zeros as it has bits behind its first, itself, the lowest bits.
fn code_bits(gap: u64, order: u8) -> u64 {
    let high = (gap >> order).saturating_add(1);
    u64::from(2 * high.ilog2() + 1) + u64::from(order)
}

/// Packs bits, the first into the highest place of a byte.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    window: u64,
    held: u32,
}

impl BitWriter {
    /// The lowest `count` bits of a number, at most 56.
    fn push(&mut self, number: u64, count: u32) {
        self.window = self.window << count | (number & ((1_u64 << count) - 1));
        self.held += count;
        while self.held >= 8 {
            self.held -= 8;
            self.bytes.push((self.window >> self.held).to_le_bytes()[0]);
        }
    }

    fn push_code(&mut self, gap: u64, order: u8) {
        let high = (gap >> order).saturating_add(1);
        let more = high.ilog2();
        self.push(0, more);
        self.push(high, more + 1);
        self.push(gap, u32::from(order));
    }

    fn finish(mut self) -> Vec<u8> {
        if self.held > 0 {
            self.push(0, 8 - self.held);
        }
        self.bytes
    }
}

struct BitReader<'b> {
    bytes: &'b [u8],
    window: u64,
    held: u32,
}

impl BitReader<'_> {
    /// Holds 56 bits and more, where there are so many.
    fn fill(&mut self) {
        while self.held <= 56 {
            let Some((first, rest)) = self.bytes.split_first() else { return };
            self.window |= u64::from(*first) << (56 - self.held);
            self.held += 8;
            self.bytes = rest;
        }
    }

    /// The next bits, at most 56.
    fn take(&mut self, count: u32) -> Option<u64> {
        self.fill();
        self.held = self.held.checked_sub(count)?;
        let bits = self.window.checked_shr(64 - count).unwrap_or(0);
        self.window = self.window.checked_shl(count).unwrap_or(0);
        Some(bits)
    }

    fn code(&mut self, order: u8) -> Option<u64> {
        self.fill();
        let more = self.window.leading_zeros();
        if more > 32 {
            return None;
        }
        self.take(more)?;
        let high = self.take(more + 1)?.checked_sub(1)?;
        let low = self.take(u32::from(order))?;
        high.checked_shl(u32::from(order)).filter(|n| n >> order == high).map(|n| n | low)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn read_back(bytes: &[u8]) -> Option<Vec<u32>> {
        let mut numbers = Vec::new();
        let mut reader = Reader::new(bytes);
        read_ascending(&mut reader, |n| {
            numbers.push(n);
            true
        })?;
        let mut passed = Reader::new(bytes);
        pass_ascending(&mut passed)?;
        assert_eq!(passed.is_at_end(), reader.is_at_end());
        reader.is_at_end().then_some(numbers)
    }

    #[test]
    fn random_numbers_cost_the_bits_of_their_gap_and_two_and_runs_next_to_nothing() {
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            u32::try_from(seed >> 32).unwrap()
        };
        let numbers: BTreeSet<u32> = (0..2_241).map(|_| random()).collect();
        let mut out = Vec::new();
        push_ascending(&mut out, numbers.iter().copied());
        assert!(out.len() * 8 < numbers.len() * 23, "{} bytes", out.len());
        let mut out = Vec::new();
        push_ascending(&mut out, 0x5100_1000..0x5100_1400);
        assert!(out.len() < 150, "{} bytes", out.len());
    }

    proptest! {
        #[test]
        fn ascending_numbers_read_back(numbers in proptest::collection::btree_set(any::<u32>(), 0..200), near in any::<bool>()) {
            let numbers: BTreeSet<u32> = numbers.into_iter().map(|n| if near { n % 300 } else { n }).collect();
            let mut out = Vec::new();
            push_ascending(&mut out, numbers.iter().copied());
            prop_assert_eq!(read_back(&out), Some(numbers.iter().copied().collect()));
        }

        #[test]
        fn a_number_reads_back(number in any::<u64>()) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(Reader::new(&out).number(), Some(number));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            read_back(&bytes);
            Reader::new(&bytes).number();
        }
    }
}
