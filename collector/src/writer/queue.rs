//! The way in: bounded queues, a worker behind each.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_ipc::record::EpochNo;
use highwater_ipc::session::Now;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::arrival::Arrival;
use super::link::Link;
use super::open::{OpenError, OpenRequest, Opened};
use super::partitions::Partitions;
use super::worker::{Command, Worker};
use crate::clock::WallClock;
use crate::host::{HostId, Quarantine};
use crate::store::host_status::TurnedAway;
use crate::store::stream::Session;
use crate::store::{Db, StoreError};

const KIB: usize = 1024;

/// How the writer works. The defaults serve one host as well as ten thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Workers, each with a connection of its own, 1 to 64. Default 4.
    pub workers: usize,
    /// Commands that wait for one worker, at least 1; a full queue makes streams wait, and so their agents. Default
    /// 4,096.
    pub queue_length: usize,
    /// Bytes of records queued or being committed by all workers, at least twice the largest record (16 MiB); beyond
    /// it streams wait. Default 64 MiB.
    pub queue_bytes: usize,
    /// Records in one commit. Default 1,000.
    pub records_per_commit: usize,
    /// Bytes of records in one commit, but at least one record. Default 8 MiB.
    pub bytes_per_commit: usize,
    /// How long the first record of a commit waits for others, milliseconds. Default 3.
    pub linger_ms: u64,
    /// How long a shutdown waits for the database to take what is queued, milliseconds. Default 5,000.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 4,
            queue_length: 4096,
            queue_bytes: 64 << 20,
            records_per_commit: 1000,
            bytes_per_commit: 8 << 20,
            linger_ms: 3,
            drain_ms: 5000,
        }
    }
}

/// A record on its way to a commit.
#[derive(Debug)]
pub struct Item {
    /// Whose.
    pub host: HostId,
    /// The session it came in.
    pub session: Session,
    /// Its epoch.
    pub epoch: EpochNo,
    /// The record.
    pub arrival: Arrival,
    /// Its share of the queues' memory, given back when it is dropped.
    pub _share: Option<OwnedSemaphorePermit>,
}

/// The workers. Dropping it leaves them running; [`Writer::shutdown`] ends them.
pub struct Writer {
    handle: Handle,
    tasks: Vec<JoinHandle<()>>,
    drain: CancellationToken,
    give_up: CancellationToken,
    drain_ms: u64,
}

/// The writer is stopping: nothing more is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collector is stopping; connect again")]
pub struct Stopped;

/// A way in, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    clock: Arc<dyn WallClock>,
    queues: Arc<[mpsc::Sender<Command>]>,
    /// In KiB.
    room: Arc<Semaphore>,
    most_kib: u32,
}

impl Writer {
    /// Checks that the server keeps what it commits, makes the coming days' partitions and starts the workers.
    pub async fn start(db: Db, clock: Arc<dyn WallClock>, config: Config) -> Result<Self, StoreError> {
        db.require_durability().await?;
        let mut link = Link::new(db.clone());
        let partitions = Arc::new(Partitions::prepare(&mut link, clock.now_ms()).await?);
        let started = tokio::time::Instant::now();
        let (drain, give_up) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = Vec::new();
        let mut queues = Vec::new();
        for _ in 0..config.workers.clamp(1, 64) {
            let (way_in, queue) = mpsc::channel(config.queue_length.max(1));
            let worker = Worker {
                link: Link::new(db.clone()),
                hosts: Default::default(),
                watches: Default::default(),
                clock: Arc::clone(&clock),
                started,
                partitions: Arc::clone(&partitions),
                give_up: give_up.clone(),
                config,
            };
            queues.push(way_in);
            tasks.push(tokio::spawn(worker.run(queue, drain.clone())));
        }
        let (stop, own_clock) = (drain.clone(), Arc::clone(&clock));
        tasks.push(tokio::spawn(async move { partitions.look_after(link, &*own_clock, &stop).await }));
        let most_kib = u32::try_from(config.queue_bytes / KIB).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        let handle = Handle {
            clock,
            queues: queues.into(),
            room: Arc::new(Semaphore::new(usize::try_from(most_kib).unwrap_or(KIB))),
            most_kib,
        };
        Ok(Self { handle, tasks, drain, give_up, drain_ms: config.drain_ms })
    }

