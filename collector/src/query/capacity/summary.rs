//! The fleet in a few numbers. Pure.

use std::collections::BTreeMap;

use highwater_ipc::limits::Resource;

use super::gather::Gathered;
use super::tell::Entry;
use crate::host::HostId;

/// What sums are made by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The value of this label.
    Label(String),
    /// The host's own namespace or another one, and the limit: containers do not inherit the host's limits.
    Namespace,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The label's value, or which namespaces; `None` = hosts without that label.
    pub name: Option<String>,
    /// Which limit.
    pub resource: Resource,
    /// The limit that all of the group have; `None` = groups are not by limit, or it is not known.
    pub limit: Option<u64>,
}

/// How many are how near.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Hosts counted.
    pub hosts: usize,
    /// Namespaces counted.
    pub namespaces: usize,
    /// Of those that are counted: use of at least 50, 80 and 90 % of the limit now.
    pub above: [usize; 3],
    /// At least 90 % of the limit at the peak.
    pub peaked: usize,
    /// Less than 7, 30 and 90 days left.
    pub days_left: [usize; 3],
    /// Would be refused.
    pub refused: usize,
}

/// Shares of the limit, per cent.
pub const SHARES: [u64; 3] = [50, 80, 90];
/// Days.
pub const DAYS: [f64; 3] = [7.0, 30.0, 90.0];

/// The fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// By host: each is counted where its nearest resource is.
    pub all: Sums,
    /// Hosts with the labels asked for of which nothing is known in the span.
    pub without_data: usize,
    /// Hosts that are gone, and not counted.
    pub gone: usize,
    /// By namespace, for each resource that was asked for.
    pub resources: Vec<(Resource, Sums)>,
    /// By namespace, for each group.
    pub groups: Vec<(Group, Sums)>,
}

/// How near one is: what its sums grow by.
fn near(entry: &Entry) -> Sums {
    let millionths = entry.millionths().unwrap_or(0);
    let above = SHARES.map(|share| usize::from(millionths >= share * 10_000));
    let peak = entry.peak.zip(entry.limit);
    let peaked = peak.is_some_and(|(peak, limit)| u128::from(peak) * 10 >= u128::from(limit) * 9);
    let days_left = DAYS.map(|days| usize::from(entry.days_left.is_some_and(|left| left.days < days)));
    let refused = usize::from(entry.refused_ms().is_some());
    Sums { hosts: 0, namespaces: 1, above, peaked: usize::from(peaked), days_left, refused }
}

impl Sums {
    fn each(self, other: Sums, with: impl Fn(usize, usize) -> usize) -> Sums {
        let all = |a: [usize; 3], b: [usize; 3]| {
            let ([a0, a1, a2], [b0, b1, b2]) = (a, b);
            [with(a0, b0), with(a1, b1), with(a2, b2)]
        };
        Sums {
            hosts: with(self.hosts, other.hosts),
            namespaces: with(self.namespaces, other.namespaces),
            above: all(self.above, other.above),
            peaked: with(self.peaked, other.peaked),
            days_left: all(self.days_left, other.days_left),
            refused: with(self.refused, other.refused),
        }
    }

    fn plus(self, other: Sums) -> Sums {
        self.each(other, |a, b| a + b)
    }
}

/// Counts and the host counted last: entries come host by host.
#[derive(Clone, Copy, Debug, Default)]
struct Counting {
    sums: Sums,
    host: Option<HostId>,
}

impl Counting {
    fn add(&mut self, host: HostId, near: Sums) {
        let is_new = self.host.replace(host) != Some(host);
        self.sums = self.sums.plus(Sums { hosts: usize::from(is_new), ..near });
    }
}

/// Sums up; entries come host by host, and of a host namespace by namespace.
pub(super) fn summarize(gathered: &Gathered, entries: &[Entry], group_by: Option<&GroupBy>) -> Summary {
    let labels = |host: HostId| {
        let found = gathered.hosts.binary_search_by_key(&host, |h| h.host.host.id).ok();
        found.and_then(|at| gathered.hosts.get(at)).map_or(&[][..], |host| &host.host.labels)
    };
    let mut all = Sums::default();
    let mut resources: BTreeMap<Resource, Counting> = BTreeMap::new();
    let mut groups: BTreeMap<Group, Counting> = BTreeMap::new();
    for of_host in entries.chunk_by(|a, b| a.host.id == b.host.id) {
        let namespaces = of_host.chunk_by(|a, b| (a.namespace, a.instance) == (b.namespace, b.instance)).count();
        let nearest = of_host.iter().map(near).reduce(|a, b| a.each(b, usize::max)).unwrap_or_default();
        all = all.plus(Sums { hosts: 1, namespaces, ..nearest });
        for entry in of_host {
            let near = near(entry);
            resources.entry(entry.resource).or_default().add(entry.host.id, near);
            let group = match group_by {
                None => continue,
                Some(GroupBy::Namespace) => {
                    let name = if entry.instance.is_none() { "host" } else { "container" };
                    Group { name: Some(name.to_owned()), resource: entry.resource, limit: entry.limit }
                }
                Some(GroupBy::Label(key)) => {
                    let name = labels(entry.host.id).iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
                    Group { name, resource: entry.resource, limit: None }
                }
            };
            groups.entry(group).or_default().add(entry.host.id, near);
        }
    }
    let gone = gathered.hosts.iter().filter(|host| host.gone).count();
    Summary {
        without_data: gathered.hosts.len().saturating_sub(gone + all.hosts),
        gone,
        resources: resources.into_iter().map(|(resource, counting)| (resource, counting.sums)).collect(),
        groups: groups.into_iter().map(|(group, counting)| (group, counting.sums)).collect(),
        all,
    }
}
