//! What a person can do about what was found, in the order in which it should be done. Pure; the commands are made in
//! [`highwater_ipc::remedy`].

use highwater_ipc::activity::{Act, Did};
use highwater_ipc::limits::{Resource, Usage, nearest};
use highwater_ipc::remedy::{INITIAL_PID_NAMESPACE, Raise, raise, removals};
use highwater_ipc::render::lsipc::Parameter;
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::who::Grade;

use super::event::{Bound, bound_by};
use super::owners::Owner;
use crate::explain::{Product, catalogue};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub what: String,
    /// For a root shell of the host; `None` = there is no command for it.
    pub command: Option<String>,
    /// What can go wrong.
    pub risk: String,
}

/// For the first of the owners with certain orphans: raising the limit of arrays that is nearest, then removing them.
pub fn steps(after: &State, owners: &[Owner]) -> Vec<Step> {
    let Some(owner) = owners.iter().find(|o| !o.orphans(Grade::Certain).is_empty()) else { return Vec::new() };
    let Some(namespace) = after.namespaces.iter().find(|n| n.id == owner.namespace) else { return Vec::new() };
    let mut steps = raising(namespace);
    match left_alone(owners, owner) {
        Some(leave) => steps.push(leave),
        None => steps.extend(removing(after, namespace, owner.uid)),
    }
    steps
}

/// For a limit that is running out: raising it; then what frees what its first holder has left behind, and what ends the
/// growth, where its cause is known. A product whose objects nobody else may remove has a procedure of its own, and no
/// command.
pub fn of_flag(
    state: &State,
    (place, resource): (NamespaceId, Resource),
    owners: &[Owner],
    (holder, cause): (Option<&Owner>, Option<Step>),
) -> Vec<Step> {
    let Some(namespace) = state.namespaces.iter().find(|n| n.id == place) else { return Vec::new() };
    let mut steps = raising_of(namespace, resource);
    let Some(owner) = holder else { return steps };
    if let Some(leave) = left_alone(owners, owner) {
        steps.push(leave);
        steps.extend(cause);
        return steps;
    }
    if matches!(resource, Resource::Semmni | Resource::Semmns) {
        steps.extend(removing(state, namespace, owner.uid));
    }
    let program = owner.comm.as_ref().map_or_else(|| format!("the programs of uid {}", owner.uid), HostText::escaped);
    steps.push(cause.unwrap_or_else(|| Step {
        what: format!("find why {program} does not free what it makes; stopped in an orderly way it removes its own"),
        command: None,
        risk: "what depends on it is away meanwhile; killed with SIGKILL it frees nothing".to_owned(),
    }));
    steps
}

/// What to do in place of removing, where a product must keep its objects. A command removes what is a uid's: one of its
/// programs that is such a product is enough.
fn left_alone(owners: &[Owner], owner: &Owner) -> Option<Step> {
    let of_uid = owners.iter().filter(|other| other.uid == owner.uid);
    let product = std::iter::once(owner).chain(of_uid).find_map(keeper)?;
    Some(Step {
        what: format!("{}: {}", product.name, product.procedure.as_deref().unwrap_or_default()),
        command: None,
        risk: format!("do not ipcrm: {}", product.keep.as_deref().unwrap_or_default()),
    })
}

/// The product of an owner whose objects nobody else may remove.
fn keeper(owner: &Owner) -> Option<&'static Product> {
    let text = |name: &Option<HostText>| name.as_ref().map(HostText::escaped);
    catalogue().ok()?.keeper(text(&owner.comm).as_deref(), text(&owner.user).as_deref())
}

/// Removes the certain orphans of a uid, as far as one command goes.
fn removing(after: &State, namespace: &Namespace, uid: u32) -> impl Iterator<Item = Step> + use<> {
    let removals = removals(after.boot_id, namespace, INITIAL_PID_NAMESPACE);
    removals.into_iter().filter(move |removal| removal.uid == uid).map(|removal| Step {
        what: match (removal.named, removal.of) {
            (1, 1) => format!("remove the array of uid {} that nobody holds", removal.uid),
            (named, of) if named == of => format!("remove the {named} arrays of uid {} that nobody holds", removal.uid),
            (named, of) => format!(
                "remove {named} of the {of} arrays of uid {} that nobody holds; ask again for the next ones",
                removal.uid
            ),
        },
        command: Some(removal.command),
        risk: "a removed array does not come back; the command looks again first, and does nothing where a process of \
               that uid lives, in another boot or namespace, or to a row that has changed"
            .to_owned(),
    })
}

