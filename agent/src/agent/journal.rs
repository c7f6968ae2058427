//! Where samples become spooled records, and spooled records come back to be sent: recorder, spool and epoch together,
//! so that all three always speak of the same place.

use highwater_ipc::activity::Did;
use highwater_ipc::codec::{decode_at, decode_body, decode_record, encode_record};
use highwater_ipc::record::{Chain, Content, Epoch, EpochId, EpochNo, GapReason, Record, RecordKind, Seq};
use highwater_ipc::session::SpooledEpoch;
use highwater_ipc::snapshot::{BootId, State};
use highwater_ipc::time::At;
use highwater_proto::chain;
use tracing::{error, info, warn};

use super::StartError;
use crate::sampler::record::KEYFRAME_EVERY;
use crate::sampler::{Recorder, Sample};
use crate::spool::disk::Disk;
use crate::spool::epoch::{self, Before, Begun, EpochError};
use crate::spool::{self, Entry, Hole, Kept, KeyframeDue, Label, Limits, Position, Reader, Spool, SpoolError};
use crate::transport::pace::Gate;

/// Recorder, spool and epoch of one agent.
pub struct Journal {
    pub(super) state: Box<dyn Disk>,
    spool: Spool,
    recorder: Recorder,
    begun: Begun,
    gate: Gate,
    /// The chain after the last record of each earlier epoch that is spooled.
    past: Vec<(u64, Chain)>,
    /// What was logged last, so that each change is logged once.
    disk_refuses: bool,
    unreadable: bool,
    ended: bool,
}

/// A record from the spool, and why others are missing before it.
pub struct Next {
    /// Its epoch.
    pub epoch: EpochNo,
    /// The record.
    pub record: Record,
    /// When its sample began, or its event happened.
    pub at: At,
    /// Why records are missing before it, if some are.
    pub hole: Option<GapReason>,
}

impl Journal {
    /// Opens the spool, in a directory of its own, and begins an epoch, durably. `enrolled_next` is the epoch number that
    /// enrolment gave.
    pub fn open(
        mut state: Box<dyn Disk>,
        spool: Box<dyn Disk>,
        limits: Limits,
        enrolled_next: u64,
        boot_id: BootId,
        epoch_id: u64,
    ) -> Result<Self, StartError> {
        let (mut spool, found) = Spool::open(spool, limits)?;
        if found.damaged > 0 {
            warn!(places = found.damaged, "the spool was damaged; history will show a gap `spool_damaged`");
        }
        if let Some(e) = spool.trouble() {
            warn!(error = %e, "the spool could not be tidied up; what can be read of it is kept and sent");
        }
        let mut past = Vec::new();
        for held in spool.epochs() {
            let no = held.label.epoch_no;
            if let Some(record) = spool.last_entry(no)?.and_then(|e| decode_record(&e.bytes).ok()) {
                past.push((no, chain::after(record.chain, record.kind, &record.body)));
            }
        }
        let last = epoch::load(&mut *state)?;
        let gap = reason(epoch::before(last.as_ref(), enrolled_next, &boot_id.0));
        // A state directory put together by hand may hold records of later epochs than its counter knows.
        let spooled = spool.epochs().last().map_or(0, |e| e.label.epoch_no).max(spool.acknowledged().epoch_no);
        let at_least = enrolled_next.max(spooled.saturating_add(1));
        let begun = epoch::begin(&mut *state, last.as_ref(), at_least, epoch_id, boot_id.0)?;
        spool.begin_epoch(label(&begun))?;
        let recorder = Recorder::new(name(&begun), boot_id, Some(gap), KEYFRAME_EVERY);
        info!(epoch = begun.epoch().no, reason = gap.name(), "sampling begins");
        Ok(Self {
            state,
            spool,
            recorder,
            begun,
            past,
            disk_refuses: false,
            unreadable: false,
            ended: false,
            gate: Gate::default(),
        })
    }

    /// Records a sample; whether it is time to wake whoever sends. Nothing is recorded after [`Journal::stop`].
    pub fn take(&mut self, mut sample: Sample) -> bool {
        if self.ended {
            return false;
        }
        // An epoch lies in one boot, also where the sampler could not read its id.
        sample.snapshot.state.boot_id = self.recorder.boot_id();
        match self.spool.keyframe_due() {
            Some(KeyframeDue::Overflow) => self.recorder.request_keyframe_after(GapReason::SpoolOverflow),
            Some(KeyframeDue::Segment) => self.recorder.request_keyframe(),
            None => {}
        }
        let (now_us, interval_ms) = (sample.snapshot.at.boot_us, sample.snapshot.state.interval_ms);
        // A refused call should reach whoever watches at once.
        let mut urgent = sample.activity.acts.iter().any(|act| matches!(act.did, Did::Refused(_)));
        for record in self.recorder.sample(sample) {
            urgent |= record.kind.is_urgent();
            self.append(&record, now_us);
        }
        if urgent {
            // What is worth sending at once is worth keeping through a crash of the machine.
            self.spool.sync(now_us);
        }
        self.gate.made(now_us, interval_ms, urgent)
    }

