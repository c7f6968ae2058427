//! `semctl(2)`, `shmctl(2)` and `msgctl(2)`: totals, limits and objects of the calling thread's IPC namespace.
//!
//! None of these commands changes anything. `*_STAT_ANY` (Linux 4.17) needs no read permission on the object; on older
//! kernels `*_STAT` is tried, which does. Sources: `ipc/{sem,shm,msg}.c`.

use std::mem;
use std::ptr;

use highwater_ipc::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use libc::{c_int, c_ulong, c_void};

use super::errno::Errno;

/// What SEM_INFO says is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SemUse {
    /// Arrays (`semusz`).
    pub arrays: u64,
    /// Semaphores in all arrays (`semaem`).
    pub semaphores: u64,
    /// Highest index in use; 0 also when nothing is.
    pub max_index: u32,
}

/// What SHM_INFO says is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShmUse {
    /// Segments (`used_ids`).
    pub segments: u64,
    /// Pages of all segments (`shm_tot`).
    pub pages: u64,
    /// Pages resident (`shm_rss`).
    pub resident: u64,
    /// Pages swapped (`shm_swp`).
    pub swapped: u64,
    /// `swap_attempts`, 0 since Linux 2.4.
    pub swap_attempts: u64,
    /// `swap_successes`, 0 since Linux 2.4.
    pub swap_successes: u64,
    /// Highest index in use; 0 also when nothing is.
    pub max_index: u32,
}

/// What MSG_INFO says is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MsgUse {
    /// Queues (`msgpool`).
    pub queues: u64,
    /// Messages (`msgmap`).
    pub messages: u64,
    /// Bytes (`msgtql`).
    pub bytes: u64,
    /// Highest index in use; 0 also when nothing is.
    pub max_index: u32,
}

/// The semaphore limits of IPC_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SemLimits {
    /// SEMMSL.
    pub semmsl: u64,
    /// SEMMNS.
    pub semmns: u64,
    /// SEMOPM.
    pub semopm: u64,
    /// SEMMNI.
    pub semmni: u64,
}

/// The shared memory limits of IPC_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShmLimits {
    /// SHMMAX, bytes.
    pub shmmax: u64,
    /// SHMALL, pages.
    pub shmall: u64,
    /// SHMMNI.
    pub shmmni: u64,
}

/// The message queue limits of IPC_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MsgLimits {
    /// MSGMAX, bytes.
    pub msgmax: u64,
    /// MSGMNB, bytes.
    pub msgmnb: u64,
    /// MSGMNI.
    pub msgmni: u64,
}

/// `semctl(0, 0, SEM_INFO)`.
pub fn sem_info() -> Result<SemUse, Errno> {
    let (info, max_index) = semctl::<libc::seminfo>(0, libc::SEM_INFO)?;
    Ok(SemUse { arrays: count(info.semusz), semaphores: count(info.semaem), max_index })
}

/// `semctl(0, 0, IPC_INFO)`.
pub fn sem_limits() -> Result<SemLimits, Errno> {
    let (info, _) = semctl::<libc::seminfo>(0, IPC_INFO)?;
    Ok(SemLimits {
        semmsl: limit(info.semmsl),
        semmns: limit(info.semmns),
        semopm: limit(info.semopm),
        semmni: limit(info.semmni),
    })
}

/// `semctl(index, 0, SEM_STAT_ANY)`. EINVAL: no array at that index.
pub fn sem_stat(index: u32) -> Result<SemArray, Errno> {
    let index = c_int::try_from(index).map_err(|_| Errno::EINVAL)?;
    let (ds, semid) = either(libc::SEM_STAT_ANY, libc::SEM_STAT, |command| semctl::<libc::semid_ds>(index, command))?;
    let (key, perms, owner) = permissions(&ds.sem_perm);
    Ok(SemArray {
        key,
        semid: id(semid)?,
        perms,
        nsems: u32::try_from(ds.sem_nsems).map_err(|_| Errno(libc::ERANGE))?,
        owner,
        otime: ds.sem_otime,
        ctime: ds.sem_ctime,
    })
}

/// `semctl(semid, index, GETPID)`: the process that did the last operation on a semaphore; 0 = none, or (since Linux
/// 4.17; before, a number of that namespace) one of a pid namespace that the caller does not see.
pub fn sem_pid(semid: i32, index: u32) -> Result<i32, Errno> {
    sem_value(semid, index, libc::GETPID).and_then(id)
}

/// GETNCNT + GETZCNT of a semaphore: how many wait for it.
pub fn sem_waiters(semid: i32, index: u32) -> Result<u64, Errno> {
    let growth = sem_value(semid, index, libc::GETNCNT)?;
    let zero = sem_value(semid, index, libc::GETZCNT)?;
    Ok(u64::from(growth) + u64::from(zero))
}

