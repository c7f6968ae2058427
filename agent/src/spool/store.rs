//! The spool itself: append, acknowledge, make room. Format and invariants are in [`super`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind};

use super::cursor::{self, Durable};
use super::disk::Disk;
use super::frame::{self, Entry, MAX_PAYLOAD, Position};
use super::memory::Memory;
use super::outcome::{Appended, Dropped, Hole, Kept, KeyframeDue, Limits, Lost, SpoolError, Spooled, Synced};
use super::policy::Unforced;
use super::recover::{self, Found};
use super::segment::{self, Label, Segment};

/// Most segments: an agent that dies again and again makes many small ones.
const MAX_SEGMENTS: usize = 1000;

/// A bounded, durable queue of entries.
pub struct Spool {
    pub(super) disk: Box<dyn Disk>,
    limits: Limits,
    pub(super) segments: VecDeque<Segment>,
    /// Whether the last segment takes more.
    open: bool,
    last_number: u64,
    /// A file that was begun in vain and could not be removed.
    leftover: Option<String>,
    label: Label,
    /// Where the next entry must not lie before.
    next: Position,
    pub(super) acked: Position,
    pub(super) memory: Memory,
    due: Option<KeyframeDue>,
    /// Bytes were appended since the last force, which was at this time (microseconds).
    unsynced: bool,
    synced_us: u64,
    unforced: Unforced,
    pub(super) front: Hole,
    /// What went unacknowledged last: the entry behind it may lie in a later epoch, where nothing else tells.
    pub(super) lost: Option<Lost>,
    pub(super) unreadable: bool,
    pub(super) trouble: Option<io::Error>,
}

impl Spool {
    /// Opens the spool in a directory: cuts torn tails, removes what nothing can be read of, and says what it found. What
    /// the device refuses is damage; a directory that cannot be listed, or files that are shortly not to be had, are
    /// an error. Where it cannot be tidied up ([`Spool::trouble`] says why) the next opening finds the same again.
    pub fn open(mut disk: Box<dyn Disk>, limits: Limits) -> Result<(Self, Found), SpoolError> {
        let found = recover::scan(&mut *disk)?;
        let mut trouble = tidy(&mut *disk, &found).err();
        let acked = found.acked.unwrap_or_default();
        let next = found.segments.last().map_or(acked, |s| s.end().max(acked));
        let mut spool = Self {
            disk,
            limits,
            segments: found.segments.iter().cloned().collect(),
            open: false,
            last_number: found.last_number,
            leftover: None,
            label: Label::default(),
            next,
            acked,
            memory: Memory::default(),
            due: Some(KeyframeDue::Segment),
            unsynced: false,
            synced_us: 0,
            unforced: Unforced::default(),
            front: if found.front_damaged { Hole::Damaged } else { Hole::Overflow },
            lost: None,
            unreadable: false,
            trouble: None,
        };
        // The limit may have been lowered.
        trouble = trouble.or(spool.make_room(0, true, &mut None).err());
        spool.trouble = trouble;
        Ok((spool, found))
    }

    /// Entries appended from now on belong to this epoch, which must be later than all before; the first is a keyframe.
    pub fn begin_epoch(&mut self, label: Label) -> Result<(), SpoolError> {
        let at = Position { epoch_no: label.epoch_no, seq: 0 };
        if label.epoch_no <= self.next.epoch_no && self.next != Position::default() {
            return Err(SpoolError::OutOfOrder { at, last: self.next });
        }
        self.seal(KeyframeDue::Segment);
        (self.label, self.next) = (label, at);
        Ok(())
    }

    /// Whether the next entry must be (or had better be) a keyframe, and why.
    pub fn keyframe_due(&self) -> Option<KeyframeDue> {
        self.due
    }

    /// What the disk said last, `None` while it takes what it is given.
    pub fn trouble(&self) -> Option<&io::Error> {
        self.trouble.as_ref()
    }

