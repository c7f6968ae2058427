//! Where the segments of a chunk are.

use alloc::vec::Vec;

use super::ChunkError;
use super::crc::crc32;
use crate::record::Seq;

/// What stands at the start of a chunk: where its segments are and when each begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// The segments in order, at least one.
    pub segments: Vec<Segment>,
}

/// One segment: some records that can be read without those before them, because the first is a sample with its whole
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Position of its first record.
    pub first_seq: Seq,
    /// `wall_ms` of its first record.
    pub first_wall_ms: i64,
    /// Where its bytes begin in the chunk.
    pub offset: usize,
    /// How many they are.
    pub len: usize,
    /// CRC-32 of them.
    pub crc: u32,
}

impl Segment {
    /// The bytes of a segment within those of its chunk, if they are there and as they were written.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`] or [`ChunkError::Checksum`].
    pub(super) fn bytes<'b>(&self, chunk: &'b [u8]) -> Result<&'b [u8], ChunkError> {
        let (offset, what) = (self.offset, "a segment");
        let bytes = chunk.get(offset..).and_then(|rest| rest.get(..self.len));
        let bytes = bytes.ok_or(ChunkError::Truncated { offset: chunk.len(), what })?;
        if crc32(bytes) == self.crc { Ok(bytes) } else { Err(ChunkError::Checksum { offset, what }) }
    }
}

impl Directory {
    /// Enough of a chunk's first bytes for any directory that [`super::ChunkWriter`] writes for a chunk of up to a hundred
    /// segments.
    pub const PREFIX: usize = 2048;
    /// The most segments one chunk may have.
    pub const MAX_SEGMENTS: usize = 1 << 16;

    /// Reads it from the first bytes of a chunk; more than [`Directory::PREFIX`] of them are hardly ever needed.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`] if the directory goes on past the bytes; else what is wrong with them.
    pub fn read(prefix: &[u8]) -> Result<Directory, ChunkError> {
        let mut at = Cursor { bytes: prefix, at: 0 };
        match at.byte("the version")? {
            VERSION => {}
            version => return Err(ChunkError::UnknownVersion { version }),
        }
        let (offset, what, bound) = (at.at, "the segments", Self::MAX_SEGMENTS as u64);
        let value = at.number(what)?;
        let count = usize::try_from(value).ok().filter(|count| (1..=Self::MAX_SEGMENTS).contains(count));
        let count = count.ok_or(ChunkError::TooLarge { offset, what, value, bound })?;
        let mut segments = Vec::new();
        let (mut seq, mut wall_ms, mut length) = (0_u64, 0_i64, 0_u64);
        for _ in 0..count {
            seq = seq.wrapping_add(at.number("a segment's position")?);
            wall_ms = wall_ms.wrapping_add(unzigzag(at.number("a segment's time")?));
            let len = at.number("a segment's length")?;
            length = length.checked_add(len).ok_or(ChunkError::Broken { offset: at.at, what: "a segment's length" })?;
            let crc = u32::from_le_bytes(at.four("a segment's checksum")?);
            segments.push((Seq(seq), wall_ms, len, crc));
        }
        let crc = crc32(&prefix[..at.at]);
        let what = "the directory";
        if u32::from_le_bytes(at.four(what)?) != crc {
            return Err(ChunkError::Checksum { offset: 0, what });
        }
        let mut offset = at.at;
        let placed = segments.into_iter().map(|(first_seq, first_wall_ms, len, crc)| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let segment = Segment { first_seq, first_wall_ms, offset, len, crc };
            offset = offset.saturating_add(len);
            segment
        });
        Ok(Directory { segments: placed.collect() })
    }

    /// The whole chunk of these segments: where each begins, and its bytes.
    pub(super) fn chunk(parts: &[(Seq, i64, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(VERSION);
        write_number(&mut out, parts.len() as u64);
        let (mut seq, mut wall_ms) = (0_u64, 0_i64);
        for (first_seq, first_wall_ms, bytes) in parts {
            write_number(&mut out, first_seq.0.wrapping_sub(seq));
            write_number(&mut out, zigzag(first_wall_ms.wrapping_sub(wall_ms)));
            write_number(&mut out, bytes.len() as u64);
            out.extend_from_slice(&crc32(bytes).to_le_bytes());
            (seq, wall_ms) = (first_seq.0, *first_wall_ms);
        }
        let crc = crc32(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        parts.iter().for_each(|(_, _, bytes)| out.extend_from_slice(bytes));
        out
    }

    /// Which segment holds what was at that time: the last that does not begin after it, else the first.
    pub fn at_wall(&self, wall_ms: i64) -> usize {
        self.segments.partition_point(|segment| segment.first_wall_ms <= wall_ms).saturating_sub(1)
    }

    /// Which segment holds the record at that position, if any does, likewise.
    pub fn at_seq(&self, seq: Seq) -> usize {
        self.segments.partition_point(|segment| segment.first_seq <= seq).saturating_sub(1)
    }
}

/// The one version there is.
const VERSION: u8 = 1;

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

fn write_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self, what: &'static str) -> Result<u8, ChunkError> {
        let byte = self.bytes.get(self.at).ok_or(ChunkError::Truncated { offset: self.bytes.len(), what })?;
        self.at += 1;
        Ok(*byte)
    }

    fn four(&mut self, what: &'static str) -> Result<[u8; 4], ChunkError> {
        let mut out = [0; 4];
        for byte in &mut out {
            *byte = self.byte(what)?;
        }
        Ok(out)
    }

    fn number(&mut self, what: &'static str) -> Result<u64, ChunkError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ChunkError::Broken { offset: self.at, what })
    }
}
