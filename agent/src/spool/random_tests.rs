//! Random histories of a spool on a disk that fails in every way a disk may, against a list of what was put in.
//!
//! `PROPTEST_RNG_SEED` and `PROPTEST_CASES` make other and longer campaigns of them.

use std::io::ErrorKind;

use proptest::prelude::*;

use super::fake::{FakeDisk, Fault};
use super::store_tests::{label, read_all};
use super::*;

/// What the list knows of an entry.
#[derive(Clone, Debug)]
struct Known {
    entry: Entry,
    /// It was dropped (or lies between others that were), or it went with a process or a machine.
    gone: bool,
    in_memory: bool,
    /// [`Synced`] was given for it.
    durable: bool,
    /// The device failed while it was to be forced: what [`Synced`] says later does not cover it.
    doubtful: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Append {
        keyframe: bool,
        skip: u64,
        span: u64,
        len: usize,
        after_us: u64,
    },
    /// The collector acknowledges a part of what was appended, in thousandths.
    Ack {
        part: usize,
    },
    Read {
        many: usize,
    },
    Sync,
    NextEpoch,
    /// The process is killed, or closes the spool in order.
    Reopen {
        close: bool,
    },
    /// The machine loses power.
    Crash {
        torn: usize,
        names: u64,
    },
    /// The power goes in the middle of what comes, and is back when the spool is opened again.
    Power {
        changes: usize,
    },
    Room {
        bytes: Option<usize>,
    },
    SyncFails {
        fails: bool,
    },
    Fails {
        fault: Fault,
        fails: bool,
    },
    /// Reads fail for less than three tries.
    ReadsFail {
        kind: ErrorKind,
        times: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![12 => 0_usize..400, 2 => 400_usize..4000, 1 => 4000_usize..9000];
    let skip = prop_oneof![9 => Just(0), 1 => 1_u64..5];
    let append = (any::<bool>(), skip, 0_u64..3, len, 0_u64..2_000_000);
    let fault = prop_oneof![Just(Fault::Create), Just(Fault::Truncate), Just(Fault::Rename), Just(Fault::Remove)];
    let kind = prop_oneof![Just(ErrorKind::InvalidData), Just(ErrorKind::OutOfMemory), Just(ErrorKind::Other)];
    prop_oneof![
        24 => append.prop_map(|(keyframe, skip, span, len, after_us)| Op::Append { keyframe, skip, span, len, after_us }),
        5 => (0_usize..=1000).prop_map(|part| Op::Ack { part }),
        4 => (0_usize..20).prop_map(|many| Op::Read { many }),
        1 => Just(Op::Sync),
        1 => Just(Op::NextEpoch),
        2 => any::<bool>().prop_map(|close| Op::Reopen { close }),
        2 => (0_usize..500, any::<u64>()).prop_map(|(torn, names)| Op::Crash { torn, names }),
        1 => (0_usize..12).prop_map(|changes| Op::Power { changes }),
        3 => proptest::option::of(0_usize..4000).prop_map(|bytes| Op::Room { bytes }),
        2 => any::<bool>().prop_map(|fails| Op::SyncFails { fails }),
        2 => (fault, any::<bool>()).prop_map(|(fault, fails)| Op::Fails { fault, fails }),
        1 => (kind, 1_usize..3).prop_map(|(kind, times)| Op::ReadsFail { kind, times }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let fsync = prop_oneof![
        Just(FsyncPolicy::Every),
        Just(FsyncPolicy::Second),
        Just(FsyncPolicy::Segment),
        Just(FsyncPolicy::Unacked)
    ];
    (prop_oneof![Just(8_u64 << 10), Just(100_u64 << 10)], fsync).prop_map(|(bytes, fsync)| Limits { bytes, fsync })
}

struct World {
    disk: FakeDisk,
    spool: Spool,
    limits: Limits,
    list: Vec<Known>,
    acked: Position,
    /// A disk too full for a cursor has let an acked segment go without one.
    full_ack: bool,
    full: bool,
    sync_fails: bool,
    powerless: bool,
    reader: Reader,
    at: Position,
    now_us: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        let disk = FakeDisk::default();
        let (spool, _) = Spool::open(Box::new(disk.clone()), limits).unwrap();
        let reader = Reader::new(Position::default());
        let mut world = Self {
            disk,
            spool,
            limits,
            list: Vec::new(),
            acked: Position::default(),
            full_ack: false,
            full: false,
            sync_fails: false,
            powerless: false,
            reader,
            at: Position::default(),
            now_us: 0,
        };
        world.next_epoch();
        world
    }

    fn next_epoch(&mut self) {
        self.at = Position { epoch_no: self.at.epoch_no + 1, seq: 0 };
        self.spool.begin_epoch(label(self.at.epoch_no)).unwrap();
        self.doubt();
    }

    /// While the device refuses to force, what is not durable yet may never be.
    fn doubt(&mut self) {
        for known in self.list.iter_mut().filter(|k| self.sync_fails && !k.durable) {
            known.doubtful = true;
        }
    }

    fn synced(&mut self, synced: Option<Synced>) {
        let Some(synced) = synced else { return };
        for known in &mut self.list {
            known.durable |= known.entry.end() <= synced.position() && !known.in_memory && !known.doubtful;
        }
    }

    /// Nothing waits in memory any more, as soon as the spool says so.
    fn flushed(&mut self) {
        if self.spool.bytes().1 == 0 {
            self.list.iter_mut().for_each(|k| k.in_memory = false);
        }
    }

    fn append(&mut self, keyframe: bool, skip: u64, span: u64, len: usize) {
        let keyframe = keyframe || self.spool.keyframe_due().is_some();
        let first_seq = self.at.seq + if keyframe { skip } else { 0 };
        let last_seq = first_seq + if keyframe { 0 } else { span };
        let fill = u8::try_from(self.list.len() % 251).unwrap();
        let entry = Entry { epoch_no: self.at.epoch_no, first_seq, last_seq, keyframe, bytes: vec![fill; len] };
        let known = Known { entry: entry.clone(), gone: false, in_memory: false, durable: false, doubtful: false };
        self.list.push(known);
        let answer = self.spool.append(entry, self.now_us).unwrap();
        self.at.seq = last_seq + 1;
        assert_eq!(answer.next, self.at);
        if let Some(dropped) = answer.dropped {
            let within = |k: &&mut Known| k.entry.start() < dropped.to && k.entry.end() > dropped.from;
            self.list.iter_mut().filter(within).for_each(|k| k.gone = true);
        }
        // Acknowledged segments may make room without a cursor.
        let oldest = self.oldest();
        let acked = self.acked;
        self.list.iter_mut().filter(|k| k.entry.end() <= acked.min(oldest)).for_each(|k| k.gone = true);
        assert!(answer.kept != Kept::Nowhere || self.list.last().unwrap().gone, "gone without a word");
        self.list.last_mut().unwrap().in_memory = answer.kept == Kept::Memory;
        self.doubt();
        self.flushed();
        self.synced(answer.synced);
        if self.limits.fsync == FsyncPolicy::Every && answer.kept == Kept::Disk && !self.sync_fails {
            assert_eq!(answer.synced.map(Synced::position), Some(self.at), "S5");
        }
    }

    /// Whether the files keep the limit: one that was to be removed and was not may stand beside the segments until the
    /// next opening.
    fn fits(&self, disk: &FakeDisk) -> bool {
        let files = disk.contents();
        files.iter().filter(|(n, _)| n.ends_with(".seg")).map(|(_, b)| b.len() as u64).sum::<u64>() <= self.limits.bytes
    }

    fn oldest(&self) -> Position {
        let first = self.spool.epochs().first().map(|e| Position { epoch_no: e.label.epoch_no, seq: e.first_seq });
        first.unwrap_or(self.at)
    }

    fn reopen(&mut self) {
        (self.sync_fails, self.full, self.full_ack) = (false, false, false);
        self.disk.fail_sync(false);
        self.powerless = false;
        self.disk.power_for(None);
        self.disk.set_room(None);
        for fault in [Fault::Create, Fault::Truncate, Fault::Rename, Fault::Remove] {
            self.disk.fail(fault, false);
        }
        self.list.iter_mut().for_each(|k| k.gone |= k.in_memory);
        self.list.iter_mut().for_each(|k| k.in_memory = false);
        // Acknowledged segments may be freed, and a process forgets acks that no cursor holds.
        let acked = self.acked;
        self.list.iter_mut().filter(|k| k.entry.end() <= acked).for_each(|k| k.gone = true);
        let fits = self.fits(&self.disk);
        self.spool = Spool::open(Box::new(self.disk.clone()), self.limits).unwrap().0;
        if !fits {
            let oldest = self.oldest();
            self.list.iter_mut().filter(|k| k.entry.end() <= oldest).for_each(|k| k.gone = true);
        }
        assert!(self.spool.acknowledged() <= self.acked, "the cursor is ahead of the acks");
        self.acked = self.spool.acknowledged();
        self.reader = Reader::new(self.acked);
        self.next_epoch();
    }

    fn ack(&mut self, part: usize) {
        let Some(known) = self.list.get(self.list.len() * part / 1000) else { return };
        let at = known.entry.end();
        let segments = |disk: &FakeDisk| disk.contents().keys().filter(|n| n.ends_with(".seg")).count();
        let before = segments(&self.disk);
        // Where the cursor is refused the ack counts in memory alone.
        let _ = self.spool.acked(at);
        self.full_ack |= self.full && segments(&self.disk) < before;
        self.acked = self.acked.max(at);
        // What is acknowledged from memory need not be written.
        self.list.iter_mut().for_each(|k| k.gone |= k.in_memory && k.entry.end() <= at);
        assert_eq!(self.spool.acknowledged(), self.acked);
        self.doubt();
        self.flushed();
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Append { keyframe, skip, span, len, after_us } => {
                self.now_us += after_us;
                self.append(keyframe, skip, span, len);
            }
            Op::Ack { part } => self.ack(part),
            Op::Read { many } => {
                let fresh = read_all(&mut self.spool, self.reader.position());
                let read: Vec<Read> = (0..many).map_while(|_| self.spool.read(&mut self.reader)).collect();
                let same = fresh.iter().zip(&read).all(|(a, b)| a.entry == b.entry);
                assert!(same && read.len() == many.min(fresh.len()), "a reader that goes on sees what a new one sees");
            }
            Op::Sync => {
                let synced = self.spool.sync(self.now_us);
                self.doubt();
                self.synced(synced);
            }
            Op::NextEpoch => self.next_epoch(),
            Op::Reopen { close } => {
                if close {
                    let synced = self.spool.close(self.now_us);
                    // What waited in memory may have made room for itself; the next opening tells of it.
                    let oldest = self.oldest();
                    self.list.iter_mut().filter(|k| k.entry.end() <= oldest).for_each(|k| k.gone = true);
                    self.doubt();
                    self.flushed();
                    self.synced(synced);
                }
                self.reopen();
            }
            Op::Crash { torn, names } => {
                self.disk = self.disk.crashed(torn, names);
                self.list.iter_mut().for_each(|k| k.gone |= !k.durable);
                self.reopen();
            }
            Op::Room { bytes } => {
                self.full = bytes.is_some();
                self.disk.set_room(bytes);
            }
            Op::Power { changes } => {
                (self.sync_fails, self.powerless) = (true, true);
                self.disk.power_for(Some(changes));
            }
            Op::SyncFails { fails } => {
                self.sync_fails = fails || self.powerless;
                self.disk.fail_sync(fails);
            }
            Op::Fails { fault, fails } => self.disk.fail(fault, fails),
            Op::ReadsFail { kind, times } => {
                let before = read_all(&mut self.spool, self.acked);
                let mut reader = Reader::new(self.acked);
                self.disk.fail_reads(Some(kind));
                (0..times).for_each(|_| drop(self.spool.read(&mut reader)));
                self.disk.fail_reads(None);
                assert_eq!(read_all(&mut self.spool, self.acked), before, "a shortage costs nothing");
            }
        }
    }

    /// What was read is a part of the list in order, builds on nothing that is missing, and holds what `must`.
    fn assert_read(&self, from: Position, read: &[Read], must: impl Fn(&Known) -> bool) {
        let (mut at, mut next) = (0, from);
        for Read { entry, hole } in read {
            let found = self.list[at..].iter().position(|k| k.entry == *entry);
            at += found.unwrap_or_else(|| panic!("{entry:?} was never appended, or is out of order")) + 1;
            let follows = entry.start() <= next && entry.end() > next;
            assert!(follows || entry.keyframe, "{entry:?} has lost its base");
            let jumps = entry.first_seq > if entry.epoch_no == next.epoch_no { next.seq } else { 0 };
            assert!(hole.is_some() || !jumps || next == Position::default(), "{entry:?} jumps without a word");
            assert!(hole.is_none() || jumps || entry.epoch_no > next.epoch_no, "{entry:?} is said to jump");
            next = entry.end();
        }
        for known in self.list.iter().filter(|k| k.entry.end() > from && must(k)) {
            assert!(read.iter().any(|r| r.entry == known.entry), "{:?} was lost", known);
        }
    }

    fn check(&mut self, torn: usize, names: u64) {
        let (disk, memory) = self.spool.bytes();
        assert!(disk <= self.limits.bytes && memory <= 4 << 20, "S4, S7: {disk} and {memory} bytes");
        let read = read_all(&mut self.spool, self.acked);
        self.assert_read(self.acked, &read, |k| !k.gone);
        // What the machine would find without power.
        let crashed = self.disk.crashed(torn, names);
        let fits = self.fits(&crashed);
        let (mut spool, found) = Spool::open(Box::new(crashed.clone()), self.limits).unwrap();
        let from = found.acked.unwrap_or_default();
        let read = read_all(&mut spool, Position::default());
        self.assert_read(Position::default(), &read, |k| {
            let needed = k.entry.start() >= if self.full_ack { self.acked } else { from };
            fits && k.durable && !k.gone && needed
        });
        assert!(from <= self.acked, "S6: the cursor is ahead of the acks");
        // Opened again it has no torn tail, nothing useless, and each segment begins with a keyframe.
        let again = recover::scan(&mut crashed.clone()).unwrap();
        assert!(again.torn.is_empty() && again.useless.is_empty(), "S3: {again:?}");
        for segment in &again.segments {
            let first = recover::first_entry(&mut crashed.clone(), segment).unwrap().unwrap();
            let whole = segment::HEADER as u64 + first.framed_len() <= segment.bytes;
            assert!(whole && first.keyframe && first.first_seq == segment.first_seq, "S1: {segment:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 5000, ..ProptestConfig::default() })]

    /// S1 to S7 after each step.
    #[test]
    fn s1_to_s7_hold_after_each_step_on_a_disk_that_fails_in_every_way(
        limits in limits(),
        ops in proptest::collection::vec((op(), 0_usize..300, any::<u64>()), 1..80)
    ) {
        let mut world = World::new(limits);
        for (op, torn, names) in ops {
            world.apply(op);
            world.check(torn, names);
        }
    }
}
