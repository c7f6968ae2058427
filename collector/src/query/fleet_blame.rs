//! Who grew, of all hosts: from the owners by the hour that compaction keeps, and from nothing else.
//!
//! Each host's last row at or before an instant says who held what at the end of that row's hour. What could not be read
//! whole at one of the two, or is not told, is not compared: it is never "all gone", nor "all new".

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;

use super::AskError;
use crate::host::HostId;
use crate::store::fleet::HostName;
use crate::store::history::Reading;
use crate::store::owner_usage::{HostOwners, HostRange, OwnerHeld, OwnerRow};

pub use crate::store::owner_usage::{Held, OwnerKey};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The two instants, collector's clock, milliseconds.
    pub span_ms: (i64, i64),
    /// Only these kinds; none = all.
    pub kinds: Vec<Kind>,
    /// The most owners wanted.
    pub most: usize,
    /// Those that rank after this one.
    pub after: Option<Rank>,
}

/// A page of owners.
#[derive(Clone, Debug, Default)]
pub struct FleetBlame {
    /// Who grew most comes first. Who neither grew nor shrank and left no orphans is not among them.
    pub owners: Vec<Growth>,
    /// Lists that are not compared, at most [`MOST_UNKNOWN`].
    pub unknown: Vec<(HostName, NamespaceId, Kind)>,
    /// How many hosts were compared.
    pub hosts: usize,
    /// How many of them have no row as old as the first instant: their first one is compared.
    pub first_rows: usize,
    /// Of how many of them not every owner is told.
    pub cut: usize,
    /// Where to go on; `None` = that was all.
    pub next: Option<Rank>,
}

/// The most lists that are said not to be compared.
pub const MOST_UNKNOWN: usize = 1_000;

/// Hosts fetched at once: a row may have 1,024 owners.
const HOSTS: i64 = 256;

/// One owner at two instants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The host.
    pub host: HostName,
    /// Who.
    pub key: OwnerKey,
    /// The uid's name.
    pub user: Option<HostText>,
    /// What it held at the first instant.
    pub before: Held,
    /// What it holds at the second.
    pub after: Held,
    /// The sample that the first is of, host's clock, milliseconds.
    pub base_ms: i64,
    /// The host has no row as old as was asked: that is its first.
    pub from_first: bool,
}

impl Growth {
    /// How many more objects it holds.
    pub fn net(&self) -> i64 {
        difference(self.after.objects, self.before.objects)
    }

    /// How many more semaphores.
    pub fn semaphores_net(&self) -> i64 {
        difference(self.after.semaphores, self.before.semaphores)
    }

    /// How many more bytes.
    pub fn bytes_net(&self) -> i128 {
        i128::from(self.after.bytes) - i128::from(self.before.bytes)
    }

    /// Its place in the ranking.
    pub fn rank(&self) -> Rank {
        Rank {
            net: self.net(),
            bytes_net: self.bytes_net(),
            orphans: self.after.orphans,
            objects: self.after.objects,
            host: self.host.id,
            key: self.key.clone(),
        }
    }

    fn is_news(&self) -> bool {
        let same = (self.before.objects, self.before.semaphores) == (self.after.objects, self.after.semaphores);
        !same || self.bytes_net() != 0 || self.after.orphans > 0
    }
}

fn difference(after: u64, before: u64) -> i64 {
    let net = i128::from(after) - i128::from(before);
    i64::try_from(net).unwrap_or(if net < 0 { i64::MIN } else { i64::MAX })
}

/// A place in the ranking: more objects first, then more bytes, more orphans, more held; then by host and owner, so that
/// no two are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Objects more.
    pub net: i64,
    /// Bytes more.
    pub bytes_net: i128,
    /// Orphans now.
    pub orphans: u64,
    /// Objects now.
    pub objects: u64,
    /// The host.
    pub host: HostId,
    /// The owner.
    pub key: OwnerKey,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let big = |r: &Self| Reverse((r.net, r.bytes_net, r.orphans, r.objects));
        big(self).cmp(&big(other)).then_with(|| (self.host, &self.key).cmp(&(other.host, &other.key)))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Ranks the owners of all hosts. What is held in memory is a page and a few hundred rows, whatever the fleet's size.
