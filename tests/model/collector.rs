//! A collector's shells as a machine that does one thing a step, so that it can die between any two: `ingest/live.rs`
//! and `registry.rs` (who is connected), `writer/worker.rs`, `open.rs` and `commit.rs` (gather, open, plan, store, adopt).
//! What follows is decided by the real code: `ingest::session`, `writer::{admit, batch, plan, state}`.

mod commit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use highwater::host::HostId;
use highwater::ingest::session::Session as Order;
use highwater::store::stream::{Session, Stream};
use highwater::writer::batch::{self, Run};
use highwater::writer::plan::Plan;
use highwater::writer::state::{HostState, Moment, Skew};
use highwater::writer::watch::{Holder, Sight, Watch};
use highwater::writer::{Item, admit};
use highwater_agent::transport::session::{FromCollector, ToCollector};
use highwater_ipc::record::{Chain, EpochId, EpochNo, Record, Seq};
use highwater_ipc::session::{Hello, StoredEpoch, Verdict, Welcome};
use highwater_ipc::snapshot::BootId;

use crate::ground::{Ground, Kept, Line};
use crate::mutation::Mutation;

/// One collector. Stopping it by SIGKILL is replacing it by a new one.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    pub(crate) number: usize,
    /// Streams after their welcome.
    live: BTreeMap<Line, Live>,
    /// Who is connected: the newest stream of each host.
    registry: BTreeMap<HostId, Member>,
    queue: VecDeque<Command>,
    hosts: BTreeMap<HostId, Entry>,
    /// Which machine each session is spoken with; never forgotten, because the ledger asks.
    machines: BTreeMap<Session, usize>,
    tasks: VecDeque<Task>,
    commit: Option<Commit>,
    /// Hosts that another collector may hold.
    watches: BTreeMap<HostId, Watch>,
    /// What the writer has said to streams and they have not passed on.
    news: BTreeMap<Line, News>,
}

#[derive(Debug)]
struct Live {
    host: HostId,
    session: Session,
    order: Order,
    /// What the next record should carry; only the mutation that compares no chains looks.
    chains: BTreeMap<EpochNo, Chain>,
}

#[derive(Debug)]
struct Member {
    line: Line,
    boot_id: BootId,
    epoch_id: Option<EpochId>,
}

#[derive(Debug)]
enum Command {
    Record(Item),
    Open(Line, Hello),
    Close(HostId, Session),
}

#[derive(Debug)]
enum Task {
    Control(Box<Command>),
    Commit(Vec<Run>),
}

#[derive(Debug)]
struct Entry {
    state: HostState,
    line: Line,
}

#[derive(Debug, Default)]
struct News {
    acks: BTreeMap<EpochNo, Seq>,
    keyframe: bool,
    ended: bool,
}

#[derive(Debug)]
struct Commit {
    todo: Vec<Vec<Run>>,
    reloads: BTreeMap<HostId, u32>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Plan,
    Store { runs: Vec<Run>, plans: Vec<Plan>, refusing: bool },
    Adopt { runs: Vec<Run>, plans: Vec<Plan>, refusing: bool, moved: BTreeSet<HostId> },
}

impl Collector {
    /// A collector that was just started.
    pub(crate) fn new(number: usize) -> Self {
        Self { number, ..Self::default() }
    }

