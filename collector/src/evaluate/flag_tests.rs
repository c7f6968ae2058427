//! What a flag says: who held it, what makes it grow, which other one it follows.

use highwater_ipc::activity::{Act, Activity, Actor, Did};
use highwater_ipc::limits::{Limits, Resource, Totals};
use highwater_ipc::object::{Key, Kind as Objects, Owner, Perms, SemArray};
use highwater_ipc::record::EpochNo;
use highwater_ipc::snapshot::State;
use highwater_ipc::text::HostText;

use super::feed;
use super::judge::{Judge, Memory, Sample};
use super::rules::Ruling;
use super::state;
use super::tests::{BEGIN_MS, MINUTE_MS, at, host_with};
use super::words;
use crate::flag::{CauseKind, Flag};
use crate::host::HostId;

/// Arrays with these ids; the process that made the last two of them at the instant.
fn reloaded(ids: i32, boot_us: u64) -> (State, Activity) {
    let mut state = host_with(1, Some(u64::from(ids.unsigned_abs())), 40);
    let own = &mut state.namespaces[0];
    let row = |semid| SemArray {
        key: Key(0),
        semid,
        perms: Perms(0o600),
        nsems: 1,
        owner: Owner::default(),
        otime: 0,
        ctime: 0,
    };
    own.sem = Some((0..ids).map(row).collect());
    let act = Act {
        did: Did::Created,
        kind: Objects::Sem,
        namespace: Some(own.id),
        by: Actor { pid: 100, comm: HostText::from("nginx"), uid: Some(0), parent: HostText::default() },
        first_us: boot_us,
        last_us: boot_us,
        count: 2,
        key: Key(0),
        size: 1,
        ids: vec![ids - 2, ids - 1],
        bound_by: None,
    };
    (state, Activity { acts: vec![act], ..Activity::default() })
}

#[test]
fn a_flag_says_what_makes_use_grow_how_much_is_left_and_what_ends_that() {
    let mut memory = Memory::default();
    let mut flag = None;
    for n in 0..8_i32 {
        let boot_us = 60_000_000 + u64::from(n.unsigned_abs()) * 4 * 3_600_000_000;
        let (state, activity) = reloaded(22 + 2 * n, boot_us);
        let wall_ms = BEGIN_MS + i64::from(n) * 4 * 3_600_000;
        let mut judge = Judge::new(HostId(7), memory, Ruling::default());
        let (prev_wall_ms, begins_stretch) = ((n > 0).then_some(wall_ms - 1_000), n == 0);
        let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state: &state };
        judge.sample(&Sample { position: at(n.unsigned_abs().into()), sample, activity: &activity });
        judge.covered(EpochNo(1), wall_ms + 2 * MINUTE_MS);
        let (changes, left) = judge.finish(Some(&state));
        memory = state::unpack(&state::pack(&left).unwrap()).unwrap();
        flag = changes.flags.into_iter().find(|flag| flag.resource == Resource::Semmni).or(flag);
    }
    let flag = flag.expect("36 of 40 is tight");
    let cause = flag.cause.clone().expect("a cause");
    assert_eq!((cause.kind, cause.comm.as_str(), cause.seen, cause.of), (CauseKind::Reload, "nginx", 7, 7));
    assert_eq!((cause.per_event, cause.left), (2.0, 2));
    assert!(
        flag.why.contains("; +2.0 per reload of nginx (7 of 7), 2 left, at your 6 a day: 8.0 hours ("),
        "{}",
        flag.why
    );
    let steps: Vec<&str> = flag.remedy.iter().map(|step| step.step.as_str()).collect();
    assert!(steps[0].starts_with("raise SEMMNI"), "{steps:?}");
    assert!(steps.last().unwrap().starts_with("restart nginx instead of reloading it"), "{steps:?}");
    // Whoever judges without a state, for nothing has changed, still knows.
    let mut judge = Judge::new(HostId(7), memory, Ruling::default());
    judge.covered(EpochNo(1), BEGIN_MS + 40 * 3_600_000);
    assert!(judge.finish(None).0.flags.iter().all(|flag| flag.cause.is_some()));
}