    /// Whoever sends has read all there is, the oldest record that it has not sent being of that time (boot time,
    /// microseconds). Whether what it read is to go now.
    pub fn all_read(&mut self, oldest_us: Option<u64>) -> bool {
        self.gate.read(oldest_us)
    }

    /// The last record: stopped in order at that time. Nothing is recorded after it.
    pub fn stop(&mut self, at: At) {
        if !self.ended && self.recorder.position().0 > Seq(0) {
            let record = self.recorder.stop(at);
            self.append(&record, at.boot_us);
        }
        self.ended = true;
    }

    /// Everything is on the disk, and after [`Journal::stop`] the next run knows that this one ended in order.
    pub fn close(&mut self, now_us: u64) {
        self.spool.close(now_us);
        if !self.ended {
            return;
        }
        if let Err(e) = epoch::end(&mut *self.state, &self.begun) {
            error!(error = %e, "the end in order could not be written down; the next run will say agent_killed");
        }
    }

    /// The current epoch cannot go on: what is left of it is given up, and the next sample begins another, whose number
    /// is `step` higher.
    pub fn begin_epoch(&mut self, reason: GapReason, id: u64, step: u64) -> Result<(), EpochError> {
        let before = self.begun.epoch();
        let boot_id = self.recorder.boot_id();
        self.begun = epoch::begin(&mut *self.state, Some(&before), before.no.saturating_add(step), id, boot_id.0)?;
        let end = Position { epoch_no: before.no, seq: self.recorder.position().0.0 };
        if let Err(e) = self.spool.begin_epoch(label(&self.begun)) {
            error!(error = %e, "beginning an epoch in the spool");
        }
        self.free(end);
        self.recorder = Recorder::new(name(&self.begun), boot_id, Some(reason), KEYFRAME_EVERY);
        Ok(())
    }

    /// The next sample is recorded whole.
    pub fn request_keyframe(&mut self) {
        self.recorder.request_keyframe();
    }

    /// What hello says about the spool: earlier epochs that are held (or of which all was dropped unacknowledged: the
    /// reason is still to be told), then the current one.
    pub fn spooled(&self) -> Vec<SpooledEpoch> {
        let current = self.begun.epoch();
        let (next, chain) = self.recorder.position();
        let mut held = self.spool.epochs();
        if let Some(lost) = self.spool.lost_epoch() {
            held.insert(held.partition_point(|e| e.label.epoch_no < lost.label.epoch_no), lost);
        }
        let earlier = held.iter().filter(|e| e.label.epoch_no < current.no).filter_map(|e| {
            let (_, chain) = self.past.iter().find(|(no, _)| *no == e.label.epoch_no)?;
            Some(SpooledEpoch {
                epoch: Epoch { no: EpochNo(e.label.epoch_no), id: EpochId(id_of(&e.label)) },
                boot_id: boot_of(&e.label),
                first: Seq(e.first_seq),
                next: Seq(e.next_seq),
                chain: *chain,
            })
        });
        let first = held.iter().find(|e| e.label.epoch_no == current.no).map_or(next, |e| Seq(e.first_seq));
        let current = SpooledEpoch { epoch: name(&self.begun), boot_id: BootId(current.boot_id), first, next, chain };
        earlier.chain(std::iter::once(current)).collect()
    }

    /// The chain of the record that begins at that position, if it is held.
    pub fn chain_at(&mut self, epoch: EpochNo, seq: Seq) -> Option<Chain> {
        let at = Position { epoch_no: epoch.0, seq: seq.0 };
        let entry = self.spool.read(&mut Reader::new(at))?.entry;
        let record = decode_record(&entry.bytes).ok().filter(|_| entry.start() == at)?;
        Some(record.chain)
    }

    /// The next record from the spool; what cannot be unpacked counts as damaged, and so does what builds on it.
    pub fn read(&mut self, reader: &mut Reader) -> Option<Next> {
        let mut damaged = false;
        loop {
            let from = reader.position().epoch_no;
            let read = self.spool.read(reader);
            self.say_unreadable();
            let spool::Read { entry, hole } = read?;
            let Some((record, at)) = unpack(&entry).filter(|_| !damaged || entry.keyframe) else {
                damaged = true;
                continue;
            };
            let hole = match hole {
                Some(Hole::Overflow) => Some(GapReason::SpoolOverflow),
                Some(Hole::Damaged) => Some(GapReason::SpoolDamaged),
                Some(Hole::Acked) => Some(GapReason::HistoryRestored),
                None => damaged.then_some(GapReason::SpoolDamaged),
            };
            // A keyframe made after records were dropped says so itself. The first one of an epoch speaks of how the
            // epoch before ended, not of whether its last records are still there.
            let tail = from < entry.epoch_no && entry.first_seq == 0;
            let hole = hole.filter(|_| tail || !says_why(&record));
            return Some(Next { epoch: EpochNo(entry.epoch_no), record, at, hole });
        }
    }

