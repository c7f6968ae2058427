//! What a reader makes of a disk that refuses, and of what is gone.

use std::io::ErrorKind;

use super::frame::{Entry, Position};
use super::store_tests::{LIMITS, ROOMY, Rig, read_all};
use super::{Hole, Reader};

fn several_segments() -> Rig {
    let mut rig = Rig::new(LIMITS);
    for i in 0..40 {
        rig.append(i % 10 == 0, 100);
    }
    assert!(rig.disk.contents().len() > 1);
    rig
}

#[test]
fn s2_a_disk_that_cannot_be_read_just_now_costs_nothing() {
    for kind in [ErrorKind::Other, ErrorKind::OutOfMemory, ErrorKind::PermissionDenied, ErrorKind::InvalidData] {
        let mut rig = several_segments();
        let before = (rig.disk.contents(), rig.spool.bytes());
        let mut reader = Reader::new(Position::default());
        rig.disk.fail_reads(Some(kind));
        for _ in 0..2 {
            assert_eq!(rig.spool.read(&mut reader), None);
            assert_eq!(read_all(&mut rig.spool, Position::default()), [], "others ask too");
        }
        assert!(rig.spool.is_unreadable() && rig.spool.trouble().is_some());
        assert_eq!((rig.disk.contents(), rig.spool.bytes()), before);
        rig.disk.fail_reads(None);
        let read: Vec<Entry> = std::iter::from_fn(|| rig.spool.read(&mut reader)).map(|r| r.entry).collect();
        assert_eq!(read, rig.appended, "{kind:?}");
        assert!(!rig.spool.is_unreadable());
    }
}

#[test]
fn s2_a_segment_that_the_device_refuses_three_times_is_damaged_and_stays_for_what_can_be_read() {
    let mut rig = several_segments();
    let before = (rig.disk.contents(), rig.spool.bytes());
    let mut reader = Reader::new(Position { epoch_no: 1, seq: 0 });
    rig.disk.fail_reads(Some(ErrorKind::InvalidData));
    for _ in 0..3 {
        assert_eq!(rig.spool.read(&mut reader), None);
    }
    rig.disk.fail_reads(None);
    let read = rig.spool.read(&mut reader).unwrap();
    assert_eq!((read.hole, read.entry.keyframe, read.entry.first_seq > 0), (Some(Hole::Damaged), true, true));
    // A device that was only slow to come back has lost nothing of it.
    assert_eq!((rig.disk.contents(), rig.spool.bytes()), before);
    assert_eq!(read_all(&mut rig.spool, Position::default()).len(), rig.appended.len());
}

#[test]
fn s2_what_lies_before_a_place_that_the_device_refuses_is_kept_until_it_is_acked() {
    let mut rig = Rig::new(ROOMY);
    for i in 0..30 {
        rig.append(i % 10 == 0, 100);
    }
    let name = rig.disk.contents().into_keys().next().unwrap();
    // In the payload of entry 14: the next keyframe in this very segment is 20.
    let at = 64 + 14 * 132 + 50;
    rig.disk.spoil(&name, at..at + 1);
    let mut reader = Reader::new(Position::default());
    for round in 0..2 {
        let mut read = Vec::new();
        let mut refused = 0;
        while read.len() < 24 {
            match rig.spool.read(&mut reader) {
                Some(one) => read.push(one),
                None => refused += 1,
            }
            assert!(refused < 9, "{read:?}");
        }
        let expected: Vec<Entry> = rig.appended[..14].iter().chain(&rig.appended[20..]).cloned().collect();
        assert_eq!(read.iter().map(|r| r.entry.clone()).collect::<Vec<_>>(), expected, "round {round}");
        assert!(read.iter().all(|r| r.hole.is_none() == (r.entry.first_seq != 20)));
        // The connection was cut before an ack.
        reader = Reader::new(Position::default());
    }
}

#[test]
fn s2_the_damaged_end_of_an_epoch_is_a_hole_before_the_next_one() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 20);
    rig.append(false, 20);
    let name = rig.disk.contents().into_keys().next().unwrap();
    rig.next_epoch();
    rig.append(true, 20);
    rig.disk.damage(&name, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let read = read_all(&mut rig.spool, Position { epoch_no: 1, seq: 0 });
    assert_eq!(read.iter().map(|r| r.hole).collect::<Vec<_>>(), [None, Some(Hole::Damaged)]);
    // Whoever has the end is missing nothing.
    let read = read_all(&mut rig.spool, Position { epoch_no: 1, seq: 2 });
    assert_eq!(read.iter().map(|r| r.hole).collect::<Vec<_>>(), [None]);
}

#[test]
fn s2_whoever_lost_what_was_acked_from_memory_is_given_nothing_that_builds_on_it() {
    let mut rig = Rig::new(ROOMY);
    rig.disk.set_room(Some(0));
    for i in 0..8 {
        rig.append(i == 6, 100);
    }
    rig.spool.acked(Position { epoch_no: 1, seq: 3 }).unwrap();
    let held = |from| Position { epoch_no: 1, seq: from };
    assert_eq!(read_all(&mut rig.spool, held(3)).len(), 5, "whoever has the rest goes on");
    let read = read_all(&mut rig.spool, held(1));
    let found: Vec<_> = read.iter().map(|r| (r.entry.first_seq, r.hole)).collect();
    assert_eq!(found, [(6, Some(Hole::Acked)), (7, None)]);
}
