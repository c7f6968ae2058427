//! The bounds hold, small namespaces are listed, everyone's turn comes, and nothing flaps.

use proptest::prelude::*;

use super::*;

fn visited(objects: u64, listed: bool, sample: u64) -> Load {
    Load { objects: Some(objects), listed, visited: Some(sample), kept: true, ..Load::new(0) }
}

const POOL: u64 = 100_000;

#[test]
fn a_namespace_of_68_000_objects_is_told_by_its_totals_and_small_ones_beside_it_are_listed() {
    let mut loads = vec![visited(68_000, false, 0); 50];
    loads.push(visited(10, false, 0));
    let listed = listed(&loads, POOL - 65, cost_left(65), 1);
    assert_eq!(listed.iter().filter(|listed| **listed).count(), 1);
    assert!(listed[50]);
    assert_eq!(Rotation::default().turn(&loads, &listed, cost_left(65), 1).len(), 51, "all are visited");
}

#[test]
fn a_crowd_of_segments_takes_turns_for_its_totals_alone() {
    let loads = vec![Load { segments: 4096, ..visited(68_096, false, 0) }; 50];
    let mut rotation = Rotation::default();
    let visits = rotation.turn(&loads, &[false; 50], cost_left(65), 1).len();
    assert_eq!((visits, rotation.stride()), (0, 2), "visited in sample 0, due in sample 2");
    let spent = |turn: Vec<usize>| turn.iter().map(|index| loads[*index].cost(false)).sum::<u64>();
    let turn = rotation.turn(&loads, &[false; 50], cost_left(65), 2);
    assert!(turn.len() > 25 && spent(turn) <= COST_NS);
}

#[test]
fn the_smallest_are_listed_first_and_none_pushes_out_one_of_nearly_its_size() {
    let loads = [visited(800, true, 0), visited(750, false, 0), visited(100, false, 0)];
    assert_eq!(listed(&loads, 1000, COST_NS, 1), [true, false, true]);
    assert_eq!(listed(&loads, 1700, COST_NS, 1), [true, false, true], "an eighth must be free for a new one");
    assert_eq!(listed(&loads, 1900, COST_NS, 1), [true, true, true]);
    assert_eq!(listed(&loads, 850, COST_NS, 1), [false, false, true]);
}

#[test]
fn one_that_did_not_fit_waits_before_it_is_listed_again() {
    let load = Load { unlisted_at: Some(10), ..visited(5, false, 10) };
    assert_eq!(listed(&[load], POOL, COST_NS, 10 + UNLISTED_FOR - 1), [false]);
    assert_eq!(listed(&[load], POOL, COST_NS, 10 + UNLISTED_FOR), [true]);
}

#[test]
fn the_host_leaves_the_others_a_share_however_large_it_is() {
    assert_eq!(cost_left(POOL), OTHERS_LEAST_NS);
    assert_eq!(cost_left(0), COST_NS - VISIT_NS);
}

#[test]
fn sixty_four_quiet_namespaces_are_visited_in_every_sample() {
    let loads = vec![visited(10, true, 0); 64];
    let mut rotation = Rotation::default();
    assert_eq!(rotation.turn(&loads, &[true; 64], cost_left(65), 1), (0..64).collect::<Vec<_>>());
    assert_eq!(rotation.stride(), 1);
}

#[test]
fn strides_grow_at_once_and_shrink_late() {
    let count = |n: u64| vec![VISIT_NS; usize::try_from(n).unwrap()];
    let fits = COST_NS / VISIT_NS;
    let mut rotation = Rotation::default();
    let mut after = |n: u64| {
        rotation.adjust(&count(n), COST_NS);
        rotation.stride
    };
    assert_eq!([after(fits), after(fits + 1), after(fits), after(fits * 7 / 8)], [1, 2, 2, 2]);
    assert_eq!([after(fits * 3 / 4), after(fits * 9), after(fits), after(fits), after(0)], [1, 16, 8, 4, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn never_more_objects_than_the_pool_and_no_visit_dearer_than_allowed(
        sizes in proptest::collection::vec((0..200_000_u64, any::<bool>()), 0..40),
        pool in 0..=POOL, host in 0..=POOL,
    ) {
        let loads: Vec<Load> = sizes.iter().map(|(objects, listed)| visited(*objects, *listed, 0)).collect();
        let cost = cost_left(host);
        let listed = listed(&loads, pool, cost, 1);
        let chosen = loads.iter().zip(&listed).filter(|(_, listed)| **listed).map(|(load, _)| *load);
        prop_assert!(chosen.clone().map(|load| load.objects.unwrap()).sum::<u64>() <= pool);
        prop_assert!(chosen.clone().all(|load| load.cost(true) <= cost));
        // Settled: with the answer as what was listed before, the answer is the same.
        let again: Vec<Load> = loads.iter().zip(&listed).map(|(load, listed)| Load { listed: *listed, ..*load }).collect();
        prop_assert_eq!(super::listed(&again, pool, cost, 1), listed);
    }

    #[test]
    fn everybodys_turn_comes_within_the_stride_at_the_cost_of_one_sample(
        sizes in proptest::collection::vec(0..15_000_u64, 1..120),
    ) {
        let mut loads: Vec<Load> = sizes.iter().map(|objects| Load { objects: Some(*objects), ..Load::new(0) }).collect();
        let listed = vec![true; loads.len()];
        let (mut rotation, mut last_stride) = (Rotation::default(), 0);
        for sample in 0..200 {
            let turn = rotation.turn(&loads, &listed, COST_NS, sample);
            let spent: u64 = turn.iter().map(|index| loads[*index].cost(true)).sum();
            prop_assert!(spent <= COST_NS || turn.len() == 1);
            for index in turn {
                (loads[index].visited, loads[index].kept) = (Some(sample), true);
            }
            let stride = rotation.stride();
            prop_assert!(last_stride == 0 || stride == last_stride, "flapped from {last_stride} to {stride}");
            last_stride = stride;
            if sample > 2 * stride {
                let longest = loads.iter().map(|load| sample - load.visited.unwrap()).max().unwrap();
                prop_assert!(longest < stride, "{longest} samples passed at stride {stride}");
            }
        }
    }

    #[test]
    fn a_namespace_without_a_kept_state_is_visited(kept in proptest::collection::vec(any::<bool>(), 1..600)) {
        let loads: Vec<Load> = kept.iter().map(|kept| Load { kept: *kept, ..visited(0, true, 0) }).collect();
        let turn = Rotation { stride: 4 }.turn(&loads, &vec![true; loads.len()], COST_NS, 1);
        prop_assert!(loads.iter().enumerate().all(|(index, load)| load.kept || turn.contains(&index)));
    }
}
