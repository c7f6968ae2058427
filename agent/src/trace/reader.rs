//! The thread that waits for events, and what it shares with the sampler.
//!
//! Both can read pages, under one lock: the thread at once when there are some, so that a caller is asked while it lives;
//! the sampler at the end of each sample, so that a sample has everything that came before its end. Pages of several
//! processors are put in order of time: what was recorded before a round of reading began has been read when it ends,
//! and what is later waits for the next round.

use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use highwater_ipc::snapshot::Unreadable;

use super::caller::{self, Callers};
use super::event::Event;
use super::page;
use super::pair::Pairing;
use super::tracefs::{self, Instance, Owner, TraceError};
use super::{Call, Calls, Watch, What};
use crate::sys::errno::Errno;
use crate::sys::{host, wait};

/// Called when a sample should be taken soon: a call was refused, or much was called.
pub type Wake = Box<dyn Fn() + Send + 'static>;

/// Pages of one processor that are read in one round: all that its buffer holds.
const PAGES: usize = tracefs::BUFFER_KB as usize / 4 + 2;
/// Rounds of one pass at most.
const ROUNDS: usize = 16;
/// Threads that are asked who they are in one pass at most.
const ASKS: u32 = 128;
/// A pass of more events than this is followed by a pause, so that a storm of calls costs no more than a twentieth of one
/// processor; the kernel counts what it drops meanwhile.
const MANY: usize = 256;
const REST: u32 = 20;
const LONGEST_REST: Duration = Duration::from_millis(500);
/// Reads and parses need little stack, and an untouched page costs nothing.
const STACK: usize = 256 << 10;

/// Tells what happens between samples; dropping it ends its thread and removes its instance.
#[derive(Debug)]
pub struct Tracer {
    shared: Option<Arc<Mutex<Core>>>,
    error: Option<TraceError>,
    thread: Option<JoinHandle<()>>,
    /// Closed to end the thread.
    stop: Option<PipeWriter>,
}

impl Tracer {
    /// Makes an instance and begins to record, on a thread of its own (the kernel takes a tenth of a second for it).
    /// Where that is not possible the tracer says so ([`Watch::unseen`]) and tells nothing.
    pub fn start(wake: Wake) -> Self {
        match Self::try_start(wake) {
            Ok(tracer) => tracer,
            Err(error) => {
                tracing::warn!(error = %error, "not tracing");
                Self { shared: None, error: Some(error), thread: None, stop: None }
            }
        }
    }

    fn try_start(wake: Wake) -> Result<Self, TraceError> {
        let root = tracefs::root()?;
        let me = Owner::me()?;
        let swept = tracefs::sweep(&root, &me);
        if swept > 0 {
            tracing::info!(swept, "removed trace instances of agents that were killed");
        }
        let instance = Instance::make(&root, &me)?;
        let failed = |e: &io::Error| TraceError::Failed { path: "a thread to read it".into(), errno: Errno::of(e) };
        let (stopped, stop) = io::pipe().map_err(|e| failed(&e))?;
        let shared = Arc::new(Mutex::new(Core::new(&instance, me.sees_all())));
        let thread = thread::Builder::new()
            .name("tracer".into())
            .stack_size(STACK)
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, instance, &stopped, &wake)
            })
            .map_err(|e| failed(&e))?;
        Ok(Self { shared: Some(shared), error: None, thread: Some(thread), stop: Some(stop) })
    }
}

impl Watch for Tracer {
    fn collect(&mut self) -> Calls {
        self.shared.as_ref().map(|shared| lock(shared).collect()).unwrap_or_default()
    }

    fn unseen(&mut self) -> Option<Unreadable> {
        let why = match (&self.error, &self.shared) {
            (Some(error), _) => error.to_string(),
            (None, Some(shared)) => lock(shared).trouble()?,
            (None, None) => return None,
        };
        Some(Unreadable { source: SOURCE.into(), line: 0, error: why.as_str().into() })
    }
}

/// What [`Watch::unseen`] names as the source.
pub const SOURCE: &str = "tracefs";

/// Tracing was turned off: says so, and tells nothing.
#[derive(Clone, Copy, Debug)]
pub struct Off;

impl Watch for Off {
    fn collect(&mut self) -> Calls {
        Calls::default()
    }

