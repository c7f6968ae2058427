//! Every record that an agent ever made, read from its spool: hard links keep its segments when it has freed them, and
//! copies what they held when it was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use highwater_agent::spool::disk::PrivateDir;
use highwater_agent::spool::{FsyncPolicy, Limits, Position, Reader, Spool};
use highwater_ipc::codec::{decode_body, decode_record};
use highwater_ipc::record::{Chain, Content, GapReason, RecordKind};
use highwater_ipc::time::At;
use highwater_proto::bounds::{CLOCK_STEP_MS, GAP_INTERVALS};
use highwater_proto::chain;

/// Between two samples in these campaigns.
pub(crate) const INTERVAL_MS: u64 = 100;

/// Holds on to the segments of one spool.
pub(crate) struct Keeper {
    spool: PathBuf,
    kept: PathBuf,
    inodes: Mutex<BTreeSet<u64>>,
    copies: AtomicUsize,
}

impl Keeper {
    /// Of the agent with that state directory; links are put beside it.
    pub(crate) fn new(state_dir: &Path) -> Self {
        let kept = state_dir.with_file_name("kept");
        fs::create_dir(&kept).expect("a directory for links");
        Self {
            spool: state_dir.join(highwater_agent::agent::SPOOL_DIR),
            kept,
            inodes: Mutex::default(),
            copies: AtomicUsize::new(0),
        }
    }

    /// Links what is there. A segment that its agent still writes to is never freed, so looking often and after each
    /// kill misses none; [`Keeper::records`] would notice.
    pub(crate) fn look(&self) {
        let mut inodes = self.inodes.lock().unwrap_or_else(PoisonError::into_inner);
        // The directory is made by the agent's first run; a file may be freed while it is looked at.
        for entry in fs::read_dir(&self.spool).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let segment = name.to_str().is_some_and(|name| name.ends_with(".seg"));
            let Ok(found) = entry.metadata() else { continue };
            if !segment || inodes.contains(&found.ino()) {
                continue;
            }
            let link = self.kept.join("new");
            if fs::hard_link(entry.path(), &link).is_err() {
                continue;
            }
            // Another file may have got the name since; what is linked is what counts, and no other gets its inode.
            let inode = fs::metadata(&link).expect("a link of this test").ino();
            if inodes.insert(inode) {
                let own = self.kept.join(inode.to_string());
                fs::create_dir(&own).expect("a directory for a link");
                fs::rename(&link, own.join(&name)).expect("renaming a link");
            } else {
                fs::remove_file(&link).expect("removing a link");
            }
        }
    }

    /// Copies what is there while its agent does not run: what the next run should cut off a segment, a link loses too.
    pub(crate) fn copy(&self) {
        self.look();
        let copy = self.kept.join(format!("copy-{}", self.copies.fetch_add(1, Ordering::SeqCst)));
        for entry in fs::read_dir(&self.spool).into_iter().flatten() {
            let (file, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("a directory");
            let own = copy.join(&name);
            fs::create_dir_all(&own).expect("a directory for a copy");
            fs::copy(file, own.join(&name)).expect("copying a segment");
        }
    }

    /// Every record of every epoch.
    ///
    /// # Panics
    ///
    /// If one is missing, or was made in two ways.
    pub(crate) fn records(&self) -> Sampled {
        let mut epochs: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
        for segment in segments(&self.kept) {
            for (epoch_no, record) in read(&segment) {
                epochs.entry(epoch_no).or_default().push(record);
            }
        }
        for (no, records) in &mut epochs {
            records.sort_by(|a, b| (a.seq, &a.body).cmp(&(b.seq, &b.body)));
            // From a link and a copy of it.
            records.dedup();
            let mut expected = Chain::default();
            for (seq, record) in (0..).zip(records.iter()) {
                assert_eq!((record.seq, record.chain), (seq, expected), "epoch {no}: the log of the test is not whole");
                expected = chain::after(record.chain, record.kind, &record.body);
            }
        }
        Sampled { epochs }
    }
}

/// All segments below a directory.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("what was kept").map(|entry| entry.expect("an entry").path());
    let below = |path: PathBuf| if path.is_dir() { segments(&path) } else { vec![path] };
    entries.flat_map(below).filter(|path| path.extension().is_some_and(|kind| kind == "seg")).collect()
}

