//! Drives one stream from its hello to its end, without knowing gRPC.

use std::sync::Arc;
use std::time::Duration;

use highwater_ipc::record::{EpochNo, Record};
use highwater_ipc::session::{Hello, Now, Welcome};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::refusal::Refusal;
use super::registry::{Incumbent, Membership, Probe, Registry};
use super::session::Session;
use crate::clock;
use crate::host::HostId;
use crate::writer::ack::{Durable, News, Outbox, Position};
use crate::writer::{Handle, OpenError, OpenRequest, Opened, Quarantine, Session as SessionNo, Stopped};

/// The hello must come within this.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// The database must have answered the hello within this; the agent comes back.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// What an agent says.
#[derive(Debug)]
pub(super) enum Said {
    Hello(Hello),
    Records(EpochNo, Vec<Record>),
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

/// Drives the stream of a host until either side ends it. `Ok`: the agent did.
pub(super) async fn drive(peer: &mut impl Peer, host: HostId, shared: &Shared) -> Result<(), Refusal> {
    let Some(hello) = hello(peer, shared).await? else { return Ok(()) };
    // Now, not when the writer comes to it: what it waits for until then would count as skew.
    let read_ms = shared.writer.now_ms();
    match shared.registry.meet(host, &hello).await {
        Incumbent::Yields => {}
        Incumbent::Stays => return Err(OpenError::Quarantined(Quarantine::OtherIsLive).into()),
        Incumbent::Busy => return Err(Refusal::Busy),
    }
    let outbox = Arc::new(Outbox::default());
    let request = OpenRequest { host, hello: hello.clone(), read_ms, outbox: Arc::clone(&outbox) };
    let Some((opened, early)) = open(peer, shared, request).await? else { return Ok(()) };
    let membership = shared.registry.join(host, &hello);
    let session = opened.session;
    let mut live = Live {
        host,
        session,
        order: Session::new(&opened.epochs),
        outbox,
        membership,
        asked: None,
        shared: shared.clone(),
    };
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

/// Asks the writer for a session while watching that the agent is still there: one that went away must not leave a
/// waiting task behind each time it comes back. A `now` said meanwhile is kept; `None`: the agent is gone.
async fn open(
    peer: &mut impl Peer,
    shared: &Shared,
    request: OpenRequest,
) -> Result<Option<(Opened, Option<Now>)>, Refusal> {
    let opening = tokio::time::timeout(OPEN_WITHIN, shared.writer.open(request));
    tokio::pin!(opening);
    let mut early = None;
    loop {
        tokio::select! {
            opened = &mut opening => {
                let opened = opened.unwrap_or(Err(OpenError::Unavailable))?;
                return Ok(Some((opened, early)));
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
        let welcome = Welcome {
            session: opened.session.0.unsigned_abs(),
            server_wall_ms: opened.server_wall_ms,
            interval_ms: None,
            epochs: opened.epochs,
        };
        self.tell(peer, Answer::Welcome(welcome)).await?;
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
                    if let Some(arrival) = self.order.take(epoch, record)? {
                        self.wait(peer, self.shared.writer.record(self.host, self.session, epoch, arrival)).await?;
                    }
                }
                Ok(())
            }
            Said::Now(now) => self.wait(peer, self.shared.writer.now(self.host, self.session, now)).await,
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

    /// Waits for room in the writer's queue, but not for an agent that is gone: it still holds the record.
    async fn wait(&self, peer: &impl Peer, queued: impl Future<Output = Result<(), Stopped>>) -> Result<(), Refusal> {
        self.membership.busy.set(true);
        let done = tokio::select! {
            done = queued => done.map_err(Refusal::from),
            () = peer.gone() => Err(Refusal::OutOfPlace("the agent went away")),
            () = self.membership.replaced.cancelled() => Err(crate::writer::ack::Ended::Replaced.into()),
        };
        self.membership.busy.set(false);
        done
    }

    async fn pass_on(&mut self, peer: &mut impl Peer, news: News) -> Result<(), Refusal> {
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
        tokio::select! {
            () = peer.tell(answer) => Ok(()),
            () = self.membership.replaced.cancelled() => Err(crate::writer::ack::Ended::Replaced.into()),
            () = self.shared.stop.cancelled() => Err(Stopped.into()),
        }
    }
}
