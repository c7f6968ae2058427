//! The primitives: numbers, texts and counts, each checked before anything is taken for it.

use alloc::vec::Vec;

use super::CodecError;
use crate::snapshot::State;
use crate::text::HostText;

/// Packs. Cannot fail: every value has a form.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// N
    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.byte(value.to_le_bytes()[0]);
    }

    /// S
    pub(super) fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// T
    pub(super) fn text(&mut self, text: &HostText) {
        self.count(text.as_bytes().len());
        self.bytes(text.as_bytes());
    }

    /// O
    pub(super) fn optional_text(&mut self, text: Option<&HostText>) {
        match text {
            None => self.byte(0),
            Some(text) => {
                self.count(text.as_bytes().len() + 1);
                self.bytes(text.as_bytes());
            }
        }
    }
}

/// Bit i is set where the i-th is true.
pub(super) fn bits(set: &[bool]) -> u64 {
    set.iter().enumerate().fold(0, |bits, (bit, set)| bits | u64::from(*set) << bit)
}

/// Unpacks hostile bytes.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
    /// Entries that this body may still have (C5).
    entries: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, len: bytes.len(), entries: State::MAX_ENTRIES }
    }

    pub(super) fn offset(&self) -> usize {
        self.len - self.rest.len()
    }

    pub(super) fn finish(&self) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(CodecError::Trailing { offset: self.offset(), extra }),
        }
    }

    pub(super) fn byte(&mut self, what: &'static str) -> Result<u8, CodecError> {
        let (first, rest) = self.rest.split_first().ok_or(CodecError::Truncated { offset: self.len, what })?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn bytes(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Truncated { offset: self.len, what })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CodecError::Truncated { offset: self.len, what })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// N
    pub(super) fn number(&mut self, what: &'static str) -> Result<u64, CodecError> {
        let offset = self.offset();
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return if shortest { Ok(value) } else { Err(CodecError::NotCanonical { offset, what }) };
            }
        }
        Err(CodecError::Overlong { offset, what })
    }

    /// S
    pub(super) fn signed(&mut self, what: &'static str) -> Result<i64, CodecError> {
        let number = self.number(what)?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A number of at most `bound`.
    pub(super) fn at_most(&mut self, what: &'static str, bound: u64) -> Result<u64, CodecError> {
        let offset = self.offset();
        match self.number(what)? {
            value if value <= bound => Ok(value),
            value => Err(CodecError::TooLarge { offset, what, value, bound }),
        }
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, CodecError> {
        let value = self.at_most(what, u32::MAX.into())?;
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// T
    pub(super) fn text(&mut self, what: &'static str) -> Result<HostText, CodecError> {
        let len = self.length(what, HostText::MAX)?;
        Ok(HostText::cut(self.bytes(len, what)?))
    }

    /// O
    pub(super) fn optional_text(&mut self, what: &'static str) -> Result<Option<HostText>, CodecError> {
        match self.length(what, HostText::MAX + 1)?.checked_sub(1) {
            None => Ok(None),
            Some(len) => Ok(Some(HostText::cut(self.bytes(len, what)?))),
        }
    }

    /// A length or count of at most `bound`.
    pub(super) fn length(&mut self, what: &'static str, bound: usize) -> Result<usize, CodecError> {
        let value = self.at_most(what, bound as u64)?;
        Ok(usize::try_from(value).unwrap_or(bound))
    }

    /// How many items follow: at most `bound`, and as many as the bytes can hold if each takes `least` of them.
    pub(super) fn count(&mut self, what: &'static str, bound: usize, least: usize) -> Result<usize, CodecError> {
        let offset = self.offset();
        let count = self.length(what, bound)?;
        let room = self.rest.len() / least;
        if count > room {
            return Err(CodecError::TooLarge { offset, what, value: count as u64, bound: room as u64 });
        }
        Ok(count)
    }

    /// The same for what counts as an entry of the body (C5).
    pub(super) fn entries(&mut self, what: &'static str, bound: usize, least: usize) -> Result<usize, CodecError> {
        let count = self.count(what, bound.min(self.entries), least)?;
        self.entries -= count;
        Ok(count)
    }

    /// Which of `known` bits are set; another is refused.
    pub(super) fn bits(&mut self, what: &'static str, known: u32) -> Result<impl Fn(u8) -> bool + use<>, CodecError> {
        let offset = self.offset();
        match self.number(what)? {
            value if value >> known == 0 => Ok(move |bit| value >> bit & 1 == 1),
            value => Err(CodecError::UnknownCode { offset, what, value }),
        }
    }

    /// Counts entries that were not counted as they were announced (C5).
    pub(super) fn spend(&mut self, what: &'static str, count: usize) -> Result<(), CodecError> {
        let (offset, bound) = (self.offset(), self.entries as u64);
        let left = self.entries.checked_sub(count);
        self.entries = left.ok_or(CodecError::TooLarge { offset, what, value: count as u64, bound })?;
        Ok(())
    }

    /// A number that is expected to be `next`.
    pub(super) fn step<T>(&mut self, what: &'static str, next: i64) -> Result<T, CodecError>
    where
        T: TryFrom<i64> + Bounded,
    {
        let offset = self.offset();
        let value = next.saturating_add(self.signed(what)?);
        T::try_from(value).map_err(|_| CodecError::OutOfRange { offset, what, value, low: T::LOW, high: T::HIGH })
    }

    /// A code of one byte, translated.
    pub(super) fn code<T>(&mut self, what: &'static str, known: impl Fn(u8) -> Option<T>) -> Result<T, CodecError> {
        let offset = self.offset();
        let byte = self.byte(what)?;
        known(byte).ok_or(CodecError::UnknownCode { offset, what, value: byte.into() })
    }

    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, CodecError> {
        self.code(what, |byte| match byte {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        })
    }

    /// `count` items, room for which is taken as they come.
    pub(super) fn list<T>(
        &mut self,
        count: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let mut out = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            out.push(item(self)?);
        }
        Ok(out)
    }
}

/// The range of a narrow number.
pub(super) trait Bounded {
    const LOW: i64;
    const HIGH: i64;
}

impl Bounded for u32 {
    const LOW: i64 = 0;
    const HIGH: i64 = u32::MAX as i64;
}

impl Bounded for i32 {
    const LOW: i64 = i32::MIN as i64;
    const HIGH: i64 = i32::MAX as i64;
}