#[test]
fn a_flag_that_is_over_before_its_step_is_names_who_held_it_as_it_went_up() {
    // In one step: full for two hours, or one sample, then nearly empty.
    for full in [12_u32, 1] {
        let mut judge = Judge::new(HostId(7), Memory::default(), Ruling::default());
        let state_of = |used: u64| reloaded(used.try_into().unwrap(), 1).0;
        let mut last = state_of(5);
        for n in 0..60_u32 {
            last = state_of(if (1..=full).contains(&n) { 39 } else { 5 });
            let wall_ms = BEGIN_MS + i64::from(n) * 10 * MINUTE_MS + 1;
            let (prev_wall_ms, begins_stretch) = ((n > 0).then_some(wall_ms - 1_000), n == 0);
            let boot_us = 60_000_000 + u64::from(n) * 600_000_000;
            let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state: &last };
            judge.sample(&Sample { position: at(n.into()), sample, activity: &Activity::default() });
        }
        let (changes, _) = judge.finish(Some(&last));
        let flag = changes.flags.iter().find(|flag| flag.resource == Resource::Semmni).expect("a flag");
        assert!(flag.cleared_ms.is_some(), "{flag:?}");
        assert_eq!(flag.holder.as_ref().map(|holder| holder.objects), Some(39), "{flag:?}");
        let mut flag = Flag { used: 39, holder: None, ..flag.clone() };
        words::name_holder(&mut flag, &last);
        assert_eq!(flag.holder, None, "what was there is gone: who holds the rest is not to blame");
    }
}

#[test]
fn a_flag_follows_the_other_one_of_the_same_arrays_until_that_is_over() {
    let state = |semmni: u64| {
        let mut state = reloaded(37, 1).0;
        let own = &mut state.namespaces[0];
        own.sem.as_mut().unwrap().iter_mut().for_each(|row| row.nsems = 17);
        own.totals = Some(Totals { sem_arrays: 37, semaphores: 37 * 17, ..Totals::default() });
        own.limits = own.limits.map(|limits| Limits { semmni, semmns: 40 * 17, ..limits });
        state
    };
    let mut memory = Memory::default();
    let mut told = Vec::new();
    for n in 0..40_u32 {
        let state = state(if n < 20 { 40 } else { 4_000 });
        let wall_ms = BEGIN_MS + i64::from(n) * 10 * MINUTE_MS;
        let (prev_wall_ms, begins_stretch) = ((n > 0).then_some(wall_ms - 1_000), n == 0);
        let boot_us = 60_000_000 + u64::from(n) * 600_000_000;
        let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state: &state };
        let mut judge = Judge::new(HostId(7), memory, Ruling::default());
        judge.sample(&Sample { position: at(n.into()), sample, activity: &Activity::default() });
        let (changes, left) = judge.finish(Some(&state));
        memory = state::unpack(&state::pack(&left).unwrap()).unwrap();
        told.extend(changes.flags.into_iter().map(|flag| (n, flag)));
    }
    let last = |resource: Resource, before: u32| {
        told.iter().rfind(|(n, flag)| flag.resource == resource && *n < before).map(|(_, flag)| flag).expect("a flag")
    };
    let (first, second) = (last(Resource::Semmni, 20), last(Resource::Semmns, 20));
    assert_eq!((first.follows, second.follows), (None, Some(first.id)));
    assert!(second.why.contains("it follows SEMMNI, which is reached first"), "{}", second.why);
    let (first, second) = (last(Resource::Semmni, 40), last(Resource::Semmns, 40));
    assert!(first.cleared_ms.is_some() && second.cleared_ms.is_none());
    assert_eq!(second.follows, None, "it is told by itself now: {}", second.why);
    assert!(
        second.why.contains("SEMMNS binds: 37 arrays x 17 semaphores each reach 680 at 40 arrays"),
        "{}",
        second.why
    );
}
