//! Puts the kernel's answers together: one sample of the host's own IPC namespace.

use highwater_ipc::snapshot::Snapshot;

use crate::clock::HostClock;
use crate::kernel::Kernel;

/// One sample, and what tells sleep from delay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What was read.
    pub snapshot: Snapshot,
    /// [`HostClock::awake_us`] when the sample began.
    pub awake_us: u64,
}

/// Takes samples; keeps buffers and what changes seldom between them.
pub struct Assembler {
    kernel: Box<dyn Kernel>,
}

impl Assembler {
    /// Samples that kernel.
    pub fn new(kernel: Box<dyn Kernel>) -> Self {
        Self { kernel }
    }

    /// Reads everything once.
    pub fn sample(&mut self, clock: &dyn HostClock, interval_ms: u32) -> Sample {
        todo!()
    }
}
