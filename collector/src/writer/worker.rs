//! One worker: commits what is gathered for its hosts, and closes sessions in between; sessions are opened beside it.
//!
//! A round is one fresh commit and a bounded part of what waits aside, so no host waits for another's trouble longer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use highwater_ipc::session::Now;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ack::{Ended, Outbox};
use super::arrival::Says;
use super::batch::{self, Aside, Attempt};
use super::command::{Command, Item};
use super::config::Config;
use super::lanes::Gathered;
use super::open::Door;
use super::partitions::Partitions;
use super::plan;
use super::queue::{Consumer, Look};
use super::state::{HostState, Moment};
use super::unsaid::Unsaid;
use super::watch::Watches;
use crate::clock::WallClock;
use crate::health::Health;
use crate::host::HostId;
use crate::store::StoreError;
use crate::store::host_status::{self, Status, TurnedAway, Usage};
use crate::store::link::Link;
use crate::store::stream::Session;
use crate::store::tx::Dedicated;

/// The present and ends of sessions are tried this often. Then the present is left: the next one is said. Ends are kept.
const MOST_TRIES: u32 = 3;
/// Transactions of one round for what waits aside; it ends before that with as many bytes as a commit may have.
const ASIDE: usize = 8;

/// A host with a session here.
pub(super) struct Entry {
    pub(super) state: HostState,
    pub(super) outbox: Arc<Outbox>,
    /// The database refused a record of it not long ago: for so many commits its records share none with other hosts.
    pub(super) apart: u32,
}

/// Hosts, and the connections they are written over.
pub(super) struct Worker {
    /// Which of the workers it is, from 0.
    pub(super) number: usize,
    pub(super) queue: Consumer,
    pub(super) link: Link,
    pub(super) door: Door,
    pub(super) aside: Aside,
    pub(super) hosts: HashMap<HostId, Entry>,
    /// Hosts that other collectors may hold.
    pub(super) watches: Watches,
    /// Ends of sessions that could not be noted.
    pub(super) unsaid: Unsaid,
    pub(super) clock: Arc<dyn WallClock>,
    /// Where its steady clock begins.
    pub(super) started: tokio::time::Instant,
    pub(super) partitions: Arc<Partitions>,
    pub(super) health: Arc<Health>,
    /// Cancelled when the grace of a shutdown is over: what cannot be stored by then stays with the agents.
    pub(super) give_up: CancellationToken,
    pub(super) config: Config,
}

impl Worker {
    /// Works until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while self.round().await {}
        self.end_all();
        self.link.close().await;
    }

    /// `false`: all is done, or given up.
    async fn round(&mut self) -> bool {
        let (queue, config) = (Arc::clone(&self.queue.0), self.config);
        let gathered = if self.aside.is_empty() {
            let give_up = self.give_up.clone();
            tokio::select! {
                biased;
                () = give_up.cancelled() => return false,
                done = self.door.opened() => {
                    self.opened(done);
                    return true;
                }
                next = queue.next(&config), if !self.door.is_last() => match next {
                    Some(gathered) => gathered,
                    // Whoever is let in now is told that it is over.
                    None => return self.door.wait_for_last(),
                },
            }
        } else {
            if self.door.is_open() {
                let done = self.door.opened().await;
                self.opened(done);
            }
            match queue.look(&config) {
                Look::Found(gathered) => gathered,
                _ => Gathered::default(),
            }
        };
        self.work(gathered).await;
        self.work_aside().await;
        true
    }

    async fn work(&mut self, gathered: Gathered) {
        self.control(gathered.control).await;
        let is_apart = |item: &Item| self.hosts.get(&item.host).is_some_and(|entry| entry.apart > 0);
        let (apart, together) = gathered.items.into_iter().partition(is_apart);
        for run in batch::groups(apart, |_| 0).into_iter().flatten() {
            self.put_aside(&[], Vec::new(), vec![Attempt::fresh(vec![run])]);
        }
        // Plain PostgreSQL is one bucket; on Citus this is the host's shard.
        for group in batch::groups(together, |_| 0) {
            self.attempt(Attempt::fresh(group), Vec::new()).await;
        }
    }

    /// One round's part of what waits aside.
    async fn work_aside(&mut self) {
        let mut bytes = 0;
        for _ in 0..ASIDE {
            let Some((attempt, rest)) = self.aside.next() else { break };
            bytes += attempt.bytes();
            self.attempt(attempt, rest).await;
            if bytes >= self.config.bytes_per_commit {
                break;
            }
        }
    }

    async fn attempt(&mut self, attempt: Attempt, rest: Vec<Attempt>) {
        let hosts: Vec<HostId> = attempt.runs.iter().map(|run| run.host).collect();
        let follow = self.commit(attempt).await;
        self.put_aside(&hosts, rest, follow);
    }

    fn put_aside(&mut self, hosts: &[HostId], rest: Vec<Attempt>, follow: Vec<Attempt>) {
        self.queue.0.hold(follow.iter().flat_map(|attempt| &attempt.runs).map(|run| run.host));
        let free = self.aside.put(hosts, rest, follow);
        self.queue.0.release(free);
    }

    async fn control(&mut self, commands: Vec<Command>) {
        let mut light = Light::default();
        let mut openings = Vec::new();
        for command in commands {
            match command {
                Command::Open(request, reply) => openings.push((request, reply)),
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
        for (request, reply) in openings {
            self.knock(request, reply);
        }
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
                Ok(()) => return self.say_unsaid().await,
                Err(error) => warn!(%error, "noting the present of hosts"),
            }
        }
        self.unsaid.keep(&light.closed);
    }

    /// In a transaction of its own, once: whatever keeps these from being noted keeps nothing else.
    async fn say_unsaid(&mut self) {
        let (ended, at_ms) = (self.unsaid.all(), self.clock.now_ms());
        if ended.is_empty() {
            return;
        }
        match self.link.run(move |connection| Box::pin(ends_transaction(connection, ended, at_ms))).await {
            Ok(()) => self.unsaid.clear(),
            Err(error) => warn!(%error, "noting ends of sessions; trying again"),
        }
    }

    /// The collector's clocks now.
    pub(super) fn moment(&self) -> Moment {
        moment(&*self.clock, self.started)
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

/// The collector's clocks now.
pub(super) fn moment(clock: &dyn WallClock, started: tokio::time::Instant) -> Moment {
    let steady_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    Moment { wall_ms: clock.now_ms(), steady_ms }
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

async fn ends_transaction(
    connection: &mut Dedicated,
    ended: Vec<(HostId, Session)>,
    at_ms: i64,
) -> Result<(), StoreError> {
    let mut tx = connection.write_soon().await?;
    host_status::disconnect(&mut tx, &ended, at_ms).await?;
    tx.commit().await?;
    Ok(())
}
