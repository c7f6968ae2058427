//! Lives, told of samples that are written as text: [`crate::query::scenes`].

use std::sync::Arc;

use super::expr::Expr;
use super::lives::Lives;
use crate::query::scenes::{sample_step, state, stretch};
use crate::query::walk::Step;
use crate::store::history::Stretch;

/// Follows samples a second apart, from second 1 on, of the span from second `since` to `until`; of what follows a `gap`
/// line another epoch begins, one that follows an `open` line opens a stretch. `held` = the last state still is.
fn check(expr: &str, (since, until): (i64, i64), held: bool, samples: &str, expected: &[&str]) {
    let expr: Expr = expr.parse().unwrap();
    let mut lives = Lives::new(&expr, (since * 1000, until * 1000));
    let mut epoch = 0;
    let texts: Vec<&str> = samples.split('+').collect();
    for (second, text) in (1_i64..).zip(&texts) {
        let (is_gap, is_open) = (text.contains("gap"), text.contains("open"));
        epoch += u64::from(is_gap);
        let next_gap = texts.iter().skip(usize::try_from(second).unwrap()).position(|text| text.contains("gap"));
        let end = next_gap.map_or(until, |after| second + i64::try_from(after).unwrap());
        let rows = text.replace("gap", "").replace("open", "");
        let of = Stretch { end_wall_ms: end * 1000, ..(*stretch(epoch)).clone() };
        let step = sample_step(epoch, second, state(&rows), None);
        lives.follow(&Step { stretch: Arc::new(of), opening: is_open, ..step });
    }
    let told: Vec<String> = lives
        .finish(held)
        .iter()
        .map(|life| {
            let to = match life.to {
                Some((to_ms, why)) => format!("{}, {}", to_ms / 1000, why.name()),
                None => "still".to_owned(),
            };
            let (from, from_is) = (life.from_ms / 1000, life.from_is.name());
            format!("{} {} uid={} {from_is} {from}..{to}", life.kind.name(), life.id, life.uid)
        })
        .collect();
    assert_eq!(told, expected, "{samples}");
}

#[test]
fn an_object_is_there_from_the_first_sample_that_shows_it_to_the_last() {
    let samples =
        "+ sem 5 key=1 uid=33 \n sem 6 key=2 uid=33 + sem 5 key=1 uid=33 \n sem 6 key=2 uid=33 + sem 6 key=2 uid=33";
    check("key=1", (1, 4), true, samples, &["sem 5 uid=33 created 2..3, removed"]);
    check("uid=33", (1, 4), true, samples, &["sem 5 uid=33 created 2..3, removed", "sem 6 uid=33 created 2..still"]);
    check("key=2", (1, 4), false, samples, &["sem 6 uid=33 created 2..4, last_sample"]);
    check("key=3", (1, 4), true, samples, &[]);
}

#[test]
fn one_sample_in_which_all_conditions_hold_is_enough_and_the_life_is_told_whole() {
    let samples = "sem 5 key=1 uid=0 + sem 5 key=1 uid=33 + sem 5 key=1 uid=7 +";
    check("uid=33", (1, 4), true, samples, &["sem 5 uid=33 seen 1..3, removed"]);
    check("uid=33,key=2", (1, 4), true, samples, &[]);
    check("uid>0", (1, 4), true, samples, &["sem 5 uid=7 seen 1..3, removed"]);
}

#[test]
fn another_object_with_the_same_id_has_a_life_of_its_own() {
    let samples = "sem 5 key=1 nsems=3 + sem 5 key=1 nsems=4";
    let expected = ["sem 5 uid=0 seen 1..1, removed", "sem 5 uid=0 created 2..still"];
    check("key=1", (1, 2), true, samples, &expected);
    check("key=1,nsems=3", (1, 2), true, samples, &expected[..1]);
}

#[test]
fn a_list_that_cannot_be_read_ends_no_life_and_begins_none() {
    let samples = "sem 5 key=1 + unreadable sem + sem 5 key=1 \n sem 6 key=1";
    check("key=1", (1, 3), true, samples, &["sem 5 uid=0 seen 1..still", "sem 6 uid=0 created 3..still"]);
    let samples = "sem 5 key=1 + unreadable sem + unreadable sem +";
    check("key=1", (1, 4), true, samples, &["sem 5 uid=0 seen 1..1, removed"]);
    let samples = "sem 5 key=1 + sem 6 key=2 \n left_out sem 1 + sem 6 key=2 \n left_out sem 1";
    check("key=1", (1, 3), true, samples, &["sem 5 uid=0 seen 1..1, last_sample"]);
    let samples = "unreadable sem + sem 5 key=1";
    check("key=1", (1, 2), true, samples, &["sem 5 uid=0 seen 2..still"]);
}

#[test]
fn what_was_held_when_the_span_begins_is_seen_and_what_went_before_is_not_told() {
    let samples = "open sem 5 key=1 \n sem 6 key=1 + sem 5 key=1 + ";
    check("key=1", (1, 3), true, samples, &["sem 5 uid=0 seen 1..2, removed", "sem 6 uid=0 seen 1..1, removed"]);
    check("key=1", (2, 9), true, "open sem 5 key=1", &["sem 5 uid=0 seen 2..still"]);
    // A stretch that ended before the span only says what was known.
    let samples = "open sem 5 key=1 \n sem 6 key=1 + gap sem 5 key=1 \n sem 7 key=1";
    check("key=1", (2, 2), true, samples, &["sem 5 uid=0 seen 2..still", "sem 7 uid=0 created 2..still"]);
}

#[test]
fn a_gap_within_one_boot_ends_no_life_and_a_boot_ends_all() {
    let samples = "sem 5 key=1 + gap sem 5 key=1";
    check("key=1", (1, 2), true, samples, &["sem 5 uid=0 seen 1..still"]);
    let samples = "sem 5 key=1 + gap boot 2 \n sem 5 key=1";
    let expected = ["sem 5 uid=0 seen 1..1, reboot", "sem 5 uid=0 created 2..still"];
    check("key=1", (1, 2), true, samples, &expected);
}

#[test]
fn a_namespace_that_goes_takes_its_objects_with_it() {
    let samples = "in 8 pause \n shm 5 key=1 size=4096 + ";
    check("size=4K", (1, 2), true, samples, &["shm 5 uid=0 seen 1..1, removed"]);
}

#[test]
fn the_key_of_a_segment_marked_for_destruction_was_another_before() {
    let samples = "shm 5 key=1 size=4096 + shm 5 key=0 size=4096 perms=896 +";
    check("key=1", (1, 3), true, samples, &["shm 5 uid=0 seen 1..2, removed"]);
}

/// Found by a world: the clock was set back, and the stretch before it lies behind the span by its own times.
#[test]
fn what_was_held_before_the_clock_was_set_back_is_not_told_of_the_hour_that_it_was_set_back_to() {
    let expr: Expr = "key=1".parse().unwrap();
    let opened = |from: i64, end: i64| {
        let mut lives = Lives::new(&expr, (1_000, 4_000));
        let of = Stretch { from_wall_ms: from * 1000, end_wall_ms: end * 1000, ..(*stretch(0)).clone() };
        let step = sample_step(0, end, state("sem 5 key=1 uid=33"), None);
        lives.follow(&Step { stretch: Arc::new(of), opening: true, ..step });
        lives.follow(&sample_step(1, 3, state(""), None));
        lives.finish(true).len()
    };
    assert_eq!([opened(7, 9), opened(0, 2)], [0, 1]);
}
