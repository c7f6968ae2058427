//! A kernel that holds what a test or a simulation gives it, and fails where it is told to.
//!
//! Honest: its files of /proc, its totals and its `*_STAT_ANY` answers all show the same objects, in the order and
//! layout of Linux, unless one is overridden. [`FakeKernel::captured`] loads a captured machine (see
//! `testdata/kernels/README.md`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem;

use highwater_ipc::limits::Limits;
use highwater_ipc::object::{MsgQueue, Object, Owner, SemArray, ShmSegment};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;

use super::limits::{SEMVMX, SHMMIN};
use super::{Account, Entry, Kernel, Seen};
use crate::sys::errno::Errno;
use crate::sys::host::Uname;
use crate::sys::sysvipc::{MsgLimits, MsgUse, SemLimits, SemUse, ShmLimits, ShmUse};

/// What the fake holds; everything may be changed between two samples.
pub struct FakeKernel {
    /// Files by path, or the error of opening them. One that is not here is shown from the objects and limits below if
    /// it is a file of System V IPC, and does not exist otherwise.
    pub files: BTreeMap<String, Result<Vec<u8>, Errno>>,
    /// Targets of symbolic links.
    pub links: BTreeMap<String, Vec<u8>>,
    /// Semaphore arrays.
    pub sem: Vec<SemArray>,
    /// Shared memory segments.
    pub shm: Vec<ShmSegment>,
    /// Message queues.
    pub msg: Vec<MsgQueue>,
    /// Limits.
    pub limits: Limits,
    /// What every System V IPC call fails with, if anything.
    pub calls_fail: Option<Errno>,
    /// Answer of SEM_INFO instead of the true one.
    pub sem_info: Option<Result<SemUse, Errno>>,
    /// Answer of SHM_INFO instead of the true one.
    pub shm_info: Option<Result<ShmUse, Errno>>,
    /// Answer of MSG_INFO instead of the true one.
    pub msg_info: Option<Result<MsgUse, Errno>>,
    /// Bits of an id that are its index: 15, or 24 with `ipcmni_extend`.
    pub index_bits: u32,
    /// The IPC namespace that the objects and limits above are in: the agent's home, or where it is just now.
    pub namespace: Result<NamespaceId, Errno>,
    /// The others (while the agent is away from home, its home in the place of the one it is in).
    pub others: Vec<FakeNamespace>,
    /// Processes by pid: the inode of the IPC namespace each is in, or the error of looking at it. Their files are in
    /// `files`.
    pub processes: BTreeMap<i32, Result<u64, Errno>>,
    /// The directories of processes; one that is not here is root's and never another process.
    pub entries: BTreeMap<i32, Entry>,
    /// Last pid and waiters by semid and semaphore, or what asking for them fails with; (0, 0) where nothing is said.
    pub semaphores: BTreeMap<(i32, u32), Result<(i32, u64), Errno>>,
    /// What entering another namespace fails with, by inode.
    pub closed: BTreeMap<u64, Errno>,
    /// Whether it is a kernel without NS_GET_ID, whose namespaces are told apart by inode alone.
    pub without_ids: bool,
    /// Index in `others` of where home is kept while the agent is away.
    pub away: Option<usize>,
    /// Answer of `uname(2)`.
    pub uname: Uname,
    /// Bytes in a page.
    pub page_size: u32,
    /// Names.
    pub names: BTreeMap<Account, HostText>,
    /// What happens after a file of that path was read, once each: changes amid a sample.
    pub after_read: Vec<(String, Happening)>,
}

/// Another IPC namespace of a fake kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeNamespace {
    /// Inode, and the kernel's number.
    pub id: NamespaceId,
    /// Semaphore arrays.
    pub sem: Vec<SemArray>,
    /// Shared memory segments.
    pub shm: Vec<ShmSegment>,
    /// Message queues.
    pub msg: Vec<MsgQueue>,
    /// Limits.
    pub limits: Limits,
}

