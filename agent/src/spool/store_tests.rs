//! The spool against a model of a few lines: what was appended, in order.

use std::io::ErrorKind;

use proptest::prelude::*;

use super::fake::FakeDisk;
use super::frame::{Entry, Position};
use super::segment::Label;
use super::*;

pub(super) const LIMITS: Limits = Limits { bytes: 8 << 10, fsync: FsyncPolicy::Every };
pub(super) const ROOMY: Limits = Limits { bytes: 64 << 20, fsync: FsyncPolicy::Every };

pub(super) fn label(epoch_no: u64) -> Label {
    Label { epoch_no, tag: [7; 24] }
}

fn open(disk: &FakeDisk, limits: Limits) -> Spool {
    Spool::open(Box::new(disk.clone()), limits).unwrap().0
}

/// A spool and what was put into it.
pub(super) struct Rig {
    pub(super) disk: FakeDisk,
    pub(super) spool: Spool,
    limits: Limits,
    pub(super) appended: Vec<Entry>,
    epoch_no: u64,
    seq: u64,
}

impl Rig {
    pub(super) fn new(limits: Limits) -> Self {
        let disk = FakeDisk::default();
        let spool = open(&disk, limits);
        let mut rig = Self { disk, spool, limits, appended: Vec::new(), epoch_no: 0, seq: 0 };
        rig.next_epoch();
        rig
    }

    pub(super) fn next_epoch(&mut self) {
        (self.epoch_no, self.seq) = (self.epoch_no + 1, 0);
        self.spool.begin_epoch(label(self.epoch_no)).unwrap();
    }

    fn reopen(&mut self) {
        self.spool = open(&self.disk, self.limits);
        self.next_epoch();
    }

    /// Appends as an agent does: a keyframe where one is due or wanted.
    pub(super) fn append(&mut self, keyframe: bool, len: usize) -> Appended {
        let fill = u8::try_from(self.appended.len() % 251).unwrap();
        let entry = Entry {
            epoch_no: self.epoch_no,
            first_seq: self.seq,
            last_seq: self.seq,
            keyframe: keyframe || self.spool.keyframe_due().is_some(),
            bytes: vec![fill; len],
        };
        self.seq += 1;
        self.appended.push(entry.clone());
        self.spool.append(entry, 0).unwrap()
    }

    fn at(&self, index: usize) -> Position {
        self.appended[index].start()
    }
}

pub(super) fn read_all(spool: &mut Spool, from: Position) -> Vec<Read> {
    let mut reader = Reader::new(from);
    std::iter::from_fn(|| spool.read(&mut reader)).collect()
}

fn entries(spool: &mut Spool, from: Position) -> Vec<Entry> {
    read_all(spool, from).into_iter().map(|r| r.entry).collect()
}

/// What may be read of `appended`: a part of it in order, in which whoever follows a hole is a keyframe.
fn assert_sound(read: &[Read], appended: &[Entry]) {
    let mut at = 0;
    for (i, one) in read.iter().enumerate() {
        let found = appended[at..].iter().position(|e| *e == one.entry);
        let skipped = found.unwrap_or_else(|| panic!("{:?} was never appended, or out of order", one.entry));
        assert!(skipped == 0 || one.entry.keyframe, "{:?} has lost its base", one.entry);
        assert!(i > 0 || one.entry.keyframe);
        at += skipped + 1;
    }
}

#[test]
fn s1_an_entry_that_cannot_be_read_alone_is_refused_where_a_segment_must_begin() {
    let mut rig = Rig::new(ROOMY);
    let delta = Entry { epoch_no: 1, first_seq: 0, last_seq: 0, keyframe: false, bytes: vec![] };
    assert!(matches!(rig.spool.append(delta.clone(), 0), Err(SpoolError::NeedsKeyframe { .. })));
    rig.append(true, 10);
    let jumped = Entry { first_seq: 5, last_seq: 5, ..delta.clone() };
    assert!(matches!(rig.spool.append(jumped, 0), Err(SpoolError::NeedsKeyframe { .. })));
    assert!(matches!(rig.spool.append(delta, 0), Err(SpoolError::OutOfOrder { .. })));
    let other = Entry { epoch_no: 2, first_seq: 1, last_seq: 1, keyframe: true, bytes: vec![] };
    assert!(matches!(rig.spool.append(other, 0), Err(SpoolError::OutOfOrder { .. })));
}

