//! Everything one sample read.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use crate::availability::Availability;
use crate::limits::{Limits, Totals};
use crate::object::{Kind, MsgQueue, SemArray, ShmSegment};
use crate::risk::Risk;
use crate::text::HostText;
use crate::time::At;
use crate::who::Who;

/// `/proc/sys/kernel/random/boot_id`: 16 random bytes, one value a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootId(pub [u8; 16]);

/// 8-4-4-4-12 hexadecimal digits, as the kernel prints it.
impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One sample of one host: what it is compared by is [`State`], the rest says when and how it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Just before the first read.
    pub at: At,
    /// How long the reads took, microseconds.
    pub took_us: u32,
    /// Everything that was read.
    pub state: State,
}

/// What a sample read; two samples with equal states differ only in time, and the later one is a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct State {
    /// The boot this was sampled in.
    pub boot_id: BootId,
    /// Planned time between samples, milliseconds.
    pub interval_ms: u32,
    /// Bytes in a page (`sysconf(_SC_PAGESIZE)`); `ipcs -l` needs it.
    pub page_size: u32,
    /// The host's time zone as an IANA name where it is known, else a POSIX TZ text; empty = UTC.
    pub zone: HostText,
    /// Whether this host can do System V IPC.
    pub availability: Availability,
    /// Names of the uids that own or made an object, as `getpwuid(3)` answered on the host; a uid without an entry is
    /// not in it.
    pub users: BTreeMap<u32, HostText>,
    /// Names of the gids, likewise.
    pub groups: BTreeMap<u32, HostText>,
    /// What threatens this host although nothing went wrong yet; ascending, at most [`Risk::MAX`].
    pub risks: Vec<Risk>,
    /// What this agent cannot see of the host as a whole, and why (other namespaces, processes, refused calls, whether
    /// its namespace is pid 1's); at most [`State::MAX_UNSEEN`]. `line` is 0 in each.
    pub unseen: Vec<Unreadable>,
    /// The IPC namespaces that were read, the host's first.
    pub namespaces: Vec<Namespace>,
}

impl State {
    /// The most rows of objects, names, owners with their comms, risks and unreadable sources in one state, and in one
    /// packed body, all lists together: ten times the agent's budget.
    pub const MAX_ENTRIES: usize = 1 << 20;
    /// The most namespaces, likewise: all that a machine was seen to hold (96,000), and a third more.
    pub const MAX_NAMESPACES: usize = 1 << 17;
    /// The most `unseen` entries a state carries.
    pub const MAX_UNSEEN: usize = 16;

    /// How many entries this state has.
    pub fn entries(&self) -> usize {
        let rows = |n: &Namespace| {
            let lists = [n.sem.as_ref().map(Vec::len), n.shm.as_ref().map(Vec::len), n.msg.as_ref().map(Vec::len)];
            n.unreadable.len() + n.who.as_ref().map_or(0, Who::entries) + lists.into_iter().flatten().sum::<usize>()
        };
        self.users.len()
            + self.groups.len()
            + self.risks.len()
            + self.unseen.len()
            + self.namespaces.iter().map(rows).sum::<usize>()
    }
}

/// Which IPC namespace: the inode people see, and what keeps two that reused one inode apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NamespaceId {
    /// Inode of `/proc/PID/ns/ipc`; 0 where the kernel shows none.
    pub inode: u64,
    /// `ioctl(NS_GET_ID)` where the kernel has it, else a number the agent chose for this instance.
    pub instance: u64,
}

/// One IPC namespace as sampled.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Which one.
    pub id: NamespaceId,
    /// What its leader calls itself, as claimed (container id, comm); `None` for the host's own.
    pub name: Option<HostText>,
    /// What that name is.
    pub named_by: NamedBy,
    /// How many samples pass between two that visit it, because a visit of each in every sample would exceed the budget; 0
    /// = every sample reads it. What is shown is what the last visit read.
    pub skipped: u32,
    /// Whether totals before and after the reads differed: `/proc/sysvipc` is no atomic view.
    pub torn: bool,
    /// Limits, `None` = could not be read.
    pub limits: Option<Limits>,
    /// Totals, `None` = could not be read.
    pub totals: Option<Totals>,
    /// Semaphore arrays in the kernel's order; `None` = could not be read, which is not "none".
    pub sem: Option<Vec<SemArray>>,
    /// Shared memory segments, likewise.
    pub shm: Option<Vec<ShmSegment>>,
    /// Message queues, likewise.
    pub msg: Option<Vec<MsgQueue>>,
    /// What could not be read, and why; at most [`Namespace::MAX_UNREADABLE`].
    pub unreadable: Vec<Unreadable>,
    /// Objects not listed because the sample's budget was spent, by kind.
    pub left_out: LeftOut,
    /// Who holds its objects; `None` = processes could not be looked at.
    pub who: Option<Who>,
}

/// What a namespace's name is: the pattern its leader's cgroup path matched. Whoever runs in a container can have chosen
/// it: it is shown as claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum NamedBy {
    /// It has no name.
    #[default]
    Nothing,
    /// The leader's comm.
    Comm,
    /// Container id of docker.
    Docker,
    /// Container id of containerd.
    Containerd,
    /// Container id of CRI-O.
    Crio,
    /// Container id of podman.
    Podman,
    /// Name of an LXC container.
    Lxc,
    /// Name of a systemd-nspawn machine.
    Nspawn,
}

impl NamedBy {
    /// All, with their number in records (never reused) and their word in JSON.
    pub const ALL: [(NamedBy, u8, &'static str); 8] = [
        (NamedBy::Nothing, 0, "nothing"),
        (NamedBy::Comm, 1, "comm"),
        (NamedBy::Docker, 2, "docker"),
        (NamedBy::Containerd, 3, "containerd"),
        (NamedBy::Crio, 4, "crio"),
        (NamedBy::Podman, 5, "podman"),
        (NamedBy::Lxc, 6, "lxc"),
        (NamedBy::Nspawn, 7, "nspawn"),
    ];

    /// The word in JSON.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(n, ..)| *n == self).map_or("", |(_, _, name)| name)
    }
}

impl Namespace {
    /// The most `unreadable` entries a namespace carries.
    pub const MAX_UNREADABLE: usize = 16;

    /// Whether all three kinds, limits and totals were read and nothing was left out.
    pub fn complete(&self) -> bool {
        self.unreadable.is_empty()
            && self.left_out == LeftOut::default()
            && self.sem.is_some()
            && self.shm.is_some()
            && self.msg.is_some()
            && self.limits.is_some()
            && self.totals.is_some()
    }

    /// Whether the objects of that kind were read.
    pub fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Sem => self.sem.is_some(),
            Kind::Shm => self.shm.is_some(),
            Kind::Msg => self.msg.is_some(),
        }
    }
}

/// One source that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unreadable {
    /// The file or call, e.g. `/proc/sysvipc/sem`.
    pub source: HostText,
    /// Line in that file, from 1; 0 = the source as a whole.
    pub line: u32,
    /// What went wrong, with errno or column and value.
    pub error: HostText,
}

/// Objects that exist but are not listed, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Semaphore arrays.
    pub sem: u64,
    /// Shared memory segments.
    pub shm: u64,
    /// Message queues.
    pub msg: u64,
}
