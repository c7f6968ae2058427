//! The lists and totals of all namespaces.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::ChunkError;
use super::list::{Lists, Side, With};
use super::number::Signed;
use super::plan::Plan;
use super::range::{Bit, Coder};
use super::row::{New, Now, Shared};
use super::shape::Shape;
use super::tree::{Blocks, Tree};
use crate::codec::rows::Row;
use crate::limits::Totals;
use crate::object::{MsgQueue, SemArray, ShmSegment};
use crate::snapshot::{Namespace, NamespaceId, State};

/// What was learned of namespaces, and what is remembered of each.
pub(super) struct World {
    tree: Tree,
    blocks: Blocks,
    leaves: [Bit; 2],
    found: Vec<u32>,
    shared: Shared,
    sem: Lists,
    shm: Lists,
    msg: Lists,
    edited: [Bit; 6],
    counted: Bit,
    total: Vec<(Bit, Signed)>,
    sides: Vec<NamespaceSide>,
}

#[derive(Default)]
struct NamespaceSide {
    id: NamespaceId,
    sem: Side,
    shm: Side,
    msg: Side,
}

/// What a writer wants of one namespace.
#[derive(Default)]
struct Plans<'a> {
    sem: Plan<'a, SemArray>,
    shm: Plan<'a, ShmSegment>,
    msg: Plan<'a, MsgQueue>,
    totals: Option<Totals>,
}

impl<'a> Plans<'a> {
    fn new(before: &Namespace, after: &'a Namespace) -> Self {
        Plans {
            sem: planned(before.sem.as_deref(), after.sem.as_deref()),
            shm: planned(before.shm.as_deref(), after.shm.as_deref()),
            msg: planned(before.msg.as_deref(), after.msg.as_deref()),
            totals: after.totals,
        }
    }

    fn touches(&self, before: &Namespace) -> bool {
        let totals = before.totals.is_some() && self.totals.is_some() && before.totals != self.totals;
        totals || !(self.sem.is_empty() && self.shm.is_empty() && self.msg.is_empty())
    }
}

fn planned<'a, T: Shape>(before: Option<&[T]>, after: Option<&'a [T]>) -> Plan<'a, T> {
    before.zip(after).map_or_else(Plan::default, |(before, after)| Plan::new(before, after))
}

impl World {
    pub(super) fn new() -> Self {
        World {
            tree: Tree::NEW,
            blocks: Blocks::default(),
            leaves: [Bit::NEW; 2],
            found: Vec::new(),
            shared: Shared::new(),
            sem: Lists::new::<SemArray>(),
            shm: Lists::new::<ShmSegment>(),
            msg: Lists::new::<MsgQueue>(),
            edited: [Bit::NEW; 6],
            counted: Bit::NEW,
            total: alloc::vec![(Bit::NEW, Signed::NEW); 11],
            sides: Vec::new(),
        }
    }

    /// Makes the lists and totals of `state` those that the writer wants, as far as both have them.
    ///
    /// # Errors
    /// What the bytes say and cannot be.
    pub(super) fn code<C: Coder>(
        &mut self,
        c: &mut C,
        (now, new): (Now, New),
        state: &mut State,
        want: Option<&State>,
    ) -> Result<(), ChunkError> {
        c.on("namespaces");
        self.shared.begin();
        let (wanted, plans) = want.map(|want| plans(state, want)).unwrap_or_default();
        let mut found = core::mem::take(&mut self.found);
        let count = state.namespaces.len();
        let leaf = |place: usize| usize::from(place > 0);
        self.tree.code(c, (count, &mut self.blocks), (&mut self.leaves, leaf), &wanted, &mut found);
        let mut plans = plans.into_iter();
        // Of two states: rows that go elsewhere are still there while others come.
        let mut room = (2 * State::MAX_ENTRIES).saturating_sub(rows(state));
        for place in &found {
            let Some(namespace) = state.namespaces.get_mut(*place as usize) else { continue };
            let Some(mut side) = self.sides.get_mut(*place as usize).map(core::mem::take) else { continue };
            let plans = plans.next().unwrap_or_default();
            let coded = self.code_namespace(c, (now, new, &mut room), (namespace, &mut side), &plans);
            self.sides[*place as usize] = side;
            coded?;
        }
        self.found = found;
        Ok(())
    }

    fn code_namespace<C: Coder>(
        &mut self,
        c: &mut C,
        (now, new, room): (Now, New, &mut usize),
        (namespace, side): (&mut Namespace, &mut NamespaceSide),
        plans: &Plans<'_>,
    ) -> Result<(), ChunkError> {
        let mut more = [0; 11];
        let mut with = With { shared: &mut self.shared, now, new, more: &mut more, room };
        let Namespace { sem, shm, msg, .. } = namespace;
        // Queues before segments: what else they share, they are told in the order in which it costs less.
        code_list(c, &mut with, (&mut self.sem, &mut self.edited[0]), (sem, &mut side.sem), &plans.sem)?;
        code_list(c, &mut with, (&mut self.msg, &mut self.edited[1]), (msg, &mut side.msg), &plans.msg)?;
        code_list(c, &mut with, (&mut self.shm, &mut self.edited[2]), (shm, &mut side.shm), &plans.shm)?;
        c.on("totals");
        let Some(totals) = &mut namespace.totals else { return Ok(()) };
        let mut columns = totals.columns();
        columns.iter_mut().zip(more).for_each(|(column, more)| *column = column.wrapping_add(more));
        let want = plans.totals.map_or(columns, |totals| totals.columns());
        if !c.bit(&mut self.counted, want == columns) {
            for ((column, want), (same, number)) in columns.iter_mut().zip(want).zip(&mut self.total) {
                if !c.bit(same, want == *column) {
                    let difference = want.wrapping_sub(*column).cast_signed();
                    *column = column.wrapping_add(number.code_some(c, 0, difference).cast_unsigned());
                }
            }
        }
        *totals = Totals::from_columns(&columns).map_err(|_| c.broken("totals"))?;
        Ok(())
    }