#[test]
fn s1_a_segment_asks_for_a_keyframe_at_one_mebibyte_or_twice_its_first_frame() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 100);
    for _ in 0..10 {
        rig.append(false, 100 << 10);
    }
    assert_eq!(rig.spool.keyframe_due(), None);
    rig.append(false, 100 << 10);
    assert_eq!(rig.spool.keyframe_due(), Some(KeyframeDue::Segment));
    rig.append(true, 3 << 20);
    for _ in 0..3 {
        assert_eq!(rig.spool.keyframe_due(), None);
        rig.append(false, 1 << 20);
    }
    assert_eq!(rig.spool.keyframe_due(), Some(KeyframeDue::Segment));
    let all = rig.appended.clone();
    assert_eq!(entries(&mut rig.spool, Position::default()), all);
}

#[test]
fn s2_a_reader_goes_on_while_entries_are_appended_and_segments_freed() {
    let mut rig = Rig::new(LIMITS);
    let mut reader = Reader::new(Position::default());
    for i in 0..200 {
        rig.append(i % 7 == 0, 100);
        let read = rig.spool.read(&mut reader).unwrap();
        assert_eq!((read.entry, read.hole), (rig.appended[i].clone(), None));
        assert_eq!(rig.spool.read(&mut reader), None);
        if i % 3 == 0 {
            rig.spool.acked(reader.position()).unwrap();
        }
    }
    assert!(rig.disk.contents().len() < 10);
}

#[test]
fn s2_the_last_entry_of_each_epoch_is_found() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 5);
    let first = rig.append(false, 6).next;
    rig.reopen();
    rig.append(true, 7);
    assert_eq!(rig.spool.last_entry(1).unwrap(), Some(rig.appended[1].clone()));
    assert_eq!(rig.spool.last_entry(2).unwrap(), Some(rig.appended[2].clone()));
    assert_eq!(rig.spool.last_entry(3).unwrap(), None);
    let epochs = rig.spool.epochs();
    assert_eq!(epochs.len(), 2);
    assert_eq!((epochs[0].label, epochs[0].first_seq, epochs[0].next_seq), (label(1), 0, first.seq));
}

#[test]
fn s3_truncation_at_any_byte_of_the_last_entry_loses_that_entry_alone() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 20);
    rig.append(false, 9);
    let before = rig.disk.contents();
    let (name, whole) = before.iter().next().unwrap();
    rig.append(false, 17);
    let after = &rig.disk.contents()[name];
    for len in whole.len()..after.len() {
        let mut contents = before.clone();
        contents.insert(name.clone(), after[..len].to_vec());
        let disk = FakeDisk::with(&contents);
        let (mut spool, found) = Spool::open(Box::new(disk.clone()), ROOMY).unwrap();
        assert_eq!(entries(&mut spool, Position::default()), rig.appended[..2]);
        assert_eq!((found.damaged, disk.contents()[name].len()), (0, whole.len()), "cut at {len}");
    }
}

#[test]
fn s3_a_segment_without_a_whole_keyframe_is_removed_and_its_number_not_used_again() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 20);
    let (name, bytes) = rig.disk.contents().into_iter().next().unwrap();
    for len in 0..bytes.len() {
        let disk = FakeDisk::with(&[(name.clone(), bytes[..len].to_vec())].into());
        let mut spool = open(&disk, ROOMY);
        assert_eq!(entries(&mut spool, Position::default()), []);
        assert!(disk.contents().is_empty());
        spool.begin_epoch(label(2)).unwrap();
        let entry = Entry { epoch_no: 2, first_seq: 0, last_seq: 0, keyframe: true, bytes: vec![] };
        spool.append(entry, 0).unwrap();
        assert_ne!(disk.contents().keys().next(), Some(&name));
    }
}

#[test]
fn s4_overflow_drops_whole_oldest_segments_and_tells_the_reader() {
    let mut rig = Rig::new(LIMITS);
    let mut dropped = 0;
    for i in 0..300 {
        let answer = rig.append(i % 10 == 0, 100);
        dropped += usize::from(answer.dropped.is_some());
        assert!(rig.spool.bytes().0 <= LIMITS.bytes);
    }
    assert!(dropped > 0);
    let read = read_all(&mut rig.spool, Position { epoch_no: 1, seq: 0 });
    assert_eq!(read[0].hole, Some(Hole::Overflow));
    assert!(read[1..].iter().all(|r| r.hole.is_none()));
    assert_sound(&read, &rig.appended);
    assert_eq!(read.last().map(|r| &r.entry), rig.appended.last());
    // The same after a restart: only overflow takes what was never acknowledged.
    let read = read_all(&mut open(&rig.disk, LIMITS), Position { epoch_no: 1, seq: 0 });
    assert_eq!(read[0].hole, Some(Hole::Overflow));
}

