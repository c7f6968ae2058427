//! What the interval does as use comes and goes.

use highwater_ipc::activity::{Act, Actor};
use highwater_ipc::limits::Limits;
use highwater_ipc::object::{Key, Kind};
use highwater_ipc::snapshot::Namespace;
use proptest::prelude::*;

use super::*;

const SECOND_US: u64 = 1_000_000;

fn using(arrays: u64, limit: u64) -> State {
    let most = u64::MAX;
    let limits = Limits {
        semmsl: most,
        semmns: most,
        semopm: most,
        semmni: limit,
        semvmx: most,
        shmmax: most,
        shmall: most,
        shmmni: most,
        shmmin: 1,
        msgmax: most,
        msgmnb: most,
        msgmni: most,
    };
    let totals = Totals { sem_arrays: arrays, ..Totals::default() };
    let namespace = Namespace { limits: Some(limits), totals: Some(totals), ..Namespace::default() };
    State { namespaces: vec![namespace], ..State::default() }
}

fn refusal(errno: u32) -> Activity {
    let act = Act {
        did: Did::Refused(errno),
        kind: Kind::Sem,
        namespace: None,
        by: Actor::default(),
        first_us: 0,
        last_us: 0,
        count: 1,
        key: Key(0),
        size: 1,
        ids: Vec::new(),
        bound_by: None,
    };
    Activity { acts: vec![act], ..Activity::default() }
}

/// Intervals of samples with so many of 1,000 arrays in use, ten seconds apart, at a base of ten seconds.
fn intervals(floor_ms: u32, used: &[u64]) -> Vec<u32> {
    let mut adaptive = Adaptive::new(floor_ms);
    let at = |n: usize| n as u64 * 10 * SECOND_US;
    used.iter()
        .enumerate()
        .map(|(n, used)| adaptive.after(&using(*used, 1000), &Activity::default(), (at(n), 100), 10_000))
        .collect()
}

#[test]
fn nearer_is_faster_and_calm_is_the_base_again() {
    assert_eq!(intervals(1000, &[100, 100, 700, 850, 950]), [10_000, 10_000, 1000, 1000, 1000], "it grows as well");
    for (used, interval) in [(699, 10_000), (700, 5000), (850, 2500), (950, 1000), (2000, 1000)] {
        assert_eq!(intervals(1000, &[used, used]), [interval, interval], "{used}");
    }
    let back = intervals(1000, &[vec![950], vec![100; 22]].concat());
    assert_eq!(back[0..7], [1000; 7], "a minute of calm");
    assert_eq!(back[7..13], [2500; 6]);
    assert_eq!(back[13..19], [5000; 6]);
    assert_eq!(back[19..], [10_000; 4]);
}

#[test]
fn use_about_a_threshold_does_not_make_it_flap() {
    let flapping: Vec<u64> = (0..200).map(|n| if n % 2 == 0 { 700 } else { 660 }).collect();
    assert_eq!(intervals(1000, &flapping), vec![5000; 200]);
}

#[test]
fn growth_counts_by_the_time_it_leaves_and_only_above_what_was_seen_before() {
    // 1 in ten seconds leaves 8,950 s, 2 leave 4,400, 10 leave 870, 40 leave 160.
    for (grown, interval) in [(1, 10_000), (2, 5000), (10, 2500), (40, 1000)] {
        assert_eq!(intervals(1000, &[100, 100 + grown])[1], interval, "{grown}");
    }
    let churn: Vec<u64> = (0..60).map(|n| 100 + n % 2 * 50).collect();
    let after = intervals(1000, &churn);
    assert_eq!((after[1], after[59]), (1000, 10_000), "the first time it grew, then it did not");
}

#[test]
fn a_refusal_is_the_floor_at_once_but_one_that_asked_too_much_of_one_array_is_none() {
    let mut adaptive = Adaptive::new(1000);
    assert_eq!(adaptive.after(&using(0, 1000), &refusal(22), (0, 0), 10_000), 10_000);
    assert_eq!(adaptive.after(&using(0, 1000), &refusal(28), (1, 0), 10_000), 1000);
    assert_eq!(adaptive.after(&using(0, 1000), &refusal(38), (2, 0), 500), 500, "never slower than the base");
}

#[test]
fn a_peak_between_samples_is_use() {
    let mut adaptive = Adaptive::new(1000);
    let peak = Peak { namespace: NamespaceId::default(), boot_us: 0, sem_arrays: 960, semaphores: 0 };
    let activity = Activity { peaks: vec![peak], ..Activity::default() };
    assert_eq!(adaptive.after(&using(0, 1000), &activity, (0, 0), 10_000), 1000);
}

#[test]
fn a_sample_that_takes_long_is_taken_less_often() {
    let mut adaptive = Adaptive::new(1000);
    assert_eq!(adaptive.after(&using(999, 1000), &Activity::default(), (0, 100_000), 10_000), 2000);
    assert_eq!(adaptive.after(&using(999, 1000), &Activity::default(), (1, u32::MAX), 10_000), 10_000);
}

proptest! {
    #[test]
    fn it_is_never_below_the_floor_nor_above_the_base_and_ends_at_the_base(
        floor in 100_u32..5000,
        base in 100_u32..60_000,
        used in proptest::collection::vec((0_u64..1200, any::<bool>(), 1_u64..100), 1..60),
    ) {
        let mut adaptive = Adaptive::new(floor);
        let mut now = 0;
        for (used, refused, after) in used {
            now += after * SECOND_US;
            let activity = if refused { refusal(28) } else { Activity::default() };
            let interval = adaptive.after(&using(used, 1000), &activity, (now, 50), base);
            prop_assert!(interval >= floor.min(base) && interval <= base, "{}", interval);
        }
        let mut last = 0;
        let quiet = calm_us(base) / 3;
        for _ in 0..16 {
            now += quiet;
            last = adaptive.after(&using(10, 1000), &Activity::default(), (now, 50), base);
        }
        prop_assert_eq!(last, base);
    }

    /// Of two hosts with the same samples' times, the one nearer to its limit in each sample is never the slower.
    #[test]
    fn nearer_is_never_slower(
        samples in proptest::collection::vec((0.0_f64..1.2, 0.0_f64..0.3, proptest::option::of(0.0_f64..10_000.0), any::<bool>(), 1_u64..40), 1..80),
    ) {
        let (mut far, mut near, mut now) = (Adaptive::new(1), Adaptive::new(1), 0);
        for (ratio, nearer, seconds_left, refused, after) in samples {
            now += after * SECOND_US;
            let signs = Signs { ratio, seconds_left, refused };
            let worse = Signs { ratio: ratio + nearer, seconds_left: seconds_left.map(|s| s * (1.0 - nearer)), refused };
            far.step(&signs, now, 10_000);
            near.step(&worse, now, 10_000);
            prop_assert!(near.level >= far.level, "{} {}", near.level, far.level);
        }
    }
}
