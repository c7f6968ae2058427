//! What stands between this process and the kernel: seccomp filter, tracer, sandbox, container, SELinux, AppArmor, and
//! what is mounted on `/proc`.
//!
//! Only looked at where a call or a file of System V IPC fails: it tells a refusal from an absence, and whom to ask.
//! Sources: `proc(5)`, `seccomp(2)`, systemd's container interface (`/run/systemd/container`, `container=` of process
//! 1), `/run/.containerenv` of podman, `/.dockerenv` of docker, selinuxfs, `apparmor(7)`. Whoever runs a container can
//! have written most of this: it is evidence that is shown as claimed, and never turns a state into another.

use highwater_ipc::text::HostText;

use super::Kernel;
use crate::sys::errno::Errno;

/// What was found around this process.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Whether proc is mounted on `/proc`: `/proc/self/status` is there.
    pub proc_mounted: bool,
    /// `Seccomp:` of `/proc/self/status`: 0 none, 1 strict, 2 filter; `None` = not known.
    pub seccomp: Option<u32>,
    /// `TracerPid:` there: a process that traces this one, as proot does; 0 = none.
    pub tracer: u32,
    /// Type of the file system mounted over `/proc/sysvipc` or a file in it.
    pub mask: Option<HostText>,
    /// A kernel that only looks like Linux.
    pub sandbox: Option<Sandbox>,
    /// The container manager, as it calls itself, and the file that names it.
    pub container: Option<(HostText, &'static str)>,
    /// SELinux, where it is loaded.
    pub selinux: Option<Selinux>,
    /// AppArmor's profile of this process, where it is confined by one.
    pub apparmor: Option<HostText>,
}

/// Kernels that are not Linux and say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// gVisor (runsc).
    Gvisor,
    /// Windows Subsystem for Linux 1.
    Wsl1,
}

/// SELinux as selinuxfs shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selinux {
    /// `/sys/fs/selinux/enforce` is 1.
    pub enforcing: bool,
    /// Context of this process (`/proc/self/attr/current`); empty = not readable.
    pub context: HostText,
}

/// Looks around. Whatever cannot be read is not known, and no error.
pub fn look(kernel: &mut dyn Kernel) -> Surroundings {
    let mut buffer = Vec::new();
    let status = kernel.read("/proc/self/status", MAX_FILE, &mut buffer);
    let mut found = Surroundings { proc_mounted: status != Err(Errno::ENOENT), ..Surroundings::default() };
    if status.is_ok() {
        found.seccomp = parse_number(&buffer, b"Seccomp:");
        found.tracer = parse_number(&buffer, b"TracerPid:").unwrap_or(0);
    }
    let mut file = |path: &str| kernel.read(path, MAX_FILE, &mut buffer).ok().map(|_| buffer.clone());
    found.mask = file("/proc/self/mountinfo").and_then(|text| parse_mask(&text));
    found.sandbox = file("/proc/version").and_then(|text| parse_sandbox(&text));
    let named = |name: Vec<u8>| Some(HostText::cut(name.trim_ascii())).filter(|name| *name != HostText::default());
    found.container = file(CONTAINER)
        .and_then(named)
        .map(|name| (name, CONTAINER))
        .or_else(|| file(ENVIRON).and_then(|text| named(parse_container(&text)?)).map(|name| (name, ENVIRON)))
        .or_else(|| file(CONTAINERENV).map(|_| ("podman".into(), CONTAINERENV)))
        .or_else(|| file(DOCKERENV).map(|_| ("docker".into(), DOCKERENV)));
    if let Some(enforce) = file("/sys/fs/selinux/enforce") {
        let context = file("/proc/self/attr/current").map(|text| HostText::cut(label(&text))).unwrap_or_default();
        found.selinux = Some(Selinux { enforcing: enforce.trim_ascii() == b"1", context });
    } else {
        let profile = file("/proc/self/attr/apparmor/current").or_else(|| file("/proc/self/attr/current"));
        found.apparmor = profile.and_then(|text| parse_apparmor(&text));
    }
    found
}

