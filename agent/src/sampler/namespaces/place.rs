//! One IPC namespace among those that samples visit: how to get there, which one it is, what it is called.

use highwater_ipc::snapshot::{LeftOut, NamedBy, Namespace, NamespaceId};
use highwater_ipc::text::HostText;

use super::budget::{Load, MAX_OBJECTS};
use super::member::{self, MAX_MEMBERS, Member};
use crate::kernel::totals::Answers;
use crate::kernel::{INITIAL_NAMESPACE, Kernel, limits};
use crate::sampler::objects::{self, QueueBytes, Read, Scratch};
use crate::sampler::unread::because;
use crate::sys::errno::Errno;

/// A namespace that samples visit.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) inode: u64,
    /// No two places of this process ever have one.
    pub(super) serial: u64,
    /// Which one, once that is known: at the first visit.
    pub(super) id: Option<NamespaceId>,
    /// What tells it apart where the kernel does not.
    chosen: u64,
    /// Whether the kernel has a number of its own for it (NS_GET_ID).
    numbered: bool,
    /// Whether it is the one the sampling thread lives in.
    pub(super) home: bool,
    /// Processes in it, the oldest first: the way in, and who it is named after. Of the host's own none is needed.
    members: Vec<Member>,
    /// Why it cannot be entered, as found since the last look at all processes.
    pub(super) closed: Option<Errno>,
    name: Option<(NamedBy, HostText)>,
    name_due: bool,
    limits: limits::Known,
    /// What is known of its queues.
    queue_bytes: QueueBytes,
    pub(super) load: Load,
    /// What the last visit read, if it may be shown again.
    pub(super) last: Option<Namespace>,
}

/// How an attempt to get to a place ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// The thread is there.
    There,
    /// The thread is in another one that has its inode now; what was there before is gone.
    Anew(Option<NamespaceId>),
    /// None of the known processes is in it any more.
    Dead,
    /// It may not be entered.
    Closed,
    /// The agent is short of something just now.
    Short(Errno),
}

/// What one visit found.
pub(super) struct Visit {
    pub(super) namespace: Namespace,
    /// What SEM_INFO answered.
    pub(super) sem_info: Result<(), Errno>,
    /// What opening and reading `/proc/sysvipc/sem` gave.
    pub(super) proc_sem: Result<(), Errno>,
}

impl Place {
    /// The agent's own.
    pub(super) fn home(id: Option<NamespaceId>) -> Self {
        let mut place = Self::new(id.map_or(0, |id| id.inode), 0, Vec::new(), 0);
        (place.home, place.id) = (true, id);
        place
    }

    /// One with these processes, found by that sample; `serial` tells it apart where the kernel does not.
    pub(super) fn new(inode: u64, serial: u64, members: Vec<Member>, sample: u64) -> Self {
        Self {
            inode,
            serial,
            id: None,
            chosen: if inode == INITIAL_NAMESPACE { 0 } else { serial },
            numbered: false,
            home: false,
            members,
            closed: None,
            name: None,
            name_due: true,
            limits: limits::Known::default(),
            queue_bytes: QueueBytes::default(),
            load: Load::new(sample),
            last: None,
        }
    }

    /// A look at all processes found these in its inode. Returns whether it can be the same namespace still; where the
    /// kernel numbers them the next visit will tell.
    pub(super) fn found(&mut self, kernel: &mut dyn Kernel, pids: &[i32], buffer: &mut Vec<u8>) -> bool {
        self.closed = None;
        self.name_due = true;
        let members = &mut self.members;
        members.retain(|member| pids.contains(&member.pid));
        if !self.numbered && !self.home {
            let now: Vec<Member> =
                members.iter().filter_map(|member| member::now(kernel, member.pid, buffer)).collect();
            if self.id.is_some() && !member::continues(members, &now) {
                return false;
            }
            members.retain(|member| now.contains(member));
        }
        if members.len() < FEW {
            let known: Vec<i32> = members.iter().map(|member| member.pid).collect();
            let others: Vec<i32> = pids.iter().copied().filter(|pid| !known.contains(pid)).collect();
            members.extend(member::oldest(kernel, &others, buffer));
            members.sort_unstable();
            members.truncate(MAX_MEMBERS);
        }
        true
    }

    /// Moves the thread there.
    pub(super) fn go(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> Went {
        if self.home {
            kernel.home();
            return Went::There;
        }
        while let Some(member) = self.members.first().copied() {
            match kernel.enter(member.pid) {
                Ok(seen) if seen.inode == self.inode => match seen.id {
                    Some(number) => return self.is_numbered(number),
                    // It started before the file was opened, so the file is that process's.
                    None if member::now(kernel, member.pid, buffer) == Some(member) => {
                        self.id = Some(NamespaceId { inode: self.inode, instance: self.chosen });
                        return Went::There;
                    }
                    None => {}
                },
                Ok(_) | Err(Errno::ENOENT | Errno::ESRCH) => {}
                Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
                    self.closed = Some(errno);
                    return Went::Closed;
                }
                Err(errno) => return Went::Short(errno),
            }
            self.members.remove(0);
        }
        Went::Dead
    }

