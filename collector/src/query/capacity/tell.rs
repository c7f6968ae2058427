//! From what is read to the answer. Pure.

use std::cmp::{Ordering, Reverse};

use highwater_ipc::limits::Resource;

use super::gather::{Gathered, HostSeries, Series};
use super::growth::{DaysLeft, Growth, growth};
use super::marks::{Hour, Mark};
use super::measure::{Measured, measure, runs};
use super::summary::{Summary, summarize};
use super::what_if::{Ceiling, WhatIf, ceiling, refused_in, usual_size};
use super::{HOUR_MS, Question};
use crate::host::HostId;
use crate::store::fleet::HostName;
use crate::store::usage::Used;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capacity {
    /// A page: who would have been refused first, then who is nearest to a limit.
    pub entries: Vec<Entry>,
    /// Of all hosts, whatever page.
    pub fleet: Summary,
    /// Where to go on; `None` = that was all.
    pub next: Option<Rank>,
}

/// One resource of one namespace of one host.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The host.
    pub host: HostName,
    /// Inode of the namespace.
    pub namespace: u64,
    /// Tells two of one inode apart; `None` = the host's own.
    pub instance: Option<u64>,
    /// Which limit.
    pub resource: Resource,
    /// In use now; `None` = not known.
    pub used: Option<u64>,
    /// The limit now.
    pub limit: Option<u64>,
    /// The most in use at once.
    pub peak: Option<u64>,
    /// The 95th percentile over time.
    pub p95: Option<u64>,
    /// How many hours of the span are known.
    pub hours: i64,
    /// How fast what is in use at least grows.
    pub growth: Growth,
    /// When the limit is reached.
    pub days_left: Option<DaysLeft>,
    /// Of SEMMNI and SEMMNS: which of the two stops arrays of the usual size, and where.
    pub ceiling: Option<Ceiling>,
    /// What would have been, if anything is asked about this resource.
    pub asked: Option<Asked>,
}

/// What would have been.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    /// Under this limit.
    pub limit: Option<u64>,
    /// So many would be in use now.
    pub used: Option<u64>,
    /// The hour from which on the next one would have been refused, or will be; host's clock, milliseconds.
    pub refused_ms: Option<i64>,
    /// It lies ahead: the pace says so.
    pub foreseen: bool,
    /// When that limit is reached.
    pub days_left: Option<DaysLeft>,
}

impl Entry {
    /// Used over limit in millionths; a limit of 0 is full. `None` = not known.
    pub fn millionths(&self) -> Option<u64> {
        let (used, limit) = (self.used?, self.limit?);
        let over = (u128::from(used) * 1_000_000).checked_div(u128::from(limit)).unwrap_or(1_000_000);
        Some(u64::try_from(over).unwrap_or(u64::MAX))
    }

    /// The hour from which on it would be refused.
    pub fn refused_ms(&self) -> Option<i64> {
        self.asked.and_then(|asked| asked.refused_ms)
    }

    /// Its place.
    pub fn rank(&self) -> Rank {
        Rank {
            refused_ms: self.refused_ms().unwrap_or(i64::MAX),
            millionths: self.millionths().unwrap_or(0),
            host: self.host.id,
            instance: self.instance,
            namespace: self.namespace,
            resource: self.resource,
        }
    }
}

/// A place in the order: who would be refused earliest, then who is nearest to the limit; no two are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// When; the largest number = never.
    pub refused_ms: i64,
    /// How near.
    pub millionths: u64,
    /// The host.
    pub host: HostId,
    /// The namespace, its own first.
    pub instance: Option<u64>,
    /// Its inode.
    pub namespace: u64,
    /// The resource.
    pub resource: Resource,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |r: &Self| (r.refused_ms, Reverse(r.millionths), r.host, r.instance, r.namespace, r.resource);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The most threads that measure.
const THREADS: usize = 4;

