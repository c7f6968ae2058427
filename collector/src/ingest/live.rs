//! Drives one stream from its hello to its end, without knowing gRPC.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use highwater_ipc::record::{EpochNo, Record};
use highwater_ipc::session::{Hello, Now, Welcome};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::refusal::Refusal;
use super::registry::{Incumbent, Membership, Probe, Registry};
use super::session::Session;
use crate::clock;
use crate::host::HostId;
use crate::writer::ack::{Durable, News, Outbox, Position};
use crate::writer::{Handle, OpenError, OpenRequest, Opened, Quarantine, Room, Session as SessionNo, Stopped};

/// The hello must come within this.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// The database must have answered the hello within this; the agent comes back.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// A newcomer waits this long for it to show whether another collector still holds the host; the agent, whose patience
/// ends a little later, comes back, and what was seen until then counts.
const WATCH_WITHIN: Duration = Duration::from_secs(20);
/// An agent that was told that its epoch is a fork must have gone within this.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);
/// The next part of a record must have come within this, from its room on: 192 KiB at 13 KB/s. Others may wait for that
/// room, so only a full part counts, and as a record has 86 of them it is theirs after 22 minutes at most; whoever
/// brings less loses it in these seconds. There is no bound in all, or a host behind a slow line would begin its
/// keyframe again for ever.
const PART_WITHIN: Duration = Duration::from_secs(15);
/// Who has or awaits room must read its acks within this: nothing moves on meanwhile, and others may wait for the room.
const READ_WITHIN: Duration = Duration::from_secs(15);

const STALLED: Refusal = Refusal::Stalled(PART_WITHIN.as_secs());
const UNREAD: Refusal = Refusal::Unread(READ_WITHIN.as_secs());

/// What an agent says.
#[derive(Debug)]
pub(super) enum Said {
    Hello(Hello),
    Records(EpochNo, Vec<Record>),
    /// A record of at most so many bytes has begun to come in parts; it is the next one.
    Begins(usize),
    /// A full part of it came, and not its last.
    Part,
    Now(Now),
    Pong(u64),
}

/// What it is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Welcome(Welcome),
    Ack(Durable<Position>),
    Keyframe,
    Ping(u64),
}

/// The agent's end of a stream.
pub(super) trait Peer: Send {
    /// The next message, `None` at its end. Cancelling the wait loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<Said>, Refusal>> + Send;
    /// Tells it something; waits while it does not listen. What is said to one that is gone is lost.
    fn tell(&mut self, answer: Answer) -> impl Future<Output = ()> + Send;
    /// Resolves when it is gone.
    fn gone(&self) -> impl Future<Output = ()> + Send;
}

/// What streams share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) writer: Handle,
    pub(super) registry: Arc<Registry>,
    /// Cancelled when the collector stops.
    pub(super) stop: CancellationToken,
}

/// Who calls, as the certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) host: HostId,
    /// Collector's clock when that certificate was signed, milliseconds since 1970.
    pub(super) enrolled_ms: i64,
}

/// Drives the stream of a host until either side ends it. `Ok`: the agent did.
pub(super) async fn drive(peer: &mut impl Peer, caller: Caller, shared: &Shared) -> Result<(), Refusal> {
    let host = caller.host;
    let Some(hello) = hello(peer, shared).await? else { return Ok(()) };
    // Now, not when the writer comes to it: what it waits for until then would count as skew.
    let read_ms = shared.writer.now_ms();
    let outbox = Arc::new(Outbox::default());
    let request = || OpenRequest {
        host,
        enrolled_ms: caller.enrolled_ms,
        hello: hello.clone(),
        read_ms,
        outbox: Arc::clone(&outbox),
    };
    let entering = enter(shared, host, &hello, request);
    let Some((entered, early)) = open(peer, shared, entering).await? else { return Ok(()) };
    let (opened, membership) = match entered {
        Entered::Joined(opened, membership) => (opened, membership),
        Entered::Forked(opened) => return send_away(peer, shared, opened).await,
    };
    let session = opened.session;
    let mut live = Live {
        host,
        session,
        order: Session::new(&opened.epochs),
        outbox,
        membership,
        asked: None,
        begun: None,
        shared: shared.clone(),
    };
    // The longest hello is 1,024 epochs, the longest stream a day.
    drop(hello);
    let ended = live.run(peer, opened, early).await;
    drop(live);
    // The writer may be stopping: then it ends the session itself.
    let _: Result<(), Stopped> = shared.writer.close(host, session).await;
    ended
}

async fn hello(peer: &mut impl Peer, shared: &Shared) -> Result<Option<Hello>, Refusal> {
    let first = tokio::select! {
        first = tokio::time::timeout(HELLO_WITHIN, peer.next()) => first,
        () = shared.stop.cancelled() => return Err(Stopped.into()),
    };
    match first {
        Ok(Ok(Some(Said::Hello(hello)))) => Ok(Some(hello)),
        Ok(Ok(Some(_))) => Err(Refusal::OutOfPlace("the first message is no hello")),
        Ok(Ok(None)) => Ok(None),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(Refusal::Silent(HELLO_WITHIN.as_secs())),
    }
}

