//! One worker: gathers what is queued for its hosts, commits it as a group, and opens and closes sessions in between.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_ipc::session::Now;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ack::{Ended, Outbox};
use super::arrival::Says;
use super::batch;
use super::link::Link;
use super::open::{OpenError, OpenRequest, Opened};
use super::partitions::Partitions;
use super::plan;
use super::queue::{Config, Item};
use super::state::{HostState, Moment};
use super::watch::Watches;
use crate::clock::WallClock;
use crate::host::HostId;
use crate::store::StoreError;
use crate::store::host_status::{self, Status, TurnedAway, Usage};
use crate::store::stream::Session;
use crate::store::tx::Dedicated;

/// The present and ends of sessions are tried this often, then left: both are said again, or show in `last_seen_ms`.
const MOST_TRIES: u32 = 3;

/// What a worker is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Store a record.
    Record(Item),
    /// Begin a session.
    Open(OpenRequest, oneshot::Sender<Result<Opened, OpenError>>),
    /// Note the present of a host that is behind.
    Now(HostId, Session, Box<Now>),
    /// A session's stream has ended.
    Close(HostId, Session),
    /// A newcomer was quarantined.
    TurnedAway(TurnedAway),
}

impl Command {
    fn host(&self) -> HostId {
        match self {
            Command::Record(item) => item.host,
            Command::Open(request, _) => request.host,
            Command::Now(host, ..) | Command::Close(host, _) => *host,
            Command::TurnedAway(newcomer) => newcomer.host,
        }
    }
}

/// A host with a session here.
pub(super) struct Entry {
    pub(super) state: HostState,
    pub(super) outbox: Arc<Outbox>,
}

/// Hosts, and the connection they are written over.
pub(super) struct Worker {
    pub(super) link: Link,
    pub(super) hosts: HashMap<HostId, Entry>,
    /// Hosts that other collectors may hold.
    pub(super) watches: Watches,
    pub(super) clock: Arc<dyn WallClock>,
    /// Where its steady clock begins.
    pub(super) started: tokio::time::Instant,
    pub(super) partitions: Arc<Partitions>,
    /// Cancelled when the grace of a shutdown is over: what cannot be stored by then stays with the agents.
    pub(super) give_up: CancellationToken,
    pub(super) config: Config,
}

impl Worker {
    /// Works until the queue is closed and empty.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>, drain: CancellationToken) {
        let mut carried = None;
        loop {
            let first = match carried.take() {
                Some(command) => Some(command),
                None => next(&mut queue, &drain).await,
            };
            let Some(first) = first else { break };
            let mut gathered = Gathered::default();
            carried = gathered.push(first).err();
            let deadline = tokio::time::Instant::now() + Duration::from_millis(self.config.linger_ms);
            while carried.is_none() && gathered.fits(&self.config) {
                match tokio::time::timeout_at(deadline, next(&mut queue, &drain)).await {
                    Ok(Some(command)) => carried = gathered.push(command).err(),
                    Ok(None) | Err(_) => break,
                }
            }
            self.work(gathered).await;
        }
        self.end_all();
        self.link.close().await;
    }

    async fn work(&mut self, gathered: Gathered) {
        self.control(gathered.before).await;
        // Plain PostgreSQL is one bucket; on Citus this is the host's shard.
        for group in batch::groups(gathered.items, |_| 0) {
            self.commit(group).await;
        }
        self.control(gathered.after).await;
    }

    async fn control(&mut self, commands: Vec<Command>) {
        let mut light = Light::default();
        for command in commands {
            match command {
                Command::Open(request, reply) => {
                    if light.hosts.contains(&request.host) {
                        self.write_light(std::mem::take(&mut light)).await;
                    }
                    let (host, opened) = (request.host, self.open(request).await);
                    let session = opened.as_ref().ok().map(|o| o.session);
                    if let (Err(_), Some(session)) = (reply.send(opened), session) {
                        // Whoever asked is gone: nobody else will close it.
                        light.close(host, session);
                    }
                }
                Command::Now(host, session, now) => {
                    let seen = self.moment();
                    if let Some(entry) = self.entry(host, session) {
                        let usage = note(&mut entry.state, &now, seen);
                        light.hosts.insert(host);
                        light.status.retain(|s: &Status| s.host != host);
                        light.status.extend(entry.state.status(host, seen.wall_ms, usage));
                    }
                }
                Command::Close(host, session) => light.close(host, session),
                Command::TurnedAway(newcomer) => {
                    light.hosts.insert(newcomer.host);
                    light.turned_away.retain(|other| other.host != newcomer.host);
                    light.turned_away.push(newcomer);
                }
                Command::Record(_) => {}
            }
        }
        self.write_light(light).await;
    }

    async fn write_light(&mut self, mut light: Light) {
        for (host, session) in &light.closed {
            if self.entry(*host, *session).is_some() {
                self.hosts.remove(host);
            }
        }
        if light.hosts.is_empty() {
            return;
        }
        light.at_ms = self.clock.now_ms();
        light.status.sort_by_key(|s| s.host);
        light.closed.sort();
        light.turned_away.sort_by_key(|newcomer| newcomer.host);
        let light = Arc::new(light);
        for _ in 0..MOST_TRIES {
            let light = Arc::clone(&light);
            match self.link.run(move |connection| Box::pin(light_transaction(connection, light))).await {
                Ok(()) => return,
                Err(error) => warn!(%error, "noting the present of hosts"),
            }
        }
    }

    /// The collector's clocks now.
    pub(super) fn moment(&self) -> Moment {
        let steady_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Moment { wall_ms: self.clock.now_ms(), steady_ms }
    }

    /// The entry of a host, if this session still holds it.
    pub(super) fn entry(&mut self, host: HostId, session: Session) -> Option<&mut Entry> {
        self.hosts.get_mut(&host).filter(|entry| entry.state.session == session)
    }

    /// Ends the session of a host.
    pub(super) fn end(&mut self, host: HostId, why: Ended) {
        if let Some(entry) = self.hosts.remove(&host) {
            entry.outbox.end(why);
        }
    }

    /// Ends every session: the collector stops.
    pub(super) fn end_all(&mut self) {
        for (_, entry) in self.hosts.drain() {
            entry.outbox.end(Ended::Stopping);
        }
    }
}

