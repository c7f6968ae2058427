//! The range coder: yes-or-no decisions, each with the probability that its context learned, into as many bits as they
//! surprise.
//!
//! Writer and reader run the same model over a [`Coder`]: an [`Encoder`] takes the decision that it is given, a
//! [`Decoder`] ignores that and answers what the bytes say. So there is one text of the model, and both sides learn
//! the same.
#![allow(clippy::cast_possible_truncation, reason = "what is cut off is shifted or masked away before")]

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::ChunkError;

/// Bits of a probability.
const PRECISION: u32 = 22;
/// Low bits of a [`Bit`] that count how often it was met.
const COUNTS: u32 = 10;
/// How often a context is met until it learns no slower.
const LIMIT: u32 = 127;
/// A range is kept at or above this.
const LOWEST: u64 = 1 << 32;

/// What one context learned: the probability of a yes, and how often it was asked.
#[derive(Clone, Copy)]
pub(super) struct Bit(u32);

impl Bit {
    /// Knows nothing yet.
    pub(super) const NEW: Bit = Bit(1 << (PRECISION - 1 + COUNTS));

    /// The probability of a yes, in 65,536ths: 1 to 65,535.
    #[inline(always)]
    fn yes(self) -> u64 {
        u64::from(self.0 >> (COUNTS + PRECISION - 16) | 1)
    }

    /// Moves towards what was, by one part in 1.5, 2.5, 3.5 ..
    #[inline(always)]
    fn learn(&mut self, bit: bool) {
        let (p, count) = (i64::from(self.0 >> COUNTS), self.0 & ((1 << COUNTS) - 1));
        let wanted = i64::from(u32::from(bit).wrapping_neg() >> (32 - PRECISION));
        let moved = p + (((wanted - p) * i64::from(RATES[count as usize])) >> 16);
        self.0 = (moved.cast_unsigned() as u32) << COUNTS | (count + 1).min(LIMIT);
    }
}

/// 65,536 over 1.5, 2.5, 3.5 ..
const RATES: [u32; 1 << COUNTS] = {
    let mut out = [0; 1 << COUNTS];
    let mut n = 0;
    while n < out.len() {
        out[n] = 131_072 / (2 * n as u32 + 3);
        n += 1;
    }
    out
};

/// What a model is run over.
pub(super) trait Coder {
    /// One decision; the answer is what was decided, which a decoder does not take from `bit`.
    fn bit(&mut self, context: &mut Bit, bit: bool) -> bool;

    /// The low `count` bits of a number of which nothing is known; at most 16.
    fn raw(&mut self, count: u32, value: u64) -> u64;

    /// What is coded from here on: names errors, and the ledger's line.
    fn on(&mut self, what: &'static str);

    /// Effort beside decisions, of about a decision each.
    fn toil(&mut self, steps: usize);

    /// Whether the bytes could hold all that was decided.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`].
    fn checked(&self) -> Result<(), ChunkError>;

    /// Where something is wrong.
    fn offset(&self) -> usize;

    /// That what was decided last can not be.
    fn broken(&self, what: &'static str) -> ChunkError {
        ChunkError::Broken { offset: self.offset(), what }
    }
}

/// Writes decisions.
pub(super) struct Encoder {
    out: Vec<u8>,
    low: u64,
    range: u64,
    work: u64,
    ledger: Option<Box<Ledger>>,
}

/// Where the bits of a chunk went, by what was coded: decisions, and 256ths of bits.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) lines: BTreeMap<&'static str, (u64, i64)>,
    what: &'static str,
    spent: i64,
    work: u64,
}

impl Encoder {
    pub(super) fn new(ledger: Option<Box<Ledger>>) -> Self {
        Self { out: Vec::new(), low: 0, range: u64::MAX, work: 0, ledger }
    }

    /// Decisions so far, and effort like theirs.
    pub(super) fn work(&self) -> u64 {
        self.work
    }

