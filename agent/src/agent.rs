//! Joins the rooms: the sampling thread fills the spool, the transport empties it.
//!
//! Two threads: one samples and records (it will enter other IPC namespaces, which belong to a thread), the other runs
//! a current-thread runtime that connects and sends. They share the journal (recorder, spool, epoch) under one lock.

pub mod journal;
mod namespace;
pub mod outbox;
#[cfg(test)]
mod tests;
mod uplink;

use std::io;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use highwater_ipc::session::HostFacts;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use tracing::{error, info, warn};

use self::journal::Journal;
use self::uplink::Uplink;
use crate::clock::{self, HostClock, SystemClock};
use crate::config::Config;
use crate::kernel::identity::BootIdError;
use crate::kernel::real::RealKernel;
use crate::kernel::{Kernel, identity};
use crate::sampler::{self, Assembler, Pace, Sample, Sampler, SamplerHandle};
use crate::spool::disk::{Lock, PrivateDir};
use crate::spool::epoch::EpochError;
use crate::spool::{Limits, SpoolError};
use crate::trace::{self, Tracer, Wake, Watch};
use crate::transport::address::{Address, AddressError};
use crate::transport::enrolment::{Enrolment, EnrolmentError};

/// How long a stopping agent waits for a sample under way.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits for its last records to be acknowledged.
const ACK_PATIENCE: Duration = Duration::from_secs(1);

/// The directory of the spool in the state directory.
pub const SPOOL_DIR: &str = "spool";

type Clock = dyn HostClock;

/// What is sampled, and what begins to watch it between samples; `None` = nothing does.
type Sampled = (Box<dyn Kernel>, Watches);

/// Starts what tells of the time between samples.
type Watches = fn(Wake) -> Option<Box<dyn Watch>>;

/// A running agent. Dropping it stops it in order, without waiting.
#[derive(Debug)]
pub struct AgentHandle {
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<Result<(), AgentError>>,
    thread: JoinHandle<()>,
}

/// Starts an agent that samples this host. Enrolment, epoch and spool are checked before it returns; whether the
/// collector can be reached is not: records are kept until it can.
pub fn spawn(config: Config) -> Result<AgentHandle, StartError> {
    let (mut state, lock) = open_state(&config)?;
    let mut kernel = RealKernel::new();
    keep_namespace(&mut state, &mut kernel);
    let watch: Watches = match config.trace {
        true => |wake| Some(Box::new(Tracer::start(wake))),
        false => |_| Some(Box::new(trace::Off)),
    };
    start(config, (state, lock), (Box::new(kernel), watch), Arc::new(SystemClock))
}

/// [`spawn`], sampling another kernel by another clock, without tracing.
pub fn spawn_sampling(
    config: Config,
    kernel: Box<dyn Kernel>,
    clock: Arc<dyn HostClock>,
) -> Result<AgentHandle, StartError> {
    let state = open_state(&config)?;
    start(config, state, (kernel, sampler::blind), clock)
}

/// The state directory, this process's alone.
fn open_state(config: &Config) -> Result<(PrivateDir, Lock), StartError> {
    let state = PrivateDir::open(&config.state_dir).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => StartError::NotEnrolled { state_dir: config.state_dir.display().to_string() },
        _ => StartError::State(e),
    })?;
    let lock = state.lock().map_err(StartError::State)?;
    Ok((state, lock))
}

/// Lets the namespace keep the instance it had when an agent ran in it before.
fn keep_namespace(state: &mut PrivateDir, kernel: &mut RealKernel) {
    let (Ok(boot_id), Ok(id)) = (identity::boot_id(kernel), kernel.namespace()) else { return };
    if id.instance != kernel.stand_in() {
        return;
    }
    match namespace::instance(state, &boot_id, id) {
        Ok(instance) => kernel.set_stand_in(instance),
        Err(e) => warn!(error = %e, "which IPC namespace this is cannot be kept: its objects may show as new"),
    }
}

fn start(
    config: Config,
    (mut state, lock): (PrivateDir, Lock),
    (mut kernel, watch): Sampled,
    clock: Arc<dyn HostClock>,
) -> Result<AgentHandle, StartError> {
    let enrolment = Enrolment::load(&mut state).map_err(StartError::State)?;
    let not_enrolled = || StartError::NotEnrolled { state_dir: config.state_dir.display().to_string() };
    let enrolment = enrolment.ok_or_else(not_enrolled)?;
    enrolment.tls(&mut state)?;
    Address::parse(config.collector.as_deref().unwrap_or(&enrolment.collector))?;
    let facts = HostFacts { boot_id: identity::boot_id(&mut *kernel)?, ..identity::host_facts(&mut *kernel) };
    let limits = Limits { bytes: config.spool_bytes, fsync: config.fsync };
    let id = clock::random().map_err(|e| StartError::Random(e.to_string()))?;
    let spool = PrivateDir::create(&state.path().join(SPOOL_DIR)).map_err(StartError::State)?;
    let journal = Journal::open(Box::new(state), Box::new(spool), limits, enrolment.next_epoch_no, facts.boot_id, id)?;
    let shared = Arc::new(Shared::new(journal));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;

    let (stop, stopped) = oneshot::channel();
    let (tell, ended) = oneshot::channel();
    let (alive, sampler_gone) = oneshot::channel::<()>();
    let pace = Pace { interval_ms: config.interval.ms(), fastest_ms: config.fastest.ms() };
    let assembler = Assembler::new(kernel).in_namespaces(config.namespaces).with_orphan_wait(config.orphan_wait);
    let sampler = sample(&shared, (assembler, watch), Arc::clone(&clock), pace, alive)?;
    let parts = Parts { shared, clock, sampler, facts, config, lock, stopped, sampler_gone };
    let thread = std::thread::Builder::new()
        .name("highwater-agent".into())
        .spawn(move || {
            let _ = tell.send(run(runtime, parts));
        })
        .map_err(StartError::Thread)?;
    Ok(AgentHandle { stop: Some(stop), ended, thread })
}