pub async fn fleet_blame(reading: &mut Reading, question: &Question) -> Result<FleetBlame, AskError> {
    let (since_ms, until_ms) = question.span_ms;
    if since_ms > until_ms {
        return Err(AskError::Backwards { from_ms: since_ms, to_ms: until_ms });
    }
    let mut answer = FleetBlame::default();
    let mut best: BTreeMap<Rank, Growth> = BTreeMap::new();
    let mut after = HostId(0);
    loop {
        let range = HostRange { after, to: HostId(i64::MAX), most: HOSTS };
        let now = reading.owners_at(until_ms, range).await?;
        let Some(to) = now.last().map(|last| last.host.id) else { break };
        let mut bases: BTreeMap<HostId, HostOwners> = BTreeMap::new();
        for base in reading.owners_at(since_ms, HostRange { after, to, most: HOSTS }).await? {
            bases.insert(base.host.id, base);
        }
        let lacking: Vec<HostId> = now.iter().map(|n| n.host.id).filter(|id| !bases.contains_key(id)).collect();
        let mut firsts: BTreeMap<HostId, HostOwners> = BTreeMap::new();
        if !lacking.is_empty() {
            firsts.extend(reading.first_owners(&lacking).await?.into_iter().map(|f| (f.host.id, f)));
        }
        for now in &now {
            let (base, from_first) = match bases.get(&now.host.id) {
                Some(base) => (base, false),
                None => (firsts.get(&now.host.id).unwrap_or(now), true),
            };
            answer.hosts += 1;
            answer.first_rows += usize::from(from_first);
            answer.cut += usize::from(base.row.cut || now.row.cut);
            let (owners, unknown) = compare(&base.row, &now.row, &question.kinds);
            let room = MOST_UNKNOWN.saturating_sub(answer.unknown.len());
            answer.unknown.extend(unknown.into_iter().take(room).map(|(n, kind)| (now.host.clone(), n, kind)));
            for compared in owners {
                let growth = compared.of(now.host.clone(), base.row.wall_ms, from_first);
                let rank = growth.rank();
                if growth.is_news() && question.after.as_ref().is_none_or(|after| rank > *after) {
                    best.insert(rank, growth);
                }
                if best.len() > question.most.saturating_add(1) {
                    best.pop_last();
                }
            }
        }
        after = to;
    }
    if best.len() > question.most {
        best.pop_last();
        answer.next = best.last_key_value().map(|(rank, _)| rank.clone());
    }
    answer.owners = best.into_values().collect();
    Ok(answer)
}

/// One owner of one host, compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Compared {
    key: OwnerKey,
    user: Option<HostText>,
    before: Held,
    after: Held,
}

impl Compared {
    fn of(self, host: HostName, base_ms: i64, from_first: bool) -> Growth {
        let Self { key, user, before, after } = self;
        Growth { host, key, user, before, after, base_ms, from_first }
    }
}

type Lists = BTreeSet<(NamespaceId, Kind)>;

/// The owners of two rows, and the lists that are not compared. Inode and instance say nothing across a boot: only the
/// host's own namespace is the same place then, and of the others only what is there now matters.
fn compare(before: &OwnerRow, after: &OwnerRow, kinds: &[Kind]) -> (Vec<Compared>, Lists) {
    let place = |namespace: NamespaceId| match (before.boot_id == after.boot_id, before.own, after.own) {
        (true, ..) => Some(namespace),
        (false, Some(own), Some(now)) if own == namespace => Some(now),
        (false, ..) => None,
    };
    let wanted = |kind: Kind| kinds.is_empty() || kinds.contains(&kind);
    let lost = before.unknown.iter().filter_map(|(n, kind)| Some((place(*n)?, *kind)));
    let unknown: Lists = after.unknown.iter().copied().chain(lost).filter(|(_, kind)| wanted(*kind)).collect();
    let told = |key: &OwnerKey| wanted(key.kind) && !unknown.contains(&(key.namespace, key.kind));
    let mut old: BTreeMap<OwnerKey, &OwnerHeld> = BTreeMap::new();
    for (key, held) in &before.owners {
        if let Some(namespace) = place(key.namespace) {
            old.insert(OwnerKey { namespace, ..key.clone() }, held);
        }
    }
    let mut old = named_alike(old, &after.owners);
    let mut owners = Vec::new();
    // Who is missing in a row that tells of everybody held nothing.
    let missing = |row: &OwnerRow| (!row.cut).then(Held::default);
    for (key, held) in after.owners.iter().filter(|(key, _)| told(key)) {
        let was = old.remove(key).map_or_else(|| missing(before), |held| held.now);
        if let (Some(before), Some(after)) = (was, held.now) {
            owners.push(Compared { key: key.clone(), user: held.user.clone(), before, after });
        }
    }
    for (key, held) in old.into_iter().filter(|(key, _)| told(key)) {
        if let (Some(before), Some(after)) = (held.now, missing(after)) {
            owners.push(Compared { key, user: held.user.clone(), before, after });
        }
    }
    (owners, unknown)
}

