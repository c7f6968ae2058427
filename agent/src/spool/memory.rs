//! Entries that the disk did not take.

use std::collections::VecDeque;

use super::frame::{Entry, Position};

/// Most bytes kept in memory while the disk refuses.
pub(super) const MAX: u64 = 4 << 20;

/// A queue of entries, at most [`MAX`] bytes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: VecDeque<Entry>,
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

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.framed_len();
        self.entries.push_back(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.framed_len();
        Some(entry)
    }

    pub(super) fn unpop(&mut self, entry: Entry) {
        self.bytes += entry.framed_len();
        self.entries.push_front(entry);
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(super) fn last(&self) -> Option<&Entry> {
        self.entries.back()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The first entry that reaches beyond `at`.
    pub(super) fn after(&self, at: Position) -> Option<&Entry> {
        self.entries.iter().find(|e| e.end() > at)
    }

    /// Forgets what ends at or before `at`; whether that was anything.
    pub(super) fn forget(&mut self, at: Position) -> bool {
        let before = self.entries.len();
        while self.entries.front().is_some_and(|e| e.end() <= at) {
            self.pop();
        }
        self.entries.len() < before
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
