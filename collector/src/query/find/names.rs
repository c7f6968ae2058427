//! Which names there are, three bytes each: how a name begins, and a sum of its rest. Pure.

use std::collections::BTreeSet;

use super::expr::TextPattern;
use super::pack::{Reader, length, push_number};

/// Names, gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    signs: BTreeSet<[u8; 3]>,
    /// There were more than are told: any name may be among them.
    overflowed: bool,
}

/// The most names that are told.
const MOST: usize = 128;

impl Names {
    /// Adds a name.
    pub(super) fn add(&mut self, name: &[u8]) {
        if !self.overflowed {
            self.signs.insert(sign(name));
            self.overflowed = self.signs.len() > MOST;
        }
    }

    /// Packs them.
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        if self.overflowed {
            return push_number(out, 0);
        }
        push_number(out, length(self.signs.len()).saturating_add(1));
        self.signs.iter().for_each(|sign| out.extend_from_slice(sign));
    }

    /// Passes over what [`Names::push`] wrote; `None` = it is damaged.
    pub(super) fn read<'b>(reader: &mut Reader<'b>) -> Option<Told<'b>> {
        let Some(count) = reader.count()?.checked_sub(1) else { return Some(Told { signs: None }) };
        Some(Told { signs: Some(reader.bytes(count.checked_mul(3)?)?) })
    }
}

/// Packed names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'b> {
    signs: Option<&'b [u8]>,
}

impl Told<'_> {
    /// Whether a name that fits the pattern may be among them.
    pub(super) fn may_fit(&self, pattern: &TextPattern) -> bool {
        let Some(signs) = self.signs else { return true };
        let wanted = sign(&pattern.bytes);
        let known = if pattern.is_prefix { pattern.bytes.len().min(2) } else { wanted.len() };
        signs.chunks_exact(wanted.len()).any(|sign| sign.get(..known) == wanted.get(..known))
    }
}

/// The first two bytes, 0 where there are none, and FNV-1a of the rest, folded into one byte.
fn sign(name: &[u8]) -> [u8; 3] {
    let rest = name.get(2..).unwrap_or_default();
    let step = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let sum = rest.iter().fold(0x811c_9dc5, step).to_le_bytes().into_iter().fold(0, |a, b| a ^ b);
    [name.first().copied().unwrap_or(0), name.get(1).copied().unwrap_or(0), sum]
}
