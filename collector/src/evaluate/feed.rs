//! The one input of the evaluator: from samples to the rows of each series, live and for `backtest` alike.
//!
//! F1. A row comes where used or limit changed, at each ten minutes of the host's wall clock for which the state is
//!     covered, and at both ends of a gap.
//! F2. How the samples are cut into steps changes no row: a boundary comes out as soon as it is known to be covered.
//! F3. The host's own namespace is one series over boots; any other one ends with its boot.
//! F4. What could not be read is a gap of its series.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::limits::Resource;
use highwater_ipc::snapshot::{NamespaceId, State};
use serde::{Deserialize, Serialize};

use crate::forecast::{Event, Row};

/// A row comes at least so often while a host is covered, milliseconds.
pub const EVERY_MS: i64 = 600_000;
/// The most namespaces of a host that are judged, the host's own first: as many as `usage` keeps.
pub const MAX_NAMESPACES: usize = 64;

/// A namespace, as far as it is the same place over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// The host's own.
    Own,
    /// Another one: inode and what tells two of one inode apart.
    Other(u64, u64),
}

/// A series: number of its resource in [`Resource::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Which {
    /// Where.
    pub place: Place,
    /// Of what.
    resource: u8,
}

impl Which {
    /// Of which limit.
    pub fn resource(self) -> Resource {
        Resource::ALL[usize::from(self.resource).min(Resource::ALL.len() - 1)]
    }
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// The next row of a series.
    Row(Row),
    /// Its namespace is gone.
    End,
}

/// A sample, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// Wall time as stored, milliseconds.
    pub wall_ms: i64,
    /// Wall time of the sample before it in its epoch, heartbeats too; `None` = the epoch's first.
    pub prev_wall_ms: Option<i64>,
    /// Boot time, microseconds.
    pub boot_us: u64,
    /// Whether a stretch begins with it.
    pub begins_stretch: bool,
    /// What it read.
    pub state: &'s State,
}

/// When something was read last.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Last {
    boot_id: [u8; 16],
    wall_ms: i64,
    boot_us: u64,
    /// Until when that is confirmed.
    covered_ms: i64,
    interval_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Values {
    used: u64,
    limit: u64,
    /// It could not be read since.
    hidden: bool,
}

/// What is remembered between two samples of a host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Feed {
    last: Option<Last>,
    /// Boundaries up to this wall time are out, milliseconds.
    fed_ms: i64,
    series: BTreeMap<Which, Values>,
}

/// How a sample follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// There is none.
    First,
    /// What that one read was confirmed up to this one.
    Directly,
    /// Nothing is known of some time between.
    AfterGap,
    /// Nor that, and it is another boot.
    Reboot,
}

/// How a sample follows the one before, and how much time was seen between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How.
    pub follows: Follows,
    /// Milliseconds, by the boot clock as far as that goes.
    pub passed_ms: i64,
}

impl Feed {
    /// Takes the next sample of the host; `out` gets the rows in order of time.
    pub fn sample(&mut self, sample: &Sample<'_>, out: &mut impl FnMut(Which, Input)) -> Step {
        let follows = self.follows(sample);
        let passed_ms = match (follows, &self.last) {
            (Follows::Directly, Some(last)) => {
                let passed_ms = sample.boot_us.saturating_sub(last.boot_us) / 1_000;
                i64::try_from(passed_ms).unwrap_or(i64::MAX)
            }
            _ => self.passed_ms(),
        };
        match follows {
            Follows::First => self.fed_ms = sample.wall_ms,
            Follows::Directly if sample.begins_stretch => {
                // The clock was set: what was covered before was by another one.
                self.boundaries(self.last.map_or(sample.wall_ms, |last| last.covered_ms), out);
                self.fed_ms = sample.wall_ms;
            }
            Follows::Directly => self.boundaries(sample.wall_ms.saturating_sub(1), out),
            Follows::AfterGap | Follows::Reboot => {
                let covered_ms = self.last.map_or(sample.wall_ms, |last| last.covered_ms);
                self.boundaries(covered_ms, out);
                for (which, values) in self.series.iter().filter(|(_, values)| !values.hidden) {
                    out(*which, Input::Row(values.row(covered_ms, Event::GapStart)));
                }
                self.fed_ms = sample.wall_ms;
            }
        }
        self.read(sample, follows, out);
        self.last = Some(Last {
            boot_id: sample.state.boot_id.0,
            wall_ms: sample.wall_ms,
            boot_us: sample.boot_us,
            covered_ms: sample.wall_ms,
            interval_ms: sample.state.interval_ms,
        });
        Step { follows, passed_ms }
    }

    /// How long after it was taken what the last sample read was confirmed, milliseconds.
    pub fn passed_ms(&self) -> i64 {
        self.last.map_or(0, |last| last.covered_ms.saturating_sub(last.wall_ms).max(0))
    }