    /// The kernel calls what the thread is in by that number.
    fn is_numbered(&mut self, number: u64) -> Went {
        let id = NamespaceId { inode: self.inode, instance: number };
        self.numbered = true;
        match self.id.replace(id) {
            Some(before) if before != id => {
                let members = std::mem::take(&mut self.members);
                let sample = self.load.visited.unwrap_or(self.load.found_at);
                *self = Self { id: Some(id), numbered: true, ..Self::new(self.inode, self.serial, members, sample) };
                Went::Anew(Some(before))
            }
            _ => Went::There,
        }
    }

    /// Whether its name is to be asked.
    pub(super) fn wants_name(&self) -> bool {
        self.name_due && self.id.is_some() && !self.members.is_empty()
    }

    /// Asks its oldest process for its name. One that nobody can be asked for keeps the name it has.
    pub(super) fn ask_name(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) {
        self.name_due = false;
        let name = member::name(kernel, &self.members, buffer).or_else(|| {
            // Their pids are others' now, who are in it all the same.
            let pids: Vec<i32> = self.members.iter().map(|member| member.pid).collect();
            self.members = member::oldest(kernel, &pids, buffer);
            member::name(kernel, &self.members, buffer)
        });
        if name.is_some() {
            self.name = name;
        }
    }

    /// Reads everything; the thread is there. `room` is how many objects may be listed; if there are more, none is
    /// (`host`: as many as there is room for are).
    pub(super) fn read(&mut self, kernel: &mut dyn Kernel, scratch: &mut Scratch, room: u64, host: bool) -> Visit {
        let before = Answers::ask(kernel);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(MAX_OBJECTS);
        let counts = counts(&before);
        let fits = |counts: LeftOut| sum(counts) <= u64::try_from(room).unwrap_or(u64::MAX);
        let (mut read, after) = if host || fits(counts) {
            let read = objects::read(kernel, scratch, &mut self.queue_bytes, &before, (room, host));
            (read, Answers::ask(kernel))
        } else {
            // One answer is whole. A second one is dear where there are many segments.
            (objects::counted(&before, counts), before)
        };
        if !host && read.left_out != LeftOut::default() {
            // It grew while it was read. A part of its objects would look as if the others had been removed.
            objects::leave_out(&mut read, counts);
        }
        read.unreadable.extend(before.errors().map(|(call, errno)| because(call, 0, errno)));
        let limits = match self.limits.read(kernel, &mut scratch.buffer) {
            Ok(limits) => Some(limits),
            Err(errors) => {
                read.unreadable.extend(errors.into_iter().map(|error| because(error.file, 0, error.problem)));
                None
            }
        };
        read.unreadable.truncate(Namespace::MAX_UNREADABLE);
        self.load.objects = Some(sum(counts).max(listed(&read)));
        self.load.segments = counts.shm;
        let namespace = Namespace {
            torn: before != after,
            limits,
            totals: before.totals(),
            sem: read.sem,
            shm: read.shm,
            msg: read.msg,
            unreadable: read.unreadable,
            left_out: read.left_out,
            ..self.bare()
        };
        Visit { namespace, sem_info: before.sem.map(|_| ()), proc_sem: read.proc_sem }
    }

    /// Whether there is no way in any more.
    pub(super) fn is_left(&self) -> bool {
        !self.home && self.members.is_empty()
    }

    /// That sample would have visited it and could not.
    pub(super) fn passed(&mut self, sample: u64) {
        (self.load.visited, self.load.kept) = (Some(sample), true);
    }

    /// That sample visited it and read this.
    pub(super) fn visited(&mut self, sample: u64, read: &Namespace) {
        let listed = read.left_out == LeftOut::default();
        (self.load.listed, self.load.visited) = (listed, Some(sample));
    }

    /// It could not be visited for want of something; it is there all the same.
    pub(super) fn unvisited(&self, errno: Errno) -> Namespace {
        Namespace { unreadable: vec![because("/proc/PID/ns/ipc", 0, errno)], ..self.bare() }
    }

    /// What is known of it without a visit.
    fn bare(&self) -> Namespace {
        Namespace { id: self.id.unwrap_or_default(), ..Namespace::default() }
    }

    /// Puts its name to what a visit read; the host's own namespace has none.
    pub(super) fn put_name(&self, namespace: &mut Namespace) {
        (namespace.named_by, namespace.name) = match &self.name {
            Some((by, name)) => (*by, Some(name.clone())),
            None => (NamedBy::Nothing, None),
        };
    }
}

/// Fewer known members than this are added to.
const FEW: usize = 4;

fn counts(answers: &Answers) -> LeftOut {
    LeftOut {
        sem: answers.sem.map_or(0, |sem| sem.arrays),
        shm: answers.shm.map_or(0, |shm| shm.segments),
        msg: answers.msg.map_or(0, |msg| msg.queues),
    }
}

fn sum(counts: LeftOut) -> u64 {
    counts.sem.saturating_add(counts.shm).saturating_add(counts.msg)
}

fn listed(read: &Read) -> u64 {
    let rows = [read.sem.as_ref().map(Vec::len), read.shm.as_ref().map(Vec::len), read.msg.as_ref().map(Vec::len)];
    u64::try_from(rows.into_iter().flatten().sum::<usize>()).unwrap_or(u64::MAX)
}
