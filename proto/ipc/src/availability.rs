//! Whether a host can do System V IPC at all, with the evidence that decided.
//!
//! The five states and their evidence: `CONFIG_SYSVIPC` in `init/Kconfig`, `semctl(2)` SEM_INFO, `/proc/sysvipc/sem`,
//! the kernel's config file. "Missing" means that opening `/proc/sysvipc/sem` gives ENOENT; the directory alone is no
//! evidence.

use alloc::vec::Vec;

use crate::text::HostText;

/// The five states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SysvipcState {
    /// SEM_INFO succeeds and `/proc/sysvipc/sem` reads.
    Available,
    /// The kernel has no System V IPC.
    Absent,
    /// The calls work, `/proc/sysvipc` is missing or unreadable.
    ProcHidden,
    /// The kernel has it, a seccomp filter, a sandbox or a policy refuses it.
    Blocked,
    /// Anything else; the evidence carries errno and what was tried.
    #[default]
    Unknown,
}

impl SysvipcState {
    /// All states.
    pub const ALL: [SysvipcState; 5] = [
        SysvipcState::Available,
        SysvipcState::Absent,
        SysvipcState::ProcHidden,
        SysvipcState::Blocked,
        SysvipcState::Unknown,
    ];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            SysvipcState::Available => "available",
            SysvipcState::Absent => "absent",
            SysvipcState::ProcHidden => "proc_hidden",
            SysvipcState::Blocked => "blocked",
            SysvipcState::Unknown => "unknown",
        }
    }

    /// The state of that word.
    pub fn from_name(name: &str) -> Option<SysvipcState> {
        SysvipcState::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Whether a program on that host would be refused: everything but `available` and `proc_hidden` (where the calls
    /// work and only `/proc` is missing).
    pub fn lacks_sysvipc(self) -> bool {
        !matches!(self, SysvipcState::Available | SysvipcState::ProcHidden)
    }
}

/// The state, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Availability {
    /// The state.
    pub state: SysvipcState,
    /// What decided, one finding a line, at most [`Availability::MAX_EVIDENCE`].
    pub evidence: Vec<HostText>,
    /// What a person can do; empty where nothing is needed.
    pub remedy: HostText,
}

impl Availability {
    /// The most evidence lines a sample carries.
    pub const MAX_EVIDENCE: usize = 16;
}
