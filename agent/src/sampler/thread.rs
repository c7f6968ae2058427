//! The sampling thread: waits until a sample is due, takes it, hands it on.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::assemble::{Assembler, Sample};
use super::cadence::Cadence;
use crate::clock::HostClock;
use crate::kernel::Kernel;

/// Starts sampling threads.
#[derive(Debug)]
pub struct Sampler;

impl Sampler {
    /// Samples `kernel` at once and then every `interval_ms`, on a thread of its own, and hands each sample to `sink`
    /// on that thread, until [`SamplerHandle::stop`] or until the sink breaks. A sink that blocks delays the next
    /// sample (it is then taken late and the missed ticks are skipped). Fails if the thread cannot be made.
    pub fn spawn(
        kernel: Box<dyn Kernel>,
        clock: Arc<dyn HostClock>,
        interval_ms: u32,
        sink: impl FnMut(Sample) -> ControlFlow<()> + Send + 'static,
    ) -> io::Result<SamplerHandle> {
        let shared = Arc::new(Shared {
            wishes: Mutex::new(Wishes { stop: false, interval_ms, generation: 0 }),
            changed: Condvar::new(),
        });
        let thread = thread::Builder::new().name("sampler".into()).stack_size(STACK).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, Assembler::new(kernel), &*clock, sink)
        })?;
        Ok(SamplerHandle { shared, thread: Some(thread) })
    }
}

/// A running sampling thread. Dropping it asks the thread to end and does not wait.
#[derive(Debug)]
pub struct SamplerHandle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl SamplerHandle {
    /// Samples at this interval from now on, beginning with a sample at once. The same interval changes nothing.
    pub fn set_interval(&self, interval_ms: u32) {
        let mut wishes = self.shared.lock();
        if wishes.interval_ms != interval_ms {
            wishes.interval_ms = interval_ms;
            wishes.generation += 1;
            self.shared.changed.notify_all();
        }
    }

    /// Asks the thread to end and waits for a sample under way. Returns whether it ended well: `false` = it had
    /// panicked, and samples were missing since.
    pub fn stop(mut self) -> bool {
        self.shared.ask_to_stop();
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }

    /// Asks the thread to end and does not wait: the sink is dropped when it has.
    pub fn ask_to_stop(&self) {
        self.shared.ask_to_stop();
    }

    /// Whether the thread has ended: it was stopped, its sink broke, or it panicked.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for SamplerHandle {
    fn drop(&mut self) {
        self.shared.ask_to_stop();
    }
}

/// Reads and parses need little stack, and an untouched page costs nothing.
const STACK: usize = 512 << 10;

#[derive(Debug)]
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

#[derive(Debug)]
struct Wishes {
    stop: bool,
    interval_ms: u32,
    /// Counts changes of the interval.
    generation: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        // The wishes are whole after every statement, so a panic elsewhere leaves nothing to repair.
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_to_stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

fn run(
    shared: &Shared,
    mut assembler: Assembler,
    clock: &dyn HostClock,
    mut sink: impl FnMut(Sample) -> ControlFlow<()>,
) {
    let mut seen = 0;
    let mut cadence = Cadence::new(shared.lock().interval_ms, clock.now().boot_us);
    loop {
        let interval_ms = {
            let mut wishes = shared.lock();
            loop {
                if wishes.stop {
                    return;
                }
                let now = clock.now().boot_us;
                if wishes.generation != seen {
                    seen = wishes.generation;
                    cadence.set_interval(wishes.interval_ms, now);
                }
                let wait = cadence.wait(now);
                if wait.is_zero() {
                    cadence.taken(now);
                    break wishes.interval_ms;
                }
                wishes = shared.changed.wait_timeout(wishes, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        if sink(assembler.sample(clock, interval_ms)).is_break() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::clock::SystemClock;
    use crate::kernel::fake::FakeKernel;

    const HOUR_MS: u32 = 3_600_000;

    #[test]
    fn samples_at_once_and_again_when_the_interval_changes_and_stops() {
        let (taken, samples) = channel();
        let sink = move |sample: Sample| {
            let _ = taken.send(sample.snapshot.state.interval_ms);
            ControlFlow::Continue(())
        };
        let sampler = Sampler::spawn(Box::new(FakeKernel::new()), Arc::new(SystemClock), HOUR_MS, sink).unwrap();
        assert_eq!(samples.recv(), Ok(HOUR_MS));
        sampler.set_interval(HOUR_MS);
        sampler.set_interval(HOUR_MS - 1);
        assert_eq!(samples.recv(), Ok(HOUR_MS - 1));
        assert!(sampler.stop());
        assert!(samples.recv().is_err(), "nothing more was sampled");
    }

    #[test]
    fn a_sink_that_breaks_ends_the_thread() {
        let sink = |_| ControlFlow::Break(());
        let sampler = Sampler::spawn(Box::new(FakeKernel::new()), Arc::new(SystemClock), HOUR_MS, sink).unwrap();
        assert!(sampler.stop());
    }

    #[test]
    fn a_panic_of_the_thread_is_told() {
        let sink = |_| std::panic::resume_unwind(Box::new("a sink died"));
        let sampler = Sampler::spawn(Box::new(FakeKernel::new()), Arc::new(SystemClock), HOUR_MS, sink).unwrap();
        while !sampler.is_finished() {
            std::thread::yield_now();
        }
        assert!(!sampler.stop());
    }
}
