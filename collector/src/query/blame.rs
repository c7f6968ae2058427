//! Who grew: the owners of one host's objects at two instants, ranked by how many more they hold at the second.
//!
//! An owner is a uid and a comm in one namespace. The kernel keeps the uid; the comm is what the agent learned of an
//! object's maker or last user while that lived, else the only comm that the uid's processes have. What is an orphan is
//! told as of the second instant.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_ipc::object::{Kind, Object as _};
use highwater_ipc::snapshot::{Namespace, NamespaceId, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Grade, Known, Who};

use super::AskError;
use super::as_of::{Answer, AsOf, Instant, as_of};
use super::change::{AnyObject, is_whole};
use super::diff::Sum;
use super::timeline::closed_gaps;
use crate::host::HostId;
use crate::store::history::{ClosedGap, Reading};

/// The answer, or the gap that one of the instants lies in.
#[derive(Clone, Debug)]
pub enum BlameAnswer {
    /// Both instants have data.
    Ranked(Box<Blame>),
    /// One has none; it is this one.
    Gap(AsOf),
}

/// Owners between two instants.
#[derive(Clone, Debug)]
pub struct Blame {
    /// The instants, host's wall clock, milliseconds.
    pub asked_ms: (i64, i64),
    /// What made the first one.
    pub since: SinceIs,
    /// The host's clock minus the collector's, milliseconds.
    pub skew_ms: i64,
    /// What was held at the second.
    pub after: Arc<Snapshot>,
    /// Closed gaps in between.
    pub gaps: Vec<ClosedGap>,
    /// Who grew most comes first.
    pub owners: Vec<Owner>,
    /// Lists that were not whole at one of the instants: nothing is said of those.
    pub unknown: Vec<(NamespaceId, Kind)>,
}

/// Where the first instant comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinceIs {
    /// It was asked for.
    Asked,
    /// A day before the second.
    DayBefore,
    /// The host has no older sample.
    FirstSample,
}

impl SinceIs {
    /// A word for JSON.
    pub fn name(self) -> &'static str {
        match self {
            SinceIs::Asked => "asked",
            SinceIs::DayBefore => "day_before",
            SinceIs::FirstSample => "first_sample",
        }
    }
}

/// One owner's objects of one kind in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Where.
    pub namespace: NamespaceId,
    /// What that place is called, as claimed.
    pub namespace_name: Option<HostText>,
    /// Of which kind.
    pub kind: Kind,
    /// Whose.
    pub uid: u32,
    /// That uid's name.
    pub user: Option<HostText>,
    /// The program's comm; `None` = not known, or the uid runs several.
    pub comm: Option<HostText>,
    /// What it held at the first instant.
    pub before: Sum,
    /// What it held at the second.
    pub after: Sum,
    /// Ids of what nobody seems to hold any more at the second instant, by grade in the kernel's order.
    pub orphans: BTreeMap<Grade, Vec<i32>>,
    /// Bytes in those.
    pub orphan_bytes: u64,
}

impl Owner {
    /// How many more objects it holds.
    pub fn net(&self) -> i64 {
        signed(self.after.objects, self.before.objects)
    }

    /// How many more semaphores.
    pub fn semaphores_net(&self) -> i64 {
        signed(self.after.semaphores, self.before.semaphores)
    }

    /// How many more bytes.
    pub fn bytes_net(&self) -> i128 {
        i128::from(self.after.bytes) - i128::from(self.before.bytes)
    }

    /// The orphans of one grade.
    pub fn orphans(&self, grade: Grade) -> &[i32] {
        self.orphans.get(&grade).map_or(&[], Vec::as_slice)
    }
}

fn signed(after: u64, before: u64) -> i64 {
    let net = i128::from(after) - i128::from(before);
    i64::try_from(net).unwrap_or(if net < 0 { i64::MIN } else { i64::MAX })
}

const DAY_MS: i64 = 86_400_000;

