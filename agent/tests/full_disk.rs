//! A spool on a real file system that fills up and is freed again: a small tmpfs in a mount namespace of its own, which
//! goes with the process in it. Needs root, as mounting does.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: it may panic anywhere")]

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_agent::spool::disk::PrivateDir;
use highwater_agent::spool::{
    Appended, Entry, FsyncPolicy, Hole, Kept, KeyframeDue, Label, Limits, Position, Reader, Spool,
};

/// Set for the copy of this process that runs on the mount: where it is.
const MOUNT: &str = "HIGHWATER_TEST_MOUNT";
const LIMITS: Limits = Limits { bytes: 64 << 20, fsync: FsyncPolicy::Every };

/// Where the small file system is; `None` in the process that only starts the one in there and takes its result.
fn small_disk(test: &str, kib: u32) -> Option<PathBuf> {
    if let Some(mount) = env::var_os(MOUNT) {
        return Some(mount.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    let script = format!("mount -t tmpfs -o size={kib}k,mode=0700 none \"${MOUNT}\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-c", &script, "sh"]).arg(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(MOUNT, dir.path());
    let output = command.output().expect("unshare of util-linux");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "on the mount (are you root?): {said}");
    assert_eq!(mounts(), before, "nothing stays mounted");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written beside the mount");
    None
}

struct Rig {
    spool: Spool,
    epoch_no: u64,
    seq: u64,
    appended: Vec<Entry>,
}

impl Rig {
    fn open(path: &Path, epoch_no: u64) -> Self {
        let (mut spool, found) = Spool::open(Box::new(PrivateDir::create(path).unwrap()), LIMITS).unwrap();
        assert_eq!(found.damaged, 0, "a full disk is no damage");
        spool.begin_epoch(Label { epoch_no, tag: [1; 24] }).unwrap();
        Self { spool, epoch_no, seq: 0, appended: Vec::new() }
    }

    fn append(&mut self, len: usize) -> Appended {
        let keyframe = self.spool.keyframe_due().is_some();
        let fill = u8::try_from(self.seq % 251).unwrap();
        let (epoch_no, seq) = (self.epoch_no, self.seq);
        let entry = Entry { epoch_no, first_seq: seq, last_seq: seq, keyframe, bytes: vec![fill; len] };
        self.seq += 1;
        self.appended.push(entry.clone());
        self.spool.append(entry, seq * 1_000_000).unwrap()
    }

    fn read(&mut self) -> Vec<(Entry, Option<Hole>)> {
        let mut reader = Reader::new(Position { epoch_no: 1, seq: 0 });
        std::iter::from_fn(|| self.spool.read(&mut reader)).map(|read| (read.entry, read.hole)).collect()
    }
}

#[test]
fn a_full_disk_is_bridged_by_4_mib_of_memory_then_overflows_and_nothing_is_wrong_afterwards() {
    const NAME: &str = "a_full_disk_is_bridged_by_4_mib_of_memory_then_overflows_and_nothing_is_wrong_afterwards";
    let Some(mount) = small_disk(NAME, 1024) else { return };
    let dir = mount.join("spool");
    // Somebody else's file takes most of the disk.
    fs::write(mount.join("ballast"), vec![0; 700 << 10]).unwrap();
    let mut rig = Rig::open(&dir, 1);
    while rig.append(10 << 10).kept == Kept::Disk {}
    assert_eq!(rig.spool.trouble().unwrap().kind(), ErrorKind::StorageFull);
    let on_disk = rig.appended.len() - 1;
    assert!((10..40).contains(&on_disk), "{on_disk}");

    // Freed while memory holds it all: nothing is missing, also for the next process.
    for _ in 0..50 {
        assert_eq!(rig.append(2 << 10).kept, Kept::Memory);
    }
    fs::remove_file(mount.join("ballast")).unwrap();
    assert_eq!(rig.append(2 << 10).kept, Kept::Disk);
    assert!(rig.spool.trouble().is_none() && rig.spool.bytes().1 == 0);
    let all: Vec<_> = rig.appended.iter().map(|e| (e.clone(), None)).collect();
    assert!(rig.read() == all);
    assert!(Rig::open(&dir, 2).read() == all);

    // Full again, until memory is full too.
    fs::write(mount.join("ballast"), vec![0; 1 << 20]).unwrap_err();
    let mut most = 0;
    let dropped = loop {
        let answer = rig.append(64 << 10);
        most = most.max(rig.spool.bytes().1);
        if let Some(dropped) = answer.dropped {
            assert_eq!(answer.kept, Kept::Nowhere);
            break dropped;
        }
    };
    assert!(most > (4 << 20) - (65 << 10) && most <= 4 << 20, "{most} bytes in memory");
    assert_eq!((rig.spool.keyframe_due(), rig.spool.bytes().1), (Some(KeyframeDue::Overflow), 0));

    fs::remove_file(mount.join("ballast")).unwrap();
    for _ in 0..20 {
        assert_eq!(rig.append(1 << 10).kept, Kept::Disk);
    }
    let appended = rig.appended.clone();
    let left: Vec<_> = appended.iter().filter(|e| e.start() < dropped.from || e.start() >= dropped.to).collect();
    for read in [rig.read(), Rig::open(&dir, 3).read()] {
        assert!(read.iter().map(|(entry, _)| entry).eq(left.iter().copied()), "{dropped:?}");
        let holes: Vec<_> =
            read.iter().filter(|(_, hole)| hole.is_some()).map(|(e, _)| (e.start(), e.keyframe)).collect();
        assert_eq!(holes, [(dropped.to, true)]);
    }
    println!("{on_disk} records on the full disk, {most} bytes in memory, dropped {dropped:?}");
}

#[test]
fn on_a_full_disk_an_ack_still_makes_room_and_no_record_is_lost() {
    const NAME: &str = "on_a_full_disk_an_ack_still_makes_room_and_no_record_is_lost";
    let Some(mount) = small_disk(NAME, 4096) else { return };
    let mut rig = Rig::open(&mount.join("spool"), 1);
    while rig.append(50 << 10).kept == Kept::Disk {}
    let files = || fs::read_dir(mount.join("spool")).unwrap().count();
    let (before, end) = (files(), rig.appended.last().unwrap().start());
    assert!(before >= 3, "{before}");
    assert!(rig.spool.acked(end).unwrap() > 0 && files() < before);
    assert_eq!(rig.append(50 << 10).kept, Kept::Disk);
    let from = rig.appended.len() - 2;
    assert!(rig.read().iter().map(|(entry, _)| entry).rev().take(2).eq(rig.appended[from..].iter().rev()));
}
