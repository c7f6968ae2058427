//! The processes in a namespace: by which it is entered, told from another one in the same inode, and named.

use highwater_ipc::snapshot::NamedBy;
use highwater_ipc::text::HostText;

use crate::kernel::process::{MAX_PROCESS_FILE, Stat, parse_stat};
use crate::kernel::{Kernel, cgroup};

/// A process, told from a later one with its pid by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// When it started, microseconds since boot; first, so that the oldest is the least.
    pub start_us: u64,
    /// Its pid.
    pub pid: i32,
}

/// Members kept of one namespace: enough that some live on until the next look at all processes.
pub const MAX_MEMBERS: usize = 16;

/// Processes of one new namespace whose age is asked, to find the oldest.
pub const MAX_ASKED: usize = 256;

/// Whether an inode still is the namespace it was, where the kernel has no other name for it: a process that was in it
/// at the look before is in it now. One that left and entered a namespace with the same inode is taken for having
/// stayed; that needs the old namespace to end and its inode to return while it is under way.
pub fn continues(before: &[Member], now: &[Member]) -> bool {
    before.iter().any(|member| now.contains(member))
}

/// What `/proc/PID/stat` says; `None` = there is no such process (any more).
fn stat(kernel: &mut dyn Kernel, pid: i32, buffer: &mut Vec<u8>) -> Option<Stat> {
    kernel.read(&format!("/proc/{pid}/stat"), MAX_PROCESS_FILE, buffer).ok()?;
    parse_stat(buffer)
}

/// The process with that pid now.
pub fn now(kernel: &mut dyn Kernel, pid: i32, buffer: &mut Vec<u8>) -> Option<Member> {
    stat(kernel, pid, buffer).map(|stat| Member { start_us: stat.start_us, pid })
}

/// The oldest of those processes, in order, at most [`MAX_MEMBERS`]; of more than [`MAX_ASKED`] the lowest pids are
/// asked.
pub fn oldest(kernel: &mut dyn Kernel, pids: &[i32], buffer: &mut Vec<u8>) -> Vec<Member> {
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    let mut members: Vec<Member> =
        pids.into_iter().take(MAX_ASKED).filter_map(|pid| now(kernel, pid, buffer)).collect();
    members.sort_unstable();
    members.truncate(MAX_MEMBERS);
    members
}

/// The name by the oldest member that still lives: its container's, if its cgroup path names one, else its comm.
pub fn name(kernel: &mut dyn Kernel, members: &[Member], buffer: &mut Vec<u8>) -> Option<(NamedBy, HostText)> {
    members.iter().find_map(|member| {
        let stat = stat(kernel, member.pid, buffer).filter(|stat| stat.start_us == member.start_us)?;
        let whole = kernel.read(&format!("/proc/{}/cgroup", member.pid), cgroup::MAX_BYTES, buffer);
        let claimed = if whole == Ok(true) { cgroup::container(buffer) } else { None };
        Some(claimed.unwrap_or((NamedBy::Comm, stat.comm)))
    })
}
