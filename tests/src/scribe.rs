//! A host without an agent: it makes records of the states that it is given, hands them to a writer in this process, and
//! keeps what a reader must get back.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater::host::HostId;
use highwater::query::fold::Said;
use highwater::query::walk::{Place, Position};
use highwater::writer::ack::Outbox;
use highwater::writer::{Arrival, OpenRequest, Writer};
use highwater_ipc::activity::Activity;
use highwater_ipc::codec;
use highwater_ipc::delta::diff;
use highwater_ipc::record::{
    Body, Chain, Content, Epoch, EpochId, EpochNo, Event, GapReason, Keyframe, Record, RecordKind, Seq,
};
use highwater_ipc::session::{Hello, HostFacts, SpooledEpoch};
use highwater_ipc::snapshot::{BootId, Snapshot, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use highwater_proto::chain;

use crate::wait::PATIENCE;

/// How long each sample took, microseconds.
const TOOK_US: u32 = 250;
/// A keyframe is made after so many deltas, so that a state folds few of them.
const DELTAS: usize = 200;

/// One record that history must hold, as a walk gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where.
    pub position: Position,
    /// Wall clock of the sample before it in its epoch, milliseconds.
    pub prev_wall_ms: Option<i64>,
    /// What it says.
    pub said: Said,
}

/// The host.
#[derive(Clone)]
pub struct Scribe {
    host: HostId,
    epochs: Vec<SpooledEpoch>,
    boot_id: BootId,
    last: Option<State>,
    deltas: usize,
    covered: Option<At>,
    stretch: i32,
    unsent: VecDeque<(EpochNo, Record, Body)>,
    references: VecDeque<Reference>,
    /// What of it was sent.
    pub sent: Vec<Reference>,
}

impl Scribe {
    /// A host that has made nothing; begin an epoch.
    pub fn new(host: HostId) -> Self {
        Self {
            host,
            epochs: Vec::new(),
            boot_id: BootId::default(),
            last: None,
            deltas: 0,
            covered: None,
            stretch: -1,
            unsent: VecDeque::new(),
            references: VecDeque::new(),
            sent: Vec::new(),
        }
    }

    /// Its id.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// The next records are of another run of its agent.
    pub fn begin_epoch(&mut self, boot_id: BootId) {
        self.boot_id = boot_id;
        (self.last, self.covered, self.stretch) = (None, None, -1);
        let no = self.epochs.len() as u64 + 1;
        let epoch = Epoch { no: EpochNo(no), id: EpochId(no * 1000) };
        self.epochs.push(SpooledEpoch { epoch, boot_id, first: Seq(0), next: Seq(0), chain: Chain::default() });
    }

    /// A sample: a heartbeat, if it is equal to the one before. Of an epoch's first `gap` says why none came before.
    pub fn sample(&mut self, at: At, state: &State, gap: Option<GapReason>) {
        let is_whole = gap.is_some() || self.deltas >= DELTAS;
        let delta = self.last.as_ref().filter(|_| !is_whole).map(|last| diff(last, state, TOOK_US));
        let content = match delta {
            Some(Some(delta)) => Content::Delta(delta),
            Some(None) => Content::Heartbeat,
            None => {
                let state = state.clone();
                Content::Keyframe(Keyframe { gap, took_us: TOOK_US, activity: Activity::default(), state })
            }
        };
        let is_keyframe = matches!(content, Content::Keyframe(_));
        // As an agent, which has none due while nothing changes.
        self.deltas = match content {
            Content::Keyframe(_) => 0,
            Content::Delta(_) => self.deltas + 1,
            _ => self.deltas,
        };
        if is_keyframe && (gap.is_some() || self.stretch < 0) {
            self.stretch += 1;
        }
        let snapshot = Arc::new(Snapshot { at, took_us: TOOK_US, state: state.clone() });
        let said = Said::Sample { snapshot, gap, activity: Arc::default() };
        self.make(at, content, said);
        self.last = Some(state.clone());
        self.covered = Some(at);
    }

    /// The clock was set: a sample after it, and the event.
    pub fn step(&mut self, at: At, state: &State, by_ms: i64) {
        let before = self.covered.unwrap_or(at);
        self.deltas = DELTAS;
        self.stretch += 1;
        self.sample(at, state, None);
        let event = Event::ClockStep { before, by_ms };
        self.make(at, Content::Event(event), Said::Event(at, event));
    }

    /// The agent's last word.
    pub fn stop(&mut self, at: At) {
        let reason = GapReason::AgentStopped;
        self.make(at, Content::GapReason(reason), Said::GapReason(at, reason));
    }

    /// How many records wait to be sent.
    pub fn unsent(&self) -> usize {
        self.unsent.len()
    }

    /// The host's clock at the record that is sent next, milliseconds; `None` = all are sent.
    pub fn next_ms(&self) -> Option<i64> {
        self.unsent.front().map(|(_, _, body)| body.at.wall_ms)
    }

    /// Sends so many records in a session, and waits until they are acked.
    ///
    /// # Panics
    ///
    /// If the writer ends the session or does not ack them in time.
    pub async fn send(&mut self, writer: &Writer, most: usize) {
        let batch: Vec<_> = self.unsent.drain(..most.min(self.unsent.len())).collect();
        let Some((epoch, last, body)) = batch.last().cloned() else { return };
        let (handle, outbox) = (writer.handle(), Arc::new(Outbox::default()));
        let facts = HostFacts {
            agent_version: HostText::from("0.1.0"),
            boot_id: self.epochs.iter().find(|e| e.epoch.no == epoch).map_or(self.boot_id, |e| e.boot_id),
            hostname: HostText::from(format!("host-{}", self.host.0).as_str()),
            ..HostFacts::default()
        };
        let epochs: Vec<_> = self.epochs.iter().filter(|e| e.epoch.no <= epoch).cloned().collect();
        let hello = Hello { facts, now: body.at, epochs };
        let read_ms = handle.now_ms();
        let request =
            OpenRequest { host: self.host, enrolled_ms: read_ms, hello, read_ms, outbox: Arc::clone(&outbox) };
        let session = handle.open(request).await.expect("a session").session;
        for (epoch, record, body) in batch {
            if record.kind != RecordKind::Heartbeat {
                self.sent.extend(self.references.pop_front());
            }
            handle.record(self.host, session, epoch, Arrival::new(record, &body)).await.expect("a writer");
        }
        loop {
            let news = tokio::time::timeout(PATIENCE, outbox.take()).await.expect("news of the writer");
            assert_eq!(news.ended, None, "the session of {}", self.host);
            let mut acks = news.acks.into_values().map(|durable| durable.into_inner());
            if acks.any(|ack| ack.epoch == epoch && ack.next > last.seq) {
                break;
            }
        }
        handle.close(self.host, session).await.expect("a writer");
    }

    fn make(&mut self, at: At, content: Content, said: Said) {
        let spooled = self.epochs.last_mut().expect("an epoch");
        let (no, seq) = (spooled.epoch.no, spooled.next);
        let kind = content.kind();
        let body = Body { at, content };
        let packed = codec::encode_body(&body);
        let record = Record { kind, first_seq: seq, seq, chain: spooled.chain, missing: None, body: packed };
        spooled.chain = chain::after(record.chain, kind, &record.body);
        spooled.next = seq.next();
        self.unsent.push_back((no, record, body));
        if kind != RecordKind::Heartbeat {
            let position = Position { place: Place::own(no, self.stretch), seq };
            let prev_wall_ms = self.covered.map(|at| at.wall_ms);
            self.references.push_back(Reference { position, prev_wall_ms, said });
        }
    }
}