    /// The shortest bytes that decide all that was decided, whatever zeros follow.
    pub(super) fn finish(mut self) -> (Vec<u8>, Option<Box<Ledger>>) {
        self.on("");
        let end = u128::from(self.low) + u128::from(self.range);
        for kept in 0..=8 {
            let rest = (1_u128 << (64 - 8 * kept)) - 1;
            let value = (u128::from(self.low) + rest) & !rest;
            if value < end {
                if value >> 64 != 0 {
                    carry(&mut self.out);
                }
                self.out.extend_from_slice(&(value as u64).to_be_bytes()[..kept]);
                break;
            }
        }
        let ledger = self.ledger.take().map(|mut ledger| {
            (ledger.spent, ledger.work) = (0, 0);
            ledger
        });
        (self.out, ledger)
    }

    fn narrow(&mut self, skipped: u64, range: u64) {
        let (low, over) = self.low.overflowing_add(skipped);
        if over {
            carry(&mut self.out);
        }
        (self.low, self.range) = (low, range);
        if self.range < LOWEST {
            self.out.extend_from_slice(&((self.low >> 32) as u32).to_be_bytes());
            self.low <<= 32;
            self.range <<= 32;
        }
    }

    /// 256ths of bits written; between powers of two on a straight line, whose errors cancel over many decisions.
    fn spent(&self) -> i64 {
        let whole = self.range.ilog2();
        let part = (u128::from(self.range) << (127 - whole)) >> 119 & 0xff;
        let range = i64::from(whole) * 256 + i64::from(part as u32);
        i64::try_from(self.out.len()).unwrap_or(i64::MAX / 4096) * 2048 + 64 * 256 - range
    }
}

/// Adds 1 to the number that the bytes are.
fn carry(out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return;
        }
    }
}

impl Coder for Encoder {
    fn bit(&mut self, context: &mut Bit, bit: bool) -> bool {
        let bound = (self.range >> 16) * context.yes();
        if bit {
            self.narrow(0, bound);
        } else {
            self.narrow(bound, self.range - bound);
        }
        context.learn(bit);
        self.work += 1;
        bit
    }

    fn raw(&mut self, count: u32, value: u64) -> u64 {
        let part = self.range >> count;
        self.narrow(part * value, part);
        self.work += 2;
        value
    }

    fn on(&mut self, what: &'static str) {
        if let Some(mut ledger) = self.ledger.take() {
            let spent = self.spent();
            let line = ledger.lines.entry(ledger.what).or_default();
            line.0 += self.work - ledger.work;
            line.1 += spent - ledger.spent;
            (ledger.what, ledger.spent, ledger.work) = (what, spent, self.work);
            self.ledger = Some(ledger);
        }
    }

    fn toil(&mut self, steps: usize) {
        self.work = self.work.saturating_add(steps as u64);
    }

    fn checked(&self) -> Result<(), ChunkError> {
        Ok(())
    }

    fn offset(&self) -> usize {
        self.out.len()
    }
}

/// Reads decisions from bytes that may be anything: past their end come zeros.
pub(super) struct Decoder {
    /// The whole chunk, and where in it the segment ends.
    bytes: Arc<[u8]>,
    end: usize,
    /// How much was taken, zeros past the end included.
    taken: usize,
    /// Where the bytes begin in the chunk.
    begins: usize,
    code: u64,
    range: u64,
    what: &'static str,
}

impl Decoder {
    /// Of the bytes of a chunk from one offset to another.
    pub(super) fn of(bytes: Arc<[u8]>, segment: Range<usize>) -> Self {
        let (begins, end) = (segment.start, segment.end.min(bytes.len()));
        let mut new = Self { bytes, end, taken: 0, begins, code: 0, range: u64::MAX, what: "a segment" };
        new.code = u64::from(new.word()) << 32 | u64::from(new.word());
        new
    }

    /// Of bytes that begin at an offset of a chunk of which nothing else is known.
    #[cfg(test)]
    pub(super) fn new(bytes: &[u8], begins: usize) -> Self {
        let chunk: Vec<u8> = core::iter::repeat_n(0, begins).chain(bytes.iter().copied()).collect();
        Self::of(chunk.into(), begins..begins + bytes.len())
    }

    /// Whether the bytes end where the decisions do.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`] or [`ChunkError::Broken`].
    pub(super) fn ended(&self) -> Result<(), ChunkError> {
        self.checked()?;
        if self.taken < self.len() { Err(self.broken("the end of a segment")) } else { Ok(()) }
    }

