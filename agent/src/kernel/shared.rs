//! A [`FakeKernel`] that a test changes while an agent samples it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_ipc::object::{MsgQueue, SemArray, ShmSegment};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;

use super::fake::FakeKernel;
use super::{Account, Entry, Kernel, Seen};
use crate::sys::errno::Errno;
use crate::sys::host::Uname;
use crate::sys::sysvipc::{MsgLimits, MsgUse, SemLimits, SemUse, ShmLimits, ShmUse};

/// Each question takes the lock by itself, so that a change can come between any two.
fn inner(shared: &Mutex<FakeKernel>) -> MutexGuard<'_, FakeKernel> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel for Arc<Mutex<FakeKernel>> {
    fn read(&mut self, path: &str, limit: usize, into: &mut Vec<u8>) -> Result<bool, Errno> {
        Kernel::read(&mut *inner(self), path, limit, into)
    }

    fn list(&mut self, path: &str) -> Result<Vec<Vec<u8>>, Errno> {
        Kernel::list(&mut *inner(self), path)
    }

    fn read_link(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        Kernel::read_link(&mut *inner(self), path)
    }

    fn sem_info(&mut self) -> Result<SemUse, Errno> {
        Kernel::sem_info(&mut *inner(self))
    }

    fn shm_info(&mut self) -> Result<ShmUse, Errno> {
        Kernel::shm_info(&mut *inner(self))
    }

    fn msg_info(&mut self) -> Result<MsgUse, Errno> {
        Kernel::msg_info(&mut *inner(self))
    }

    fn sem_limits(&mut self) -> Result<SemLimits, Errno> {
        Kernel::sem_limits(&mut *inner(self))
    }

    fn shm_limits(&mut self) -> Result<ShmLimits, Errno> {
        Kernel::shm_limits(&mut *inner(self))
    }

    fn msg_limits(&mut self) -> Result<MsgLimits, Errno> {
        Kernel::msg_limits(&mut *inner(self))
    }

    fn sem_stat(&mut self, index: u32) -> Result<SemArray, Errno> {
        Kernel::sem_stat(&mut *inner(self), index)
    }

    fn shm_stat(&mut self, index: u32) -> Result<ShmSegment, Errno> {
        Kernel::shm_stat(&mut *inner(self), index)
    }

    fn msg_stat(&mut self, index: u32) -> Result<MsgQueue, Errno> {
        Kernel::msg_stat(&mut *inner(self), index)
    }

    fn sem_pid(&mut self, semid: i32, index: u32) -> Result<i32, Errno> {
        Kernel::sem_pid(&mut *inner(self), semid, index)
    }

    fn sem_waiters(&mut self, semid: i32, index: u32) -> Result<u64, Errno> {
        Kernel::sem_waiters(&mut *inner(self), semid, index)
    }

    fn process(&mut self, pid: i32) -> Result<Entry, Errno> {
        Kernel::process(&mut *inner(self), pid)
    }

    fn pids(&mut self, into: &mut Vec<i32>) -> Result<(), Errno> {
        Kernel::pids(&mut *inner(self), into)
    }

    fn enter(&mut self, pid: i32) -> Result<Seen, Errno> {
        Kernel::enter(&mut *inner(self), pid)
    }

    fn home(&mut self) {
        Kernel::home(&mut *inner(self));
    }

    fn namespace(&mut self) -> Result<NamespaceId, Errno> {
        Kernel::namespace(&mut *inner(self))
    }

    fn uname(&mut self) -> Result<Uname, Errno> {
        Kernel::uname(&mut *inner(self))
    }

    fn page_size(&mut self) -> u32 {
        Kernel::page_size(&mut *inner(self))
    }

    fn refresh_names(&mut self, boot_us: u64) {
        Kernel::refresh_names(&mut *inner(self), boot_us);
    }

    fn name(&mut self, account: Account) -> Option<HostText> {
        Kernel::name(&mut *inner(self), account)
    }
}
