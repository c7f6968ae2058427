//! The rows of one list, from one sample to the next, in place.

use alloc::vec::Vec;

use super::ChunkError;
use super::number::{Number, Signed};
use super::plan::Plan;
use super::range::{Bit, Coder};
use super::row::{Memory, New, Now, Rows, Shared};
use super::shape::{Class, Shape};
use super::tree::{Blocks, Tree};
use crate::codec::rows::{Columns, Row};
use crate::limits::Totals;

/// What was learned of the lists of one kind.
pub(super) struct Lists {
    rows: Rows,
    tree: Tree,
    /// By how long a row was left alone, and how that stands to the time before.
    touched: Vec<Bit>,
    /// By the age of the row.
    gone: [Bit; 32],
    /// By how many went and came.
    another: [Bit; 16],
    id: [Bit; 4],
    index: [Signed; 2],
    sequence: [Signed; 2],
    place: [Bit; 2],
    places: Number,
    /// Places of the touched rows; kept for its memory.
    found: Vec<u32>,
}

/// What is remembered of one list.
#[derive(Default)]
pub(super) struct Side {
    memory: Vec<Memory>,
    blocks: Blocks,
    /// The id that came last.
    last_id: i32,
}

/// What a list is coded with.
pub(super) struct With<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) now: Now,
    pub(super) new: New,
    /// What the rows add to the totals, more than before.
    pub(super) more: &'a mut [u64; 11],
    /// How many more rows there may be.
    pub(super) room: &'a mut usize,
}

/// The ids of a kernel without `ipcmni_extend`: an index below this, and how often the table was gone round.
const INDEXES: i32 = 1 << 15;

fn index(id: i32) -> i32 {
    id & (INDEXES - 1)
}

impl Lists {
    pub(super) fn new<T: Shape>() -> Self {
        Lists {
            rows: Rows::new::<T>(),
            tree: Tree::NEW,
            touched: alloc::vec![Bit::NEW; 128],
            gone: [Bit::NEW; 32],
            another: [Bit::NEW; 16],
            id: [Bit::NEW; 4],
            index: [Signed::NEW; 2],
            sequence: [Signed::NEW; 2],
            place: [Bit::NEW; 2],
            places: Number::NEW,
            found: Vec::new(),
        }
    }

    /// Turns `rows` into what the plan says, or the bytes.
    ///
    /// # Errors
    /// What the bytes say and cannot be.
    pub(super) fn code<T: Shape, C: Coder>(
        &mut self,
        c: &mut C,
        with: &mut With<'_>,
        (rows, side): (&mut Vec<T>, &mut Side),
        plan: &Plan<'_, T>,
    ) -> Result<(), ChunkError> {
        c.on(T::PARTS.touched);
        let mut found = core::mem::take(&mut self.found);
        let Now { number, .. } = with.now;
        let leaf = |place: usize| side.memory.get(place).map_or(0, |memory| memory.leaf(number));
        self.tree.code(c, (rows.len(), &mut side.blocks), (&mut self.touched, leaf), &plan.touched, &mut found);
        let mut gone = Vec::new();
        for (nth, place) in found.iter().enumerate() {
            let became = plan.became.get(nth).copied().flatten();
            self.code_touched(c, with, (rows, side), (*place as usize, became), &mut gone)?;
            c.checked()?;
        }
        self.found = found;
        if let Some(first) = gone.first() {
            c.toil((rows.len() - *first as usize) / 32);
            take_out(rows, &gone);
            take_out(&mut side.memory, &gone);
        }
        self.code_added(c, with, (rows, side), plan, gone.len())
    }