/// The next command; `None` once the queue is closed, by `drain` or by everybody who could send, and empty.
async fn next(queue: &mut mpsc::Receiver<Command>, drain: &CancellationToken) -> Option<Command> {
    tokio::select! {
        command = queue.recv() => return command,
        () = drain.cancelled(), if !queue.is_closed() => queue.close(),
    }
    queue.recv().await
}

/// Takes in what a `now` says.
fn note(state: &mut HostState, now: &Now, seen: Moment) -> Usage {
    let mut usage = Usage::default();
    let mut present = state.present.unwrap_or_default();
    let says = Says::state(&now.state);
    present.sampled_wall_ms = now.at.wall_ms;
    present.interval_ms = says.interval_ms.unwrap_or(present.interval_ms);
    present.backlog_from_ms = Some(now.backlog_from_ms);
    plan::see(&mut present, &mut usage, &says);
    state.present = Some(present);
    state.see_clock(now.state.boot_id, &now.at, seen);
    state.ahead = Some(now.at);
    usage
}

/// What is no history: the present, ends of sessions, newcomers turned away; one transaction for many hosts.
#[derive(Default)]
struct Light {
    hosts: HashSet<HostId>,
    status: Vec<Status>,
    closed: Vec<(HostId, Session)>,
    turned_away: Vec<TurnedAway>,
    at_ms: i64,
}

impl Light {
    fn close(&mut self, host: HostId, session: Session) {
        self.hosts.insert(host);
        self.closed.push((host, session));
    }
}

async fn light_transaction(connection: &mut Dedicated, light: Arc<Light>) -> Result<(), StoreError> {
    let mut tx = connection.write().await?;
    let asked: Vec<_> = light.status.iter().map(|s| (s.host, s.session)).collect();
    if !asked.is_empty() {
        let own = host_status::owned(&mut tx, &asked).await?;
        let mine: Vec<_> = light.status.iter().filter(|s| own.contains(&s.host)).cloned().collect();
        host_status::upsert(&mut tx, &mine).await?;
    }
    if !light.closed.is_empty() {
        host_status::disconnect(&mut tx, &light.closed, light.at_ms).await?;
    }
    if !light.turned_away.is_empty() {
        host_status::turn_away(&mut tx, &light.turned_away).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// What one round does: commands of a host keep their order, records of many hosts share commits.
#[derive(Default)]
struct Gathered {
    before: Vec<Command>,
    items: Vec<Item>,
    after: Vec<Command>,
    with_items: HashSet<HostId>,
    with_after: HashSet<HostId>,
    bytes: usize,
}

impl Gathered {
    /// Takes a command, or gives it back for the next round: a record behind a command that comes after records.
    #[allow(clippy::result_large_err, reason = "a command is moved, not an error made")]
    fn push(&mut self, command: Command) -> Result<(), Command> {
        let host = command.host();
        match command {
            Command::Record(_) if self.with_after.contains(&host) => return Err(command),
            Command::Record(item) => {
                self.with_items.insert(host);
                self.bytes = self.bytes.saturating_add(item.arrival.weight());
                self.items.push(item);
            }
            other if self.with_items.contains(&host) => {
                self.with_after.insert(host);
                self.after.push(other);
            }
            other => self.before.push(other),
        }
        Ok(())
    }

    fn fits(&self, config: &Config) -> bool {
        let commands = self.before.len() + self.items.len() + self.after.len();
        commands < config.records_per_commit && self.bytes < config.bytes_per_commit
    }
}

#[cfg(test)]
mod tests {
    use highwater_ipc::record::{Chain, EpochNo, RecordKind, Seq};
    use highwater_ipc::time::At;

    use super::super::arrival::Arrival;
    use super::*;

    fn record(host: i64, seq: u64) -> Command {
        let arrival = Arrival {
            kind: RecordKind::Heartbeat,
            first: Seq(seq),
            seq: Seq(seq),
            next_chain: Chain::default(),
            at: At::default(),
            says: Says::default(),
            body: Arc::from([]),
        };
        Command::Record(Item { host: HostId(host), session: Session(1), epoch: EpochNo(1), arrival, _share: None })
    }

    #[test]
    fn commands_of_a_host_keep_their_place_among_its_records() {
        let mut gathered = Gathered::default();
        for command in [Command::Close(HostId(1), Session(1)), record(1, 0), record(2, 0)] {
            assert!(gathered.push(command).is_ok());
        }
        assert!(gathered.push(Command::Close(HostId(1), Session(2))).is_ok());
        assert!(gathered.push(record(2, 1)).is_ok());
        assert!(gathered.push(record(1, 1)).is_err());
        assert_eq!((gathered.before.len(), gathered.items.len(), gathered.after.len()), (1, 3, 1));
    }
}
