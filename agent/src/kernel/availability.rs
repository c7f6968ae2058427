//! Decides from what was found whether this host can do System V IPC at all.
//!
//! Missing means that opening `/proc/sysvipc/sem` gives ENOENT: the directory alone is no evidence. A refusal is told
//! from an absence by the kernel's configuration and by the file, never by the words of `ipcs`, which are the same.

use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::text::HostText;

use super::kconfig::Kconfig;
use crate::sys::errno::Errno;

/// What decides. Everything that is only needed when a call or a file fails is `None` while both work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// What `semctl(0, 0, SEM_INFO)` answered.
    pub sem_info: Result<(), Errno>,
    /// What opening and reading `/proc/sysvipc/sem` gave.
    pub proc_sem: Result<(), Errno>,
    /// What the kernel's configuration says.
    pub kconfig: Option<Kconfig>,
    /// `Seccomp:` of `/proc/self/status`: 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// Whether `/proc/self/ns/ipc` is there.
    pub namespace_file: bool,
}

/// The state, its evidence in the order in which it was looked for, and the remedy.
pub fn decide(findings: &Findings) -> Availability {
    let state = state(findings);
    let mut evidence = evidence(findings);
    evidence.truncate(Availability::MAX_EVIDENCE);
    Availability { state, evidence, remedy: remedy(state, findings).into() }
}

/// The number behind `Seccomp:` in a `/proc/PID/status` file.
pub fn parse_seccomp(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Seccomp:"))?;
    std::str::from_utf8(line.trim_ascii()).ok()?.parse().ok()
}

fn state(findings: &Findings) -> SysvipcState {
    let missing = findings.proc_sem == Err(Errno::ENOENT);
    let errno = match (findings.sem_info, findings.proc_sem) {
        (Ok(()), Ok(())) => return SysvipcState::Available,
        (Ok(()), Err(_)) => return SysvipcState::ProcHidden,
        (Err(errno), _) => errno,
    };
    let refusal = matches!(errno, Errno::ENOSYS | Errno::EPERM | Errno::EACCES);
    match &findings.kconfig {
        Some(Kconfig::Yes { .. }) if refusal => SysvipcState::Blocked,
        _ if refusal && !missing => SysvipcState::Blocked,
        Some(Kconfig::NotSet { .. } | Kconfig::NotFound { .. }) if errno == Errno::ENOSYS && missing => {
            SysvipcState::Absent
        }
        _ => SysvipcState::Unknown,
    }
}

fn evidence(findings: &Findings) -> Vec<HostText> {
    let mut lines: Vec<HostText> = Vec::new();
    let mut say = |line: &str| lines.push(line.into());
    match findings.sem_info {
        Ok(()) => say("semctl SEM_INFO succeeds"),
        Err(errno) => say(&format!("semctl SEM_INFO fails with {errno}")),
    }
    match findings.proc_sem {
        Ok(()) => say("/proc/sysvipc/sem can be read"),
        Err(Errno::ENOENT) => say(&format!("/proc/sysvipc/sem is missing: {}", Errno::ENOENT)),
        Err(errno) => say(&format!("/proc/sysvipc/sem cannot be read: {errno}")),
    }
    if findings.sem_info.is_ok() {
        return lines;
    }
    match &findings.kconfig {
        Some(Kconfig::Yes { file }) => say(&format!("{file} says CONFIG_SYSVIPC=y")),
        Some(Kconfig::NotSet { file }) => say(&format!("{file} says CONFIG_SYSVIPC is not set")),
        Some(Kconfig::NotFound { tried }) => {
            say("no kernel configuration was found, so that CONFIG_SYSVIPC is not known");
            for (file, wrong) in tried {
                say(&format!("tried {file}: {wrong}"));
            }
        }
        None => {}
    }
    if !findings.namespace_file {
        say("/proc/self/ns/ipc is missing: no IPC namespaces in this kernel");
    }
    match findings.seccomp {
        Some(1 | 2) => say("a seccomp filter is in force on this agent"),
        Some(0) => say("no seccomp filter is in force on this agent"),
        _ => {}
    }
    lines
}