/// Makes the answer; takes some tenths of a second for ten thousand hosts.
pub fn tell(gathered: &Gathered, question: &Question) -> Capacity {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let part = gathered.hosts.len().div_ceil(threads).max(1);
    let entries: Vec<Entry> = std::thread::scope(|scope| {
        let parts = gathered.hosts.chunks(part);
        let running: Vec<_> = parts.map(|hosts| scope.spawn(move || of_hosts(hosts, question))).collect();
        // A thread that panics is a defect that the caller's join tells.
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let fleet = summarize(gathered, &entries, question.group_by.as_ref());
    let mut ranked: Vec<(Rank, Entry)> = entries.into_iter().map(|entry| (entry.rank(), entry)).collect();
    ranked.retain(|(rank, _)| question.after.is_none_or(|after| *rank > after));
    ranked.sort_unstable_by_key(|(rank, _)| *rank);
    let more = ranked.len() > question.most;
    ranked.truncate(question.most);
    let next = ranked.last().filter(|_| more).map(|(rank, _)| *rank);
    Capacity { entries: ranked.into_iter().map(|(_, entry)| entry).collect(), fleet, next }
}

/// Room that is used again.
#[derive(Debug, Default)]
struct Room {
    marks: [Vec<Mark>; 5],
    values: Vec<(u64, i64)>,
    slopes: Vec<f64>,
}

fn of_hosts(hosts: &[HostSeries], question: &Question) -> Vec<Entry> {
    let mut room = Room::default();
    let mut entries = Vec::new();
    for host in hosts.iter().filter(|host| !host.gone) {
        let span = host.span(question.since_ms);
        if span.0 > span.1 {
            continue;
        }
        of_namespace(host, (None, &host.own), question, &mut room, &mut entries);
        for ((_, instance), series) in &host.others {
            of_namespace(host, (Some(*instance), series), question, &mut room, &mut entries);
        }
    }
    entries
}

fn of_namespace(
    host: &HostSeries,
    (instance, series): (Option<u64>, &Series),
    question: &Question,
    room: &mut Room,
    entries: &mut Vec<Entry>,
) {
    let span = host.span(question.since_ms);
    let present = instance.is_none().then_some(&host.host.used);
    let mut used = [Used::default(); 5];
    for at in 0..Resource::ALL.len() {
        let (Some(marks), Some(used)) = (room.marks.get_mut(at), used.get_mut(at)) else { continue };
        series.marks(at, marks);
        if instance.is_none() {
            // What lies ahead is of a time before its clock was set back; its present is known.
            marks.truncate(marks.partition_point(|mark| mark.hour <= span.1));
        }
        let present = present.and_then(|present| present.get(at)).copied();
        *used = last_of(marks, present, span.1);
        used.limit = present.map_or_else(|| series.limits.get(at).copied().flatten(), |present| present.limit);
    }
    if instance.is_some() && used.iter().all(|used| used.last.is_none()) {
        return;
    }
    let namespace = if instance.is_none() { host.host.namespace.unwrap_or(series.namespace) } else { series.namespace };
    for (at, resource) in Resource::ALL.into_iter().enumerate() {
        if !question.resources.is_empty() && !question.resources.contains(&resource) {
            continue;
        }
        let marks = room.marks.get(at).map_or(&[][..], Vec::as_slice);
        let measured = measure(runs(marks, span), &mut room.values);
        let now = used.get(at).copied().unwrap_or_default();
        if measured.hours == 0 && now.last.is_none() {
            continue;
        }
        let growth = growth(&measured.lows, &mut room.slopes);
        let size = usual_size(resource, now.last, at.checked_sub(1).and_then(|before| used.get(before)?.last));
        let days_left = now.limit.zip(now.last).and_then(|(limit, used)| growth.days_left(limit.saturating_sub(used)));
        entries.push(Entry {
            host: host.host.host.clone(),
            namespace,
            instance,
            resource,
            used: now.last,
            limit: now.limit,
            peak: measured.peak,
            p95: measured.p95,
            hours: measured.hours,
            growth,
            days_left,
            ceiling: ceiling_of(resource, &used, &question.what_if),
            asked: question.what_if.is_about(resource).then(|| {
                let of = Of { marks, span, measured: &measured, growth, now, size, end_ms: host.host.sampled_wall_ms };
                asked(&of, &question.what_if, resource)
            }),
        });
    }
}

/// What is in use at the end of the span, which becomes a mark of its own where only the newest sample says it.
fn last_of(marks: &mut Vec<Mark>, present: Option<Used>, end: Hour) -> Used {
    let newest = marks.last().copied();
    let unknown = newest.is_some_and(|newest| newest.last.is_none());
    match present.and_then(|present| present.last) {
        // The present keeps what was read last; a row says when it could not be read any more.
        Some(_) if unknown => Used::default(),
        Some(now) => {
            match marks.last_mut() {
                Some(newest) if newest.hour >= end => {
                    (newest.last, newest.most) = (Some(now), newest.most.max(Some(now)));
                }
                Some(newest) if newest.last == Some(now) => {}
                _ => {
                    let most = newest.and_then(|newest| newest.last).max(Some(now));
                    marks.push(Mark { hour: end, last: Some(now), most });
                }
            }
            Used { last: Some(now), ..Used::default() }
        }
        None => Used { last: newest.and_then(|newest| newest.last), ..Used::default() },
    }
}

fn ceiling_of(resource: Resource, used: &[Used; 5], what_if: &WhatIf) -> Option<Ceiling> {
    let [arrays, semaphores, ..] = used;
    let array = usual_size(Resource::Semmns, semaphores.last, arrays.last);
    let limit = |of: Resource, now: Option<u64>| what_if.limit(of).or(now);
    let (semmni, semmns) = (limit(Resource::Semmni, arrays.limit)?, limit(Resource::Semmns, semaphores.limit)?);
    let is_asked = matches!(resource, Resource::Semmni | Resource::Semmns) && arrays.last.is_some_and(|n| n > 0);
    is_asked.then(|| ceiling(semmni, semmns, array))
}

/// What a what-if is answered from.
struct Of<'m> {
    marks: &'m [Mark],
    span: (Hour, Hour),
    measured: &'m Measured,
    growth: Growth,
    now: Used,
    size: u64,
    end_ms: i64,
}

fn asked(of: &Of<'_>, what_if: &WhatIf, resource: Resource) -> Asked {
    let limit = what_if.limit(resource).or(of.now.limit);
    let lowest = of.measured.lowest.unwrap_or(0);
    let scale = |used: u64| what_if.used(used, lowest);
    let used = of.now.last.map(scale);
    let past = limit.and_then(|limit| refused_in(runs(of.marks, of.span), limit, of.size, scale));
    let growth = of.growth.times(what_if.growth.unwrap_or(1.0));
    let days_left = limit.zip(used).and_then(|(limit, used)| growth.days_left(limit.saturating_sub(used)));
    #[allow(clippy::cast_possible_truncation, reason = "at most ten years")]
    let ahead = |left: DaysLeft| of.end_ms.saturating_add((left.days * 24.0) as i64 * HOUR_MS);
    let foreseen = days_left.filter(|_| past.is_none() && what_if.growth.is_some()).map(ahead);
    Asked {
        limit,
        used,
        refused_ms: past.map(|hour| hour.saturating_mul(HOUR_MS)).or(foreseen),
        foreseen: foreseen.is_some(),
        days_left,
    }
}
