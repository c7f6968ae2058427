//! The running kernel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use highwater_ipc::object::{MsgQueue, SemArray, ShmSegment};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;

use super::names::{MAX_NAMES, Names};
use super::{Account, Entry, INITIAL_NAMESPACE, Kernel, Seen, accounts as parse};
use crate::sys::accounts;
use crate::sys::errno::Errno;
use crate::sys::host::{self, Uname};
use crate::sys::namespace;
use crate::sys::sysvipc::{self, MsgLimits, MsgUse, SemLimits, SemUse, ShmLimits, ShmUse};

/// Asks the kernel that runs this process, and its files.
#[derive(Debug)]
pub struct RealKernel {
    /// Prefix of every path; empty = the host's own files.
    root: PathBuf,
    names: Names,
    /// When `/etc/passwd` and `/etc/group` were changed last, as far as seen.
    changed: [Option<Change>; 2],
    /// [`RealKernel::stand_in`].
    instance: u64,
    /// The way back of the thread that entered another namespace first; no other thread does.
    way_home: Option<WayHome>,
    /// Whether that thread is away.
    away: bool,
    /// [`KEPT`], as they were opened in the thread's own namespace, and how often each was read since.
    kept: [Option<(File, u32)>; KEPT.len()],
    /// When it was last asked whether names may have changed, microseconds since boot.
    looked_us: Option<u64>,
}

/// The namespace that a thread lives in. The file keeps only the agent's own namespace alive, which lives as long as the
/// agent anyway.
#[derive(Debug)]
struct WayHome {
    file: File,
    /// Device and inode of the namespace.
    place: (u64, u64),
}

impl RealKernel {
    /// The host's own files.
    pub fn new() -> Self {
        Self::with_root(PathBuf::new())
    }

    /// Files below another directory (system calls still go to the running kernel).
    pub fn with_root(root: PathBuf) -> Self {
        let instance = u64::try_from(host::boottime().as_micros()).unwrap_or(u64::MAX);
        Self {
            root,
            names: Names::new(look_up),
            changed: [None; 2],
            instance,
            way_home: None,
            away: false,
            kept: [const { None }; KEPT.len()],
            looked_us: None,
        }
    }

    /// Stands for the instance of this process's namespace where the kernel has no NS_GET_ID and it is not the initial
    /// one: when this process began to sample, unless [`RealKernel::set_stand_in`] knows better.
    pub fn stand_in(&self) -> u64 {
        self.instance
    }

    /// An earlier process gave the namespace this instance.
    pub fn set_stand_in(&mut self, instance: u64) {
        self.instance = instance;
    }

    fn path(&self, path: &str) -> PathBuf {
        if self.root.as_os_str().is_empty() {
            return PathBuf::from(path);
        }
        self.root.join(path.trim_start_matches('/'))
    }

    /// Reads a file that stays open. It is opened anew now and then, for what stands at that path may have been covered.
    fn read_kept(&mut self, which: usize, limit: usize, into: &mut Vec<u8>) -> Result<bool, Errno> {
        let (file, reads) = match self.kept[which].take() {
            Some((file, reads)) if reads < REOPEN_AFTER => (file, reads + 1),
            _ => (File::open(KEPT[which]).map_err(|error| Errno::of(&error))?, 1),
        };
        let read = fill(&mut Start { file: &file, offset: 0 }, limit, into).map_err(|error| Errno::of(&error));
        self.kept[which] = read.is_ok().then_some((file, reads));
        read
    }

    fn read_names(&mut self, path: &str) -> Option<BTreeMap<u32, HostText>> {
        let mut buffer = Vec::new();
        self.read(path, MAX_ACCOUNTS, &mut buffer).ok()?;
        Some(parse::parse(&buffer, MAX_NAMES))
    }
}

impl Default for RealKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for RealKernel {
    fn read(&mut self, path: &str, limit: usize, into: &mut Vec<u8>) -> Result<bool, Errno> {
        into.clear();
        if let Some(kept) =
            KEPT.iter().position(|kept| *kept == path).filter(|_| !self.away && self.root.as_os_str().is_empty())
        {
            return self.read_kept(kept, limit, into);
        }
        let file = if self.root.as_os_str().is_empty() { File::open(path) } else { File::open(self.path(path)) };
        fill(&mut file.map_err(|error| Errno::of(&error))?, limit, into).map_err(|error| Errno::of(&error))
    }

