//! The processes of this host, read anew as cheaply as it can be done.
//!
//! A scan lists `/proc` and asks `stat(2)` of each process's directory, which says whether it is still the process known
//! from the scan before and its effective uid (1.2 us; `stat` and `status` together 17). The files are read of processes
//! that are new, young, changed their effective uid, or whose turn it is (each eighth scan); and of all where somebody
//! asks for a uid that no effective uid shows (a *deep* scan), because a real, saved or file system uid is in `status`
//! alone.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use highwater_ipc::text::HostText;

use crate::kernel::process::{MAX_PROCESS_FILE, Stat, Status, parse_namespace, parse_stat, parse_status};
use crate::kernel::{Entry, Kernel};
use crate::sys::errno::Errno;

/// Most processes taken; where there are more, not all are seen.
pub const MAX_PROCESSES: usize = 32_768;

/// A process younger than this may still be about to `execve(2)`, microseconds.
const YOUNG_US: u64 = 30_000_000;

/// Each process is read again in one of so many scans.
const TURNS: u32 = 8;

/// A process as it was read last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    mark: (u64, i128),
    /// When it started, microseconds since boot, cut to 10 ms.
    pub start_us: u64,
    /// Its parent; 0 = none that is seen.
    pub ppid: i32,
    /// Its session when it was seen first.
    pub session: i32,
    /// Its comm.
    pub comm: HostText,
    /// Real, effective, saved and file system uid.
    pub uids: [u32; 4],
    /// Whether it is a thread of the kernel.
    pub kernel_thread: bool,
    /// Whether it takes in processes whose parent died (pid 1 of a pid namespace).
    pub takes_in: bool,
    /// Inode of its IPC namespace, where that was asked and may be looked at.
    pub ipc: Option<u64>,
    placed: bool,
}

/// What a scan is to find out beside the processes themselves.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Uids that own objects: of their processes the namespace is asked.
    pub owners: BTreeSet<u32>,
    /// Uids of which it is asked whether any process has them in any of its four.
    pub absent: BTreeSet<u32>,
    /// Whether a deep scan may be made for those.
    pub deep: bool,
}

/// All processes, as the latest scan found them.
#[derive(Debug, Default)]
pub struct Roster {
    /// Ascending by pid.
    processes: Vec<Process>,
    uids: BTreeSet<u32>,
    /// Places in `processes` of those whose parent is one that takes in (or is not seen).
    taken_in: Vec<usize>,
    /// By comm, when the oldest process of it started; made when it is asked for.
    oldest: OnceCell<BTreeMap<HostText, u64>>,
    listed: bool,
    complete: bool,
    deep: bool,
    turn: u32,
    pids: Vec<i32>,
    reader: Reader,
}

/// A visit, or a scan that is about to be replaced by a newer one.
pub struct Look<'a> {
    /// The processes.
    pub roster: &'a mut Roster,
    /// The number of the scan that found them.
    pub scan: u64,
    /// When that was, microseconds since boot.
    pub scanned_us: u64,
    /// Whether the agent sees all processes.
    pub all_seen: bool,
    /// The agent's own pid.
    pub own: i32,
    /// The most that a pause between two scans counts, microseconds.
    pub pause_us: u64,
    /// How long an array must look abandoned, microseconds.
    pub wait_us: u64,
    /// System calls that may still be made.
    pub calls: &'a mut u32,
}

impl Roster {
    /// Looks at all processes.
    pub fn scan(&mut self, kernel: &mut dyn Kernel, at_us: u64, wanted: &Wanted) {
        self.turn = self.turn.wrapping_add(1);
        (self.complete, self.deep) = (false, false);
        let mut pids = std::mem::take(&mut self.pids);
        if kernel.pids(&mut pids).is_ok() {
            self.listed = true;
            pids.sort_unstable();
            pids.dedup();
            self.complete = pids.len() <= MAX_PROCESSES;
            pids.truncate(MAX_PROCESSES);
            let unread = self.list(kernel, &pids, wanted);
            self.read(kernel, unread, at_us, wanted);
            self.index();
        }
        self.pids = pids;
    }