#[test]
fn s4_an_entry_larger_than_the_spool_is_dropped_and_said() {
    let mut rig = Rig::new(LIMITS);
    let answer = rig.append(true, 9000);
    assert_eq!((answer.kept, answer.dropped.unwrap().from.seq), (Kept::Nowhere, 0));
    assert_eq!(rig.spool.keyframe_due(), Some(KeyframeDue::Overflow));
    assert_eq!(rig.append(true, 10).kept, Kept::Disk);
}

#[test]
fn s5_the_weaker_policies_lose_what_they_say() {
    let policies =
        [(FsyncPolicy::Every, 3), (FsyncPolicy::Second, 2), (FsyncPolicy::Segment, 1), (FsyncPolicy::Unacked, 1)];
    for (fsync, survive) in policies {
        let mut rig = Rig::new(Limits { fsync, ..ROOMY });
        let entry = |seq| Entry { epoch_no: 1, first_seq: seq, last_seq: seq, keyframe: seq == 0, bytes: vec![1; 10] };
        for (seq, now_us) in [(0, 0), (1, 1_500_000), (2, 1_600_000)] {
            rig.spool.append(entry(seq), now_us).unwrap();
        }
        rig.disk.crash(0);
        assert_eq!(entries(&mut open(&rig.disk, ROOMY), Position::default()).len(), survive, "{fsync:?}");
    }
}

#[test]
fn s5_what_no_collector_acknowledged_is_forced_after_two_seconds_and_what_one_did_is_not() {
    for (acked, survive) in [(false, 4), (true, 1)] {
        let mut rig = Rig::new(Limits { fsync: FsyncPolicy::Unacked, ..ROOMY });
        let entry = |seq| Entry { epoch_no: 1, first_seq: seq, last_seq: seq, keyframe: seq == 0, bytes: vec![1; 10] };
        for seq in 0..4 {
            rig.spool.append(entry(seq), 5_000_000 + seq * 1_000_000).unwrap();
            if acked {
                rig.spool.acked(Position { epoch_no: 1, seq: seq + 1 }).unwrap();
            }
        }
        rig.disk.crash(0);
        assert_eq!(entries(&mut open(&rig.disk, ROOMY), Position::default()).len(), survive, "acked: {acked}");
    }
    // Samples that are far apart are worth a force each.
    let mut rig = Rig::new(Limits { fsync: FsyncPolicy::Unacked, ..ROOMY });
    for seq in 0..3 {
        let entry = Entry { epoch_no: 1, first_seq: seq, last_seq: seq, keyframe: seq == 0, bytes: vec![1; 10] };
        assert!(rig.spool.append(entry, seq * 2_000_000).unwrap().synced.is_some());
    }
}

#[test]
fn s5_a_device_that_fails_to_force_is_not_trusted_with_more_in_that_segment() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 10);
    rig.disk.fail_sync(true);
    let answer = rig.append(false, 10);
    assert_eq!((answer.synced, answer.kept), (None, Kept::Disk));
    assert!(rig.spool.trouble().is_some());
    assert_eq!(rig.spool.keyframe_due(), Some(KeyframeDue::Segment));
    rig.disk.fail_sync(false);
    assert!(rig.append(true, 10).synced.is_some());
    assert!(rig.spool.trouble().is_none());
    let all = rig.appended.clone();
    assert_eq!(entries(&mut rig.spool, Position::default()), all);
}

#[test]
fn s6_nothing_is_unlinked_before_the_cursor_is_durable() {
    let mut rig = Rig::new(LIMITS);
    for i in 0..40 {
        rig.append(i % 10 == 0, 100);
    }
    let all = rig.disk.contents();
    rig.disk.fail_sync(true);
    assert!(rig.spool.acked(rig.at(35)).is_err());
    assert!(all.keys().all(|name| rig.disk.contents().contains_key(name)));
    rig.disk.fail_sync(false);
    assert!(rig.spool.acked(rig.at(36)).unwrap() > 0);
    rig.disk.crash(0);
    let (mut spool, found) = Spool::open(Box::new(rig.disk.clone()), LIMITS).unwrap();
    assert_eq!(found.acked, Some(rig.at(36)));
    let read = entries(&mut spool, rig.at(36));
    assert_eq!(read, rig.appended[36..]);
}

