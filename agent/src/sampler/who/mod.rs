//! Who holds the objects of each namespace, and which of them nobody holds any more.
//!
//! [`Watch`] looks at all processes on a cadence of its own ([`Watch::scan_if_due`], from the agent's own namespaces)
//! and puts what it found beside the objects of each namespace that a sample visits ([`Watch::of`]).

use std::time::Duration;

use highwater_ipc::activity::Activity;
use highwater_ipc::object::{MsgQueue, SemArray, ShmSegment};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::time::At;
use highwater_ipc::who::Who;

use crate::kernel::Kernel;

/// How long an array must look abandoned in every scan before it is called so for certain, unless configured otherwise.
pub const ORPHAN_WAIT: Duration = Duration::from_secs(600);

/// What is known of the processes and of the objects they hold.
#[derive(Debug)]
pub struct Watch {
    /// [`ORPHAN_WAIT`], or what the configuration says.
    wait: Duration,
}

/// The objects of one namespace as a sample read them; `None` = that kind could not be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Objects<'a> {
    /// Semaphore arrays.
    pub sem: Option<&'a [SemArray]>,
    /// Shared memory segments.
    pub shm: Option<&'a [ShmSegment]>,
    /// Message queues.
    pub msg: Option<&'a [MsgQueue]>,
}

impl Watch {
    /// Knows nothing yet; `wait` is how long an array must look abandoned before that is certain.
    pub fn new(wait: Duration) -> Self {
        Self { wait }
    }

    /// Looks at all processes if that is due. To be called at home (in the agent's own namespaces), before the visits
    /// of a sample.
    pub fn scan_if_due(&mut self, _kernel: &mut dyn Kernel, _at: At) {
        let _ = self.wait;
    }

    /// Who holds the objects of that namespace, which the calling thread is in and has just read. `None` = processes
    /// could not be looked at.
    pub fn of(&mut self, _kernel: &mut dyn Kernel, _id: NamespaceId, _objects: Objects<'_>, _at: At) -> Option<Who> {
        None
    }

    /// Takes the makers of objects that the kernel's trace named, before the visits of the sample that follows.
    pub fn learn(&mut self, _activity: &Activity) {}

    /// That namespace is gone.
    pub fn forget(&mut self, _id: NamespaceId) {}
}

impl Default for Watch {
    fn default() -> Self {
        Self::new(ORPHAN_WAIT)
    }
}