impl FakeNamespace {
    /// One without objects and with the default limits.
    pub fn new(inode: u64, instance: u64) -> Self {
        let id = NamespaceId { inode, instance };
        Self { id, sem: Vec::new(), shm: Vec::new(), msg: Vec::new(), limits: DEFAULT_LIMITS }
    }
}

/// A change to a fake kernel at a chosen moment.
pub type Happening = Box<dyn FnOnce(&mut FakeKernel) + Send>;

impl FakeKernel {
    /// A Linux without objects and with the default limits.
    pub fn new() -> Self {
        FakeKernel {
            files: BTreeMap::from([(
                "/proc/sys/kernel/random/boot_id".to_owned(),
                Ok(b"00000000-0000-4000-8000-000000000001\n".to_vec()),
            )]),
            links: BTreeMap::new(),
            sem: Vec::new(),
            shm: Vec::new(),
            msg: Vec::new(),
            limits: DEFAULT_LIMITS,
            calls_fail: None,
            sem_info: None,
            shm_info: None,
            msg_info: None,
            index_bits: 15,
            namespace: Ok(HOME),
            others: Vec::new(),
            processes: BTreeMap::from([(1, Ok(HOME.inode))]),
            entries: BTreeMap::new(),
            semaphores: BTreeMap::new(),
            closed: BTreeMap::new(),
            without_ids: false,
            away: None,
            uname: Uname { nodename: b"fake".to_vec(), release: b"6.1.0-fake".to_vec(), machine: b"x86_64".to_vec() },
            page_size: 4096,
            names: BTreeMap::new(),
            after_read: Vec::new(),
        }
    }

    /// Makes a file fail to open.
    pub fn fail(&mut self, path: &str, errno: Errno) {
        self.files.insert(path.to_owned(), Err(errno));
    }

    /// A process that is in that namespace.
    pub fn process(&mut self, pid: i32, inode: u64) {
        self.processes.insert(pid, Ok(inode));
    }

    /// Puts another namespace in the place of the one the agent is in, and keeps that one there.
    fn swap(&mut self, other: usize) {
        let Some(there) = self.others.get_mut(other) else { return };
        mem::swap(&mut self.sem, &mut there.sem);
        mem::swap(&mut self.shm, &mut there.shm);
        mem::swap(&mut self.msg, &mut there.msg);
        mem::swap(&mut self.limits, &mut there.limits);
        if let Ok(id) = &mut self.namespace {
            mem::swap(id, &mut there.id);
        }
    }

    fn index(&self, id: i32) -> u32 {
        id.cast_unsigned() & ((1 << self.index_bits) - 1)
    }

    fn max_index<T: Object>(&self, objects: &[T]) -> u32 {
        objects.iter().map(|object| self.index(object.id())).max().unwrap_or(0)
    }

    fn at_index<T: Object>(&self, objects: &[T], index: u32) -> Result<T, Errno> {
        self.called()?;
        objects.iter().find(|object| self.index(object.id()) == index).copied().ok_or(Errno::EINVAL)
    }

    fn semaphore(&self, semid: i32, index: u32) -> Result<(i32, u64), Errno> {
        self.called()?;
        let exists = self.sem.iter().any(|array| array.semid == semid && index < array.nsems);
        let said = self.semaphores.get(&(semid, index)).copied().unwrap_or(Ok((0, 0)));
        if exists { said } else { Err(Errno::EINVAL) }
    }

    fn called(&self) -> Result<(), Errno> {
        self.calls_fail.map_or(Ok(()), Err)
    }

