//! Events to the JSON contract.

use highwater_ipc::activity::{Act, Actor, Did, Peak};
use highwater_ipc::limits::Limits;
use highwater_ipc::object::Kind;
use highwater_ipc::risk::Risk;
use highwater_ipc::snapshot::{NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms as rfc3339;
use highwater_proto::json::Names;

use super::json::*;
use super::write::{differing, gap, object};
use crate::query::change::{AnyObject, Name, What};
use crate::query::event::{Event, Happened, bound_by};
use crate::query::{holder, remedy};

/// The largest number that every reader of JSON reads exactly, 2^53-1; what was counted is not larger.
const MOST: u64 = (1 << 53) - 1;

/// One event.
pub(super) fn event(event: &Event) -> EventJson {
    let mut json = EventJson {
        at: rfc3339(event.at_ms),
        kind: event.kind().name().to_owned(),
        namespace: event.namespace.map(|n| n.inode),
        namespace_name: event.place.name.as_ref().map(HostText::escaped),
        own_namespace: event.place.own,
        subject: None,
        detail: DetailJson { not_before: event.after_ms.map(rfc3339), ..DetailJson::default() },
        by: None,
    };
    match &event.happened {
        Happened::Change { what, names, by } => {
            if let What::Removed(removed) = what {
                json.detail.owner_runs = owner_runs(removed, event.namespace, &names.0.state);
            }
            let names = Names::of(&names.0.state);
            change(&mut json, what, names);
            if let Some(actor) = by {
                json.by = Some(traced(actor, names));
            }
            if matches!(what, What::NamespaceAppeared(_) | What::NamespaceGone { .. }) {
                json.detail.instance = event.namespace.map(|n| n.instance.to_string());
            }
        }
        Happened::Reboot { before, after, booted_ms, lost } => {
            json.detail.boot_id_before = Some(before.to_string());
            json.detail.boot_id = Some(after.to_string());
            json.detail.booted_at = Some(rfc3339(*booted_ms));
            json.detail.lost = Some(counts(*lost));
        }
        Happened::ClockStep { by_ms } => json.detail.by_ms = Some(*by_ms),
        Happened::Gap(found) => json.detail.gap = Some(gap(found)),
        Happened::Unread { kind, gap: found } => {
            json.detail.gap = Some(gap(found));
            json.detail.unread = Some(kind.name().to_owned());
        }
        Happened::AgentStarted { epoch } => json.detail.epoch = Some(epoch.0.to_string()),
        Happened::AgentStopped => {}
        Happened::Acted { act, last_ms, transient, limits, names } => {
            json.by = Some(traced(&act.by, Names::of(&names.0.state)));
            json.detail.first_at = Some(json.at.clone());
            json.detail.last_at = Some(rfc3339(*last_ms));
            json.detail.transient = transient.then_some(true);
            acted(&mut json.detail, act, limits.as_ref());
            if matches!(act.did, Did::Refused(_)) {
                json.detail.remedy = remedy::of_refused(act, &names.0.state);
                json.detail.holder = holder::of_refused(act, &names.0.state).map(holder);
            }
        }
        Happened::Peak { peak, limits } => json.detail.peak = Some(high_water(peak, limits.as_ref())),
        Happened::Lost { lost, more } => {
            json.detail.events_lost = Some((*lost).min(MOST));
            json.detail.calls_beyond = Some((*more).min(MOST));
        }
        Happened::Flag(told) => {
            json.detail.flag = Some(FlagToldJson {
                id: told.id.to_string(),
                resource: told.resource.clone(),
                kind: told.kind.clone(),
                severity: told.severity.clone(),
                why: told.why.clone(),
            });
        }
        Happened::RiskRaised(found) | Happened::RiskCleared(found) => json.detail.risk = Some(risk(found)),
    }
    json
}

fn change(json: &mut EventJson, what: &What, names: Names<'_>) {
    let subject =
        |o: &AnyObject| Some(SubjectJson { kind: o.kind().name().to_owned(), id: o.id(), key: o.key().to_string() });
    match what {
        What::Created(created) => {
            json.subject = subject(created);
            json.by = Some(creator(created, names));
            json.detail.after = Some(object(created, names));
        }
        What::Removed(removed) => {
            json.subject = subject(removed);
            json.detail.before = Some(object(removed, names));
        }
        What::Changed { before, after } => {
            json.subject = subject(after);
            let (before, after) = (object(before, names), object(after, names));
            json.detail.fields = Some(differing(&before, &after));
            json.detail.before = Some(before);
            json.detail.after = Some(after);
        }
        What::LimitChanged { resource, before, after } => {
            json.detail.resource = Some((*resource).to_owned());
            json.detail.before_u64 = Some(before.to_string());
            json.detail.after_u64 = Some(after.to_string());
        }
        What::NamespaceAppeared(name) => called(json, name),
        What::NamespaceGone { name, lost, bytes } => {
            called(json, name);
            json.detail.lost = Some(counts(*lost));
            json.detail.bytes_u64 = Some(bytes.to_string());
        }
    }
}

/// The programs that ran as the owner of an object when it was seen last; `None` = none, or processes were not seen.
fn owner_runs(removed: &AnyObject, namespace: Option<NamespaceId>, last: &State) -> Option<Vec<String>> {
    let namespace = last.namespaces.iter().find(|n| Some(n.id) == namespace)?;
    let comms = namespace.who.as_ref()?.comms.get(&removed.owner().uid)?;
    Some(comms.iter().map(HostText::escaped).collect())
}

fn called(json: &mut EventJson, name: &Name) {
    json.namespace_name = name.name.as_ref().map(HostText::escaped);
    json.detail.named_by = Some(name.by.name().to_owned());
}

fn counts(counts: [usize; 3]) -> LostJson {
    let [sem, shm, msg] = counts.map(|n| u64::try_from(n).unwrap_or(u64::MAX));
    LostJson { sem, shm, msg }
}

/// Calls of one process.
fn acted(detail: &mut DetailJson, act: &Act, limits: Option<&Limits>) {
    detail.count = Some(act.count.min(MOST));
    if act.did != Did::Removed {
        detail.key = Some(act.key.to_string());
        match act.kind {
            Kind::Sem => detail.nsems = u32::try_from(act.size).ok(),
            Kind::Shm => detail.size_u64 = Some(act.size.to_string()),
            Kind::Msg => {}
        }
    }
    let Did::Refused(number) = act.did else {
        detail.ids = Some(act.ids.clone());
        return;
    };
    detail.call = Some(format!("{}get", act.kind.name()));
    detail.errno = Some(ErrnoJson { number, name: errno_name(number).map(str::to_owned) });
    if let Some(bound) = bound_by(act, limits) {
        detail.resource = Some(bound.resource.to_owned());
        detail.used_u64 = Some(bound.used.to_string());
        detail.limit_u64 = Some(bound.limit.to_string());
    }
}

/// The names of what `semget(2)`, `shmget(2)` and `msgget(2)` answer, and of what filters in front of them do.
fn errno_name(number: u32) -> Option<&'static str> {
    const NAMES: [(u32, &str); 10] = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (12, "ENOMEM"),
        (13, "EACCES"),
        (17, "EEXIST"),
        (22, "EINVAL"),
        (23, "ENFILE"),
        (28, "ENOSPC"),
        (38, "ENOSYS"),
        (43, "EIDRM"),
    ];
    NAMES.iter().find(|(n, _)| *n == number).map(|(_, name)| *name)
}