/// Raises the limit of semaphores that is nearest to its use, now and for good.
fn raising(namespace: &Namespace) -> Vec<Step> {
    let Some((totals, limits)) = namespace.totals.as_ref().zip(namespace.limits.as_ref()) else { return Vec::new() };
    let nearest = nearest(totals, limits);
    raising_of(namespace, if nearest.resource == Resource::Semmns { Resource::Semmns } else { Resource::Semmni })
}

/// Raises a limit, now and for good.
fn raising_of(namespace: &Namespace, resource: Resource) -> Vec<Step> {
    let Some((totals, limits)) = namespace.totals.as_ref().zip(namespace.limits.as_ref()) else { return Vec::new() };
    let (used, limit) = resource.of(totals, limits);
    let usage = Usage { resource, used, limit };
    let name = resource.name();
    let Some(raise) = Parameter::from_name(name).and_then(|parameter| raise(namespace, parameter, used)) else {
        return vec![Step {
            what: format!("{name} is at {limit}, the most that this kernel takes, with {used} in use"),
            command: None,
            risk: String::new(),
        }];
    };
    vec![now(&usage, &raise), for_good(namespace, &raise)]
}

fn now(usage: &Usage, raise: &Raise) -> Step {
    let Usage { resource, used, limit } = usage;
    Step {
        what: format!("raise {} from {limit} ({used} in use) to {}, until the next boot", resource.name(), raise.to),
        command: Some(raise.command.clone()),
        risk: "none: nothing is removed, and no program has to be started again".to_owned(),
    }
}

fn for_good(namespace: &Namespace, raise: &Raise) -> Step {
    let place = match namespace.name {
        None => "a file in /etc/sysctl.d",
        Some(_) => "the settings of the container (--sysctl)",
    };
    Step {
        what: format!("keep that across boots in {place}: {}", raise.keep),
        command: None,
        risk: "another file there may set the same: the last in order of name wins".to_owned(),
    }
}

/// What to do about a refused call, in one line; `None` = nothing that is known.
pub fn of_refused(act: &Act, state: &State) -> Option<String> {
    const ENOSYS: u32 = 38;
    if act.did == Did::Refused(ENOSYS) {
        let remedy = state.availability.remedy.escaped();
        return (!remedy.is_empty()).then_some(remedy);
    }
    let namespace = state.namespaces.iter().find(|n| Some(n.id) == act.namespace)?;
    let Bound { resource, used, limit } = bound_by(act, namespace.limits.as_ref())?;
    let raise = raise(namespace, Parameter::from_name(resource)?, used.max(limit).saturating_add(1))?;
    Some(format!("raise {resource} to {}: {}", raise.to, raise.command))
}

#[cfg(test)]
mod tests {
    use highwater_ipc::activity::Actor;
    use highwater_ipc::limits::Totals;
    use highwater_ipc::object::{Key, Kind};

    use super::super::blame::owners;
    use super::super::scenes::{own, state};
    use super::*;

    fn scene(text: &str) -> State {
        let mut state = state(text);
        let arrays = state.namespaces[0].sem.as_ref().unwrap();
        let sum = arrays.iter().map(|a| u64::from(a.nsems)).sum();
        let count = arrays.len() as u64;
        state.namespaces[0].totals = Some(Totals { sem_arrays: count, semaphores: sum, ..Totals::default() });
        state
    }