/// An owner whose program is known at one of the instants only is one owner, where no other can be meant: else whoever
/// ends would seem to have shrunk, and somebody unknown to have grown.
fn named_alike<'h>(
    old: BTreeMap<OwnerKey, &'h OwnerHeld>,
    new: &BTreeMap<OwnerKey, OwnerHeld>,
) -> BTreeMap<OwnerKey, &'h OwnerHeld> {
    type Uid = (NamespaceId, Kind, u32);
    let uid = |key: &OwnerKey| (key.namespace, key.kind, key.uid);
    let holds = |held: &OwnerHeld| held.now.is_none_or(|now| now.objects > 0);
    let mut only_old: BTreeMap<Uid, Vec<&OwnerKey>> = BTreeMap::new();
    let mut only_new: BTreeMap<Uid, Vec<&OwnerKey>> = BTreeMap::new();
    for (key, _) in old.iter().filter(|(key, held)| holds(held) && !new.get(key).is_some_and(holds)) {
        only_old.entry(uid(key)).or_default().push(key);
    }
    for (key, _) in new.iter().filter(|(key, held)| holds(held) && !old.get(key).is_some_and(|h| holds(h))) {
        only_new.entry(uid(key)).or_default().push(key);
    }
    let mut renamed: BTreeMap<OwnerKey, OwnerKey> = BTreeMap::new();
    for (uid, was) in &only_old {
        let (&[was], Some(&[is])) = (&was[..], only_new.get(uid).map(|is| &is[..])) else { continue };
        if was.comm.is_none() || is.comm.is_none() {
            renamed.insert(was.clone(), is.clone());
        }
    }
    // A name that is given may be taken by one that holds nothing: that one says nothing.
    let taken: BTreeSet<OwnerKey> = renamed.values().cloned().collect();
    let kept = old.into_iter().filter(|(key, _)| !taken.contains(key));
    kept.map(|(key, held)| (renamed.remove(&key).unwrap_or(key), held)).collect()
}

#[cfg(test)]
mod tests {
    use highwater_ipc::snapshot::BootId;

    use super::*;

    fn namespace(inode: u64) -> NamespaceId {
        NamespaceId { inode, instance: 1 }
    }