    /// Whether the last read ended where the disk refuses ([`Spool::trouble`] says why), not at the end.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Takes an entry. `now_us` is any clock of microseconds that runs on; the policy counts by it.
    pub fn append(&mut self, entry: Entry, now_us: u64) -> Result<Appended, SpoolError> {
        let (start, end) = (entry.start(), entry.end());
        if start < self.next || start.epoch_no != self.label.epoch_no || entry.last_seq < entry.first_seq {
            return Err(SpoolError::OutOfOrder { at: start, last: self.next });
        }
        if !entry.keyframe && (start != self.next || self.due == Some(KeyframeDue::Overflow)) {
            return Err(SpoolError::NeedsKeyframe { at: start });
        }
        if !entry.keyframe && !self.open && self.memory.is_empty() {
            return Err(SpoolError::NeedsKeyframe { at: start });
        }
        let is_keyframe = entry.keyframe;
        let mut dropped = None;
        self.next = end;
        let mut kept = Kept::Disk;
        if entry.bytes.len() > MAX_PAYLOAD || entry.framed_len() + segment::HEADER as u64 > self.limits.bytes {
            let bytes = entry.framed_len();
            self.seal(KeyframeDue::Overflow);
            return Ok(Appended {
                next: end,
                kept: Kept::Nowhere,
                synced: None,
                dropped: Some(Dropped { from: start, to: end, bytes }),
            });
        }
        if is_keyframe {
            self.due = None;
        }
        if self.flush(&mut dropped) {
            if let Err(entry) = self.write(self.label, entry, &mut dropped) {
                kept = self.keep_in_memory(entry, &mut dropped);
            }
        } else {
            kept = self.keep_in_memory(entry, &mut dropped);
        }
        let passed = self.unforced.passed(now_us, self.synced_us);
        self.unforced.push(end, now_us);
        let synced = if self.limits.fsync.due(passed) { self.sync(now_us) } else { None };
        self.ask_for_keyframe();
        Ok(Appended { next: end, kept, synced, dropped })
    }

    /// Forces what was appended to the device; `None` = nothing is on disk, or the device refused.
    pub fn sync(&mut self, now_us: u64) -> Option<Synced> {
        let last = self.segments.back().filter(|_| self.open)?;
        if self.unsynced {
            if let Err(e) = self.disk.sync(&last.name()) {
                // What the kernel did not write it may have forgotten: nothing may follow in this segment.
                self.trouble = Some(e);
                self.seal(KeyframeDue::Segment);
                return None;
            }
            (self.unsynced, self.synced_us) = (false, now_us);
            self.unforced.clear();
        }
        Some(Synced::proven(last.end()))
    }

    /// What is held, by epoch, ascending.
    pub fn epochs(&self) -> Vec<Spooled> {
        let mut epochs: Vec<Spooled> = Vec::new();
        let on_disk = self.segments.iter().map(|s| (s.label, s.first_seq, s.next_seq));
        let in_memory = self.memory.iter().map(|(label, e)| (*label, e.first_seq, e.last_seq.saturating_add(1)));
        for (label, first_seq, next_seq) in on_disk.chain(in_memory) {
            match epochs.last_mut().filter(|last| last.label.epoch_no == label.epoch_no) {
                Some(last) => last.next_seq = next_seq,
                None => epochs.push(Spooled { label, first_seq, next_seq }),
            }
        }
        epochs
    }

    /// An epoch of which nothing is held any more, though its last entries were never acknowledged: only this process
    /// remembers, and only the last such epoch.
    pub fn lost_epoch(&self) -> Option<Spooled> {
        let lost = self.lost.as_ref().filter(|lost| lost.end() > self.acked)?;
        let held = self.segments.iter().any(|s| s.label.epoch_no == lost.label.epoch_no);
        (!held).then_some(Spooled { label: lost.label, first_seq: lost.from_seq, next_seq: lost.next_seq })
    }

    /// The last entry of that epoch, `None` if none is held or it can no longer be read.
    pub fn last_entry(&mut self, epoch_no: u64) -> Result<Option<Entry>, SpoolError> {
        if let Some(entry) = self.memory.last_of(epoch_no) {
            return Ok(Some(entry.clone()));
        }
        let Some(segment) = self.segments.iter().rev().find(|s| s.label.epoch_no == epoch_no) else { return Ok(None) };
        Ok(recover::last_entry(&mut *self.disk, segment)?)
    }

