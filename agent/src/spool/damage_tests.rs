//! What is left after damage: every cut, every byte, blocks, files. The rule for all of it: no panic, nothing that was
//! not written, nothing lost of what came before the damage, reading goes on at the next keyframe. The fake disk and a
//! real directory are put to the same tests.
//!
//! `PROPTEST_RNG_SEED` and `PROPTEST_CASES` make other and longer campaigns of the random ones.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::Index;

use super::disk::{Disk, PrivateDir};
use super::fake::FakeDisk;
use super::store_tests::{LIMITS, ROOMY, Rig, label, read_all};
use super::*;

type Files = BTreeMap<String, Vec<u8>>;

/// What one entry became: its file, where its frame ends, and the entry.
struct Written {
    name: String,
    end: usize,
    entry: Entry,
}

/// A spool of three epochs, a segment each, with a cursor, and where each entry lies.
fn small_spool() -> (Files, Vec<Written>) {
    let mut rig = Rig::new(LIMITS);
    let mut written = Vec::new();
    for i in 0..24_usize {
        if i == 9 || i == 17 {
            rig.next_epoch();
        }
        let before: Files = rig.disk.contents();
        rig.append(i % 4 == 0, 3 + i);
        let after = rig.disk.contents();
        let (name, bytes) = after.into_iter().find(|(name, bytes)| before.get(name) != Some(bytes)).unwrap();
        written.push(Written { name, end: bytes.len(), entry: rig.appended[i].clone() });
    }
    // An ack in the middle of the first segment: the cursor is stored when the spool is closed.
    rig.spool.acked(rig.appended[2].start()).unwrap();
    rig.spool.close(0);
    let files = rig.disk.contents();
    assert!(
        files.keys().filter(|n| n.ends_with(".seg")).count() >= 3 && files.contains_key("cursor"),
        "{:?}",
        files.keys()
    );
    (files, written)
}

/// Opens what is left and reads it, then puts more into it: that must all be there, too.
fn reopened(disk: Box<dyn Disk>) -> Vec<Entry> {
    let (mut spool, _) = Spool::open(disk, ROOMY).unwrap();
    let read: Vec<Entry> = read_all(&mut spool, Position::default()).into_iter().map(|r| r.entry).collect();
    let epoch_no = 9;
    spool.begin_epoch(label(epoch_no)).unwrap();
    let entry = |seq, keyframe| Entry { epoch_no, first_seq: seq, last_seq: seq, keyframe, bytes: vec![9; 9] };
    let more = [entry(0, true), entry(1, false)];
    for one in &more {
        assert_eq!(spool.append(one.clone(), 0).unwrap().kept, Kept::Disk);
    }
    let all: Vec<Entry> = read_all(&mut spool, Position::default()).into_iter().map(|r| r.entry).collect();
    assert_eq!(all, [&read[..], &more[..]].concat(), "what follows damage is whole");
    read
}

/// No entry that was not written, each once and in order, none without its base; and all that `kept` says.
fn assert_left(read: &[Entry], written: &[Written], kept: impl Fn(&Written) -> bool, what: &str) {
    let mut at = 0;
    for (i, entry) in read.iter().enumerate() {
        let found = written[at..].iter().position(|w| w.entry == *entry);
        let skipped = found.unwrap_or_else(|| panic!("{what}: {entry:?} was never written, or is out of order"));
        assert!((skipped == 0 && i > 0) || entry.keyframe, "{what}: {entry:?} has lost its base");
        at += skipped + 1;
    }
    for one in written.iter().filter(|w| kept(w)) {
        assert!(read.contains(&one.entry), "{what}: {:?} was lost", one.entry);
    }
}

/// Whether an entry lies before byte `at` of that file, or in another.
fn before(written: &Written, name: &str, at: usize) -> bool {
    written.name != name || written.end <= at
}

/// Makes a disk of files: in memory, or in a directory.
type Make<'a> = &'a mut dyn FnMut(&Files) -> Box<dyn Disk>;

fn in_memory() -> impl FnMut(&Files) -> Box<dyn Disk> {
    |files: &Files| Box::new(FakeDisk::with(files)) as Box<dyn Disk>
}

fn in_directory(path: &Path) -> impl FnMut(&Files) -> Box<dyn Disk> {
    move |files: &Files| {
        let mut disk = PrivateDir::create(path).unwrap();
        for (name, _) in disk.list().unwrap() {
            disk.remove(&name).unwrap();
        }
        for (name, bytes) in files {
            disk.create(name).unwrap();
            disk.append(name, bytes).unwrap();
        }
        Box::new(disk)
    }
}

/// The cursor and the last segment: enough where each file is forced to a device.
fn last_files(name: &str) -> bool {
    name == "cursor" || name == segment::name(3)
}

fn every_cut(make: Make<'_>, of: fn(&str) -> bool) {
    let (files, written) = small_spool();
    for (name, bytes) in files.iter().filter(|(name, _)| of(name)) {
        for len in 0..=bytes.len() {
            let mut cut = files.clone();
            cut.insert(name.clone(), bytes[..len].to_vec());
            let what = format!("{name} cut to {len} bytes");
            assert_left(&reopened(make(&cut)), &written, |w| before(w, name, len), &what);
        }
    }
}