    /// Says that what the last sample read was still so then.
    pub fn covered(&mut self, wall_ms: i64, out: &mut impl FnMut(Which, Input)) {
        if let Some(last) = &mut self.last {
            last.covered_ms = last.covered_ms.max(wall_ms);
            let covered_ms = last.covered_ms;
            self.boundaries(covered_ms, out);
        }
    }

    fn follows(&mut self, sample: &Sample<'_>) -> Follows {
        let Some(last) = &mut self.last else { return Follows::First };
        last.covered_ms = last.covered_ms.max(sample.prev_wall_ms.unwrap_or(last.covered_ms));
        if !sample.begins_stretch {
            return Follows::Directly;
        }
        if last.boot_id != sample.state.boot_id.0 {
            return Follows::Reboot;
        }
        // By the boot clock, which nobody sets.
        let confirmed_us = last.covered_ms.saturating_sub(last.wall_ms).unsigned_abs().saturating_mul(1000);
        let silent_us = sample.boot_us.saturating_sub(last.boot_us.saturating_add(confirmed_us));
        let most_us = u64::from(last.interval_ms.max(sample.state.interval_ms)).saturating_mul(3_000);
        if silent_us > most_us { Follows::AfterGap } else { Follows::Directly }
    }

    fn boundaries(&mut self, until_ms: i64, out: &mut impl FnMut(Which, Input)) {
        // After so long a time without a record nobody needs each of them.
        let oldest_ms = until_ms.saturating_sub(EVERY_MS.saturating_mul(6 * 24 * 15));
        let mut at_ms = self.fed_ms.max(oldest_ms).div_euclid(EVERY_MS).saturating_add(1).saturating_mul(EVERY_MS);
        while at_ms <= until_ms {
            for (which, values) in self.series.iter().filter(|(_, values)| !values.hidden) {
                out(*which, Input::Row(values.row(at_ms, Event::Sample)));
            }
            self.fed_ms = at_ms;
            at_ms = at_ms.saturating_add(EVERY_MS);
        }
    }

    fn read(&mut self, sample: &Sample<'_>, follows: Follows, out: &mut impl FnMut(Which, Input)) {
        let now = values_of(sample.state);
        let gone: Vec<Which> = self
            .series
            .keys()
            .filter(|which| {
                let is_there = now.places.contains(&which.place);
                !is_there || follows == Follows::Reboot && which.place != Place::Own
            })
            .copied()
            .collect();
        for which in gone {
            self.series.remove(&which);
            out(which, Input::End);
        }
        for (which, read) in now.values {
            let before = self.series.get(&which).copied();
            match (read, before) {
                (Some((used, limit)), before) => {
                    let values = Values { used, limit, hidden: false };
                    let event = event(before, values, follows);
                    if before != Some(values) || event != Event::Sample {
                        out(which, Input::Row(values.row(sample.wall_ms, event)));
                    }
                    self.series.insert(which, values);
                }
                (None, Some(before)) if !before.hidden => {
                    if follows == Follows::Directly {
                        out(which, Input::Row(before.row(sample.wall_ms, Event::GapStart)));
                    }
                    self.series.insert(which, Values { hidden: true, ..before });
                }
                (None, _) => {}
            }
        }
    }
}

fn event(before: Option<Values>, now: Values, follows: Follows) -> Event {
    match (before, follows) {
        (None, _) => Event::Sample,
        (Some(_), Follows::Reboot) => Event::Reboot,
        (Some(_), Follows::AfterGap) => Event::GapEnd,
        (Some(before), _) if before.hidden => Event::GapEnd,
        (Some(before), _) if before.limit != now.limit => Event::LimitChange,
        _ => Event::Sample,
    }
}

impl Values {
    fn row(self, wall_ms: i64, event: Event) -> Row {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of any believable year are exact")]
        let at = wall_ms as f64 / 1000.0;
        Row { at, used: self.used, limit: self.limit, event }
    }
}

struct Now {
    places: BTreeSet<Place>,
    /// Used and limit; `None` = not read.
    values: BTreeMap<Which, Option<(u64, u64)>>,
}

/// Where a namespace of a state is at home: the first one is the host's own.
pub fn places(state: &State) -> impl Iterator<Item = (Place, NamespaceId)> + '_ {
    state.namespaces.iter().take(MAX_NAMESPACES).enumerate().map(|(index, namespace)| {
        let id = namespace.id;
        (if index == 0 { Place::Own } else { Place::Other(id.inode, id.instance) }, id)
    })
}

fn values_of(state: &State) -> Now {
    let mut now = Now { places: BTreeSet::new(), values: BTreeMap::new() };
    for ((place, _), namespace) in places(state).zip(&state.namespaces) {
        if !now.places.insert(place) {
            continue;
        }
        for (number, resource) in (0_u8..).zip(Resource::ALL) {
            let read = namespace.totals.as_ref().zip(namespace.limits.as_ref());
            let read = read.map(|(totals, limits)| resource.of(totals, limits));
            now.values.insert(Which { place, resource: number }, read);
        }
    }
    now
}
