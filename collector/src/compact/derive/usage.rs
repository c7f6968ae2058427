//! How much of its limits each namespace uses, by slots.

use std::collections::BTreeMap;

use highwater_ipc::limits::{Limits, Resource, Totals};
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};

use super::{Sample, baseline, kept, slot_of, was_in_force};
use crate::host::HostId;
use crate::store::day::Day;
use crate::store::usage::{Step, UsageRow, Used};

/// What is in force: used and limit of each resource, in order of [`Resource::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Values {
    own: bool,
    used: [Option<u64>; 5],
    limit: [Option<u64>; 5],
}

impl Values {
    fn of(namespace: &Namespace, own: bool) -> Self {
        let no_limits = Limits {
            semmsl: 0,
            semmns: 0,
            semopm: 0,
            semmni: 0,
            semvmx: 0,
            shmmax: 0,
            shmall: 0,
            shmmni: 0,
            shmmin: 0,
            msgmax: 0,
            msgmnb: 0,
            msgmni: 0,
        };
        let (totals, limits) = (namespace.totals.as_ref(), namespace.limits.as_ref());
        Self {
            own,
            used: Resource::ALL.map(|r| totals.map(|t| r.of(t, &no_limits).0)),
            limit: Resource::ALL.map(|r| limits.map(|l| r.of(&Totals::default(), l).1)),
        }
    }

    /// Of a namespace that is gone, or not kept any more.
    fn gone(self) -> Self {
        Self { used: [None; 5], limit: [None; 5], ..self }
    }
}

type InForce = BTreeMap<NamespaceId, Values>;

fn values_of(state: &State) -> InForce {
    kept(state).map(|(i, n)| (n.id, Values::of(n, i == 0))).collect()
}

/// Rows by ten minutes and by hour.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    tables: [Table; 2],
    in_force: InForce,
    /// When that was read, wall time, milliseconds.
    read_ms: Option<i64>,
}

impl Default for Usage {
    fn default() -> Self {
        let table = |step, first_of| Table { step, first_of, rows: BTreeMap::new() };
        let tables = [table(Step::TenMinutes, Day::month), table(Step::Hour, Day::year)];
        Self { tables, in_force: InForce::new(), read_ms: None }
    }
}

impl Usage {
    pub(super) fn resume(&mut self, state: &State, wall_ms: i64) {
        (self.in_force, self.read_ms) = (values_of(state), Some(wall_ms));
    }

    /// Takes a sample; `since_ms` is the wall time of the one before it in its stretch.
    pub(super) fn sample(&mut self, since_ms: Option<i64>, sample: &Sample<'_>) {
        let now = values_of(sample.state);
        if since_ms.is_none() {
            self.begin(&now, sample.wall_ms);
        }
        for table in &mut self.tables {
            if let Some(since_ms) = since_ms {
                table.reach(&self.in_force, since_ms, sample.wall_ms.saturating_sub(1));
                // A partition that begins with this very sample begins with what it reads.
                table.reach(&now, since_ms.max(sample.wall_ms.saturating_sub(1)), sample.wall_ms);
            }
            table.peaks(&self.in_force, &now, since_ms, sample);
            table.change(&self.in_force, &now, since_ms, sample.wall_ms);
        }
        (self.in_force, self.read_ms) = (now, Some(sample.wall_ms));
    }

    /// A stretch begins: of what was in force at the end of the one before, only that it is gone is said, where it is. A
    /// clock that was set back does not hide that behind the row that says what it was.
    fn begin(&mut self, now: &InForce, wall_ms: i64) {
        let before = std::mem::take(&mut self.in_force);
        let told_ms = self.read_ms.map_or(wall_ms, |read_ms| read_ms.max(wall_ms));
        for (id, values) in before.iter().filter(|(id, _)| !now.contains_key(*id)) {
            for table in &mut self.tables {
                let slot_ms = slot_of(told_ms, table.step.length_ms());
                table.touch((slot_ms, *id), &values.gone(), [None; 5]);
            }
        }
    }

    /// What is in force lasts until `until_ms`.
    pub(super) fn reach(&mut self, since_ms: i64, until_ms: i64) {
        for table in &mut self.tables {
            table.reach(&self.in_force, since_ms, until_ms);
        }
    }