    fn list(&mut self, path: &str) -> Result<Vec<Vec<u8>>, Errno> {
        let entries = fs::read_dir(self.path(path)).map_err(|error| Errno::of(&error))?;
        let names = entries.take(MAX_LISTED).map(|entry| entry.map(|entry| entry.file_name().into_vec()));
        let mut names = names.collect::<Result<Vec<_>, _>>().map_err(|error| Errno::of(&error))?;
        names.sort();
        Ok(names)
    }

    fn read_link(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        let target = fs::read_link(self.path(path)).map_err(|error| Errno::of(&error))?;
        Ok(target.into_os_string().into_vec())
    }

    fn sem_info(&mut self) -> Result<SemUse, Errno> {
        sysvipc::sem_info()
    }

    fn shm_info(&mut self) -> Result<ShmUse, Errno> {
        sysvipc::shm_info()
    }

    fn msg_info(&mut self) -> Result<MsgUse, Errno> {
        sysvipc::msg_info()
    }

    fn sem_limits(&mut self) -> Result<SemLimits, Errno> {
        sysvipc::sem_limits()
    }

    fn shm_limits(&mut self) -> Result<ShmLimits, Errno> {
        sysvipc::shm_limits()
    }

    fn msg_limits(&mut self) -> Result<MsgLimits, Errno> {
        sysvipc::msg_limits()
    }

    fn sem_stat(&mut self, index: u32) -> Result<SemArray, Errno> {
        sysvipc::sem_stat(index)
    }

    fn shm_stat(&mut self, index: u32) -> Result<ShmSegment, Errno> {
        sysvipc::shm_stat(index)
    }

    fn msg_stat(&mut self, index: u32) -> Result<MsgQueue, Errno> {
        sysvipc::msg_stat(index)
    }

    /// Without NS_GET_ID (before Linux 6.18) the initial namespace, whose inode no other ever has, is instance 0; any
    /// other one is told apart by [`RealKernel::stand_in`].
    fn namespace(&mut self) -> Result<NamespaceId, Errno> {
        let file = File::open(THREAD_NAMESPACE)
            // Before Linux 3.17; no thread of this process is in another namespace than its first one for long.
            .or_else(|_| File::open("/proc/self/ns/ipc"))
            .map_err(|error| Errno::of(&error))?;
        let inode = file.metadata().map_err(|error| Errno::of(&error))?.ino();
        let instance = match host::namespace_id(&file) {
            Ok(id) => id,
            Err(_) if inode == INITIAL_NAMESPACE => 0,
            Err(_) => self.instance,
        };
        Ok(NamespaceId { inode, instance })
    }

    fn sem_pid(&mut self, semid: i32, index: u32) -> Result<i32, Errno> {
        sysvipc::sem_pid(semid, index)
    }

    fn sem_waiters(&mut self, semid: i32, index: u32) -> Result<u64, Errno> {
        sysvipc::sem_waiters(semid, index)
    }

    fn process(&mut self, pid: i32) -> Result<Entry, Errno> {
        let data = fs::metadata(self.path(&format!("/proc/{pid}"))).map_err(|error| Errno::of(&error))?;
        let made = i128::from(data.ctime()) * 1_000_000_000 + i128::from(data.ctime_nsec());
        Ok(Entry { mark: (data.ino(), made), uid: data.uid() })
    }

