//! What random histories and damage have found: each as the sentence that holds now.

use super::fake::{FakeDisk, Fault};
use super::store_tests::{LIMITS, ROOMY, Rig, label, read_all};
use super::*;

fn segments(disk: &FakeDisk) -> Vec<String> {
    disk.contents().into_keys().filter(|name| name.ends_with(".seg")).collect()
}

/// A stale block of the same file passed for a keyframe: the segment then seemed to end before its end.
#[test]
fn s2_a_block_of_a_segment_written_to_a_second_place_in_it_is_not_read_again() {
    let mut rig = Rig::new(ROOMY);
    for i in 0..6 {
        rig.append(i == 0, 20);
    }
    let name = segments(&rig.disk).remove(0);
    // The keyframe and the entry behind it, once more at the end and in the place of entry 3.
    for at in [None, Some(64 + 3 * 52)] {
        let disk = FakeDisk::with(&rig.disk.contents());
        disk.damage(&name, |bytes| {
            let copy = bytes[64..64 + 2 * 52].to_vec();
            let at = at.unwrap_or(bytes.len());
            bytes.truncate(bytes.len().max(at));
            let to = bytes.len().min(at + copy.len());
            bytes.splice(at..to, copy);
        });
        let (mut spool, found) = Spool::open(Box::new(disk), ROOMY).unwrap();
        let read: Vec<Entry> = read_all(&mut spool, Position::default()).into_iter().map(|r| r.entry).collect();
        let left = if at.is_some() { 3 } else { 6 };
        assert_eq!(read, rig.appended[..left]);
        assert_eq!((spool.epochs()[0].next_seq, found.damaged > 0), (left as u64, true));
    }
}

#[test]
fn s2_what_follows_a_frame_that_is_cut_out_of_a_segment_waits_for_a_keyframe() {
    let mut rig = Rig::new(ROOMY);
    for i in 0..8 {
        rig.append(i % 6 == 0, 20);
    }
    rig.disk.damage(&segments(&rig.disk)[0], |bytes| drop(bytes.drain(64 + 3 * 52..64 + 4 * 52)));
    let (mut spool, _) = Spool::open(Box::new(rig.disk.clone()), ROOMY).unwrap();
    let read = read_all(&mut spool, Position { epoch_no: 1, seq: 0 });
    let told: Vec<_> = read.iter().map(|r| (r.entry.first_seq, r.hole)).collect();
    assert_eq!(told, [(0, None), (1, None), (2, None), (6, Some(Hole::Damaged)), (7, None)]);
}

/// Once the epoch before it was acknowledged and freed, the damage was told as an overflow.
#[test]
fn s2_the_damaged_beginning_of_an_epoch_is_damage_also_when_the_epoch_before_it_is_gone() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 20);
    rig.next_epoch();
    rig.append(true, 20);
    rig.append(true, 20);
    // Its first keyframe's payload.
    rig.disk.damage(&segments(&rig.disk)[1], |bytes| bytes[64 + 32] ^= 1);
    let (mut spool, found) = Spool::open(Box::new(rig.disk.clone()), ROOMY).unwrap();
    assert_eq!((found.damaged, spool.acked(Position { epoch_no: 1, seq: 1 }).unwrap()), (1, 1));
    let read = read_all(&mut spool, Position { epoch_no: 1, seq: 1 });
    assert_eq!(read.iter().map(|r| (r.entry.first_seq, r.hole)).collect::<Vec<_>>(), [(1, Some(Hole::Damaged))]);
}

/// An entry waiting in memory was given out although the one it builds on, the last on the disk, was damaged.
#[test]
fn s2_an_entry_in_memory_whose_base_is_damaged_on_the_disk_is_passed_over() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 20);
    rig.append(false, 20);
    rig.disk.set_room(Some(0));
    assert_eq!(rig.append(false, 20).kept, Kept::Memory);
    rig.append(true, 20);
    rig.disk.damage(&segments(&rig.disk)[0], |bytes| *bytes.last_mut().unwrap() ^= 1);
    let read = read_all(&mut rig.spool, Position { epoch_no: 1, seq: 0 });
    let told: Vec<_> = read.iter().map(|r| (r.entry.first_seq, r.hole)).collect();
    assert_eq!(told, [(0, None), (3, Some(Hole::Damaged))]);
}

