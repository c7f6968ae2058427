//! Starts and ends the workers, and the way in to them: room for each record, then its host's worker.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_ipc::record::EpochNo;
use highwater_ipc::session::Now;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::arrival::Arrival;
use super::batch::Aside;
use super::command::{Command, Item, OpenError, OpenRequest, Opened};
use super::config::Config;
use super::open::Door;
use super::partitions::Partitions;
use super::queue::{Consumer, Queue};
use super::room::{Room, Rooms, Stopped};
use super::worker::Worker;
use crate::clock::WallClock;
use crate::health::Health;
use crate::host::{HostId, Quarantine};
use crate::store::host_status::TurnedAway;
use crate::store::link::Link;
use crate::store::stream::Session;
use crate::store::{Db, StoreError};

/// The workers. Dropping it leaves them running; [`Writer::shutdown`] ends them.
pub struct Writer {
    handle: Handle,
    health: Arc<Health>,
    tasks: Vec<JoinHandle<()>>,
    drain: CancellationToken,
    give_up: CancellationToken,
    drain_ms: u64,
}

/// A way in, cheap to clone.
#[derive(Clone)]
pub struct Handle {
    clock: Arc<dyn WallClock>,
    queues: Arc<[Arc<Queue>]>,
    rooms: Arc<Rooms>,
}

impl Writer {
    /// Checks that the server keeps what it commits, makes the coming days' partitions and starts the workers.
    pub async fn start(db: Db, clock: Arc<dyn WallClock>, config: Config) -> Result<Self, StoreError> {
        db.require_durability().await?;
        let mut link = Link::new(db.clone());
        let partitions = Arc::new(Partitions::prepare(&mut link, clock.now_ms()).await?);
        let started = tokio::time::Instant::now();
        let health = Arc::new(Health::default());
        let (drain, give_up) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = Vec::new();
        let mut queues = Vec::new();
        for number in 0..config.workers.clamp(1, 64) {
            let queue = Arc::new(Queue::default());
            queues.push(Arc::clone(&queue));
            let worker = Worker {
                number,
                queue: Consumer(queue),
                link: Link::new(db.clone()),
                door: Door::new(db.clone()),
                aside: Aside::default(),
                hosts: Default::default(),
                watches: Default::default(),
                unsaid: Default::default(),
                clock: Arc::clone(&clock),
                started,
                partitions: Arc::clone(&partitions),
                health: Arc::clone(&health),
                give_up: give_up.clone(),
                config,
            };
            tasks.push(tokio::spawn(worker.run()));
        }
        let (stop, own_clock) = (drain.clone(), Arc::clone(&clock));
        tasks.push(tokio::spawn(async move { partitions.look_after(link, &*own_clock, &stop).await }));
        let handle = Handle { clock, queues: queues.into(), rooms: Arc::new(Rooms::new(&config)) };
        Ok(Self { handle, health, tasks, drain, give_up, drain_ms: config.drain_ms })
    }

    /// A way in.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Where it says what it fails at; the collector's other parts say it there too.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Takes nothing more, commits what is queued, and ends every session. What the database has not taken within
    /// `drain_ms` stays with the agents, unacked.
    pub async fn shutdown(self) {
        self.drain.cancel();
        self.handle.rooms.close();
        self.handle.queues.iter().for_each(|queue| queue.close());
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
        self.send(Command::Open(request, reply)).map_err(|Stopped| OpenError::Stopping)?;
        (&mut opening.answer).await.unwrap_or(Err(OpenError::Stopping))
    }

    /// The clock by which sessions are opened, milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Waits for the room of a record of this host: behind that host's own records, then until there is enough for one
    /// of its size.
    pub async fn room(&self, host: HostId, bytes: usize) -> Result<Room, Stopped> {
        self.rooms.take(host, bytes).await
    }

    /// Queues a record; waits for its room. Its ack comes by the session's outbox.
    pub async fn record(
        &self,
        host: HostId,
        session: Session,
        epoch: EpochNo,
        arrival: Arrival,
    ) -> Result<(), Stopped> {
        let room = self.room(host, arrival.weight()).await?;
        self.record_in(room, host, session, epoch, arrival)
    }

    /// Queues a record that has its room already.
    pub fn record_in(
        &self,
        room: Room,
        host: HostId,
        session: Session,
        epoch: EpochNo,
        arrival: Arrival,
    ) -> Result<(), Stopped> {
        self.send(Command::Record(Item { host, session, epoch, arrival, _share: Some(room) }))
    }

    /// Notes the present of a host that is behind; it takes the place of an older one that still waits.
    pub async fn now(&self, host: HostId, session: Session, now: Now) -> Result<(), Stopped> {
        self.send(Command::Now(host, session, Box::new(now)))
    }

    /// Says that a session's stream has ended; what it queued before is still committed.
    pub async fn close(&self, host: HostId, session: Session) -> Result<(), Stopped> {
        self.send(Command::Close(host, session))
    }

    /// Notes that a newcomer with this host's certificate was quarantined.
    pub async fn turned_away(&self, host: HostId, why: Quarantine, peer: IpAddr) -> Result<(), Stopped> {
        self.send(Command::TurnedAway(TurnedAway { host, at_ms: self.now_ms(), why, peer }))
    }

    /// A host always has the same worker.
    fn send(&self, command: Command) -> Result<(), Stopped> {
        let mut hasher = DefaultHasher::new();
        command.host().hash(&mut hasher);
        let count = self.queues.len() as u64;
        let worker = usize::try_from(hasher.finish() % count.max(1)).unwrap_or(0);
        self.queues.get(worker).ok_or(Stopped)?.push(command)
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
        let Ok(Ok(opened)) = self.answer.try_recv() else { return };
        // The writer may be stopping: then it ends the session itself.
        let _ = self.handle.send(Command::Close(self.host, opened.session));
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
        let queue = Arc::new(Queue::default());
        let config = Config { linger_ms: 0, ..Config::default() };
        let handle = Handle {
            clock: Arc::new(SystemClock),
            queues: vec![Arc::clone(&queue)].into(),
            rooms: Arc::new(Rooms::new(&config)),
        };
        let hello = Hello { facts: HostFacts::default(), now: At::default(), epochs: Vec::new() };
        let request =
            OpenRequest { host: HostId(7), enrolled_ms: 0, hello, read_ms: 0, outbox: Arc::new(Outbox::default()) };
        let mut opening = Box::pin(handle.open(request));
        assert!(matches!(opening.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        let taken = queue.next(&config).await.unwrap().control.pop();
        let Some(Command::Open(_, reply)) = taken else { panic!("{taken:?}") };
        reply.send(Ok(Opened { session: Session(3), server_wall_ms: 0, epochs: Vec::new() })).unwrap();
        drop(opening);
        queue.release([HostId(7)]);
        let closed = queue.next(&config).await.unwrap().control.pop();
        assert!(matches!(closed, Some(Command::Close(HostId(7), Session(3)))), "{closed:?}");
    }
}