    fn code_touched<T: Shape, C: Coder>(
        &mut self,
        c: &mut C,
        with: &mut With<'_>,
        (rows, side): (&mut [T], &mut Side),
        (place, became): (usize, Option<&T>),
        gone: &mut Vec<u32>,
    ) -> Result<(), ChunkError> {
        let (Some(row), Some(memory)) = (rows.get_mut(place), side.memory.get_mut(place)) else {
            return Err(c.broken(T::PARTS.touched));
        };
        c.on(T::PARTS.gone);
        let age = with.now.seconds.wrapping_sub(row.ctime()).max(0).cast_unsigned();
        let age = (64 - age.leading_zeros()).min(31) as usize;
        if c.bit(&mut self.gone[age], became.is_none()) {
            count(with.more, &row.totals(with.now.page), false);
            gone.push(u32::try_from(place).unwrap_or(u32::MAX));
            return Ok(());
        }
        let before = row.columns();
        let want = became.map(Row::columns);
        memory.touch(with.now.number);
        let after = self.rows.code_changed::<T, C>(c, (with.shared, &with.now), memory, &before, want.as_ref());
        let counts = T::COUNTED.iter().any(|column| before[*column] != after[*column]);
        if counts {
            count(with.more, &row.totals(with.now.page), false);
        }
        *row = T::from_columns(&after).map_err(|bad| c.broken(T::COLUMNS[bad.column]))?;
        if counts {
            count(with.more, &row.totals(with.now.page), true);
        }
        Ok(())
    }

    /// The rows that came: told as they stand in the list, put in at once.
    fn code_added<T: Shape, C: Coder>(
        &mut self,
        c: &mut C,
        with: &mut With<'_>,
        (rows, side): (&mut Vec<T>, &mut Side),
        plan: &Plan<'_, T>,
        gone: usize,
    ) -> Result<(), ChunkError> {
        let mut added: Vec<(usize, T)> = Vec::new();
        let mut cursor = 0;
        let mut before: Columns = [0; 16];
        loop {
            c.on(T::PARTS.place);
            let want = plan.added.get(added.len());
            let context = if with.new == New::First { 12 } else { gone.min(2) * 4 };
            if !c.bit(&mut self.another[context + added.len().min(3)], want.is_some()) {
                break;
            }
            *with.room = with.room.checked_sub(1).ok_or_else(|| c.broken("how many rows there are"))?;
            let latest = added.last().map(|(_, row)| row.id());
            let id = self.code_id(c, with.new, (rows, side), latest, want.map_or(0, |(_, row)| row.id()));
            let expected = rows[cursor..].partition_point(|row| index(row.id()) < index(id));
            let place = want.map_or(0, |(place, _)| *place - cursor);
            cursor += if c.bit(&mut self.place[0], place == expected) {
                expected
            } else {
                let place = usize::try_from(self.places.code(c, i64::try_from(place).unwrap_or(i64::MAX)))
                    .unwrap_or(usize::MAX);
                Some(place).filter(|place| *place <= rows.len() - cursor).ok_or_else(|| c.broken(T::PARTS.place))?
            };
            let wide = i64::from(id).cast_unsigned();
            let want = want.map_or([0; 16], |(_, row)| row.columns());
            before = self.rows.code_new::<T, C>(c, (with.shared, &with.now), with.new, (&before, wide), &want);
            let row = T::from_columns(&before).map_err(|bad| c.broken(T::COLUMNS[bad.column]))?;
            count(with.more, &row.totals(with.now.page), true);
            added.push((cursor, row));
            c.checked()?;
        }
        if let Some((first, _)) = added.first() {
            c.toil((rows.len() - *first) / 32);
            let memory = |(place, row): &(usize, T)| (*place, Memory::of_new(row, &with.now, with.new));
            let memories: Vec<_> = added.iter().map(memory).collect();
            put_in(rows, &added);
            put_in(&mut side.memory, &memories);
        }
        Ok(())
    }

