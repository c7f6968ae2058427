//! Rows, column by column.

use alloc::vec::Vec;

use super::number::{Frequent, Number, Signed};
use super::range::{Bit, Coder};
use super::shape::{Class, Shape};
use crate::codec::rows::Columns;

/// What rows of all kinds have in common.
pub(super) struct Shared {
    /// The processes named last, the latest first.
    pids: [i32; 8],
    place: [Bit; 8],
    /// The youngest of the sample before: new rows are told after changed ones and were made before them.
    pub(super) pid_before: i32,
    pid: i32,
    /// The low 31 bits of the last key that was not 0.
    key: i64,
    owners: Frequent<[u64; 4]>,
    owner: Vec<Signed>,
}

/// The sample's time and page size.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) seconds: i64,
    pub(super) page: u64,
    /// Number of the sample in its segment, from some number on.
    pub(super) number: u32,
    /// Seconds between samples, at least one.
    pub(super) interval: i64,
}

/// What is remembered of one row.
#[derive(Clone, Copy, Default)]
pub(super) struct Memory {
    /// Number of the sample that touched it last.
    pub(super) last: u32,
    /// How many samples that was after the touch before; 0 = not known.
    pub(super) gap: u32,
    /// Number of the set of columns that changed then.
    pub(super) mask: u8,
    /// Bytes a message then.
    pub(super) each: i64,
}

/// What was learned of one column.
struct Column {
    flags: [Bit; 4],
    /// Of what is told as it is, or as how long ago.
    number: Number,
    /// Of what is told as a difference.
    step: Signed,
    uneven: Signed,
    often: Frequent<u64>,
}

impl Column {
    const NEW: Column = Column {
        flags: [Bit::NEW; 4],
        number: Number::NEW,
        step: Signed::NEW,
        uneven: Signed::NEW,
        often: Frequent::NEW,
    };
}

/// What was learned of the rows of one kind.
pub(super) struct Rows {
    masks: Frequent<u64>,
    mask: Vec<Bit>,
    /// Of changed rows, of rows that came, of rows of a first state.
    columns: [Vec<Column>; 3],
    each: i64,
}

/// Whether a row came or was there before the segment began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum New {
    Came,
    First,
}

impl Shared {
    pub(super) fn new() -> Self {
        let owner = (0..4).map(|_| Signed::NEW).collect();
        Shared { pids: [0; 8], place: [Bit::NEW; 8], pid_before: 0, pid: 0, key: 0, owners: Frequent::NEW, owner }
    }

    /// A sample begins.
    pub(super) fn begin(&mut self) {
        self.pid_before = self.pid;
    }

    /// A process that used an object.
    fn code_pid(&mut self, c: &mut impl Coder, column: &mut Column, want: i64) -> i64 {
        let place = self.pids.iter().position(|pid| i64::from(*pid) == want);
        let pid = if c.bit(&mut column.flags[0], place.is_some()) {
            let place = super::number::tree(c, &mut self.place, 3, place.unwrap_or_default() as u64) & 7;
            let place = usize::try_from(place).unwrap_or_default();
            self.pids[..=place].rotate_right(1);
            return self.pids[0].into();
        } else {
            let pid = i64::from(self.pid);
            pid.wrapping_add(column.number.code(c, want.wrapping_sub(pid)))
        };
        // One beyond 32 bits is refused where the row is made.
        self.pid = i32::try_from(pid).unwrap_or_default();
        self.pids.rotate_right(1);
        self.pids[0] = self.pid;
        pid
    }
}

impl Rows {
    pub(super) fn new<T: Shape>() -> Self {
        let columns = || T::CLASSES.iter().map(|_| Column::NEW).collect();
        Rows {
            masks: Frequent::NEW,
            mask: alloc::vec![Bit::NEW; T::CLASSES.len() * 2],
            columns: [columns(), columns(), columns()],
            each: 0,
        }
    }

