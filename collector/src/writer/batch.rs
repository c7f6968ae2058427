//! What is queued -> commits: one bucket a commit, hosts ascending, one epoch of a host at a time; and what becomes of
//! one that is refused. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};

use highwater_ipc::record::EpochNo;

use super::command::Item;
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

/// A group, and how it fared so far.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) runs: Group,
    /// How often the guard refused it: what is stored is to be read first.
    pub(super) reloads: u32,
    /// The partitions were read again for it.
    pub(super) partitions_read: bool,
    /// It was tried before.
    pub(super) again: bool,
}

impl Attempt {
    /// Of runs that were not tried yet.
    pub(super) fn fresh(runs: Group) -> Self {
        Self { runs, ..Self::default() }
    }

    /// Bytes of its records.
    pub(super) fn bytes(&self) -> usize {
        self.runs.iter().flat_map(|run| &run.items).map(|item| item.arrival.weight()).sum()
    }

    fn hosts(&self) -> impl Iterator<Item = HostId> + '_ {
        self.runs.iter().map(|run| run.host)
    }
}

/// What is tried again, or apart from others: it waits aside and takes turns with fresh commits, so that what the
/// database refuses of one host never holds up the others. The hosts in it are held: their later records wait.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Each holds hosts that no other one holds; its last attempt is the next.
    stacks: VecDeque<Vec<Attempt>>,
}

impl Aside {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    /// Takes the next attempt, and what must come after it.
    pub(super) fn next(&mut self) -> Option<(Attempt, Vec<Attempt>)> {
        let mut stack = self.stacks.pop_front()?;
        stack.pop().map(|attempt| (attempt, stack))
    }

    /// Puts back what must come after an attempt, and before it what came of it, in order. Returns which of its hosts
    /// are free again.
    pub(super) fn put(&mut self, hosts: &[HostId], mut rest: Vec<Attempt>, follow: Vec<Attempt>) -> Vec<HostId> {
        let kept: HashSet<HostId> = rest.iter().chain(&follow).flat_map(Attempt::hosts).collect();
        if let [_] = hosts {
            rest.extend(follow.into_iter().rev());
        } else {
            // Parts of a group of several share no host, so each takes its own turns.
            self.stacks.extend(follow.into_iter().map(|attempt| vec![attempt]));
        }
        if !rest.is_empty() {
            self.stacks.push_back(rest);
        }
        hosts.iter().copied().filter(|host| !kept.contains(host)).collect()
    }
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

    /// Tries what waits aside, one attempt after the other, as a database would that refuses these records; returns
    /// what was stored and refused, in order.
    fn all_tried(group: Group, is_refused: impl Fn(&Item) -> bool) -> Vec<Vec<(i64, u64)>> {
        let mut aside = Aside::default();
        assert_eq!(aside.put(&[], Vec::new(), vec![Attempt::fresh(group)]), []);
        let (mut told, mut held) = (Vec::new(), HashSet::new());
        while let Some((attempt, rest)) = aside.next() {
            let hosts: Vec<HostId> = attempt.hosts().collect();
            held.extend(hosts.iter().copied());
            let names = |runs: &[Run]| -> Vec<_> {
                runs.iter().flat_map(|run| run.items.iter().map(|i| (i.host.0, i.arrival.seq.0))).collect()
            };
            let all = names(&attempt.runs);
            let follow = if attempt.runs.iter().flat_map(|run| &run.items).any(&is_refused) {
                match halve(attempt.runs) {
                    Ok((first, second)) => vec![Attempt::fresh(first), Attempt::fresh(second)],
                    Err(_) => Vec::new(),
                }
            } else {
                Vec::new()
            };
            if follow.is_empty() {
                told.push(all);
            }
            for free in aside.put(&hosts, rest, follow) {
                assert!(held.remove(&free));
            }
        }
        assert!(held.is_empty() && aside.is_empty(), "{held:?}");
        told
    }

    #[test]
    fn what_is_tried_aside_keeps_its_hosts_order_and_each_host_takes_turns() {
        let items = (1..=4).flat_map(|h| (0..64).map(move |s| item(h, 1, s))).collect();
        let told = all_tried(groups(items, |_| 0).remove(0), |item| item.host == HostId(2));
        let of = |host| told.iter().flatten().filter(move |(h, _)| *h == host).map(|(_, seq)| *seq);
        assert!((1..=4).all(|host| of(host).eq(0..64)), "{told:?}");
        let last = (1..=4).filter(|host| *host != 2).map(|host| told.iter().position(|t| t.contains(&(host, 63))));
        // Those of whom nothing is refused are done before the second record of the other is found.
        assert!(last.clone().all(|at| at < told.iter().position(|t| t.contains(&(2, 1)))), "{told:?}");
    }

    #[test]
    fn two_hosts_whose_records_are_refused_take_turns() {
        let items = (1..=2).flat_map(|h| (0..16).map(move |s| item(h, 1, s))).collect();
        let told = all_tried(groups(items, |_| 0).remove(0), |_| true);
        let found = |host, seq| told.iter().position(|told| told == &[(host, seq)]).unwrap();
        assert!(found(1, 15) > found(2, 8) && found(2, 15) > found(1, 8), "{told:?}");
    }
}
