//! Reads the objects of the three kinds: from `/proc/sysvipc`, or by index where that is hidden.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::object::{Kind, MsgQueue, Object, SemArray, ShmSegment};
use highwater_ipc::snapshot::{LeftOut, Unreadable};

use super::unread::because;
use crate::kernel::Kernel;
use crate::kernel::reread::Reread;
use crate::kernel::sysvipc::{Extent, Listing, ParseError, parse_msg, parse_sem, parse_shm, path};
use crate::kernel::totals::Answers;
use crate::sys::errno::Errno;

/// The objects of one namespace, as far as they could be read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) sem: Option<Vec<SemArray>>,
    pub(super) shm: Option<Vec<ShmSegment>>,
    pub(super) msg: Option<Vec<MsgQueue>>,
    pub(super) unreadable: Vec<Unreadable>,
    pub(super) left_out: LeftOut,
    /// What opening and reading `/proc/sysvipc/sem` gave.
    pub(super) proc_sem: Result<(), Errno>,
}

/// What is kept from sample to sample.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) buffer: Vec<u8>,
    /// Whether ids have 24 bits of index (`ipcmni_extend`) rather than 15, as found out.
    wide_index: bool,
    /// When the sample under way began, microseconds since boot.
    pub(super) now_us: u64,
    /// The host's own files as they were read last.
    sem: Reread<SemArray>,
    shm: Reread<ShmSegment>,
    msg: Reread<MsgQueue>,
}

/// `msg_qbytes` of the queues of one namespace, as far as it need not be asked again: only IPC_SET changes it, and that
/// moves the ctime, which counts whole seconds.
#[derive(Debug, Default)]
pub(super) struct QueueBytes(BTreeMap<i32, Settled>);

#[derive(Debug)]
struct Settled {
    /// As it was seen first with that ctime.
    row: MsgQueue,
    since_us: u64,
    /// Whether it was asked when that second was over.
    known: bool,
}

/// After that time the second of a ctime is over, even where clocks are read late; microseconds.
const SECOND_OVER_US: u64 = 2_000_000;

impl QueueBytes {
    /// What is known of that queue; `None` = it must be asked.
    fn of(&self, queue: &MsgQueue) -> Option<u64> {
        self.0.get(&queue.msqid).filter(|known| known.known && known.is(queue)).and_then(|known| known.row.qbytes)
    }

    fn learn(&mut self, queue: &MsgQueue, now_us: u64) {
        let known = self.0.entry(queue.msqid).or_insert(Settled { row: *queue, since_us: now_us, known: false });
        if !known.is(queue) {
            *known = Settled { row: *queue, since_us: now_us, known: false };
        }
        known.row.qbytes = queue.qbytes;
        known.known = now_us.saturating_sub(known.since_us) >= SECOND_OVER_US;
    }
}

impl Settled {
    fn is(&self, queue: &MsgQueue) -> bool {
        self.row.ctime == queue.ctime && queue.is_same_as(&self.row)
    }
}

/// What is told of a namespace whose objects are not listed: how many there are of each kind.
pub(super) fn counted(totals: &Answers, counts: LeftOut) -> Read {
    let mut read = Read {
        sem: totals.sem.is_ok().then(Vec::new),
        shm: totals.shm.is_ok().then(Vec::new),
        msg: totals.msg.is_ok().then(Vec::new),
        unreadable: Vec::new(),
        left_out: LeftOut::default(),
        proc_sem: Ok(()),
    };
    leave_out(&mut read, counts);
    read
}

/// Lists nothing of the kinds of which there are objects. Not known is not none: an empty list would say that they were
/// removed.
pub(super) fn leave_out(read: &mut Read, counts: LeftOut) {
    read.left_out = counts;
    if counts.sem > 0 {
        read.sem = None;
    }
    if counts.shm > 0 {
        read.shm = None;
    }
    if counts.msg > 0 {
        read.msg = None;
    }
}