    /// Which columns of a row changed: bit by bit where it is a set that was not met before.
    fn code_mask<T: Shape>(&mut self, c: &mut impl Coder, memory: &mut Memory, bound: usize, want: u64) -> u64 {
        let last = memory.mask;
        let known = self.masks.code(c, want, |name| bound * 2 + usize::from(name == last));
        let (mask, name) = known.unwrap_or_else(|| {
            let (mut mask, mut before) = (0, false);
            for i in 0..T::CLASSES.len() {
                before = c.bit(&mut self.mask[i * 2 + usize::from(before)], want >> i & 1 == 1);
                mask |= u64::from(before) << i;
            }
            (mask, self.masks.learn(mask))
        });
        memory.mask = name;
        mask
    }

    /// A row that changed.
    pub(super) fn code_changed<T: Shape, C: Coder>(
        &mut self,
        c: &mut C,
        (shared, now): (&mut Shared, &Now),
        memory: &mut Memory,
        before: &Columns,
        want: Option<&Columns>,
    ) -> Columns {
        c.on(T::PARTS.mask);
        let differs = want.map_or(0, |want| {
            (0..T::CLASSES.len()).filter(|i| before[*i] != want[*i]).fold(0, |mask, i| mask | 1 << i)
        });
        let want = want.unwrap_or(before);
        let mut left = T::ordered(self.code_mask::<T>(c, memory, T::bound(before), differs));
        let mut out = *before;
        let mut time = None;
        while left != 0 {
            let i = T::ordered(left & left.wrapping_neg()).trailing_zeros() as usize;
            left &= left - 1;
            c.on(T::PARTS.changed[i]);
            let column = &mut self.columns[0][i];
            let difference = want[i].wrapping_sub(before[i]).cast_signed();
            out[i] = match T::CLASSES[i] {
                Class::Time => {
                    let seconds = match time {
                        Some(time) if c.bit(&mut column.flags[0], want[i] == time) => time,
                        _ => code_time(c, &mut column.number, now.seconds, want[i]),
                    };
                    time = Some(seconds);
                    seconds
                }
                Class::Pid => shared.code_pid(c, column, want[i].cast_signed()).cast_unsigned(),
                Class::Bytes => before[i].wrapping_add(code_bytes(c, column, now.page, difference).cast_unsigned()),
                Class::Fill => {
                    let messages = out[i + 1].wrapping_sub(before[i + 1]).cast_signed();
                    let each = if memory.each == 0 { self.each } else { memory.each };
                    let expected = messages.wrapping_mul(each);
                    let more = difference.wrapping_sub(expected);
                    let difference = expected.wrapping_add(column.step.code(c, more));
                    if messages != 0 {
                        memory.each = difference.wrapping_div(messages);
                        self.each = memory.each;
                    }
                    before[i].wrapping_add(difference.cast_unsigned())
                }
                _ => {
                    let hint = usize::from(memory.mask & 15);
                    before[i].wrapping_add(column.step.code_some(c, hint, difference).cast_unsigned())
                }
            };
        }
        out
    }