    fn content(&self, path: &str) -> Result<Vec<u8>, Errno> {
        if let Some(file) = self.files.get(path) {
            return file.clone();
        }
        let l = &self.limits;
        let text = match path {
            "/proc/sysvipc/sem" => sem_file(&self.sem),
            "/proc/sysvipc/shm" => shm_file(&self.shm),
            "/proc/sysvipc/msg" => msg_file(&self.msg),
            "/proc/sys/kernel/sem" => format!("{}\t{}\t{}\t{}\n", l.semmsl, l.semmns, l.semopm, l.semmni),
            "/proc/sys/kernel/shmmax" => format!("{}\n", l.shmmax),
            "/proc/sys/kernel/shmall" => format!("{}\n", l.shmall),
            "/proc/sys/kernel/shmmni" => format!("{}\n", l.shmmni),
            "/proc/sys/kernel/msgmax" => format!("{}\n", l.msgmax),
            "/proc/sys/kernel/msgmnb" => format!("{}\n", l.msgmnb),
            "/proc/sys/kernel/msgmni" => format!("{}\n", l.msgmni),
            _ => return Err(Errno::ENOENT),
        };
        Ok(text.into_bytes())
    }
}

impl Default for FakeKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for FakeKernel {
    fn read(&mut self, path: &str, limit: usize, into: &mut Vec<u8>) -> Result<bool, Errno> {
        into.clear();
        let content = self.content(path)?;
        into.extend_from_slice(content.get(..limit).unwrap_or(&content));
        while let Some(at) = self.after_read.iter().position(|(after, _)| after == path) {
            let (_, happen) = self.after_read.remove(at);
            happen(self);
        }
        Ok(content.len() <= limit)
    }

    fn list(&mut self, path: &str) -> Result<Vec<Vec<u8>>, Errno> {
        let below = format!("{path}/");
        let inside = self.files.keys().filter_map(|file| file.strip_prefix(&below)?.split('/').next());
        let mut names: Vec<Vec<u8>> = inside.map(|name| name.as_bytes().to_vec()).collect();
        names.dedup();
        if names.is_empty() { Err(Errno::ENOENT) } else { Ok(names) }
    }

    fn read_link(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        if let Some(target) = self.links.get(path) {
            return Ok(target.clone());
        }
        let pid = path.strip_prefix("/proc/").and_then(|path| path.strip_suffix("/ns/ipc")?.parse().ok());
        let inode = pid.and_then(|pid: i32| self.processes.get(&pid)).ok_or(Errno::ENOENT)?;
        inode.map(|inode| format!("ipc:[{inode}]").into_bytes())
    }

    fn sem_pid(&mut self, semid: i32, index: u32) -> Result<i32, Errno> {
        self.semaphore(semid, index).map(|(pid, _)| pid)
    }

    fn sem_waiters(&mut self, semid: i32, index: u32) -> Result<u64, Errno> {
        self.semaphore(semid, index).map(|(_, waiters)| waiters)
    }

    fn process(&mut self, pid: i32) -> Result<Entry, Errno> {
        let shown = self.processes.contains_key(&pid);
        let entry = self.entries.get(&pid).copied().unwrap_or(Entry { mark: (pid.unsigned_abs().into(), 0), uid: 0 });
        if shown { Ok(entry) } else { Err(Errno::ENOENT) }
    }

    fn pids(&mut self, into: &mut Vec<i32>) -> Result<(), Errno> {
        into.clear();
        into.extend(self.processes.keys());
        Ok(())
    }

    fn enter(&mut self, pid: i32) -> Result<Seen, Errno> {
        let inode = (*self.processes.get(&pid).ok_or(Errno::ENOENT)?)?;
        self.closed.get(&inode).map_or(Ok(()), |errno| Err(*errno))?;
        if self.namespace.is_ok_and(|here| here.inode != inode) {
            let before = self.away;
            self.home();
            let there = self.others.iter().position(|other| other.id.inode == inode);
            // A process in a namespace that the test did not describe has none any more.
            match there {
                Some(there) => self.swap(there),
                None => {
                    before.iter().for_each(|before| self.swap(*before));
                    self.away = before;
                    return Err(Errno::ENOENT);
                }
            }
            self.away = there;
        }
        let id = self.namespace.ok().filter(|_| !self.without_ids).map(|id| id.instance);
        Ok(Seen { inode, id })
    }

    fn home(&mut self) {
        if let Some(other) = self.away.take() {
            self.swap(other);
        }
    }