/// `shmctl(0, SHM_INFO)`.
pub fn shm_info() -> Result<ShmUse, Errno> {
    let (info, max_index) = shmctl::<ShmInfo>(0, SHM_INFO)?;
    Ok(ShmUse {
        segments: count(info.used_ids),
        pages: info.shm_tot,
        resident: info.shm_rss,
        swapped: info.shm_swp,
        swap_attempts: info.swap_attempts,
        swap_successes: info.swap_successes,
        max_index,
    })
}

/// `shmctl(0, IPC_INFO)`.
pub fn shm_limits() -> Result<ShmLimits, Errno> {
    let (info, _) = shmctl::<ShmInfo64>(0, IPC_INFO)?;
    Ok(ShmLimits { shmmax: info.shmmax, shmall: info.shmall, shmmni: info.shmmni })
}

/// `shmctl(index, SHM_STAT_ANY)`. EINVAL: no segment at that index. This answer has no resident and swapped bytes:
/// `rss` and `swap` are 0.
pub fn shm_stat(index: u32) -> Result<ShmSegment, Errno> {
    let index = c_int::try_from(index).map_err(|_| Errno::EINVAL)?;
    let (ds, shmid) = either(SHM_STAT_ANY, SHM_STAT, |command| shmctl::<libc::shmid_ds>(index, command))?;
    let (key, perms, owner) = permissions(&ds.shm_perm);
    Ok(ShmSegment {
        key,
        shmid: id(shmid)?,
        perms,
        size: u64::try_from(ds.shm_segsz).unwrap_or(u64::MAX),
        cpid: ds.shm_cpid,
        lpid: ds.shm_lpid,
        nattch: ds.shm_nattch,
        owner,
        atime: ds.shm_atime,
        dtime: ds.shm_dtime,
        ctime: ds.shm_ctime,
        rss: 0,
        swap: 0,
    })
}

/// `msgctl(0, MSG_INFO)`.
pub fn msg_info() -> Result<MsgUse, Errno> {
    let (info, max_index) = msgctl::<libc::msginfo>(0, libc::MSG_INFO)?;
    Ok(MsgUse { queues: count(info.msgpool), messages: count(info.msgmap), bytes: count(info.msgtql), max_index })
}

/// `msgctl(0, IPC_INFO)`.
pub fn msg_limits() -> Result<MsgLimits, Errno> {
    let (info, _) = msgctl::<libc::msginfo>(0, IPC_INFO)?;
    Ok(MsgLimits { msgmax: limit(info.msgmax), msgmnb: limit(info.msgmnb), msgmni: limit(info.msgmni) })
}

/// `msgctl(index, MSG_STAT_ANY)`. EINVAL: no queue at that index.
pub fn msg_stat(index: u32) -> Result<MsgQueue, Errno> {
    let index = c_int::try_from(index).map_err(|_| Errno::EINVAL)?;
    let (ds, msqid) = either(MSG_STAT_ANY, libc::MSG_STAT, |command| msgctl::<libc::msqid_ds>(index, command))?;
    let (key, perms, owner) = permissions(&ds.msg_perm);
    Ok(MsgQueue {
        key,
        msqid: id(msqid)?,
        perms,
        cbytes: ds.__msg_cbytes,
        qnum: ds.msg_qnum,
        qbytes: Some(ds.msg_qbytes),
        lspid: ds.msg_lspid,
        lrpid: ds.msg_lrpid,
        owner,
        stime: ds.msg_stime,
        rtime: ds.msg_rtime,
        ctime: ds.msg_ctime,
    })
}

/// A structure that the kernel fills: plain integers, for which all zeros is a value.
///
/// # Safety
/// Every bit pattern is valid, and the type is at least as large as what the commands it is used with write.
unsafe trait Answer {}
// SAFETY: integers only; `struct seminfo` of SEM_INFO and IPC_INFO.
unsafe impl Answer for libc::seminfo {}
// SAFETY: integers only; `struct semid64_ds` of SEM_STAT and SEM_STAT_ANY.
unsafe impl Answer for libc::semid_ds {}
// SAFETY: integers only; `struct shmid64_ds` of SHM_STAT and SHM_STAT_ANY.
unsafe impl Answer for libc::shmid_ds {}
// SAFETY: integers only; `struct shm_info` of SHM_INFO.
unsafe impl Answer for ShmInfo {}
// SAFETY: integers only; `struct shminfo64` of IPC_INFO.
unsafe impl Answer for ShmInfo64 {}
// SAFETY: integers only; `struct msginfo` of MSG_INFO and IPC_INFO.
unsafe impl Answer for libc::msginfo {}
// SAFETY: integers only; `struct msqid64_ds` of MSG_STAT and MSG_STAT_ANY.
unsafe impl Answer for libc::msqid_ds {}

