//! Begins a session: one transaction that fences every older session of the host and says what is stored.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_ipc::session::{Hello, StoredEpoch, Verdict};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::ack::{Ended, Outbox};
use super::admit;
use super::command::{Command, OpenError, OpenRequest, Opened};
use super::state::{HostState, Moment, Skew};
use super::watch::{Holder, Sight, Watch};
use super::worker::{Entry, Worker, moment};
use crate::clock;
use crate::host::{HostId, Quarantine};
use crate::store::host_facts::Facts;
use crate::store::host_status::Present;
use crate::store::link::Link;
use crate::store::stream::{Session, Stream};
use crate::store::tx::{Committed, Dedicated, Write};
use crate::store::{Db, StoreError, host_facts, host_name, host_status, settling, stream};

/// The transaction is tried this often: a connection that broke while nobody used it, or another collector that opens
/// the same host.
const MOST_TRIES: u32 = 3;

/// What is stored of a host.
pub(super) struct Read {
    pub(super) streams: Vec<Stream>,
    pub(super) facts: Option<Facts>,
    pub(super) proof: Committed,
    /// A commit of this host's records is acknowledged and not visible yet.
    pub(super) settling: bool,
}

/// How the opening transaction ended.
enum Found {
    /// The session is the host's.
    Taken(Box<Taken>),
    /// The current epoch is a fork; nothing was changed.
    Forked(Vec<StoredEpoch>),
    /// Another collector may still hold the host; nothing was changed.
    Held(Watch),
    /// Nothing was changed.
    Refused(OpenError),
    /// Somebody else moved the host in between: to be done again.
    Again,
}

/// What the opening transaction took over.
struct Taken {
    epochs: Vec<StoredEpoch>,
    streams: Vec<Stream>,
    facts: Option<Facts>,
    present: Option<Present>,
}

/// Openings that are handed over at once: their answers come together, after at most one commit more.
const AT_ONCE: usize = 64;

/// Where sessions are opened: one after the other, over a connection of its own, so that commits of hosts which have
/// one do not wait for those who want one, nor these for a commit each.
pub(super) struct Door {
    db: Db,
    /// Away while some are let in.
    link: Option<Link>,
    waiting: VecDeque<Knocking>,
    running: Option<Running>,
    /// Nobody else will come.
    last: bool,
}

/// A host that wants a session, and who listens for the answer.
type Knocking = (OpenRequest, oneshot::Sender<Result<Opened, OpenError>>);

struct Running {
    task: JoinHandle<(Link, Vec<Done>)>,
    /// Held until then, whatever comes.
    hosts: Vec<HostId>,
}

/// An opening that is over.
struct Done {
    knocking: Knocking,
    opening: Opening,
    found: Result<Found, OpenError>,
}

/// Openings that are over, and all hosts that waited for them.
pub(super) struct LetIn {
    done: Vec<Done>,
    hosts: Vec<HostId>,
}

impl Door {
    pub(super) fn new(db: Db) -> Self {
        Self { link: Some(Link::new(db.clone())), db, waiting: VecDeque::new(), running: None, last: false }
    }

    /// The next openings that are over; for ever, if there are none under way. Cancelling the wait loses nothing.
    pub(super) async fn opened(&mut self) -> LetIn {
        let Some(Running { task, .. }) = &mut self.running else { return std::future::pending().await };
        let ended = task.await;
        let Some(Running { hosts, .. }) = self.running.take() else { return std::future::pending().await };
        let (link, done) = ended.unwrap_or_else(|fault| {
            error!(%fault, "opening sessions ended by a fault");
            (Link::new(self.db.clone()), Vec::new())
        });
        self.link = Some(link);
        LetIn { done, hosts }
    }

    /// Whether an opening is over that nobody has looked at.
    pub(super) fn is_open(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.task.is_finished())
    }

    /// Takes nobody more; whether somebody is still to be let in.
    pub(super) fn wait_for_last(&mut self) -> bool {
        self.last = true;
        self.running.is_some()
    }

    /// Whether only those who are at the door are waited for.
    pub(super) fn is_last(&self) -> bool {
        self.last && self.running.is_some()
    }
}

impl Worker {
    /// Lets a host wait for a session; its other commands wait until it has one.
    pub(super) fn knock(&mut self, request: OpenRequest, reply: oneshot::Sender<Result<Opened, OpenError>>) {
        self.door.waiting.push_back((request, reply));
        self.open_next();
    }