fn remedy(state: SysvipcState, findings: &Findings) -> &'static str {
    match state {
        SysvipcState::Available => "",
        SysvipcState::Absent if matches!(findings.kconfig, Some(Kconfig::NotSet { .. })) => {
            "The kernel was built without CONFIG_SYSVIPC: install another kernel package or rebuild it with \
             CONFIG_SYSVIPC=y, then reboot. Programs that can do without may be told to (Apache: Mutex pthread)."
        }
        SysvipcState::Absent => {
            "Most likely the kernel was built without CONFIG_SYSVIPC: install another kernel package or rebuild it \
             with CONFIG_SYSVIPC=y. In a sandbox (gVisor, some containers, WSL1) allow the calls or move the program \
             out of it."
        }
        SysvipcState::ProcHidden => {
            "Objects are read by system calls meanwhile. Mount proc on /proc, or unmask /proc/sysvipc for the agent: \
             only there are resident and swapped bytes of segments."
        }
        SysvipcState::Blocked => {
            "Calls refused by a seccomp filter, sandbox or policy: allow semget, semctl, semop, semtimedop, shmget, \
             shmat, shmctl, shmdt, msgget, msgsnd, msgrcv, msgctl in its profile."
        }
        SysvipcState::Unknown => "Run highwater-agent snapshot as root on this host and compare what it was refused.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(sem_info: Result<(), Errno>, proc_sem: Result<(), Errno>, kconfig: Option<Kconfig>) -> Findings {
        Findings { sem_info, proc_sem, kconfig, seccomp: Some(0), namespace_file: true }
    }

    fn yes() -> Option<Kconfig> {
        Some(Kconfig::Yes { file: "/boot/config-x".into() })
    }

    fn not_set() -> Option<Kconfig> {
        Some(Kconfig::NotSet { file: "/boot/config-x".into() })
    }

    fn none() -> Option<Kconfig> {
        let tried = vec![("/proc/config.gz".into(), "ENOENT (2): no such file or directory".into())];
        Some(Kconfig::NotFound { tried })
    }

    #[test]
    fn each_state_has_its_evidence() {
        use SysvipcState::*;
        let missing = Err(Errno::ENOENT);
        let table = [
            (Ok(()), Ok(()), None, Available),
            (Ok(()), missing, None, ProcHidden),
            (Ok(()), Err(Errno::EACCES), None, ProcHidden),
            (Err(Errno::ENOSYS), missing, not_set(), Absent),
            (Err(Errno::ENOSYS), missing, none(), Absent),
            (Err(Errno::ENOSYS), missing, yes(), Blocked),
            (Err(Errno::ENOSYS), Ok(()), not_set(), Blocked),
            (Err(Errno::ENOSYS), Err(Errno::EACCES), none(), Blocked),
            (Err(Errno::EPERM), Ok(()), none(), Blocked),
            (Err(Errno::EACCES), missing, yes(), Blocked),
            (Err(Errno::EPERM), missing, not_set(), Unknown),
            (Err(Errno::EPERM), missing, none(), Unknown),
            (Err(Errno::EIO), Ok(()), yes(), Unknown),
        ];
        for (sem_info, proc_sem, kconfig, state) in table {
            let findings = findings(sem_info, proc_sem, kconfig);
            assert_eq!(decide(&findings).state, state, "{findings:?}");
        }
    }

    #[test]
    fn every_trouble_has_a_remedy_that_fits_one_text() {
        for kconfig in [yes(), not_set(), none()] {
            for errno in [Errno::ENOSYS, Errno::EPERM, Errno::EIO] {
                for proc_sem in [Ok(()), Err(Errno::ENOENT)] {
                    let findings = findings(Err(errno), proc_sem, kconfig.clone());
                    let remedy = remedy(state(&findings), &findings);
                    assert!(!remedy.is_empty() && remedy.len() <= HostText::MAX, "{remedy}");
                }
            }
        }
        let hidden = findings(Ok(()), Err(Errno::ENOENT), None);
        assert!(remedy(SysvipcState::ProcHidden, &hidden).len() <= HostText::MAX);
    }

    #[test]
    fn says_that_no_configuration_was_found_and_where_it_looked() {
        let lines = decide(&findings(Err(Errno::ENOSYS), Err(Errno::ENOENT), none())).evidence;
        let lines: Vec<String> = lines.iter().map(HostText::escaped).collect();
        assert!(lines.iter().any(|line| line.contains("no kernel configuration was found")), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("tried /proc/config.gz: ENOENT")), "{lines:?}");
    }

    #[test]
    fn the_seccomp_line_is_found_by_name() {
        assert_eq!(parse_seccomp(b"Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"), Some(2));
        assert_eq!(parse_seccomp(b"Seccomp_filters:\t1\n"), None);
        assert_eq!(parse_seccomp(b"Seccomp:\t\xff\n"), None);
    }
}