    /// Whether the writer has nothing to do and nothing to say.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.tasks.is_empty() && self.commit.is_none() && self.news.is_empty()
    }

    /// What it is about to ack, by stream.
    pub(crate) fn acks(&self) -> impl Iterator<Item = (Line, EpochNo, Seq)> {
        self.news.iter().flat_map(|(line, news)| news.acks.iter().map(|(no, next)| (*line, *no, *next)))
    }

    /// Takes one message of a stream, or notices that its agent is gone.
    pub(crate) fn hear(&mut self, line: Line, ground: &mut Ground) {
        let connection = &mut ground.connections[line];
        if !connection.collector_open {
            return;
        }
        let host = connection.host;
        let message = connection.to_collector.pop_front();
        connection.heard |= message.is_some();
        let newer_was_heard = || ground.connections[line + 1..].iter().any(|newer| newer.host == host && newer.heard);
        if matches!(message, Some(ToCollector::Records(..))) && self.live.contains_key(&line) && newer_was_heard() {
            ground.count("read out of order");
        }
        match message {
            Some(ToCollector::Hello(hello)) => self.meet(line, hello, ground),
            Some(ToCollector::Records(epoch, records)) => {
                for record in records {
                    if !self.record(line, epoch, record, ground) {
                        return self.end_stream(line, ground);
                    }
                }
            }
            Some(ToCollector::Now(_) | ToCollector::Pong(_)) => {}
            None if !ground.connections[line].agent_open => {
                ground.say(|| format!("collector {}: the agent of {host} is gone from line {line}", self.number));
                self.end_stream(line, ground);
            }
            None => {}
        }
    }

    /// A hello: another agent that answers a ping stays, anybody else makes room.
    fn meet(&mut self, line: Line, hello: Hello, ground: &mut Ground) {
        let host = ground.connections[line].host;
        let incumbent = self.registry.get(&host).filter(|there| {
            there.boot_id != hello.facts.boot_id || there.epoch_id != hello.epochs.last().map(|e| e.epoch.id)
        });
        if incumbent.is_some_and(|there| ground.connections[there.line].agent_open) && !ground.chance.one_in(4) {
            ground.say(|| format!("collector {}: line {line} is a copy of {host}, which answers", self.number));
            ground.connections[line].collector_open = false;
            ground.connections[line].quarantined = true;
            ground.count("quarantined");
            return;
        }
        self.queue.push_back(Command::Open(line, hello));
    }

    /// `false`: the record ends the stream.
    fn record(&mut self, line: Line, epoch: EpochNo, mut record: Record, ground: &mut Ground) -> bool {
        let Some(live) = self.live.get_mut(&line) else { return false };
        if ground.is(Mutation::ChainNotChecked)
            && let Some(chain) = live.chains.get(&epoch)
        {
            record.chain = *chain;
        }
        let (kind, first, seq) = (record.kind, record.first_seq.0, record.seq.0);
        match live.order.take(epoch, record) {
            Ok(Some(arrival)) => {
                live.chains.insert(epoch, arrival.next_chain);
                let (host, session) = (live.host, live.session);
                self.queue.push_back(Command::Record(Item { host, session, epoch, arrival, _share: None }));
                true
            }
            Ok(None) => true,
            Err(why) => {
                ground.say(|| format!("collector {}: line {line} {kind:?} {first}..={seq}: {why}", self.number));
                false
            }
        }
    }

    fn end_stream(&mut self, line: Line, ground: &mut Ground) {
        ground.connections[line].collector_open = false;
        self.registry.retain(|_, there| there.line != line);
        if let Some(live) = self.live.remove(&line) {
            self.queue.push_back(Command::Close(live.host, live.session));
        }
    }

    /// Passes on what the writer said to one stream.
    pub(crate) fn pass_on(&mut self, ground: &mut Ground) {
        let Some((line, news)) = self.news.pop_first() else { return };
        let connection = &mut ground.connections[line];
        if !connection.collector_open {
            return;
        }
        let keyframe = news.keyframe.then_some(FromCollector::Keyframe);
        connection
            .to_agent
            .extend(news.acks.into_iter().map(|(no, next)| FromCollector::Ack(no, next)).chain(keyframe));
        if news.ended {
            self.end_stream(line, ground);
        }
    }

    /// The writer does one thing.
    pub(crate) fn work(&mut self, ground: &mut Ground) -> Kept {
        if let Some(commit) = self.commit.take() {
            self.commit = self.go_on(commit, ground)?;
            return Ok(());
        }
        match self.tasks.pop_front() {
            Some(Task::Control(command)) => match *command {
                Command::Open(line, hello) => self.open(line, hello, ground),
                Command::Close(host, session) => {
                    if ground.database.up {
                        ground.database.close(host, session);
                    }
                    self.hosts.retain(|h, entry| *h != host || entry.state.session != session);
                }
                Command::Record(_) => {}
            },
            Some(Task::Commit(runs)) => {
                self.commit = Some(Commit { todo: vec![runs], reloads: BTreeMap::new(), stage: Stage::Plan });
            }
            None => self.gather(ground),
        }
        Ok(())
    }

    /// Commands of a host keep their order, records of hosts share commits: `worker::Gathered`.
    fn gather(&mut self, ground: &mut Ground) {
        let (mut before, mut items, mut after) = (Vec::new(), Vec::new(), Vec::new());
        let (mut with_items, mut with_after) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..=ground.chance.below(8) {
            let Some(command) = self.queue.pop_front() else { break };
            let host = match &command {
                Command::Record(item) => item.host,
                Command::Open(line, _) => ground.connections[*line].host,
                Command::Close(host, _) => *host,
            };
            match command {
                Command::Record(_) if with_after.contains(&host) => {
                    self.queue.push_front(command);
                    break;
                }
                Command::Record(item) => {
                    with_items.insert(host);
                    items.push(item);
                }
                other if with_items.contains(&host) => {
                    with_after.insert(host);
                    after.push(other);
                }
                other => before.push(other),
            }
        }
        self.tasks.extend(before.into_iter().map(|command| Task::Control(Box::new(command))));
        self.tasks.extend(batch::groups(items, |_| 0).into_iter().map(Task::Commit));
        self.tasks.extend(after.into_iter().map(|command| Task::Control(Box::new(command))));
    }

    /// The opening transaction, and the welcome.
    fn open(&mut self, line: Line, mut hello: Hello, ground: &mut Ground) {
        let host = ground.connections[line].host;
        if !ground.database.up {
            ground.say(|| format!("collector {}: line {line} finds no database", self.number));
            ground.connections[line].collector_open = false;
            return;
        }
        let stored = ground.database.streams(host);
        if ground.is(Mutation::ChainNotChecked) {
            for epoch in &mut hello.epochs {
                epoch.chain = admit::row(&stored, epoch.epoch.no).map_or(epoch.chain, |row| row.chain);
            }
        }
        let epochs = match admit::judge(&hello, &stored) {
            Ok(epochs) => epochs,
            Err(why) => {
                ground.say(|| format!("collector {}: line {line} of {host}: {why}", self.number));
                ground.connections[line].collector_open = false;
                ground.connections[line].quarantined = true;
                ground.count("quarantined");
                return;
            }
        };
        if admit::is_forked(&epochs) {
            ground.say(|| format!("collector {}: line {line} of {host} is a fork", self.number));
            ground.count("forked at hello");
            let welcome = Welcome { session: 1, server_wall_ms: ground.now_ms, interval_ms: None, epochs };
            return ground.connections[line].to_agent.push_back(FromCollector::Welcome(welcome));
        }
        if self.is_held(line, host, &hello, &stored, ground) {
            return;
        }
        self.watches.remove(&host);
        let session = Session(i64::try_from(ground.chance.next() >> 1).unwrap().max(1));
        let missing: Vec<_> = hello
            .epochs
            .iter()
            .zip(&epochs)
            .filter(|(_, answer)| answer.verdict == Verdict::Continue && admit::row(&stored, answer.no).is_none())
            .map(|(spooled, _)| (spooled.epoch, spooled.boot_id))
            .collect();
        let abandoned = admit::abandoned(&hello, &stored);
        let streams = ground.database.open(host, session, ground.now_ms, (&abandoned, &missing));
        ground.say(|| {
            format!(
                "collector {}: line {line} of {host} is session {:x}: {}",
                self.number,
                session.0 >> 48,
                answers(&epochs)
            )
        });
        self.begin(line, session, &hello, (epochs, streams), ground);
    }

    /// The session is the host's: whoever held it is told, the agent is welcome.
    fn begin(
        &mut self,
        line: Line,
        session: Session,
        hello: &Hello,
        (epochs, streams): (Vec<StoredEpoch>, Vec<Stream>),
        ground: &mut Ground,
    ) {
        let host = ground.connections[line].host;
        if let Some(before) = self.hosts.remove(&host) {
            self.news.entry(before.line).or_default().ended = true;
        }
        if admit::wants_keyframe(&epochs, &streams) {
            self.news.entry(line).or_default().keyframe = true;
        }
        let state = HostState {
            session,
            hello: Arc::new(hello.facts.clone()),
            skew: Skew::at_hello(hello.now, moment(ground)),
            streams: admit::writable(&epochs, &streams).into_iter().map(|s| (s.epoch.no, s)).collect(),
            facts: None,
            present: None,
            ahead: None,
        };
        ground.served.insert(self.number);
        self.machines.insert(session, ground.connections[line].machine);
        self.hosts.insert(host, Entry { state, line });
        let connection = &mut ground.connections[line];
        if !connection.agent_open && connection.to_collector.is_empty() {
            connection.collector_open = false;
            self.queue.push_back(Command::Close(host, session));
            return;
        }
        let chains = epochs.iter().map(|e| (e.no, e.chain)).collect();
        self.live.insert(line, Live { host, session, order: Order::new(&epochs), chains });
        let server_wall_ms = ground.now_ms;
        let welcome = Welcome { session: session.0.unsigned_abs(), server_wall_ms, interval_ms: None, epochs };
        connection.to_agent.push_back(FromCollector::Welcome(welcome));
        let epoch_id = hello.epochs.last().map(|e| e.epoch.id);
        let member = Member { line, boot_id: hello.facts.boot_id, epoch_id };
        if let Some(before) = self.registry.insert(host, member) {
            self.end_stream(before.line, ground);
        }
    }

    /// Whether another collector holds a newcomer's host: then it comes back, or is a copy.
    fn is_held(&mut self, line: Line, host: HostId, hello: &Hello, stored: &[Stream], ground: &mut Ground) -> bool {
        let own = self.hosts.get(&host).map(|entry| entry.state.session);
        let held = ground.database.held(host).filter(|held| Some(held.session) != own);
        let newcomer = admit::is_newcomer(hello, stored);
        let (Some(held), Some(last), true) = (held, stored.last(), newcomer) else { return false };
        let (place, session) = ((last.epoch.no, last.next), held.session);
        let holder = Holder { session, place, last_seen_ms: held.last_seen_ms, interval_ms: held.interval_ms };
        match Watch::look(self.watches.remove(&host), holder, ground.now_ms) {
            Sight::Gone => return false,
            Sight::Lives => {
                ground.connections[line].collector_open = false;
                ground.connections[line].quarantined = true;
                ground.count("quarantined");
            }
            Sight::Unknown(watch) => {
                self.watches.insert(host, watch);
                // It looks again a little later, or its agent's patience ends.
                if ground.chance.one_in(4) {
                    ground.connections[line].collector_open = false;
                } else {
                    ground.connections[line].to_collector.push_front(ToCollector::Hello(hello.clone()));
                }
            }
        }
        true
    }

    fn entry(&mut self, host: HostId, session: Session) -> Option<&mut Entry> {
        self.hosts.get_mut(&host).filter(|entry| entry.state.session == session)
    }

    fn end(&mut self, host: HostId) {
        if let Some(entry) = self.hosts.remove(&host) {
            self.news.entry(entry.line).or_default().ended = true;
        }
    }
}

fn moment(ground: &Ground) -> Moment {
    Moment { wall_ms: ground.now_ms, steady_ms: ground.now_ms }
}

fn answers(epochs: &[StoredEpoch]) -> String {
    let words = |e: &StoredEpoch| format!("{} {:?} from {}", e.no.0, e.verdict, e.next.0);
    epochs.iter().map(words).collect::<Vec<_>>().join(", ")
}