/// The number behind that name in a `/proc/PID/status` file.
pub fn parse_number(status: &[u8], name: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
    std::str::from_utf8(line.trim_ascii()).ok()?.parse().ok()
}

/// `CapEff:` there: the capabilities in force, a bit each.
pub fn parse_capabilities(status: &[u8]) -> Option<u64> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"CapEff:"))?;
    u64::from_str_radix(std::str::from_utf8(line.trim_ascii()).ok()?, 16).ok()
}

/// Type of the file system that a `/proc/PID/mountinfo` shows over `/proc/sysvipc` or a file in it; of several the last,
/// which is the one on top.
pub fn parse_mask(mountinfo: &[u8]) -> Option<HostText> {
    let mut mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let place = words.nth(4)?;
        // Optional fields of any number stand between the sixth and a lone hyphen.
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        let inside = place.strip_prefix(b"/proc/sysvipc")?;
        (inside.is_empty() || inside.starts_with(b"/")).then_some(kind)
    });
    mounts.next_back().map(HostText::cut)
}

/// The kernel that a `/proc/version` names, if it is one that only looks like Linux.
pub fn parse_sandbox(version: &[u8]) -> Option<Sandbox> {
    let has = |word: &[u8]| version.windows(word.len()).any(|part| part == word);
    // gVisor has told this very date since its first release.
    if has(b"gVisor") || has(b"#1 SMP Sun Jan 10 15:06:54 PST 2016") {
        return Some(Sandbox::Gvisor);
    }
    // WSL 2 is a real Linux: `5.15.90.1-microsoft-standard-WSL2`; WSL 1 says `4.4.0-19041-Microsoft`.
    has(b"-Microsoft ").then_some(Sandbox::Wsl1)
}

/// The value of `container=` in the environment of process 1.
pub fn parse_container(environ: &[u8]) -> Option<Vec<u8>> {
    environ.split(|byte| *byte == 0).find_map(|pair| pair.strip_prefix(b"container=")).map(<[u8]>::to_vec)
}

/// The AppArmor profile in a `/proc/PID/attr/current`, `docker-default (enforce)`; `None` = unconfined.
pub fn parse_apparmor(attribute: &[u8]) -> Option<HostText> {
    let profile = label(attribute);
    (!profile.is_empty() && profile != b"unconfined").then(|| HostText::cut(profile))
}

/// A label as the kernel ends it: by a newline, a zero, or nothing.
fn label(attribute: &[u8]) -> &[u8] {
    let end = attribute.iter().position(|byte| matches!(byte, 0 | b'\n')).unwrap_or(attribute.len());
    attribute.get(..end).unwrap_or_default()
}

/// systemd writes the manager's name here for whoever may not read [`ENVIRON`].
const CONTAINER: &str = "/run/systemd/container";
/// Environment of process 1.
const ENVIRON: &str = "/proc/1/environ";
/// podman makes it.
const CONTAINERENV: &str = "/run/.containerenv";
/// docker makes it.
const DOCKERENV: &str = "/.dockerenv";

