//! Decides from what was found whether this host can do System V IPC at all.
//!
//! Missing means that opening `/proc/sysvipc/sem` gives ENOENT: the directory alone is no evidence. A refusal is told
//! from an absence by the kernel's configuration and by the file, never by the words of `ipcs`, which are the same.

use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::text::HostText;

use super::kconfig::Kconfig;
use super::surroundings::{Sandbox, Surroundings};
use crate::sys::errno::Errno;

/// What decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// What `semctl(0, 0, SEM_INFO)` answered.
    pub sem_info: Result<(), Errno>,
    /// What opening and reading `/proc/sysvipc/sem` gave.
    pub proc_sem: Result<(), Errno>,
    /// What was looked at because one of the two failed; `None` while both work.
    pub trouble: Option<Trouble>,
}

/// What is looked at only when a call or a file fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What the kernel's configuration says.
    pub kconfig: Kconfig,
    /// Whether `/proc/self/ns/ipc` is there.
    pub namespace_file: bool,
    /// What stands between this process and the kernel.
    pub around: Surroundings,
}

/// The state, its evidence in the order in which it was looked for (what decided comes first), and the remedy.
pub fn decide(findings: &Findings) -> Availability {
    let state = state(findings);
    let mut evidence = evidence(state, findings);
    evidence.truncate(Availability::MAX_EVIDENCE);
    Availability { state, evidence, remedy: remedy(state, findings).into() }
}

fn state(findings: &Findings) -> SysvipcState {
    let missing = findings.proc_sem == Err(Errno::ENOENT);
    let errno = match (findings.sem_info, findings.proc_sem) {
        (Ok(()), Ok(())) => return SysvipcState::Available,
        (Ok(()), Err(_)) => return SysvipcState::ProcHidden,
        (Err(errno), _) => errno,
    };
    let refusal = matches!(errno, Errno::ENOSYS | Errno::EPERM | Errno::EACCES);
    match findings.trouble.as_ref().map(|trouble| &trouble.kconfig) {
        Some(Kconfig::Yes { .. }) if refusal => SysvipcState::Blocked,
        _ if refusal && !missing => SysvipcState::Blocked,
        Some(Kconfig::NotSet { .. } | Kconfig::NotFound { .. }) if errno == Errno::ENOSYS && missing => {
            SysvipcState::Absent
        }
        _ => SysvipcState::Unknown,
    }
}

fn evidence(state: SysvipcState, findings: &Findings) -> Vec<HostText> {
    let mut lines = Vec::new();
    match (findings.sem_info, &findings.trouble) {
        (Ok(()), _) => lines.push("semctl SEM_INFO succeeds".into()),
        (Err(errno), Some(Trouble { kconfig: Kconfig::Yes { .. }, .. })) if state == SysvipcState::Blocked => {
            lines.push(said(&[&name(errno), b" from semctl while CONFIG_SYSVIPC=y"]));
        }
        (Err(errno), _) if state == SysvipcState::Blocked => {
            lines.push(said(&[&name(errno), b" from semctl while /proc/sysvipc/sem is there"]));
        }
        (Err(errno), _) => lines.push(said(&[b"semctl SEM_INFO fails with ", errno.to_string().as_bytes()])),
    }
    match findings.proc_sem {
        Ok(()) => lines.push("/proc/sysvipc/sem can be read".into()),
        Err(Errno::ENOENT) => lines.push(said(&[b"/proc/sysvipc/sem is missing: ", text(Errno::ENOENT).as_bytes()])),
        Err(errno) => lines.push(said(&[b"/proc/sysvipc/sem cannot be read: ", text(errno).as_bytes()])),
    }
    if let Some(trouble) = &findings.trouble {
        if findings.sem_info.is_err() {
            configuration(&mut lines, &trouble.kconfig);
            if !trouble.namespace_file && trouble.around.proc_mounted {
                lines.push("/proc/self/ns/ipc is missing: no IPC namespaces in this kernel".into());
            }
        }
        surroundings(&mut lines, &trouble.around, findings.sem_info.is_err());
    }
    lines
}

fn configuration(lines: &mut Vec<HostText>, kconfig: &Kconfig) {
    match kconfig {
        Kconfig::Yes { file } => lines.push(said(&[file.as_bytes(), b" says CONFIG_SYSVIPC=y"])),
        Kconfig::NotSet { file } => lines.push(said(&[file.as_bytes(), b" says CONFIG_SYSVIPC is not set"])),
        Kconfig::NotFound { tried } => {
            lines.push("no kernel configuration was found, so that CONFIG_SYSVIPC is not known".into());
            lines
                .extend(tried.iter().map(|(file, wrong)| said(&[b"tried ", file.as_bytes(), b": ", wrong.as_bytes()])));
        }
    }
}

