//! Reads what `capacity` is about: who there is, and what each namespace used by the hour.

use std::collections::{BTreeMap, HashMap};

use tracing::warn;

use super::marks::{self, Hour, Mark};
use super::pack::Pack;
use super::{HOUR_MS, Question};
use crate::host::HostId;
use crate::query::AskError;
use crate::query::fleet::{EPHEMERAL_GONE_AFTER_MS, GONE_AFTER_MS};
use crate::store::capacity::{CapacityHost, HoursRow};
use crate::store::history::Reading;
use crate::store::usage_pack;

/// A host's clock is not believed to be further behind.
const MOST_BEHIND_MS: i64 = 366 * 24 * HOUR_MS;
/// Nor are its samples to be later than its clock, but for what it was set by since that is known.
const MOST_AHEAD_MS: i64 = 48 * HOUR_MS;
/// Filters of up to so many hosts go to the database; of larger ones all rows are read.
const FEW_HOSTS: usize = 1_000;

/// One namespace of a host.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    /// Inode, of the newest row.
    pub(super) namespace: u64,
    /// Limits as the newest row says them; of the host's own namespace nobody looks at them.
    pub(super) limits: [Option<u64>; 5],
    /// Four days each with their newest hour, by that.
    packs: Vec<(Hour, Vec<u8>)>,
    /// The oldest hour.
    first: Option<Hour>,
    /// The newest.
    newest: Option<Hour>,
}

/// One host.
#[derive(Clone, Debug)]
pub(super) struct HostSeries {
    pub(super) host: CapacityHost,
    /// Silent for so long that nobody expects it back.
    pub(super) gone: bool,
    /// The collector's clock, milliseconds.
    now_ms: i64,
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
    let from_ms = usage_pack::span_of(question.since_ms.saturating_add(behind_ms));
    let places: HashMap<i64, usize> = gathered.hosts.iter().enumerate().map(|(at, h)| (h.host.host.id.0, at)).collect();
    let few: Option<Vec<HostId>> = (gathered.hosts.len() <= FEW_HOSTS && !question.labels.is_empty())
        .then(|| gathered.hosts.iter().map(|h| h.host.host.id).collect());
    let add = |gathered: &mut Gathered, row: HoursRow| {
        let place = places.get(&row.host.0).and_then(|at| gathered.hosts.get_mut(*at));
        if let Some(host) = place.filter(|host| !host.gone) {
            host.add(row);
        }
    };
    reading.hours(from_ms, few.as_deref(), |row| add(&mut gathered, row)).await?;
    let late = gathered.hosts.iter().filter(|h| h.begins_late(question.since_ms));
    let late: Vec<HostId> = late.map(|h| h.host.host.id).collect();
    if !late.is_empty() {
        reading.own_hours_before(from_ms, &late, |row| add(&mut gathered, row)).await?;
    }
    // What is gone before the span says nothing of it, and is left out.
    reading.other_hours_before(from_ms, few.as_deref(), |row| add(&mut gathered, row)).await?;
    Ok(gathered)
}

impl HostSeries {
    pub(super) fn new(host: CapacityHost, now_ms: i64) -> Self {
        let is_ephemeral = host.labels.iter().any(|(k, v)| k == "ephemeral" && v == "1");
        let gone_ms = if is_ephemeral { EPHEMERAL_GONE_AFTER_MS } else { GONE_AFTER_MS };
        // What was imported was never expected to report.
        let gone = !host.imported && now_ms.saturating_sub(host.last_seen_ms) > gone_ms;
        Self { host, gone, now_ms, own: Series::default(), others: BTreeMap::new() }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: HoursRow) {
        let series = match row.instance {
            None => &mut self.own,
            Some(instance) => self.others.entry((row.namespace, instance)).or_default(),
        };
        series.add(row);
    }

    /// Hours of its clock from then on, by the collector's, to its newest sample. A host says what its clock is, so its newest
    /// sample is believed to be hardly later than now: the span is walked hour by hour.
    pub(super) fn span(&self, since_ms: i64) -> (Hour, Hour) {
        let on_host = |ms: i64| ms.saturating_add(self.host.skew_ms);
        let to_ms = self.host.sampled_wall_ms.min(on_host(self.now_ms).saturating_add(MOST_AHEAD_MS));
        (on_host(since_ms).div_euclid(HOUR_MS), to_ms.div_euclid(HOUR_MS))
    }

