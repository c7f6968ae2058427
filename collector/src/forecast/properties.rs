//! What holds for any rows.

use proptest::prelude::*;

use super::{Evaluator, Event, Policy, Row, Transition};

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => Just(Event::Sample),
        1 => Just(Event::GapStart),
        1 => Just(Event::GapEnd),
        1 => Just(Event::Reboot),
        1 => Just(Event::LimitChange),
    ]
}

fn levels() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..1_000_u64, 1 => Just(0), 1 => Just(u64::MAX), 1 => any::<u64>()]
}

/// Steps of time from hours back to weeks ahead, mostly minutes.
fn steps() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0..900.0, 2 => 0.0..20_000.0, 1 => -90_000.0..0.0, 1 => 0.0..3_000_000.0]
}

/// Stretches of rows that grow, rest, or jump, so that readers find something to read.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let stretch = (levels(), levels(), -3_i64..6, 1_usize..300, events(), steps());
    prop::collection::vec(stretch, 1..8).prop_map(|stretches| {
        let mut at = 1_767_571_200.0_f64;
        let mut rows = Vec::new();
        for (used, limit, growth, count, event, step) in stretches {
            at = (at + step).max(0.0);
            rows.push(Row { at, used, limit, event });
            let mut used = used;
            for _ in 0..count {
                at += 290.0;
                used = used.saturating_add_signed(growth);
                rows.push(Row { at, used, limit, event: Event::Sample });
            }
        }
        rows
    })
}

fn take(evaluator: &mut Evaluator, rows: &[Row]) -> Vec<Transition> {
    let mut said = Vec::new();
    rows.iter().for_each(|row| evaluator.take(row, &Policy::default(), |t| said.push(t)));
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_rows_give_finite_times_in_an_order_that_makes_sense(rows in rows()) {
        let mut up = false;
        for t in take(&mut Evaluator::default(), &rows) {
            prop_assert!(t.raised || up, "cleared while down: {t:?}");
            up = t.raised;
            let times = [Some(t.at), t.eta, t.eta_low, t.eta_high];
            prop_assert!(times.iter().flatten().all(|time| time.is_finite()), "{t:?}");
            if let (Some(eta), Some(low), Some(high)) = (t.eta, t.eta_low, t.eta_high) {
                prop_assert!(t.at <= low && low <= eta + 60.0 && eta <= high + 60.0, "{t:?}");
            }
            prop_assert!(!t.why.words("arrays").is_empty());
        }
    }

    #[test]
    fn any_split_into_batches_with_the_state_stored_between_gives_the_same_transitions(
        rows in rows(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let whole = take(&mut Evaluator::default(), &rows);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(rows.len())).collect();
        cuts.sort_unstable();
        cuts.push(rows.len());
        let (mut evaluator, mut parts, mut from) = (Evaluator::default(), Vec::new(), 0);
        for to in cuts {
            parts.extend(take(&mut evaluator, &rows[from..to]));
            let stored = serde_json::to_string(&evaluator).unwrap();
            prop_assert!(stored.len() < 100_000, "the state has a bound: {}", stored.len());
            evaluator = serde_json::from_str(&stored).unwrap();
            from = to;
        }
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn what_was_said_does_not_change_by_what_comes_later(rows in rows(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(rows.len());
        let (whole, part) = (take(&mut Evaluator::default(), &rows), take(&mut Evaluator::default(), &rows[..cut]));
        prop_assert_eq!(&whole[..part.len()], &part[..]);
    }
}