/// What stands in the way. Of files only what hides files, of calls also what refuses calls.
fn surroundings(lines: &mut Vec<HostText>, around: &Surroundings, calls: bool) {
    if !around.proc_mounted {
        lines.push("/proc/self/status is missing as well: proc is not mounted on /proc".into());
    }
    if let Some(kind) = &around.mask {
        lines.push(said(&[b"a file system of type ", kind.as_bytes(), b" is mounted over /proc/sysvipc"]));
    }
    match around.sandbox {
        Some(Sandbox::Gvisor) => lines.push("/proc/version is that of gVisor, which is not Linux".into()),
        Some(Sandbox::Wsl1) => lines.push("/proc/version is that of WSL 1, which is not Linux".into()),
        None => {}
    }
    if let Some((container, file)) = &around.container {
        lines.push(said(&[file.as_bytes(), b" tells of a container of ", container.as_bytes()]));
    }
    if calls {
        match around.seccomp {
            Some(1 | 2) => lines.push("a seccomp filter is in force on this agent".into()),
            Some(0) => lines.push("no seccomp filter is in force on this agent".into()),
            _ => lines.push("whether a seccomp filter is in force on this agent is not known".into()),
        }
        if around.tracer != 0 {
            lines.push(said(&[b"process ", around.tracer.to_string().as_bytes(), b" traces this one, as proot does"]));
        }
    }
    if let Some(selinux) = &around.selinux {
        let mode: &[u8] = if selinux.enforcing { b"enforcing" } else { b"permissive" };
        lines.push(said(&[b"SELinux is ", mode, b", this process is ", selinux.context.as_bytes()]));
    }
    if let Some(profile) = &around.apparmor {
        lines.push(said(&[b"AppArmor confines this process: ", profile.as_bytes()]));
    }
}

/// One line of evidence, host text as its bytes.
fn said(parts: &[&[u8]]) -> HostText {
    HostText::cut(&parts.concat())
}

fn text(errno: Errno) -> String {
    errno.to_string()
}

fn name(errno: Errno) -> Vec<u8> {
    errno.name().map_or_else(|| errno.to_string().into_bytes(), |name| name.as_bytes().to_vec())
}

/// What a person can do: the narrowest cause that the evidence shows comes first.
fn remedy(state: SysvipcState, findings: &Findings) -> &'static str {
    match state {
        SysvipcState::Available => "",
        SysvipcState::Absent => absent(findings.trouble.as_ref()),
        SysvipcState::ProcHidden => hidden(findings),
        SysvipcState::Blocked => blocked(findings),
        SysvipcState::Unknown if findings.sem_info == Err(Errno::EPERM) || findings.sem_info == Err(Errno::EACCES) => {
            "A policy refuses the calls, and whether the kernel has them is not known: make /boot/config-RELEASE or \
             /proc/config.gz readable for the agent, and run highwater-agent snapshot as root outside the container."
        }
        SysvipcState::Unknown => "Run highwater-agent snapshot as root on this host and compare what it was refused.",
    }
}

fn absent(trouble: Option<&Trouble>) -> &'static str {
    let Some(Trouble { kconfig, around, .. }) = trouble else { return ABSENT_UNPROVEN };
    match (kconfig, around) {
        (_, Surroundings { sandbox: Some(Sandbox::Gvisor), .. }) => {
            "gVisor answers instead of the kernel: use a runsc that has System V IPC, or run the program under another \
             runtime (runc; in Kubernetes without this RuntimeClass)."
        }
        (_, Surroundings { sandbox: Some(Sandbox::Wsl1), .. }) => {
            "WSL 1 has no System V IPC: convert the distribution on Windows with wsl --set-version NAME 2."
        }
        (Kconfig::NotSet { .. }, _) => {
            "The kernel was built without CONFIG_SYSVIPC: install another kernel package or rebuild it with \
             CONFIG_SYSVIPC=y, then reboot. Programs that can do without may be told to (Apache: Mutex pthread)."
        }
        (_, Surroundings { proc_mounted: false, .. }) => {
            "Mount proc on /proc for the agent (mount -t proc proc /proc) and look again: without it a kernel built \
             without CONFIG_SYSVIPC cannot be told from a refusal."
        }
        (_, Surroundings { seccomp: Some(1 | 2), .. }) => {
            "Either the kernel was built without CONFIG_SYSVIPC (another kernel package, or rebuild), or the seccomp \
             filter on this agent refuses the calls: run highwater-agent snapshot on the host outside it to tell."
        }
        _ => ABSENT_UNPROVEN,
    }
}