#[test]
fn s6_a_disk_too_full_for_a_cursor_still_gets_room_by_acks() {
    let mut rig = Rig::new(LIMITS);
    for i in 0..40 {
        rig.append(i % 10 == 0, 100);
    }
    rig.disk.set_room(Some(0));
    assert!(rig.spool.acked(rig.at(35)).unwrap() > 0);
    let from = rig.at(35);
    let read = entries(&mut rig.spool, from);
    assert_eq!(read, rig.appended[35..]);
}

#[test]
fn s6_a_quota_that_is_used_up_still_gets_room_by_acks() {
    let mut rig = Rig::new(LIMITS);
    for i in 0..40 {
        rig.append(i % 10 == 0, 100);
    }
    rig.disk.fail_full(ErrorKind::QuotaExceeded);
    rig.disk.set_room(Some(0));
    assert!(rig.spool.acked(rig.at(35)).unwrap() > 0);
}

#[test]
fn s7_a_full_disk_is_bridged_in_memory_and_written_out_when_there_is_room() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 100);
    rig.disk.set_room(Some(50));
    for _ in 0..10 {
        assert_eq!(rig.append(false, 100).kept, Kept::Memory);
    }
    assert!(rig.spool.trouble().is_some());
    let all = rig.appended.clone();
    assert_eq!(entries(&mut rig.spool, Position::default()), all);
    rig.disk.set_room(None);
    assert_eq!(rig.append(false, 100).kept, Kept::Disk);
    assert_eq!(rig.spool.bytes().1, 0);
    let read = entries(&mut open(&rig.disk, ROOMY), Position::default());
    assert_eq!(read, rig.appended);
}

#[test]
fn s7_beyond_four_mebibytes_all_of_them_go_and_a_keyframe_says_so() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 100);
    rig.disk.set_room(Some(0));
    let mut last = rig.append(false, 1 << 20);
    while last.kept == Kept::Memory {
        assert!(rig.spool.bytes().1 <= 4 << 20);
        last = rig.append(false, 1 << 20);
    }
    assert_eq!(last.dropped.map(|d| (d.from.seq, d.to)), Some((1, last.next)));
    assert_eq!((rig.spool.keyframe_due(), rig.spool.bytes().1), (Some(KeyframeDue::Overflow), 0));
    rig.disk.set_room(None);
    assert_eq!(rig.append(true, 10).kept, Kept::Disk);
    let read = read_all(&mut rig.spool, Position::default());
    assert_eq!(read.iter().map(|r| r.hole.is_some()).collect::<Vec<_>>(), [false, true]);
    assert_sound(&read, &rig.appended);
}

#[test]
fn s7_entries_acked_from_memory_leave_a_disk_that_goes_on_with_a_keyframe() {
    let mut rig = Rig::new(ROOMY);
    rig.append(true, 100);
    rig.disk.set_room(Some(0));
    rig.append(false, 100);
    rig.append(false, 100);
    rig.spool.acked(rig.at(2)).unwrap();
    rig.disk.set_room(None);
    assert_eq!(rig.spool.keyframe_due(), Some(KeyframeDue::Segment));
    assert_eq!(rig.append(false, 100).kept, Kept::Memory);
    let end = rig.append(false, 100).next;
    let from = rig.at(2);
    let read = entries(&mut rig.spool, from);
    assert_eq!(read, rig.appended[2..]);
    rig.spool.acked(end).unwrap();
    assert_eq!(rig.append(false, 100).kept, Kept::Disk);
}