/// Reads a copy of one segment: opening a spool cuts a torn tail off.
fn read(segment: &Path) -> Vec<(u64, Record)> {
    let copy = tempfile::tempdir().expect("a directory for a copy");
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
    fs::copy(segment, copy.path().join(segment.file_name().expect("a name"))).expect("copying a segment");
    let disk = PrivateDir::open(copy.path()).expect("the copy");
    let limits = Limits { bytes: u64::MAX, fsync: FsyncPolicy::Segment };
    let (mut spool, found) = Spool::open(Box::new(disk), limits).expect("a spool of one segment");
    assert_eq!(found.damaged, 0, "{} is damaged", segment.display());
    let mut reader = Reader::new(Position::default());
    let mut records = Vec::new();
    while let Some(read) = spool.read(&mut reader) {
        let record = decode_record(&read.entry.bytes).expect("a record");
        assert_eq!(record.first_seq, record.seq, "records are merged when they are sent, not before");
        let body = decode_body(record.kind, &record.body).expect("a body");
        let (gap, took_us) = match &body.content {
            Content::Keyframe(keyframe) => (keyframe.gap, Some(keyframe.took_us)),
            Content::Delta(delta) => (None, Some(delta.took_us)),
            _ => (None, None),
        };
        records.push((
            read.entry.epoch_no,
            Record {
                seq: record.seq.0,
                kind: record.kind,
                chain: record.chain,
                at: body.at,
                gap,
                took_us: took_us.map(u64::from),
                body: record.body,
            },
        ));
    }
    records
}

/// One record as the agent made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) kind: RecordKind,
    pub(crate) chain: Chain,
    pub(crate) at: At,
    /// Why samples are missing before it, as the agent says.
    pub(crate) gap: Option<GapReason>,
    /// How long a sample took that read something new.
    pub(crate) took_us: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Record {
    /// Whether it stands for a sample.
    pub(crate) fn is_sample(&self) -> bool {
        !matches!(self.kind, RecordKind::Event | RecordKind::GapReason)
    }
}

/// All records of one host.
#[derive(Debug)]
pub(crate) struct Sampled {
    /// By epoch, in order of seq, from 0 on without a hole.
    pub(crate) epochs: BTreeMap<u64, Vec<Record>>,
}

/// A run of samples without a gap and without a step of the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) epoch_no: u64,
    pub(crate) number: u64,
    pub(crate) from_seq: u64,
    pub(crate) from: At,
    /// Its last sample.
    pub(crate) to: At,
}

/// A span without samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) epoch_no: u64,
    /// The sample that ends it.
    pub(crate) seq: u64,
    pub(crate) from_ms: Option<i64>,
    pub(crate) to_ms: i64,
    pub(crate) reason: GapReason,
}

impl Sampled {
    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.epochs.values().map(Vec::len).sum()
    }

    /// What history must show where nothing is lost: found by the words of the design alone. A gap lies before the first
    /// sample of each epoch, and where samples of one epoch are more than three intervals apart.
    pub(crate) fn history(&self) -> (Vec<Stretch>, Vec<Gap>) {
        let (mut stretches, mut gaps): (Vec<Stretch>, Vec<Gap>) = (Vec::new(), Vec::new());
        for (&epoch_no, records) in &self.epochs {
            for record in records.iter().filter(|record| record.is_sample()) {
                let last = stretches.last_mut();
                let same = last.filter(|last| last.epoch_no == epoch_no);
                let apart = same
                    .as_ref()
                    .is_none_or(|last| record.at.boot_since(&last.to) > INTERVAL_MS * 1000 * GAP_INTERVALS);
                let stepped = same.as_ref().is_some_and(|last| record.at.step_since(&last.to).abs() > CLOCK_STEP_MS);
                if let (Some(last), false, false) = (same, apart, stepped) {
                    // Set back by less than counts as a step, the clock stands still in history.
                    last.to = At { wall_ms: record.at.wall_ms.max(last.to.wall_ms), boot_us: record.at.boot_us };
                    continue;
                }
                let before = stretches.last();
                if apart {
                    let reason = record.gap.unwrap_or(GapReason::Unexplained);
                    let from_ms = before.map(|last| last.to.wall_ms);
                    gaps.push(Gap { epoch_no, seq: record.seq, from_ms, to_ms: record.at.wall_ms, reason });
                }
                let number = before.filter(|last| last.epoch_no == epoch_no).map_or(0, |last| last.number + 1);
                stretches.push(Stretch { epoch_no, number, from_seq: record.seq, from: record.at, to: record.at });
            }
        }
        (stretches, gaps)
    }
}
