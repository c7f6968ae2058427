//! Texts that repeat within a body (comms): each is spelled once.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::CodecError;
use super::varint::{Reader, Writer};
use crate::text::HostText;

/// The texts of one body so far, in order of their first use.
#[derive(Default)]
pub(super) struct Texts {
    list: Vec<HostText>,
    places: BTreeMap<HostText, u64>,
}

impl Texts {
    /// The most texts that are remembered.
    const MAX: usize = 4096;
    /// The longest text that is remembered, bytes: what the kernel gives a comm (`TASK_COMM_LEN`). Without this bound
    /// a body of places could unpack to 256 times its bytes.
    const LONGEST: usize = 16;

    /// Where a text stands; that of one that is not remembered is the number of those that are.
    pub(super) fn place(&self, text: &HostText) -> u64 {
        self.places.get(text).copied().unwrap_or(self.len())
    }

    /// Writes what follows a place: the text, unless it is remembered.
    pub(super) fn write(&mut self, out: &mut Writer, text: &HostText) {
        if !self.places.contains_key(text) {
            out.text(text);
            self.learn(text);
        }
    }

    /// Reads what follows a place.
    pub(super) fn read(&mut self, bytes: &mut Reader<'_>, place: u64) -> Result<HostText, CodecError> {
        if let Some(text) = usize::try_from(place).ok().and_then(|place| self.list.get(place)) {
            return Ok(text.clone());
        }
        let (offset, what) = (bytes.offset(), "a comm");
        if place != self.len() {
            return Err(CodecError::TooLarge { offset, what: "the place of a comm", value: place, bound: self.len() });
        }
        let text = bytes.text(what)?;
        if self.places.contains_key(&text) {
            return Err(CodecError::NotCanonical { offset, what });
        }
        self.learn(&text);
        Ok(text)
    }

    /// Writes a text with its place before it.
    pub(super) fn write_placed(&mut self, out: &mut Writer, text: &HostText) {
        out.number(self.place(text));
        self.write(out, text);
    }

    /// Reads a text with its place before it.
    pub(super) fn read_placed(&mut self, bytes: &mut Reader<'_>) -> Result<HostText, CodecError> {
        let place = bytes.number("the place of a comm")?;
        self.read(bytes, place)
    }

    fn len(&self) -> u64 {
        self.list.len() as u64
    }

    fn learn(&mut self, text: &HostText) {
        if self.list.len() < Self::MAX && text.as_bytes().len() <= Self::LONGEST {
            self.places.insert(text.clone(), self.len());
            self.list.push(text.clone());
        }
    }
}
