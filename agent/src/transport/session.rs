//! One connection's state machine: what the welcome means, what is sent next, what an ack frees. Pure.
//!
//! Records go strictly in order of (epoch, seq). Consecutive heartbeats merge into one. Where the spool lacks records,
//! the next keyframe jumps: the collector finds the gap, the agent says why, beside the keyframe's body. (A record in
//! the place of the first missing one would be chained to: where one alone is missing, the keyframe right behind it
//! carries another chain, which is a fork after a reconnect.) Where the end of an epoch is gone no keyframe of it
//! follows: a gap reason takes the place of the first missing record.

use std::collections::VecDeque;

use highwater_ipc::codec::encode_body;
use highwater_ipc::record::{Body, Chain, Content, EpochNo, GapReason, Record, RecordKind, Seq};
use highwater_ipc::session::{Hello, Now, SpooledEpoch, Verdict, Welcome};
use highwater_ipc::time::At;
use highwater_proto::{bounds, chain};

/// What an agent says.
#[derive(Clone, Debug, PartialEq)]
pub enum ToCollector {
    /// The first message.
    Hello(Hello),
    /// Records of one epoch, in order.
    Records(EpochNo, Vec<Record>),
    /// The present, while history is behind.
    Now(Box<Now>),
    /// The answer to a ping.
    Pong(u64),
}

/// What a collector says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromCollector {
    /// The answer to hello.
    Welcome(Welcome),
    /// Everything before that position is durable.
    Ack(EpochNo, Seq),
    /// The next sample is to be sent whole.
    Keyframe,
    /// Sample at this interval, milliseconds.
    Interval(u32),
    /// Are you there?
    Ping(u64),
}

/// What a welcome decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Records can flow.
    Go(Session),
    /// The current epoch cannot go on: close it, open a new one whose first keyframe says this, and connect again.
    NewEpoch(GapReason),
}

/// A connection after its welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Epochs still to be sent, ascending; the first is being sent, the last is the current one.
    epochs: VecDeque<Place>,
    /// What can be freed at once: stored already, or never to be stored.
    settled: Vec<(EpochNo, Seq)>,
    acked: (EpochNo, Seq),
}

/// Where sending is in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    no: EpochNo,
    next: Seq,
    /// The chain that the record at `next` must carry for the collector.
    chain: Chain,
}

impl Place {
    /// What takes the place of the record that is missing here, after which none of this epoch follows.
    fn gap_reason(&self, reason: GapReason, at: At) -> Record {
        let body = encode_body(&Body { at, content: Content::GapReason(reason) });
        Record {
            kind: RecordKind::GapReason,
            first_seq: self.next,
            seq: self.next,
            chain: self.chain,
            missing: None,
            body,
        }
    }
}

impl Session {
    /// Compares a welcome with what the hello said. `chain_at` tells the chain of the spooled record that begins at
    /// that position, if it is held.
    pub fn start(
        hello: &[SpooledEpoch],
        welcome: &Welcome,
        mut chain_at: impl FnMut(EpochNo, Seq) -> Option<Chain>,
    ) -> Result<Start, SessionError> {
        if hello.len() != welcome.epochs.len() {
            return Err(SessionError::WrongEpochs);
        }
        let mut session = Self { epochs: VecDeque::new(), settled: Vec::new(), acked: Default::default() };
        for (i, (ours, theirs)) in hello.iter().zip(&welcome.epochs).enumerate() {
            if ours.epoch.no != theirs.no {
                return Err(SessionError::WrongEpochs);
            }
            let current = i + 1 == hello.len();
            let no = theirs.no;
            // Acks are cumulative: nothing behind an epoch that is still to be sent may count as settled.
            let first = session.epochs.is_empty();
            let known = theirs.next <= ours.next;
            let chain = match theirs.next {
                next if next == ours.next => Some(ours.chain),
                next if known => chain_at(no, next),
                _ => None,
            };
            let fits = known && chain.is_none_or(|chain| chain == theirs.chain);
            match theirs.verdict {
                Verdict::Continue if fits => {
                    session.settled.extend(first.then_some((no, theirs.next)));
                    if current || theirs.next < ours.next {
                        session.epochs.push_back(Place { no, next: theirs.next, chain: theirs.chain });
                    }
                }
                Verdict::HistoryRestored if current => return Ok(Start::NewEpoch(GapReason::HistoryRestored)),
                _ if current => return Ok(Start::NewEpoch(GapReason::Forked)),
                // An epoch that is over: all of it is stored (its tail was lost here with the machine), or none of
                // the rest can be.
                _ => session.settled.extend(first.then_some((no, ours.next))),
            }
        }
        Ok(Start::Go(session))
    }

    /// What the welcome allows to forget at once, ascending. An epoch given up behind one that is still to be sent goes
    /// with the acks of what follows it.
    pub fn take_settled(&mut self) -> Vec<(EpochNo, Seq)> {
        std::mem::take(&mut self.settled)
    }