    pub(super) fn finish(self, host: HostId) -> [Vec<UsageRow>; 2] {
        let row = |((slot_ms, namespace), (own, used)): ((i64, NamespaceId), (bool, [Used; 5]))| UsageRow {
            host,
            namespace,
            slot_ms,
            own,
            used,
        };
        self.tables.map(|table| table.rows.into_iter().map(row).collect())
    }
}

#[derive(Clone, Debug)]
struct Table {
    step: Step,
    /// Where the partition of a day begins.
    first_of: fn(Day) -> Day,
    rows: BTreeMap<(i64, NamespaceId), (bool, [Used; 5])>,
}

impl Table {
    /// Baselines of the partitions that begin after `since_ms` and up to `until_ms`.
    fn reach(&mut self, in_force: &InForce, since_ms: i64, until_ms: i64) {
        for slot_ms in baseline::between(since_ms, until_ms, self.first_of) {
            for (id, values) in in_force {
                self.touch((slot_ms, *id), values, values.used);
            }
        }
    }

    /// What was in use between two samples and neither shows.
    fn peaks(&mut self, in_force: &InForce, now: &InForce, since_ms: Option<i64>, sample: &Sample<'_>) {
        let length_ms = self.step.length_ms();
        let slot = |wall_ms| slot_of(wall_ms, length_ms);
        for peak in &sample.activity.peaks {
            let ago_us = sample.boot_us.saturating_sub(peak.boot_us);
            let at_ms = sample.wall_ms.saturating_sub(i64::try_from(ago_us / 1_000).unwrap_or(i64::MAX));
            // Not before the sample before, which would have shown it; of a stretch's first nothing is known before.
            let slot_ms = slot(at_ms.max(since_ms.unwrap_or(sample.wall_ms)));
            let is_now = slot_ms == slot(sample.wall_ms);
            let values = if is_now { now.get(&peak.namespace) } else { in_force.get(&peak.namespace) };
            let Some(values) = values else { continue };
            let mut most = values.used;
            if let Some(before) = in_force.get(&peak.namespace)
                && since_ms.is_some_and(|since_ms| !is_now || was_in_force(slot_ms, since_ms, sample.wall_ms))
            {
                most = higher(most, before.used);
            }
            most = higher(most, [Some(peak.sem_arrays), Some(peak.semaphores), None, None, None]);
            self.touch((slot_ms, peak.namespace), values, most);
        }
    }

    /// What a sample reads other than the one before.
    fn change(&mut self, in_force: &InForce, now: &InForce, since_ms: Option<i64>, wall_ms: i64) {
        let slot_ms = slot_of(wall_ms, self.step.length_ms());
        let lasted = since_ms.is_some_and(|since_ms| was_in_force(slot_ms, since_ms, wall_ms));
        for (id, values) in now {
            let before = in_force.get(id);
            if before == Some(values) {
                // A row that is there for another reason, a baseline or a peak, says what is in force.
                continue;
            }
            let most = before.filter(|_| lasted).map_or(values.used, |before| higher(values.used, before.used));
            self.touch((slot_ms, *id), values, most);
        }
        for (id, before) in in_force.iter().filter(|(id, _)| !now.contains_key(*id)) {
            let most = if lasted { before.used } else { [None; 5] };
            self.touch((slot_ms, *id), &before.gone(), most);
        }
    }

    fn touch(&mut self, key: (i64, NamespaceId), last: &Values, most: [Option<u64>; 5]) {
        let (own, row) = self.rows.entry(key).or_default();
        *own = last.own;
        let columns = last.used.into_iter().zip(last.limit).zip(most);
        for (used, ((last, limit), most)) in row.iter_mut().zip(columns) {
            *used = Used { last, most: used.most.max(most), limit };
        }
    }
}

/// `None` is below everything.
fn higher(a: [Option<u64>; 5], b: [Option<u64>; 5]) -> [Option<u64>; 5] {
    let mut highest = a;
    for (highest, other) in highest.iter_mut().zip(b) {
        *highest = (*highest).max(other);
    }
    highest
}