fn high_water(peak: &Peak, limits: Option<&Limits>) -> PeakJson {
    PeakJson {
        sem_arrays: peak.sem_arrays.min(MOST),
        semaphores: peak.semaphores.min(MOST),
        semmni: limits.map(|l| l.semmni.min(MOST)),
        semmns: limits.map(|l| l.semmns.min(MOST)),
    }
}

/// Who holds most of what ran out.
pub(super) fn holder(holder: holder::Holder) -> HolderJson {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    HolderJson {
        uid: holder.owner.uid,
        user: holder.owner.user.as_ref().map(HostText::escaped),
        comm: holder.owner.comm.as_ref().map(HostText::escaped),
        arrays: holder.owner.after.objects,
        orphans: count(holder.orphans()),
        orphans_certain: count(holder.certain()),
        oldest_orphan_at: holder.oldest_orphan.map(|seconds| rfc3339(seconds.saturating_mul(1000))),
    }
}

/// A risk.
pub(super) fn risk(risk: &Risk) -> RiskJson {
    RiskJson { kind: risk.kind.name().to_owned(), why: risk.why.escaped(), remedy: risk.remedy.escaped() }
}

/// A process as the kernel named it at the call.
fn traced(actor: &Actor, names: Names<'_>) -> ByJson {
    ByJson {
        uid: actor.uid,
        user: actor.uid.and_then(|uid| names.users.get(&uid)).map(HostText::escaped),
        pid: Some(actor.pid),
        comm: Some(actor.comm.escaped()),
        parent: (actor.parent != HostText::default()).then(|| actor.parent.escaped()),
        source: "trace".to_owned(),
    }
}

/// Who made an object: the kernel keeps the creator's uid, for shared memory also its pid.
fn creator(object: &AnyObject, names: Names<'_>) -> ByJson {
    let cuid = object.owner().cuid;
    let pid = match object {
        AnyObject::Shm(segment) if segment.cpid != 0 => Some(segment.cpid),
        _ => None,
    };
    ByJson {
        uid: Some(cuid),
        user: names.users.get(&cuid).map(HostText::escaped),
        pid,
        comm: None,
        parent: None,
        source: if pid.is_some() { "cpid" } else { "cuid" }.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use highwater_ipc::record::EpochNo;

    use super::*;

    #[test]
    fn an_epoch_is_an_opaque_text_in_json() {
        let happened = Happened::AgentStarted { epoch: EpochNo(u64::MAX) };
        let place = Default::default();
        let started = event(&Event { at_ms: 0, after_ms: None, namespace: None, place, happened });
        assert_eq!(serde_json::to_value(&started).unwrap()["detail"]["epoch"], "18446744073709551615");
    }
}