fn semctl<T: Answer>(index: c_int, command: c_int) -> Result<(T, u32), Errno> {
    // SAFETY: `T: Answer` promises that zeros are a value and that the kernel writes no further than `T`; the fourth
    // argument of these commands is a pointer, and the structure outlives the call.
    unsafe {
        let mut answer: T = mem::zeroed();
        let pointer: *mut c_void = ptr::from_mut(&mut answer).cast();
        returned(libc::semctl(index, 0, command, pointer)).map(|value| (answer, value))
    }
}

/// The commands that take no argument and return what they say of one semaphore.
fn sem_value(semid: i32, index: u32, command: c_int) -> Result<u32, Errno> {
    let index = c_int::try_from(index).map_err(|_| Errno::EINVAL)?;
    // SAFETY: GETPID, GETNCNT and GETZCNT take and return integers; the kernel looks at no fourth argument.
    returned(unsafe { libc::semctl(semid, index, command) })
}

fn shmctl<T: Answer>(index: c_int, command: c_int) -> Result<(T, u32), Errno> {
    // SAFETY: as in `semctl`; the C library hands the pointer on to the kernel without looking at it.
    unsafe {
        let mut answer: T = mem::zeroed();
        returned(libc::shmctl(index, command, ptr::from_mut(&mut answer).cast())).map(|value| (answer, value))
    }
}

fn msgctl<T: Answer>(index: c_int, command: c_int) -> Result<(T, u32), Errno> {
    // SAFETY: as in `semctl`; the C library hands the pointer on to the kernel without looking at it.
    unsafe {
        let mut answer: T = mem::zeroed();
        returned(libc::msgctl(index, command, ptr::from_mut(&mut answer).cast())).map(|value| (answer, value))
    }
}

fn returned(value: c_int) -> Result<u32, Errno> {
    u32::try_from(value).map_err(|_| Errno::last())
}

/// The command of new kernels, or the old one where the new one is not known (EINVAL, as for an empty index).
fn either<T>(new: c_int, old: c_int, call: impl Fn(c_int) -> Result<T, Errno>) -> Result<T, Errno> {
    match call(new) {
        Err(Errno::EINVAL) => call(old),
        answer => answer,
    }
}

fn permissions(perm: &libc::ipc_perm) -> (Key, Perms, Owner) {
    let owner = Owner { uid: perm.uid, gid: perm.gid, cuid: perm.cuid, cgid: perm.cgid };
    (Key(perm.__key), Perms(u32::from(perm.mode)), owner)
}

fn id(value: u32) -> Result<i32, Errno> {
    i32::try_from(value).map_err(|_| Errno(libc::ERANGE))
}

/// A count of the kernel: old kernels let it pass 2^31, which shows as a negative `int`.
fn count(value: c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

/// A limit of the kernel: negative ones can be set and let nothing be made, as 0 does.
fn limit(value: c_int) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// `struct shm_info` (`include/uapi/linux/shm.h`), which the C library's bindings lack.
#[repr(C)]
struct ShmInfo {
    used_ids: c_int,
    shm_tot: c_ulong,
    shm_rss: c_ulong,
    shm_swp: c_ulong,
    swap_attempts: c_ulong,
    swap_successes: c_ulong,
}

/// `struct shminfo64` (`include/uapi/asm-generic/shmbuf.h`).
#[repr(C)]
struct ShmInfo64 {
    shmmax: c_ulong,
    shmmin: c_ulong,
    shmmni: c_ulong,
    shmseg: c_ulong,
    shmall: c_ulong,
    unused: [c_ulong; 4],
}

const IPC_INFO: c_int = 3;
const MSG_STAT_ANY: c_int = 13;
const SHM_STAT: c_int = 13;
const SHM_INFO: c_int = 14;
const SHM_STAT_ANY: c_int = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_int_is_a_large_count_but_no_limit() {
        assert_eq!(count(-1), u64::from(u32::MAX));
        assert_eq!(limit(-1), 0);
    }

    #[test]
    fn an_index_beyond_int_is_no_object() {
        assert_eq!(sem_stat(u32::MAX), Err(Errno::EINVAL));
        assert_eq!(shm_stat(u32::MAX), Err(Errno::EINVAL));
        assert_eq!(msg_stat(u32::MAX), Err(Errno::EINVAL));
    }
}