    /// `1 33 httpd 5/2` = in namespace 1, uid 33 with that comm (`?` = none) holds 5 arrays, 2 of them orphans; `1 ??` =
    /// that namespace's arrays could not be read; `..` = more than is told. The own namespace is 1.
    fn row(boot: u8, text: &str) -> OwnerRow {
        let mut row = OwnerRow {
            host: HostId(1),
            slot_ms: 0,
            wall_ms: 0,
            boot_id: BootId([boot; 16]),
            own: Some(namespace(1)),
            owners: BTreeMap::new(),
            unknown: BTreeSet::new(),
            cut: false,
        };
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                [".."] => row.cut = true,
                [n, "??"] => drop(row.unknown.insert((namespace(n.parse().unwrap()), Kind::Sem))),
                [n, uid, comm, held] => {
                    let (objects, orphans) = held.split_once('/').unwrap_or((held, "0"));
                    let key = OwnerKey {
                        namespace: namespace(n.parse().unwrap()),
                        kind: Kind::Sem,
                        uid: uid.parse().unwrap(),
                        comm: (comm != "?").then(|| HostText::from(comm)),
                    };
                    let (objects, orphans) = (objects.parse().unwrap(), orphans.parse().unwrap());
                    let now = Some(Held { objects, semaphores: objects, orphans, ..Held::default() });
                    row.owners.insert(key, OwnerHeld { user: None, now, most: objects });
                }
                _ => panic!("no such line: {line}"),
            }
        }
        row
    }

    #[track_caller]
    fn check(before: &OwnerRow, after: &OwnerRow, expected: &str) {
        let (owners, unknown) = compare(before, after, &[]);
        let comm = |key: &OwnerKey| key.comm.as_ref().map_or("?".to_owned(), HostText::escaped);
        let mut lines: Vec<String> = owners
            .iter()
            .map(|o| {
                let (key, from, to) = (&o.key, o.before.objects, o.after.objects);
                format!("{} {} {} {from} -> {to}", key.namespace.inode, key.uid, comm(key))
            })
            .collect();
        lines.extend(unknown.iter().map(|(n, kind)| format!("{} {} unknown", n.inode, kind.name())));
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn owners_of_two_hours_are_compared_by_place_uid_and_comm() {
        check(
            &row(1, "1 33 httpd 5\n1 26 postgres 2\n2 0 ? 1"),
            &row(1, "1 33 httpd 9\n3 0 ? 4"),
            "1 33 httpd 5 -> 9\n3 0 ? 0 -> 4\n1 26 postgres 2 -> 0\n2 0 ? 1 -> 0",
        );
    }

    #[test]
    fn across_a_boot_only_the_hosts_own_namespace_is_the_same_place() {
        let mut after = row(2, "8 33 httpd 9\n2 0 ? 4");
        after.own = Some(namespace(8));
        check(&row(1, "1 33 httpd 5\n2 0 ? 3"), &after, "2 0 ? 0 -> 4\n8 33 httpd 5 -> 9");
    }

    #[test]
    fn what_could_not_be_read_or_is_not_told_is_neither_gone_nor_new() {
        check(&row(1, "1 33 httpd 5\n2 0 ? 1"), &row(1, "1 ??\n2 0 ? 2"), "2 0 ? 1 -> 2\n1 sem unknown");
        check(&row(1, "1 ??"), &row(1, "1 33 httpd 5"), "1 sem unknown");
        check(&row(1, "1 33 httpd 5\n.."), &row(1, "1 33 httpd 6\n1 4 a 9"), "1 33 httpd 5 -> 6");
        check(&row(1, "1 33 httpd 5\n1 4 a 9"), &row(1, "1 33 httpd 6\n.."), "1 33 httpd 5 -> 6");
    }

    #[test]
    fn one_whose_program_is_known_at_one_instant_only_did_not_shrink_and_grow_anew() {
        check(&row(1, "1 33 httpd 9"), &row(1, "1 33 ? 9"), "1 33 ? 9 -> 9");
        check(&row(1, "1 33 ? 9"), &row(1, "1 33 httpd 9\n1 33 php 0"), "1 33 httpd 9 -> 9\n1 33 php 0 -> 0");
        let two = "1 33 a 0 -> 3\n1 33 b 0 -> 4\n1 33 ? 9 -> 0";
        check(&row(1, "1 33 ? 9"), &row(1, "1 33 a 3\n1 33 b 4"), two);
        check(&row(1, "1 33 a 9"), &row(1, "1 33 b 9"), "1 33 b 0 -> 9\n1 33 a 9 -> 0");
        check(&row(1, "1 33 a 9\n1 33 ? 0"), &row(1, "1 33 ? 9\n1 33 a 0"), "1 33 ? 9 -> 9\n1 33 a 0 -> 0");
    }

    #[test]
    fn who_grew_most_ranks_first_and_no_two_are_equal() {
        let growth = |host: i64, uid: u32, before: u64, after: u64| Growth {
            host: HostName { name: "h".to_owned(), id: HostId(host) },
            key: OwnerKey { namespace: namespace(1), kind: Kind::Sem, uid, comm: None },
            user: None,
            before: Held { objects: before, ..Held::default() },
            after: Held { objects: after, ..Held::default() },
            base_ms: 0,
            from_first: false,
        };
        let mut all =
            [growth(2, 1, 0, 5), growth(1, 2, 0, 5), growth(1, 1, 9, 0), growth(1, 3, 1, 7), growth(1, 1, 0, 5)];
        all.sort_by_key(Growth::rank);
        let order: Vec<_> = all.iter().map(|g| (g.host.id.0, g.key.uid, g.net())).collect();
        assert_eq!(order, [(1, 3, 6), (1, 1, 5), (1, 2, 5), (2, 1, 5), (1, 1, -9)]);
        assert!(!growth(1, 1, 5, 5).is_news() && growth(1, 1, 5, 6).is_news());
    }
}