fn every_byte(make: Make<'_>, of: fn(&str) -> bool, changes: &[u8]) {
    let (files, written) = small_spool();
    for (name, bytes) in files.iter().filter(|(name, _)| of(name)) {
        for at in 0..bytes.len() {
            for change in changes {
                let mut flipped = files.clone();
                flipped.get_mut(name).unwrap()[at] ^= change;
                let what = format!("{name}: byte {at} ^ {change:#04x}");
                let read = reopened(make(&flipped));
                assert_left(&read, &written, |w| before(w, name, at), &what);
                // In a payload it costs the entry and what builds on it; in a segment's header all of the segment.
                if !name.ends_with(".seg") || at < segment::HEADER {
                    continue;
                }
                let hit = written.iter().position(|w| w.name == *name && at < w.end).unwrap();
                let payload = written[hit].end - written[hit].entry.bytes.len();
                let next =
                    written[hit + 1..].iter().position(|w| w.entry.keyframe).map_or(written.len(), |n| hit + 1 + n);
                if at >= payload {
                    let left: Vec<&Entry> = written[..hit].iter().chain(&written[next..]).map(|w| &w.entry).collect();
                    assert_eq!(read.iter().collect::<Vec<_>>(), left, "{what}");
                }
            }
        }
    }
}

#[test]
fn s2_s3_every_cut_of_every_file_leaves_what_came_before_it_in_memory_and_in_a_directory() {
    every_cut(&mut in_memory(), |_| true);
    let dir = tempfile::tempdir().unwrap();
    every_cut(&mut in_directory(&dir.path().join("spool")), last_files);
}

#[test]
fn s2_every_flipped_byte_of_every_file_leaves_what_came_before_it_in_memory_and_in_a_directory() {
    every_byte(&mut in_memory(), |_| true, &[0x01, 0x80, 0xff, 0x2a]);
    let dir = tempfile::tempdir().unwrap();
    every_byte(&mut in_directory(&dir.path().join("spool")), last_files, &[0xff]);
}

#[test]
fn s2_whatever_byte_the_device_refuses_the_spool_opens_and_has_what_came_before_it() {
    let (files, written) = small_spool();
    for (name, bytes) in &files {
        for at in 0..bytes.len() {
            let disk = FakeDisk::with(&files);
            disk.spoil(name, at as u64..at as u64 + 1);
            let what = format!("{name}: byte {at} is refused");
            let (_, found) = Spool::open(Box::new(disk.clone()), ROOMY).unwrap();
            assert_eq!(found.damaged > 0, name.ends_with(".seg"), "{what}: {found:?}");
            assert_left(&reopened(Box::new(disk)), &written, |w| before(w, name, at), &what);
        }
    }
}

#[test]
fn s2_a_device_that_refuses_everything_but_names_still_lets_the_spool_open() {
    let (files, _) = small_spool();
    let disk = FakeDisk::with(&files);
    for (name, bytes) in &files {
        disk.spoil(name, 0..bytes.len() as u64);
    }
    for fault in [fake::Fault::Truncate, fake::Fault::Remove, fake::Fault::Rename] {
        disk.fail(fault, true);
    }
    disk.fail_sync(true);
    let (mut spool, found) = Spool::open(Box::new(disk.clone()), ROOMY).unwrap();
    assert!(found.damaged >= 3 && spool.trouble().is_some());
    assert_eq!(read_all(&mut spool, Position::default()), []);
    // A shortage is no damage: another start has all of it.
    let disk = FakeDisk::with(&files);
    disk.fail_reads(Some(std::io::ErrorKind::OutOfMemory));
    assert!(Spool::open(Box::new(disk.clone()), ROOMY).is_err());
    assert_eq!(disk.contents(), files);
}

