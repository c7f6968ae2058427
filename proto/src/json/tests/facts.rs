//! Who holds what, what happened, what threatens.

use highwater_ipc::activity::{Act, Activity, Actor, Did, Peak};
use highwater_ipc::limits::{Resource, Usage};
use highwater_ipc::object::{Key, Kind};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::snapshot::{NamedBy, NamespaceId, Unreadable};
use highwater_ipc::who::{Doubt, Grade, Known, Orphan, Who};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::text;

fn kind() -> impl Strategy<Value = Kind> {
    select(Kind::ALL.to_vec())
}

/// Not nothing: such an object is in no record.
fn known() -> impl Strategy<Value = Known> {
    let grade = select(Grade::ALL.map(|(grade, ..)| grade).to_vec());
    let doubt = select(Doubt::ALL.map(|(doubt, ..)| doubt).to_vec());
    let orphan = (grade, doubt, vec(any::<i32>(), 0..=Who::MAX_PIDS)).prop_map(|(grade, doubt, last_pids)| Orphan {
        grade,
        doubt,
        last_pids,
    });
    (option::of(text()), option::of(orphan))
        .prop_map(|(comm, orphan)| Known { comm, orphan })
        .prop_filter("nothing is known", |known| *known != Known::default())
}

/// Of ids that the lists do not show, mostly.
pub(super) fn who() -> impl Strategy<Value = Who> {
    let comms = btree_map(0..4_u32, vec(text(), 0..=Who::MAX_COMMS), 0..3);
    let objects = btree_map((kind(), any::<i32>()), known(), 0..4);
    (comms, objects).prop_map(|(comms, objects)| Who { comms, objects })
}

fn namespace_id() -> impl Strategy<Value = NamespaceId> {
    any::<(u64, u64)>().prop_map(|(inode, instance)| NamespaceId { inode, instance })
}

fn act() -> impl Strategy<Value = Act> {
    let did = prop_oneof![Just(Did::Created), Just(Did::Removed), any::<u32>().prop_map(Did::Refused)];
    let by = (any::<i32>(), text(), any::<Option<u32>>(), text());
    let by = by.prop_map(|(pid, comm, uid, parent)| Actor { pid, comm, uid, parent });
    let bound = (select(Resource::ALL.to_vec()), any::<u64>(), any::<u64>());
    let bound_by = option::of(bound.prop_map(|(resource, used, limit)| Usage { resource, used, limit }));
    let ids = vec(any::<i32>(), 0..=Activity::MAX_IDS);
    (did, kind(), option::of(namespace_id()), by, any::<([u64; 4], i32)>(), ids, bound_by).prop_map(
        |(did, kind, namespace, by, ([first_us, last_us, count, size], key), ids, bound_by)| {
            let key = Key(key);
            Act { did, kind, namespace, by, first_us, last_us, count, key, size, ids, bound_by }
        },
    )
}

pub(super) fn activity() -> impl Strategy<Value = Activity> {
    let peak = (namespace_id(), any::<[u64; 3]>()).prop_map(|(namespace, [boot_us, sem_arrays, semaphores])| Peak {
        namespace,
        boot_us,
        sem_arrays,
        semaphores,
    });
    (vec(act(), 0..3), any::<(u64, u64)>(), vec(peak, 0..3)).prop_map(|(acts, (more, lost), peaks)| Activity {
        acts,
        more,
        lost,
        peaks,
    })
}

pub(super) fn risk() -> impl Strategy<Value = Risk> {
    (select(RiskKind::ALL.map(|(kind, ..)| kind).to_vec()), text(), text()).prop_map(|(kind, why, remedy)| Risk {
        kind,
        why,
        remedy,
    })
}

pub(super) fn unseen() -> impl Strategy<Value = Unreadable> {
    (text(), any::<u32>(), text()).prop_map(|(source, line, error)| Unreadable { source, line, error })
}

pub(super) fn named_by() -> impl Strategy<Value = NamedBy> {
    select(NamedBy::ALL.map(|(named_by, ..)| named_by).to_vec())
}