const ABSENT_UNPROVEN: &str = "Most likely the kernel was built without CONFIG_SYSVIPC: install another kernel package or rebuild it with \
     CONFIG_SYSVIPC=y. To be sure put its configuration at /boot/config-RELEASE.";

fn hidden(findings: &Findings) -> &'static str {
    let around = findings.trouble.as_ref().map(|trouble| &trouble.around);
    match around {
        Some(Surroundings { proc_mounted: false, .. }) => {
            "Mount proc on /proc for the agent (mount -t proc proc /proc). Objects are read by system calls meanwhile, \
             without resident and swapped bytes of segments, owners and orphans."
        }
        Some(Surroundings { mask: Some(_), .. }) => {
            "Unmask /proc/sysvipc for the agent: umount /proc/sysvipc, docker run --security-opt systempaths=unconfined, \
             podman run --security-opt unmask=/proc/sysvipc. Meanwhile calls read all but resident and swapped bytes."
        }
        _ if findings.proc_sem == Err(Errno::EACCES) || findings.proc_sem == Err(Errno::EPERM) => {
            "A policy refuses the agent /proc/sysvipc although everybody may read it: allow it (SELinux: ausearch -m avc \
             -ts recent | audit2allow). Meanwhile system calls read all but resident and swapped bytes."
        }
        _ => {
            "The calls work, so the kernel has it: mount proc anew on /proc for the agent. Meanwhile system calls read all \
             but resident and swapped bytes of segments."
        }
    }
}