    /// Whether more must be read to know what its own namespace used as the span began.
    fn begins_late(&self, since_ms: i64) -> bool {
        let (from, to) = self.span(since_ms);
        !self.gone && from <= to && self.own.first.is_none_or(|first| first > from)
    }
}

impl Series {
    fn add(&mut self, row: HoursRow) {
        // Of one row that does not read the fleet need not do without an answer; `usage_hour` has it, too.
        let Ok(pack) = Pack::read(&row.body) else {
            warn!(host = %row.host, from_ms = row.from_ms, "hours of use in usage_pack that do not read");
            return;
        };
        self.first = Some(self.first.map_or(pack.first, |first| first.min(pack.first)));
        if self.newest.is_none_or(|newest| newest <= pack.newest) {
            (self.newest, self.namespace, self.limits) = (Some(pack.newest), row.namespace, pack.limits);
        }
        let (newest, packs) = (pack.newest, &mut self.packs);
        packs.insert(packs.partition_point(|(of, _)| *of <= newest), (newest, row.body));
    }

    /// The marks of the resource at that place of `Resource::ALL`, by hour, in place of what is there.
    pub(super) fn marks(&self, at: usize, marks: &mut Vec<Mark>) {
        marks.clear();
        for (_, pack) in &self.packs {
            // It was read once.
            if let Ok(pack) = Pack::read(pack) {
                pack.marks(at, marks);
            }
        }
        marks::order(marks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::capacity::pack::{Hours, merged};
    use crate::query::capacity::tell;
    use crate::store::fleet::HostName;
    use crate::store::usage::{Order, Used};

    fn host(now_ms: i64, (skew_ms, sampled_wall_ms): (i64, i64), used: [Used; 5]) -> HostSeries {
        let host = CapacityHost {
            host: HostName { name: "h".to_owned(), id: HostId(1) },
            labels: Vec::new(),
            skew_ms,
            last_seen_ms: now_ms,
            sampled_wall_ms,
            interval_ms: 1_000,
            imported: false,
            namespace: Some(1),
            used,
        };
        HostSeries::new(host, now_ms)
    }

    fn add(host: &mut HostSeries, ms: i64, used: [Used; 5]) {
        let hours = [Hours { hour: ms.div_euclid(HOUR_MS), used }];
        let body = merged(None, &hours, Order::Newest).bytes;
        host.add(HoursRow { host: HostId(1), namespace: 1, instance: None, from_ms: ms, body });
    }

    /// The boot before ended at noon; then the clock was set back by two hours.
    #[test]
    fn what_a_host_uses_now_is_told_though_its_clock_was_set_back() {
        let now_ms = 1_795_000_000_000;
        let used = [Used { last: Some(7), most: Some(7), limit: Some(10) }; 5];
        let mut host = host(now_ms, (0, now_ms), used);
        add(&mut host, now_ms - HOUR_MS, used);
        add(&mut host, now_ms + 2 * HOUR_MS, [Used::default(); 5]);
        let question = Question { since_ms: now_ms - 24 * HOUR_MS, most: 100, ..Question::default() };
        let told = tell(&Gathered { hosts: vec![host] }, &question);
        assert_eq!(told.entries.iter().map(|entry| entry.used).collect::<Vec<_>>(), [Some(7); 5]);
    }

    /// Its one sample is of an hour that no clock shows yet: the fleet's answer does not walk there.
    #[test]
    fn whatever_a_host_says_its_clock_is_a_span_ends_about_now() {
        let now_ms = 1_795_000_000_000;
        let used = [Used { last: Some(9), most: Some(9), limit: Some(10) }; 5];
        for (skew_ms, sampled_wall_ms) in [(0, i64::MAX), (i64::MIN, now_ms), (i64::MAX, i64::MAX), (0, i64::MIN)] {
            let mut host = host(now_ms, (skew_ms, sampled_wall_ms), used);
            for ms in [i64::MIN, now_ms, i64::MAX] {
                add(&mut host, ms, used);
            }
            let question = Question { since_ms: now_ms - 30 * 24 * HOUR_MS, most: 100, ..Question::default() };
            let (from, to) = host.span(question.since_ms);
            assert!(to.saturating_sub(from) <= 32 * 24, "{from} .. {to}");
            let told = tell(&Gathered { hosts: vec![host] }, &question);
            assert!(told.entries.iter().all(|entry| entry.hours <= 32 * 24 + 1), "{told:?}");
        }
    }
}
