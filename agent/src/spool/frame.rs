//! One entry in a segment: header, CRCs, payload. The layout is in [`super`].

use std::fmt;

use super::crc::crc32c;

/// Bytes of a frame's header.
pub const HEADER: usize = 32;
/// Most bytes of a payload: the largest record (16 MiB) and its packing.
pub const MAX_PAYLOAD: usize = 17 << 20;
const KEYFRAME: u8 = 1;

/// A place in history: an epoch, and a position in it. Ordered as history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The epoch's number.
    pub epoch_no: u64,
    /// Position in it, from 0.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} seq {}", self.epoch_no, self.seq)
    }
}

/// What is kept: opaque bytes and their place.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The epoch's number.
    pub epoch_no: u64,
    /// First position it stands for.
    pub first_seq: u64,
    /// Last position it stands for, at least `first_seq`.
    pub last_seq: u64,
    /// Whether it can be read without what came before.
    pub keyframe: bool,
    /// The record, at most [`MAX_PAYLOAD`] bytes.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Position of its first record.
    pub fn start(&self) -> Position {
        Position { epoch_no: self.epoch_no, seq: self.first_seq }
    }

    /// Position after its last record.
    pub fn end(&self) -> Position {
        Position { epoch_no: self.epoch_no, seq: self.last_seq.saturating_add(1) }
    }

    /// Bytes it takes in a segment.
    pub(super) fn framed_len(&self) -> u64 {
        (HEADER + self.bytes.len()) as u64
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.keyframe { "keyframe" } else { "entry" };
        write!(f, "{kind} {}/{}..={} ({} B)", self.epoch_no, self.first_seq, self.last_seq, self.bytes.len())
    }
}

/// A frame's header, found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) keyframe: bool,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    payload_crc: u32,
}

/// Adds the frame of `entry` to `out`.
pub(super) fn encode(entry: &Entry, segment_no: u64, out: &mut Vec<u8>) {
    let mut header = [0; HEADER];
    let len = u32::try_from(entry.bytes.len()).unwrap_or(u32::MAX);
    header[0..4].copy_from_slice(&len.to_le_bytes());
    header[4] = if entry.keyframe { KEYFRAME } else { 0 };
    header[8..16].copy_from_slice(&entry.first_seq.to_le_bytes());
    header[16..24].copy_from_slice(&entry.last_seq.to_le_bytes());
    header[24..28].copy_from_slice(&crc32c(&[&entry.bytes]).to_le_bytes());
    let crc = crc32c(&[&segment_no.to_le_bytes(), &header[..28]]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(&entry.bytes);
}

/// Reads a header; `None` if it is damaged or is none of this segment.
pub(super) fn decode_header(bytes: &[u8], segment_no: u64) -> Option<Header> {
    let bytes: &[u8; HEADER] = bytes.first_chunk()?;
    let (covered, crc) = bytes.split_at(28);
    if crc != crc32c(&[&segment_no.to_le_bytes(), covered]).to_le_bytes() {
        return None;
    }
    let (first_seq, last_seq) = (u64_at(bytes, 8)?, u64_at(bytes, 16)?);
    let len = u32_at(bytes, 0)? as usize;
    let sane = bytes[4] <= KEYFRAME && bytes[5..8] == [0; 3] && first_seq <= last_seq && len <= MAX_PAYLOAD;
    sane.then_some(Header { len, keyframe: bytes[4] == KEYFRAME, first_seq, last_seq, payload_crc: u32_at(bytes, 24)? })
}

impl Header {
    /// Whether these are the bytes that were framed.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() == self.len && crc32c(&[payload]) == self.payload_crc
    }
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_of_version_1_do_not_change() {
        let entry = Entry { epoch_no: 3, first_seq: 4, last_seq: 6, keyframe: true, bytes: b"abc".to_vec() };
        let mut out = Vec::new();
        encode(&entry, 7, &mut out);
        assert_eq!(
            highwater_proto::token::to_hex(&out),
            "030000000100000004000000000000000600000000000000b73f4b369c00f7aa616263"
        );
        let header = decode_header(&out, 7).unwrap();
        assert!(header.fits(b"abc") && header.keyframe);
        assert_eq!(decode_header(&out, 8), None);
    }

    #[test]
    fn s2_any_flipped_bit_of_a_header_is_noticed() {
        let entry = Entry { epoch_no: 3, first_seq: 4, last_seq: 6, keyframe: false, bytes: b"abc".to_vec() };
        let mut out = Vec::new();
        encode(&entry, 7, &mut out);
        for bit in 0..HEADER * 8 {
            let mut flipped = out.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&flipped, 7), None, "bit {bit}");
        }
    }
}
