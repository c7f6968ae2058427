//! What becomes of which sample.

use highwater_ipc::codec::{decode_at, decode_body};
use highwater_ipc::delta::apply;
use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::record::EpochId;
use highwater_ipc::record::EpochNo;
use proptest::prelude::*;

use super::*;
use crate::clock::HostClock;
use crate::kernel::fake::FakeKernel;
use crate::sampler::Assembler;
use highwater_ipc::time::Clock;

const EPOCH: Epoch = Epoch { no: EpochNo(3), id: EpochId(42) };
const BOOT: BootId = BootId([1; 16]);
const SECOND_US: u64 = 1_000_000;

struct Standing;

impl Clock for Standing {
    fn now(&self) -> At {
        At::default()
    }
}

impl HostClock for Standing {
    fn awake_us(&self) -> u64 {
        0
    }
}

fn array(semid: i32) -> SemArray {
    let owner = Owner { uid: 33, ..Owner::default() };
    SemArray { key: Key(semid), semid, perms: Perms(0o600), nsems: 1, owner, otime: 0, ctime: 1 }
}

/// A sample with these arrays, taken `second` seconds after the first, at an interval of a second.
fn sample(second: u64, semids: &[i32]) -> Sample {
    let kernel = FakeKernel { sem: semids.iter().map(|id| array(*id)).collect(), ..FakeKernel::new() };
    let mut sample = Assembler::new(Box::new(kernel)).sample(&Standing, 1000);
    let boot_us = 5 * SECOND_US + second * SECOND_US;
    sample.snapshot.at = At { wall_ms: 1_000_000 + i64::try_from(second).unwrap() * 1000, boot_us };
    sample.awake_us = boot_us;
    sample
}

fn recorder() -> Recorder {
    Recorder::new(EPOCH, BOOT, Some(GapReason::HostDown), KEYFRAME_EVERY)
}

fn kinds(records: &[Record]) -> Vec<RecordKind> {
    records.iter().map(|record| record.kind).collect()
}

fn content(record: &Record) -> Content {
    decode_body(record.kind, &record.body).unwrap().content
}

fn gap_of(record: &Record) -> Option<GapReason> {
    match content(record) {
        Content::Keyframe(keyframe) => keyframe.gap,
        other => panic!("no keyframe: {other:?}"),
    }
}

