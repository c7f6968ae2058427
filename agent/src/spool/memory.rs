//! Entries that the disk did not take.

use std::collections::VecDeque;

use super::frame::{Entry, Position};
use super::segment::Label;

/// Most bytes kept in memory while the disk refuses.
pub(super) const MAX: u64 = 4 << 20;

/// A queue of entries, each with its epoch, at most [`MAX`] bytes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: VecDeque<(Label, Entry)>,
    bytes: u64,
}

impl Memory {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn fits(&self, entry: &Entry) -> bool {
        self.bytes.saturating_add(entry.framed_len()) <= MAX
    }

    pub(super) fn push(&mut self, label: Label, entry: Entry) {
        self.bytes += entry.framed_len();
        self.entries.push_back((label, entry));
    }

    pub(super) fn pop(&mut self) -> Option<(Label, Entry)> {
        let (label, entry) = self.entries.pop_front()?;
        self.bytes -= entry.framed_len();
        Some((label, entry))
    }

    pub(super) fn unpop(&mut self, label: Label, entry: Entry) {
        self.bytes += entry.framed_len();
        self.entries.push_front((label, entry));
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.front().map(|(_, entry)| entry)
    }

    pub(super) fn last(&self) -> Option<&Entry> {
        self.entries.back().map(|(_, entry)| entry)
    }

    /// The last entry of that epoch.
    pub(super) fn last_of(&self, epoch_no: u64) -> Option<&Entry> {
        self.entries.iter().rev().map(|(_, entry)| entry).find(|e| e.epoch_no == epoch_no)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Label, Entry)> {
        self.entries.iter()
    }

    /// The first entry that reaches beyond `at`, or the next keyframe if what it builds on is missing there.
    pub(super) fn after(&self, at: Position) -> Option<&Entry> {
        self.entries.iter().map(|(_, entry)| entry).find(|e| e.end() > at && (e.start() <= at || e.keyframe))
    }

    /// Forgets what ends at or before `at`; whether that was anything.
    pub(super) fn forget(&mut self, at: Position) -> bool {
        let before = self.entries.len();
        while self.first().is_some_and(|e| e.end() <= at) {
            self.pop();
        }
        self.entries.len() < before
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
