//! Who grew: the owners of one host's objects at two instants, ranked by how many more they hold at the second.
//!
//! Who an owner is stands in [`super::owners`]. What is an orphan is told as of the second instant.

use std::cmp::Reverse;
use std::sync::Arc;

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{Namespace, NamespaceId, Snapshot, State};

use super::AskError;
use super::as_of::{Answer, AsOf, Instant, as_of};
use super::owners::{Owner, is_known, of_place};
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
            let known = |n: Option<&Namespace>| n.is_none_or(|n| is_known(n, kind));
            if known(old) && known(new) {
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
