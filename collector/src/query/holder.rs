//! Whose objects fill the limit that refused a call. Pure.

use std::collections::BTreeSet;

use highwater_ipc::activity::{Act, Did};
use highwater_ipc::limits::Resource;
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{Namespace, State};
use highwater_ipc::who::Grade;

use super::owners::{Owner, of_place};

/// Who holds most of what ran out, at the sample that tells of the refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The owner, with its orphans.
    pub owner: Owner,
    /// When the oldest of its orphans was made or last changed, seconds since 1970; `None` = it has none.
    pub oldest_orphan: Option<i64>,
}

impl Holder {
    /// How many of its objects nobody seems to hold.
    pub fn orphans(&self) -> usize {
        self.owner.orphans.values().map(Vec::len).sum()
    }

    /// How many of them are proven.
    pub fn certain(&self) -> usize {
        self.owner.orphans.get(&Grade::Certain).map_or(0, Vec::len)
    }
}

/// ENOSPC, `errno(3)`: the only refusal that what others hold explains.
const ENOSPC: u32 = 28;

/// Of a refused call; `None` = something else refused it, or its namespace is not known or not whole.
pub fn of_refused(act: &Act, state: &State) -> Option<Holder> {
    if act.did != Did::Refused(ENOSPC) {
        return None;
    }
    let namespace = state.namespaces.iter().find(|n| Some(n.id) == act.namespace)?;
    most_of(namespace, state, act.kind, act.bound_by.map(|bound| bound.resource)).map(|(holder, _)| holder)
}

/// Who holds most of what counts against that limit in a namespace, and the others who hold some, most first; `None` =
/// nobody holds any. Without a limit objects count.
pub fn most_of(
    namespace: &Namespace,
    state: &State,
    kind: Kind,
    resource: Option<Resource>,
) -> Option<(Holder, Vec<Owner>)> {
    let weight = |owner: &Owner| match resource {
        Some(Resource::Semmns) => owner.after.semaphores,
        Some(Resource::Shmall) => owner.after.bytes,
        _ => owner.after.objects,
    };
    let mut owners = of_place(namespace.id, kind, (None, Some(namespace)), (state, state));
    owners.retain(|owner| weight(owner) > 0);
    owners.sort_by_key(weight);
    let owner = owners.pop()?;
    owners.reverse();
    let orphans: BTreeSet<i32> = owner.orphans.values().flatten().copied().collect();
    let oldest_orphan = ctimes(namespace, kind).filter(|(id, _)| orphans.contains(id)).map(|(_, ctime)| ctime).min();
    Some((Holder { owner, oldest_orphan }, owners))
}

/// The ids of a kind, each with its ctime.
fn ctimes(namespace: &Namespace, kind: Kind) -> Box<dyn Iterator<Item = (i32, i64)> + '_> {
    match kind {
        Kind::Sem => Box::new(namespace.sem.iter().flatten().map(|o| (o.semid, o.ctime))),
        Kind::Shm => Box::new(namespace.shm.iter().flatten().map(|o| (o.shmid, o.ctime))),
        Kind::Msg => Box::new(namespace.msg.iter().flatten().map(|o| (o.msqid, o.ctime))),
    }
}

#[cfg(test)]
mod tests {
    use highwater_ipc::activity::Actor;
    use highwater_ipc::limits::Usage;
    use highwater_ipc::object::Key;

    use super::super::scenes::{own, state};
    use super::*;

    fn refused(kind: Kind, errno: u32, resource: Resource) -> Act {
        Act {
            did: Did::Refused(errno),
            kind,
            namespace: Some(own()),
            by: Actor::default(),
            first_us: 0,
            last_us: 0,
            count: 1,
            key: Key(0),
            size: 1,
            ids: vec![],
            bound_by: Some(Usage { resource, used: 128, limit: 128 }),
        }
    }

    #[test]
    fn the_holder_is_who_has_most_of_what_ran_out_with_the_age_of_its_orphans() {
        let state = state(
            "sem 1 key=0 nsems=1 uid=33 ctime=500
             sem 2 key=0 nsems=1 uid=33 ctime=100
             sem 3 key=0 nsems=1 uid=33 ctime=50
             sem 4 key=0 nsems=900 uid=26 ctime=10
             held sem 1 comm=httpd grade=certain
             held sem 2 comm=httpd grade=likely
             held sem 3 comm=httpd",
        );
        let arrays = of_refused(&refused(Kind::Sem, 28, Resource::Semmni), &state).unwrap();
        assert_eq!((arrays.owner.uid, arrays.owner.after.objects), (33, 3));
        assert_eq!((arrays.orphans(), arrays.certain(), arrays.oldest_orphan), (2, 1, Some(100)));
        let semaphores = of_refused(&refused(Kind::Sem, 28, Resource::Semmns), &state).unwrap();
        assert_eq!((semaphores.owner.uid, semaphores.orphans(), semaphores.oldest_orphan), (26, 0, None));
        assert_eq!(of_refused(&refused(Kind::Sem, 22, Resource::Semmni), &state), None, "EINVAL is nobody's doing");
        assert_eq!(of_refused(&refused(Kind::Msg, 28, Resource::Msgmni), &state), None);
    }
}