/// What happens to a spool.
#[derive(Clone, Debug)]
enum Op {
    Append { keyframe: bool, len: usize },
    Ack { back: usize },
    Read { many: usize },
    Reopen,
    Crash { torn: usize },
    Room { bytes: Option<usize> },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (any::<bool>(), 0_usize..400).prop_map(|(keyframe, len)| Op::Append { keyframe, len }),
        2 => (0_usize..20).prop_map(|back| Op::Ack { back }),
        2 => (0_usize..20).prop_map(|many| Op::Read { many }),
        1 => Just(Op::Reopen),
        1 => (0_usize..500).prop_map(|torn| Op::Crash { torn }),
        1 => proptest::option::of(0_usize..2000).prop_map(|bytes| Op::Room { bytes }),
    ];
    proptest::collection::vec(op, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// S2, S4, S5: whatever happens, what is read is what was appended, in order, and with fsync on every entry a
    /// crash loses none that was on disk.
    #[test]
    fn s2_s4_s5_what_is_read_is_what_was_appended(ops in ops()) {
        let mut rig = Rig::new(LIMITS);
        let mut reader = Reader::new(Position::default());
        let mut seen: Vec<Read> = Vec::new();
        for op in ops {
            match op {
                Op::Append { keyframe, len } => {
                    let answer = rig.append(keyframe, len);
                    if answer.kept == Kept::Disk {
                        prop_assert_eq!(answer.synced.map(Synced::position), Some(answer.next));
                    }
                }
                Op::Ack { back } => {
                    let read = seen.len().saturating_sub(back);
                    if let Some(last) = seen[..read].last() {
                        // A disk without room may refuse the cursor; the ack then counts in memory alone.
                        let _ = rig.spool.acked(last.entry.end());
                    }
                }
                Op::Read { many } => seen.extend((0..many).map_while(|_| rig.spool.read(&mut reader))),
                Op::Room { bytes } => rig.disk.set_room(bytes),
                Op::Reopen | Op::Crash { .. } => {
                    let on_disk = rig.spool.epochs().iter().map(|e| e.next_seq).sum::<u64>();
                    let in_memory = rig.spool.bytes().1 > 0;
                    if let Op::Crash { torn } = op {
                        rig.disk.crash(torn);
                    }
                    rig.disk.set_room(None);
                    rig.reopen();
                    let now = rig.spool.epochs().iter().map(|e| e.next_seq).sum::<u64>();
                    prop_assert!(in_memory || now == on_disk, "{} positions became {}", on_disk, now);
                    let from = seen.last().map_or(Position::default(), |r| r.entry.end());
                    reader = Reader::new(from);
                }
            }
            prop_assert!(rig.spool.bytes().0 <= LIMITS.bytes);
            prop_assert!(rig.spool.bytes().1 <= 4 << 20);
        }
        seen.extend(std::iter::from_fn(|| rig.spool.read(&mut reader)));
        assert_sound(&seen, &rig.appended);
    }

    /// S2: whatever byte is changed, nothing is made up and reading resumes at a keyframe.
    #[test]
    fn s2_a_changed_byte_anywhere_costs_at_most_up_to_the_next_keyframe_that_can_be_found(
        file in 0_usize..4, at in any::<proptest::sample::Index>(), change in 1_u8..=255
    ) {
        let mut rig = Rig::new(LIMITS);
        for i in 0..40 {
            rig.append(i % 6 == 0, 90);
        }
        let names: Vec<String> = rig.disk.contents().into_keys().filter(|n| n.ends_with(".seg")).collect();
        let name = &names[file % names.len()];
        let before = recover::scan(&mut rig.disk.clone()).unwrap();
        let segment = before.segments.iter().find(|s| s.name() == *name).unwrap();
        let damaged = segment.first_seq..segment.next_seq;
        rig.disk.damage(name, |bytes| {
            let at = at.index(bytes.len());
            bytes[at] ^= change;
        });
        // While running, and after a restart.
        let running = read_all(&mut rig.spool, Position { epoch_no: 1, seq: 0 });
        let reopened = read_all(&mut open(&rig.disk, LIMITS), Position { epoch_no: 1, seq: 0 });
        for read in [running, reopened] {
            assert_sound(&read, &rig.appended);
            let holes = read.iter().filter(|r| r.hole == Some(Hole::Damaged)).count();
            let last_lost = read.last().map(|r| &r.entry) != rig.appended.last();
            prop_assert!(read.len() == rig.appended.len() || holes == 1 || last_lost);
            let elsewhere = rig.appended.iter().filter(|e| !damaged.contains(&e.first_seq));
            prop_assert!(elsewhere.into_iter().all(|e| read.iter().any(|r| r.entry == *e)));
        }
    }

    /// S2: bytes of any kind in the directory never panic and never become entries.
    #[test]
    fn s2_noise_is_no_entry(noise in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..200) {
        let mut rig = Rig::new(ROOMY);
        rig.append(true, 30);
        let (name, mut bytes) = rig.disk.contents().into_iter().next().unwrap();
        bytes.truncate(cut);
        bytes.extend(&noise);
        let disk = FakeDisk::with(&[(name, bytes), ("cursor".to_owned(), noise)].into());
        let read = read_all(&mut open(&disk, ROOMY), Position::default());
        assert_sound(&read, &rig.appended);
    }
}
