//! Whether this host can do System V IPC: asks around where a call or a file fails, and decides anew only when
//! something was found otherwise.

use highwater_ipc::availability::Availability;
use highwater_ipc::time::At;

use crate::kernel::availability::{Findings, Trouble, decide};
use crate::kernel::kconfig::{self, Kconfig};
use crate::kernel::{Kernel, surroundings};
use crate::sys::errno::Errno;

/// Keeps what was decided last, and why.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// The configuration of a running kernel does not change; one that was not found may be put there.
    kconfig: Option<Kconfig>,
    /// When it was looked around last, microseconds since boot.
    looked_us: u64,
    decided: Option<(Findings, Availability)>,
}

/// While nothing changes, what stands around is looked at again after this time: it is a dozen files.
const LOOK_AGAIN_US: u64 = 60_000_000;

impl Judge {
    /// The state by what SEM_INFO and `/proc/sysvipc/sem` gave in this sample.
    pub(super) fn judge(
        &mut self,
        kernel: &mut dyn Kernel,
        sem_info: Result<(), Errno>,
        proc_sem: Result<(), Errno>,
        at: At,
    ) -> Availability {
        let short = [sem_info, proc_sem].iter().any(|found| found.is_err_and(Errno::is_shortage));
        if let Some((before, decided)) = &self.decided {
            let same = before.sem_info == sem_info && before.proc_sem == proc_sem;
            let fresh = before.trouble.is_none() || at.boot_us.saturating_sub(self.looked_us) < LOOK_AGAIN_US;
            if short || (same && fresh) {
                return decided.clone();
            }
        }
        self.looked_us = at.boot_us;
        let trouble = (sem_info.is_err() || proc_sem.is_err()).then(|| self.look_around(kernel));
        let findings = Findings { sem_info, proc_sem, trouble };
        let decided = decide(&findings);
        self.decided = Some((findings, decided.clone()));
        decided
    }

    fn look_around(&mut self, kernel: &mut dyn Kernel) -> Trouble {
        if !matches!(self.kconfig, Some(Kconfig::Yes { .. } | Kconfig::NotSet { .. })) {
            let release = kernel.uname().unwrap_or_default().release;
            self.kconfig = Some(kconfig::read(kernel, &release));
        }
        Trouble {
            kconfig: self.kconfig.clone().unwrap_or(Kconfig::NotFound { tried: Vec::new() }),
            namespace_file: kernel.namespace() != Err(Errno::ENOENT),
            around: surroundings::look(kernel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::FakeKernel;
    use highwater_ipc::availability::SysvipcState;

    fn at(seconds: u64) -> At {
        At { wall_ms: 0, boot_us: seconds * 1_000_000 }
    }

    #[test]
    fn a_configuration_that_is_put_there_is_noticed_within_a_minute() {
        let mut kernel = FakeKernel::new();
        let mut judge = Judge::default();
        let mut state = |kernel: &mut FakeKernel, seconds| {
            judge.judge(kernel, Err(Errno::ENOSYS), Err(Errno::ENOENT), at(seconds)).state
        };
        assert_eq!(state(&mut kernel, 1), SysvipcState::Absent);
        kernel.files.insert("/boot/config-6.1.0-fake".into(), Ok(b"CONFIG_SYSVIPC=y\n".to_vec()));
        assert_eq!(state(&mut kernel, 60), SysvipcState::Absent);
        assert_eq!(state(&mut kernel, 61), SysvipcState::Blocked);
    }

    #[test]
    fn what_fails_otherwise_is_judged_at_once_and_a_shortage_is_no_finding() {
        let mut kernel = FakeKernel::new();
        let mut judge = Judge::default();
        let mut state = |sem_info, proc_sem| judge.judge(&mut kernel, sem_info, proc_sem, at(1)).state;
        assert_eq!(state(Ok(()), Ok(())), SysvipcState::Available);
        assert_eq!(state(Err(Errno::EMFILE), Ok(())), SysvipcState::Available);
        assert_eq!(state(Err(Errno::EPERM), Ok(())), SysvipcState::Blocked);
        assert_eq!(state(Ok(()), Err(Errno::ENOENT)), SysvipcState::ProcHidden);
        assert_eq!(state(Ok(()), Ok(())), SysvipcState::Available);
    }
}
