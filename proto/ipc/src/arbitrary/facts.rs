//! Who holds what, what happened, what threatens.

use alloc::vec;

use proptest::collection::{btree_map, vec as list};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{id, key, namespace_id, narrow, text, word};
use crate::activity::{Act, Activity, Actor, Did, Peak};
use crate::delta::WhoChange;
use crate::limits::{Resource, Usage};
use crate::object::Kind;
use crate::risk::{Risk, RiskKind};
use crate::snapshot::NamedBy;
use crate::text::HostText;
use crate::who::{Doubt, Grade, Known, Orphan, Who};

fn comm() -> impl Strategy<Value = HostText> {
    prop_oneof![6 => select(vec!["apache2", "postgres", "sh"]).prop_map(HostText::from), 1 => text()]
}

pub(super) fn kind() -> impl Strategy<Value = Kind> {
    select(Kind::ALL.to_vec())
}

pub(super) fn known() -> impl Strategy<Value = Known> {
    let grade = select(Grade::ALL.map(|(grade, ..)| grade).to_vec());
    let doubt = select(Doubt::ALL.map(|(doubt, ..)| doubt).to_vec());
    let orphan = (grade, doubt, list(id(), 0..=Who::MAX_PIDS)).prop_map(|(grade, doubt, last_pids)| Orphan {
        grade,
        doubt,
        last_pids,
    });
    (option::of(comm()), option::of(orphan)).prop_map(|(comm, orphan)| Known { comm, orphan })
}

/// Who holds what, of uids and ids that lists share.
pub(super) fn who() -> BoxedStrategy<Who> {
    let comms = btree_map(narrow(), list(comm(), 0..=Who::MAX_COMMS), 0..4);
    let objects = btree_map((kind(), id()), known(), 0..6);
    (comms, objects).prop_map(|(comms, objects)| Who { comms, objects }).boxed()
}

pub(super) fn who_change() -> BoxedStrategy<WhoChange> {
    let comms = list((narrow(), option::of(list(comm(), 0..=Who::MAX_COMMS))), 0..4);
    let objects = list(((kind(), id()), option::of(known())), 0..6);
    prop_oneof![
        2 => Just(WhoChange::Same),
        1 => Just(WhoChange::Unknown),
        1 => who().prop_map(WhoChange::Whole),
        2 => (comms, objects).prop_map(|(comms, objects)| WhoChange::Edits { comms, objects }),
    ]
    .boxed()
}

fn act() -> BoxedStrategy<Act> {
    let errno = prop_oneof![Just(28), any::<u32>()].prop_map(Did::Refused);
    let did = prop_oneof![1 => Just(Did::Created), 1 => Just(Did::Removed), 2 => errno];
    let by = (id(), comm(), option::of(narrow()), comm());
    let by = by.prop_map(|(pid, comm, uid, parent)| Actor { pid, comm, uid, parent });
    let bound = (select(Resource::ALL.to_vec()), word(), word());
    let bound_by = option::of(bound.prop_map(|(resource, used, limit)| Usage { resource, used, limit }));
    let numbers = (word(), word(), word(), key(), word());
    (did, kind(), option::of(namespace_id()), by, numbers, list(id(), 0..=Activity::MAX_IDS), bound_by)
        .prop_map(|(did, kind, namespace, by, (first_us, last_us, count, key, size), ids, bound_by)| Act {
            did,
            kind,
            namespace,
            by,
            first_us,
            last_us,
            count,
            key,
            size,
            ids,
            bound_by,
        })
        .boxed()
}

/// Any activity, mostly none.
pub(crate) fn activity() -> BoxedStrategy<Activity> {
    let peak = (namespace_id(), word(), word(), word()).prop_map(|(namespace, boot_us, sem_arrays, semaphores)| Peak {
        namespace,
        boot_us,
        sem_arrays,
        semaphores,
    });
    let some = (list(act(), 0..4), word(), word(), list(peak, 0..3)).prop_map(|(acts, more, lost, peaks)| Activity {
        acts,
        more,
        lost,
        peaks,
    });
    prop_oneof![Just(Activity::default()), some].boxed()
}

pub(super) fn risk() -> impl Strategy<Value = Risk> {
    (select(RiskKind::ALL.map(|(kind, ..)| kind).to_vec()), text(), text()).prop_map(|(kind, why, remedy)| Risk {
        kind,
        why,
        remedy,
    })
}

pub(super) fn named_by() -> impl Strategy<Value = NamedBy> {
    select(NamedBy::ALL.map(|(named_by, ..)| named_by).to_vec())
}
