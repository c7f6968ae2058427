//! Answers of [`crate::query`] to the JSON contract.

use highwater_ipc::render::lsipc::rows as lsipc_rows;
use highwater_ipc::snapshot::State;
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms as rfc3339;
use highwater_ipc::who::Grade;
use highwater_proto::json::{Envelope, MsgJson, Names, SemJson, ShmJson, SnapshotJson, Span, SpanJson};

use super::json::*;
use crate::import::Imported;
use crate::query::ClosedGap;
use crate::query::TurnedAway;
use crate::query::as_of::{AsOf, Held};
use crate::query::blame::Blame;
use crate::query::change::AnyObject;
use crate::query::diff::{Diff, ObjectChange, OwnerChange};
use crate::query::export::Sample;
use crate::query::fleet;
use crate::query::gap::{Gap, GapState};
use crate::query::host::Resolved;
use crate::query::owners::Owner;
use crate::query::remedy::{self, Step};
use crate::query::unread::List;

/// The most runs that the answer of an import lists.
const MOST_SPANS: usize = 1_000;

/// A page of hosts.
pub(super) fn hosts(fleet: &fleet::Fleet, next_cursor: Option<String>, now_ms: i64) -> HostsJson {
    HostsJson { hosts: fleet.hosts.iter().map(host).collect(), next_cursor, now: rfc3339(now_ms) }
}

/// One host.
pub(super) fn host(host: &fleet::Host) -> HostJson {
    let facts = host.row.facts.as_ref();
    let status = host.row.status.as_ref();
    let text = |t: &String| Some(t.clone()).filter(|t| !t.is_empty());
    let worst = host.worst.map(|w| WorstJson {
        namespace: w.namespace,
        resource: w.usage.resource.name().to_owned(),
        used_u64: w.usage.used.to_string(),
        limit_u64: w.usage.limit.to_string(),
        ratio: w.usage.ratio(),
        severity: w.usage.severity().map(|severity| severity.name().to_owned()),
    });
    let risks = facts.into_iter().flat_map(|f| &f.risks).map(|risk| {
        let (kind, why, remedy) = (risk.kind.clone(), risk.why.clone(), risk.remedy.clone());
        RiskJson { kind, why, remedy }
    });
    HostJson {
        id: host.row.host.id.to_string(),
        name: facts.map_or_else(|| host.row.host.name.clone(), |f| f.name.clone()),
        labels: host.row.labels.iter().cloned().collect(),
        last_seen: host.last_seen_ms.map(rfc3339),
        lifecycle: host.lifecycle.name().to_owned(),
        state: facts.map_or("unknown", |f| f.state.name()).to_owned(),
        evidence: match facts {
            Some(facts) => facts.evidence.clone(),
            None => vec!["no agent of this host has sent a sample yet".to_owned()],
        },
        remedy: facts.and_then(|f| text(&f.remedy)),
        kernel: facts.and_then(|f| text(&f.kernel)),
        arch: facts.and_then(|f| text(&f.arch)),
        distro: facts.and_then(|f| text(&f.distro)),
        agent_version: facts.and_then(|f| text(&f.agent_version)),
        connected: host.connected,
        at_risk: host.turned_away.iter().map(clone).chain(risks).collect(),
        worst,
        skew_ms: status.map(|s| s.skew_ms),
        interval_ms: status.map(|s| s.interval_ms),
    }
}

/// Another agent that uses the host's certificate.
fn clone(turned_away: &TurnedAway) -> RiskJson {
    let TurnedAway { at_ms, why, peer } = turned_away;
    let peer = HostText::from(peer.as_str()).escaped();
    RiskJson {
        kind: "clone".to_owned(),
        why: format!("an agent at {peer} was turned away at {}: {}", rfc3339(*at_ms), why.why()),
        remedy: why.remedy().to_owned(),
    }
}

/// What a host held.
pub(super) fn snapshot(resolved: &Resolved, as_of: &AsOf, held: &Held) -> SnapshotJson {
    let span = |(from_ms, to_ms): (i64, i64)| Span { from_ms, to_ms };
    let envelope = Envelope {
        host: HostText::from_escaped(&resolved.host.name),
        host_id: Some(resolved.host.id.to_string()),
        asked_at_ms: Some(as_of.asked_ms),
        covered: Some(span(held.covered_ms)),
        also: Some(held.also_ms.iter().copied().map(span).collect()),
        received_at_ms: Some(held.received_ms),
        skew_ms: Some(as_of.skew_ms),
        activity: None,
    };
    SnapshotJson { notes: resolved.notes.clone(), ..SnapshotJson::new(&held.snapshot, &envelope) }
}