/// How a newcomer was let in.
enum Entered {
    /// It has the host's place.
    Joined(Opened, Membership),
    /// Its epoch is a fork: it has no place, and nobody lost one.
    Forked(Opened),
}

/// Decides whether a newcomer gets the host's place, and gives it. Cancelling it leaves nothing behind.
async fn enter(
    shared: &Shared,
    host: HostId,
    hello: &Hello,
    request: impl Fn() -> OpenRequest,
) -> Result<Entered, Refusal> {
    let began = tokio::time::Instant::now();
    loop {
        let gate = shared.registry.gate(host).await;
        match shared.registry.meet(host, hello).await {
            Incumbent::Yields => {}
            Incumbent::Stays => return Err(OpenError::Quarantined(Quarantine::OtherIsLive).into()),
            Incumbent::Busy => return Err(Refusal::Busy),
        }
        match shared.writer.open(request()).await {
            Ok(opened) if opened.is_forked() => return Ok(Entered::Forked(opened)),
            Ok(opened) => return Ok(Entered::Joined(opened, shared.registry.join(host, hello))),
            Err(OpenError::Held { again }) if began.elapsed() + again < WATCH_WITHIN => {
                // Whoever held it elsewhere may come here meanwhile, and need not wait.
                drop(gate);
                tokio::time::sleep(again).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells an agent that its epoch is a fork. It closes the epoch and comes back with a new one.
async fn send_away(peer: &mut impl Peer, shared: &Shared, opened: Opened) -> Result<(), Refusal> {
    peer.tell(Answer::Welcome(welcome(opened))).await;
    let left = async {
        loop {
            match peer.next().await? {
                None => return Ok(()),
                Some(Said::Now(_) | Said::Pong(_)) => {}
                Some(_) => return Err(Refusal::OutOfPlace("records of an epoch that was said to be a fork")),
            }
        }
    };
    tokio::select! {
        left = tokio::time::timeout(LEAVE_WITHIN, left) => {
            left.unwrap_or(Err(Refusal::OutOfPlace("an epoch that was said to be a fork was not closed")))
        }
        () = shared.stop.cancelled() => Err(Stopped.into()),
    }
}

fn welcome(opened: Opened) -> Welcome {
    Welcome {
        session: opened.session.0.unsigned_abs(),
        server_wall_ms: opened.server_wall_ms,
        interval_ms: None,
        epochs: opened.epochs,
    }
}

/// Waits for the decision while watching that the agent is still there: one that went away must not leave a waiting
/// task behind each time it comes back. A `now` said meanwhile is kept; `None`: the agent is gone.
async fn open(
    peer: &mut impl Peer,
    shared: &Shared,
    entering: impl Future<Output = Result<Entered, Refusal>>,
) -> Result<Option<(Entered, Option<Now>)>, Refusal> {
    let opening = tokio::time::timeout(OPEN_WITHIN, entering);
    tokio::pin!(opening);
    let mut early = None;
    loop {
        tokio::select! {
            opened = &mut opening => {
                let entered = opened.unwrap_or(Err(OpenError::Unavailable.into()))?;
                return Ok(Some((entered, early)));
            }
            said = peer.next() => match said? {
                Some(Said::Now(now)) => early = Some(now),
                Some(_) => return Err(Refusal::OutOfPlace("records before the welcome")),
                None => return Ok(None),
            },
            () = shared.stop.cancelled() => return Err(Stopped.into()),
        }
    }
}

/// A stream with a session.
struct Live {
    host: HostId,
    session: SessionNo,
    order: Session,
    outbox: Arc<Outbox>,
    membership: Membership,
    /// A ping under way, and who waits for its answer.
    asked: Option<(u64, Vec<oneshot::Sender<()>>)>,
    /// Room of a record that comes in parts, and when its next one must be here.
    begun: Option<(Room, Instant)>,
    shared: Shared,
}

/// What a stream reacts to.
enum Happened {
    Said(Option<Said>),
    News(News),
    Probed(Option<Probe>),
}

impl Live {
    async fn run(&mut self, peer: &mut impl Peer, opened: Opened, early: Option<Now>) -> Result<(), Refusal> {
        self.tell(peer, Answer::Welcome(welcome(opened))).await?;
        if let Some(now) = early {
            self.shared.writer.now(self.host, self.session, now).await?;
        }
        loop {
            let happened = tokio::select! {
                said = peer.next() => Happened::Said(said?),
                news = self.outbox.take() => Happened::News(news),
                probe = self.membership.probes.recv() => Happened::Probed(probe),
                () = self.membership.replaced.cancelled() => return Err(crate::writer::ack::Ended::Replaced.into()),
                () = self.shared.stop.cancelled() => return Err(Stopped.into()),
                () = overdue(self.begun.as_ref()) => return Err(STALLED),
            };
            match happened {
                Happened::Said(None) => return Ok(()),
                Happened::Said(Some(said)) => self.hear(peer, said).await?,
                Happened::News(news) => self.pass_on(peer, news).await?,
                Happened::Probed(probe) => self.ask(peer, probe).await?,
            }
        }
    }

    async fn hear(&mut self, peer: &mut impl Peer, said: Said) -> Result<(), Refusal> {
        match said {
            Said::Hello(_) => Err(Refusal::OutOfPlace("a second hello on one stream")),
            Said::Records(epoch, records) => {
                for record in records {
                    // The first one is the one that has begun, if one has.
                    let begun = self.begun.take();
                    let Some(arrival) = self.order.take(epoch, record)? else { continue };
                    let room = match begun {
                        Some((room, _)) => room,
                        None => self.room(peer, arrival.weight()).await?,
                    };
                    self.shared.writer.record_in(room, self.host, self.session, epoch, arrival)?;
                }
                Ok(())
            }
            Said::Begins(bytes) => {
                let room = self.room(peer, bytes).await?;
                self.begun = Some((room, Instant::now() + PART_WITHIN));
                Ok(())
            }
            Said::Part => {
                if let Some((_, until)) = &mut self.begun {
                    *until = Instant::now() + PART_WITHIN;
                }
                Ok(())
            }
            Said::Now(now) => Ok(self.shared.writer.now(self.host, self.session, now).await?),
            Said::Pong(nonce) => {
                if let Some((_, waiting)) = self.asked.take_if(|(asked, _)| *asked == nonce) {
                    for asker in waiting {
                        // Who asked may have given up waiting.
                        let _ = asker.send(());
                    }
                }
                Ok(())
            }
        }
    }

    /// Waits for room in the writer's queue, but not for an agent that is gone: it still holds the record. Acks go out
    /// meanwhile; an agent that does not listen to them keeps no room from others.
    async fn room(&self, peer: &mut impl Peer, bytes: usize) -> Result<Room, Refusal> {
        self.membership.busy.set(true);
        let mut taking = pin!(self.shared.writer.room(self.host, bytes));
        let room = loop {
            let news = tokio::select! {
                room = &mut taking => break room.map_err(Refusal::from),
                news = self.outbox.take() => news,
                () = peer.gone() => break Err(Refusal::OutOfPlace("the agent went away")),
                () = self.membership.replaced.cancelled() => break Err(crate::writer::ack::Ended::Replaced.into()),
                () = self.shared.stop.cancelled() => break Err(Stopped.into()),
            };
            match tokio::time::timeout(READ_WITHIN, self.pass_on(peer, news)).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => break Err(refusal),
                Err(_) => break Err(UNREAD),
            }
        };
        self.membership.busy.set(false);
        room
    }

    async fn pass_on(&self, peer: &mut impl Peer, news: News) -> Result<(), Refusal> {
        for ack in news.acks.into_values() {
            self.tell(peer, Answer::Ack(ack)).await?;
        }
        if news.keyframe {
            self.tell(peer, Answer::Keyframe).await?;
        }
        news.ended.map_or(Ok(()), |why| Err(why.into()))
    }

    /// Passes a question on as a ping; several that come together share one.
    async fn ask(&mut self, peer: &mut impl Peer, probe: Option<Probe>) -> Result<(), Refusal> {
        let Some(probe) = probe else { return Ok(()) };
        if let Some((_, waiting)) = &mut self.asked {
            waiting.retain(|w| !w.is_closed());
            if !waiting.is_empty() {
                waiting.push(probe.answered);
                return Ok(());
            }
        }
        let Ok(nonce) = clock::random::<8>() else { return Ok(()) };
        let nonce = u64::from_be_bytes(nonce);
        self.asked = Some((nonce, vec![probe.answered]));
        self.tell(peer, Answer::Ping(nonce)).await
    }

    async fn tell(&self, peer: &mut impl Peer, answer: Answer) -> Result<(), Refusal> {
        let unread = async {
            match self.begun {
                Some(_) => tokio::time::sleep(READ_WITHIN).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = peer.tell(answer) => Ok(()),
            () = self.membership.replaced.cancelled() => Err(crate::writer::ack::Ended::Replaced.into()),
            () = unread => Err(UNREAD),
            () = self.shared.stop.cancelled() => Err(Stopped.into()),
        }
    }
}

async fn overdue(begun: Option<&(Room, Instant)>) {
    match begun {
        Some((_, until)) => tokio::time::sleep_until(*until).await,
        None => std::future::pending().await,
    }
}
