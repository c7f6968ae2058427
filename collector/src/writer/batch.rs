//! What is queued -> commits: one bucket a commit, hosts ascending, one epoch of a host at a time. Pure.

use std::collections::BTreeMap;

use highwater_ipc::record::EpochNo;

use super::queue::Item;
use crate::host::HostId;
use crate::store::stream::Session;

/// Records of one host, one session and one epoch, in order.
#[derive(Debug)]
pub struct Run {
    /// Whose.
    pub host: HostId,
    /// The session they came in.
    pub session: Session,
    /// Their epoch.
    pub epoch: EpochNo,
    /// The records.
    pub items: Vec<Item>,
}

/// What shares a commit: hosts of one bucket, ascending (two commits that lock hosts in opposite orders deadlock), each
/// at most once.
pub type Group = Vec<Run>;

/// Sorts items into groups, to be committed in this order. The bucket is the shard on Citus and constant on plain
/// PostgreSQL; a wrong one is slow, never wrong.
pub fn groups(items: Vec<Item>, bucket: impl Fn(HostId) -> u64) -> Vec<Group> {
    let mut hosts: BTreeMap<HostId, Vec<Run>> = BTreeMap::new();
    for item in items {
        let runs = hosts.entry(item.host).or_default();
        match runs.last_mut() {
            Some(run) if run.epoch == item.epoch && run.session == item.session => run.items.push(item),
            _ => runs.push(Run { host: item.host, session: item.session, epoch: item.epoch, items: vec![item] }),
        }
    }
    // A host's n-th run goes into its bucket's n-th group.
    let mut groups: BTreeMap<(usize, u64), Group> = BTreeMap::new();
    for (host, runs) in hosts {
        let bucket = bucket(host);
        for (round, run) in runs.into_iter().enumerate() {
            groups.entry((round, bucket)).or_default().push(run);
        }
    }
    groups.into_values().collect()
}

/// Halves what the database refused, to find the record it refused: first by host, then by record. `Err` holds the one
/// run with one record that is left.
pub fn halve(mut runs: Vec<Run>) -> Result<(Vec<Run>, Vec<Run>), Option<Run>> {
    if runs.len() > 1 {
        let rest = runs.split_off(runs.len() / 2);
        return Ok((runs, rest));
    }
    let Some(mut run) = runs.pop() else { return Err(None) };
    if run.items.len() < 2 {
        return Err(Some(run));
    }
    let rest = run.items.split_off(run.items.len() / 2);
    let second = Run { items: rest, ..run };
    run = Run { host: second.host, session: second.session, epoch: second.epoch, items: run.items };
    Ok((vec![run], vec![second]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use highwater_ipc::record::{Chain, RecordKind, Seq};
    use highwater_ipc::time::At;
    use proptest::prelude::*;

    use super::super::arrival::{Arrival, Says};
    use super::*;

    fn item(host: i64, epoch: u64, seq: u64) -> Item {
        let arrival = Arrival {
            kind: RecordKind::Delta,
            first: Seq(seq),
            seq: Seq(seq),
            next_chain: Chain::default(),
            at: At::default(),
            says: Says::default(),
            body: Arc::from([]),
        };
        Item { host: HostId(host), session: Session(1), epoch: EpochNo(epoch), arrival, _share: None }
    }

    proptest! {
        #[test]
        fn no_commit_mixes_buckets_and_each_host_keeps_its_order(
            queued in proptest::collection::vec((0..12_i64, 0..3_u64), 0..200),
            buckets in 1..5_u64,
        ) {
            let bucket = |host: HostId| host.0.unsigned_abs() % buckets;
            let items: Vec<Item> =
                queued.iter().enumerate().map(|(i, (host, epoch))| item(*host, *epoch, i as u64)).collect();
            let mut seen: BTreeMap<HostId, Vec<u64>> = BTreeMap::new();
            for group in groups(items, bucket) {
                prop_assert!(group.iter().all(|run| bucket(run.host) == bucket(group[0].host)));
                prop_assert!(group.is_sorted_by(|a, b| a.host < b.host));
                for run in group {
                    prop_assert!(run.items.iter().all(|i| i.host == run.host && i.epoch == run.epoch));
                    seen.entry(run.host).or_default().extend(run.items.iter().map(|i| i.arrival.seq.0));
                }
            }
            prop_assert!(seen.values().all(|order| order.is_sorted()));
            prop_assert_eq!(seen.values().map(Vec::len).sum::<usize>(), queued.len());
        }

        #[test]
        fn halving_ends_at_each_single_record_in_order(hosts in 1..6_i64, each in 1..6_u64) {
            let items = (0..hosts).flat_map(|h| (0..each).map(move |s| item(h, 1, s))).collect();
            let mut todo: Vec<Group> = groups(items, |_| 0);
            let mut found = Vec::new();
            while let Some(runs) = todo.pop() {
                match halve(runs) {
                    Ok((first, second)) => todo.extend([second, first]),
                    Err(single) => found.extend(single.map(|run| (run.host.0, run.items[0].arrival.seq.0))),
                }
            }
            let all: Vec<_> = (0..hosts).flat_map(|h| (0..each).map(move |s| (h, s))).collect();
            prop_assert_eq!(found, all);
        }
    }
}
