//! SEM_INFO, SHM_INFO and MSG_INFO: what is in use, as the kernel counts it (`ipcs -u` prints these).

use highwater_ipc::limits::Totals;

use super::Kernel;
use crate::sys::errno::Errno;
use crate::sys::sysvipc::{MsgUse, SemUse, ShmUse};

/// The three answers of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// SEM_INFO.
    pub sem: Result<SemUse, Errno>,
    /// SHM_INFO.
    pub shm: Result<ShmUse, Errno>,
    /// MSG_INFO.
    pub msg: Result<MsgUse, Errno>,
}

impl Answers {
    /// Asks all three.
    pub fn ask(kernel: &mut dyn Kernel) -> Answers {
        Answers { sem: kernel.sem_info(), shm: kernel.shm_info(), msg: kernel.msg_info() }
    }

    /// The totals, or `None` if one call failed.
    pub fn totals(&self) -> Option<Totals> {
        let (sem, shm, msg) = (self.sem.ok()?, self.shm.ok()?, self.msg.ok()?);
        Some(Totals {
            sem_arrays: sem.arrays,
            semaphores: sem.semaphores,
            shm_segments: shm.segments,
            shm_pages: shm.pages,
            shm_resident: shm.resident,
            shm_swapped: shm.swapped,
            swap_attempts: shm.swap_attempts,
            swap_successes: shm.swap_successes,
            msg_queues: msg.queues,
            msg_messages: msg.messages,
            msg_bytes: msg.bytes,
        })
    }

    /// The calls that failed.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, Errno)> {
        [("SEM_INFO", self.sem.err()), ("SHM_INFO", self.shm.err()), ("MSG_INFO", self.msg.err())]
            .into_iter()
            .filter_map(|(call, error)| error.map(|errno| (call, errno)))
    }
}