    fn open_next(&mut self) {
        if self.door.running.is_some() || self.door.waiting.is_empty() {
            return;
        }
        let Some(mut link) = self.door.link.take() else { return };
        let mut openings = Vec::new();
        let mut hosts = Vec::new();
        while openings.len() < AT_ONCE
            && let Some((request, reply)) = self.door.waiting.pop_front()
        {
            hosts.push(request.host);
            openings.extend(self.opening(&request).map(|opening| ((request, reply), opening)));
        }
        let (clock, started) = (Arc::clone(&self.clock), self.started);
        let task = tokio::spawn(async move {
            let mut done = Vec::with_capacity(openings.len());
            for (knocking, mut opening) in openings {
                // Whoever asked may have given up long ago.
                if !knocking.1.is_closed() {
                    opening.now = moment(&*clock, started);
                    let found = find(&mut link, &opening).await;
                    done.push(Done { knocking, opening, found });
                }
            }
            (link, done)
        });
        self.door.running = Some(Running { task, hosts });
    }

    fn opening(&self, request: &OpenRequest) -> Option<Opening> {
        let host = request.host;
        Some(Opening {
            host,
            enrolled_ms: request.enrolled_ms,
            session: new_session()?,
            now: self.moment(),
            read_ms: request.read_ms,
            hello: Arc::new(request.hello.clone()),
            own: self.hosts.get(&host).map(|entry| entry.state.session).or_else(|| self.unsaid.of(host)),
            watch: self.watches.of(host),
        })
    }

    /// Goes on with hosts whose opening is over. The stream that held one before ends, unless the new one is turned
    /// away.
    pub(super) fn opened(&mut self, let_in: LetIn) {
        for Done { knocking: (request, reply), opening, found } in let_in.done {
            let (host, session) = (opening.host, opening.session);
            let opened = found.and_then(|found| self.decide(opening, request.outbox, found));
            let stays = opened.as_ref().is_ok_and(|opened| !opened.is_forked());
            if reply.send(opened).is_err() && stays {
                // Whoever asked is gone: nobody else will close it.
                let _ = self.queue.0.push(Command::Close(host, session));
            }
        }
        self.queue.0.release(let_in.hosts);
        self.open_next();
    }

    fn decide(&mut self, opening: Opening, outbox: Arc<Outbox>, found: Found) -> Result<Opened, OpenError> {
        let Opening { host, session, now, read_ms, hello, .. } = opening;
        let server_wall_ms = now.wall_ms;
        let taken = match found {
            Found::Taken(taken) => *taken,
            Found::Forked(epochs) => return Ok(Opened { session, server_wall_ms, epochs }),
            Found::Held(watch) => {
                self.watches.keep(host, watch);
                return Err(OpenError::Held { again: watch.again() });
            }
            Found::Refused(error) => {
                self.watches.forget(host);
                return Err(error);
            }
            Found::Again => return Err(OpenError::Unavailable),
        };
        self.watches.forget(host);
        self.unsaid.forget(host);
        if let Some(before) = self.hosts.remove(&host) {
            before.outbox.end(Ended::Replaced);
        }
        if admit::wants_keyframe(&taken.epochs, &taken.streams) {
            outbox.want_keyframe();
        }
        let opened = Opened { session, server_wall_ms, epochs: taken.epochs.clone() };
        let state = HostState {
            session,
            hello: Arc::new(hello.facts.clone()),
            skew: Skew::at_hello(hello.now, now.back_to(read_ms)),
            streams: admit::writable(&taken.epochs, &taken.streams).into_iter().map(|s| (s.epoch.no, s)).collect(),
            facts: taken.facts.map(Arc::new),
            present: taken.present,
            // A backlog outlives the session that announced it: the next may say so only seconds later.
            ahead: taken.present.and_then(|p| p.backlog_from_ms).map(|_| hello.now),
        };
        self.hosts.insert(host, Entry { state, outbox, apart: 0 });
        Ok(opened)
    }
}

async fn find(link: &mut Link, opening: &Opening) -> Result<Found, OpenError> {
    for _ in 0..MOST_TRIES {
        let (host, opening) = (opening.host, opening.clone());
        match link.run(move |connection| Box::pin(transaction(connection, opening))).await {
            Ok(Found::Again) => {}
            Ok(found) => return Ok(found),
            Err(error) => {
                warn!(%error, %host, "opening a session");
                // Whoever holds the lock may do so for long, and others wait at the door.
                if error.was_locked() {
                    break;
                }
            }
        }
    }
    Err(OpenError::Unavailable)
}

/// What the opening transaction needs.
#[derive(Clone)]
struct Opening {
    host: HostId,
    enrolled_ms: i64,
    session: Session,
    now: Moment,
    read_ms: i64,
    hello: Arc<Hello>,
    /// The host's session in this collector: whether it gives way was asked of its stream, or that has ended.
    own: Option<Session>,
    watch: Option<Watch>,
}