/// Reads all three, at most `budget` together, semaphores first. Of the host's own namespace every file is read: whether
/// that works is evidence. In another one a kind of which there is nothing needs no file.
pub(super) fn read(
    kernel: &mut dyn Kernel,
    scratch: &mut Scratch,
    queue_bytes: &mut QueueBytes,
    totals: &Answers,
    (budget, host): (usize, bool),
) -> Read {
    let mut reader = Reader { kernel, scratch, budget, host, largest: 0, unreadable: Vec::new() };
    let used = totals.sem.map(|sem| Used { objects: sem.arrays, max_index: sem.max_index });
    let (sem, sem_file) =
        reader.kind(used, (parse_sem, |files| &mut files.sem), |kernel, index| kernel.sem_stat(index));
    let used = totals.shm.map(|shm| Used { objects: shm.segments, max_index: shm.max_index });
    let (shm, _) = reader.kind(used, (parse_shm, |files| &mut files.shm), |kernel, index| kernel.shm_stat(index));
    let used = totals.msg.map(|msg| Used { objects: msg.queues, max_index: msg.max_index });
    let (mut msg, _) = reader.kind(used, (parse_msg, |files| &mut files.msg), |kernel, index| kernel.msg_stat(index));
    if let Some((queues, _)) = &mut msg {
        reader.add_qbytes(queues, queue_bytes);
    }
    give_back(reader.scratch, reader.largest);
    let left = |left: Option<u64>| left.unwrap_or(0);
    Read {
        left_out: LeftOut {
            sem: left(sem.as_ref().map(|(_, left)| *left)),
            shm: left(shm.as_ref().map(|(_, left)| *left)),
            msg: left(msg.as_ref().map(|(_, left)| *left)),
        },
        sem: sem.map(|(objects, _)| objects),
        shm: shm.map(|(objects, _)| objects),
        msg: msg.map(|(objects, _)| objects),
        unreadable: reader.unreadable,
        proc_sem: sem_file,
    }
}

/// Bytes of a file of /proc/sysvipc at most: the object budget at 200 bytes a line, and half as much again.
const MAX_FILE: usize = 32 << 20;

/// Indices asked at most where `/proc/sysvipc` is hidden; `ipcmni_extend` allows sixteen times as many, which would take
/// seconds. Objects beyond are counted as left out.
const MAX_INDICES: u32 = 1 << 20;

/// Gives memory back after a sample that was much larger than this one.
fn give_back(scratch: &mut Scratch, largest: usize) {
    if scratch.buffer.capacity() > KEPT && scratch.buffer.capacity() / 4 > largest {
        scratch.buffer.clear();
        scratch.buffer.shrink_to(largest.max(KEPT));
    }
}

/// Bytes of scratch that are always kept.
const KEPT: usize = 64 << 10;

/// What `*_INFO` says of one kind.
#[derive(Clone, Copy)]
struct Used {
    objects: u64,
    max_index: u32,
}

/// How a file is parsed, and where it is kept that was parsed last.
type Parse<T> = (fn(&[u8], Extent) -> Result<Listing<T>, ParseError>, fn(&mut Scratch) -> &mut Reread<T>);

/// Objects of one kind, and how many were left out.
type Objects<T> = Option<(Vec<T>, u64)>;

struct Reader<'a> {
    kernel: &'a mut dyn Kernel,
    scratch: &'a mut Scratch,
    budget: usize,
    /// Whether this is the host's own namespace.
    host: bool,
    /// Bytes of the largest file so far.
    largest: usize,
    unreadable: Vec<Unreadable>,
}