    /// A way in.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Takes nothing more, commits what is queued, and ends every session. What the database has not taken within
    /// `drain_ms` stays with the agents, unacked.
    pub async fn shutdown(self) {
        self.drain.cancel();
        let give_up = self.give_up.clone();
        let grace = Duration::from_millis(self.drain_ms);
        let impatient = tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            give_up.cancel();
        });
        for task in self.tasks {
            if let Err(ended) = task.await {
                warn!(%ended, "a writer's worker ended by a fault");
            }
        }
        impatient.abort();
    }
}

impl Handle {
    /// Begins a session for a host and fences its older ones. If the caller goes away, the session is closed again.
    pub async fn open(&self, request: OpenRequest) -> Result<Opened, OpenError> {
        let (reply, answer) = oneshot::channel();
        let host = request.host;
        let mut opening = Opening { handle: self.clone(), host, answer };
        self.send(host, Command::Open(request, reply)).await.map_err(|Stopped| OpenError::Stopping)?;
        (&mut opening.answer).await.unwrap_or(Err(OpenError::Stopping))
    }

    /// The clock by which sessions are opened, milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Queues a record; waits while the queue is full. Its ack comes by the session's outbox.
    pub async fn record(
        &self,
        host: HostId,
        session: Session,
        epoch: EpochNo,
        arrival: Arrival,
    ) -> Result<(), Stopped> {
        let kib = u32::try_from(arrival.weight().div_ceil(KIB)).unwrap_or(u32::MAX).min(self.most_kib);
        let share = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| Stopped)?;
        let item = Item { host, session, epoch, arrival, _share: Some(share) };
        self.send(host, Command::Record(item)).await
    }

    /// Queues the present of a host that is behind.
    pub async fn now(&self, host: HostId, session: Session, now: Now) -> Result<(), Stopped> {
        self.send(host, Command::Now(host, session, Box::new(now))).await
    }

    /// Says that a session's stream has ended; what it queued before is still committed.
    pub async fn close(&self, host: HostId, session: Session) -> Result<(), Stopped> {
        self.send(host, Command::Close(host, session)).await
    }

    /// Notes that a newcomer with this host's certificate was quarantined.
    pub async fn turned_away(&self, host: HostId, why: Quarantine, peer: IpAddr) -> Result<(), Stopped> {
        self.send(host, Command::TurnedAway(TurnedAway { host, at_ms: self.now_ms(), why, peer })).await
    }

    /// A host always has the same worker.
    async fn send(&self, host: HostId, command: Command) -> Result<(), Stopped> {
        let mut hasher = DefaultHasher::new();
        host.hash(&mut hasher);
        let count = self.queues.len() as u64;
        let worker = usize::try_from(hasher.finish() % count.max(1)).unwrap_or(0);
        let Some(queue) = self.queues.get(worker) else { return Err(Stopped) };
        queue.send(command).await.map_err(|_| Stopped)
    }
}

/// A caller that waits for a session. Where it goes away in the very moment in which the answer comes, the worker
/// believes that it has it: so it is looked for once more, and the session closed.
struct Opening {
    handle: Handle,
    host: HostId,
    answer: oneshot::Receiver<Result<Opened, OpenError>>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.answer.close();
        let (Ok(Ok(opened)), Ok(runtime)) = (self.answer.try_recv(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (handle, host) = (self.handle.clone(), self.host);
        // The writer may be stopping: then it ends the session itself.
        runtime.spawn(async move { handle.close(host, opened.session).await });
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Poll, Waker};

    use highwater_ipc::session::{Hello, HostFacts};
    use highwater_ipc::time::At;

    use super::super::ack::Outbox;
    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn a_session_opened_for_somebody_who_just_left_is_closed() {
        let (way_in, mut queue) = mpsc::channel(2);
        let handle = Handle {
            clock: Arc::new(SystemClock),
            queues: vec![way_in].into(),
            room: Arc::new(Semaphore::new(1)),
            most_kib: 1,
        };
        let hello = Hello { facts: HostFacts::default(), now: At::default(), epochs: Vec::new() };
        let request =
            OpenRequest { host: HostId(7), enrolled_ms: 0, hello, read_ms: 0, outbox: Arc::new(Outbox::default()) };
        let mut opening = Box::pin(handle.open(request));
        assert!(matches!(opening.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        let Some(Command::Open(_, reply)) = queue.recv().await else { panic!("no open") };
        reply.send(Ok(Opened { session: Session(3), server_wall_ms: 0, epochs: Vec::new() })).unwrap();
        drop(opening);
        let closed = queue.recv().await;
        assert!(matches!(closed, Some(Command::Close(HostId(7), Session(3)))), "{closed:?}");
    }
}