async fn transaction(connection: &mut Dedicated, opening: Opening) -> Result<Found, StoreError> {
    let mut tx = connection.write_soon().await?;
    match take(&mut tx, &opening).await? {
        Found::Taken(taken) => {
            tx.commit().await?;
            Ok(Found::Taken(taken))
        }
        found => {
            tx.rollback().await?;
            Ok(found)
        }
    }
}

async fn take(tx: &mut Write<'_>, opening: &Opening) -> Result<Found, StoreError> {
    let Opening { host, session, now, hello, .. } = opening;
    let (host, session, now_ms) = (*host, *session, now.wall_ms);
    // The reference table first: Citus refuses it after a distributed one.
    if !host_name::set(tx, host, &hello.facts.hostname.escaped()).await? {
        return Ok(Found::Refused(OpenError::UnknownHost));
    }
    let stored = stream::of_host(tx, host).await?;
    let epochs = match admit::judge(hello, &stored) {
        Ok(epochs) => epochs,
        Err(quarantine) => return Ok(Found::Refused(quarantine.into())),
    };
    if admit::is_forked(&epochs) {
        return Ok(Found::Forked(epochs));
    }
    if let Some(stays) = incumbent(tx, opening, &stored).await? {
        return Ok(stays);
    }
    let missing: Vec<_> = hello
        .epochs
        .iter()
        .zip(&epochs)
        .filter(|(_, answer)| answer.verdict == Verdict::Continue && admit::row(&stored, answer.no).is_none())
        .map(|(spooled, _)| (spooled.epoch, spooled.boot_id))
        .collect();
    if !missing.is_empty() {
        stream::insert_missing(tx, host, session, now_ms, &missing).await?;
    }
    let abandoned = admit::abandoned(hello, &stored);
    if !abandoned.is_empty() {
        stream::drop_empty(tx, host, &abandoned).await?;
    }
    // Waits for a commit under way, and what it returns is what no older session can change any more.
    let streams = stream::set_session(tx, host, session).await?;
    let moved = stored.iter().any(|s| match admit::row(&streams, s.epoch.no) {
        Some(now) => now.next != s.next,
        None => !abandoned.contains(&s.epoch.no),
    });
    let reconnects = !admit::is_newcomer(hello, &stored);
    if admit::judge(hello, &streams).as_ref() != Ok(&epochs) || (moved && !reconnects) {
        return Ok(Found::Again);
    }
    let skew_ms = hello.now.wall_ms.saturating_sub(opening.read_ms);
    let present = host_status::resume(tx, host, session, skew_ms, now_ms).await?;
    let facts = host_facts::latest(tx, host).await?;
    Ok(Found::Taken(Box::new(Taken { epochs, streams, facts, present })))
}

/// What keeps a newcomer from the host's place; `None`: nothing does.
async fn incumbent(tx: &mut Write<'_>, opening: &Opening, stored: &[Stream]) -> Result<Option<Found>, StoreError> {
    let (host, hello) = (opening.host, &opening.hello);
    let Some(last) = stored.last().filter(|_| admit::is_newcomer(hello, stored)) else { return Ok(None) };
    let refused = |why: Quarantine| Ok(Some(Found::Refused(why.into())));
    if let Some(known) = host_facts::latest(tx, host).await? {
        let enrolled_since = admit::is_enrolled_since(opening.enrolled_ms, stream::opened_ms(tx, host).await?);
        if !admit::was_let_in(hello, stored) && admit::is_other_machine(&hello.facts, &known.host, enrolled_since) {
            return refused(Quarantine::OtherMachine);
        }
    }
    let held = host_status::held(tx, host).await?.filter(|held| Some(held.session) != opening.own);
    let Some(held) = held else { return Ok(None) };
    let holder = Holder {
        session: held.session,
        place: (last.epoch.no, last.next),
        last_seen_ms: held.last_seen_ms,
        interval_ms: held.interval_ms,
    };
    match Watch::look(opening.watch, holder, opening.now.steady_ms) {
        Sight::Lives => refused(Quarantine::OtherIsLive),
        Sight::Unknown(watch) => Ok(Some(Found::Held(watch))),
        Sight::Gone => Ok(None),
    }
}

/// Reads what is stored of a host.
pub(super) async fn read(connection: &mut Dedicated, host: HostId) -> Result<Read, StoreError> {
    let mut tx = connection.write().await?;
    let streams = stream::of_host(&mut tx, host).await?;
    let facts = host_facts::latest(&mut tx, host).await?;
    let settling = settling::is_settling(&mut tx, host).await?;
    let proof = tx.commit().await?;
    Ok(Read { streams, facts, proof, settling })
}

fn new_session() -> Option<Session> {
    let [a, b, c, d, e, f, g, h] = clock::random::<8>().ok()?;
    Some(Session(i64::from_be_bytes([a & 0x7f, b, c, d, e, f, g, h]).max(1)))
}
