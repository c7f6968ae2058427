//! What a writer finds between two lists of rows: it can always be told as rows that went, changed and came.

use alloc::vec::Vec;

use crate::object::Object;

/// How one list becomes another.
pub(super) struct Plan<'a, T> {
    /// Places in the earlier list of rows that changed or went, ascending.
    pub(super) touched: Vec<u32>,
    /// What became of each: the later row, `None` if it went.
    pub(super) became: Vec<Option<&'a T>>,
    /// New rows, each with the number of kept rows before it.
    pub(super) added: Vec<(usize, &'a T)>,
}

impl<T> Default for Plan<'_, T> {
    fn default() -> Self {
        Self { touched: Vec::new(), became: Vec::new(), added: Vec::new() }
    }
}

impl<'a, T: Object> Plan<'a, T> {
    /// Rows are the same object while their id stays and nothing that creation fixes changed. Ids are looked for only
    /// where the lists part.
    pub(super) fn new(before: &[T], after: &'a [T]) -> Self {
        let mut plan = Plan::default();
        let same = |(b, a): &(&T, &T)| b.id() == a.id();
        let mut kept = before.iter().zip(after).take_while(same).count();
        let (rest_before, rest_after) = (&before[kept..], &after[kept..]);
        let tail = rest_before.iter().rev().zip(rest_after.iter().rev()).take_while(same).count();
        let (middle_before, middle_after) =
            (&rest_before[..rest_before.len() - tail], &rest_after[..rest_after.len() - tail]);
        let mut place = 0;
        let mut next = 0;
        let together = |plan: &mut Self, place: usize, next: usize, kept: &mut usize| {
            let (row, later) = (&before[place], &after[next]);
            if row == later {
                *kept += 1;
            } else if later.is_same_as(row) {
                plan.touch(place, Some(later));
                *kept += 1;
            } else {
                plan.touch(place, None);
                plan.added.push((*kept, later));
            }
        };
        let head = kept;
        kept = 0;
        while place < head {
            together(&mut plan, place, next, &mut kept);
            (place, next) = (place + 1, next + 1);
        }
        let (ids_before, ids_after) = (sorted_ids(middle_before), sorted_ids(middle_after));
        let (end_before, end_after) = (head + middle_before.len(), head + middle_after.len());
        while place < end_before || next < end_after {
            let row = before[..end_before].get(place);
            let later = after[..end_after].get(next);
            match (row, later) {
                (Some(row), Some(later)) if row.id() == later.id() => {
                    together(&mut plan, place, next, &mut kept);
                    (place, next) = (place + 1, next + 1);
                }
                (Some(row), _) if ids_after.binary_search(&row.id()).is_err() => {
                    plan.touch(place, None);
                    place += 1;
                }
                (None, Some(later)) => {
                    plan.added.push((kept, later));
                    next += 1;
                }
                (Some(_), Some(later)) if ids_before.binary_search(&later.id()).is_err() => {
                    plan.added.push((kept, later));
                    next += 1;
                }
                // It is in both lists and has another place: it goes here, and comes there.
                _ => {
                    plan.touch(place, None);
                    place += 1;
                }
            }
        }
        while next < after.len() {
            together(&mut plan, place, next, &mut kept);
            (place, next) = (place + 1, next + 1);
        }
        plan
    }

    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.added.is_empty()
    }

    fn touch(&mut self, place: usize, became: Option<&'a T>) {
        self.touched.push(u32::try_from(place).unwrap_or(u32::MAX));
        self.became.push(became);
    }
}

fn sorted_ids<T: Object>(rows: &[T]) -> Vec<i32> {
    let mut ids: Vec<i32> = rows.iter().map(Object::id).collect();
    ids.sort_unstable();
    ids
}
