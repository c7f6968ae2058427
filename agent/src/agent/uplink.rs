//! Keeps a connection to the collector: tells it what the spool holds, sends records, takes acks.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use highwater_ipc::record::GapReason;
use highwater_ipc::session::{Hello, HostFacts, Now, SpooledEpoch, Welcome};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::journal::Journal;
use super::outbox::{Filled, Outbox};
use super::{Clock, Shared};
use crate::clock;
use crate::sampler::SamplerHandle;
use crate::sys::memory;
use crate::transport::address::Address;
use crate::transport::enrolment::Enrolment;
use crate::transport::pace::{self, Backoff, NowTimer, Silence, Unheard};
use crate::transport::session::{FromCollector, Session, SessionError, Start, ToCollector};
use crate::transport::stream::{self, DialError, Receiver, Sender};
use crate::transport::tls::{Clocks, TlsClient};

/// How long a collector may take from hello to welcome: it may wait 2 s for another agent's answer to a ping.
const WELCOME_PATIENCE: Duration = Duration::from_secs(30);
/// A difference of the two wall clocks beyond this is logged, milliseconds.
const SKEW_MS: u64 = 2000;
/// Most numbers that are passed over between two epochs.
const EPOCH_STEP: u64 = 1024;
/// How long a connection that takes nothing more may take to say why.
const REASON_PATIENCE: Duration = Duration::from_secs(1);

/// The agent's side of the connection, for as long as the agent runs.
pub(super) struct Uplink<'a> {
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Arc<Clock>,
    pub(super) sampler: &'a SamplerHandle,
    pub(super) facts: HostFacts,
    /// The configured address; `None` = the enrolment's.
    pub(super) collector: Option<String>,
    /// The configured interval, and the one in use, milliseconds.
    configured_ms: u32,
    interval_ms: Cell<u32>,
    identity: Option<(Enrolment, TlsClient)>,
    backoff: Backoff,
    /// Epochs that were refused one after the other.
    refused_epochs: u32,
    /// Why the last attempt failed, so that each reason is logged once.
    trouble: Option<String>,
    behind: Cell<bool>,
}

/// Why a connection ended.
enum Ended {
    /// All is acknowledged and the agent stops.
    Done,
    /// It failed; `refused` = in a way that only a person can mend.
    Failed { why: String, refused: bool },
    /// The epoch cannot go on.
    NewEpoch(GapReason),
}

/// What sending and receiving share.
struct Exchange {
    session: RefCell<Session>,
    pong: Cell<Option<u64>>,
    progress: Cell<bool>,
    /// Records wait for an ack before they may go.
    waits: Cell<bool>,
}