    /// What is remembered is brought in line with a state that something else changed.
    pub(super) fn align(&mut self, state: &State, number: u32) {
        let same = self.sides.iter().map(|side| side.id).eq(state.namespaces.iter().map(|namespace| namespace.id));
        if !same {
            let mut known: BTreeMap<_, _> = self.sides.drain(..).map(|side| (side.id, side)).collect();
            let side = |id| known.remove(&id).unwrap_or_else(|| NamespaceSide { id, ..NamespaceSide::default() });
            self.sides = state.namespaces.iter().map(|namespace| namespace.id).map(side).collect();
        }
        for (side, namespace) in self.sides.iter_mut().zip(&state.namespaces) {
            side.sem.forget(namespace.sem.as_ref().map_or(0, Vec::len), number);
            side.shm.forget(namespace.shm.as_ref().map_or(0, Vec::len), number);
            side.msg.forget(namespace.msg.as_ref().map_or(0, Vec::len), number);
        }
    }
}

fn code_list<T: Shape, C: Coder>(
    c: &mut C,
    with: &mut With<'_>,
    (lists, edited): (&mut Lists, &mut Bit),
    (rows, side): (&mut Option<Vec<T>>, &mut Side),
    plan: &Plan<'_, T>,
) -> Result<(), ChunkError> {
    c.on(T::PARTS.touched);
    match rows {
        Some(rows) if c.bit(edited, !plan.is_empty()) => lists.code(c, with, (rows, side), plan),
        _ => Ok(()),
    }
}

/// Places of the namespaces whose lists or totals changed, and how.
fn plans<'a>(before: &State, after: &'a State) -> (Vec<u32>, Vec<Plans<'a>>) {
    let aligned = before.namespaces.iter().map(|n| n.id).eq(after.namespaces.iter().map(|n| n.id));
    let known: BTreeMap<_, _> = match aligned {
        true => BTreeMap::new(),
        false => after.namespaces.iter().rev().map(|namespace| (namespace.id, namespace)).collect(),
    };
    let (mut places, mut plans) = (Vec::new(), Vec::new());
    for (place, namespace) in before.namespaces.iter().enumerate() {
        let later = if aligned { after.namespaces.get(place) } else { known.get(&namespace.id).copied() };
        let plan = later.map(|later| Plans::new(namespace, later)).filter(|plans| plans.touches(namespace));
        if let Some(plan) = plan {
            places.push(u32::try_from(place).unwrap_or(u32::MAX));
            plans.push(plan);
        }
    }
    (places, plans)
}

/// A state without its rows, and its totals without what they add.
pub(super) fn bare(state: &State, page: u64) -> State {
    let namespace = |namespace: &Namespace| {
        let mut more = [0; 11];
        empty(namespace.sem.as_deref(), page, &mut more);
        empty(namespace.shm.as_deref(), page, &mut more);
        empty(namespace.msg.as_deref(), page, &mut more);
        let totals = namespace.totals.map(|totals| {
            let mut columns = totals.columns();
            columns.iter_mut().zip(more).for_each(|(column, more)| *column = column.wrapping_sub(more));
            Totals::from_columns(&columns).unwrap_or_default()
        });
        Namespace {
            id: namespace.id,
            name: namespace.name.clone(),
            named_by: namespace.named_by,
            skipped: namespace.skipped,
            torn: namespace.torn,
            limits: namespace.limits,
            totals,
            sem: namespace.sem.as_ref().map(|_| Vec::new()),
            shm: namespace.shm.as_ref().map(|_| Vec::new()),
            msg: namespace.msg.as_ref().map(|_| Vec::new()),
            unreadable: namespace.unreadable.clone(),
            left_out: namespace.left_out,
            who: namespace.who.clone(),
        }
    };
    State {
        boot_id: state.boot_id,
        interval_ms: state.interval_ms,
        page_size: state.page_size,
        zone: state.zone.clone(),
        availability: state.availability.clone(),
        users: state.users.clone(),
        groups: state.groups.clone(),
        risks: state.risks.clone(),
        unseen: state.unseen.clone(),
        namespaces: state.namespaces.iter().map(namespace).collect(),
    }
}

fn empty<T: Shape>(rows: Option<&[T]>, page: u64, more: &mut [u64; 11]) {
    rows.into_iter().flatten().for_each(|row| super::list::count(more, &row.totals(page), true));
}

/// How many rows all lists have.
pub(super) fn rows(state: &State) -> usize {
    let of = |n: &Namespace| {
        let (sem, shm, msg) = (n.sem.as_ref(), n.shm.as_ref(), n.msg.as_ref());
        sem.map_or(0, Vec::len) + shm.map_or(0, Vec::len) + msg.map_or(0, Vec::len)
    };
    state.namespaces.iter().map(of).sum()
}