#[test]
fn the_first_sample_is_a_keyframe_with_its_reason_then_only_changes_count() {
    let mut recorder = recorder();
    let first = recorder.sample(sample(0, &[1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!((kinds(&first), gap_of(&first[0])), (vec![RecordKind::Keyframe], Some(GapReason::HostDown)));
    assert_eq!((first[0].seq, first[0].chain), (Seq(0), Chain::default()));
    assert_eq!(kinds(&recorder.sample(sample(1, &[1, 2, 3, 4, 5, 6, 7, 8]))), [RecordKind::Heartbeat]);
    let delta = recorder.sample(sample(2, &[1, 2, 3, 4, 5, 6, 7, 8, 9]));
    assert_eq!((kinds(&delta), delta[0].seq), (vec![RecordKind::Delta], Seq(2)));
    assert_eq!(decode_at(&delta[0].body).unwrap().boot_us, 7 * SECOND_US);
}

#[test]
fn what_happened_between_two_equal_samples_is_a_delta_that_changes_nothing() {
    let mut recorder = recorder();
    let happened = Activity { lost: 3, ..Activity::default() };
    let first = recorder.sample(Sample { activity: happened.clone(), ..sample(0, &[1]) });
    assert!(matches!(content(&first[0]), Content::Keyframe(keyframe) if keyframe.activity == happened));
    let second = recorder.sample(Sample { activity: happened.clone(), ..sample(1, &[1]) });
    let Content::Delta(delta) = content(&second[0]) else { panic!("{:?}", second[0].kind) };
    assert_eq!(delta, Delta { took_us: delta.took_us, activity: happened, ..Delta::default() });
    assert_eq!(kinds(&recorder.sample(sample(2, &[1]))), [RecordKind::Heartbeat]);
}

#[test]
fn a_heartbeat_hands_its_chain_on_and_everything_else_changes_it() {
    let mut recorder = recorder();
    let keyframe = recorder.sample(sample(0, &[1])).remove(0);
    let heartbeat = recorder.sample(sample(1, &[1])).remove(0);
    assert_eq!(heartbeat.chain, chain::after(Chain::default(), RecordKind::Keyframe, &keyframe.body));
    assert_eq!(recorder.position(), (Seq(2), heartbeat.chain));
    let stop = recorder.stop(At { wall_ms: 1, boot_us: 9 * SECOND_US });
    assert_eq!((stop.kind, stop.seq, stop.chain), (RecordKind::GapReason, Seq(2), heartbeat.chain));
    assert_eq!(content(&stop), Content::GapReason(GapReason::AgentStopped));
    assert_eq!(recorder.position(), (Seq(3), chain::after(stop.chain, stop.kind, &stop.body)));
}

#[test]
fn a_keyframe_comes_when_asked_and_after_its_time() {
    let mut recorder = Recorder::new(EPOCH, BOOT, None, Duration::from_secs(3));
    let mut seen = vec![];
    for second in 0..5 {
        seen.extend(kinds(&recorder.sample(sample(second, &[1]))));
        if second == 3 {
            recorder.request_keyframe();
        }
    }
    use RecordKind::{Heartbeat, Keyframe};
    assert_eq!(seen, [Keyframe, Heartbeat, Heartbeat, Keyframe, Keyframe]);
}

#[test]
fn a_state_never_stands_behind_many_more_bytes_of_deltas_than_it_has() {
    let mut recorder = recorder();
    let (mut behind, mut keyframes) = (0, 0);
    for second in 0..2000 {
        let ids: &[i32] = if second % 2 == 0 { &[1] } else { &[1, 2] };
        for record in recorder.sample(sample(second, ids)) {
            behind = if record.kind == RecordKind::Keyframe { 0 } else { behind + record.body.len() };
            keyframes += usize::from(record.kind == RecordKind::Keyframe);
        }
        assert!(behind < LEAST_DELTA_BYTES + 100, "{behind} bytes of deltas behind one keyframe");
    }
    assert!((2..20).contains(&keyframes), "{keyframes} keyframes in 2,000 samples");
}

#[test]
fn a_reason_given_from_outside_is_in_the_next_keyframe() {
    let mut recorder = recorder();
    recorder.sample(sample(0, &[1]));
    recorder.request_keyframe_after(GapReason::SpoolOverflow);
    recorder.request_keyframe();
    assert_eq!(gap_of(&recorder.sample(sample(60, &[1]))[0]), Some(GapReason::SpoolOverflow));
    recorder.request_keyframe();
    assert_eq!(gap_of(&recorder.sample(sample(61, &[1]))[0]), None);
}

#[test]
fn more_than_three_intervals_without_a_sample_are_a_gap_with_its_reason() {
    let mut recorder = recorder();
    recorder.sample(sample(0, &[1]));
    assert_eq!(kinds(&recorder.sample(sample(3, &[1]))), [RecordKind::Heartbeat]);
    assert_eq!(gap_of(&recorder.sample(sample(7, &[1]))[0]), Some(GapReason::Stalled));
    let slept = Sample { awake_us: 12 * SECOND_US + SECOND_US, ..sample(100, &[1]) };
    assert_eq!(gap_of(&recorder.sample(slept)[0]), Some(GapReason::Suspended));
}

#[test]
fn a_clock_that_was_set_begins_a_stretch_with_a_keyframe_and_says_so() {
    let mut recorder = recorder();
    let before = sample(0, &[1]);
    recorder.sample(before.clone());
    let mut stepped = sample(1, &[1]);
    stepped.snapshot.at.wall_ms -= 3_600_000;
    let records = recorder.sample(stepped.clone());
    assert_eq!(kinds(&records), [RecordKind::Keyframe, RecordKind::Event]);
    let event = Event::ClockStep { before: before.snapshot.at, by_ms: -3_600_000 };
    assert_eq!((content(&records[1]), records[1].seq), (Content::Event(event), Seq(2)));
    assert_eq!(records[1].chain, chain::after(records[0].chain, RecordKind::Keyframe, &records[0].body));
    let mut next = sample(2, &[1]);
    next.snapshot.at.wall_ms -= 3_600_000;
    assert_eq!(kinds(&recorder.sample(next)), [RecordKind::Heartbeat]);
}

#[test]
fn many_small_steps_are_one_and_none_runs_wall_time_back() {
    let shifted = |second: u64, by_ms: i64| {
        let mut sample = sample(second, &[1]);
        sample.snapshot.at.wall_ms += by_ms;
        sample
    };
    let mut recorder = recorder();
    recorder.sample(shifted(0, 0));
    assert_eq!(kinds(&recorder.sample(shifted(1, 300))), [RecordKind::Heartbeat]);
    assert_eq!(kinds(&recorder.sample(shifted(2, 600))), [RecordKind::Keyframe, RecordKind::Event]);
    let mut quick = sample(2, &[1]);
    (quick.snapshot.at.wall_ms, quick.snapshot.at.boot_us) =
        (quick.snapshot.at.wall_ms + 590, quick.snapshot.at.boot_us + 100_000);
    assert_eq!(kinds(&recorder.sample(quick)), [RecordKind::Keyframe, RecordKind::Event]);
}

#[test]
fn a_delta_larger_than_the_state_is_sent_as_the_state() {
    let mut recorder = recorder();
    recorder.sample(sample(0, &(0..300).map(|i| i * 7919).collect::<Vec<_>>()));
    let records = recorder.sample(sample(1, &[]));
    assert_eq!((kinds(&records), gap_of(&records[0])), (vec![RecordKind::Keyframe], None));
}

#[test]
fn the_present_is_told_without_objects() {
    let mut recorder = recorder();
    assert_eq!(recorder.now(), None);
    recorder.sample(sample(0, &[1, 2]));
    let (at, state) = recorder.now().unwrap();
    assert_eq!((at.boot_us, state.namespaces[0].sem.as_ref()), (5 * SECOND_US, None));
    assert_eq!(state.namespaces[0].totals.unwrap().sem_arrays, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_reader_that_knows_only_the_records_has_every_sample(
        steps in proptest::collection::vec((1_u64..6, proptest::collection::btree_set(0..12_i32, 0..12), -700_i64..700, any::<bool>()), 1..20),
    ) {
        let mut recorder = recorder();
        let (mut second, mut shift, mut seq, mut chained) = (0, 0, Seq(0), Chain::default());
        let mut known: Option<State> = None;
        for (after, ids, by_ms, ask) in steps {
            second += after;
            shift += by_ms;
            if ask {
                recorder.request_keyframe();
            }
            let mut taken = sample(second, &ids.into_iter().collect::<Vec<_>>());
            taken.snapshot.at.wall_ms += shift;
            let records = recorder.sample(taken.clone());
            for record in &records {
                prop_assert_eq!((record.seq, record.first_seq, record.chain), (seq, seq, chained));
                seq = seq.next();
                chained = chain::after(chained, record.kind, &record.body);
                known = match (content(record), known) {
                    (Content::Keyframe(keyframe), _) => Some(keyframe.state),
                    (Content::Delta(delta), Some(known)) => Some(apply(&known, &delta).unwrap()),
                    (Content::Heartbeat | Content::Event(_), Some(known)) => Some(known),
                    (other, _) => panic!("out of order: {other:?}"),
                };
            }
            prop_assert_eq!(known.as_ref(), Some(&taken.snapshot.state));
            prop_assert_eq!(recorder.position(), (seq, chained));
        }
    }
}