    /// Which processes there are; returns those that are known but changed their effective uid. New ones are read.
    fn list(&mut self, kernel: &mut dyn Kernel, pids: &[i32], wanted: &Wanted) -> BTreeSet<i32> {
        let mut changed = BTreeSet::new();
        let mut before = std::mem::take(&mut self.processes).into_iter().peekable();
        let mut now = Vec::with_capacity(pids.len());
        for pid in pids {
            while before.next_if(|process| process.pid < *pid).is_some() {}
            let known = before.next_if(|process| process.pid == *pid);
            match kernel.process(*pid) {
                Ok(entry) => match known.filter(|known| known.mark == entry.mark) {
                    Some(known) => {
                        if known.uids[1] != entry.uid {
                            changed.insert(*pid);
                        }
                        now.push(known);
                    }
                    None => match self.reader.meet(kernel, *pid, entry, &wanted.owners) {
                        Ok(process) => now.push(process),
                        Err(errno) => self.complete &= is_gone(errno),
                    },
                },
                Err(errno) => self.complete &= is_gone(errno),
            }
        }
        self.processes = now;
        changed
    }

    /// Reads again what may have changed.
    fn read(&mut self, kernel: &mut dyn Kernel, changed: BTreeSet<i32>, at_us: u64, wanted: &Wanted) {
        let shown: BTreeSet<u32> = self.processes.iter().map(|process| process.uids[1]).collect();
        let deep = wanted.deep && wanted.absent.iter().any(|uid| !shown.contains(uid));
        let (turn, mut all) = (self.turn % TURNS, true);
        let Roster { processes, reader, complete, .. } = self;
        processes.retain_mut(|process| {
            let its_turn = process.pid.unsigned_abs() % TURNS == turn;
            let young = at_us.saturating_sub(process.start_us) < YOUNG_US;
            let due = its_turn || !process.kernel_thread && (deep || young || changed.contains(&process.pid));
            if !due {
                all &= process.kernel_thread;
                return true;
            }
            let read = reader.again(kernel, process, &wanted.owners);
            *complete &= read.is_ok() || read.is_err_and(is_gone);
            !read.is_err_and(is_gone)
        });
        self.deep = all;
    }

    fn index(&mut self) {
        self.oldest = OnceCell::new();
        self.uids = self.processes.iter().filter(|process| !process.kernel_thread).flat_map(|p| p.uids).collect();
        let orphaned =
            |process: &Process| !process.kernel_thread && self.get(process.ppid).is_none_or(|parent| parent.takes_in);
        let places = self.processes.iter().enumerate().filter(|(_, process)| orphaned(process));
        self.taken_in = places.map(|(place, _)| place).collect();
    }

    /// Asks the processes of these uids for their IPC namespace, where that was not done yet.
    pub fn place(&mut self, kernel: &mut dyn Kernel, owners: &BTreeSet<u32>) {
        let Roster { processes, reader, .. } = self;
        for process in processes.iter_mut().filter(|process| !process.placed) {
            reader.ask_namespace(kernel, process, owners);
        }
    }

    /// Whether processes were ever listed.
    pub fn listed(&self) -> bool {
        self.listed
    }

    /// Whether the latest scan read every process that it found.
    pub fn complete(&self) -> bool {
        self.complete
    }

    /// Whether the latest scan read the four uids of every process.
    pub fn is_deep(&self) -> bool {
        self.deep
    }

    /// How many processes there are.
    pub fn count(&self) -> usize {
        self.processes.len()
    }

