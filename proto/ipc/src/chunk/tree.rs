//! Which of many: rows or namespaces that are touched, found through blocks of blocks, so that a list of which nothing
//! or little is touched costs little.

use alloc::vec::Vec;

use super::range::{Bit, Coder};

/// How many members a block has.
const FAN: usize = 16;
/// The most levels of blocks: 16^6 members.
const LEVELS: usize = 5;

/// What was learned of blocks, by level and by what the block did the last three times.
pub(super) struct Tree {
    blocks: [[Bit; 8]; LEVELS],
}

/// What the blocks of one list did the last three times, by level.
#[derive(Default)]
pub(super) struct Blocks(Vec<Vec<u8>>);

/// One list on its way through the tree.
struct Walk<'a, C, L> {
    c: &'a mut C,
    tree: &'a mut Tree,
    blocks: &'a mut Blocks,
    leaf: L,
    leaves: &'a mut [Bit],
    /// What a writer wants, ascending, from here on.
    want: &'a [u32],
    found: &'a mut Vec<u32>,
}

impl Tree {
    pub(super) const NEW: Tree = Tree { blocks: [[Bit::NEW; 8]; LEVELS] };

    /// Which of `count` members are touched: `found`, ascending. `leaf` tells by which of the contexts a member goes.
    pub(super) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        (count, blocks): (usize, &mut Blocks),
        (leaves, leaf): (&mut [Bit], impl Fn(usize) -> usize),
        want: &[u32],
        found: &mut Vec<u32>,
    ) {
        found.clear();
        let level = (0..LEVELS).find(|level| FAN.pow(count_of(*level)) >= count).unwrap_or(LEVELS);
        blocks.0.resize(blocks.0.len().max(level), Vec::new());
        for (below, memory) in blocks.0.iter_mut().enumerate().take(level) {
            memory.resize(memory.len().max(count.div_ceil(FAN.pow(count_of(below)))), 0);
        }
        Walk { c, tree: self, blocks, leaf, leaves, want, found }.level(level, 0, count, false);
    }
}

/// The members of a block of that level are FAN to this.
fn count_of(level: usize) -> u32 {
    u32::try_from(level + 1).unwrap_or(u32::MAX)
}

impl<C: Coder, L: Fn(usize) -> usize> Walk<'_, C, L> {
    /// The members from `begin` to `end`, which blocks of the level below divide. `some` tells that one of them is touched.
    fn level(&mut self, level: usize, begin: usize, end: usize, some: bool) {
        let before = self.found.len();
        let Some(below) = level.checked_sub(1) else {
            for member in begin..end {
                let last = some && member + 1 == end && self.found.len() == before;
                let wanted = self.want.first().is_some_and(|want| *want as usize == member);
                if last || self.c.bit(&mut self.leaves[(self.leaf)(member)], wanted) {
                    self.found.push(u32::try_from(member).unwrap_or(u32::MAX));
                    self.want = self.want.get(1..).unwrap_or_default();
                }
            }
            return;
        };
        let size = FAN.pow(count_of(below));
        for from in (begin..end).step_by(size) {
            let to = end.min(from + size);
            let last = some && to == end && self.found.len() == before;
            let history = self.blocks.0[below][from / size];
            let wanted = self.want.first().is_some_and(|want| (*want as usize) < to);
            let touched = last || self.c.bit(&mut self.tree.blocks[below][usize::from(history)], wanted);
            self.blocks.0[below][from / size] = history << 1 & 7 | u8::from(touched);
            if touched {
                self.level(below, from, to, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::range::{Decoder, Encoder};
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn which_are_touched_is_read_again(
            lists in proptest::collection::vec((0..6000_u32, proptest::collection::btree_set(any::<u32>(), 0..9)), 0..9),
        ) {
            let lists: Vec<(u32, Vec<u32>)> = lists.into_iter().map(|(count, some)| {
                let some: BTreeSet<u32> = some.into_iter().filter(|_| count > 0).map(|n| n % count.max(1)).collect();
                (count, some.into_iter().collect())
            }).collect();
            let mut encoder = Encoder::new(None);
            let (mut tree, mut blocks, mut leaves) = (Tree::NEW, Blocks::default(), vec![Bit::NEW; 2]);
            let mut found = Vec::new();
            for (count, some) in &lists {
                let leaves = (&mut leaves[..], |n| n % 2);
                tree.code(&mut encoder, (*count as usize, &mut blocks), leaves, some, &mut found);
                prop_assert_eq!(&found, some);
            }
            let (bytes, _) = encoder.finish();
            let mut decoder = Decoder::new(&bytes, 0);
            let (mut tree, mut blocks, mut leaves) = (Tree::NEW, Blocks::default(), vec![Bit::NEW; 2]);
            for (count, some) in &lists {
                let leaves = (&mut leaves[..], |n| n % 2);
                tree.code(&mut decoder, (*count as usize, &mut blocks), leaves, &[], &mut found);
                prop_assert_eq!(&found, some);
            }
            prop_assert_eq!(decoder.ended(), Ok(()));
        }
    }
}