/// A sample as a line of an export.
pub(super) fn sample(resolved: &Resolved, skew_ms: i64, sample: &Sample) -> SnapshotJson {
    let (from_ms, to_ms) = sample.covered_ms;
    let envelope = Envelope {
        host: HostText::from_escaped(&resolved.host.name),
        host_id: Some(resolved.host.id.to_string()),
        covered: Some(Span { from_ms, to_ms }),
        received_at_ms: Some(sample.received_ms),
        skew_ms: Some(skew_ms),
        activity: Some(&*sample.activity).filter(|activity| !activity.is_empty()).cloned(),
        ..Envelope::default()
    };
    SnapshotJson::new(&sample.snapshot, &envelope)
}

/// What an import has done.
pub(super) fn imported(done: &Imported) -> ImportJson {
    let span = |(from_ms, to_ms): &(i64, i64)| SpanJson::from(Span { from_ms: *from_ms, to_ms: *to_ms });
    ImportJson {
        host: done.host.name.clone(),
        host_id: done.host.id.to_string(),
        new_host: done.is_new,
        lines: done.lines,
        stored: done.stored,
        already_there: done.lines.saturating_sub(done.stored),
        gaps_filled: done.filled_ms.iter().take(MOST_SPANS).map(span).collect(),
        gaps_filled_count: u64::try_from(done.filled_ms.len()).unwrap_or(u64::MAX),
        notes: done.notes.clone(),
    }
}

/// That nobody knows.
pub(super) fn gap_answer(resolved: &Resolved, as_of: &AsOf, found: &Gap) -> GapAnswer {
    GapAnswer {
        host: resolved.host.name.clone(),
        host_id: resolved.host.id.to_string(),
        asked_at: rfc3339(as_of.asked_ms),
        skew_ms: as_of.skew_ms,
        gap: gap(found),
        notes: resolved.notes.clone(),
    }
}

/// A gap.
pub(super) fn gap(gap: &Gap) -> GapJson {
    let (from, to) = (gap.from_ms.map(rfc3339), gap.to_ms.map(rfc3339));
    GapJson {
        from: from.clone(),
        to: to.clone(),
        state: gap.state.name().to_owned(),
        reason: gap.reason.map(|r| r.name().to_owned()),
        last_sample_at: from,
        next_sample_at: to,
        detail: Some(gap.detail.clone()).filter(|d| !d.is_empty()),
        backlog_from: gap.backlog_from_ms.map(rfc3339),
        settling: gap.state == GapState::Settling,
    }
}

fn closed_gap(closed: &ClosedGap) -> GapJson {
    gap(&Gap {
        from_ms: closed.from_wall_ms,
        to_ms: Some(closed.to_wall_ms),
        state: GapState::Closed,
        reason: Some(closed.reason),
        detail: closed.detail.clone(),
        backlog_from_ms: None,
    })
}

/// Limits and use of every namespace.
pub(super) fn lsipc(resolved: &Resolved, as_of: &AsOf, held: &Held) -> LsipcJson {
    let mut rows = Vec::new();
    for namespace in &held.snapshot.state.namespaces {
        rows.extend(lsipc_rows(namespace).into_iter().map(|row| LsipcRowJson {
            namespace: namespace.id.inode,
            namespace_name: namespace.name.as_ref().map(HostText::escaped),
            resource: row.parameter.name().to_owned(),
            description: row.parameter.description().to_owned(),
            limit_u64: row.limit.map(|n| n.to_string()),
            used_u64: row.used.map(|n| n.to_string()),
            ratio: row.ratio(),
        }));
    }
    LsipcJson {
        host: resolved.host.name.clone(),
        host_id: resolved.host.id.to_string(),
        asked_at: rfc3339(as_of.asked_ms),
        at: rfc3339(held.snapshot.at.wall_ms),
        skew_ms: as_of.skew_ms,
        rows,
        notes: resolved.notes.clone(),
    }
}

/// Two instants compared.
pub(super) fn diff(resolved: &Resolved, diff: &Diff) -> DiffJson {
    let (a, b) = (&diff.before.state, &diff.after.state);
    DiffJson {
        host: resolved.host.name.clone(),
        host_id: resolved.host.id.to_string(),
        from: rfc3339(diff.asked_ms.0),
        to: rfc3339(diff.asked_ms.1),
        skew_ms: diff.skew_ms,
        gaps: diff.gaps.iter().map(closed_gap).collect(),
        objects: diff.objects.iter().filter_map(|change| object_change(change, a, b)).collect(),
        limits: diff
            .limits
            .iter()
            .map(|l| LimitChangeJson {
                namespace: l.namespace.inode,
                resource: l.resource.to_owned(),
                before_u64: l.before.to_string(),
                after_u64: l.after.to_string(),
            })
            .collect(),
        owners: diff.owners.iter().map(|owner| owner_change(owner, a, b)).collect(),
        unknown: unknown(&diff.unknown),
        notes: resolved.notes.clone(),
    }
}

