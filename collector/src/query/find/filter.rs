//! What objects a chunk, or a host's present, may hold, in few bytes: `find` reads only what may hold what it looks for.
//! Pure.
//!
//! A filter says for each kind of objects which keys, ids, owners and sizes there are, and how orphaned they are, each by
//! itself: two conditions that two different objects fulfil look fulfilled. It never hides an object: what is not told
//! exactly is told as a range, and bytes that cannot be read may hold anything.
//!
//! Version 1, in order, numbers packed as in `pack.rs`, ranges as in `spread.rs` (whose marks are kinds: 1 sem, 2 shm, 4
//! msg), names as in `names.rs`:
//!
//! | part | bytes |
//! |---|---|
//! | version, 1 | 1 |
//! | kinds that there are; nothing follows if there is none | 1 |
//! | inodes of namespaces, uids | ranges |
//! | cuids, gids, cgids, each | 0 = the same as the uids, or 1 and ranges |
//! | permissions | ranges |
//! | names of users, of groups, comms | names |
//! | then for each kind that there is: grades of orphans, bits: 1 none, 2 certain, 4 likely, 8 unattached | 1 |
//! | ids (two's complement of 32 bits) | ranges |
//! | sem: nsems; shm: size, nattch; msg: cbytes, qnum | ranges each |
//! | how many of the lowest bits of a key are not told | 1 |
//! | the keys, as their digits show them, without those bits | ascending numbers |

use highwater_ipc::object::Kind;
use highwater_ipc::who::Grade;

use super::expr::{Expr, MAX_TERMS, OrphanIs, Test};
use super::field::{Field, Kinds, TextField};
use super::gather::FilterBuilder;
use super::names::{Names, Told};
use super::pack::{Reader, pass_ascending, read_ascending};
use super::spread::Spread;

/// The version that is written.
pub(super) const VERSION: u8 = 1;

/// SHM_DEST among the permissions of a segment.
const DEST: u64 = 0o1000;

/// Filters: made by [`Filter::builder`], asked by [`Filter::may_match`].
#[derive(Debug)]
pub struct Filter;

impl Filter {
    /// Begins one that knows no object yet.
    pub fn builder() -> FilterBuilder {
        FilterBuilder::default()
    }

    /// Whether what these bytes tell of may hold an object that the expression looks for. Never `false` if it does; `true`
    /// for bytes that are no filter, or of a later version. Says nothing of the host.
    pub fn may_match(bytes: &[u8], expr: &Expr) -> bool {
        let mut judge = Judge { expr, alive: expr.kinds, holds_dest: false };
        judge.read(&mut Reader::new(bytes)).is_none_or(|()| !judge.alive.is_empty())
    }
}

/// One filter under an expression.
struct Judge<'e> {
    expr: &'e Expr,
    /// The kinds of which an object may match, for all that was read so far.
    alive: Kinds,
    /// Whether a segment may be marked for destruction.
    holds_dest: bool,
}

