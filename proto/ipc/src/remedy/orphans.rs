//! How arrays that nobody holds are removed.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::inside;
use crate::object::{Kind, SemArray};
use crate::snapshot::{BootId, Namespace};
use crate::who::{Grade, Orphan};

/// The most arrays that one command names: about 40 KB, which a terminal takes and `sh -c` too (an argument of a program
/// has at most 128 KiB). Once they are gone a newer answer names the next ones.
pub const MAX_NAMED: usize = 500;

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO` of linux/proc_ns.h). Only from there all processes are seen,
/// so only from there an array is ever certain.
pub const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A command that removes arrays of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Their owner.
    pub uid: u32,
    /// How many arrays the command names, at most [`MAX_NAMED`].
    pub named: usize,
    /// How many of this owner's are certain orphans.
    pub of: usize,
    /// The command, for a root shell of the host.
    pub command: String,
}

/// The commands that remove the arrays of a namespace which are certain orphans, one for each owner, most arrays first.
/// `pid_namespace` is where the commands will run, [`INITIAL_PID_NAMESPACE`] on any host.
///
/// None where the kernel gives the namespace no inode: the command could not tell where it is.
pub fn removals(boot_id: BootId, namespace: &Namespace, pid_namespace: u64) -> Vec<Removal> {
    if namespace.id.inode == 0 {
        return Vec::new();
    }
    let mut owners: BTreeMap<u32, Vec<&SemArray>> = BTreeMap::new();
    for array in namespace.sem.iter().flatten().filter(|array| is_certain(namespace, array)) {
        owners.entry(array.owner.uid).or_default().push(array);
    }
    let removal = |(uid, arrays): (u32, Vec<&SemArray>)| {
        let named = arrays.get(..MAX_NAMED).unwrap_or(&arrays);
        let command = command(boot_id, namespace, pid_namespace, uid, named);
        Removal { uid, named: named.len(), of: arrays.len(), command }
    };
    let mut removals: Vec<Removal> = owners.into_iter().map(removal).collect();
    removals.sort_by_key(|removal| core::cmp::Reverse(removal.of));
    removals
}

fn is_certain(namespace: &Namespace, array: &SemArray) -> bool {
    let known = namespace.who.as_ref().and_then(|who| who.objects.get(&(Kind::Sem, array.semid)));
    let orphan = known.and_then(|known| known.orphan.as_ref());
    matches!(orphan, Some(Orphan { grade: Grade::Certain, .. }))
}

fn command(boot_id: BootId, namespace: &Namespace, pid_namespace: u64, uid: u32, arrays: &[&SemArray]) -> String {
    let inode = namespace.id.inode;
    let rows: Vec<String> = arrays.iter().map(|array| row(array)).collect();
    let rows = rows.join("\n");
    let here = "$(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/ipc) $(readlink /proc/self/ns/pid)";
    let there = format!("{boot_id} ipc:[{inode}] pid:[{pid_namespace}]");
    let alive = format!("grep -qsE '^Uid:.*[[:space:]]{uid}([[:space:]]|$)' /proc/[0-9]*/status");
    let same = "awk '{$1=$1}1' /proc/sysvipc/sem | grep -xF -e \"$R\" | awk '{print $2}'";
    // Who waits moves none of an array's times. `ipcs -s -i` has a row of five numbers for each semaphore.
    let waits = "awk 'NF==5&&$1~/^[0-9]+$/{n++;w+=$3+$4}END{exit(!n||w)}'";
    let free = format!("while read -r S; do ipcs -s -i $S | {waits} && echo \"-s $S\"; done");
    let guards = format!("[ -r /proc/1/status ] && [ \"{here}\" = '{there}' ] && ! {alive}");
    let command = format!("R='{rows}'; {guards} && {same} | {free} | xargs -r ipcrm -v");
    inside(namespace, &command)
}

/// The array's line of `/proc/sysvipc/sem`, spaces squeezed (`sysvipc_sem_proc_show` of `ipc/sem.c`).
fn row(array: &SemArray) -> String {
    let SemArray { key, semid, perms, nsems, owner, otime, ctime } = array;
    let (otime, ctime) = (otime.cast_unsigned(), ctime.cast_unsigned());
    format!(
        "{} {semid} {:o} {nsems} {} {} {} {} {otime} {ctime}",
        key.0, perms.0, owner.uid, owner.gid, owner.cuid, owner.cgid
    )
}
