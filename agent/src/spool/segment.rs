//! A segment file: its header, and a reader that walks its frames in bounded chunks. The layout is in [`super`].

use std::io::{self, ErrorKind};

use super::crc::crc32c;
use super::disk::Disk;
use super::frame::{self, Entry, Header, Position, u32_at, u64_at};

/// Bytes of a segment's header.
pub const HEADER: usize = 64;
/// A segment asks for a keyframe, so that a next one can begin, once it holds this many bytes.
pub const TARGET: u64 = 1 << 20;
const MAGIC: &[u8; 8] = b"HWSPOOL\x01";
/// Bytes read at once; a frame that is larger is read by itself.
const CHUNK: usize = 32 << 10;

/// An epoch as the spool knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Label {
    /// Its number.
    pub epoch_no: u64,
    /// Whatever else its maker wants back, opaque.
    pub tag: [u8; 24],
}

/// What is known of a segment without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// The epoch of its entries.
    pub label: Label,
    /// First position it can give back.
    pub first_seq: u64,
    /// Position after the last one.
    pub next_seq: u64,
    /// Length up to the end of its last whole frame.
    pub bytes: u64,
    /// Where its last readable frame begins.
    pub(super) last_offset: u64,
    /// Length at which it asks for a keyframe.
    pub(super) target: u64,
    /// The device refused some of its bytes so often that they count as damaged.
    pub(super) given_up: bool,
}

impl Segment {
    /// Position after its last entry.
    pub fn end(&self) -> Position {
        Position { epoch_no: self.label.epoch_no, seq: self.next_seq }
    }

    /// Its file.
    pub fn name(&self) -> String {
        name(self.number)
    }
}

/// The file of that segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:016x}.seg")
}

/// The segment of that file; `None` for other files.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|d| d.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|n| self::name(*n) == name)
}

/// Length at which a segment with this first frame asks for a keyframe: with keyframes of many MiB not after every
/// entry.
pub(super) fn target(first_frame: u64) -> u64 {
    TARGET.max(first_frame.saturating_mul(2))
}