    /// The collector has everything before `at` durably: frees what lies before it. Returns how many segments went.
    pub fn acked(&mut self, at: Position) -> Result<usize, SpoolError> {
        if at <= self.acked {
            return Ok(0);
        }
        self.acked = at;
        self.unforced.acked(at);
        if self.memory.forget(at) {
            // The segment on disk lacks what was acked from memory: what follows begins a new one.
            self.seal(self.due.unwrap_or(KeyframeDue::Segment));
        }
        let whole = self.segments.len() - usize::from(self.open);
        let free = self.segments.iter().take(whole).take_while(|s| s.end() <= at).count();
        if free == 0 {
            return Ok(0);
        }
        match self.store_cursor() {
            Ok(durable) => self.unlink(free, durable),
            Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                self.remove_oldest()?;
                let durable = self.store_cursor()?;
                self.unlink(free - 1, durable)
            }
            Err(e) => Err(e.into()),
        }?;
        Ok(free)
    }

    /// Ends the spool in order: all is forced to the device, the cursor too.
    pub fn close(&mut self, now_us: u64) -> Option<Synced> {
        self.flush(&mut None);
        let synced = self.sync(now_us);
        if let Err(e) = self.store_cursor() {
            self.trouble = Some(e);
        }
        synced
    }

    /// Bytes in segments, and in memory.
    pub fn bytes(&self) -> (u64, u64) {
        (self.segments.iter().map(|s| s.bytes).sum(), self.memory.bytes())
    }

    /// What is acknowledged, as far as this process or the cursor knows.
    pub fn acknowledged(&self) -> Position {
        self.acked
    }

    /// Writes out what waits in memory; whether nothing waits any more.
    fn flush(&mut self, dropped: &mut Option<Dropped>) -> bool {
        while let Some((label, entry)) = self.memory.pop() {
            if let Err(entry) = self.write(label, entry, dropped) {
                self.memory.unpop(label, entry);
                return false;
            }
        }
        true
    }

    /// Appends to the last segment or begins one; gives the entry back if the disk refuses.
    fn write(&mut self, label: Label, entry: Entry, dropped: &mut Option<Dropped>) -> Result<(), Entry> {
        let follows = self.segments.back().is_some_and(|s| self.open && s.end() == entry.start());
        let full = self.segments.back().is_some_and(|s| s.bytes + entry.framed_len() > s.target);
        let begin = entry.keyframe && (!follows || full);
        if !begin && !follows {
            return Err(entry);
        }
        let mut bytes = Vec::with_capacity(segment::HEADER + frame::HEADER + entry.bytes.len());
        let number = if begin { self.last_number.saturating_add(1) } else { self.last_number };
        if begin {
            bytes.extend_from_slice(&segment::encode_header(number, &label));
        }
        let offset = bytes.len() as u64;
        frame::encode(&entry, number, &mut bytes);
        if let Err(e) = self.make_room(bytes.len() as u64, begin, dropped) {
            self.trouble = Some(e);
            return Err(entry);
        }
        let done = if begin { self.begin_segment(number, &bytes) } else { self.extend_segment(number, &bytes) };
        if let Err(e) = done {
            self.trouble = Some(e);
            return Err(entry);
        }
        self.trouble = None;
        if begin {
            self.segments.push_back(Segment {
                number,
                label,
                first_seq: entry.first_seq,
                next_seq: entry.last_seq.saturating_add(1),
                bytes: bytes.len() as u64,
                last_offset: offset,
                target: segment::target(entry.framed_len()).min(self.limits.bytes / 2),
                given_up: false,
            });
            (self.last_number, self.open) = (number, true);
        } else if let Some(last) = self.segments.back_mut() {
            last.last_offset = last.bytes;
            last.bytes += bytes.len() as u64;
            last.next_seq = entry.last_seq.saturating_add(1);
        }
        self.unsynced = true;
        Ok(())
    }

    /// Begins a file; its name is durable when this returns, and no trace of it is left if it fails.
    fn begin_segment(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(last) = self.segments.back().filter(|_| self.open && self.unsynced) {
            self.disk.sync(&last.name())?;
        }
        if let Some(name) = &self.leftover {
            // Otherwise a device that neither forces nor removes would be filled with them.
            self.disk.remove(name)?;
            self.leftover = None;
        }
        let name = segment::name(number);
        let made = self
            .disk
            .create(&name)
            .and_then(|()| self.disk.append(&name, bytes))
            .and_then(|()| self.disk.sync(&name))
            .and_then(|()| self.disk.sync_dir());
        if made.is_err() {
            // Whether it can be removed or not: nothing refers to it, and its number is not used again.
            let removed = self.disk.remove(&name);
            self.leftover = removed.is_err_and(|e| e.kind() != ErrorKind::NotFound).then_some(name);
            self.last_number = number;
        }
        made
    }

    fn extend_segment(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        let name = segment::name(number);
        let written = self.disk.append(&name, bytes);
        if written.is_err() {
            let len = self.segments.back().map_or(0, |s| s.bytes);
            if self.disk.truncate(&name, len).is_err() {
                // A part of the frame may stay there: nothing may follow it.
                self.seal(KeyframeDue::Segment);
            }
        }
        written
    }

    /// Drops oldest segments until `needed` bytes fit (S4).
    fn make_room(&mut self, needed: u64, begin: bool, dropped: &mut Option<Dropped>) -> io::Result<()> {
        let mut held: u64 = self.segments.iter().map(|s| s.bytes).sum();
        let before = self.segments.len();
        while held + needed > self.limits.bytes || (begin && self.segments.len() >= MAX_SEGMENTS) {
            let Some(oldest) = self.segments.front() else { break };
            let last = self.segments.len() == 1;
            let (from, to) = (oldest.first_seq, oldest.end());
            let (epoch_no, bytes) = (oldest.label.epoch_no, oldest.bytes);
            let lost = Lost::of(oldest, Hole::Overflow);
            self.remove_oldest()?;
            held -= bytes;
            if to > self.acked {
                (self.front, self.lost) = (Hole::Overflow, Some(lost));
                let from = Position { epoch_no, seq: from }.max(self.acked);
                let so_far = dropped.get_or_insert(Dropped { from, to, bytes: 0 });
                (so_far.to, so_far.bytes) = (to, so_far.bytes + bytes);
            }
            if last && !begin {
                // The open segment itself went: nothing is left to extend.
                self.seal(KeyframeDue::Overflow);
                return Err(io::Error::new(ErrorKind::QuotaExceeded, "one segment fills the spool"));
            }
        }
        if self.segments.len() < before {
            // What was dropped must not come back after a crash: the reader may have been told.
            self.disk.sync_dir()?;
        }
        Ok(())
    }

    /// Puts an entry where it does not survive the process; if even that is full, drops what is there (S7).
    fn keep_in_memory(&mut self, entry: Entry, dropped: &mut Option<Dropped>) -> Kept {
        let follows = self.memory.last().is_none_or(|last| last.end() == entry.start() || entry.keyframe);
        if follows && self.due != Some(KeyframeDue::Overflow) && self.memory.fits(&entry) {
            self.memory.push(self.label, entry);
            return Kept::Memory;
        }
        let (to, mut bytes) = (entry.end(), entry.framed_len());
        bytes += self.memory.bytes();
        let from = self.memory.first().map_or(entry.start(), Entry::start);
        self.memory.clear();
        let so_far = dropped.get_or_insert(Dropped { from, to, bytes: 0 });
        (so_far.to, so_far.bytes) = (to, so_far.bytes + bytes);
        self.seal(KeyframeDue::Overflow);
        Kept::Nowhere
    }

    /// Nothing is appended to the last segment any more; a keyframe begins the next.
    pub(super) fn seal(&mut self, why: KeyframeDue) {
        let last = self.segments.back().filter(|_| self.open && self.unsynced);
        if let Some(Err(e)) = last.map(|last| self.disk.sync(&last.name())) {
            self.trouble = Some(e);
        }
        (self.open, self.unsynced) = (false, false);
        self.unforced.clear();
        if self.due != Some(KeyframeDue::Overflow) {
            self.due = Some(why);
        }
    }

    /// Asks for a keyframe where the last segment is full.
    fn ask_for_keyframe(&mut self) {
        let full = self.segments.back().is_some_and(|s| s.bytes >= s.target);
        if self.due.is_none() && self.memory.is_empty() && (!self.open || full) {
            self.due = Some(KeyframeDue::Segment);
        }
    }

    fn store_cursor(&mut self) -> io::Result<Durable> {
        cursor::store(&mut *self.disk, self.acked)
    }

    /// Unlinks the oldest `count` segments, which lie before a durable cursor (S6).
    fn unlink(&mut self, count: usize, durable: Durable) -> Result<(), SpoolError> {
        for _ in 0..count {
            if self.segments.front().is_some_and(|s| s.end() <= durable.position()) {
                self.remove_oldest()?;
            }
        }
        self.disk.sync_dir()?;
        Ok(())
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.segments.front() else { return Ok(()) };
        match self.disk.remove(&oldest.name()) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.segments.pop_front();
        // What lacks before the next one, if anything does, is not what went here: whoever drops it for room says so.
        self.front = Hole::Damaged;
        if self.segments.is_empty() {
            (self.open, self.unsynced) = (false, false);
        }
        Ok(())
    }
}

/// Cuts torn tails off, removes what nothing can be read of, and forces what a killed process had not.
fn tidy(disk: &mut dyn Disk, found: &Found) -> io::Result<()> {
    for (number, _) in &found.torn {
        let keep = found.segments.iter().find(|s| s.number == *number).map_or(0, |s| s.bytes);
        let name = segment::name(*number);
        disk.truncate(&name, keep)?;
        disk.sync(&name)?;
    }
    if let Some(last) = found.segments.last() {
        disk.sync(&last.name())?;
    }
    for name in &found.useless {
        disk.remove(name)?;
    }
    disk.sync_dir()
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool")
            .field("segments", &self.segments.len())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