    #[test]
    fn first_comes_raising_the_limit_and_what_is_removed_is_exactly_what_is_certain() {
        let after = scene(
            "limit semmni=128
             sem 5 key=0 nsems=1 uid=33
             sem 6 key=0 nsems=1 uid=33
             sem 7 key=0 nsems=1 uid=33
             sem 8 key=0 nsems=1 uid=26
             held sem 5 comm=apache2 grade=certain
             held sem 6 comm=apache2 grade=likely
             held sem 7 comm=apache2 grade=certain",
        );
        let steps = steps(&after, &owners(&state(""), &after, &[]).0);
        let [raise, keep, remove] = steps.as_slice() else { panic!("{steps:#?}") };
        assert_eq!(raise.what, "raise SEMMNI from 128 (4 in use) to 256, until the next boot");
        assert!(raise.command.as_ref().unwrap().contains("/proc/sys/kernel/sem) 256"), "{raise:?}");
        assert_eq!(
            keep.what,
            "keep that across boots in a file in /etc/sysctl.d: kernel.sem = 32000 1024000000 500 256"
        );
        assert_eq!(remove.what, "remove the 2 arrays of uid 33 that nobody holds");
        let command = remove.command.as_ref().unwrap();
        for (id, is_named) in [(5, true), (6, false), (7, true), (8, false)] {
            assert_eq!(command.contains(&format!("0 {id} 600 1 ")), is_named, "{id}: {command}");
        }
    }

    #[test]
    fn without_a_certain_orphan_nothing_is_prescribed_and_at_the_kernel_s_maximum_that_is_said() {
        let likely = scene("sem 5 key=0 nsems=1\nheld sem 5 grade=likely");
        assert_eq!(steps(&likely, &owners(&state(""), &likely, &[]).0), []);
        let most = scene("limit semmni=32768\nsem 5 key=0 nsems=1\nheld sem 5 grade=certain");
        let steps = steps(&most, &owners(&state(""), &most, &[]).0);
        assert_eq!(steps[0].what, "SEMMNI is at 32768, the most that this kernel takes, with 1 in use");
        assert_eq!((steps[0].command.as_ref(), steps.len()), (None, 2));
    }

    #[test]
    fn of_a_product_that_must_keep_its_objects_the_procedure_is_told_and_nothing_is_removed() {
        let told = |comm: &str, other: &str| {
            let after = scene(&format!(
                "limit semmni=128
                 sem 5 key=0 nsems=1 uid=501
                 sem 6 key=0 nsems=1 uid=501
                 sem 7 key=0 nsems=1 uid=501
                 held sem 5 comm={comm} grade=certain
                 held sem 6 comm={comm} grade=certain
                 held sem 7 comm={other} grade=certain"
            ));
            let owners = owners(&state(""), &after, &[]).0;
            let holder = owners.iter().find(|o| o.after.objects == 2);
            let steps = of_flag(&after, (own(), Resource::Semmni), &owners, (holder, None));
            assert!(steps[0].what.starts_with("raise SEMMNI"), "{steps:#?}");
            (steps.iter().any(|s| s.what.starts_with("remove")), steps.iter().any(|s| s.what.contains("amqiclen")))
        };
        assert_eq!(told("httpd", "cron"), (true, false));
        assert_eq!(told("amqzxma0", "cron"), (false, true));
        assert_eq!(told("httpd", "amqzxma0"), (false, true), "one uid, and the command is a uid's");
    }

    #[test]
    fn a_refused_call_is_answered_with_how_to_raise_what_bound_it() {
        let mut act = Act {
            did: Did::Refused(28),
            kind: Kind::Sem,
            namespace: Some(own()),
            by: Actor::default(),
            first_us: 0,
            last_us: 0,
            count: 1,
            key: Key(0),
            size: 1,
            ids: vec![],
            bound_by: Some(Usage { resource: Resource::Semmni, used: 128, limit: 128 }),
        };
        let mut state = scene("limit semmni=128");
        assert!(of_refused(&act, &state).unwrap().starts_with("raise SEMMNI to 256: sysctl -w kernel.sem="));
        act.did = Did::Refused(38);
        assert_eq!(of_refused(&act, &state), None);
        state.availability.remedy = "allow semget".into();
        assert_eq!(of_refused(&act, &state).as_deref(), Some("allow semget"));
    }
}
