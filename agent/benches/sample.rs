//! What one sample costs this program, without the kernel: parse, assemble, compare, pack, spool.
//!
//! `cargo bench -p highwater-agent` prints nanoseconds a time, the median of [`ROUNDS`] rounds, and their least and most.
//! `cargo bench -p highwater-agent -- flat` makes 100,000 samples with changes and acks, and prints how much memory the
//! process holds on the way; it fails where that grows. The inputs are the same each time: 40 arrays, 15 segments and 10
//! queues of four owners, as in the measurement beside the peers. The FakeKernel shows its files ready-made.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measuring program: it may panic anywhere")]
#![allow(clippy::disallowed_methods, reason = "measuring is reading a clock")]

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use highwater_agent::agent::journal::Journal;
use highwater_agent::clock::HostClock;
use highwater_agent::kernel::fake::{FakeKernel, Happening};
use highwater_agent::kernel::sysvipc::{Extent, parse_msg, parse_sem, parse_shm};
use highwater_agent::kernel::{Account, Kernel};
use highwater_agent::sampler::{Assembler, Sample};
use highwater_agent::spool::disk::PrivateDir;
use highwater_agent::spool::{Entry, FsyncPolicy, Label, Limits, Spool};
use highwater_ipc::codec::{decode_body, encode_body};
use highwater_ipc::delta::diff;
use highwater_ipc::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::record::{Body, Content, Keyframe, RecordKind};
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::{At, Clock};

const ROUNDS: usize = 31;
const OWNERS: [u32; 4] = [0, 33, 1001, 54_321];
const WHOLE: Extent = Extent { budget: usize::MAX, whole: true };
const FLAT_SAMPLES: u64 = 100_000;
/// What the memory of the process may grow by between the 10,000th and the last of them, KiB.
const FLAT_KIB: u64 = 128;

/// A second passes from sample to sample.
#[derive(Default)]
struct Ticks(AtomicU64);

impl Ticks {
    fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock for Ticks {
    fn now(&self) -> At {
        At {
            wall_ms: 1_767_225_600_000 + i64::try_from(self.seconds()).unwrap() * 1000,
            boot_us: self.seconds() * 1_000_000,
        }
    }
}

impl HostClock for Ticks {
    fn awake_us(&self) -> u64 {
        self.seconds() * 1_000_000
    }
}

fn owner(i: i32) -> Owner {
    let id = OWNERS[usize::try_from(i).unwrap() % OWNERS.len()];
    Owner { uid: id, gid: id, cuid: 0, cgid: 0 }
}

fn busy_host() -> FakeKernel {
    let mut kernel = FakeKernel::new();
    let (ctime, perms) = (1_767_000_000, Perms(0o600));
    kernel.sem = (0..40)
        .map(|i| SemArray {
            key: Key(0x5000 + i),
            semid: i * 3,
            perms,
            nsems: 17,
            owner: owner(i),
            otime: ctime,
            ctime,
        })
        .collect();
    kernel.shm = (0..15)
        .map(|i| ShmSegment {
            key: Key(0x6000 + i),
            shmid: i,
            perms,
            size: 65_536,
            cpid: 1000 + i,
            lpid: 2000 + i,
            nattch: 1,
            owner: owner(i),
            atime: ctime,
            dtime: 0,
            ctime,
            rss: 4096,
            swap: 0,
        })
        .collect();
    kernel.msg = (0..10)
        .map(|i| MsgQueue {
            key: Key(0x7000 + i),
            msqid: i,
            perms,
            cbytes: 512,
            qnum: 2,
            qbytes: Some(16_384),
            lspid: 3000,
            lrpid: 0,
            owner: owner(i),
            stime: ctime,
            rtime: 0,
            ctime,
        })
        .collect();
    kernel.names = OWNERS.iter().map(|id| (Account::User(*id), format!("user{id}").as_str().into())).collect();
    kernel.links.insert("/etc/localtime".into(), b"/usr/share/zoneinfo/Europe/Berlin".to_vec());
    kernel
}

/// The host, its files made once.
fn still_host() -> FakeKernel {
    let mut kernel = busy_host();
    for path in FILES {
        let text = text(&mut kernel, path);
        kernel.files.insert(path.into(), Ok(text));
    }
    kernel
}

const FILES: [&str; 3] = ["/proc/sysvipc/sem", "/proc/sysvipc/shm", "/proc/sysvipc/msg"];

fn text(kernel: &mut FakeKernel, path: &str) -> Vec<u8> {
    let mut text = Vec::new();
    assert!(kernel.read(path, 1 << 20, &mut text).unwrap());
    text
}

/// A host where an array is operated on and every tenth sample one is replaced.
fn changing_host() -> FakeKernel {
    let mut kernel = busy_host();
    kernel.after_read.push((FILES[0].into(), change(0)));
    kernel
}

/// Changes the host, and does so again after the next sample read its second file (one thing may not follow itself).
fn change(n: i32) -> Happening {
    Box::new(move |kernel| {
        let at = usize::try_from(n).unwrap() % kernel.sem.len();
        kernel.sem[at].otime += 1;
        if n % 10 == 0 {
            (kernel.sem[at].semid, kernel.sem[at].key) = (n % 0x7000_0000, Key(n));
        }
        kernel
            .after_read
            .push((FILES[1].into(), Box::new(move |k| k.after_read.push((FILES[0].into(), change(n + 1))))));
    })
}

/// Median, least and most nanoseconds that `once` takes.
fn measure(what: &str, mut once: impl FnMut()) {
    let mut times = 1_u32;
    let mut took = |times: u32| {
        let began = Instant::now();
        (0..times).for_each(|_| once());
        began.elapsed()
    };
    while took(times).as_millis() < 5 {
        times *= 2;
    }
    let mut rounds: Vec<u128> = (0..ROUNDS).map(|_| took(times).as_nanos() / u128::from(times)).collect();
    rounds.sort_unstable();
    println!("{what:55} {:>9} ns  ({} to {})", rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]);
}