    fn sem_info(&mut self) -> Result<SemUse, Errno> {
        self.sem_info.unwrap_or_else(|| {
            self.called()?;
            let semaphores = self.sem.iter().map(|array| u64::from(array.nsems)).sum();
            Ok(SemUse { arrays: count(&self.sem), semaphores, max_index: self.max_index(&self.sem) })
        })
    }

    fn shm_info(&mut self) -> Result<ShmUse, Errno> {
        self.shm_info.unwrap_or_else(|| {
            self.called()?;
            let page = u64::from(self.page_size);
            let pages = |bytes: fn(&ShmSegment) -> u64| {
                self.shm.iter().map(|segment| bytes(segment).div_ceil(page)).fold(0, u64::saturating_add)
            };
            Ok(ShmUse {
                segments: count(&self.shm),
                pages: pages(|segment| segment.size),
                resident: pages(|segment| segment.rss),
                swapped: pages(|segment| segment.swap),
                swap_attempts: 0,
                swap_successes: 0,
                max_index: self.max_index(&self.shm),
            })
        })
    }

    fn msg_info(&mut self) -> Result<MsgUse, Errno> {
        self.msg_info.unwrap_or_else(|| {
            self.called()?;
            Ok(MsgUse {
                queues: count(&self.msg),
                messages: self.msg.iter().map(|queue| queue.qnum).fold(0, u64::saturating_add),
                bytes: self.msg.iter().map(|queue| queue.cbytes).fold(0, u64::saturating_add),
                max_index: self.max_index(&self.msg),
            })
        })
    }

    fn sem_limits(&mut self) -> Result<SemLimits, Errno> {
        let l = self.limits;
        self.called().map(|()| SemLimits { semmsl: l.semmsl, semmns: l.semmns, semopm: l.semopm, semmni: l.semmni })
    }

    fn shm_limits(&mut self) -> Result<ShmLimits, Errno> {
        let l = self.limits;
        self.called().map(|()| ShmLimits { shmmax: l.shmmax, shmall: l.shmall, shmmni: l.shmmni })
    }

    fn msg_limits(&mut self) -> Result<MsgLimits, Errno> {
        let l = self.limits;
        self.called().map(|()| MsgLimits { msgmax: l.msgmax, msgmnb: l.msgmnb, msgmni: l.msgmni })
    }

    fn sem_stat(&mut self, index: u32) -> Result<SemArray, Errno> {
        self.at_index(&self.sem, index)
    }

    fn shm_stat(&mut self, index: u32) -> Result<ShmSegment, Errno> {
        self.at_index(&self.shm, index).map(|segment| ShmSegment { rss: 0, swap: 0, ..segment })
    }

    fn msg_stat(&mut self, index: u32) -> Result<MsgQueue, Errno> {
        self.at_index(&self.msg, index)
            .map(|queue| MsgQueue { qbytes: queue.qbytes.or(Some(self.limits.msgmnb)), ..queue })
    }

    fn namespace(&mut self) -> Result<NamespaceId, Errno> {
        self.namespace
    }

    fn uname(&mut self) -> Result<Uname, Errno> {
        Ok(self.uname.clone())
    }

    fn page_size(&mut self) -> u32 {
        self.page_size
    }

    fn refresh_names(&mut self, _boot_us: u64) {}

    fn name(&mut self, account: Account) -> Option<HostText> {
        self.names.get(&account).cloned()
    }
}

/// The agent's own namespace, unless a test says otherwise: the one the kernel boots with.
pub const HOME: NamespaceId = NamespaceId { inode: 0xEFFF_FFFF, instance: 1 };

/// Limits of a namespace as Linux makes it, since 3.19.
pub const DEFAULT_LIMITS: Limits = Limits {
    semmsl: 32_000,
    semmns: 1_024_000_000,
    semopm: 500,
    semmni: 32_000,
    semvmx: SEMVMX,
    shmmax: 18_446_744_073_692_774_399,
    shmall: 18_446_744_073_692_774_399,
    shmmni: 4096,
    shmmin: SHMMIN,
    msgmax: 8192,
    msgmnb: 16_384,
    msgmni: 32_000,
};