impl AgentHandle {
    /// Ends the agent in order, within 5 s: its last record says that it was stopped, the spool is on the disk, and the
    /// collector had a second to acknowledge. Blocks: in async code call it in `spawn_blocking`.
    pub fn stop(mut self) -> Result<(), AgentError> {
        self.ask_to_stop();
        let joined = self.thread.join().is_ok();
        self.ended.try_recv().ok().filter(|_| joined).unwrap_or(Err(AgentError::Panicked))
    }

    /// Asks the agent to end; [`AgentHandle::ended`] tells when it has.
    pub fn ask_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits until the agent has ended, by itself or because it was asked to. Safe to cancel; to be awaited to its end
    /// once.
    pub async fn ended(&mut self) -> Result<(), AgentError> {
        (&mut self.ended).await.unwrap_or(Err(AgentError::Panicked))
    }
}

/// What the two threads share.
struct Shared {
    journal: Mutex<Journal>,
    /// There is something to send, or the agent stops.
    changed: Notify,
    /// The agent stops: whoever waits for the network need not.
    stop_asked: Notify,
    stopping: AtomicBool,
}

impl Shared {
    fn new(journal: Journal) -> Self {
        let stopping = AtomicBool::new(false);
        Self { journal: Mutex::new(journal), changed: Notify::new(), stop_asked: Notify::new(), stopping }
    }

    /// The journal; a thread that panicked while it held it left it as its last whole step had made it.
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stop_asked.notify_waiters();
        self.changed.notify_one();
    }
}

/// What the agent's thread works with.
struct Parts {
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    sampler: SamplerHandle,
    facts: HostFacts,
    config: Config,
    lock: Lock,
    stopped: oneshot::Receiver<()>,
    sampler_gone: oneshot::Receiver<()>,
}

/// Starts the sampling thread. `alive` is dropped when it ends.
fn sample(
    shared: &Arc<Shared>,
    (assembler, watch): (Assembler, Watches),
    clock: Arc<Clock>,
    pace: Pace,
    alive: oneshot::Sender<()>,
) -> Result<SamplerHandle, StartError> {
    let shared = Arc::clone(shared);
    let sink = move |sample: Sample| {
        let _alive = &alive;
        let wakes = shared.journal().take(sample);
        if wakes {
            shared.changed.notify_one();
        }
        ControlFlow::Continue(())
    };
    Sampler::spawn(assembler, clock, pace, watch, sink).map_err(StartError::Thread)
}

/// The agent's thread: sends until it is asked to stop, then ends in order.
fn run(runtime: Runtime, parts: Parts) -> Result<(), AgentError> {
    let Parts { shared, clock, sampler, facts, config, lock, stopped, sampler_gone } = parts;
    let setting = (config.collector.clone(), config.interval.ms());
    let result = runtime.block_on(async {
        let uplink = Uplink::new(Arc::clone(&shared), Arc::clone(&clock), &sampler, facts, setting);
        let mut uplink = pin!(uplink.run());
        let mut sampler_gone = pin!(sampler_gone);
        let result = tokio::select! {
            () = &mut uplink => Ok(()),
            // Asked to stop, or whoever could ask is gone.
            _ = stopped => Ok(()),
            _ = &mut sampler_gone => Err(AgentError::SamplerDied),
        };
        if result.is_ok() {
            sampler.ask_to_stop();
            let _ = tokio::time::timeout(SAMPLE_PATIENCE, sampler_gone).await;
            shared.journal().stop(clock.now());
        }
        shared.stop();
        let _ = tokio::time::timeout(ACK_PATIENCE, uplink).await;
        result
    });
    shared.journal().close(clock.now().boot_us);
    drop(lock);
    // A name that is being resolved is not waited for.
    runtime.shutdown_background();
    match &result {
        Ok(()) => info!("stopped"),
        Err(e) => error!("{e}"),
    }
    result
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be used.
    #[error("the state directory: {0}")]
    State(#[source] io::Error),
    /// There is no enrolment in it.
    #[error(
        "{state_dir} holds no enrolment: get a token with `highwater token create` and run `highwater-agent enrol \
         --collector URL --token-file FILE`"
    )]
    NotEnrolled {
        /// The state directory.
        state_dir: String,
    },
    /// The enrolment cannot be used.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// The collector's address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No epoch could begin.
    #[error(transparent)]
    Epoch(EpochError),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(SpoolError),
    /// It is not known which boot this is.
    #[error(
        "{0}: the collector would take the next start, in a boot it knows, for a copy of this host and quarantine it; \
         make the file readable (is /proc mounted?) and start the agent again"
    )]
    BootId(#[from] BootIdError),
    /// The kernel gives no random numbers.
    #[error("no random number for the epoch: {0}")]
    Random(String),
    /// A thread or runtime could not be made.
    #[error("starting the agent's threads: {0}")]
    Thread(#[source] io::Error),
}

/// Why an agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The sampling thread is gone.
    #[error("the sampling thread died; this is a bug, please report it with the log above")]
    SamplerDied,
    /// The agent's thread is gone.
    #[error("the agent's thread died; this is a bug, please report it with the log above")]
    Panicked,
}