/// Ranks the owners of `host`; without `since` from a day before `until` or the host's first sample on, whichever is
/// later. `now_ms` is the collector's wall clock.
pub async fn blame(
    reading: &mut Reading,
    host: HostId,
    (since, until): (Option<Instant>, Instant),
    kinds: &[Kind],
    now_ms: i64,
) -> Result<BlameAnswer, AskError> {
    let second = as_of(reading, host, until, now_ms).await?;
    let Answer::Held(after) = second.answer else { return Ok(BlameAnswer::Gap(second)) };
    let (since, since_is) = match since {
        Some(since) => (since, SinceIs::Asked),
        None => {
            let day_ms = second.asked_ms.saturating_sub(DAY_MS);
            let first_ms = reading.stretch_begun_after(host, i64::MIN).await?.map(|s| s.from_wall_ms);
            match first_ms.filter(|first_ms| *first_ms > day_ms) {
                Some(first_ms) => (Instant::At(first_ms), SinceIs::FirstSample),
                None => (Instant::At(day_ms), SinceIs::DayBefore),
            }
        }
    };
    let first = as_of(reading, host, since, now_ms).await?;
    let asked_ms = (first.asked_ms, second.asked_ms);
    if asked_ms.0 > asked_ms.1 {
        return Err(AskError::Backwards { from_ms: asked_ms.0, to_ms: asked_ms.1 });
    }
    let Answer::Held(before) = first.answer else { return Ok(BlameAnswer::Gap(first)) };
    let gaps = closed_gaps(reading, host, asked_ms).await?;
    // A gap that only touches an instant lies beside the span, not in it.
    let gaps = gaps.into_iter().filter(|g| g.to_wall_ms > asked_ms.0 && g.from_wall_ms < Some(asked_ms.1)).collect();
    let (owners, unknown) = owners(&before.snapshot.state, &after.snapshot.state, kinds);
    let after = after.snapshot.clone();
    let skew_ms = second.skew_ms;
    Ok(BlameAnswer::Ranked(Box::new(Blame { asked_ms, since: since_is, skew_ms, after, gaps, owners, unknown })))
}

/// The owners of both states, who grew most first, and the lists that one of them does not know whole. No kinds = all.
pub fn owners(before: &State, after: &State, kinds: &[Kind]) -> (Vec<Owner>, Vec<(NamespaceId, Kind)>) {
    let mut owners = Vec::new();
    let mut unknown = Vec::new();
    for (old, new) in places(before, after) {
        let Some(id) = new.or(old).map(|n| n.id) else { continue };
        for kind in Kind::ALL.into_iter().filter(|k| kinds.is_empty() || kinds.contains(k)) {
            let whole = |n: Option<&Namespace>| n.is_none_or(|n| n.has(kind) && is_whole(n, kind));
            if whole(old) && whole(new) {
                owners.extend(of_place(id, kind, (old, new), (before, after)));
            } else {
                unknown.push((id, kind));
            }
        }
    }
    owners.sort_by_key(|o| {
        let orphans: usize = o.orphans.values().map(Vec::len).sum();
        Reverse((o.net(), o.bytes_net(), orphans, o.after.objects, Reverse((o.kind, o.uid))))
    });
    (owners, unknown)
}

/// The namespaces of both states, as they were and as they are. Inode and instance say nothing across a boot: only the
/// host's own, the first, is the same place then, and of the others only what is there now matters.
fn places<'s>(before: &'s State, after: &'s State) -> Vec<(Option<&'s Namespace>, Option<&'s Namespace>)> {
    if before.boot_id != after.boot_id {
        let own = before.namespaces.first();
        return after.namespaces.iter().enumerate().map(|(i, n)| (own.filter(|_| i == 0), Some(n))).collect();
    }
    let old = |id| before.namespaces.iter().find(|n| n.id == id);
    let gone = before.namespaces.iter().filter(|n| !after.namespaces.iter().any(|other| other.id == n.id));
    let now = after.namespaces.iter().map(|n| (old(n.id), Some(n)));
    now.chain(gone.map(|n| (Some(n), None))).collect()
}

