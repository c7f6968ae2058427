//! The sampling thread: waits until a sample is due, takes it, hands it on.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use highwater_ipc::snapshot::{Snapshot, State};

use super::adaptive::Adaptive;
use super::assemble::{Assembler, Sample};
use super::cadence::Cadence;
use crate::clock::HostClock;
use crate::trace::{Ledger, Wake, Watch};

/// Starts sampling threads.
#[derive(Debug)]
pub struct Sampler;

impl Sampler {
    /// Takes a sample at once and then at that pace, on a thread of its own, and hands each sample to `sink` on that
    /// thread, until [`SamplerHandle::stop`] or until the sink breaks. A sink that blocks delays the next sample (it is
    /// then taken late and the missed ticks are skipped). `watch` tells of the calls between samples; it is made on the
    /// thread, given what asks for a sample soon, and dropped there. Fails if the thread cannot be made.
    pub fn spawn(
        assembler: Assembler,
        clock: Arc<dyn HostClock>,
        pace: Pace,
        watch: impl FnOnce(Wake) -> Option<Box<dyn Watch>> + Send + 'static,
        sink: impl FnMut(Sample) -> ControlFlow<()> + Send + 'static,
    ) -> io::Result<SamplerHandle> {
        let shared = Arc::new(Shared {
            wishes: Mutex::new(Wishes { stop: false, hurry: false, interval_ms: pace.interval_ms, generation: 0 }),
            changed: Condvar::new(),
        });
        let thread = thread::Builder::new().name("sampler".into()).stack_size(STACK).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let wake = Box::new({
                    let shared = Arc::clone(&shared);
                    move || shared.hurry()
                });
                let between = Between { watch: watch(wake), ledger: Ledger::default() };
                run(&shared, (assembler, between), &*clock, pace.fastest_ms, sink);
            }
        })?;
        Ok(SamplerHandle { shared, thread: Some(thread) })
    }
}

/// How often to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time between two samples while all is calm, milliseconds.
    pub interval_ms: u32,
    /// The shortest time between two, where use nears a limit; no effect above `interval_ms`.
    pub fastest_ms: u32,
}

/// Nothing tells of what happens between samples.
pub fn blind(_: Wake) -> Option<Box<dyn Watch>> {
    None
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
    /// Something happened of which a sample should tell soon.
    hurry: bool,
    interval_ms: u32,
    /// Counts changes of the interval.
    generation: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        // The wishes are whole after every statement, so a panic elsewhere leaves nothing to repair.
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hurry(&self) {
        self.lock().hurry = true;
        self.changed.notify_all();
    }

    fn ask_to_stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

/// What tells of the time between samples.
struct Between {
    watch: Option<Box<dyn Watch>>,
    ledger: Ledger,
}

impl Between {
    /// Puts what happened since the sample before beside what this one read.
    fn add(&mut self, sample: &mut Sample) {
        let Some(watch) = &mut self.watch else { return };
        let Snapshot { at, state, .. } = &mut sample.snapshot;
        sample.activity = self.ledger.close(state, at, watch.collect());
        if state.unseen.len() < State::MAX_UNSEEN {
            state.unseen.extend(watch.unseen());
        }
    }
}

fn run(
    shared: &Shared,
    (mut assembler, mut between): (Assembler, Between),
    clock: &dyn HostClock,
    fastest_ms: u32,
    mut sink: impl FnMut(Sample) -> ControlFlow<()>,
) {
    let mut seen = 0;
    let mut adaptive = Adaptive::new(fastest_ms);
    let mut took_us = 0;
    let mut cadence = Cadence::new(shared.lock().interval_ms, clock.now().boot_us);
    loop {
        let base_ms = {
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
                if std::mem::take(&mut wishes.hurry) {
                    cadence.hurry(adaptive.floor(wishes.interval_ms, took_us), now);
                }
                let wait = cadence.wait(now);
                if wait.is_zero() {
                    cadence.taken(now);
                    break wishes.interval_ms;
                }
                wishes = shared.changed.wait_timeout(wishes, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        let mut sample = assembler.sample(clock, base_ms);
        between.add(&mut sample);
        assembler.learn(&sample.activity, sample.snapshot.at);
        let Snapshot { at, state, took_us: took } = &mut sample.snapshot;
        took_us = *took;
        // The sample says when the next one is planned, so whoever reads it knows when to miss it.
        state.interval_ms = adaptive.after(state, &sample.activity, (at.boot_us, took_us), base_ms);
        cadence.pace(state.interval_ms, at.boot_us);
        if sink(sample).is_break() {
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
    fn fake() -> Assembler {
        Assembler::new(Box::new(FakeKernel::new()))
    }

    const HOURLY: Pace = Pace { interval_ms: HOUR_MS, fastest_ms: 1000 };

    #[test]
    fn samples_at_once_and_again_when_the_interval_changes_and_stops() {
        let (taken, samples) = channel();
        let sink = move |sample: Sample| {
            let _ = taken.send(sample.snapshot.state.interval_ms);
            ControlFlow::Continue(())
        };
        let sampler = Sampler::spawn(fake(), Arc::new(SystemClock), HOURLY, blind, sink).unwrap();
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
        let sampler = Sampler::spawn(fake(), Arc::new(SystemClock), HOURLY, blind, sink).unwrap();
        assert!(sampler.stop());
    }

    #[test]
    fn a_panic_of_the_thread_is_told() {
        let sink = |_| std::panic::resume_unwind(Box::new("a sink died"));
        let sampler = Sampler::spawn(fake(), Arc::new(SystemClock), HOURLY, blind, sink).unwrap();
        while !sampler.is_finished() {
            std::thread::yield_now();
        }
        assert!(!sampler.stop());
    }
}