impl Judge<'_> {
    /// Reads it, or as much of it as decides; `None` = it cannot be read.
    fn read(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        if reader.byte()? != VERSION {
            return None;
        }
        let present = Kinds::of_mark(reader.byte()?);
        self.alive = self.alive.both(present);
        if self.alive.is_empty() {
            return Some(());
        }
        self.ranges(reader, Field::Namespace)?;
        let uids = *reader;
        self.ranges(reader, Field::Uid)?;
        for field in [Field::Cuid, Field::Gid, Field::Cgid] {
            match reader.byte()? {
                0 => self.ranges(&mut uids.clone(), field)?,
                1 => self.ranges(reader, field)?,
                _ => return None,
            }
        }
        self.ranges(reader, Field::Perms)?;
        if self.alive.is_empty() {
            return Some(());
        }
        let (users, groups, comms) = (Names::read(reader)?, Names::read(reader)?, Names::read(reader)?);
        self.names(users, groups, comms);
        for kind in Kind::ALL.into_iter().filter(|kind| present.has(*kind)) {
            self.of_kind(reader, kind)?;
        }
        reader.is_at_end().then_some(())
    }

    /// Ranges whose marks say of which kinds they are.
    fn ranges(&mut self, reader: &mut Reader<'_>, field: Field) -> Option<()> {
        let tests = &self.expr.tests;
        let mut fulfilled = [Kinds::NONE; MAX_TERMS];
        let mut holds_dest = false;
        Spread::read(reader, |(first, last), marks| {
            let kinds = Kinds::of_mark(marks);
            if field == Field::Perms && kinds.has(Kind::Shm) {
                holds_dest |= first != last || first & DEST != 0;
            }
            for (test, fulfilled) in tests.iter().zip(&mut fulfilled) {
                if let Test::Number { field: asked, op, value } = test
                    && *asked == field
                    && op.may_hold((i128::from(first), i128::from(last)), *value)
                {
                    *fulfilled = fulfilled.or(kinds);
                }
            }
        })?;
        self.holds_dest |= holds_dest;
        for (test, fulfilled) in tests.iter().zip(fulfilled) {
            if matches!(test, Test::Number { field: asked, .. } if *asked == field) {
                self.alive = self.alive.both(fulfilled);
            }
        }
        Some(())
    }

    fn names(&mut self, users: Told<'_>, groups: Told<'_>, comms: Told<'_>) {
        for test in &self.expr.tests {
            // Whoever has no name has another one, too.
            if let Test::Text { field, differs: false, text } = test {
                let told = match field {
                    TextField::User | TextField::Cuser => users,
                    TextField::Group | TextField::Cgroup => groups,
                    TextField::Comm => comms,
                };
                if !told.may_fit(text) {
                    self.alive = Kinds::NONE;
                }
            }
        }
    }

    /// What is told of one kind.
    fn of_kind(&mut self, reader: &mut Reader<'_>, kind: Kind) -> Option<()> {
        let grades = reader.byte()?;
        let mut may = self.expr.tests.iter().all(|test| match test {
            Test::Orphan { differs, is } => grades & grades_of(*is, *differs) != 0,
            _ => true,
        });
        may &= self.numbers(reader, Field::Id)?;
        for field in numbers_of(kind) {
            may &= self.numbers(reader, *field)?;
        }
        may &= self.keys(reader, kind)?;
        if !may {
            self.alive = self.alive.both(Kinds::only(kind).others());
        }
        Some(())
    }

    /// Whether the numbers of a field of one kind may fulfil all that is asked of it.
    fn numbers(&self, reader: &mut Reader<'_>, field: Field) -> Option<bool> {
        let mut fulfilled = [false; MAX_TERMS];
        Spread::read(reader, |(first, last), _| {
            let range = if field == Field::Id { signed(first, last) } else { (i128::from(first), i128::from(last)) };
            for (test, fulfilled) in self.expr.tests.iter().zip(&mut fulfilled) {
                if let Test::Number { field: asked, op, value } = test {
                    *fulfilled |= *asked == field && op.may_hold(range, *value);
                }
            }
        })?;
        let is_of_it = |test: &Test| matches!(test, Test::Number { field: asked, .. } if *asked == field);
        Some(self.expr.tests.iter().zip(fulfilled).all(|(test, fulfilled)| fulfilled || !is_of_it(test)))
    }

    /// The same for keys.
    fn keys(&self, reader: &mut Reader<'_>, kind: Kind) -> Option<bool> {
        let untold = u32::from(reader.byte()?);
        let mask = 1_u32.checked_shl(untold)?.checked_sub(1)?;
        let asked = || {
            self.expr.tests.iter().filter_map(|test| match test {
                Test::Key { differs, range, or_dest } => Some((*differs, *range, *or_dest)),
                _ => None,
            })
        };
        // Keys ascend: behind the last one that is asked for there is nothing to see.
        let until = |(differs, (_, to), _): (bool, (u32, u32), bool)| if differs { u32::MAX } else { to };
        let Some(until) = asked().map(until).max().filter(|_| self.alive.has(kind)) else {
            return pass_ascending(reader).map(|()| true);
        };
        let mut fulfilled = [false; MAX_TERMS];
        let mut fits = true;
        read_ascending(reader, |number| {
            let first = number << untold;
            fits &= first >> untold == number;
            let last = first | mask;
            for ((differs, (from, to), _), fulfilled) in asked().zip(&mut fulfilled) {
                let overlaps = first <= to && from <= last;
                let lies_within = from <= first && last <= to;
                *fulfilled |= if differs { !lies_within } else { overlaps };
            }
            first <= until
        })?;
        let is_dest = self.holds_dest && kind == Kind::Shm;
        fits.then(|| asked().zip(fulfilled).all(|((_, _, or_dest), fulfilled)| fulfilled || or_dest && is_dest))
    }
}

/// The fields of one kind that hold a number and are told by themselves, in order.
pub(super) fn numbers_of(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Sem => &[Field::Nsems],
        Kind::Shm => &[Field::Size, Field::Nattch],
        Kind::Msg => &[Field::Cbytes, Field::Qnum],
    }
}

/// The bit of a grade; `None` = no orphan.
pub(super) fn grade_bit(grade: Option<Grade>) -> u8 {
    match grade {
        None => 1,
        Some(Grade::Certain) => 2,
        Some(Grade::Likely) => 4,
        Some(Grade::Unattached) => 8,
    }
}

/// The bits of the grades that fulfil a condition.
fn grades_of(is: OrphanIs, differs: bool) -> u8 {
    let bits = match is {
        OrphanIs::Any => !grade_bit(None),
        OrphanIs::No => grade_bit(None),
        OrphanIs::Of(grade) => grade_bit(Some(grade)),
    };
    if differs { !bits } else { bits }
}

/// A range of ids, told as two's complement: one that crosses into the negative ones may hold any.
fn signed(first: u64, last: u64) -> (i128, i128) {
    let id = |number: u64| u32::try_from(number).ok().map(|n| i128::from(n.cast_signed()));
    match (id(first), id(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        _ => (i128::from(i32::MIN), i128::from(i32::MAX)),
    }
}