fn blocked(findings: &Findings) -> &'static str {
    let around = findings.trouble.as_ref().map(|trouble| &trouble.around);
    match around {
        Some(Surroundings { sandbox: Some(_), .. }) => absent(findings.trouble.as_ref()),
        Some(Surroundings { selinux: Some(selinux), .. })
            if selinux.enforcing && findings.sem_info == Err(Errno::EACCES) =>
        {
            "SELinux denies it. Look: ausearch -m avc -ts recent | audit2why names the boolean, if there is one \
             (setsebool -P NAME on). Else: ausearch -m avc -ts recent | audit2allow -M local, then semodule -i local.pp."
        }
        Some(Surroundings { seccomp: Some(1 | 2), .. }) => {
            "Blocked by a seccomp filter: add semget, semctl, semop, semtimedop, shmget, shmat, shmctl, shmdt, msgget, \
             msgsnd, msgrcv, msgctl to its profile (docker: --security-opt seccomp=FILE; systemd: SystemCallFilter=@ipc)."
        }
        Some(Surroundings { tracer: 1.., .. }) => {
            "A tracer answers the calls in place of the kernel (proot, gdb): run the program outside of it."
        }
        _ if findings.sem_info == Err(Errno::EACCES) => {
            "A policy of the kernel denies it, and it is no seccomp filter: with SELinux ausearch -m avc -ts recent | \
             audit2allow, with AppArmor the profile that journalctl -k names, else the BPF programs of bpftool prog."
        }
        _ => {
            "Something refuses the calls that is no seccomp filter of this agent: a sandbox or security module. Run \
             highwater-agent snapshot on the host outside it and compare."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::surroundings::Selinux;
    use super::*;

    fn findings(sem_info: Result<(), Errno>, proc_sem: Result<(), Errno>, kconfig: Option<Kconfig>) -> Findings {
        within(sem_info, proc_sem, kconfig, plain())
    }

    fn within(
        sem_info: Result<(), Errno>,
        proc_sem: Result<(), Errno>,
        kconfig: Option<Kconfig>,
        around: Surroundings,
    ) -> Findings {
        let trouble = kconfig.map(|kconfig| Trouble { kconfig, namespace_file: true, around });
        Findings { sem_info, proc_sem, trouble }
    }

    fn plain() -> Surroundings {
        Surroundings { proc_mounted: true, seccomp: Some(0), ..Surroundings::default() }
    }

    fn lines(findings: &Findings) -> Vec<String> {
        decide(findings).evidence.iter().map(HostText::escaped).collect()
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

    /// Everything that can stand around, one at a time.
    fn all_around() -> Vec<Surroundings> {
        let selinux = Selinux { enforcing: true, context: "u:r:t:s0".into() };
        vec![
            plain(),
            Surroundings { proc_mounted: false, seccomp: None, ..plain() },
            Surroundings { seccomp: Some(2), ..plain() },
            Surroundings { tracer: 7, ..plain() },
            Surroundings { mask: Some("tmpfs".into()), ..plain() },
            Surroundings { sandbox: Some(Sandbox::Gvisor), ..plain() },
            Surroundings { sandbox: Some(Sandbox::Wsl1), ..plain() },
            Surroundings { selinux: Some(selinux), ..plain() },
            Surroundings { container: Some(("lxc".into(), "/x")), apparmor: Some("p (enforce)".into()), ..plain() },
        ]
    }

    #[test]
    fn every_trouble_has_a_remedy_that_fits_one_text() {
        let results = [Ok(()), Err(Errno::ENOENT), Err(Errno::EACCES), Err(Errno::ENOSYS), Err(Errno::EPERM)];
        for around in all_around() {
            for kconfig in [yes(), not_set(), none()] {
                for (sem_info, proc_sem) in results.iter().flat_map(|a| results.iter().map(move |b| (*a, *b))) {
                    let findings = within(sem_info, proc_sem, kconfig.clone(), around.clone());
                    let remedy = remedy(state(&findings), &findings);
                    let healthy = sem_info.is_ok() && proc_sem.is_ok();
                    assert!(
                        remedy.is_empty() == healthy && remedy.len() <= HostText::MAX,
                        "{}: {remedy}",
                        remedy.len()
                    );
                }
            }
        }
    }

    #[test]
    fn each_cause_has_a_remedy_of_its_own() {
        let missing = Err(Errno::ENOENT);
        let (enosys, eacces) = (Err(Errno::ENOSYS), Err(Errno::EACCES));
        let at = |number: usize| all_around().remove(number);
        let causes = [
            (within(enosys, missing, not_set(), plain()), "another kernel package or rebuild"),
            (within(enosys, missing, none(), plain()), "put its configuration at /boot/config-RELEASE"),
            (within(enosys, missing, none(), at(1)), "Mount proc on /proc for the agent"),
            (within(enosys, missing, none(), at(2)), "the seccomp filter on this agent refuses the calls"),
            (within(enosys, missing, none(), at(5)), "gVisor"),
            (within(enosys, missing, none(), at(6)), "--set-version NAME 2"),
            (within(enosys, Ok(()), yes(), at(2)), "add semget, semctl, semop, semtimedop, shmget, shmat, shmctl"),
            (within(enosys, Ok(()), yes(), at(3)), "proot"),
            (within(enosys, Ok(()), yes(), plain()), "no seccomp filter"),
            (within(eacces, Ok(()), yes(), at(7)), "audit2allow -M local"),
            (within(eacces, Ok(()), yes(), plain()), "it is no seccomp filter"),
            (within(Ok(()), missing, none(), at(1)), "Objects are read by system calls meanwhile"),
            (within(Ok(()), missing, none(), at(4)), "Unmask /proc/sysvipc"),
            (within(Ok(()), eacces, none(), plain()), "A policy refuses the agent /proc/sysvipc"),
            (within(Ok(()), missing, none(), plain()), "mount proc anew"),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (findings, words) in causes {
            let remedy = remedy(state(&findings), &findings);
            assert!(remedy.contains(words), "{words} is not in: {remedy}");
            assert!(seen.insert(remedy), "two causes, one remedy: {remedy}");
        }
    }

    #[test]
    fn what_decided_comes_first() {
        let eacces = lines(&findings(Err(Errno::EACCES), Ok(()), yes()));
        assert_eq!(eacces[0], "EACCES from semctl while CONFIG_SYSVIPC=y");
        let enosys = lines(&findings(Err(Errno::ENOSYS), Ok(()), none()));
        assert_eq!(enosys[0], "ENOSYS from semctl while /proc/sysvipc/sem is there");
    }

    #[test]
    fn what_a_host_says_of_itself_stays_bytes_and_within_its_bounds() {
        let hostile = HostText::cut(&[b'\n'; 256]);
        let around = Surroundings {
            mask: Some(hostile.clone()),
            container: Some((hostile.clone(), "/x")),
            apparmor: Some(hostile.clone()),
            selinux: Some(Selinux { enforcing: false, context: hostile.clone() }),
            tracer: u32::MAX,
            sandbox: Some(Sandbox::Gvisor),
            seccomp: Some(2),
            proc_mounted: false,
        };
        let tried = vec![(hostile.clone(), hostile); 4];
        let kconfig = Some(Kconfig::NotFound { tried });
        let decided = decide(&within(Err(Errno::ENOSYS), Err(Errno::EACCES), kconfig, around));
        assert!(decided.evidence.len() <= Availability::MAX_EVIDENCE);
        let container = decided.evidence.iter().find(|line| line.as_bytes().starts_with(b"/x tells of a container"));
        assert!(container.unwrap().as_bytes().ends_with(b"\n\n"));
    }

    #[test]
    fn says_that_no_configuration_was_found_and_where_it_looked() {
        let lines = lines(&findings(Err(Errno::ENOSYS), Err(Errno::ENOENT), none()));
        assert!(lines.iter().any(|line| line.contains("no kernel configuration was found")), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("tried /proc/config.gz: ENOENT")), "{lines:?}");
    }
}