    /// The collector has everything before that position.
    pub fn settle(&mut self, epoch: EpochNo, next: Seq) {
        self.free(Position { epoch_no: epoch.0, seq: next.0 });
    }

    /// Whether everything that was recorded is acknowledged.
    pub fn all_acked(&self) -> bool {
        self.spool.acknowledged() >= self.end()
    }

    /// Wall time of the oldest record that is not acknowledged, `None` = there is none.
    pub fn backlog_from_ms(&mut self) -> Option<i64> {
        if self.all_acked() {
            return None;
        }
        let entry = self.spool.read(&mut Reader::new(self.spool.acknowledged()))?.entry;
        Some(unpack(&entry)?.1.wall_ms)
    }

    /// When the last sample began and what it read, without objects.
    pub fn now(&self) -> Option<(At, State)> {
        self.recorder.now()
    }

    fn end(&self) -> Position {
        let (next, _) = self.recorder.position();
        Position { epoch_no: self.begun.epoch().no, seq: next.0 }
    }

    /// Logs when the disk begins and ends to refuse reading. Whoever reads tries again with the next sample.
    fn say_unreadable(&mut self) {
        if self.unreadable == self.spool.is_unreadable() {
            return;
        }
        self.unreadable = self.spool.is_unreadable();
        match self.spool.trouble().filter(|_| self.unreadable) {
            Some(e) => warn!(error = %e, "the spool cannot be read just now; what it holds is kept and sent later"),
            None => info!("the spool can be read again"),
        }
    }

    fn free(&mut self, before: Position) {
        if let Err(e) = self.spool.acked(before) {
            warn!(error = %e, "acknowledged segments could not be removed; the next ack tries again");
        }
    }

    fn append(&mut self, record: &Record, now_us: u64) {
        let entry = Entry {
            epoch_no: self.begun.epoch().no,
            first_seq: record.first_seq.0,
            last_seq: record.seq.0,
            keyframe: record.kind == RecordKind::Keyframe,
            bytes: encode_record(record),
        };
        let appended = match self.spool.append(entry, now_us) {
            Ok(appended) => appended,
            Err(e) => {
                // Lost, and said by the keyframe that the spool asks for.
                error!(error = %e, "a record was not kept");
                self.recorder.request_keyframe_after(GapReason::SpoolOverflow);
                return;
            }
        };
        if let Some(dropped) = appended.dropped {
            warn!(from = %dropped.from, to = %dropped.to, bytes = dropped.bytes,
                "the spool is full: the oldest records were dropped; history will show a gap `spool_overflow`");
        }
        let refuses = appended.kept != Kept::Disk;
        if refuses != self.disk_refuses {
            self.disk_refuses = refuses;
            match self.spool.trouble().filter(|_| refuses) {
                Some(e) => warn!(error = %e, "the spool's disk refuses; records are kept in memory, up to 4 MiB"),
                None => info!("the spool's disk takes records again"),
            }
        }
    }
}

fn unpack(entry: &Entry) -> Option<(Record, At)> {
    let record = decode_record(&entry.bytes).ok()?;
    let at = decode_at(&record.body).ok()?;
    Some((record, at))
}

fn says_why(record: &Record) -> bool {
    let body = decode_body(record.kind, &record.body);
    body.is_ok_and(|body| matches!(body.content, Content::Keyframe(keyframe) if keyframe.gap.is_some()))
}

fn reason(before: Before) -> GapReason {
    match before {
        Before::Never => GapReason::BeforeFirst,
        Before::StateLost => GapReason::StateLost,
        Before::Stopped => GapReason::AgentStopped,
        Before::Killed => GapReason::AgentKilled,
        Before::OtherBoot => GapReason::HostDown,
    }
}

fn name(begun: &Begun) -> Epoch {
    Epoch { no: EpochNo(begun.epoch().no), id: EpochId(begun.epoch().id) }
}

/// Epoch id and boot id as the spool carries them.
fn label(begun: &Begun) -> Label {
    let epoch = begun.epoch();
    let mut tag = [0; 24];
    tag[..8].copy_from_slice(&epoch.id.to_le_bytes());
    tag[8..].copy_from_slice(&epoch.boot_id);
    Label { epoch_no: epoch.no, tag }
}

fn id_of(label: &Label) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = label.tag;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn boot_of(label: &Label) -> BootId {
    let mut id = [0; 16];
    id.copy_from_slice(&label.tag[8..]);
    BootId(id)
}

impl From<SpoolError> for StartError {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

impl From<EpochError> for StartError {
    fn from(error: EpochError) -> Self {
        Self::Epoch(error)
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