impl Reader<'_> {
    /// The objects of one kind, and what its file gave.
    fn kind<T: Object + Copy>(
        &mut self,
        used: Result<Used, Errno>,
        parse: Parse<T>,
        stat: fn(&mut dyn Kernel, u32) -> Result<T, Errno>,
    ) -> (Objects<T>, Result<(), Errno>) {
        if !self.host && used.is_ok_and(|used| used.objects == 0) {
            return (Some((Vec::new(), 0)), Ok(()));
        }
        let file = path(T::KIND);
        let read = self.kernel.read(file, MAX_FILE, &mut self.scratch.buffer);
        self.largest = self.largest.max(self.scratch.buffer.len());
        let objects = match read {
            Ok(whole) => (self.parsed(used, whole, parse), Ok(())),
            Err(errno) if is_hidden(errno) => (self.by_index(used, errno, stat), Err(errno)),
            Err(errno) => {
                self.unreadable.push(because(file, 0, errno));
                (None, Err(errno))
            }
        };
        if let Some((listed, _)) = &objects.0 {
            self.budget = self.budget.saturating_sub(listed.len());
        }
        objects
    }

    fn parsed<T: Object + Copy>(
        &mut self,
        used: Result<Used, Errno>,
        whole: bool,
        (parse, before): Parse<T>,
    ) -> Objects<T> {
        let extent = Extent { budget: self.budget, whole };
        let listing = if self.host {
            let mut file = std::mem::take(before(self.scratch));
            let listing = file.parse(&self.scratch.buffer, extent, parse);
            *before(self.scratch) = file;
            listing
        } else {
            parse(&self.scratch.buffer, extent)
        };
        match listing {
            Ok(listing) => {
                if !listing.lacking.is_empty() {
                    let lacking = format!("no column {}: reads 0", listing.lacking.join(", no column "));
                    self.unreadable.push(because(path(T::KIND), 1, lacking));
                }
                let more = match used {
                    Ok(used) if !whole => used.objects.saturating_sub(count(&listing.objects)),
                    _ => 0,
                };
                Some((listing.objects, listing.left_out.max(more)))
            }
            Err(error) => {
                self.unreadable.push(because(error.file, error.line, error.problem));
                None
            }
        }
    }

    /// Asks for each index up to the highest in use: the order of `/proc/sysvipc` too.
    fn by_index<T: Object>(
        &mut self,
        used: Result<Used, Errno>,
        file: Errno,
        stat: fn(&mut dyn Kernel, u32) -> Result<T, Errno>,
    ) -> Objects<T> {
        let name = T::KIND.name().to_ascii_uppercase();
        let used = match used {
            Ok(used) => used,
            Err(errno) => {
                self.unreadable.push(because(path(T::KIND), 0, format!("{file}; {name}_INFO: {errno}")));
                return None;
            }
        };
        let mut objects = Vec::new();
        let last = used.max_index.min(MAX_INDICES);
        for index in 0..=last {
            if objects.len() >= self.budget {
                break;
            }
            match stat(self.kernel, index) {
                Ok(object) => objects.push(object),
                // Nothing at that index, or no longer.
                Err(Errno::EINVAL | Errno::EIDRM) => {}
                Err(errno) => {
                    let error = format!("{file}; {name}_STAT_ANY of index {index}: {errno}");
                    self.unreadable.push(because(path(T::KIND), 0, error));
                    return None;
                }
            }
        }
        if T::KIND == Kind::Shm && !objects.is_empty() {
            let error = format!("{file}; SHM_STAT_ANY has no rss, no swap: read 0");
            self.unreadable.push(because(path(T::KIND), 0, error));
        }
        let cut = objects.len() >= self.budget || last < used.max_index;
        let left_out = if cut { used.objects.saturating_sub(count(&objects)) } else { 0 };
        Some((objects, left_out))
    }

    /// `msg_qbytes`, which the file lacks, by index. What another queue took the place of meanwhile stays unknown.
    fn add_qbytes(&mut self, queues: &mut [MsgQueue], known: &mut QueueBytes) {
        for queue in queues.iter_mut().filter(|queue| queue.qbytes.is_none()) {
            queue.qbytes = known.of(queue);
            if queue.qbytes.is_some() {
                continue;
            }
            for wide in [self.scratch.wide_index, !self.scratch.wide_index] {
                let mask = if wide { WIDE_INDEX } else { NARROW_INDEX };
                match self.kernel.msg_stat(queue.msqid.cast_unsigned() & mask) {
                    Ok(answer) if answer.msqid == queue.msqid => {
                        queue.qbytes = answer.qbytes;
                        known.learn(queue, self.scratch.now_us);
                        self.scratch.wide_index = wide;
                        break;
                    }
                    Ok(_) | Err(Errno::EINVAL | Errno::EIDRM | Errno::EACCES) => {}
                    // The call is refused altogether, which the totals say.
                    Err(_) => return,
                }
            }
        }
        if known.0.len() > queues.len() {
            let there: BTreeSet<i32> = queues.iter().map(|queue| queue.msqid).collect();
            known.0.retain(|msqid, _| there.contains(msqid));
        }
    }
}

/// An id is a sequence number above the index, which has 15 bits, or 24 with `ipcmni_extend` (`ipc/util.h`).
const NARROW_INDEX: u32 = 0x7fff;
const WIDE_INDEX: u32 = 0xff_ffff;

/// Whether the file is not to be had here, rather than that this agent is short of something just now.
fn is_hidden(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::EACCES | Errno::EPERM | Errno::ENOTDIR)
}

fn count<T>(objects: &[T]) -> u64 {
    u64::try_from(objects.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use highwater_ipc::object::{Key, Owner, Perms};

    use super::*;

    fn queue(ctime: i64, qbytes: u64) -> MsgQueue {
        MsgQueue {
            key: Key(2),
            msqid: 7,
            perms: Perms(0o600),
            cbytes: 5,
            qnum: 1,
            qbytes: Some(qbytes),
            lspid: 3,
            lrpid: 0,
            owner: Owner::default(),
            stime: 1,
            rtime: 0,
            ctime,
        }
    }

    #[test]
    fn a_queues_bytes_are_asked_again_until_the_second_of_its_last_change_is_over() {
        let mut known = QueueBytes::default();
        for (now_us, answer) in [(1_000_000, 10), (1_900_000, 20), (2_900_000, 30)] {
            assert_eq!(known.of(&queue(100, 0)), None, "IPC_SET may come within that second");
            known.learn(&queue(100, answer), now_us);
        }
        known.learn(&queue(100, 30), 3_000_000);
        assert_eq!(known.of(&queue(100, 0)), Some(30));
        assert_eq!(known.of(&queue(101, 0)), None, "it was changed");
        assert_eq!(known.of(&MsgQueue { key: Key(3), ..queue(100, 0) }), None, "it is another one");
        known.learn(&queue(101, 40), 9_000_000);
        assert_eq!(known.of(&queue(101, 0)), None);
    }
}