/// Damage of more than a byte.
#[derive(Clone, Debug)]
enum Damage {
    /// Bytes of any kind in place of others.
    Noise {
        file: Index,
        at: Index,
        noise: Vec<u8>,
    },
    /// A block that was never written.
    Zeros {
        file: Index,
        at: Index,
        len: usize,
    },
    /// A block written to a second place, of the same file or of another.
    Copy {
        from: Index,
        start: Index,
        len: usize,
        to: Index,
        at: Index,
    },
    /// More bytes at the end.
    Longer {
        file: Index,
        noise: Vec<u8>,
    },
    Swapped {
        one: Index,
        other: Index,
    },
    Duplicated {
        file: Index,
        number: u64,
    },
    Renamed {
        file: Index,
        number: u64,
    },
    Removed {
        file: Index,
    },
    Foreign {
        name: String,
        noise: Vec<u8>,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    let noise = || proptest::collection::vec(any::<u8>(), 1..200);
    let foreign = prop_oneof![
        Just("cursor".to_owned()),
        Just("cursor.new".to_owned()),
        Just("notes.txt".to_owned()),
        Just("0000000000000001.SEG".to_owned()),
        (0_u64..40).prop_map(segment::name),
        Just(segment::name(u64::MAX - 9)),
    ];
    prop_oneof![
        (index(), index(), noise()).prop_map(|(file, at, noise)| Damage::Noise { file, at, noise }),
        (index(), index(), 1_usize..600).prop_map(|(file, at, len)| Damage::Zeros { file, at, len }),
        (index(), index(), 1_usize..600, index(), index()).prop_map(|(from, start, len, to, at)| Damage::Copy {
            from,
            start,
            len,
            to,
            at
        }),
        (index(), noise()).prop_map(|(file, noise)| Damage::Longer { file, noise }),
        (index(), index()).prop_map(|(one, other)| Damage::Swapped { one, other }),
        (index(), 0_u64..40).prop_map(|(file, number)| Damage::Duplicated { file, number }),
        (index(), 0_u64..40).prop_map(|(file, number)| Damage::Renamed { file, number }),
        index().prop_map(|file| Damage::Removed { file }),
        (foreign, noise()).prop_map(|(name, noise)| Damage::Foreign { name, noise }),
    ]
}

/// Files, and from which byte on each of them is touched.
struct Harmed {
    files: Files,
    touched: BTreeMap<String, usize>,
}

impl Harmed {
    fn name(&self, index: &Index) -> String {
        index.get(&self.files.keys().cloned().collect::<Vec<_>>()).clone()
    }

    fn touch(&mut self, name: &str, at: usize) {
        let first = self.touched.entry(name.to_owned()).or_insert(at);
        *first = at.min(*first);
    }

    /// Puts bytes over others and behind them.
    fn overwrite(&mut self, name: String, at: usize, bytes: &[u8]) {
        self.touch(&name, at);
        let file = self.files.entry(name).or_default();
        let to = file.len().min(at + bytes.len());
        file.splice(at.min(to)..to, bytes.iter().copied());
    }

    /// Puts a file where there is none, or another.
    fn put(&mut self, name: String, bytes: Vec<u8>) {
        self.touch(&name, 0);
        self.files.insert(name, bytes);
    }

    fn harm(&mut self, damage: Damage) {
        match damage {
            Damage::Foreign { name, noise } => self.put(name, noise),
            _ if self.files.is_empty() => {}
            Damage::Noise { file, at, noise } => {
                let name = self.name(&file);
                self.overwrite(name.clone(), at.index(self.files[&name].len() + 1), &noise);
            }
            Damage::Zeros { file, at, len } => {
                let name = self.name(&file);
                self.overwrite(name.clone(), at.index(self.files[&name].len() + 1), &vec![0; len]);
            }
            Damage::Copy { from, start, len, to, at } => {
                let (from, to) = (self.files[&self.name(&from)].clone(), self.name(&to));
                let start = start.index(from.len() + 1);
                let at = at.index(self.files[&to].len() + 1);
                self.overwrite(to, at, &from[start..from.len().min(start + len)]);
            }
            Damage::Longer { file, noise } => {
                let name = self.name(&file);
                self.overwrite(name.clone(), self.files[&name].len(), &noise);
            }
            Damage::Swapped { one, other } => {
                let (one, other) = (self.name(&one), self.name(&other));
                let (a, b) = (self.files[&one].clone(), self.files[&other].clone());
                if one != other {
                    self.put(one, b);
                    self.put(other, a);
                }
            }
            Damage::Duplicated { file, number } => {
                let (name, bytes) = (self.name(&file), self.files[&self.name(&file)].clone());
                if name != segment::name(number) {
                    self.put(segment::name(number), bytes);
                }
            }
            Damage::Renamed { file, number } => {
                let name = self.name(&file);
                if name != segment::name(number) {
                    self.touch(&name, 0);
                    let bytes = self.files.remove(&name).unwrap();
                    self.put(segment::name(number), bytes);
                }
            }
            Damage::Removed { file } => {
                let name = self.name(&file);
                self.touch(&name, 0);
                self.files.remove(&name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s2_damage_of_any_kind_leaves_what_came_before_it_in_memory_and_in_a_directory(
        damages in proptest::collection::vec(damage(), 1..5)
    ) {
        let (files, written) = small_spool();
        let mut harmed = Harmed { files, touched: BTreeMap::new() };
        damages.into_iter().for_each(|one| harmed.harm(one));
        let Harmed { files, touched } = harmed;
        let kept = |w: &Written| touched.get(&w.name).is_none_or(|at| w.end <= *at);
        let foreign = |files: &Files| files.keys().filter(|n| !n.ends_with(".seg") && !n.ends_with(".new")).count();
        let memory = FakeDisk::with(&files);
        let read = reopened(Box::new(memory.clone()));
        assert_left(&read, &written, kept, "in memory");
        prop_assert_eq!(foreign(&memory.contents()), foreign(&files), "other files are let alone");
        let dir = tempfile::tempdir().unwrap();
        prop_assert_eq!(reopened(in_directory(&dir.path().join("spool"))(&files)), read, "a directory is no other");
    }
}