    fn unseen(&mut self) -> Option<Unreadable> {
        let why = "off by configuration (trace = \"off\"): refused calls and what is made and removed between two \
                   samples are not seen";
        Some(Unreadable { source: SOURCE.into(), line: 0, error: why.into() })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // The thread has ended, so this is the last owner: the instance goes with it.
        self.shared = None;
    }
}

fn lock(shared: &Mutex<Core>) -> MutexGuard<'_, Core> {
    // A thread that panicked left a core that reads on or has an error; neither needs repair.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread: records, then reads whenever there is something.
fn run(shared: &Mutex<Core>, mut instance: Instance, stopped: &io::PipeReader, wake: &Wake) {
    // Without the lock, for a sample need not wait for this.
    if let Err(error) = instance.prepare().and_then(|()| instance.record()) {
        tracing::warn!(error = %error, "not tracing");
        drop(instance);
        lock(shared).error = Some(error);
        return;
    }
    tracing::info!(instance = instance.name(), "tracing System V IPC calls");
    let files: Option<Vec<OwnedFd>> = instance.files().iter().map(|file| file.try_clone_to_owned().ok()).collect();
    lock(shared).instance = Some(instance);
    if let Some(files) = files {
        follow(shared, &files, stopped, wake);
        drop(files);
    }
    let mut core = lock(shared);
    if core.error.is_some() {
        core.instance = None;
    }
}

/// Reads until asked to stop, or until nothing more can be read.
fn follow(shared: &Mutex<Core>, files: &[OwnedFd], stopped: &io::PipeReader, wake: &Wake) {
    let mut waited: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    waited.push(stopped.as_fd());
    let stop = files.len();
    let mut ready = Vec::new();
    loop {
        if wait::poll(&waited, None, &mut ready).is_err() || ready.contains(&stop) {
            return;
        }
        let Pass { soon, rest } = lock(shared).pass();
        if soon {
            wake();
        }
        if lock(shared).error.is_some() {
            return;
        }
        if !rest.is_zero() {
            let _ = wait::poll(&[stopped.as_fd()], Some(rest), &mut ready);
            if !ready.is_empty() {
                return;
            }
        }
    }
}

/// What is shared: the instance, and what was read of it.
#[derive(Debug)]
struct Core {
    instance: Option<Instance>,
    error: Option<TraceError>,
    sees_all: bool,
    events: Events,
    page: Vec<u8>,
    /// Something was read since the kernel was asked what it dropped.
    read: bool,
}

/// What one pass came to.
#[derive(Default)]
struct Pass {
    /// A sample should be taken soon.
    soon: bool,
    /// How long to leave the kernel's buffers alone.
    rest: Duration,
}

impl Core {
    /// Until the thread has an instance that records, nothing is told.
    fn new(instance: &Instance, sees_all: bool) -> Self {
        let page = vec![0; instance.header().page];
        Self { instance: None, error: None, sees_all, events: Events::default(), page, read: false }
    }

    fn trouble(&self) -> Option<String> {
        let blind = "this agent is not in the initial pid namespace: who was refused, made or removed something is \
                     known by pid at most; run it in the host's pid namespace";
        let error = self.error.as_ref().map(ToString::to_string);
        // Turning the events on takes the kernel a tenth of a second, and a second where many agents ask for it at once.
        let begins = "recording has not begun yet: what is called until then is not seen";
        let beginning = self.instance.is_none().then(|| begins.to_owned());
        error.or(beginning).or_else(|| (!self.sees_all).then(|| blind.to_owned()))
    }

    /// Reads what there is.
    fn pass(&mut self) -> Pass {
        let begun = host::boottime();
        let Some(instance) = &mut self.instance else { return Pass::default() };
        let before = self.events.seen;
        self.events.callers.refill(ASKS);
        let mut result = Ok(());
        for _ in 0..ROUNDS {
            let round = nanoseconds(host::boottime());
            let processors = instance.files().len();
            for processor in 0..processors {
                for _ in 0..PAGES {
                    match instance.read_page(processor, &mut self.page) {
                        Ok(true) => self.events.read(instance, &self.page),
                        Ok(false) => break,
                        Err(errno) => {
                            result = Err(errno);
                            break;
                        }
                    }
                }
            }
            self.events.feed(round, instance, self.sees_all);
            if result.is_err() || self.events.held.is_empty() {
                break;
            }
        }
        self.read |= self.events.seen != before;
        if let Err(errno) = result {
            let path = instance.name();
            self.error = Some(TraceError::Failed { path, errno });
        }
        let many = self.events.seen.wrapping_sub(before) > MANY;
        let took = host::boottime().saturating_sub(begun);
        let rest = if many { took.saturating_mul(REST).min(LONGEST_REST) } else { Duration::ZERO };
        Pass { soon: std::mem::take(&mut self.events.soon), rest }
    }

