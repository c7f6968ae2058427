//! What to do about it, in order. Pure; the commands are made in [`highwater_ipc::remedy`] of the host's present.

use highwater_ipc::object::Kind;
use highwater_ipc::remedy::{INITIAL_PID_NAMESPACE, raise, removals};
use highwater_ipc::render::lsipc::{Parameter, rows};
use highwater_ipc::snapshot::{Namespace, Snapshot};
use highwater_ipc::text::HostText;
use highwater_ipc::who::Grade;

use super::super::holder::most_of;
use super::super::owners::Owner;
use super::super::remedy::Step;
use super::{Explanation, Verdict};
use crate::explain::{Catalogue, Product, Told};

/// The most owners whose orphans are named.
const MOST_OWNERS: usize = 3;

/// Adds what to do, and whose objects must be left alone.
pub(super) fn add(it: &mut Explanation, (catalogue, told): (&Catalogue, &Told<'_>), present: Option<&Snapshot>) {
    let mut steps = Vec::new();
    if matches!(it.verdict, Verdict::Refused | Verdict::Full | Verdict::Near | Verdict::TooMuch) {
        limit(it, (catalogue, told), present, &mut steps);
    }
    if let Some(holder) = &it.holder {
        it.keeper = keeper(catalogue, &holder.owner).cloned();
    }
    steps.extend(it.keeper.as_ref().and_then(leave_alone));
    if it.verdict == Verdict::NotKnown && it.victim.is_some() {
        steps.push(words(NOT_SAMPLED.to_owned()));
    }
    if let (Verdict::NotKnown, Some(met)) = (it.verdict, it.limit) {
        let name = met.resource;
        steps.push(words(format!(
            "find out how much it asks for (its settings, `strace -e trace=%ipc`): {name} helps only beyond {}",
            met.limit
        )));
    }
    match it.verdict {
        Verdict::NoSysvipc => {
            let remedy = it.snapshot.state.availability.remedy.escaped();
            let allow = "allow semget, semop, semctl, shmget, shmat, shmctl, msgget, msgsnd, msgrcv and msgctl in the \
                         seccomp profile of that program or container";
            steps.push(words(if remedy.is_empty() { allow.to_owned() } else { remedy }));
        }
        Verdict::Removed | Verdict::NotKnown => {
            let risks = it.snapshot.state.risks.iter().filter(|_| it.taken.is_some());
            steps.extend(risks.map(|risk| words(format!("{}: {}", risk.why.escaped(), risk.remedy.escaped()))));
        }
        Verdict::NotReached => steps.push(words(NOT_THAT.to_owned())),
        _ => {}
    }
    steps.extend(told.remedy.map(|remedy| words(remedy.to_owned())));
    it.steps = steps;
}

/// What remains where no limit was near.
const NOT_THAT: &str = "look whether the program runs in a container that is not seen from this host, on another host, or \
                        at another time (--at); `strace -f -e trace=%ipc` of it names call and answer";

/// What remains where a namespace was not sampled.
const NOT_SAMPLED: &str = "look in that container with `ipcs -u` and `ipcs -l`; `highwater-agent doctor` on the host says \
                           why its namespace is not sampled";

fn words(what: String) -> Step {
    Step { what, command: None, risk: String::new() }
}

fn limit(
    it: &Explanation,
    (catalogue, told): (&Catalogue, &Told<'_>),
    present: Option<&Snapshot>,
    steps: &mut Vec<Step>,
) {
    let (Some(met), Some((id, _))) = (it.limit, it.place.as_ref()) else { return };
    let Some(parameter) = Parameter::from_name(met.resource) else { return };
    let Some(present) = present else {
        steps.push(words(format!("raise {}; ask again for the command once the host is in sight", met.resource)));
        return;
    };
    let namespace =
        present.state.namespaces.iter().find(|n| n.id == *id && present.state.boot_id == it.snapshot.state.boot_id);
    let Some(namespace) = namespace.or_else(|| own_after_a_boot(it, present)) else {
        steps.push(words("that namespace is gone, and what it held with it".to_owned()));
        return;
    };
    raising(namespace, (parameter, met.limit), met.used, steps);
    if told.call.is_some_and(|call| call.kind() == Kind::Sem) && parameter.resource().is_some() {
        removing((catalogue, it), (namespace, present), steps);
    }
}

/// The host's own namespace is the same place after a boot.
fn own_after_a_boot<'s>(it: &Explanation, present: &'s Snapshot) -> Option<&'s Namespace> {
    let was_own = it.place.as_ref().is_some_and(|(_, place)| place.own == Some(true));
    present.state.namespaces.first().filter(|_| was_own && present.state.boot_id != it.snapshot.state.boot_id)
}