    #[cold]
    fn word(&mut self) -> u32 {
        let from = self.begins.saturating_add(self.taken).min(self.end);
        let rest = self.bytes.get(from..self.end).unwrap_or_default();
        self.taken = self.taken.saturating_add(4);
        if let Some(word) = rest.first_chunk() {
            return u32::from_be_bytes(*word);
        }
        let mut word = [0; 4];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        u32::from_be_bytes(word)
    }

    fn len(&self) -> usize {
        self.end.saturating_sub(self.begins)
    }

    #[inline(always)]
    fn widen(&mut self) {
        if self.range < LOWEST {
            self.code = self.code << 32 | u64::from(self.word());
            self.range <<= 32;
        }
    }
}

impl Coder for Decoder {
    #[inline(always)]
    fn bit(&mut self, context: &mut Bit, _: bool) -> bool {
        let bound = (self.range >> 16) * context.yes();
        let bit = self.code < bound;
        // Without a branch: half of what is asked is noise, which no processor foretells.
        let no = u64::from(!bit).wrapping_neg();
        self.code -= bound & no;
        self.range = bound ^ ((bound ^ (self.range - bound)) & no);
        self.widen();
        context.learn(bit);
        bit
    }

    fn raw(&mut self, count: u32, _: u64) -> u64 {
        let part = self.range >> count;
        let value = (self.code / part).min((1 << count) - 1);
        self.code -= part * value;
        self.range = part;
        self.widen();
        value
    }

    fn on(&mut self, what: &'static str) {
        self.what = what;
    }

    fn toil(&mut self, _: usize) {}

    fn checked(&self) -> Result<(), ChunkError> {
        // A writer ends with at most eight bytes less than its reader takes.
        if self.taken > self.len().saturating_add(8) {
            return Err(ChunkError::Truncated { offset: self.begins + self.len(), what: self.what });
        }
        Ok(())
    }

    fn offset(&self) -> usize {
        self.begins + self.taken.min(self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn what_never_happens_costs_next_to_nothing() {
        let (mut encoder, mut context) = (Encoder::new(None), Bit::NEW);
        for _ in 0..100_000 {
            encoder.bit(&mut context, false);
        }
        let (bytes, _) = encoder.finish();
        assert!(bytes.len() < 8, "{} bytes", bytes.len());
        let (mut decoder, mut context) = (Decoder::new(&bytes, 0), Bit::NEW);
        assert!((0..100_000).all(|_| !decoder.bit(&mut context, true)));
        assert_eq!(decoder.ended(), Ok(()));
        let endless = (0..).find(|_| decoder.bit(&mut Bit::NEW.clone(), true) && decoder.checked().is_err());
        assert!(endless.is_some_and(|n| n < 1000), "it goes on past its end");
    }

    proptest! {
        #[test]
        fn what_is_decided_is_read_again(
            steps in proptest::collection::vec((0..5_usize, any::<bool>(), 0..17_u32, any::<u16>()), 0..400),
            odds in 0..=255_u8,
        ) {
            let (mut encoder, mut contexts) = (Encoder::new(None), vec![Bit::NEW; 5]);
            let wanted = |count: u32, value: u16| u64::from(value) & ((1 << count) - 1);
            let skewed = |bit: bool, value: u16| bit && value.to_le_bytes()[0] >= odds;
            for (context, bit, count, value) in &steps {
                encoder.bit(&mut contexts[*context], skewed(*bit, *value));
                encoder.raw(*count, wanted(*count, *value));
            }
            let (bytes, _) = encoder.finish();
            let (mut decoder, mut contexts) = (Decoder::new(&bytes, 0), vec![Bit::NEW; 5]);
            for (context, bit, count, value) in &steps {
                prop_assert_eq!(decoder.bit(&mut contexts[*context], false), skewed(*bit, *value));
                prop_assert_eq!(decoder.raw(*count, 0), wanted(*count, *value));
            }
            prop_assert_eq!(decoder.ended(), Ok(()));
        }
    }
}