    /// A row that came, whose id is told; `before` is the row before it in the list.
    pub(super) fn code_new<T: Shape, C: Coder>(
        &mut self,
        c: &mut C,
        (shared, now): (&mut Shared, &Now),
        new: New,
        (before, id): (&Columns, u64),
        want: &Columns,
    ) -> Columns {
        let columns = &mut self.columns[if new == New::Came { 1 } else { 2 }];
        let mut out = [0; 16];
        out[0] = id;
        let mut pid = 0;
        let mut made = None;
        for (i, class) in T::CLASSES.iter().enumerate() {
            let column = &mut columns[i];
            if *class != Class::Owned {
                c.on(if new == New::Came { T::PARTS.came[i] } else { T::PARTS.first });
            }
            out[i] = match class {
                Class::Id => id,
                Class::Owned => out[i],
                Class::Owner => {
                    let owner = shared.code_owner(c, [want[i], want[i + 1], want[i + 2], want[i + 3]]);
                    out[i + 1..i + 4].copy_from_slice(&owner[1..]);
                    owner[0]
                }
                Class::Key => shared.code_key(c, column, want[i]),
                Class::Time => match made {
                    None if new == New::First => before[i].wrapping_add(
                        column.number.code(c, want[i].wrapping_sub(before[i]).cast_signed()).cast_unsigned(),
                    ),
                    None => code_time(c, &mut column.number, now.seconds, want[i]),
                    Some(_) if c.bit(&mut column.flags[0], want[i] == 0) => 0,
                    Some(made) if c.bit(&mut column.flags[1], want[i] == made) => made,
                    Some(_) => code_time(c, &mut column.number, now.seconds, want[i]),
                },
                Class::Pid => {
                    let wanted = want[i].cast_signed();
                    if c.bit(&mut column.flags[0], wanted == 0) {
                        0
                    } else if c.bit(&mut column.flags[1], wanted == pid) {
                        pid.cast_unsigned()
                    } else {
                        let least = i64::from(shared.pid_before);
                        pid = least.wrapping_add(column.number.code(c, wanted.wrapping_sub(least)));
                        shared.pid_before = i32::try_from(pid).unwrap_or_default();
                        shared.pid = shared.pid.max(shared.pid_before);
                        pid.cast_unsigned()
                    }
                }
                Class::Count | Class::Fill => code_count(c, column, want[i]),
                Class::Bytes if c.bit(&mut column.flags[1], want[i] == out[T::SIZE]) => out[T::SIZE],
                Class::Bytes => code_bytes(c, column, now.page, want[i].cast_signed()).cast_unsigned(),
                Class::Often => code_often(c, column, want[i]),
            };
            if *class == Class::Time {
                made = made.or(Some(out[i]));
            }
        }
        out
    }
}

impl Shared {
    fn code_owner(&mut self, c: &mut impl Coder, want: [u64; 4]) -> [u64; 4] {
        if let Some((owner, _)) = self.owners.code(c, want, |_| 0) {
            return owner;
        }
        let mut out = [0; 4];
        for ((number, out), want) in self.owner.iter_mut().zip(&mut out).zip(want) {
            *out = number.code(c, want.cast_signed()).cast_unsigned();
        }
        self.owners.learn(out);
        out
    }

    /// A key: its sign for itself, for it is the highest bit of what people see.
    fn code_key(&mut self, c: &mut impl Coder, column: &mut Column, want: u64) -> u64 {
        const LOW: i64 = 0x7fff_ffff;
        let want = want.cast_signed();
        if c.bit(&mut column.flags[0], want == 0) {
            return 0;
        }
        let high = c.bit(&mut column.flags[1], want < 0);
        let low = (want & LOW).wrapping_sub(self.key);
        self.key = self.key.wrapping_add(column.number.code(c, low)) & LOW;
        if high { (self.key - LOW - 1).cast_unsigned() } else { self.key.cast_unsigned() }
    }
}

/// A time by how long before the sample it was.
fn code_time(c: &mut impl Coder, number: &mut Number, seconds: i64, want: u64) -> u64 {
    let ago = number.code(c, seconds.wrapping_sub(want.cast_signed()));
    seconds.wrapping_sub(ago).cast_unsigned()
}

/// A difference of bytes, mostly of whole pages.
fn code_bytes(c: &mut impl Coder, column: &mut Column, page: u64, want: i64) -> i64 {
    let page = i64::try_from(page).unwrap_or(i64::MAX).max(1);
    if c.bit(&mut column.flags[0], want % page == 0) {
        column.number.code(c, want / page).wrapping_mul(page)
    } else {
        column.uneven.code(c, want)
    }
}

fn code_count(c: &mut impl Coder, column: &mut Column, want: u64) -> u64 {
    if c.bit(&mut column.flags[0], want == 0) { 0 } else { column.number.code(c, want.cast_signed()).cast_unsigned() }
}

fn code_often(c: &mut impl Coder, column: &mut Column, want: u64) -> u64 {
    if let Some((value, _)) = column.often.code(c, want, |_| 0) {
        return value;
    }
    let value = column.number.code(c, want.cast_signed()).cast_unsigned();
    column.often.learn(value);
    value
}
