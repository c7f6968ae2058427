//! Which IPC namespace this agent lives in, on a kernel that gives namespaces no number of their own (before Linux
//! 6.18, outside the initial one): a number that the agent made up and keeps in its state directory, so that objects
//! do not all become new ones when it restarts.
//!
//! The kept number holds for one boot and one inode. The kernel gives an inode to another namespace once its first one
//! is gone, so an agent that is moved to such a one within a boot (a container made anew around the same state
//! directory) takes it for the same: objects of the old one then show as removed and those of the new one as made,
//! told apart by their ids and times of change as ever, but without the namespace's end being said.
//!
//! File `namespace`, text, replaced whole:
//! ```text
//! highwater-namespace 1
//! boot_id 0011...ff (32 digits)
//! inode 4026532281
//! instance 86400000000
//! ```

use std::io;

use highwater_ipc::snapshot::{BootId, NamespaceId};
use highwater_proto::token::to_hex;

use crate::spool::disk::Disk;

const FILE: &str = "namespace";
const FILE_MAX: usize = 512;

/// The instance that an earlier run in this boot gave the namespace with that inode, or `id`'s own, which is kept for
/// later ones.
pub(super) fn instance(state: &mut dyn Disk, boot_id: &BootId, id: NamespaceId) -> io::Result<u64> {
    let file = state.read_whole(FILE, FILE_MAX)?.unwrap_or_default();
    let kept = std::str::from_utf8(&file).ok().and_then(|text| text.trim_end().rsplit(' ').next()?.parse().ok());
    // Whatever is written in it, only what this code writes counts.
    if let Some(instance) = kept.filter(|kept| render(boot_id, id.inode, *kept).as_bytes() == file) {
        return Ok(instance);
    }
    state.replace(FILE, render(boot_id, id.inode, id.instance).as_bytes())?;
    Ok(id.instance)
}

fn render(boot_id: &BootId, inode: u64, instance: u64) -> String {
    format!("highwater-namespace 1\nboot_id {}\ninode {inode}\ninstance {instance}\n", to_hex(&boot_id.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::disk::PrivateDir;

    const BOOT: BootId = BootId([3; 16]);

    fn id(inode: u64, instance: u64) -> NamespaceId {
        NamespaceId { inode, instance }
    }

    #[test]
    fn a_restarted_agent_keeps_its_namespaces_instance_and_another_boot_or_inode_gets_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = PrivateDir::create(&dir.path().join("state")).unwrap();
        assert_eq!(instance(&mut state, &BOOT, id(7, 100)).unwrap(), 100);
        assert_eq!(instance(&mut state, &BOOT, id(7, 200)).unwrap(), 100);
        assert_eq!(instance(&mut state, &BOOT, id(8, 300)).unwrap(), 300);
        assert_eq!(instance(&mut state, &BOOT, id(8, 400)).unwrap(), 300);
        assert_eq!(instance(&mut state, &BootId([4; 16]), id(8, 500)).unwrap(), 500);
        // The namespace of before is not remembered: its inode may have been given away.
        assert_eq!(instance(&mut state, &BOOT, id(7, 600)).unwrap(), 600);
    }

    #[test]
    fn a_file_that_says_something_else_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = PrivateDir::create(&dir.path().join("state")).unwrap();
        let sound = render(&BOOT, 7, 100);
        for other in ["", "5", "\u{fffd} 100", &sound[1..], &sound[..sound.len() - 1], &format!("{sound}1 100\n")] {
            state.replace(FILE, other.as_bytes()).unwrap();
            assert_eq!(instance(&mut state, &BOOT, id(7, 200)).unwrap(), 200, "{other:?}");
        }
    }
}