fn object_change(change: &ObjectChange, a: &State, b: &State) -> Option<ObjectChangeJson> {
    let word = match (&change.before, &change.after) {
        (None, Some(_)) => "added",
        (Some(_), None) => "removed",
        _ => "changed",
    };
    let kind = change.after.or(change.before)?.kind();
    let before = change.before.map(|o| object(&o, Names::of(a)));
    let after = change.after.map(|o| object(&o, Names::of(b)));
    let fields = match (&before, &after) {
        (Some(before), Some(after)) => differing(before, after),
        _ => Vec::new(),
    };
    Some(ObjectChangeJson {
        change: word.to_owned(),
        kind: kind.name().to_owned(),
        namespace: change.namespace.inode,
        before,
        after,
        fields,
    })
}

fn owner_change(owner: &OwnerChange, a: &State, b: &State) -> OwnerChangeJson {
    let user = b.users.get(&owner.uid).or_else(|| a.users.get(&owner.uid));
    let net = i128::from(owner.after.objects) - i128::from(owner.before.objects);
    OwnerChangeJson {
        namespace: owner.namespace.inode,
        kind: owner.kind.name().to_owned(),
        uid: owner.uid,
        user: user.map(HostText::escaped),
        objects_before: owner.before.objects,
        objects_after: owner.after.objects,
        net: i64::try_from(net).unwrap_or(if net < 0 { i64::MIN } else { i64::MAX }),
        semaphores_before: owner.before.semaphores,
        semaphores_after: owner.after.semaphores,
        bytes_before_u64: owner.before.bytes.to_string(),
        bytes_after_u64: owner.after.bytes.to_string(),
    }
}

/// An object of any kind.
pub(super) fn object(object: &AnyObject, names: Names<'_>) -> ObjectJson {
    match object {
        AnyObject::Sem(o) => ObjectJson::Sem(SemJson::new(o, names)),
        AnyObject::Shm(o) => ObjectJson::Shm(ShmJson::new(o, names)),
        AnyObject::Msg(o) => ObjectJson::Msg(MsgJson::new(o, names)),
    }
}

/// Names of the fields in which two objects of one kind differ, but for names of users and groups: those are derived.
pub(super) fn differing(before: &ObjectJson, after: &ObjectJson) -> Vec<String> {
    let fields = |o: &ObjectJson| match serde_json::to_value(o) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (before, after) = (fields(before), fields(after));
    let derived = ["user", "group", "cuser", "cgroup"];
    let differs = |name: &&String| before.get(*name) != after.get(*name) && !derived.contains(&name.as_str());
    after.keys().filter(differs).cloned().collect()
}

/// Who grew.
pub(super) fn blame(resolved: &Resolved, blame: &Blame) -> BlameJson {
    let host = &resolved.host.name;
    BlameJson {
        host: host.clone(),
        host_id: resolved.host.id.to_string(),
        since: rfc3339(blame.asked_ms.0),
        since_is: blame.since.name().to_owned(),
        until: rfc3339(blame.asked_ms.1),
        skew_ms: blame.skew_ms,
        gaps: blame.gaps.iter().map(closed_gap).collect(),
        owners: blame.owners.iter().map(|owner| owner_growth(host, owner)).collect(),
        unknown: unknown(&blame.unknown),
        remedy: remedy::steps(&blame.after.state, &blame.owners)
            .into_iter()
            .map(|Step { what, command, risk }| RemedyJson { step: what, command, risk })
            .collect(),
        notes: resolved.notes.clone(),
    }
}

fn unknown(lists: &[List]) -> Vec<UnknownListJson> {
    let list = |(namespace, kind): &List| UnknownListJson { namespace: namespace.inode, kind: kind.name().to_owned() };
    lists.iter().map(list).collect()
}

fn owner_growth(host: &str, owner: &Owner) -> OwnerGrowthJson {
    let orphans = |grade| u64::try_from(owner.orphans(grade).len()).unwrap_or(u64::MAX);
    let [certain, likely, unattached] = [Grade::Certain, Grade::Likely, Grade::Unattached].map(orphans);
    OwnerGrowthJson {
        host: host.to_owned(),
        namespace: owner.namespace.inode,
        namespace_name: owner.namespace_name.as_ref().map(HostText::escaped),
        kind: owner.kind.name().to_owned(),
        uid: owner.uid,
        user: owner.user.as_ref().map(HostText::escaped),
        comm: owner.comm.as_ref().map(HostText::escaped),
        arrays_before: owner.before.objects,
        arrays_after: owner.after.objects,
        net: owner.net(),
        semaphores_net: owner.semaphores_net(),
        bytes_net_u64: owner.bytes_net().to_string(),
        orphans: certain.saturating_add(likely).saturating_add(unattached),
        orphans_certain: certain,
        orphans_likely: likely,
        orphans_unattached: unattached,
        orphan_bytes_u64: owner.orphan_bytes.to_string(),
    }
}
