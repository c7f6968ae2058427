//! A fleet in this process: real agents, each with a certificate, a spool and a connection of its own, that sample
//! kernels which change by a seed.
//!
//! Enrolment is the real one, over the wire, with one token. An agent costs two threads and about ten open files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use highwater_agent::agent::AgentHandle;
use highwater_agent::clock::{HostClock, SystemClock};
use highwater_agent::config::{Config, Interval};
use highwater_agent::kernel::fake::FakeKernel;
use highwater_agent::spool::FsyncPolicy;
use highwater_agent::transport::enrol::{EnrolOptions, enrol};
use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::record::GapReason;
use highwater_ipc::text::HostText;
use highwater_proto::token::Token;
use tempfile::TempDir;

use crate::collector::Up;
use crate::postgres::Database;
use crate::sampling;
use crate::wait::{PATIENCE, until};

fn clock() -> Arc<dyn HostClock> {
    Arc::new(SystemClock)
}

/// Enrolments under way at once.
const AT_ONCE: usize = 8;
/// Agents stopped at once: each waits for its last ack.
const STOPPED_AT_ONCE: usize = 32;
/// How many samples lie between two changes, by agent: the samples between are heartbeats.
const EVERY: [u64; 3] = [1, 2, 5];

/// Enrolled agents.
#[derive(Debug)]
pub struct Fleet {
    directory: TempDir,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    state: PathBuf,
    every: u64,
    seed: u64,
    samples: Arc<AtomicU64>,
    handle: Option<AgentHandle>,
}

/// What the database holds of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Samples that the agents took.
    pub samples: u64,
    /// Records stored as frames.
    pub frames: u64,
    /// Samples that are covered without a frame of their own.
    pub covered: u64,
    /// What is wrong, a line for each host.
    pub wrong: Vec<String>,
    /// Gaps that are no host's beginning, and their reasons.
    pub gaps: Vec<String>,
}

impl Fleet {
    /// Enrols so many agents with a collector; they do not run yet.
    #[track_caller]
    pub fn enrol(up: &Up, count: usize, seed: u64) -> Self {
        let directory = tempfile::Builder::new().prefix("highwater-fleet-").tempdir().expect("a temporary directory");
        let uses = count.to_string();
        let token = up.cli().json(&["token", "create", "--uses", &uses]);
        let token = Token::parse(token["token"].as_str().expect("`token` in the answer")).expect("a token");
        let members: Vec<Member> = (0..count).map(|number| member(directory.path(), number, seed)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for some in members.chunks(AT_ONCE) {
                let mut tasks = tokio::task::JoinSet::new();
                for member in some {
                    let name = member.state.file_name().expect("a name").to_string_lossy().into_owned();
                    tasks.spawn(enrol(EnrolOptions {
                        collector: up.grpc().to_owned(),
                        token: token.clone(),
                        state_dir: member.state.clone(),
                        hostname: HostText::from(name.as_str()),
                        machine_id: HostText::default(),
                    }));
                }
                for enrolled in tasks.join_all().await {
                    enrolled.expect("enrolling an agent");
                }
            }
        });
        Self { directory, members }
    }

    /// Starts all agents, sampling at this interval.
    #[track_caller]
    pub fn start(&mut self, interval: Interval) {
        for member in &mut self.members {
            let config =
                Config { state_dir: member.state.clone(), interval, fsync: FsyncPolicy::Segment, ..Config::default() };
            member.handle = Some(sampling::start(&config, || Box::new(member.kernel()), &clock()));
        }
    }

    /// The agents' state directories.
    pub fn states(&self) -> impl Iterator<Item = &Path> {
        self.members.iter().map(|member| member.state.as_path())
    }

    /// Samples taken so far by the agent that took the fewest.
    pub fn least_samples(&self) -> u64 {
        self.members.iter().map(|m| m.samples.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// Bytes in all spools.
    pub fn spooled(&self) -> u64 {
        self.members.iter().map(|m| bytes_in(&m.state)).sum()
    }

    /// Stops all agents in order, and runs those whose last records were not acked in time until they are.
    #[track_caller]
    pub fn stop(&mut self, database: &Database) {
        for some in self.members.chunks_mut(STOPPED_AT_ONCE) {
            let handles = some.iter_mut().filter_map(|m| m.handle.take());
            let stopping: Vec<_> = handles.map(|handle| thread::spawn(|| handle.stop())).collect();
            for stopped in stopping {
                stopped.join().expect("a thread").expect("an agent that stops in order");
            }
        }
        let rows = Self::rows(database);
        let unacked = self.members.iter().filter(|m| m.row(&rows).is_none_or(|row| !m.has_all(row)));
        let mut again = Vec::new();
        for member in unacked {
            let config = Config { state_dir: member.state.clone(), ..Config::default() };
            again.push(sampling::start(&config, || Box::new(FakeKernel::new()), &clock()));
        }
        if !again.is_empty() {
            until("the last records are acked", 4 * PATIENCE, || self.held(database).wrong.is_empty());
        }
        for handle in again {
            handle.stop().expect("an agent that stops in order");
        }
    }

    /// Compares what is stored of the stopped agents' first epochs with what they sampled. Each record's body was chained
    /// to its predecessor's when it came in, so it is enough to count positions.
    pub fn held(&self, database: &Database) -> Held {
        let rows = Self::rows(database);
        let mut held = Held::default();
        for member in &self.members {
            let samples = member.samples.load(Ordering::Relaxed);
            held.samples += samples;
            let Some(row) = member.row(&rows) else {
                held.wrong.push(format!("{}: nothing stored", member.name()));
                continue;
            };
            held.frames += row.frames;
            held.covered += row.next.saturating_sub(row.frames);
            if !member.has_all(row) {
                held.wrong.push(format!("{}: {samples} samples, {row:?}", member.name()));
            }
        }
        let first = GapReason::BeforeFirst.code();
        let gaps = format!("SELECT reason, count(*) FROM gap WHERE epoch_no = 1 AND reason <> {first} GROUP BY 1");
        held.gaps = database.sql(&gaps).lines().map(str::to_owned).collect();
        held
    }

    fn rows(database: &Database) -> Vec<Row> {
        // The name ends with how many samples lie between two changes.
        let text = database.sql(
            "SELECT h.name, s.next_seq, count(f.seq), count(DISTINCT f.seq),
                count(f.seq) FILTER (WHERE f.seq % split_part(h.name, '-', 3)::int = 0 AND f.kind IN (1, 2))
            FROM host h JOIN stream s USING (host_id) LEFT JOIN frame f USING (host_id, epoch_no)
            WHERE s.epoch_no = 1 GROUP BY 1, 2",
        );
        text.lines().map(Row::read).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut handle) = member.handle.take() {
                handle.ask_to_stop();
            }
        }
        let _ = fs::remove_dir_all(self.directory.path());
    }
}

