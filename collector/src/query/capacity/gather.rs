//! Reads what `capacity` is about: who there is, and what each namespace used by the hour.

use std::collections::{BTreeMap, HashMap};

use highwater_ipc::limits::Resource;

use super::marks::{Hour, Mark, Packed};
use super::{HOUR_MS, Question};
use crate::host::HostId;
use crate::query::AskError;
use crate::query::fleet::{EPHEMERAL_GONE_AFTER_MS, GONE_AFTER_MS};
use crate::store::capacity::{CapacityHost, Family, HourRow};
use crate::store::history::Reading;

/// Rows this much older than the span are read with it: what a namespace that changes each day had as the span began is
/// among them, and only of the others is it looked for, host by host.
const BEFORE_MS: i64 = 24 * HOUR_MS;
/// A host's clock is not believed to be further behind.
const MOST_BEHIND_MS: i64 = 366 * 24 * HOUR_MS;
/// Filters of up to so many hosts go to the database; of larger ones all rows are read.
const FEW_HOSTS: usize = 1_000;

/// One namespace of a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    /// Inode, of the newest row.
    pub(super) namespace: u64,
    /// In order of [`Resource::ALL`].
    pub(super) marks: [Packed; 5],
    /// Limits as the newest row says them; of the host's own namespace none.
    pub(super) limits: [Option<u64>; 5],
    /// Of the oldest row.
    first: Option<Hour>,
    /// Of the newest.
    newest: Option<Hour>,
}

/// One host.
#[derive(Clone, Debug)]
pub(super) struct HostSeries {
    pub(super) host: CapacityHost,
    /// Silent for so long that nobody expects it back.
    pub(super) gone: bool,
    /// Its own namespace, whatever its inode and boot.
    pub(super) own: Series,
    /// The others, by inode and instance.
    pub(super) others: BTreeMap<(u64, u64), Series>,
}

/// Everything that is needed to answer.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    pub(super) hosts: Vec<HostSeries>,
}

/// Reads it; `now_ms` is the collector's clock.
pub async fn gather(reading: &mut Reading, question: &Question, now_ms: i64) -> Result<Gathered, AskError> {
    let hosts = reading.capacity_hosts(&question.labels).await?;
    let mut gathered = Gathered { hosts: hosts.into_iter().map(|host| HostSeries::new(host, now_ms)).collect() };
    let behind_ms = gathered.hosts.iter().map(|h| h.host.skew_ms.clamp(-MOST_BEHIND_MS, 0)).min().unwrap_or(0);
    let from_ms = question.since_ms.saturating_add(behind_ms).saturating_sub(BEFORE_MS);
    let places: HashMap<i64, usize> = gathered.hosts.iter().enumerate().map(|(at, h)| (h.host.host.id.0, at)).collect();
    let few: Option<Vec<HostId>> = (gathered.hosts.len() <= FEW_HOSTS && !question.labels.is_empty())
        .then(|| gathered.hosts.iter().map(|h| h.host.host.id).collect());
    let add = |gathered: &mut Gathered, row: &HourRow| {
        let place = places.get(&row.host.0).and_then(|at| gathered.hosts.get_mut(*at));
        if let Some(host) = place.filter(|host| !host.gone) {
            host.add(row);
        }
    };
    let family = Family::of(&question.resources);
    reading.hours(family, from_ms, few.as_deref(), |row| add(&mut gathered, &row)).await?;
    let late = gathered.hosts.iter().filter(|h| h.begins_late(question.since_ms));
    let late: Vec<HostId> = late.map(|h| h.host.host.id).collect();
    if !late.is_empty() {
        reading.own_hours_before(from_ms, &late, |row| add(&mut gathered, &row)).await?;
    }
    // What is gone before the span says nothing of it.
    let is_there = |row: &HourRow| row.used.iter().any(|used| used.last.is_some());
    let mut add_other = |row: HourRow| {
        if is_there(&row) {
            add(&mut gathered, &row)
        }
    };
    reading.other_hours_before(from_ms, few.as_deref(), &mut add_other).await?;
    Ok(gathered)
}

impl HostSeries {
    pub(super) fn new(host: CapacityHost, now_ms: i64) -> Self {
        let is_ephemeral = host.labels.iter().any(|(k, v)| k == "ephemeral" && v == "1");
        let gone_ms = if is_ephemeral { EPHEMERAL_GONE_AFTER_MS } else { GONE_AFTER_MS };
        // What was imported was never expected to report.
        let gone = !host.imported && now_ms.saturating_sub(host.last_seen_ms) > gone_ms;
        Self { host, gone, own: Series::default(), others: BTreeMap::new() }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &HourRow) {
        let series = match row.instance {
            None => &mut self.own,
            Some(instance) => self.others.entry((row.namespace, instance)).or_default(),
        };
        series.add(row);
    }

    /// Hours of its clock from then on, by the collector's, to its newest sample.
    pub(super) fn span(&self, since_ms: i64) -> (Hour, Hour) {
        let from_ms = since_ms.saturating_add(self.host.skew_ms);
        (from_ms.div_euclid(HOUR_MS), self.host.sampled_wall_ms.div_euclid(HOUR_MS))
    }

    /// Whether more must be read to know what its own namespace used as the span began.
    fn begins_late(&self, since_ms: i64) -> bool {
        let (from, to) = self.span(since_ms);
        !self.gone && from <= to && self.own.first.is_none_or(|first| first > from)
    }
}

impl Series {
    fn add(&mut self, row: &HourRow) {
        let hour = row.slot_ms.div_euclid(HOUR_MS);
        for (packed, used) in self.marks.iter_mut().zip(&row.used) {
            packed.push(Mark { hour, last: used.last, most: used.most.max(used.last) });
        }
        self.first = Some(self.first.map_or(hour, |first| first.min(hour)));
        if self.newest.is_none_or(|newest| newest <= hour) {
            self.newest = Some(hour);
            self.namespace = row.namespace;
            for (limit, used) in self.limits.iter_mut().zip(&row.used) {
                *limit = used.limit;
            }
        }
    }

    /// The packed marks of a resource.
    pub(super) fn of(&self, resource: Resource) -> Option<&Packed> {
        Resource::ALL.iter().zip(&self.marks).find(|(r, _)| **r == resource).map(|(_, packed)| packed)
    }
}