/// `/proc/self/status` has 1.5 kB; a table of a thousand mounts 0.2 MB.
const MAX_FILE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::FakeKernel;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_status_is_found_by_its_whole_name() {
        assert_eq!(parse_number(b"Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n", b"Seccomp:"), Some(2));
        assert_eq!(parse_number(b"Seccomp_filters:\t1\n", b"Seccomp:"), None);
        assert_eq!(parse_number(b"Seccomp:\t\xff\n", b"Seccomp:"), None);
    }

    #[test]
    fn capabilities_are_hexadecimal() {
        assert_eq!(parse_capabilities(b"CapPrm:\t0\nCapEff:\t000001fffeffffff\n"), Some(0x1ff_feff_ffff));
        assert_eq!(parse_capabilities(b"CapEff:\tx\n"), None);
    }

    #[test]
    fn a_mount_over_sysvipc_is_a_mask_and_one_beside_it_is_none() {
        let table = b"22 1 0:21 / /proc rw shared:5 - proc proc rw\n\
            99 22 0:44 / /proc/sysvipc ro,relatime shared:6 master:7 - tmpfs none ro\n\
            98 22 0:45 / /proc/sysvipc2 rw - ext4 /dev/x rw\n";
        assert_eq!(parse_mask(table), Some("tmpfs".into()));
        assert_eq!(parse_mask(b"98 22 0:45 / /proc/sysvipc2 rw - ext4 /dev/x rw\n"), None);
        assert_eq!(parse_mask(b"98 22 0:45 / /proc/sysvipc/sem rw - devtmpfs udev rw\n"), Some("devtmpfs".into()));
        assert_eq!(parse_mask(b"98 22 0:45 / /proc/sysvipc rw\n"), None);
        let twice = b"98 22 0:45 / /proc/sysvipc rw - tmpfs x rw\n99 98 0:46 / /proc/sysvipc rw - ext4 x rw\n";
        assert_eq!(parse_mask(twice), Some("ext4".into()), "the one on top");
    }

    #[test]
    fn kernels_that_only_look_like_linux_are_told_from_linux() {
        let table: [(&[u8], Option<Sandbox>); 5] = [
            (b"Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n", Some(Sandbox::Gvisor)),
            (
                b"Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc version 5.4.0 (GCC) ) \
                  #1237-Microsoft Sat Sep 11 14:32:00 PST 2021\n",
                Some(Sandbox::Wsl1),
            ),
            (b"Linux version 5.15.90.1-microsoft-standard-WSL2 (oe-user@oe-host) #1 SMP\n", None),
            (b"Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org) #1 SMP\n", None),
            (b"", None),
        ];
        for (version, sandbox) in table {
            assert_eq!(parse_sandbox(version), sandbox, "{}", String::from_utf8_lossy(version));
        }
    }

    #[test]
    fn a_container_is_known_by_what_its_manager_left() {
        let mut kernel = FakeKernel::new();
        assert_eq!(look(&mut kernel).container, None);
        kernel.files.insert("/.dockerenv".into(), Ok(Vec::new()));
        assert_eq!(look(&mut kernel).container, Some(("docker".into(), DOCKERENV)));
        kernel.files.insert("/run/.containerenv".into(), Ok(b"engine=\"podman\"\n".to_vec()));
        assert_eq!(look(&mut kernel).container, Some(("podman".into(), CONTAINERENV)));
        kernel.files.insert("/proc/1/environ".into(), Ok(b"PATH=/bin\0container=lxc\0".to_vec()));
        assert_eq!(look(&mut kernel).container, Some(("lxc".into(), ENVIRON)));
        kernel.files.insert("/run/systemd/container".into(), Ok(b"systemd-nspawn\n".to_vec()));
        assert_eq!(look(&mut kernel).container, Some(("systemd-nspawn".into(), CONTAINER)));
    }

    #[test]
    fn selinux_and_apparmor_are_told_apart() {
        let mut kernel = FakeKernel::new();
        kernel.files.insert("/proc/self/attr/current".into(), Ok(b"docker-default (enforce)\n".to_vec()));
        let found = look(&mut kernel);
        assert_eq!((found.selinux, found.apparmor), (None, Some("docker-default (enforce)".into())));
        kernel.files.insert("/proc/self/attr/current".into(), Ok(b"u:r:t:s0\0".to_vec()));
        kernel.files.insert("/sys/fs/selinux/enforce".into(), Ok(b"1".to_vec()));
        let found = look(&mut kernel);
        assert_eq!(found.selinux, Some(Selinux { enforcing: true, context: "u:r:t:s0".into() }));
        assert_eq!(found.apparmor, None);
    }

    #[test]
    fn no_status_means_no_proc() {
        assert!(!look(&mut FakeKernel::new()).proc_mounted);
        let mut kernel = FakeKernel::new();
        kernel.fail("/proc/self/status", Errno::EACCES);
        assert!(look(&mut kernel).proc_mounted);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_number(&bytes, b"Seccomp:"), parse_mask(&bytes), parse_sandbox(&bytes));
            let _ = parse_capabilities(&[b"CapEff:", &bytes[..]].concat());
            let _ = (parse_container(&bytes), parse_apparmor(&bytes));
        }
    }
}
