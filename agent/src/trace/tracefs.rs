//! A private instance of tracefs: made, filled with filtered events, read, and removed. `Documentation/trace/ftrace.rst`
//! of the kernel, "Instances".
//!
//! What is written where is all here. Nothing outside `instances/highwater-*` is written; outside it `events/header_page`,
//! the events' descriptions and `saved_cmdlines` are read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use highwater_ipc::text::HostText;

use super::caller::{parse_saved, parse_start};
use super::event::{Decoder, TRACED};
use super::format::{Format, MAX_FORMAT, PageHeader};
use crate::sys::errno::Errno;
use crate::sys::wait::NONBLOCKING;

/// Where tracefs is: the older place is a mount that debugfs makes.
pub const ROOTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// Asked for each processor; the kernel rounds it to whole pages and one more. Some 1,000 events.
pub const BUFFER_KB: u32 = 64;
/// The pid namespace that sees every process (PROC_PID_INIT_INO of `linux/proc_ns.h`).
pub const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

const PREFIX: &str = "highwater";
/// The most bytes of `saved_cmdlines` (128 lines unless somebody asked for more).
const MAX_SAVED: u64 = 64 << 10;
/// `saved_cmdlines` and `per_cpu/cpuN/stats` are small.
const MAX_STATS: u64 = 4096;

/// Why there is no tracing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// It is mounted nowhere.
    #[error(
        "tracefs is not mounted: refused calls and what is made and removed between two samples are not seen; \
         mount -t tracefs nodev /sys/kernel/tracing"
    )]
    NotMounted,
    /// It may not be used.
    #[error(
        "{path}: {errno}: refused calls and what is made and removed between two samples are not seen; let the agent's \
         user own /sys/kernel/tracing/instances, as its systemd unit does (chown; PRIVILEGES.md), or run it as root or \
         with CAP_DAC_OVERRIDE; kernel lockdown forbids it to everybody"
    )]
    Forbidden {
        /// Which file or directory.
        path: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The kernel has no such event.
    #[error(
        "this kernel has no event syscalls:{event}, or another one than is known: refused calls are not seen; it takes \
         CONFIG_FTRACE_SYSCALLS and CONFIG_SYSVIPC"
    )]
    NoEvent {
        /// Which.
        event: &'static str,
    },
    /// Anything else that went wrong.
    #[error("{path}: {errno}: refused calls and what is made and removed between two samples are not seen")]
    Failed {
        /// Which file.
        path: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// A machine whose pages are laid out the other way.
    #[error("raw trace pages of a big-endian machine are not read: refused calls are not seen")]
    BigEndian,
}

impl TraceError {
    fn of(path: &Path, error: &io::Error) -> Self {
        let (path, errno) = (path.display().to_string(), Errno::of(error));
        match errno {
            Errno::EPERM | Errno::EACCES => Self::Forbidden { path, errno },
            _ => Self::Failed { path, errno },
        }
    }
}

/// Who made an instance: what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its pid in its pid namespace.
    pub pid: u32,
    /// When it began, hundredths of a second since boot.
    pub start: u64,
    /// Inode of its pid namespace.
    pub namespace: u64,
}

impl Owner {
    /// This process.
    pub fn me() -> Result<Self, TraceError> {
        let (stat, link) = (Path::new("/proc/self/stat"), Path::new("/proc/self/ns/pid"));
        let bytes = read(stat, MAX_STATS).map_err(|e| TraceError::of(stat, &e))?;
        let namespace = fs::read_link(link).ok().and_then(|link| inode(&link.to_string_lossy()));
        let failed = |path: &Path| TraceError::Failed { path: path.display().to_string(), errno: Errno::EINVAL };
        let start = parse_start(&bytes).ok_or_else(|| failed(stat))?;
        Ok(Self { pid: std::process::id(), start, namespace: namespace.ok_or_else(|| failed(link))? })
    }