pub(super) fn of_place(
    id: NamespaceId,
    kind: Kind,
    (old, new): (Option<&Namespace>, Option<&Namespace>),
    (before, after): (&State, &State),
) -> Vec<Owner> {
    let (old_rows, new_rows) = (rows(old, kind), rows(new, kind));
    let comms = Comms::new(old, new, &new_rows);
    let mut found: BTreeMap<(u32, Option<HostText>), Owner> = BTreeMap::new();
    let mut entry = |uid: u32, comm: Option<HostText>, add: &mut dyn FnMut(&mut Owner)| {
        let user = after.users.get(&uid).or_else(|| before.users.get(&uid)).cloned();
        add(found.entry((uid, comm.clone())).or_insert_with(|| Owner {
            namespace: id,
            namespace_name: new.or(old).and_then(|n| n.name.clone()),
            kind,
            uid,
            user,
            comm,
            before: Sum::default(),
            after: Sum::default(),
            orphans: BTreeMap::new(),
            orphan_bytes: 0,
        }));
    };
    let later: BTreeMap<i32, &AnyObject> = new_rows.iter().map(|o| (o.id(), o)).collect();
    let earlier: BTreeMap<i32, &AnyObject> = old_rows.iter().map(|o| (o.id(), o)).collect();
    for object in &old_rows {
        // One that is still there has one maker, whenever that was learned.
        let still = later.get(&object.id()).copied().filter(|now| is_same(now, object));
        let comm = still.and_then(|now| comms.of(now, new)).or_else(|| comms.of(object, old));
        entry(object.owner().uid, comm, &mut |owner| owner.before.add(object));
    }
    for object in &new_rows {
        let then = earlier.get(&object.id()).copied().filter(|then| is_same(object, then));
        let comm = comms.of(object, new).or_else(|| then.and_then(|then| comms.of(then, old)));
        entry(object.owner().uid, comm, &mut |owner| {
            owner.after.add(object);
            if let Some(orphan) = known(new, object).and_then(|k| k.orphan.as_ref()) {
                owner.orphans.entry(orphan.grade).or_default().push(object.id());
                owner.orphan_bytes = owner.orphan_bytes.saturating_add(object.bytes());
            }
        });
    }
    found.into_values().collect()
}

/// Which program an object belongs to.
struct Comms<'s> {
    old: Option<&'s Who>,
    new: Option<&'s Who>,
    /// By uid, the comms that are known of its objects now.
    made: BTreeMap<u32, BTreeSet<&'s HostText>>,
}

impl<'s> Comms<'s> {
    fn new(old: Option<&'s Namespace>, new: Option<&'s Namespace>, rows: &[AnyObject]) -> Self {
        let mut made: BTreeMap<u32, BTreeSet<&HostText>> = BTreeMap::new();
        for object in rows {
            if let Some(comm) = known(new, object).and_then(|k| k.comm.as_ref()) {
                made.entry(object.owner().uid).or_default().insert(comm);
            }
        }
        Self { old: old.and_then(|n| n.who.as_ref()), new: new.and_then(|n| n.who.as_ref()), made }
    }

    /// The comm known of that object in that state of its namespace, else its uid's only one.
    fn of(&self, object: &AnyObject, namespace: Option<&Namespace>) -> Option<HostText> {
        let known = known(namespace, object).and_then(|k| k.comm.clone());
        known.or_else(|| self.only_one(object.owner().uid))
    }

    /// The comm of all processes of a uid now; if none lives, of all its objects; if nothing is known of those, of its
    /// processes as they were.
    fn only_one(&self, uid: u32) -> Option<HostText> {
        let running = |who: Option<&'s Who>| who.and_then(|w| w.comms.get(&uid)).filter(|comms| !comms.is_empty());
        match (running(self.new), self.made.get(&uid)) {
            (Some(comms), _) => only(comms.iter()),
            (None, Some(made)) => only(made.iter().copied()),
            (None, None) => running(self.old).and_then(|comms| only(comms.iter())),
        }
    }
}

fn only<'t>(mut comms: impl Iterator<Item = &'t HostText>) -> Option<HostText> {
    match (comms.next(), comms.next()) {
        (Some(one), None) => Some(one.clone()),
        _ => None,
    }
}

fn known<'s>(namespace: Option<&'s Namespace>, object: &AnyObject) -> Option<&'s Known> {
    namespace?.who.as_ref()?.objects.get(&(object.kind(), object.id()))
}

fn is_same(a: &AnyObject, b: &AnyObject) -> bool {
    match (a, b) {
        (AnyObject::Sem(a), AnyObject::Sem(b)) => a.is_same_as(b),
        (AnyObject::Shm(a), AnyObject::Shm(b)) => a.is_same_as(b),
        (AnyObject::Msg(a), AnyObject::Msg(b)) => a.is_same_as(b),
        _ => false,
    }
}

fn rows(namespace: Option<&Namespace>, kind: Kind) -> Vec<AnyObject> {
    let Some(namespace) = namespace else { return Vec::new() };
    match kind {
        Kind::Sem => namespace.sem.iter().flatten().map(|o| AnyObject::Sem(*o)).collect(),
        Kind::Shm => namespace.shm.iter().flatten().map(|o| AnyObject::Shm(*o)).collect(),
        Kind::Msg => namespace.msg.iter().flatten().map(|o| AnyObject::Msg(*o)).collect(),
    }
}
