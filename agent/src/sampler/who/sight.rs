//! Whether the agent sees every process of the host: only then does "no process" mean none.

use crate::kernel::Kernel;
use crate::kernel::identity::parse_release;
use crate::kernel::process::{MAX_PROCESS_FILE, parse_hides, parse_may_look, parse_namespace};
use crate::sys::errno::Errno;

/// `PROC_PID_INIT_INO` and `PROC_USER_INIT_INO` of `linux/nsfs.h`: the namespaces the kernel boots with.
const INITIAL: [(&str, u64); 2] = [("/proc/self/ns/pid", 0xEFFF_FFFC), ("/proc/self/ns/user", 0xEFFF_FFFD)];

/// Since this release GETPID names processes of other pid namespaces by their number in the asker's; before, by a number
/// that means another process or none here.
const NAMES_ACROSS: (u32, u32) = (4, 17);

/// How often the mounts are looked at, microseconds: a list of thousands is dear to make.
const MOUNTS_EVERY_US: u64 = 60_000_000;

/// Most bytes of the list of mounts; where it is longer, nothing is certain.
const MAX_MOUNTS: usize = 4 << 20;

/// What does not change while the agent runs is asked once.
#[derive(Debug, Default)]
pub struct Sight {
    fixed: Option<bool>,
    mounts: Option<(u64, bool)>,
    buffer: Vec<u8>,
}

impl Sight {
    /// Whether all processes can be seen: initial pid and user namespace, root or CAP_SYS_PTRACE, no `hidepid` on
    /// `/proc`, and a kernel that names the processes of other pid namespaces.
    pub fn is_whole(&mut self, kernel: &mut dyn Kernel, at_us: u64) -> bool {
        let fixed = match self.fixed {
            Some(known) => known,
            None => *self.fixed.insert(Self::ask(kernel, &mut self.buffer)),
        };
        fixed && self.shows_all(kernel, at_us)
    }

    fn ask(kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> bool {
        let initial = INITIAL.iter().all(|(path, inode)| match kernel.read_link(path) {
            Ok(target) => parse_namespace(&target) == Some(*inode),
            // A kernel built without that sort of namespace has one.
            Err(errno) => errno == Errno::ENOENT,
        });
        let may_look = kernel.read("/proc/self/status", MAX_PROCESS_FILE, buffer).is_ok() && parse_may_look(buffer);
        let names = kernel.uname().is_ok_and(|uname| parse_release(&uname.release) >= NAMES_ACROSS);
        initial && may_look && names
    }

    fn shows_all(&mut self, kernel: &mut dyn Kernel, at_us: u64) -> bool {
        if let Some((asked_us, shows)) = self.mounts
            && at_us.saturating_sub(asked_us) < MOUNTS_EVERY_US
        {
            return shows;
        }
        let whole = kernel.read("/proc/self/mountinfo", MAX_MOUNTS, &mut self.buffer) == Ok(true);
        let shows = whole && parse_hides(&self.buffer) == Some(false);
        self.mounts = Some((at_us, shows));
        // It is empty again before the next use, a minute from now.
        self.buffer = Vec::new();
        shows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::FakeKernel;

    const MOUNT: &str = "22 27 0:21 / /proc rw,relatime - proc proc rw";

    fn root() -> FakeKernel {
        let mut kernel = FakeKernel::new();
        kernel.links.insert("/proc/self/ns/pid".into(), b"pid:[4026531836]".to_vec());
        kernel.links.insert("/proc/self/ns/user".into(), b"user:[4026531837]".to_vec());
        kernel.files.insert("/proc/self/status".into(), Ok(b"Uid:\t0\t0\t0\t0\nCapEff:\t0\n".to_vec()));
        kernel.files.insert("/proc/self/mountinfo".into(), Ok(MOUNT.into()));
        kernel
    }

    fn sees_all(mut kernel: FakeKernel) -> bool {
        Sight::default().is_whole(&mut kernel, 0)
    }

    #[test]
    fn each_thing_that_can_hide_a_process_counts() {
        assert!(sees_all(root()));
        let with = |change: &dyn Fn(&mut FakeKernel)| {
            let mut kernel = root();
            change(&mut kernel);
            sees_all(kernel)
        };
        assert!(!with(&|k| drop(k.links.insert("/proc/self/ns/pid".into(), b"pid:[4026532000]".to_vec()))));
        assert!(!with(&|k| drop(k.links.insert("/proc/self/ns/user".into(), b"user:[4026532000]".to_vec()))));
        assert!(with(&|k| drop(k.links.remove("/proc/self/ns/user"))), "a kernel without user namespaces");
        assert!(!with(&|k| drop(k.files.insert("/proc/self/status".into(), Ok(b"Uid:\t9\t9\t9\t9\n".to_vec())))));
        let hides = format!("{MOUNT},hidepid=ptraceable");
        assert!(!with(&|k| drop(k.files.insert("/proc/self/mountinfo".into(), Ok(hides.clone().into_bytes())))));
        assert!(!with(&|k| k.fail("/proc/self/mountinfo", Errno::EACCES)));
        assert!(!with(&|k| k.uname.release = b"4.16.9-foo".to_vec()));
        assert!(with(&|k| k.uname.release = b"4.17".to_vec()));
        assert!(!with(&|k| k.uname.release = b"next".to_vec()));
    }

    #[test]
    fn a_mount_that_began_to_hide_is_noticed_within_a_minute() {
        let (mut sight, mut kernel) = (Sight::default(), root());
        assert!(sight.is_whole(&mut kernel, 0));
        kernel.files.insert("/proc/self/mountinfo".into(), Ok(format!("{MOUNT},hidepid=2").into_bytes()));
        assert!(sight.is_whole(&mut kernel, MOUNTS_EVERY_US - 1));
        assert!(!sight.is_whole(&mut kernel, MOUNTS_EVERY_US));
    }
}
