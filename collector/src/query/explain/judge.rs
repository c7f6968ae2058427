//! Which of the reasons it was. Pure.

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::limits::{Severity, Usage};
use highwater_ipc::object::Kind;
use highwater_ipc::render::lsipc::{Parameter, rows};
use highwater_ipc::snapshot::{NamespaceId, State};
use highwater_ipc::text::HostText;

use super::super::event::{Bound, Place, bound_by};
use super::super::holder::most_of;
use super::evidence::{Evidence, Most, Refused};
use super::{Explanation, Looked, MOST_LOOKED, MOST_OTHERS, Met, Verdict, Victim};
use crate::explain::{Call, Cause, Told};

/// Decides. What to do about it is not in it yet, nor the skew.
pub(super) fn judge(told: &Told<'_>, evidence: Evidence) -> Explanation {
    let state = &evidence.held.state;
    let mut it = Explanation {
        asked_ms: evidence.asked_ms,
        skew_ms: 0,
        at_ms: evidence.asked_ms,
        verdict: Verdict::NotKnown,
        why: String::new(),
        place: None,
        limit: None,
        snapshot: evidence.held.clone(),
        holder: None,
        others: Vec::new(),
        others_hold: 0,
        keeper: None,
        victim: None,
        taken: None,
        looked: looked(&evidence.most),
        steps: Vec::new(),
        gaps: evidence.gaps.clone(),
        is_traced: !state.unseen.iter().any(|part| part.source.as_bytes() == b"tracefs"),
    };
    if told.cause == Cause::Posix {
        it.verdict = Verdict::Posix;
        it.why = "a POSIX object, which is a file in /dev/shm: none of the System V limits is behind it".to_owned();
        return it;
    }
    if let Some(refused) = &evidence.refused {
        refusal(&mut it, told, refused);
    }
    if state.availability.state.lacks_sysvipc() {
        lacking(&mut it, state);
        return it;
    }
    match &told.cause {
        Cause::UsedUp(_) => used_up(&mut it, told, &evidence),
        Cause::QueueFull => queue(&mut it, &evidence),
        Cause::TooMuch(parameter) => too_much(&mut it, told, &evidence, *parameter),
        Cause::NoSysvipc => in_front(&mut it),
        Cause::Removed => removed(&mut it, told, evidence),
        other => no_limit(&mut it, told, other),
    }
    if let Some(namespace) = it.place.as_ref().map(|(id, _)| *id) {
        holders(&mut it, told, namespace);
    }
    it
}

/// The limits that were looked at, those most used first.
fn looked(most: &[Most]) -> Vec<Looked> {
    let mut sorted: Vec<&Most> = most.iter().collect();
    sorted.sort_by_key(|one| std::cmp::Reverse((one.millionths(), one.place.own == Some(true))));
    let one =
        |one: &&Most| Looked { namespace: one.namespace, place: one.place.clone(), met: one.met(), at_ms: one.at_ms };
    sorted.iter().take(MOST_LOOKED).map(one).collect()
}

/// A traced refusal: when, where, who, and which limit.
fn refusal(it: &mut Explanation, told: &Told<'_>, refused: &Refused) {
    let act = &refused.act;
    it.at_ms = refused.at_ms;
    it.snapshot = refused.snapshot.clone();
    it.place = act.namespace.map(|id| (id, refused.place.clone()));
    let user = act.by.uid.and_then(|uid| refused.snapshot.state.users.get(&uid)).cloned();
    it.victim = Some(Victim { by: act.by.clone(), user, count: act.count, is_its_own: refused.is_its_own });
    let bound = bound_by(act, refused.limits.as_ref());
    if let Some(Bound { resource, used, limit }) = bound {
        it.limit = Some(Met { resource, used: Some(used), limit });
        it.verdict = Verdict::Refused;
        let call = told.call.map_or("the call", Call::name);
        it.why = format!("a traced {call} was refused by {resource}, {}", of(used, limit));
    }
}

/// `128 of 128`.
fn of(used: u64, limit: u64) -> String {
    format!("{used} of {limit}")
}

fn lacking(it: &mut Explanation, state: &State) {
    it.verdict = Verdict::NoSysvipc;
    (it.limit, it.place) = (None, None);
    let evidence: Vec<String> = state.availability.evidence.iter().map(HostText::escaped).collect();
    let what = match state.availability.state {
        SysvipcState::Absent => "the kernel of this host has no System V IPC",
        SysvipcState::Blocked => "this host's kernel has System V IPC, and something in front of it refuses the calls",
        _ => "whether this host can do System V IPC is not known",
    };
    it.why = format!("{what}: {}", evidence.join("; "));
}