    fn pids(&mut self, into: &mut Vec<i32>) -> Result<(), Errno> {
        into.clear();
        for entry in fs::read_dir(self.path("/proc")).map_err(|error| Errno::of(&error))? {
            let name = entry.map_err(|error| Errno::of(&error))?.file_name();
            into.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|pid| *pid > 0));
        }
        Ok(())
    }

    fn enter(&mut self, pid: i32) -> Result<Seen, Errno> {
        if self.way_home.is_none() {
            // `/proc/self/ns/ipc` would be the main thread's, which need not be where this thread is.
            let file = File::open(THREAD_NAMESPACE).map_err(|error| Errno::of(&error))?;
            let place = place(&file.metadata().map_err(|error| Errno::of(&error))?);
            self.way_home = Some(WayHome { file, place });
        }
        // Opened with O_CLOEXEC, and closed however this ends.
        let file = File::open(self.path(&format!("/proc/{pid}/ns/ipc"))).map_err(|error| Errno::of(&error))?;
        let inode = file.metadata().map_err(|error| Errno::of(&error))?.ino();
        namespace::enter_ipc(&file)?;
        self.away = true;
        Ok(Seen { inode, id: host::namespace_id(&file).ok() })
    }

    fn home(&mut self) {
        let Some(home) = self.way_home.as_ref().filter(|_| self.away) else { return };
        let back = namespace::enter_ipc(&home.file).and_then(|()| {
            let now = fs::metadata(THREAD_NAMESPACE).map_err(|error| Errno::of(&error))?;
            Ok(place(&now) == home.place)
        });
        if back != Ok(true) {
            tracing::error!(?back, "a thread cannot return from another IPC namespace; ending here");
            std::process::abort();
        }
        self.away = false;
    }

    fn uname(&mut self) -> Result<Uname, Errno> {
        host::uname()
    }

    fn page_size(&mut self) -> u32 {
        host::page_size()
    }

    fn refresh_names(&mut self, boot_us: u64) {
        self.names.begin_sample();
        if self.looked_us.is_some_and(|before| boot_us.saturating_sub(before) < LOOK_EVERY_US) {
            return;
        }
        self.looked_us = Some(boot_us);
        let now = ["/etc/passwd", "/etc/group"].map(|path| Change::of(&self.path(path)));
        if self.names.is_due(boot_us, now != self.changed) {
            let users = self.read_names("/etc/passwd");
            let groups = self.read_names("/etc/group");
            self.names.refresh(boot_us, users, groups);
            self.changed = now;
        }
    }

    fn name(&mut self, account: Account) -> Option<HostText> {
        self.names.name(account)
    }
}

/// Files that every sample reads: opening and closing them would be half of what that costs.
const KEPT: [&str; 4] = ["/proc/loadavg", "/proc/sysvipc/sem", "/proc/sysvipc/shm", "/proc/sysvipc/msg"];

/// Reads of a kept file before it is opened anew.
const REOPEN_AFTER: u32 = 30;

/// Time between two looks at whether names may have changed, microseconds.
const LOOK_EVERY_US: u64 = 5_000_000;

/// Reads a file from its beginning, wherever it was read before.
struct Start<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Start<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(into, self.offset)?;
        self.offset = self.offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }
}

/// The calling thread's own namespace.
const THREAD_NAMESPACE: &str = "/proc/thread-self/ns/ipc";

fn place(data: &fs::Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

/// Most names of a directory taken.
const MAX_LISTED: usize = 1000;

/// Largest `/etc/passwd` or `/etc/group` taken; names beyond it are asked of the name service switch.
const MAX_ACCOUNTS: usize = 8 << 20;

/// What tells that a file was written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
    bytes: u64,
}

impl Change {
    fn of(path: &Path) -> Option<Change> {
        let data = fs::metadata(path).ok()?;
        Some(Change { inode: data.ino(), modified_s: data.mtime(), modified_ns: data.mtime_nsec(), bytes: data.len() })
    }
}

/// Reads until `read(2)` returns 0 (a short read is not the end: /proc gives 4 KiB at a time) or `limit` is passed.
fn fill(file: &mut impl Read, limit: usize, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let wanted = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(wanted).read_to_end(into)?;
    let whole = into.len() <= limit;
    into.truncate(limit);
    Ok(whole)
}

fn look_up(account: Account) -> Result<Option<Vec<u8>>, Errno> {
    match account {
        Account::User(uid) => accounts::user_name(uid),
        Account::Group(gid) => accounts::group_name(gid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Gives a byte at a time and is interrupted between them.
    struct Slow(Vec<u8>, bool);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match (self.0.pop(), buffer.first_mut()) {
                (Some(byte), Some(place)) => {
                    *place = byte;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }

    #[test]
    fn a_short_read_is_not_the_end() {
        let mut into = Vec::new();
        assert!(fill(&mut Slow(b"cba".to_vec(), false), 3, &mut into).unwrap());
        assert_eq!(into, b"abc");
        into.clear();
        assert!(!fill(&mut Slow(b"cba".to_vec(), false), 2, &mut into).unwrap());
        assert_eq!(into, b"ab");
    }
}
