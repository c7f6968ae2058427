//! What goes into the next message: records read from the spool, lined up by the session, gathered in a batch. Pure but
//! for what it reads.

use std::collections::VecDeque;
use std::time::Duration;

use highwater_ipc::record::{EpochNo, Record, Seq};
use highwater_ipc::time::At;

use super::journal::Journal;
use crate::spool::{Position, Reader};
use crate::transport::pace;
use crate::transport::session::{Batch, Session, ToCollector};

/// Records taken from the spool while its lock is held.
const AT_ONCE: usize = 64;

/// Messages with records that are on their way and not acknowledged; beyond that, records wait in the spool. A collector
/// whose database is away then holds little of each agent, and what has waited travels in fuller messages.
const UNACKED: usize = 8;

/// How filling a batch ended.
pub enum Filled {
    /// It holds what one message can.
    Full,
    /// There may be more in the spool.
    More,
    /// The spool holds no more.
    Drained,
}

/// What was read from the spool and waits to be sent.
pub struct Outbox {
    reader: Reader,
    batch: Batch,
    /// Records that did not fit into the batch, and their times (boot time, microseconds).
    queue: VecDeque<(EpochNo, Record, u64)>,
    /// Time of the batch's first record.
    since_us: Option<u64>,
    /// Whoever made the records says that they are to go now.
    ripe: bool,
    /// Time of the last record read: a gap begins after it.
    last_at: Option<At>,
    /// Where each message that is not acknowledged ends, ascending.
    unacked: VecDeque<(EpochNo, Seq)>,
    /// Something was acknowledged since the present was told.
    heard: bool,
}

impl Outbox {
    /// Reads from where the session begins.
    pub fn new(session: &Session) -> Self {
        let (no, next) = session.place();
        let reader = Reader::new(Position { epoch_no: no.0, seq: next.0 });
        Self {
            reader,
            batch: Batch::default(),
            queue: VecDeque::new(),
            since_us: None,
            ripe: false,
            last_at: None,
            unacked: VecDeque::new(),
            heard: false,
        }
    }

    /// Everything before that position is acknowledged.
    pub fn acked(&mut self, epoch: EpochNo, next: Seq) {
        while self.unacked.front().is_some_and(|end| *end <= (epoch, next)) {
            self.unacked.pop_front();
            self.heard = true;
        }
    }

    /// Whether records are on their way that are not acknowledged.
    pub fn is_unheard(&self) -> bool {
        !self.unacked.is_empty()
    }

    /// Whether another message with records may go before an ack comes.
    pub fn has_room(&self) -> bool {
        self.unacked.len() < UNACKED
    }

    /// Whether the present may be told; if so, it is. Where no ack comes the collector stores nothing: once the records on
    /// their way are as many as may be, it is told no more than once.
    pub fn tells_present(&mut self) -> bool {
        let tells = self.has_room() || self.heard;
        self.heard &= !tells;
        tells
    }

    /// Puts the next records from the spool into the batch. To be called again after a message was taken: that tells the
    /// journal that nothing waits any more.
    pub fn fill(&mut self, journal: &mut Journal, session: &mut Session, boot_us: u64) -> Filled {
        if self.batch.is_empty() {
            (self.since_us, self.ripe) = (None, false);
        }
        for _ in 0..AT_ONCE {
            while let Some((no, record, at_us)) = self.queue.pop_front() {
                if let Err(record) = self.batch.push(no, record) {
                    self.queue.push_front((no, record, at_us));
                    return Filled::Full;
                }
                self.since_us.get_or_insert(at_us);
            }
            let Some(next) = journal.read(&mut self.reader) else {
                self.ripe |= journal.all_read(self.since_us);
                return Filled::Drained;
            };
            let hole = next.hole.map(|reason| (reason, self.last_at.unwrap_or(next.at)));
            self.last_at = Some(next.at);
            // A record of another boot may bear a time that is still to come.
            let at_us = next.at.boot_us.min(boot_us);
            let lined_up = session.line_up(next.epoch, next.record, hole);
            self.queue.extend(lined_up.into_iter().map(|(no, record)| (no, record, at_us)));
        }
        Filled::More
    }

    /// Whether what is in the batch should wait no longer.
    pub fn is_ripe(&self, boot_us: u64, interval_ms: u32) -> bool {
        let waited = self.waited(boot_us);
        self.ripe || self.batch.is_urgent() || waited.is_some_and(|waited| waited >= pace::hold(interval_ms))
    }

    /// How long to wait for a sample to say that there is something to send, before looking; for ever where an ack must
    /// come first.
    pub fn wait(&self, boot_us: u64, interval_ms: u32) -> Duration {
        if !self.has_room() {
            return Duration::MAX;
        }
        pace::rest(interval_ms, self.waited(boot_us))
    }

    /// How long the oldest record in the batch has waited; `None` = there is none.
    fn waited(&self, boot_us: u64) -> Option<Duration> {
        let since_us = self.since_us.filter(|_| !self.batch.is_empty())?;
        Some(Duration::from_micros(boot_us.saturating_sub(since_us)))
    }

    /// The message, if there is one, leaving an empty batch.
    pub fn take(&mut self) -> Option<ToCollector> {
        self.unacked.push_back(self.batch.end()?);
        Some(self.batch.take())
    }
}
