//! Reads the spool in order, from wherever a collector left off.

use std::io::ErrorKind;

use super::frame::{Entry, Position};
use super::outcome::{Hole, KeyframeDue, Lost, Read};
use super::recover::TRIES;
use super::segment::Walker;
use super::store::Spool;

/// Where a reader is. It stays valid while entries are appended, dropped and acknowledged.
#[derive(Debug)]
pub struct Reader {
    next: Position,
    walker: Option<Walker>,
    /// How often in a row its segment could not be read.
    failures: u32,
}

impl Reader {
    /// Reads from this position on.
    pub fn new(from: Position) -> Self {
        Self { next: from, walker: None, failures: 0 }
    }

    /// The position it reads next.
    pub fn position(&self) -> Position {
        self.next
    }
}

impl Spool {
    /// The next entry at or after the reader's position, `None` at the end, or where it cannot be read just now
    /// ([`Spool::is_unreadable`]): the same reader may try again. A segment whose file is gone counts as damaged, and so
    /// do bytes that the device did not give at the third try.
    pub fn read(&mut self, reader: &mut Reader) -> Option<Read> {
        self.unreadable = false;
        while let Some(index) = self.segment_of(reader) {
            let segment = self.segments.get(index)?;
            let walker = reader.walker.get_or_insert_with(|| Walker::of(segment));
            let read = walker.next(&mut *self.disk, segment.bytes);
            if read.is_ok() {
                reader.failures = 0;
            }
            match read {
                Ok(Ok(entry)) if entry.end() <= reader.next => {}
                Ok(Ok(entry)) => {
                    let first = index == 0 && entry.first_seq == segment.first_seq;
                    let hole = self.hole(reader.next, &entry, if first { self.front } else { Hole::Damaged });
                    reader.next = entry.end();
                    return Some(Read { entry, hole });
                }
                Ok(Err(_)) if index + 1 < self.segments.len() => {
                    if segment.end() > reader.next.max(self.acked) {
                        self.lost = Some(Lost::of(segment, Hole::Damaged));
                    }
                    reader.walker = self.segments.get(index + 1).map(Walker::of);
                }
                Ok(Err(_)) => break,
                Err(e) => {
                    reader.failures += 1;
                    match e.kind() {
                        ErrorKind::NotFound => {
                            self.lose(index);
                            reader.walker = None;
                        }
                        ErrorKind::InvalidData if reader.failures >= TRIES => {
                            walker.give_up();
                            self.give_up(index);
                        }
                        // A shortage of the host (open files, memory) or a permission passes.
                        _ => {
                            (self.trouble, self.unreadable) = (Some(e), true);
                            return None;
                        }
                    }
                    (self.trouble, reader.failures) = (Some(e), 0);
                }
            }
        }
        let damaged = self.segments.back().is_some_and(|s| s.end() > reader.next);
        let entry = self.memory.after(reader.next)?.clone();
        // Acked up to the first one here: whoever lost what was acked lacks the base of those before the next keyframe.
        let acked = self.memory.first().is_some_and(|e| reader.next < self.acked && e.start() == self.acked);
        let hole = self.hole(reader.next, &entry, if damaged { Hole::Damaged } else { Hole::Overflow });
        let hole = hole.map(|why| if acked { Hole::Acked } else { why });
        reader.next = entry.end();
        Some(Read { entry, hole })
    }

    /// Why entries are missing between a reader's place and the entry it found, if some are. `why` is the reason within
    /// an epoch; what went from the end of an earlier one is remembered.
    fn hole(&self, from: Position, entry: &Entry, why: Hole) -> Option<Hole> {
        let to = entry.start();
        let same_epoch = to.epoch_no == from.epoch_no;
        let missing = to.epoch_no >= from.epoch_no && to.seq > if same_epoch { from.seq } else { 0 };
        let tail = self.lost.as_ref().filter(|lost| !same_epoch && from < lost.end() && lost.end() <= to);
        let why = missing.then_some(why).or(tail.map(|lost| lost.why))?;
        Some(if to <= self.acked { Hole::Acked } else { why })
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

    /// The device will not give all of a segment's bytes: what it gives is read, and the segment stays until it is
    /// acknowledged.
    fn give_up(&mut self, index: usize) {
        if index + 1 == self.segments.len() {
            self.seal(KeyframeDue::Segment);
        }
        if let Some(segment) = self.segments.get_mut(index) {
            segment.given_up = true;
        }
    }

    /// A segment whose file is gone goes.
    fn lose(&mut self, index: usize) {
        if index == 0 {
            self.front = Hole::Damaged;
        }
        if index + 1 == self.segments.len() {
            self.seal(KeyframeDue::Segment);
        }
        let Some(segment) = self.segments.remove(index) else { return };
        // If it stays there, the next opening finds it.
        let _ = self.disk.remove(&segment.name());
        if segment.end() > self.acked {
            self.lost = Some(Lost::of(&segment, Hole::Damaged));
        }
    }
}