/// Raises the limit, now and for good, unless it was raised since.
fn raising(namespace: &Namespace, (parameter, then): (Parameter, u64), asked: Option<u64>, steps: &mut Vec<Step>) {
    let name = parameter.name();
    let Some(row) = rows(namespace).into_iter().find(|row| row.parameter == parameter) else { return };
    let Some(limit) = row.limit else {
        steps.push(words(format!("raise {name}: its value now could not be read")));
        return;
    };
    if limit > then {
        steps.push(words(format!("{name} was raised since, from {then} to {limit}")));
        return;
    }
    // Of one object what was asked for is what is needed; of a number of objects one more than are in use.
    let need = if row.used.is_some() { row.used.unwrap_or(0).saturating_add(1) } else { asked.unwrap_or(0) };
    let in_use = row.used.map_or_else(String::new, |used| format!(" ({used} in use)"));
    let Some(raise) = raise(namespace, parameter, need) else {
        steps.push(words(format!("{name} is at {limit}, the most that this kernel takes")));
        return;
    };
    steps.push(Step {
        what: format!("raise {name} from {limit}{in_use} to {}, until the next boot", raise.to),
        command: Some(raise.command),
        risk: "none: nothing is removed".to_owned(),
    });
    let place = match namespace.name {
        None => "a file in /etc/sysctl.d",
        Some(_) => "the settings of the container (--sysctl)",
    };
    steps.push(Step {
        what: format!("keep that across boots in {place}: {}", raise.keep),
        command: None,
        risk: "another file there may set the same: the last in order of name wins".to_owned(),
    });
}

/// Removes what is certainly nobody's, of the holder first; nothing of whose product must keep its objects.
fn removing(
    (catalogue, it): (&Catalogue, &Explanation),
    (namespace, present): (&Namespace, &Snapshot),
    steps: &mut Vec<Step>,
) {
    let Some((first, rest)) = most_of(namespace, &present.state, Kind::Sem, None) else { return };
    let owners: Vec<Owner> = std::iter::once(first.owner).chain(rest).collect();
    let kept = |uid: u32| owners.iter().any(|owner| owner.uid == uid && keeper(catalogue, owner).is_some());
    let holder = it.holder.as_ref().map(|holder| holder.owner.uid);
    let mut found = removals(present.state.boot_id, namespace, INITIAL_PID_NAMESPACE);
    found.retain(|removal| !kept(removal.uid));
    found.sort_by_key(|removal| Some(removal.uid) != holder);
    for removal in found.into_iter().take(MOST_OWNERS) {
        let user =
            present.state.users.get(&removal.uid).map_or_else(String::new, |user| format!(" ({})", user.escaped()));
        let uid = removal.uid;
        steps.push(Step {
            what: match (removal.named, removal.of) {
                (1, 1) => format!("remove the array of uid {uid}{user} that nobody holds"),
                (named, of) if named == of => format!("remove the {named} arrays of uid {uid}{user} that nobody holds"),
                (named, of) => {
                    format!("remove {named} of the {of} arrays of uid {uid}{user} that nobody holds; ask again for the next")
                }
            },
            command: Some(removal.command),
            risk: "a removed array does not come back; the command looks again first, and does nothing where a process of \
                   that uid lives, in another boot or namespace, or to an array that has changed or that somebody waits for"
                .to_owned(),
        });
    }
    let unproven = it
        .holder
        .as_ref()
        .is_some_and(|holder| holder.orphans() > 0 && holder.owner.orphans(Grade::Certain).is_empty());
    if unproven {
        steps.push(words(
            "what the holder's orphans are is not proven: end its programs in order, not with ipcrm".to_owned(),
        ));
    }
}

fn keeper<'c>(catalogue: &'c Catalogue, owner: &Owner) -> Option<&'c Product> {
    let text = |text: &Option<HostText>| text.as_ref().map(HostText::escaped);
    catalogue.keeper(text(&owner.comm).as_deref(), text(&owner.user).as_deref())
}

fn leave_alone(product: &Product) -> Option<Step> {
    let (keep, procedure) = (product.keep.as_ref()?, product.procedure.as_ref()?);
    Some(words(format!("do not remove what {} holds: {keep}; {procedure}", product.name)))
}