fn used_up(it: &mut Explanation, told: &Told<'_>, evidence: &Evidence) {
    if it.verdict == Verdict::Refused {
        return;
    }
    // Whoever was refused in a namespace met a limit of that one.
    let place = it.place.as_ref().map(|(id, _)| *id);
    let here = |one: &&Most| place.is_none_or(|id| id == one.namespace);
    let fullest = |one: &&Most| (one.millionths().min(1_000_000), one.place.own == Some(true), one.millionths());
    let Some(most) = evidence.most.iter().filter(here).max_by_key(fullest) else {
        it.why = match (&it.victim, place) {
            (Some(_), Some(id)) => format!(
                "a traced call was refused in namespace {}, which is not sampled: how much was in use there is not known",
                id.inode
            ),
            _ => "neither limits nor use could be read then".to_owned(),
        };
        return;
    };
    let usage = most.parameter.resource().map(|resource| Usage { resource, used: most.used, limit: most.limit });
    let asked = told.asked.size.unwrap_or(1).max(1);
    let more = if matches!(most.parameter, Parameter::Semmns) { asked } else { 1 };
    let is_full = most.used.saturating_add(more) > most.limit;
    it.verdict = match usage.and_then(|usage| usage.severity()) {
        _ if is_full => Verdict::Full,
        Some(Severity::Warning | Severity::Critical) => Verdict::Near,
        None => Verdict::NotReached,
    };
    let figures = format!("{} was {}", most.parameter.name(), of(most.used, most.limit));
    it.why = match it.verdict {
        Verdict::Full => format!("{figures}: no room for one more"),
        Verdict::Near => format!("{figures}: a program that makes several at once meets it"),
        _ => not_reached(evidence),
    };
    if it.verdict == Verdict::NotReached && it.victim.is_none() {
        return;
    }
    it.at_ms = if it.victim.is_some() { it.at_ms } else { most.at_ms };
    it.place = Some((most.namespace, most.place.clone()));
    it.limit = Some(most.met());
    it.snapshot = most.snapshot.clone();
}

/// `SEMMNI was 12 of 32000 and SEMMNS was 12 of 1024000000 at most: it was not that; nor was it near in any of ..`.
fn not_reached(evidence: &Evidence) -> String {
    let own: Vec<&Most> = evidence.most.iter().filter(|one| one.place.own == Some(true)).collect();
    let mut shown: Vec<&Most> = if own.is_empty() { evidence.most.iter().take(2).collect() } else { own };
    shown.sort_by_key(|one| std::cmp::Reverse(one.millionths()));
    let figures: Vec<String> =
        shown.iter().map(|one| format!("{} was {}", one.parameter.name(), of(one.used, one.limit))).collect();
    let mut namespaces: Vec<NamespaceId> = evidence.most.iter().map(|one| one.namespace).collect();
    namespaces.dedup();
    let others = match namespaces.len() {
        0 | 1 => "no other namespace is seen on this host".to_owned(),
        n => format!("nor was it near in any of the {n} namespaces seen"),
    };
    let unseen = !super::super::story::sees_every_namespace(&evidence.held.state);
    let unseen = if unseen { ", but the agent does not see all of them" } else { "" };
    format!("{} at most: it was not that; {others}{unseen}", figures.join(" and "))
}

fn queue(it: &mut Explanation, evidence: &Evidence) {
    let Some(most) = evidence.most.iter().max_by_key(|one| one.millionths()) else {
        it.verdict = Verdict::NotReached;
        it.why = "there was no message queue, or none could be read".to_owned();
        return;
    };
    let id = most.queue.map_or(0, |queue| queue.msqid);
    let figures = format!("the fullest queue, msqid {id}, held {} bytes", of(most.used, most.limit));
    it.verdict = if most.millionths() >= 900_000 { Verdict::Full } else { Verdict::NotReached };
    it.why = match it.verdict {
        Verdict::Full => format!("{figures}: it is read more slowly than it is written, or not at all"),
        _ => format!("{figures}: it was not that"),
    };
    (it.at_ms, it.snapshot) = (most.at_ms, most.snapshot.clone());
    it.place = Some((most.namespace, most.place.clone()));
    it.limit = Some(most.met());
}

