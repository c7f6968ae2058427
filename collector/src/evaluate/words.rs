//! Why a flag is up, who holds most, and what to do. Pure.

use highwater_ipc::limits::Resource;
use highwater_ipc::object::Kind as Objects;
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::who::Grade;

use super::{cause, pair};
use crate::flag::{Flag, Holder, Kind, Remedy};
use crate::forecast::why::Why;
use crate::query::owners::{Owner, of_place};
use crate::query::remedy::{self, Step};

/// Which objects a limit counts.
pub fn objects_of(resource: Resource) -> Objects {
    match resource {
        Resource::Semmni | Resource::Semmns => Objects::Sem,
        Resource::Shmmni | Resource::Shmall => Objects::Shm,
        Resource::Msgmni => Objects::Msg,
    }
}

/// What a limit counts, in words.
pub fn counted(resource: Resource) -> &'static str {
    match resource {
        Resource::Semmni => "arrays",
        Resource::Semmns => "semaphores",
        Resource::Shmmni => "segments",
        Resource::Shmall => "pages",
        Resource::Msgmni => "queues",
    }
}

/// Why, with figures: what the forecaster saw, with what is used now.
pub fn why(resource: Resource, (used, limit): (u64, u64), why: Option<Why>, kind: Kind) -> String {
    match why {
        Some(why) if kind != Kind::Refusing => Why { used, limit, ..why }.words(counted(resource)),
        _ => format!("calls are refused: {used} of {limit} {} used", counted(resource)),
    }
}

/// Adds to flags that are up who holds most of it, which of two limits on the same objects comes first, and what to do.
pub fn explain(flags: &mut [&mut Flag], state: &State) {
    let owners: Vec<Vec<Owner>> =
        flags.iter().map(|flag| owners(state, flag.namespace, objects_of(flag.resource))).collect();
    for (flag, owners) in flags.iter_mut().zip(&owners) {
        held_by(flag, state, owners);
    }
    pair::tell(flags, state);
    for (flag, owners) in flags.iter_mut().zip(&owners) {
        holding(flag, owners);
    }
}

fn find(state: &State, id: NamespaceId) -> Option<&Namespace> {
    state.namespaces.iter().find(|namespace| namespace.id == id)
}

fn holding(flag: &mut Flag, owners: &[Owner]) {
    let Some(owner) = owners.iter().max_by_key(|owner| share(owner, flag.resource)) else { return };
    let certain = owner.orphans(Grade::Certain).len();
    let name = owner.user.as_ref().map_or_else(|| format!("uid {}", owner.uid), |user| user.escaped());
    let program = owner.comm.as_ref().map_or_else(String::new, |comm| format!(" ({})", comm.escaped()));
    flag.why += &format!("; {name}{program} holds {}", share(owner, flag.resource));
    if certain > 0 {
        flag.why += &format!(", and nobody holds {certain} of its arrays any more");
    }
}

/// Who holds most of it and what to do, as of a state: whoever asks for one flag wants the present's.
pub fn refresh(flag: &mut Flag, state: &State) {
    let owners = owners(state, flag.namespace, objects_of(flag.resource));
    held_by(flag, state, &owners);
}

/// Who holds most as a flag is raised by a sample: it may be over before its step is. Nobody is named if that sample shows
/// less in use than the flag is about: what was there is gone already.
pub fn name_holder(flag: &mut Flag, state: &State) {
    /// The smallest page there is, bytes.
    const PAGE: u64 = 4_096;
    let owners = owners(state, flag.namespace, objects_of(flag.resource));
    let shown = owners.iter().fold(0_u64, |sum, owner| sum.saturating_add(share(owner, flag.resource)));
    let shown = if flag.resource == Resource::Shmall { shown.div_ceil(PAGE) } else { shown };
    if shown >= flag.used {
        held_by(flag, state, &owners);
    }
}

fn held_by(flag: &mut Flag, state: &State, owners: &[Owner]) {
    let most = owners.iter().max_by_key(|owner| share(owner, flag.resource));
    flag.holder = most.map(|owner| Holder {
        uid: owner.uid,
        user: owner.user.as_ref().map(|user| user.escaped()),
        comm: owner.comm.as_ref().map(|comm| comm.escaped()),
        objects: owner.after.objects,
        orphans: owner.orphans.values().map(|ids| ids.len() as u64).sum(),
    });
    let known = flag.cause.as_ref().map(cause::words::step);
    let steps = remedy::of_flag(state, (flag.namespace, flag.resource), owners, (most, known)).into_iter();
    flag.remedy = steps.map(|Step { what, command, risk }| Remedy { step: what, command, risk }).collect();
}

fn owners(state: &State, id: NamespaceId, kind: Objects) -> Vec<Owner> {
    of_place(id, kind, (None, find(state, id)), (state, state))
}

fn share(owner: &Owner, resource: Resource) -> u64 {
    match resource {
        Resource::Semmns => owner.after.semaphores,
        Resource::Shmall => owner.after.bytes,
        _ => owner.after.objects,
    }
}
