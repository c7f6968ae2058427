//! What is in a spool's directory: reads every segment once, in bounded chunks, and changes nothing.

use std::io::{self, ErrorKind};

use super::disk::Disk;
use super::frame::{Entry, Position};
use super::segment::{self, End, Segment, Walker};
use super::{cursor, frame};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Segments with something readable, oldest first.
    pub segments: Vec<Segment>,
    /// Entries that can be read.
    pub entries: u64,
    /// The ack cursor, if there is a sound one.
    pub acked: Option<Position>,
    /// Places where bytes are damaged, torn tails not among them.
    pub damaged: u32,
    /// Segments whose file is longer than its last whole frame, with its real length.
    pub(super) torn: Vec<(u64, u64)>,
    /// Files that hold nothing readable, and half-written ones.
    pub(super) useless: Vec<String>,
    /// The highest number of any segment, readable or not.
    pub(super) last_number: u64,
    /// Whether the oldest segments are among the damaged.
    pub(super) front_damaged: bool,
}

impl Found {
    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }
}

/// A device that so often in a row cannot give bytes never will.
pub(super) const TRIES: u32 = 3;

/// Reads a spool. What the device refuses ([`ErrorKind::InvalidData`]) at each of three tries counts as damaged.
pub fn scan(disk: &mut dyn Disk) -> io::Result<Found> {
    let mut found = Found { acked: cursor::load(disk)?, ..Found::default() };
    let mut files = Vec::new();
    for (name, len) in disk.list()? {
        match segment::number(&name) {
            Some(number) => files.push((number, len)),
            None if name.ends_with(".new") => found.useless.push(name),
            None => {}
        }
    }
    files.sort_unstable();
    for (number, len) in files {
        found.last_number = number;
        let damaged_before = found.damaged;
        match scan_segment(disk, number, len, &mut found)? {
            Some(segment) => {
                if segment.bytes < len {
                    found.torn.push((number, len));
                }
                found.segments.push(segment);
            }
            None => found.useless.push(segment::name(number)),
        }
        if found.segments.len() <= 1 && found.damaged > damaged_before {
            found.front_damaged = true;
        }
    }
    Ok(found)
}

/// The first readable entry of a segment.
pub fn first_entry(disk: &mut dyn Disk, segment: &Segment) -> io::Result<Option<Entry>> {
    Ok(Walker::of(segment).next(disk, segment.bytes)?.ok())
}

/// The last readable entry of a segment.
pub fn last_entry(disk: &mut dyn Disk, segment: &Segment) -> io::Result<Option<Entry>> {
    Walker::at(segment, segment.last_offset).any(disk, segment.bytes)
}

/// `None` = nothing in it can be read.
fn scan_segment(disk: &mut dyn Disk, number: u64, len: u64, found: &mut Found) -> io::Result<Option<Segment>> {
    let mut header = [0; segment::HEADER];
    let mut read = disk.read_at(&segment::name(number), 0, &mut header);
    for _ in 1..TRIES {
        if read.as_ref().is_err_and(|e| e.kind() == ErrorKind::InvalidData) {
            read = disk.read_at(&segment::name(number), 0, &mut header);
        }
    }
    let read = match read {
        Err(e) if e.kind() == ErrorKind::InvalidData => 0,
        read => read?,
    };
    let Some(label) = segment::decode_header(header.get(..read).unwrap_or_default(), number) else {
        // A file cut short before its first frame is a crash while it was made; anything else is damage.
        found.damaged += u32::from(len > (segment::HEADER + frame::HEADER) as u64);
        return Ok(None);
    };
    let mut walker = Walker::new(number, label.epoch_no, Some(TRIES));
    let mut segment: Option<Segment> = None;
    let end = loop {
        let entry = match walker.next(disk, len)? {
            Ok(entry) => entry,
            Err(end) => break end,
        };
        found.entries += 1;
        let offset = walker.offset - entry.framed_len();
        let known = segment.get_or_insert_with(|| Segment {
            number,
            label,
            first_seq: entry.first_seq,
            next_seq: 0,
            bytes: 0,
            last_offset: 0,
            target: segment::target(entry.framed_len()),
            given_up: false,
        });
        known.next_seq = entry.last_seq.saturating_add(1);
        known.last_offset = offset;
    };
    found.damaged += walker.damaged + u32::from(end == End::Lost);
    Ok(segment.map(|s| Segment { bytes: walker.offset, given_up: walker.refused, ..s }))
}