impl<'a> Uplink<'a> {
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Arc<Clock>,
        sampler: &'a SamplerHandle,
        facts: HostFacts,
        (collector, configured_ms): (Option<String>, u32),
    ) -> Self {
        Self {
            shared,
            clock,
            sampler,
            facts,
            collector,
            configured_ms,
            interval_ms: Cell::new(configured_ms),
            identity: None,
            backoff: Backoff::default(),
            refused_epochs: 0,
            trouble: None,
            behind: Cell::new(false),
        }
    }

    /// Connects again and again, until the agent stops.
    pub(super) async fn run(mut self) {
        loop {
            let ended = self.connection().await;
            let mut refused = false;
            match ended {
                Ended::Done => return,
                Ended::Failed { why, refused: r } => {
                    refused = r;
                    if self.trouble.as_ref() != Some(&why) {
                        warn!("not connected: {why}; records are kept and sent later");
                        self.trouble = Some(why);
                    }
                }
                Ended::NewEpoch(reason) => self.new_epoch(reason),
            }
            let random = clock::random().unwrap_or(0);
            let wait = if refused { self.backoff.wait_long(random) } else { self.backoff.wait(random) };
            if self.shared.is_stopping() {
                return;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.shared.stop_asked.notified() => return,
            }
        }
    }

    /// Begins another epoch. A state directory that was set back far meets a collector that knows many later epochs and
    /// does not say how many, so the number grows by 1, 2, 4, up to [`EPOCH_STEP`].
    fn new_epoch(&mut self, reason: GapReason) {
        let step = 2_u64.saturating_pow(self.refused_epochs).min(EPOCH_STEP);
        self.refused_epochs = self.refused_epochs.saturating_add(1);
        warn!(reason = reason.name(), "the collector's history is not this agent's: a new epoch begins");
        let begun = clock::random().map_err(|e| e.to_string());
        let begun = begun.and_then(|id| self.journal().begin_epoch(reason, id, step).map_err(|e| e.to_string()));
        if let Err(e) = begun {
            error!("a new epoch could not begin: {e}");
        }
    }

    /// One connection, from dialling to its end.
    async fn connection(&mut self) -> Ended {
        let shared = Arc::clone(&self.shared);
        let opened = tokio::select! {
            opened = timeout(WELCOME_PATIENCE, self.open()) => opened,
            () = shared.stop_asked.notified() => return Ended::Done,
        };
        let failed = |why: &str| Ended::Failed { why: why.to_owned(), refused: false };
        let (sender, mut receiver, session) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(ended)) => return ended,
            Err(_) => return failed("the collector did not answer within 30 s"),
        };
        let exchange = Exchange {
            session: RefCell::new(session),
            pong: Cell::new(None),
            progress: Cell::new(false),
            waits: Cell::new(false),
        };
        let ended = tokio::select! {
            ended = self.send(&exchange, sender) => ended,
            ended = self.receive(&exchange, &mut receiver) => ended,
        };
        if exchange.progress.get() {
            self.backoff.progress();
        }
        ended
    }

    /// Dials, says hello, understands the welcome.
    async fn open(&mut self) -> Result<(Sender, Receiver, Session), Ended> {
        let refused = |why: String| Ended::Failed { why, refused: true };
        let (address, tls) = self.identity().map_err(refused)?;
        let mut epochs = Vec::new();
        let hello = || {
            epochs = self.journal().spooled();
            // The collector compares the clocks: they are read last of all.
            let (facts, epochs) = (self.facts.clone(), epochs.clone());
            ToCollector::Hello(Hello { facts, epochs, now: self.clock.now() })
        };
        let opened = stream::open(&address, &tls, hello).await;
        let (sender, mut receiver) = opened.map_err(|e| self.failed(&address, &e))?;
        let welcome = match receiver.receive().await.map_err(|e| self.failed(&address, &e))? {
            FromCollector::Welcome(welcome) => welcome,
            _ => return Err(self.broken(&SessionError::OutOfTurn { what: "something before the welcome" })),
        };
        let session = self.start(&epochs, &welcome)?;
        self.say_connected(&address, &welcome);
        Ok((sender, receiver, session))
    }

    fn start(&self, epochs: &[SpooledEpoch], welcome: &Welcome) -> Result<Session, Ended> {
        let mut journal = self.journal();
        let start = Session::start(epochs, welcome, |no, seq| journal.chain_at(no, seq));
        match start.map_err(|e| self.broken(&e))? {
            Start::NewEpoch(reason) => Err(Ended::NewEpoch(reason)),
            Start::Go(mut session) => {
                for (no, next) in session.take_settled() {
                    journal.settle(no, next);
                }
                Ok(session)
            }
        }
    }

    fn say_connected(&mut self, address: &Address, welcome: &Welcome) {
        info!(collector = %address, session = welcome.session, "connected");
        (self.trouble, self.refused_epochs) = (None, 0);
        self.set_interval(welcome.interval_ms.unwrap_or(self.configured_ms));
        let here = self.clock.now().wall_ms;
        let skew_ms = here.saturating_sub(welcome.server_wall_ms);
        if skew_ms.unsigned_abs() > SKEW_MS {
            warn!(
                skew_ms,
                here_ms = here,
                collector_ms = welcome.server_wall_ms,
                "this host's wall clock and the collector's differ"
            );
        }
    }

    /// Address and TLS client of the stored enrolment, which may be a new one since the last connection.
    fn identity(&mut self) -> Result<(Address, TlsClient), String> {
        let mut journal = self.shared.journal();
        let enrolment = Enrolment::load(&mut *journal.state).map_err(|e| e.to_string())?;
        let enrolment = enrolment.ok_or("this host is no longer enrolled")?;
        if self.identity.as_ref().is_none_or(|(known, _)| *known != enrolment) {
            let tls = enrolment.tls(&mut *journal.state).map_err(|e| e.to_string())?;
            self.identity = Some((enrolment, tls));
        }
        let (enrolment, tls) = self.identity.as_ref().ok_or("this host is no longer enrolled")?;
        let address = self.collector.as_deref().unwrap_or(&enrolment.collector);
        Ok((Address::parse(address).map_err(|e| e.to_string())?, tls.clone()))
    }

    /// Sends until the connection fails, or the agent stops and all is acknowledged.
    async fn send(&self, exchange: &Exchange, sender: Sender) -> Ended {
        let mut outbox = Outbox::new(&exchange.session.borrow());
        let (mut now_timer, mut silence) = (NowTimer::default(), Silence::default());
        let mut before = exchange.session.borrow().acked();
        loop {
            let boot_us = self.clock.now().boot_us;
            let (epoch, next) = exchange.session.borrow().acked();
            outbox.acked(epoch, next);
            let acked = std::mem::replace(&mut before, (epoch, next)) != (epoch, next);
            say_silence(silence.look(boot_us, outbox.is_unheard(), acked));
            let message = match exchange.pong.take() {
                Some(nonce) => Some(ToCollector::Pong(nonce)),
                None if now_timer.due(boot_us) => self.present().filter(|_| outbox.tells_present()),
                None => None,
            };
            let message = message.or_else(|| self.records(exchange, &mut outbox, boot_us));
            if let Some(message) = message {
                if let Err(e) = sender.send(message).await {
                    // Receiving is told why, as a rule at once; it then ends the connection.
                    sleep(REASON_PATIENCE).await;
                    return Ended::Failed { why: e.to_string(), refused: false };
                }
                continue;
            }
            if self.shared.is_stopping() && self.journal().all_acked() {
                return Ended::Done;
            }
            let wait = now_timer.wait(boot_us).min(outbox.wait(boot_us, self.interval_ms.get()));
            let _ = timeout(wait, self.shared.changed.notified()).await;
        }
    }

    /// The next records, if it is time to send them.
    fn records(&self, exchange: &Exchange, outbox: &mut Outbox, boot_us: u64) -> Option<ToCollector> {
        exchange.waits.set(!outbox.has_room());
        if exchange.waits.get() {
            return None;
        }
        let mut session = exchange.session.borrow_mut();
        let full = loop {
            // The lock is let go of between rounds: a sample may wait for it.
            match outbox.fill(&mut self.journal(), &mut session, boot_us) {
                Filled::More => {}
                Filled::Full => break true,
                Filled::Drained => break false,
            }
        };
        let ripe = full || self.shared.is_stopping() || outbox.is_ripe(boot_us, self.interval_ms.get());
        if ripe { outbox.take() } else { None }
    }

    /// Takes what the collector says, until the connection fails.
    async fn receive(&self, exchange: &Exchange, receiver: &mut Receiver) -> Ended {
        loop {
            let message = match receiver.receive().await {
                Ok(message) => message,
                Err(e) => return self.lost(&e),
            };
            match message {
                FromCollector::Ack(no, next) => match exchange.session.borrow_mut().ack(no, next) {
                    Ok((no, next)) => {
                        self.journal().settle(no, next);
                        if !exchange.progress.replace(true) {
                            // To begin and to shake hands takes more memory than to go on.
                            memory::give_back();
                        }
                        if exchange.waits.get() || self.shared.is_stopping() {
                            self.shared.changed.notify_one();
                        }
                    }
                    Err(e) => return self.broken(&e),
                },
                FromCollector::Keyframe => self.journal().request_keyframe(),
                FromCollector::Interval(ms) => self.set_interval(ms),
                FromCollector::Ping(nonce) => {
                    exchange.pong.set(Some(nonce));
                    self.shared.changed.notify_one();
                }
                FromCollector::Welcome(_) => {
                    return self.broken(&SessionError::OutOfTurn { what: "a second welcome" });
                }
            }
        }
    }

    /// The present, if history is behind; logs when that changes.
    fn present(&self) -> Option<ToCollector> {
        let mut journal = self.journal();
        let oldest = journal.backlog_from_ms();
        let now_ms = self.clock.now().wall_ms;
        let behind = oldest.filter(|oldest| pace::is_behind(*oldest, now_ms, self.interval_ms.get()));
        if behind.is_some() != self.behind.replace(behind.is_some()) {
            match behind {
                Some(oldest) => info!(seconds = now_ms.saturating_sub(oldest) / 1000, "behind: sending a backlog"),
                None => info!("caught up"),
            }
        }
        let backlog_from_ms = behind?;
        let (at, state) = journal.now()?;
        Some(ToCollector::Now(Box::new(Now { backlog_from_ms, at, state })))
    }

    fn set_interval(&self, ms: u32) {
        self.interval_ms.set(ms);
        self.sampler.set_interval(ms);
    }

    fn failed(&self, address: &Address, error: &DialError) -> Ended {
        let (why, refused) = self.explain(error);
        Ended::Failed { why: format!("{address}: {why}"), refused }
    }

    fn lost(&self, error: &DialError) -> Ended {
        let (why, refused) = self.explain(error);
        Ended::Failed { why, refused }
    }

    fn explain(&self, error: &DialError) -> (String, bool) {
        let not_after_ms = self.identity.as_ref().map(|(enrolment, _)| enrolment.not_after_ms);
        match error.about_certificates(Clocks { now_ms: self.clock.now().wall_ms, not_after_ms }) {
            Some(why) => (why, true),
            None => (error.to_string(), error.is_refusal()),
        }
    }

    fn broken(&self, error: &SessionError) -> Ended {
        Ended::Failed { why: error.to_string(), refused: true }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.shared.journal()
    }
}

/// The protocol does not say why no ack comes; whoever runs the collector can ask it.
fn say_silence(unheard: Option<Unheard>) {
    match unheard {
        Some(Unheard::Since(seconds)) => warn!(
            seconds,
            "the collector acknowledges nothing: its database may be away or its disk full (`highwater doctor` says so \
             there); records are kept and sent again"
        ),
        Some(Unheard::Over) => info!("the collector acknowledges records again"),
        None => {}
    }
}
