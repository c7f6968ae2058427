//! Reads the spool in order, from wherever a collector left off.

use super::frame::Position;
use super::outcome::{Hole, KeyframeDue, Read};
use super::segment::Walker;
use super::store::Spool;

/// Where a reader is. It stays valid while entries are appended, dropped and acknowledged.
#[derive(Debug)]
pub struct Reader {
    next: Position,
    walker: Option<Walker>,
}

impl Reader {
    /// Reads from this position on.
    pub fn new(from: Position) -> Self {
        Self { next: from, walker: None }
    }

    /// The position it reads next.
    pub fn position(&self) -> Position {
        self.next
    }
}

impl Spool {
    /// The next entry at or after the reader's position, `None` at the end. A segment that cannot be read counts as
    /// damaged.
    pub fn read(&mut self, reader: &mut Reader) -> Option<Read> {
        while let Some(index) = self.segment_of(reader) {
            let segment = self.segments.get(index)?;
            let fresh = || Walker::new(segment.number, segment.label.epoch_no);
            let walker = reader.walker.get_or_insert_with(fresh);
            match walker.next(&mut *self.disk, segment.bytes) {
                Ok(Ok(entry)) if entry.end() <= reader.next => {}
                Ok(Ok(entry)) => {
                    let missing = entry.epoch_no >= reader.next.epoch_no
                        && entry.first_seq > if entry.epoch_no == reader.next.epoch_no { reader.next.seq } else { 0 };
                    let first = index == 0 && entry.first_seq == segment.first_seq;
                    let hole = missing.then_some(if first { self.front } else { Hole::Damaged });
                    reader.next = entry.end();
                    return Some(Read { entry, hole });
                }
                Ok(Err(_)) if index + 1 < self.segments.len() => {
                    reader.walker = self.segments.get(index + 1).map(|s| Walker::new(s.number, s.label.epoch_no));
                }
                Ok(Err(_)) => break,
                Err(e) => {
                    self.trouble = Some(e);
                    self.lose(index);
                    reader.walker = None;
                }
            }
        }
        let entry = self.memory.after(reader.next)?.clone();
        let missing = entry.epoch_no == reader.next.epoch_no && entry.first_seq > reader.next.seq;
        reader.next = entry.end();
        Some(Read { entry, hole: missing.then_some(Hole::Overflow) })
    }

    /// Index of the segment a reader is in, or of the first that reaches beyond its position.
    fn segment_of(&self, reader: &mut Reader) -> Option<usize> {
        if let Some(walker) = &reader.walker {
            let at = self.segments.iter().position(|s| s.number == walker.number);
            if at.is_some() {
                return at;
            }
            reader.walker = None;
        }
        self.segments.iter().position(|s| s.end() > reader.next)
    }

    /// A segment that cannot be read is treated as if it were not there.
    fn lose(&mut self, index: usize) {
        if index == 0 {
            self.front = Hole::Damaged;
        }
        if index + 1 == self.segments.len() {
            self.seal(KeyframeDue::Segment);
        }
        self.segments.remove(index);
    }
}