fn count<T>(objects: &[T]) -> u64 {
    u64::try_from(objects.len()).unwrap_or(u64::MAX)
}

/// `sysvipc_sem_proc_show`.
fn sem_file(objects: &[SemArray]) -> String {
    let mut text = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n".to_owned();
    for o in objects {
        let _ = write!(text, "{:10} {:10}  {:4o} {:10} ", o.key.0, o.semid, o.perms.0, o.nsems);
        let _ = writeln!(text, "{} {:10} {:10}", owner(&o.owner), o.otime.cast_unsigned(), o.ctime.cast_unsigned());
    }
    text
}

/// `sysvipc_shm_proc_show`.
fn shm_file(objects: &[ShmSegment]) -> String {
    let mut text = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      \
                    atime      dtime      ctime                   rss                  swap\n"
        .to_owned();
    for o in objects {
        let _ = write!(text, "{:10} {:10}  {:4o} {:21} {:5} ", o.key.0, o.shmid, o.perms.0, o.size, o.cpid);
        let _ = write!(text, "{:5}  {:5} {} {:10} ", o.lpid, o.nattch, owner(&o.owner), o.atime.cast_unsigned());
        let _ = write!(text, "{:10} {:10} ", o.dtime.cast_unsigned(), o.ctime.cast_unsigned());
        let _ = writeln!(text, "{:21} {:21}", o.rss, o.swap);
    }
    text
}

/// `sysvipc_msg_proc_show`.
fn msg_file(objects: &[MsgQueue]) -> String {
    let mut text =
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      \
                    rtime      ctime\n"
            .to_owned();
    for o in objects {
        let _ = write!(text, "{:10} {:10}  {:4o}  {:10} {:10} ", o.key.0, o.msqid, o.perms.0, o.cbytes, o.qnum);
        let _ = write!(text, "{:5} {:5} {} ", o.lspid, o.lrpid, owner(&o.owner));
        let _ = write!(text, "{:10} {:10} ", o.stime.cast_unsigned(), o.rtime.cast_unsigned());
        let _ = writeln!(text, "{:10}", o.ctime.cast_unsigned());
    }
    text
}

fn owner(owner: &Owner) -> String {
    format!("{:5} {:5} {:5} {:5}", owner.uid, owner.gid, owner.cuid, owner.cgid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entering_shows_the_other_namespace_and_home_the_first_again() {
        let mut kernel =
            FakeKernel { others: vec![FakeNamespace::new(7, 70), FakeNamespace::new(8, 80)], ..FakeKernel::new() };
        for (pid, inode) in [(10, 7), (11, 8), (12, 9)] {
            kernel.process(pid, inode);
        }
        kernel.limits.semmni = 1;
        kernel.others[0].limits.semmni = 2;
        kernel.others[1].limits.semmni = 3;
        let semmni = |kernel: &mut FakeKernel| kernel.sem_limits().unwrap().semmni;
        assert_eq!(kernel.enter(10), Ok(Seen { inode: 7, id: Some(70) }));
        assert_eq!(semmni(&mut kernel), 2);
        assert_eq!(kernel.enter(11), Ok(Seen { inode: 8, id: Some(80) }));
        assert_eq!(semmni(&mut kernel), 3);
        assert_eq!(
            (kernel.enter(12), semmni(&mut kernel)),
            (Err(Errno::ENOENT), 3),
            "after an error it is where it was"
        );
        kernel.home();
        assert_eq!((semmni(&mut kernel), kernel.namespace), (1, Ok(HOME)));
        assert_eq!(kernel.enter(1), Ok(Seen { inode: HOME.inode, id: Some(1) }));
        assert_eq!(kernel.read_link("/proc/11/ns/ipc"), Ok(b"ipc:[8]".to_vec()));
        let limits = [1, 2, 3];
        kernel.home();
        assert_eq!([kernel.limits.semmni, kernel.others[0].limits.semmni, kernel.others[1].limits.semmni], limits);
    }
}