    /// All processes, ascending by pid.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter()
    }

    /// The process of that pid.
    pub fn get(&self, pid: i32) -> Option<&Process> {
        let place = self.processes.binary_search_by_key(&pid, |process| process.pid).ok()?;
        self.processes.get(place)
    }

    /// Whether a process (or zombie) has that uid in any of its four; `None` = none was seen with it, but this scan was
    /// not deep.
    pub fn has_uid(&self, uid: u32) -> Option<bool> {
        if self.uids.contains(&uid) { Some(true) } else { self.deep.then_some(false) }
    }

    /// When the oldest process of that comm started.
    pub fn oldest(&self, comm: &HostText) -> Option<u64> {
        let oldest = self.oldest.get_or_init(|| {
            let mut oldest = BTreeMap::new();
            for process in self.processes.iter().filter(|process| !process.kernel_thread) {
                let start_us: &mut u64 = oldest.entry(process.comm.clone()).or_insert(process.start_us);
                *start_us = process.start_us.min(*start_us);
            }
            oldest
        });
        oldest.get(comm).copied()
    }

    /// The processes whose parent takes in orphans: each may be one, whoever made it.
    pub fn taken_in(&self) -> impl Iterator<Item = &Process> {
        self.taken_in.iter().filter_map(|place| self.processes.get(*place))
    }

    /// The process that stands for that pid or thread id just now, also if it began after the scan; `None` = there is
    /// none, or it cannot be read.
    pub fn look(&mut self, kernel: &mut dyn Kernel, pid: i32) -> Result<Option<Process>, Errno> {
        let entry = match kernel.process(pid) {
            Ok(entry) => entry,
            Err(errno) if is_gone(errno) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        if let Some(known) = self.get(pid).filter(|known| known.mark == entry.mark && known.uids[1] == entry.uid) {
            return Ok(Some(known.clone()));
        }
        match self.reader.meet(kernel, pid, entry, &BTreeSet::new()) {
            Ok(process) => Ok(Some(process)),
            Err(errno) if is_gone(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// The process ended meanwhile.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESRCH)
}

/// Reads files of processes into buffers that are kept.
#[derive(Debug, Default)]
struct Reader {
    text: Vec<u8>,
    path: String,
}

impl Reader {
    /// A process that was not known.
    fn meet(
        &mut self,
        kernel: &mut dyn Kernel,
        pid: i32,
        entry: Entry,
        owners: &BTreeSet<u32>,
    ) -> Result<Process, Errno> {
        let status = self.status(kernel, pid)?;
        if status.tgid != pid {
            // A thread's id: the process is what holds.
            let entry = kernel.process(status.tgid)?;
            let stat = self.stat(kernel, status.tgid)?;
            return Ok(joined(status.tgid, entry, stat, status));
        }
        let stat = self.stat(kernel, pid)?;
        let mut process = joined(pid, entry, stat, status);
        self.ask_namespace(kernel, &mut process, owners);
        Ok(process)
    }

    /// A process that is known and may have changed.
    fn again(&mut self, kernel: &mut dyn Kernel, process: &mut Process, owners: &BTreeSet<u32>) -> Result<(), Errno> {
        if process.kernel_thread {
            // It may have become a program of user space.
            process.kernel_thread = self.stat(kernel, process.pid)?.kernel_thread;
        }
        let status = self.status(kernel, process.pid)?;
        (process.comm, process.ppid) = (status.comm, status.ppid);
        (process.uids, process.takes_in) = (status.uids, status.takes_in);
        self.ask_namespace(kernel, process, owners);
        Ok(())
    }

    fn ask_namespace(&mut self, kernel: &mut dyn Kernel, process: &mut Process, owners: &BTreeSet<u32>) {
        if !process.kernel_thread && process.uids.iter().any(|uid| owners.contains(uid)) {
            process.placed = true;
            self.name(process.pid, "ns/ipc");
            process.ipc = kernel.read_link(&self.path).ok().and_then(|target| parse_namespace(&target));
        }
    }

    fn status(&mut self, kernel: &mut dyn Kernel, pid: i32) -> Result<Status, Errno> {
        self.name(pid, "status");
        kernel.read(&self.path, MAX_PROCESS_FILE, &mut self.text)?;
        parse_status(&self.text).ok_or(Errno::EIO)
    }

    fn stat(&mut self, kernel: &mut dyn Kernel, pid: i32) -> Result<Stat, Errno> {
        self.name(pid, "stat");
        kernel.read(&self.path, MAX_PROCESS_FILE, &mut self.text)?;
        parse_stat(&self.text).ok_or(Errno::EIO)
    }

    fn name(&mut self, pid: i32, file: &str) {
        self.path.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.path, "/proc/{pid}/{file}");
    }
}

fn joined(pid: i32, entry: Entry, stat: Stat, status: Status) -> Process {
    Process {
        pid,
        mark: entry.mark,
        start_us: stat.start_us,
        ppid: status.ppid,
        session: stat.session,
        comm: status.comm,
        uids: status.uids,
        kernel_thread: stat.kernel_thread,
        takes_in: status.takes_in,
        ipc: None,
        placed: false,
    }
}