/// More than one object, or one call, may have. EINVAL has other reasons too, so the limit is named only where what was
/// asked for is known; E2BIG and ERANGE have one.
fn too_much(it: &mut Explanation, told: &Told<'_>, evidence: &Evidence, parameter: Parameter) {
    if it.verdict == Verdict::Refused {
        return;
    }
    let Some((index, namespace)) = own_or(it) else { return };
    let limit = it.snapshot.state.namespaces.get(index).map(rows).unwrap_or_default();
    let limit = limit.into_iter().find(|row| row.parameter == parameter);
    let Some(limit) = limit.and_then(|row| row.limit) else { return };
    it.place = Some((namespace, it.place.clone().map_or(Place { own: Some(index == 0), name: None }, |(_, p)| p)));
    let traced = evidence.refused.as_ref().map(|refused| refused.act.size).filter(|size| *size > 0);
    let asked = told.asked.size.or(traced);
    it.limit = Some(Met { resource: parameter.name(), used: asked, limit });
    let name = parameter.name();
    (it.verdict, it.why) = match asked {
        Some(asked) if asked > limit => (Verdict::TooMuch, format!("it asked for {asked}, and {name} was {limit}")),
        Some(asked) => (
            Verdict::NotReached,
            format!(
                "it asked for {asked}, and {name} was {limit}: it was not that; an object with that key may be smaller"
            ),
        ),
        None if matches!(parameter, Parameter::Semopm | Parameter::Semvmx) => {
            (Verdict::TooMuch, format!("one call went beyond {name}, which was {limit}"))
        }
        None => (
            Verdict::NotKnown,
            format!(
                "either it asked for more than {name}, which was {limit}, or for more than an object with that key has"
            ),
        ),
    };
}

/// Where it happened, else the host's own namespace, by index in the state.
fn own_or(it: &Explanation) -> Option<(usize, NamespaceId)> {
    let namespaces = &it.snapshot.state.namespaces;
    let place = it.place.as_ref().map(|(id, _)| *id);
    let index = place.map_or(Some(0), |id| namespaces.iter().position(|n| n.id == id))?;
    namespaces.get(index).map(|n| (index, n.id))
}

/// It works on the host, and not for that program.
fn in_front(it: &mut Explanation) {
    it.verdict = Verdict::NoSysvipc;
    it.limit = None;
    it.why =
        "System V IPC works on this host: what refused the call stands in front of that program, a seccomp filter, a \
              sandbox or a container runtime"
            .to_owned();
}

fn removed(it: &mut Explanation, told: &Told<'_>, evidence: Evidence) {
    let kind = told.call.map_or(Kind::Sem, Call::kind);
    let Some((at_ms, taken, namespace, place)) = evidence.removed else {
        let noun = noun(kind);
        it.why =
            format!("no {noun} was seen to be removed in the 24 hours before, or the one that is meant is still there");
        return;
    };
    (it.verdict, it.at_ms) = (Verdict::Removed, at_ms);
    it.place = namespace.map(|id| (id, place));
    let (noun, id) = (noun(taken.object.kind()), taken.object.id());
    it.why = match &taken.by {
        Some(by) => format!("{noun} {id} was removed by {} (pid {})", by.comm.escaped(), by.pid),
        None => format!("{noun} {id} was removed; by whom was not traced"),
    };
    it.taken = Some(taken);
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Sem => "semaphore array",
        Kind::Shm => "shared memory segment",
        Kind::Msg => "message queue",
    }
}

fn no_limit(it: &mut Explanation, told: &Told<'_>, cause: &Cause) {
    it.limit = None;
    let noun = noun(told.call.map_or(Kind::Sem, Call::kind));
    (it.verdict, it.why) = match cause {
        Cause::Denied => (
            Verdict::Denied,
            format!(
                "no limit: the {noun} belongs to another user or namespace, or a policy (SELinux, AppArmor) forbids the call"
            ),
        ),
        Cause::Memory => (
            Verdict::Memory,
            "none of the System V limits: memory or huge pages ran out, or a cgroup's limit".to_owned(),
        ),
        Cause::Exists => (Verdict::Exists, format!("no limit: a {noun} with that key is there")),
        Cause::Missing => (Verdict::Missing, format!("no limit: no {noun} with that key is there, in that namespace")),
        _ => (Verdict::NotKnown, "that answer has nothing to do with a limit of System V IPC".to_owned()),
    };
}

/// Who holds what ran out, at the state that shows it.
fn holders(it: &mut Explanation, told: &Told<'_>, id: NamespaceId) {
    let (Some(met), Some(call)) = (&it.limit, told.call) else { return };
    if !matches!(it.verdict, Verdict::Refused | Verdict::Full | Verdict::Near) {
        return;
    }
    let snapshot = it.snapshot.clone();
    let Some(namespace) = snapshot.state.namespaces.iter().find(|n| n.id == id) else { return };
    let parameter = Parameter::from_name(met.resource);
    if parameter.is_some_and(|parameter| parameter.resource().is_none() && parameter != Parameter::Msgmnb) {
        return;
    }
    let resource = parameter.and_then(Parameter::resource);
    let Some((holder, mut others)) = most_of(namespace, &snapshot.state, call.kind(), resource) else { return };
    it.others_hold = others.iter().map(|owner| owner.after.objects).fold(0, u64::saturating_add);
    others.truncate(MOST_OTHERS);
    (it.holder, it.others) = (Some(holder), others);
}