    /// Everything until now.
    fn collect(&mut self) -> Calls {
        let idle = match &self.instance {
            Some(instance) => {
                let mut ready = Vec::new();
                let asked = wait::poll(&instance.files(), Some(Duration::ZERO), &mut ready);
                asked.is_ok() && ready.is_empty() && self.events.held.is_empty()
            }
            None => true,
        };
        let mut until = nanoseconds(host::boottime());
        if !idle {
            // Whoever waits is not told: the sample that follows is being taken.
            self.pass();
        }
        self.events.settle(until);
        // The sample shows already that the object is gone, and should be able to say who did it.
        let deadline = until.saturating_add(Pairing::SETTLED_NS);
        while self.events.pairing.removes() && until < deadline {
            let Some(instance) = &self.instance else { break };
            let left = Duration::from_nanos(deadline.saturating_sub(until));
            let _ = wait::poll(&instance.files(), Some(left), &mut Vec::new());
            until = nanoseconds(host::boottime());
            self.pass();
            self.events.settle(until);
        }
        if std::mem::take(&mut self.read)
            && let Some(instance) = &mut self.instance
        {
            // Pages tell it too, but only once a later event is read.
            let told = std::mem::take(&mut self.events.missed);
            let lost = instance.lost().unwrap_or(told);
            self.events.out.lost = self.events.out.lost.saturating_add(lost);
        }
        std::mem::take(&mut self.events.out)
    }
}

/// Events on their way to calls.
#[derive(Debug, Default)]
struct Events {
    held: Vec<Event>,
    pairing: Pairing,
    callers: Callers,
    out: Calls,
    seen: usize,
    missed: u64,
    soon: bool,
}

/// The most events that wait for the next round.
const MAX_HELD: usize = 65_536;

impl Events {
    fn read(&mut self, instance: &Instance, bytes: &[u8]) {
        let decoder = instance.decoder();
        let (held, seen) = (&mut self.held, &mut self.seen);
        let summary = page::read(instance.header(), bytes, &mut |at_ns, event| {
            *seen = seen.wrapping_add(1);
            if let Some(event) = decoder.decode(at_ns, event).filter(|_| held.len() < MAX_HELD) {
                held.push(event);
            }
        });
        let missed = if summary.missed { summary.missed_count.max(1) } else { 0 };
        self.missed = self.missed.saturating_add(missed).saturating_add(summary.broken.into());
    }

    /// Events up to that time are all here: they are calls, in order.
    fn feed(&mut self, until_ns: u64, instance: &Instance, sees_all: bool) {
        self.held.sort_by_key(|event| event.at_ns);
        let ready = self.held.partition_point(|event| event.at_ns <= until_ns);
        for event in self.held.drain(..ready) {
            let callers = &mut self.callers;
            let mut ask = |tid, at_ns| {
                let now = nanoseconds(host::boottime());
                let mut look = |tid| if sees_all { caller::look(tid) } else { None };
                callers.ask((tid, at_ns), now, &mut look, &mut |tid| instance.saved_comm(tid))
            };
            let (out, soon) = (&mut self.out, &mut self.soon);
            self.pairing.feed(&event, &mut ask, &mut |call| *soon |= keep(out, call));
        }
    }

    fn settle(&mut self, until_ns: u64) {
        let out = &mut self.out;
        self.pairing.settle(until_ns, &mut |call| {
            keep(out, call);
        });
    }
}

/// Keeps a call; returns whether a sample should be taken soon. EINVAL is mostly no refusal, and can wait for its turn.
fn keep(out: &mut Calls, call: Call) -> bool {
    let refused = matches!(call.what, What::Get { answer, .. } if answer < 0 && answer != -22);
    if out.calls.len() >= Calls::MAX {
        out.more = out.more.saturating_add(1);
        return false;
    }
    out.calls.push(call);
    refused || out.calls.len() == Calls::MAX / 2
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