pub(super) fn encode_header(segment_no: u64, label: &Label) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&segment_no.to_le_bytes());
    header[16..24].copy_from_slice(&label.epoch_no.to_le_bytes());
    header[24..48].copy_from_slice(&label.tag);
    let crc = crc32c(&[&header[..60]]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(super) fn decode_header(bytes: &[u8], segment_no: u64) -> Option<Label> {
    let bytes: &[u8; HEADER] = bytes.first_chunk()?;
    let sound = bytes.starts_with(MAGIC)
        && u32_at(bytes, 60) == Some(crc32c(&[&bytes[..60]]))
        && u64_at(bytes, 8) == Some(segment_no)
        && bytes[48..60] == [0; 12];
    if !sound {
        return None;
    }
    Some(Label { epoch_no: u64_at(bytes, 16)?, tag: *bytes[24..].first_chunk()? })
}

/// Walks the frames of one segment in order, resuming at a keyframe after damage. It can go on when more has been
/// appended.
#[derive(Debug)]
pub(super) struct Walker {
    pub(super) number: u64,
    epoch_no: u64,
    /// Where the next frame begins.
    pub(super) offset: u64,
    /// The seq that must follow; nothing before it is taken.
    expected: u64,
    /// Whether what came before `expected` was read; without it only a keyframe will do.
    based: bool,
    /// Places where something was damaged.
    pub(super) damaged: u32,
    /// How often the device is asked for bytes before they count as damaged; `None` = its refusal ends the walk.
    tries: Option<u32>,
    /// Whether the device refused bytes to the end.
    pub(super) refused: bool,
    /// Bytes read at once, if the frame is not larger.
    chunk: usize,
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// A frame's header and its payload, `None` if that is damaged.
type Frame = (Header, Option<Vec<u8>>);

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the end of the last frame.
    Whole,
    /// In the middle of a frame.
    Torn,
    /// At bytes that are no frame header: what follows cannot be read.
    Lost,
}

impl Walker {
    /// `tries`: how often the device is asked for bytes before they count as damaged; `None` = its refusal ends the walk.
    pub(super) fn new(number: u64, epoch_no: u64, tries: Option<u32>) -> Self {
        Self {
            number,
            epoch_no,
            offset: HEADER as u64,
            expected: 0,
            based: false,
            damaged: 0,
            tries,
            refused: false,
            chunk: CHUNK,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// Starts at a segment's first frame; what the device refused before is asked for once more.
    pub(super) fn of(segment: &Segment) -> Self {
        Self::new(segment.number, segment.label.epoch_no, segment.given_up.then_some(1))
    }

    /// Starts at a frame known to be whole, keyframe or not.
    pub(super) fn at(segment: &Segment, offset: u64) -> Self {
        Self { offset, ..Self::of(segment) }
    }

    /// What the device refuses from here on counts as damaged.
    pub(super) fn give_up(&mut self) {
        self.tries = Some(1);
    }

    /// The next entry before `end`, or how the walk ended there.
    pub(super) fn next(&mut self, disk: &mut dyn Disk, end: u64) -> io::Result<Result<Entry, End>> {
        loop {
            let (header, payload) = match self.frame(disk, end)? {
                Ok(frame) => frame,
                Err(how) => return Ok(Err(how)),
            };
            let Some(payload) = payload else {
                self.damaged = self.damaged.saturating_add(1);
                self.based = false;
                continue;
            };
            if header.last_seq < self.expected {
                // A block of this file that was written to a second place.
                self.damaged = self.damaged.saturating_add(1);
                continue;
            }
            let next = header.first_seq == self.expected && self.based;
            if next || header.keyframe {
                (self.expected, self.based) = (header.last_seq.saturating_add(1), true);
                return Ok(Ok(self.entry(&header, payload)));
            }
            self.based = false;
        }
    }

    /// The next frame, whatever its place in the order.
    pub(super) fn any(&mut self, disk: &mut dyn Disk, end: u64) -> io::Result<Option<Entry>> {
        let frame = self.frame(disk, end)?;
        Ok(frame.ok().and_then(|(header, payload)| Some(self.entry(&header, payload?))))
    }

    fn entry(&self, header: &Header, bytes: Vec<u8>) -> Entry {
        let Header { keyframe, first_seq, last_seq, .. } = *header;
        Entry { epoch_no: self.epoch_no, first_seq, last_seq, keyframe, bytes }
    }

    /// One frame and the step over it; a damaged payload is `None`.
    fn frame(&mut self, disk: &mut dyn Disk, end: u64) -> io::Result<Result<Frame, End>> {
        if self.offset >= end {
            return Ok(Err(End::Whole));
        }
        let (number, left) = (self.number, end - self.offset);
        if left < frame::HEADER as u64 {
            return Ok(Err(End::Torn));
        }
        let header = self.fill(disk, frame::HEADER, end)?;
        let Some(header) = header.and_then(|bytes| frame::decode_header(bytes, number)) else {
            return Ok(Err(End::Lost));
        };
        let len = frame::HEADER + header.len;
        if left < len as u64 {
            return Ok(Err(End::Torn));
        }
        let payload = self.fill(disk, len, end)?.and_then(|bytes| bytes.get(frame::HEADER..len));
        let payload = payload.filter(|payload| header.fits(payload)).map(<[u8]>::to_vec);
        self.offset += len as u64;
        if self.buffer.capacity() > 2 * CHUNK {
            self.buffer = Vec::new();
        }
        Ok(Ok((header, payload)))
    }

    /// The `need` bytes from `offset` on; fewer only if the file is shorter than it should be. `None`: the device refuses
    /// them, and that counts as damage.
    fn fill(&mut self, disk: &mut dyn Disk, need: usize, end: u64) -> io::Result<Option<&[u8]>> {
        let buffered = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
        if !(buffered.contains(&self.offset) && self.offset + need as u64 <= buffered.end) {
            let mut read = self.read(disk, need.max(self.chunk), end);
            let mut tries = 1;
            while let (Err(e), Some(most)) = (&read, self.tries) {
                if e.kind() != ErrorKind::InvalidData {
                    break;
                }
                if self.chunk == 0 && tries >= most {
                    self.refused = true;
                    return Ok(None);
                }
                // Perhaps only bytes behind this frame are refused.
                tries = if self.chunk == 0 { tries + 1 } else { 1 };
                self.chunk = 0;
                read = self.read(disk, need, end);
            }
            read?;
        }
        let from = usize::try_from(self.offset - self.buffer_at).unwrap_or(usize::MAX);
        let bytes = self.buffer.get(from..).unwrap_or_default();
        Ok(Some(bytes.get(..need).unwrap_or(bytes)))
    }

    /// Reads bytes from `offset` on into the buffer, which is empty if that fails.
    fn read(&mut self, disk: &mut dyn Disk, bytes: usize, end: u64) -> io::Result<()> {
        let left = usize::try_from(end - self.offset).unwrap_or(usize::MAX);
        self.buffer.resize(bytes.min(left), 0);
        self.buffer_at = self.offset;
        let read = disk.read_at(&name(self.number), self.offset, &mut self.buffer);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_another_segment_or_with_a_flipped_bit_is_refused() {
        let label = Label { epoch_no: 9, tag: [5; 24] };
        let header = encode_header(3, &label);
        assert_eq!(decode_header(&header, 3), Some(label));
        assert_eq!(decode_header(&header, 4), None);
        for bit in 0..HEADER * 8 {
            let mut flipped = header;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&flipped, 3), None, "bit {bit}");
        }
    }

    #[test]
    fn only_segment_names_are_segments() {
        assert_eq!(number(&name(0xabc)), Some(0xabc));
        for other in ["cursor", "0.seg", "0000000000000ABC.seg", "+000000000000001.seg", "0000000000000001.new"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