/// A host's first epoch in the database.
#[derive(Debug)]
struct Row {
    name: String,
    next: u64,
    frames: u64,
    distinct: u64,
    changes: u64,
}

impl Row {
    fn read(line: &str) -> Self {
        let fields: Vec<&str> = line.split('|').collect();
        let number = |at: usize| fields[at].parse().expect("a number");
        Self { name: fields[0].to_owned(), next: number(1), frames: number(2), distinct: number(3), changes: number(4) }
    }
}

fn member(directory: &Path, number: usize, seed: u64) -> Member {
    let every = EVERY[number % EVERY.len()];
    let state = directory.join(format!("fleet-{number:04}-{every}"));
    Member { state, every, seed: seed ^ number as u64, samples: Arc::default(), handle: None }
}

impl Member {
    fn name(&self) -> String {
        self.state.file_name().expect("a name").to_string_lossy().into_owned()
    }

    fn row<'a>(&self, rows: &'a [Row]) -> Option<&'a Row> {
        let name = self.name();
        rows.iter().find(|row| row.name == name)
    }

    /// Every sample is stored or covered, the agent's last word behind them; each change has its frame, once.
    fn has_all(&self, row: &Row) -> bool {
        let samples = self.samples.load(Ordering::Relaxed);
        row.next == samples + 1 && row.frames == row.distinct && row.changes == samples.div_ceil(self.every)
    }

    fn kernel(&self) -> FakeKernel {
        let mut kernel = FakeKernel::new();
        kernel.uname.nodename = self.name().into_bytes();
        let owner = Owner { uid: 33, gid: 33, cuid: 33, cgid: 33 };
        let array = |number: i32| SemArray {
            key: Key(0x4857_0000 + number),
            semid: number,
            perms: Perms(0o600),
            nsems: 4,
            owner,
            otime: 0,
            ctime: 1_700_000_000,
        };
        kernel.sem = (0..20).map(array).collect();
        after_sem(&mut kernel, Change { samples: Arc::clone(&self.samples), every: self.every, seed: self.seed });
        kernel
    }
}

/// What a kernel does between samples.
struct Change {
    samples: Arc<AtomicU64>,
    every: u64,
    seed: u64,
}

/// Counts a sample once its semaphores were read; the next change comes when its last file was.
fn after_sem(kernel: &mut FakeKernel, change: Change) {
    let happen = move |kernel: &mut FakeKernel| {
        change.samples.fetch_add(1, Ordering::Relaxed);
        after_msg(kernel, change);
    };
    kernel.after_read.push(("/proc/sysvipc/sem".to_owned(), Box::new(happen)));
}

fn after_msg(kernel: &mut FakeKernel, mut change: Change) {
    let happen = move |kernel: &mut FakeKernel| {
        let next = change.samples.load(Ordering::Relaxed);
        if next.is_multiple_of(change.every) {
            change.seed = change.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let at = usize::try_from(change.seed >> 33).expect("31 bits") % kernel.sem.len();
            kernel.sem[at].otime = 1_700_000_000 + i64::try_from(next).expect("a count");
        }
        after_sem(kernel, change);
    };
    kernel.after_read.push(("/proc/sysvipc/msg".to_owned(), Box::new(happen)));
}

fn bytes_in(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        // Files come and go.
        found => found.map_or(0, |found| found.len()),
    };
    entries.filter_map(Result::ok).map(bytes).sum()
}