    /// The id of a row that came. A kernel takes the next index that is free after the one it gave last, and goes round
    /// its table; before Linux 5.0 it took the lowest free one and counted the sequence up each time.
    fn code_id<T: Shape>(
        &mut self,
        c: &mut impl Coder,
        new: New,
        (rows, side): (&[T], &mut Side),
        latest: Option<i32>,
        want: i32,
    ) -> i32 {
        let taken = |at: i32| {
            latest.is_some_and(|id| index(id) == at) || rows.binary_search_by_key(&at, |row| index(row.id())).is_ok()
        };
        let last = side.last_id;
        let (mut next, sequence) = ((index(last) + 1) % INDEXES, last >> 15);
        let mut tried = 0;
        while new == New::Came && taken(next) && tried < 64 {
            next = (next + 1) % INDEXES;
            tried += 1;
        }
        c.toil(tried);
        let bank = usize::from(new == New::Came);
        let expected = sequence << 15 | next;
        side.last_id = if c.bit(&mut self.id[bank], want == expected) {
            expected
        } else {
            let at = self.index[bank].code(c, (index(want) - next).into());
            let turn = self.sequence[bank].code(c, i64::from(want >> 15) - i64::from(sequence));
            // What a hostile chunk says beyond an id's bits is cut.
            let at = i64::from(next).wrapping_add(at) & i64::from(INDEXES - 1);
            let id = i64::from(sequence).wrapping_add(turn) << 15 | at;
            i32::try_from(id).unwrap_or(i32::MAX)
        };
        side.last_id
    }
}

/// Takes the members at these places out of a list; places ascend.
fn take_out<T: Copy>(list: &mut Vec<T>, places: &[u32]) {
    let Some(first) = places.first() else { return };
    let mut to = *first as usize;
    for (nth, place) in places.iter().enumerate() {
        let from = *place as usize + 1;
        let until = places.get(nth + 1).map_or(list.len(), |next| *next as usize);
        list.copy_within(from..until, to);
        to += until - from;
    }
    list.truncate(to);
}

/// Puts members between those of a list; each says before how many of these it stands.
fn put_in<T: Copy>(list: &mut Vec<T>, members: &[(usize, T)]) {
    let Some((_, filler)) = members.first() else { return };
    let mut until = list.len();
    list.resize(until + members.len(), *filler);
    for (nth, (place, member)) in members.iter().enumerate().rev() {
        list.copy_within(*place..until, *place + nth + 1);
        list[*place + nth] = *member;
        until = *place;
    }
}

/// Counts a row in or out.
pub(super) fn count(more: &mut [u64; 11], row: &Totals, adds: bool) {
    let columns = row.columns();
    for (more, column) in more.iter_mut().zip(columns) {
        *more = if adds { more.wrapping_add(column) } else { more.wrapping_sub(column) };
    }
}

impl Memory {
    /// By what context a row goes: how long it was left alone, and whether it was that long the time before.
    fn leaf(&self, number: u32) -> usize {
        let run = number.wrapping_sub(self.last);
        let length = (32 - run.leading_zeros()).min(15) as usize;
        let before = match self.gap {
            0 => 0,
            gap if run < gap => 1,
            gap if run == gap => 2,
            _ => 3,
        };
        length * 4 + before
    }

    fn touch(&mut self, number: u32) {
        self.gap = number.wrapping_sub(self.last);
        self.last = number;
    }

    /// Of a row that was there before, its times tell when it was touched.
    fn of_new<T: Shape>(row: &T, now: &Now, new: New) -> Self {
        let columns = row.columns();
        let times = T::CLASSES.iter().zip(columns).filter(|(class, _)| **class == Class::Time);
        let latest = times.map(|(_, time)| time.cast_signed()).max().unwrap_or_default();
        let ago = match new {
            New::Came => 0,
            New::First => (now.seconds.saturating_sub(latest) / now.interval).clamp(0, 1 << 20),
        };
        let last = now.number.wrapping_sub(u32::try_from(ago).unwrap_or_default());
        Memory { last, mask: u8::MAX, ..Memory::default() }
    }
}

impl Side {
    /// Of a list of that many rows of which nothing is known.
    pub(super) fn forget(&mut self, rows: usize, number: u32) {
        if self.memory.len() != rows {
            let memory = Memory { last: number, mask: u8::MAX, ..Memory::default() };
            self.memory.clear();
            self.memory.resize(rows, memory);
        }
    }
}