fn sample(assembler: &mut Assembler, clock: &Ticks) -> Sample {
    clock.0.fetch_add(1, Ordering::Relaxed);
    assembler.sample(clock, 1000)
}

fn parse() {
    let mut kernel = busy_host();
    let [sem, shm, msg] = FILES.map(|path| text(&mut kernel, path));
    measure("parse /proc/sysvipc/sem, 40 arrays", || drop(black_box(parse_sem(black_box(&sem), WHOLE).unwrap())));
    measure("parse /proc/sysvipc/shm, 15 segments", || drop(black_box(parse_shm(black_box(&shm), WHOLE).unwrap())));
    measure("parse /proc/sysvipc/msg, 10 queues", || drop(black_box(parse_msg(black_box(&msg), WHOLE).unwrap())));
}

fn pack() {
    let clock = Ticks::default();
    let mut assembler = Assembler::new(Box::new(still_host()));
    measure("assemble a sample of a still host", || drop(black_box(sample(&mut assembler, &clock))));
    let before = sample(&mut assembler, &clock).snapshot;
    let after = sample(&mut assembler, &clock).snapshot;
    measure("compare equal states", || assert_eq!(black_box(diff(&before.state, black_box(&after.state), 0)), None));
    let mut changed = after.clone();
    if let Some(sem) = &mut changed.state.namespaces[0].sem {
        sem[7].otime += 5;
        sem[19].ctime += 5;
    }
    let delta = || Body { at: changed.at, content: Content::Delta(diff(&before.state, &changed.state, 0).unwrap()) };
    measure("compare states with two changes, pack the delta", || drop(black_box(encode_body(&delta()))));
    let (state, activity) = (after.state.clone(), Default::default());
    let keyframe =
        Body { at: after.at, content: Content::Keyframe(Keyframe { gap: None, took_us: 0, state, activity }) };
    measure("pack a keyframe", || drop(black_box(encode_body(black_box(&keyframe)))));
    let bytes = encode_body(&keyframe);
    println!("{:55} {:>9} bytes, a delta {}", "  which has", bytes.len(), encode_body(&delta()).len());
    measure("unpack it", || drop(black_box(decode_body(RecordKind::Keyframe, black_box(&bytes)).unwrap())));
}

fn spool(dir: &Path) {
    for (what, fsync) in
        [("spool an entry of 50 bytes, not forced", FsyncPolicy::Segment), ("spool and force it", FsyncPolicy::Every)]
    {
        let disk = PrivateDir::create(&dir.join(what)).unwrap();
        let (mut spool, _) = Spool::open(Box::new(disk), Limits { bytes: 64 << 20, fsync }).unwrap();
        spool.begin_epoch(Label { epoch_no: 1, tag: [1; 24] }).unwrap();
        let mut seq = 0;
        measure(what, || {
            let keyframe = spool.keyframe_due().is_some();
            let entry = Entry { epoch_no: 1, first_seq: seq, last_seq: seq, keyframe, bytes: vec![7; 50] };
            spool.append(entry, seq * 1_000_000).unwrap();
            seq += 1;
        });
    }
}

fn journal(dir: &Path) -> Journal {
    let disk = |name: &str| Box::new(PrivateDir::create(&dir.join(name)).unwrap());
    let limits = Limits { bytes: 64 << 20, fsync: FsyncPolicy::Unacked };
    Journal::open(disk("state"), disk("spool"), limits, 1, BootId([5; 16]), 42).unwrap()
}

/// A sample's whole way to its record in the spool; each second one is acknowledged, as a collector does.
fn whole(dir: &Path) {
    let clock = Ticks::default();
    for (what, kernel) in
        [("sample to record, a still host", still_host()), ("sample to record, a change each", changing_host())]
    {
        let mut assembler = Assembler::new(Box::new(kernel));
        let mut journal = journal(&dir.join(what));
        measure(what, || take(&mut journal, &mut assembler, &clock));
    }
    println!("{:55} {:>9}", "  (of the latter, the fake prints its files each time)", "");
}

fn take(journal: &mut Journal, assembler: &mut Assembler, clock: &Ticks) {
    if journal.take(sample(assembler, clock)) {
        let end = journal.spooled().pop().unwrap();
        journal.all_read(None);
        journal.settle(end.epoch.no, end.next);
    }
}

/// Resident anonymous memory of this process, KiB.
fn held_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

fn flat(dir: &Path) {
    let clock = Ticks::default();
    let mut assembler = Assembler::new(Box::new(changing_host()));
    let mut journal = journal(dir);
    let (mut held, began) = (Vec::new(), Instant::now());
    for n in 1..=FLAT_SAMPLES {
        take(&mut journal, &mut assembler, &clock);
        if n % 10_000 == 0 {
            held.push(held_kib());
        }
    }
    println!("{FLAT_SAMPLES} samples in {:?}; KiB held after each 10,000: {held:?}", began.elapsed());
    let (first, last) = (held[0], held[held.len() - 1]);
    assert!(last <= first + FLAT_KIB, "memory grew from {first} to {last} KiB");
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    if std::env::args().any(|arg| arg == "flat") {
        return flat(dir.path());
    }
    parse();
    pack();
    spool(dir.path());
    whole(dir.path());
}
