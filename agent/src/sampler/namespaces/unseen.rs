//! What of other namespaces this agent cannot see, and which capability it lacks.

use highwater_ipc::snapshot::Unreadable;

use super::MAX_PLACES;
use crate::kernel::Kernel;
use crate::kernel::surroundings::parse_capabilities;
use crate::sampler::unread::because;
use crate::sys::errno::Errno;

/// What the latest look at all processes could not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    /// Why the processes could not even be listed.
    pub(super) scan_failed: Option<Errno>,
    /// Why it is not known whether the agent's own namespace is process 1's, or why that cannot be entered.
    pub(super) host: Option<Errno>,
    /// Processes whose namespace may not be asked, and the last error.
    pub(super) refused: Option<(usize, Errno)>,
    /// Namespaces beyond those that are visited.
    pub(super) beyond: usize,
    /// Namespaces that a later look takes in.
    pub(super) waiting: usize,
    /// The agent's effective capabilities, where something was refused.
    capabilities: Option<u64>,
}

/// `CAP_SYS_PTRACE` and `CAP_SYS_ADMIN` of `linux/capability.h`.
const CAP_SYS_PTRACE: (u32, &str) = (19, "CAP_SYS_PTRACE");
const CAP_SYS_ADMIN: (u32, &str) = (21, "CAP_SYS_ADMIN");
/// `/proc/PID/status` has 1.5 kB.
const MAX_STATUS: usize = 64 << 10;

impl Unseen {
    /// Asks which capabilities this thread has.
    pub(super) fn ask_capabilities(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) {
        self.capabilities = match kernel.read("/proc/thread-self/status", MAX_STATUS, buffer) {
            Ok(_) => parse_capabilities(buffer),
            Err(_) => None,
        };
    }

    /// In words; `closed` are the errors of entering the namespaces that may not be entered.
    pub(super) fn told(&self, closed: impl Iterator<Item = Errno>) -> Vec<Unreadable> {
        let mut told = Vec::new();
        if let Some(errno) = self.scan_failed {
            told.push(because("/proc", 0, format_args!("{errno}: other IPC namespaces cannot be found")));
        }
        if let Some(errno) = self.host {
            let own = "whether the IPC namespace shown as the host's, the agent's own, is the one of process 1";
            told.push(because("/proc/1/ns/ipc", 0, format_args!("{errno}: it is not known {own}")));
        }
        if let Some((processes, errno)) = self.refused {
            // Processes come and go; their exact number would make every look another state.
            let about = 1_usize << processes.ilog2();
            let lacks = self.lacks(CAP_SYS_PTRACE);
            let of = if about == 1 { "1 process".to_owned() } else { format!("{about} or more processes") };
            let whose = format!("{errno}: of {of} the IPC namespace is not known: {lacks}");
            told.push(because("/proc/PID/ns/ipc", 0, whose));
        }
        let mut namespaces = 0_usize;
        let mut last = None;
        for errno in closed {
            (namespaces, last) = (namespaces + 1, Some(errno));
        }
        if let Some(errno) = last {
            let lacks = self.lacks(if errno == Errno::EPERM { CAP_SYS_ADMIN } else { CAP_SYS_PTRACE });
            let many = if namespaces == 1 { "" } else { "s" };
            let cannot = format!("{errno}: {namespaces} IPC namespace{many} cannot be entered: {lacks}");
            told.push(because("setns", 0, cannot));
        }
        if self.beyond > 0 {
            let about = 1_usize << self.beyond.ilog2();
            told.push(because(
                "/proc/PID/ns/ipc",
                0,
                format_args!("{about} or more IPC namespaces beyond the first {MAX_PLACES} are not read"),
            ));
        }
        told
    }

    fn lacks(&self, (bit, name): (u32, &str)) -> String {
        match self.capabilities {
            Some(capabilities) if capabilities >> bit & 1 == 1 => {
                format!("refused although the agent has {name} (a security module, or another user namespace)")
            }
            _ => format!("the agent lacks {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_many_why_and_what_is_lacking() {
        let mut unseen = Unseen { host: Some(Errno::EACCES), refused: Some((200, Errno::EACCES)), ..Unseen::default() };
        unseen.capabilities = parse_capabilities(b"Name:\tx\nCapEff:\t0000000000080000\nSeccomp:\t0\n");
        let told = unseen.told([Errno::EPERM, Errno::EPERM].into_iter());
        let lines: Vec<String> = told.iter().map(|line| format!("{}: {}", line.source, line.error)).collect();
        assert_eq!(
            lines,
            [
                "/proc/1/ns/ipc: EACCES (13): permission denied: it is not known whether the IPC namespace shown as the \
                 host's, the agent's own, is the one of process 1",
                "/proc/PID/ns/ipc: EACCES (13): permission denied: of 128 or more processes the IPC namespace is not \
                 known: refused although the agent has CAP_SYS_PTRACE (a security module, or another user namespace)",
                "setns: EPERM (1): operation not permitted: 2 IPC namespaces cannot be entered: the agent lacks \
                 CAP_SYS_ADMIN",
            ]
        );
        assert_eq!(Unseen::default().told(std::iter::empty()), []);
    }

    #[test]
    fn nothing_is_said_longer_than_a_text_may_be() {
        let longest = Unseen {
            host: Some(Errno(i32::MAX)),
            refused: Some((usize::MAX, Errno(libc_like()))),
            beyond: usize::MAX,
            ..Unseen::default()
        };
        for line in longest.told([Errno::EPERM].into_iter()) {
            assert!(!line.error.escaped().ends_with('…'), "{}", line.error.escaped());
        }
    }

    fn libc_like() -> i32 {
        Errno::ESRCH.0
    }
}