/// Each keyframe that the device did not force left a file behind when it did not remove either; the next opening took
/// them for the newest segments and dropped the oldest records for them.
#[test]
fn s4_a_device_that_neither_forces_nor_removes_gets_one_file_more_and_not_one_at_each_try() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 20);
    rig.disk.fail_sync(true);
    rig.disk.fail(Fault::Remove, true);
    for _ in 0..50 {
        rig.append(true, 200);
    }
    assert_eq!(segments(&rig.disk).len(), 2);
    rig.disk.fail_sync(false);
    rig.disk.fail(Fault::Remove, false);
    assert_eq!((rig.append(true, 20).kept, rig.spool.bytes().1), (Kept::Disk, 0));
    let all = rig.appended.clone();
    assert!(read_all(&mut rig.spool, Position { epoch_no: 1, seq: 0 }).into_iter().map(|r| r.entry).eq(all));
}

/// The last segment made room for a keyframe that the disk then refused; the next ack panicked.
#[test]
fn s4_a_spool_whose_only_segment_went_for_one_that_could_not_begin_goes_on() {
    let mut rig = Rig::new(LIMITS);
    rig.append(true, 5000);
    rig.disk.fail_sync(true);
    assert_eq!(rig.append(true, 5000).kept, Kept::Memory);
    rig.spool.acked(rig.appended[0].end()).unwrap();
    rig.disk.fail_sync(false);
    assert_eq!(rig.append(false, 20).kept, Kept::Disk);
    let read = read_all(&mut rig.spool, rig.appended[1].start());
    assert!(read.into_iter().map(|r| r.entry).eq(rig.appended[1..].iter().cloned()));
}

/// What a killed process had written was not forced by its successor, whose [`Synced`] named it all the same.
#[test]
fn s5_what_a_killed_process_had_not_forced_is_forced_at_opening() {
    let mut rig = Rig::new(Limits { fsync: FsyncPolicy::Segment, ..ROOMY });
    rig.append(true, 20);
    rig.append(false, 20);
    let (_, found) = Spool::open(Box::new(rig.disk.clone()), ROOMY).unwrap();
    assert_eq!(found.entries, 2);
    let (_, found) = Spool::open(Box::new(rig.disk.crashed(0, 0)), ROOMY).unwrap();
    assert_eq!(found.entries, 2);
}

/// The power goes after each change that an ack makes, and each name that was changed may be there early.
#[test]
fn s6_whenever_the_power_goes_during_an_ack_the_cursor_covers_what_is_gone() {
    for changes in 0..14 {
        for names in 0..32_u64 {
            let mut rig = Rig::new(LIMITS);
            for i in 0..40 {
                rig.append(i % 10 == 0, 100);
            }
            let oldest = read_all(&mut rig.spool, Position::default())[0].entry.start();
            rig.disk.power_for(Some(changes));
            let from = rig.appended[35].start();
            let freed = rig.spool.acked(from).unwrap_or(0);
            assert!(freed > 0 || changes < 13, "there is something to free");
            let (mut spool, found) = Spool::open(Box::new(rig.disk.crashed(0, names)), LIMITS).unwrap();
            let read: Vec<Entry> = read_all(&mut spool, Position::default()).into_iter().map(|r| r.entry).collect();
            let at = found.acked.unwrap_or(oldest);
            let mut needed = rig.appended.iter().filter(|e| e.start() >= at);
            assert!(needed.all(|e| read.contains(e)), "power for {changes} changes, names {names:b}");
        }
    }
}

/// They were written into a segment of the new epoch, under its number.
#[test]
fn s7_entries_that_wait_in_memory_when_an_epoch_ends_are_written_under_their_own() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 20);
    rig.disk.set_room(Some(0));
    rig.append(true, 20);
    rig.append(false, 20);
    rig.next_epoch();
    rig.append(true, 20);
    assert_eq!(
        rig.spool.epochs().iter().map(|e| (e.label, e.next_seq)).collect::<Vec<_>>(),
        [(label(1), 3), (label(2), 1)]
    );
    assert_eq!(rig.spool.last_entry(1).unwrap(), Some(rig.appended[2].clone()));
    rig.disk.set_room(None);
    rig.append(false, 20);
    for spool in [&mut rig.spool, &mut Spool::open(Box::new(rig.disk.clone()), ROOMY).unwrap().0] {
        assert_eq!(spool.bytes().1, 0);
        assert!(read_all(spool, Position::default()).into_iter().map(|r| r.entry).eq(rig.appended.iter().cloned()));
    }
}
