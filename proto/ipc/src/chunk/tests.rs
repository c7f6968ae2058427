//! What goes in comes out.

use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{ChunkReader, ChunkWriter, Head, Step, Told};
use crate::arbitrary;
use crate::record::{Event, GapReason, RecordKind, Seq};
use crate::snapshot::State;
use crate::time::At;

/// A record with its state.
type Given = (Step, Option<State>);

fn head() -> impl Strategy<Value = (u64, Head, At)> {
    let step = prop_oneof![4 => Just(0_u64), 1 => 0..100_u64];
    let times = (any::<i64>(), option::of(any::<i64>()), any::<i64>(), arbitrary::at());
    (step, times).prop_map(|(step, (wall_ms, prev_wall_ms, received_ms, at))| {
        (step, Head { seq: Seq(0), kind: RecordKind::Delta, wall_ms, prev_wall_ms, received_ms }, at)
    })
}

fn sample(state: impl Strategy<Value = State>) -> impl Strategy<Value = (RecordKind, Told, Option<State>)> {
    let gap = option::of(select(GapReason::ALL.map(|(reason, ..)| reason).to_vec()));
    let kind = select(alloc::vec![RecordKind::Keyframe, RecordKind::Delta]);
    (kind, any::<u32>(), gap, arbitrary::activity(), state).prop_map(|(kind, took_us, gap, activity, state)| {
        (kind, Told::Sample { took_us, gap, activity: Arc::new(activity) }, Some(state))
    })
}

fn beside() -> impl Strategy<Value = (RecordKind, Told, Option<State>)> {
    let gap = select(GapReason::ALL.map(|(reason, ..)| reason).to_vec());
    let event = (arbitrary::at(), any::<i64>()).prop_map(|(before, by_ms)| Event::ClockStep { before, by_ms });
    prop_oneof![
        gap.prop_map(|reason| (RecordKind::GapReason, Told::GapReason(reason), None)),
        event.prop_map(|event| (RecordKind::Event, Told::Event(event), None)),
    ]
}

/// Any records: a sample, what becomes of its state, and something beside.
fn records() -> impl Strategy<Value = Vec<Given>> {
    let one = prop_oneof![
        8 => arbitrary::states().prop_flat_map(|(a, b)| (sample(Just(a)), sample(Just(b)))).prop_map(|(a, b)| [a, b]),
        1 => (sample(arbitrary::state()), beside()).prop_map(|(a, b)| [a, b]),
    ];
    proptest::collection::vec((one, head(), head()), 1..4).prop_map(|given| {
        let mut seq = 0;
        let mut out = Vec::new();
        for ([a, b], one, two) in given {
            for ((kind, told, state), (step, head, at)) in [(a, one), (b, two)] {
                seq += 1 + step;
                out.push((Step { head: Head { seq: Seq(seq), kind, ..head }, at, told }, state));
            }
        }
        out
    })
}

fn written(records: &[Given]) -> Vec<u8> {
    let mut writer = ChunkWriter::new();
    for (Step { head, at, told }, state) in records {
        writer.push(head, *at, told, state.as_ref()).unwrap();
    }
    writer.finish()
}

fn check(reader: &mut ChunkReader, records: &[Given]) {
    let mut state = None;
    for (step, after) in records {
        assert_eq!(reader.next().as_ref(), Ok(&Some(step.clone())));
        state = after.as_ref().or(state);
        assert_eq!(reader.state(), state);
    }
    assert_eq!(reader.next(), Ok(None));
    assert_eq!(reader.next(), Ok(None));
}

proptest! {
    #[test]
    fn any_records_are_read_again(records in records()) {
        let bytes = written(&records);
        check(&mut ChunkReader::new(&bytes).unwrap(), &records);
    }
}
