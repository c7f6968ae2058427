//! What goes in comes out, and what is no chunk is told as such.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{ChunkError, ChunkReader, ChunkWriter, Directory, Head, Step, Told};
use crate::arbitrary;
use crate::object::{Key, Owner, Perms, SemArray};
use crate::record::{Event, GapReason, RecordKind, Seq};
use crate::snapshot::{Namespace, State};
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

fn gap() -> impl Strategy<Value = GapReason> {
    select(GapReason::ALL.map(|(reason, ..)| reason).to_vec())
}

fn sample(state: impl Strategy<Value = State>) -> impl Strategy<Value = (RecordKind, Told, Option<State>)> {
    let kind = select(vec![RecordKind::Keyframe, RecordKind::Delta]);
    (kind, any::<u32>(), option::of(gap()), arbitrary::activity(), state).prop_map(
        |(kind, took_us, gap, activity, state)| {
            (kind, Told::Sample { took_us, gap, activity: Arc::new(activity) }, Some(state))
        },
    )
}

fn beside() -> impl Strategy<Value = (RecordKind, Told, Option<State>)> {
    let event = (arbitrary::at(), any::<i64>()).prop_map(|(before, by_ms)| Event::ClockStep { before, by_ms });
    prop_oneof![
        gap().prop_map(|reason| (RecordKind::GapReason, Told::GapReason(reason), None)),
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

/// The records of a host that small things happen to, one sample a minute.
fn minutes(states: Vec<State>) -> Vec<Given> {
    let minute = |(seq, state): (u64, State)| {
        let wall_ms = 1_241_364_840_000 + seq.cast_signed() * 60_000;
        let prev_wall_ms = (seq > 0).then_some(wall_ms - 60_000);
        let kind = if seq > 0 { RecordKind::Delta } else { RecordKind::Keyframe };
        let head = Head { seq: Seq(seq), kind, wall_ms, prev_wall_ms, received_ms: wall_ms + 40 };
        let at = At { wall_ms, boot_us: 77_000_000 + seq * 60_000_000 };
        let told = Told::Sample { took_us: 300, gap: None, activity: Arc::default() };
        (Step { head, at, told }, Some(state))
    };
    (0..).zip(states).map(minute).collect()
}

fn written(records: &[Given], cuts: &[Index]) -> Vec<u8> {
    let mut writer = ChunkWriter::new();
    let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(records.len())).collect();
    for (place, (Step { head, at, told }, state)) in records.iter().enumerate() {
        if cuts.contains(&place) && state.is_some() {
            writer.cut();
        }
        writer.push(head, *at, told, state.as_ref()).unwrap();
    }
    assert_eq!(writer.records(), records.len());
    writer.finish()
}

/// Reads on, and holds what is read against what was written.
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

/// Reads all there is; how many records before the end or an error.
fn read(bytes: &[u8]) -> Result<usize, ChunkError> {
    let mut reader = ChunkReader::new(bytes)?;
    let mut count = 0;
    while count < 1000 && reader.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

proptest! {
    // Each case is several whole states.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_records_are_read_again(records in records(), cuts in proptest::collection::vec(any::<Index>(), 0..2)) {
        let bytes = written(&records, &cuts);
        check(&mut ChunkReader::new(&bytes).unwrap(), &records);
    }

    #[test]
    fn what_happens_to_a_host_is_read_again_from_anywhere(
        states in arbitrary::history(),
        cuts in proptest::collection::vec(any::<Index>(), 0..3),
        place in any::<Index>(),
    ) {
        let records = minutes(states);
        let bytes = written(&records, &cuts);
        let mut reader = ChunkReader::new(&bytes).unwrap();
        check(&mut reader, &records);
        let (Step { head, .. }, _) = &records[place.index(records.len())];
        for by_time in [true, false] {
            if by_time {
                reader.seek_wall(head.wall_ms).unwrap();
            } else {
                reader.seek_seq(head.seq).unwrap();
            }
            let first = reader.directory().segments[reader.directory().at_seq(head.seq)].first_seq;
            prop_assert!(first <= head.seq);
            check(&mut reader, &records[usize::try_from(first.0).unwrap()..]);
        }
        reader.seek_wall(i64::MIN).unwrap();
        prop_assert_eq!(reader.next_until(0), Ok(None));
        check(&mut reader, &records);
        // As of an instant between two samples.
        reader.seek_wall(head.wall_ms + 1).unwrap();
        while reader.next_until(head.wall_ms + 1).unwrap().is_some() {}
        let (_, state) = &records[place.index(records.len())];
        prop_assert_eq!(reader.state(), state.as_ref());
    }

    #[test]
    fn a_changed_bit_or_a_lost_end_is_an_error(states in arbitrary::history(), bit in any::<Index>(), cut in any::<Index>()) {
        let bytes = written(&minutes(states), &[cut]);
        let mut changed = bytes.clone();
        let bit = bit.index(bytes.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read(&changed).is_err());
        prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn no_bytes_panic_or_end_no_more(
        states in arbitrary::history(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        tail in proptest::collection::vec(any::<u8>(), 0..300),
        from in any::<Index>(),
    ) {
        let _ = read(&tail);
        let bytes = written(&minutes(states), &[]);
        let segment = Directory::read(&bytes).unwrap().segments[0];
        let mut hostile = bytes[segment.offset..].to_vec();
        if !hostile.is_empty() {
            changes.iter().for_each(|(place, byte)| *place.get_mut(&mut hostile) ^= byte);
            hostile.truncate(from.index(hostile.len()));
        }
        hostile.extend_from_slice(&tail);
        // Its checksums are those of hostile bytes: a thief of the database can make them.
        let _ = read(&Directory::chunk(&[(Seq(0), 1_241_364_840_000, hostile)]));
    }
}

fn array(semid: i32, otime: i64) -> SemArray {
    let owner = Owner { uid: 33, gid: 33, cuid: 0, cgid: 0 };
    SemArray { key: Key(0), semid, perms: Perms(0o600), nsems: 1, owner, otime, ctime: 1_241_364_000 }
}

fn host(sem: Vec<SemArray>) -> State {
    let namespaces = vec![Namespace { sem: Some(sem), ..Namespace::default() }];
    State { interval_ms: 60_000, page_size: 4096, namespaces, ..State::default() }
}

#[test]
fn records_that_are_no_stretch_are_refused_and_nothing_is_lost() {
    let records = minutes(vec![host(vec![]), host(vec![array(1, 0)])]);
    let [(first, state), (second, later)] = &records[..] else { panic!("{records:?}") };
    let mut writer = ChunkWriter::new();
    let mut push = |step: &Step, kind, state: &Option<State>| {
        writer.push(&Head { kind, ..step.head }, step.at, &step.told, state.as_ref())
    };
    let (delta, event) = (RecordKind::Delta, RecordKind::Event);
    let stop = Step { told: Told::GapReason(GapReason::AgentStopped), ..second.clone() };
    assert_eq!(push(first, delta, &None), Err(ChunkError::Mismatch { kind: delta }));
    assert_eq!(push(first, event, state), Err(ChunkError::Mismatch { kind: event }));
    let beat = RecordKind::Heartbeat;
    assert_eq!(push(first, beat, state), Err(ChunkError::Mismatch { kind: beat }));
    let kind = RecordKind::GapReason;
    assert_eq!(push(&stop, kind, &None), Err(ChunkError::NoSampleYet { kind }));
    assert_eq!(push(&stop, kind, later), Err(ChunkError::Mismatch { kind }));
    assert_eq!(push(second, delta, later), Ok(()));
    let (seq, after) = (first.head.seq, second.head.seq);
    assert_eq!(push(first, delta, state), Err(ChunkError::NotAscending { seq, after }));
    assert_eq!(push(second, delta, state), Err(ChunkError::NotAscending { seq: after, after }));
    let bytes = writer.finish();
    check(&mut ChunkReader::new(&bytes).unwrap(), &records[1..]);
    assert_eq!(ChunkWriter::new().finish(), Vec::<u8>::new());
    assert!(ChunkReader::new([]).is_err());
}

#[test]
fn a_state_larger_than_a_record_holds_is_refused() {
    let mut state = host(vec![]);
    let one = crate::snapshot::Unreadable { source: "x".into(), line: 0, error: "y".into() };
    state.unseen = vec![one; State::MAX_UNSEEN + 1];
    let (Step { head, at, told }, state) = minutes(vec![state]).remove(0);
    let mut writer = ChunkWriter::new();
    assert!(matches!(writer.push(&head, at, &told, state.as_ref()), Err(ChunkError::Part { .. })));
    assert_eq!(writer.push(&head, at, &told, state.as_ref()), Err(ChunkError::GivenUp));
    assert_eq!(writer.finish(), Vec::<u8>::new());
}

#[test]
fn a_sample_costs_what_changed_and_not_what_there_is() {
    let used = |n: u64| {
        let now = 1_241_364_840 + n.cast_signed() * 60;
        let array = |id: i32| array(id, if id.unsigned_abs().is_multiple_of(997) && n > 0 { now - 7 } else { 0 });
        host((0..3000).map(array).collect())
    };
    let records = minutes((0..40).map(used).collect());
    let mut writer = ChunkWriter::new();
    let mut works = Vec::new();
    for (Step { head, at, told }, state) in &records {
        writer.push(head, *at, told, state.as_ref()).unwrap();
        works.push(writer.work());
    }
    let last = works[39] - works[38];
    assert!(last < 400, "{last} decisions for 4 of 3,000 rows");
    let bytes = writer.finish();
    assert!(bytes.len() < 900, "{} bytes", bytes.len());
    check(&mut ChunkReader::new(&bytes).unwrap(), &records);
}

#[test]
fn a_segment_ends_before_it_takes_long_to_read() {
    let sample = |n: u64| {
        let odd = |id: i32| (id.unsigned_abs() as u64 * 7 + n * n * 13) % 61;
        let now = 1_241_364_840 + n.cast_signed() * 60;
        host((0..64).map(|id| array(id, now - odd(id).cast_signed())).collect())
    };
    let records = minutes((0..600).map(sample).collect());
    let bytes = written(&records, &[]);
    let segments = Directory::read(&bytes[..Directory::PREFIX.min(bytes.len())]).unwrap().segments;
    assert!(segments.len() > 2, "{segments:?}");
    check(&mut ChunkReader::new(&bytes).unwrap(), &records);
    // A slice of the chunk is enough for what it holds.
    let second = segments[1];
    let mut reader = ChunkReader::new(&bytes[..second.offset + second.len]).unwrap();
    reader.seek_seq(second.first_seq).unwrap();
    assert_eq!(reader.next().unwrap().map(|step| step.head.seq), Some(second.first_seq));
    let snapshot = reader.snapshot().unwrap();
    let (step, state) = &records[usize::try_from(second.first_seq.0).unwrap()];
    assert_eq!((snapshot.at, snapshot.took_us, Some(&snapshot.state)), (step.at, 300, state.as_ref()));
}
