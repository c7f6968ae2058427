//! Which processes the agent cannot see, told with each sample: without them owners are not named and no orphan is
//! called certain.

use highwater_ipc::snapshot::Unreadable;
use highwater_ipc::time::At;

use super::unread::because;
use crate::kernel::Kernel;
use crate::kernel::process::{parse_hides, parse_namespace};
use crate::kernel::surroundings::parse_capabilities;

/// Remembers what it saw: a table of thousands of mounts is dear to read.
#[derive(Debug, Default)]
pub(super) struct Sight {
    looked_us: Option<u64>,
    unseen: Vec<Unreadable>,
}

const LOOK_AGAIN_US: u64 = 60_000_000;

/// PROC_PID_INIT_INO of `linux/nsfs.h`.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Bit of CAP_SYS_PTRACE, which sees through hidepid (`linux/capability.h`).
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// Most bytes of a table of mounts and of `/proc/self/status`.
const MAX_FILE: usize = 4 << 20;

impl Sight {
    /// What hides processes, at most two entries.
    pub(super) fn unseen(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>, at: At) -> Vec<Unreadable> {
        if self.looked_us.is_none_or(|looked| at.boot_us.saturating_sub(looked) >= LOOK_AGAIN_US) {
            self.looked_us = Some(at.boot_us);
            self.unseen = look(kernel, buffer);
        }
        self.unseen.clone()
    }
}

fn look(kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> Vec<Unreadable> {
    let mut unseen = Vec::new();
    let hides = kernel.read("/proc/self/mountinfo", MAX_FILE, buffer) == Ok(true) && parse_hides(buffer) == Some(true);
    if hides {
        let held = kernel.read("/proc/self/status", MAX_FILE, buffer).ok().and_then(|_| parse_capabilities(buffer));
        if held.is_none_or(|held| held & CAP_SYS_PTRACE == 0) {
            let why = "mounted with hidepid, and the agent lacks CAP_SYS_PTRACE: processes of other users are not seen, so \
                       their owners have no names and no orphan is certain";
            unseen.push(because("/proc", 0, why));
        }
    }
    let own = kernel.read_link("/proc/self/ns/pid").ok().and_then(|target| parse_namespace(&target));
    if own.is_some_and(|inode| inode != INITIAL_PID_NAMESPACE) {
        let why = "not the initial pid namespace: processes outside of it are not seen, so no orphan is certain (container: \
                   --pid=host, hostPID)";
        unseen.push(because("/proc/self/ns/pid", 0, why));
    }
    // Room for the largest table is not kept from here on.
    *buffer = Vec::new();
    unseen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::FakeKernel;

    fn at(seconds: u64) -> At {
        At { wall_ms: 0, boot_us: seconds * 1_000_000 }
    }

    fn sources(sight: &mut Sight, kernel: &mut FakeKernel, seconds: u64) -> Vec<String> {
        sight.unseen(kernel, &mut Vec::new(), at(seconds)).iter().map(|entry| entry.source.escaped()).collect()
    }

    fn host(options: &str, capabilities: &str) -> FakeKernel {
        let mut kernel = FakeKernel::new();
        let mounts = format!("22 1 0:21 / /proc rw - proc proc rw{options}\n");
        kernel.files.insert("/proc/self/mountinfo".into(), Ok(mounts.into_bytes()));
        kernel.files.insert("/proc/self/status".into(), Ok(format!("CapEff:\t{capabilities}\n").into_bytes()));
        kernel.links.insert("/proc/self/ns/pid".into(), b"pid:[4026531836]".to_vec());
        kernel
    }

    #[test]
    fn hidepid_is_told_unless_the_agent_sees_through_it() {
        assert_eq!(sources(&mut Sight::default(), &mut host("", "0"), 1), [""; 0]);
        assert_eq!(sources(&mut Sight::default(), &mut host(",hidepid=2", "0"), 1), ["/proc"]);
        assert_eq!(sources(&mut Sight::default(), &mut host(",hidepid=2", "0000000000080000"), 1), [""; 0]);
    }

    #[test]
    fn another_pid_namespace_is_told() {
        let mut kernel = host("", "0");
        kernel.links.insert("/proc/self/ns/pid".into(), b"pid:[4026532000]".to_vec());
        assert_eq!(sources(&mut Sight::default(), &mut kernel, 1), ["/proc/self/ns/pid"]);
    }

    #[test]
    fn a_change_is_seen_within_a_minute() {
        let mut sight = Sight::default();
        assert_eq!(sources(&mut sight, &mut host("", "0"), 1), [""; 0]);
        assert_eq!(sources(&mut sight, &mut host(",hidepid=2", "0"), 60), [""; 0]);
        assert_eq!(sources(&mut sight, &mut host(",hidepid=2", "0"), 61), ["/proc"]);
    }

    #[test]
    fn what_is_told_fits_one_text() {
        let mut kernel = host(",hidepid=2", "0");
        kernel.links.insert("/proc/self/ns/pid".into(), b"pid:[4026532000]".to_vec());
        let told = Sight::default().unseen(&mut kernel, &mut Vec::new(), at(1));
        assert!(told.iter().all(|entry| !entry.error.as_bytes().is_empty()));
        assert!(told[0].error.escaped().ends_with("no orphan is certain"), "{told:?}");
        assert!(told[1].error.escaped().ends_with("hostPID)"), "{told:?}");
    }
}