    /// Where the spool is to be read next: nothing before it is needed.
    pub fn place(&self) -> (EpochNo, Seq) {
        self.epochs.front().map_or(self.acked, |p| (p.no, p.next))
    }

    /// Puts a record that was read at [`Session::place`] in line. `hole` says why records are missing before it, if
    /// some are. Returns what to send for it, in order: nothing if its epoch is not to be sent, else the record, which
    /// says why if it jumps; before it a gap reason where the end of an earlier epoch is missing.
    pub fn line_up(
        &mut self,
        no: EpochNo,
        mut record: Record,
        hole: Option<(GapReason, At)>,
    ) -> Vec<(EpochNo, Record)> {
        let mut left = None;
        while self.epochs.len() > 1 && self.epochs.front().is_some_and(|p| p.no < no) {
            let place = self.epochs.pop_front();
            left = left.or(place);
        }
        let Some(place) = self.epochs.front_mut().filter(|p| p.no == no) else { return Vec::new() };
        if record.seq < place.next {
            return Vec::new();
        }
        let mut out = Vec::with_capacity(2);
        if let Some((reason, at)) = hole {
            if record.first_seq > place.next {
                record.missing = Some(reason).filter(|_| record.kind == RecordKind::Keyframe);
            } else {
                out.extend(left.map(|left| (left.no, left.gap_reason(reason, at))));
            }
        }
        place.next = record.seq.next();
        place.chain = chain::after(record.chain, record.kind, &record.body);
        out.push((no, record));
        out
    }

    /// Everything before it is acknowledged.
    pub fn acked(&self) -> (EpochNo, Seq) {
        self.acked
    }

    /// What an ack frees: everything before the position it returns.
    pub fn ack(&mut self, no: EpochNo, next: Seq) -> Result<(EpochNo, Seq), SessionError> {
        let sent = self.epochs.front().map_or(self.acked, |p| (p.no, p.next));
        if (no, next) > sent {
            return Err(SessionError::NeverSent { epoch_no: no.0, seq: next.0 });
        }
        self.acked = self.acked.max((no, next));
        Ok(self.acked)
    }
}

/// Records that travel in one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    epoch: EpochNo,
    records: Vec<Record>,
    bytes: usize,
    urgent: bool,
    /// Holds one record that travels in parts.
    large: bool,
}

impl Batch {
    /// Bytes that a record takes in a message beside its body, at most.
    const OVERHEAD: usize = 64;
    /// Bytes of records in one message; leaves room for the message around them.
    const MOST: usize = bounds::MESSAGE - 1024;

    /// Adds a record; gives it back if it must travel in a later message.
    pub fn push(&mut self, epoch: EpochNo, record: Record) -> Result<(), Record> {
        if !self.records.is_empty() && epoch != self.epoch {
            return Err(record);
        }
        if let Some(last) = self.records.last_mut().filter(|last| merges(last, &record)) {
            (last.seq, last.body) = (record.seq, record.body);
            return Ok(());
        }
        let bytes = record.body.len() + Self::OVERHEAD;
        let large = record.body.len() > bounds::PART;
        let full = self.bytes + bytes > Self::MOST || self.records.len() >= bounds::RECORDS;
        if !self.records.is_empty() && (large || self.large || full) {
            return Err(record);
        }
        self.large = large;
        self.epoch = epoch;
        self.bytes += bytes;
        self.urgent |= record.kind.is_urgent();
        self.records.push(record);
        Ok(())
    }

    /// The position after its last record; `None` = nothing is in it.
    pub fn end(&self) -> Option<(EpochNo, Seq)> {
        self.records.last().map(|last| (self.epoch, last.seq.next()))
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether it holds something that must not wait: a keyframe, an event, a gap reason.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// The message, leaving an empty batch. A record with a body above [`bounds::PART`] is alone in it and travels in
    /// parts.
    pub fn take(&mut self) -> ToCollector {
        let batch = std::mem::take(self);
        ToCollector::Records(batch.epoch, batch.records)
    }
}

fn merges(last: &Record, next: &Record) -> bool {
    let beats = last.kind == RecordKind::Heartbeat && next.kind == RecordKind::Heartbeat;
    beats && last.seq.next() == next.first_seq && last.chain == next.chain
}

/// What a collector must not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The welcome answers other epochs than the hello asked about.
    #[error("the collector's welcome does not answer this agent's hello")]
    WrongEpochs,
    /// An ack of what it was not sent.
    #[error("the collector acknowledged epoch {epoch_no} up to seq {seq}, which it was never sent")]
    NeverSent {
        /// The epoch.
        epoch_no: u64,
        /// The position.
        seq: u64,
    },
    /// Another message where the welcome, or no welcome, belongs.
    #[error("the collector sent {what} out of turn")]
    OutOfTurn {
        /// Which message.
        what: &'static str,
    },
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