    /// Whether it sees every process by the pid that events carry.
    pub fn sees_all(&self) -> bool {
        self.namespace == INITIAL_PID_NAMESPACE
    }

    /// The name of its instance; `count` tells several of one process apart.
    pub fn name(&self, count: u32) -> String {
        let Self { pid, start, namespace } = self;
        let apart = if count == 0 { String::new() } else { format!(".{count}") };
        if self.sees_all() {
            format!("{PREFIX}-{pid}-{start}{apart}")
        } else {
            format!("{PREFIX}-{pid}-{start}-{namespace}{apart}")
        }
    }

    /// Who made the instance of that name; `None` = it is nobody's of this pattern.
    pub fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.split('.').next()?.split('-');
        if parts.next()? != PREFIX {
            return None;
        }
        let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let namespace = parts.next().map_or(Some(INITIAL_PID_NAMESPACE), |inode| inode.parse().ok())?;
        parts.next().is_none().then_some(Self { pid, start, namespace })
    }

    /// Whether it is known to be dead: only who shares its pid namespace can know.
    fn is_dead(&self, me: &Self) -> bool {
        if self.namespace != me.namespace {
            return false;
        }
        match read(Path::new(&format!("/proc/{}/stat", self.pid)), MAX_STATS) {
            Ok(stat) => parse_start(&stat).is_some_and(|start| start != self.start),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// The mounted tracefs that can be used.
pub fn root() -> Result<PathBuf, TraceError> {
    let mut why = TraceError::NotMounted;
    for root in ROOTS.map(PathBuf::from) {
        let instances = root.join("instances");
        match fs::read_dir(&instances) {
            Ok(_) => return Ok(root),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) if why == TraceError::NotMounted => why = TraceError::of(&instances, &e),
            Err(_) => {}
        }
    }
    Err(why)
}

/// Removes the instances of agents that died without doing so; returns how many.
pub fn sweep(root: &Path, me: &Owner) -> usize {
    let Ok(entries) = fs::read_dir(root.join("instances")) else { return 0 };
    let dead = entries.flatten().filter(|entry| {
        let owner = entry.file_name().to_str().and_then(Owner::of_name);
        owner.is_some_and(|owner| owner.is_dead(me))
    });
    // One that somebody has open cannot be removed (EBUSY).
    dead.filter(|entry| fs::remove_dir(entry.path()).is_ok()).count()
}

/// An instance of this process; dropping it removes it.
#[derive(Debug)]
pub struct Instance {
    root: PathBuf,
    path: PathBuf,
    header: PageHeader,
    decoder: Decoder,
    pipes: Vec<Pipe>,
    /// Open so that the kernel frees the buffers as it closes it, however this process ends.
    free_buffer: Option<File>,
}

/// One processor's events.
#[derive(Debug)]
struct Pipe {
    file: File,
    stats: PathBuf,
    /// What it said of losses when it was asked last.
    lost: u64,
    /// It had a page since: else it cannot have lost anything.
    touched: bool,
}

static MADE: AtomicU32 = AtomicU32::new(0);

impl Instance {
    /// Makes an instance that records nothing yet.
    pub fn make(root: &Path, me: &Owner) -> Result<Self, TraceError> {
        if cfg!(target_endian = "big") {
            return Err(TraceError::BigEndian);
        }
        let header = root.join("events/header_page");
        let text = read(&header, MAX_FORMAT as u64).map_err(|e| TraceError::of(&header, &e))?;
        let unknown = || TraceError::Failed { path: header.display().to_string(), errno: Errno::EINVAL };
        let header = PageHeader::parse(&text).ok_or_else(unknown)?;
        let path = root.join("instances").join(me.name(MADE.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).map_err(|e| TraceError::of(&path, &e))?;
        // From here on it is removed when this is dropped.
        let root = root.to_owned();
        Ok(Self { root, path, header, decoder: Decoder::default(), pipes: Vec::new(), free_buffer: None })
    }

    /// Prepares its buffers and learns the events.
    pub fn prepare(&mut self) -> Result<(), TraceError> {
        self.write("buffer_size_kb", &BUFFER_KB.to_string())?;
        self.write("trace_clock", "boot")?;
        // One event wakes the reader. Before Linux 5.0 there is no such file, and any event does.
        if self.path.join("buffer_percent").exists() {
            self.write("buffer_percent", "0")?;
        }
        for (event, _) in TRACED {
            let path = self.path.join(format!("events/syscalls/{event}/format"));
            let text = match read(&path, MAX_FORMAT as u64) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(TraceError::NoEvent { event }),
                text => text.map_err(|e| TraceError::of(&path, &e))?,
            };
            let learnt = Format::parse(&text).is_some_and(|format| self.decoder.learn(event, &format));
            if !learnt {
                return Err(TraceError::NoEvent { event });
            }
        }
        let free_buffer = self.path.join("free_buffer");
        // It is for writing alone (0200), and its owner need not be root.
        let opened = OpenOptions::new().write(true).open(&free_buffer);
        self.free_buffer = Some(opened.map_err(|e| TraceError::of(&free_buffer, &e))?);
        self.open_pipes()
    }

    fn open_pipes(&mut self) -> Result<(), TraceError> {
        let processors = self.path.join("per_cpu");
        let entries = fs::read_dir(&processors).map_err(|e| TraceError::of(&processors, &e))?;
        for entry in entries.flatten() {
            let (path, stats) = (entry.path().join("trace_pipe_raw"), entry.path().join("stats"));
            let file = OpenOptions::new().read(true).custom_flags(NONBLOCKING).open(&path);
            let file = file.map_err(|e| TraceError::of(&path, &e))?;
            self.pipes.push(Pipe { file, stats, lost: 0, touched: false });
        }
        Ok(())
    }

    /// Records from now on.
    pub fn record(&self) -> Result<(), TraceError> {
        for (event, filter) in TRACED {
            self.write(&format!("events/syscalls/{event}/filter"), filter)?;
        }
        for (event, _) in TRACED {
            self.write(&format!("events/syscalls/{event}/enable"), "1")?;
        }
        Ok(())
    }

    /// Records nothing from now on.
    pub fn pause(&self) -> Result<(), TraceError> {
        self.write("events/enable", "0")
    }

    fn write(&self, file: &str, text: &str) -> Result<(), TraceError> {
        let path = self.path.join(file);
        // One write(2), which the kernel takes whole.
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(|e| TraceError::of(&path, &e))
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// How its pages begin.
    pub fn header(&self) -> &PageHeader {
        &self.header
    }

    /// What its events are.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The files to wait for, one a processor.
    pub fn files(&self) -> Vec<BorrowedFd<'_>> {
        self.pipes.iter().map(|pipe| pipe.file.as_fd()).collect()
    }

    /// The next page of that processor, `false` = it has none now.
    pub fn read_page(&mut self, processor: usize, page: &mut [u8]) -> Result<bool, Errno> {
        let Some(pipe) = self.pipes.get_mut(processor) else { return Ok(false) };
        match pipe.file.read(page) {
            Ok(0) => Ok(false),
            Ok(length) => {
                pipe.touched = true;
                // A short page ends where it ends.
                page.get_mut(length..).unwrap_or_default().fill(0);
                Ok(true)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
            Err(e) => Err(Errno::of(&e)),
        }
    }

    /// Events that the kernel dropped since this was asked last; `None` = it does not say.
    pub fn lost(&mut self) -> Option<u64> {
        let mut sum = 0_u64;
        for pipe in self.pipes.iter_mut().filter(|pipe| pipe.touched) {
            pipe.touched = false;
            let lost = parse_lost(&read(&pipe.stats, MAX_STATS).ok()?);
            sum = sum.saturating_add(lost.saturating_sub(pipe.lost));
            pipe.lost = lost;
        }
        Some(sum)
    }

    /// The name that the kernel remembers of a thread.
    pub fn saved_comm(&self, tid: i32) -> Option<HostText> {
        parse_saved(&read(&self.root.join("saved_cmdlines"), MAX_SAVED).ok()?, tid)
    }

    /// Bytes of its buffers, all processors together.
    pub fn buffer_bytes(&self) -> Option<u64> {
        parse_kb(&read(&self.path.join("buffer_total_size_kb"), MAX_STATS).ok()?)
    }

    /// Whether another instance, or the top one, traces such calls just now.
    pub fn others(&self) -> bool {
        let instances = fs::read_dir(self.root.join("instances")).into_iter().flatten().flatten().map(|e| e.path());
        let traces = |path: PathBuf| {
            let enabled = read(&path.join("events/syscalls/enable"), 8).unwrap_or_default();
            matches!(enabled.first(), Some(b'1' | b'X'))
        };
        instances.filter(|path| *path != self.path).chain([self.root.clone()]).any(traces)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // An instance with an open file cannot be removed.
        self.pipes.clear();
        self.free_buffer = None;
        if let Err(e) = fs::remove_dir(&self.path) {
            tracing::warn!(instance = %self.path.display(), error = %e, "the trace instance stays; the next start removes it");
        }
    }
}

/// More than files that must be read at once have.
const WHOLE_FILE: usize = 4096;

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Some files (`events/header_page`) answer the first read(2) alone: without room the standard library begins with one
    // of 32 bytes, and that would be all.
    let mut bytes = Vec::with_capacity(WHOLE_FILE);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes of a `buffer_total_size_kb`: `14 (expanded: 2816)` where buffers are not there yet.
pub fn parse_kb(text: &[u8]) -> Option<u64> {
    let kb = std::str::from_utf8(text).ok()?.split_whitespace().next()?.parse::<u64>().ok()?;
    kb.checked_mul(1024)
}

/// What `per_cpu/cpuN/stats` says was lost: overwritten, refused by a full buffer, or cut off by an interrupt.
pub fn parse_lost(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    let counts = text.lines().filter_map(|line| {
        let (name, count) = line.split_once(": ")?;
        matches!(name, "overrun" | "commit overrun" | "dropped events").then(|| count.trim().parse::<u64>().ok())?
    });
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instances_name_says_whose_it_is() {
        let me = Owner { pid: 41, start: 1234, namespace: INITIAL_PID_NAMESPACE };
        assert_eq!(me.name(0), "highwater-41-1234");
        assert_eq!(Owner::of_name("highwater-41-1234"), Some(me));
        let inner = Owner { namespace: 7, ..me };
        assert_eq!(inner.name(2), "highwater-41-1234-7.2");
        assert_eq!(Owner::of_name("highwater-41-1234-7.2"), Some(inner));
        for name in ["foo", "highwater", "highwater-x-1", "highwater-1", "highwater-1-2-3-4", "highwater2-1-2"] {
            assert_eq!(Owner::of_name(name), None, "{name}");
        }
    }

    #[test]
    fn only_a_dead_owner_of_the_same_pid_namespace_is_dead() {
        let me = Owner::me().unwrap();
        assert!(!me.is_dead(&me));
        assert!(Owner { start: me.start + 1, ..me }.is_dead(&me), "the pid came back");
        assert!(Owner { pid: u32::MAX, ..me }.is_dead(&me));
        assert!(!Owner { pid: u32::MAX, namespace: me.namespace + 1, ..me }.is_dead(&me), "who knows");
    }

    #[test]
    fn every_way_to_lose_an_event_counts() {
        let text = b"entries: 4\noverrun: 2\ncommit overrun: 3\nbytes: 144\nnow ts: 24701.3\ndropped events: 5\nread events: 9\n";
        assert_eq!(parse_lost(text), 10);
        assert_eq!(parse_lost(b"overrun: x\n"), 0);
    }
}
