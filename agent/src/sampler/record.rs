//! Turns samples into the records of one epoch.
//!
//! Pure: no clock, no disk. The first sample is a keyframe; then a sample that read what the one before read is a
//! heartbeat (unless something happened since), any other a delta, unless a keyframe is due: asked for, an hour or [`DELTAS_PER_KEYFRAME`] after the last
//! one, after time without samples, where a delta would be larger, or where the wall clock was set (then an event
//! follows it, and a new stretch of time begins). Every record carries the chain of its predecessors; heartbeats leave it as it is.

use std::time::Duration;

use highwater_ipc::activity::Activity;
use highwater_ipc::codec::encode_body;
use highwater_ipc::delta::{Delta, diff};
use highwater_ipc::record::{Body, Chain, Content, Epoch, Event, GapReason, Keyframe, Record, RecordKind, Seq};
use highwater_ipc::snapshot::{BootId, Namespace, Snapshot, State};
use highwater_ipc::time::At;
use highwater_proto::bounds::{CLOCK_STEP_MS, GAP_INTERVALS};
use highwater_proto::chain;

use super::assemble::Sample;

/// Time after which a keyframe is due although nothing asks for one.
pub const KEYFRAME_EVERY: Duration = Duration::from_secs(3600);

/// A keyframe is due once the deltas behind the last one hold this many times its bytes (and [`LEAST_DELTA_BYTES`]), so
/// that whoever reads a state folds a bounded multiple of it, at a bounded price in bytes: half of the deltas'.
pub const DELTAS_PER_KEYFRAME: usize = 2;

/// Fewer bytes of deltas than this are never worth a keyframe: some 300 small ones.
pub const LEAST_DELTA_BYTES: usize = 16 << 10;

/// Makes the records of one epoch.
#[derive(Debug)]
pub struct Recorder {
    epoch: Epoch,
    boot_id: BootId,
    keyframe_every_us: u64,
    next: Seq,
    chain: Chain,
    /// A keyframe is due, whatever the next sample reads.
    keyframe_due: bool,
    /// Why samples are missing before the next one, as told from outside.
    gap: Option<GapReason>,
    last: Option<Last>,
    keyframe_boot_us: u64,
    keyframe_bytes: usize,
    /// Bytes of the deltas since that keyframe.
    delta_bytes: usize,
}

#[derive(Debug)]
struct Last {
    at: At,
    awake_us: u64,
    state: State,
    /// First sample of this stretch of wall time.
    stretch: At,
}

impl Recorder {
    /// The records of that epoch, sampled in that boot. `gap` is why samples are missing before its first one, as far
    /// as the agent knows.
    pub fn new(epoch: Epoch, boot_id: BootId, gap: Option<GapReason>, keyframe_every: Duration) -> Self {
        Self {
            epoch,
            boot_id,
            keyframe_every_us: u64::try_from(keyframe_every.as_micros()).unwrap_or(u64::MAX),
            next: Seq(0),
            chain: Chain::default(),
            keyframe_due: true,
            gap,
            last: None,
            keyframe_boot_us: 0,
            keyframe_bytes: 0,
            delta_bytes: 0,
        }
    }

    /// The records of one sample, in order: one, or a keyframe and the event of a clock that was set.
    pub fn sample(&mut self, sample: Sample) -> Vec<Record> {
        let Sample { snapshot: Snapshot { at, took_us, state }, awake_us, activity } = sample;
        let step = self.clock_step(&at);
        // A reason that was given from outside knows more than the clocks do.
        let gap = self.gap.or_else(|| self.gap_by_clocks(&at, awake_us));
        let due = self.keyframe_due || step.is_some() || gap.is_some() || self.keyframe_is_old(&at);
        let mut records = vec![match &self.last {
            Some(last) if !due => self.change(last, (at, took_us), &state, activity),
            _ => self.keyframe((at, took_us), &state, gap, activity),
        }];
        self.account_for(&records[0], &at);
        if let Some(event) = step {
            let body = Body { at, content: Content::Event(event) };
            let event = self.record(RecordKind::Event, encode_body(&body));
            self.account_for(&event, &at);
            records.push(event);
        }
        let stretch = self.last.as_ref().filter(|_| step.is_none()).map_or(at, |last| last.stretch);
        self.last = Some(Last { at, awake_us, state, stretch });
        records
    }

    /// The next sample becomes a keyframe.
    pub fn request_keyframe(&mut self) {
        self.keyframe_due = true;
    }

    /// The next sample becomes a keyframe that says why samples are missing before it.
    pub fn request_keyframe_after(&mut self, gap: GapReason) {
        (self.keyframe_due, self.gap) = (true, Some(gap));
    }

    /// The epoch's last record: the agent was stopped in order at that time.
    pub fn stop(&mut self, at: At) -> Record {
        let body = Body { at, content: Content::GapReason(GapReason::AgentStopped) };
        let record = self.record(RecordKind::GapReason, encode_body(&body));
        self.account_for(&record, &at);
        record
    }

    /// Position and chain of the record that comes next.
    pub fn position(&self) -> (Seq, Chain) {
        (self.next, self.chain)
    }

    /// The epoch whose records these are.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The boot the epoch is sampled in.
    pub fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// When the last sample began, and what it read without its objects and their names: the present of a host whose
    /// history is behind.
    pub fn now(&self) -> Option<(At, State)> {
        self.last.as_ref().map(|last| (last.at, without_objects(&last.state)))
    }

    /// A delta or heartbeat, or a keyframe where that is smaller. What happened between two samples that read the same is
    /// a delta that changes nothing.
    fn change(&self, last: &Last, (at, took_us): (At, u32), state: &State, activity: Activity) -> Record {
        let nothing = || (!activity.is_empty()).then(|| Delta { took_us, ..Delta::default() });
        let Some(delta) = diff(&last.state, state, took_us).or_else(nothing) else {
            return self.record(RecordKind::Heartbeat, encode_body(&Body { at, content: Content::Heartbeat }));
        };
        let delta = Delta { activity: activity.clone(), ..delta };
        let body = encode_body(&Body { at, content: Content::Delta(delta) });
        if body.len() > least_keyframe_bytes(state) {
            let keyframe = self.keyframe((at, took_us), state, None, activity);
            if keyframe.body.len() <= body.len() {
                return keyframe;
            }
        }
        self.record(RecordKind::Delta, body)
    }

    fn keyframe(&self, (at, took_us): (At, u32), state: &State, gap: Option<GapReason>, activity: Activity) -> Record {
        let keyframe = Keyframe { gap, took_us, state: state.clone(), activity };
        self.record(RecordKind::Keyframe, encode_body(&Body { at, content: Content::Keyframe(keyframe) }))
    }

    fn record(&self, kind: RecordKind, body: Vec<u8>) -> Record {
        Record { kind, first_seq: self.next, seq: self.next, chain: self.chain, missing: None, body }
    }

    fn account_for(&mut self, record: &Record, at: &At) {
        if record.kind == RecordKind::Keyframe {
            (self.keyframe_due, self.gap) = (false, None);
            self.keyframe_boot_us = at.boot_us;
            (self.keyframe_bytes, self.delta_bytes) = (record.body.len(), 0);
        } else if record.kind == RecordKind::Delta {
            self.delta_bytes = self.delta_bytes.saturating_add(record.body.len());
        }
        self.chain = chain::after(record.chain, record.kind, &record.body);
        self.next = record.seq.next();
    }

    fn keyframe_is_old(&self, at: &At) -> bool {
        let most = self.keyframe_bytes.saturating_mul(DELTAS_PER_KEYFRAME).max(LEAST_DELTA_BYTES);
        at.boot_us.saturating_sub(self.keyframe_boot_us) >= self.keyframe_every_us || self.delta_bytes > most
    }

    /// Whether the wall clock was set: against the boot clock since the stretch began (so that many small steps count
    /// as one), or backwards at all (within a stretch wall time must not run back).
    fn clock_step(&self, at: &At) -> Option<Event> {
        let last = self.last.as_ref()?;
        let by_ms = at.step_since(&last.stretch);
        let stepped = by_ms.unsigned_abs() > CLOCK_STEP_MS.unsigned_abs() || at.wall_ms < last.at.wall_ms;
        stepped.then_some(Event::ClockStep { before: last.at, by_ms })
    }

    /// Why there were no samples for more than three planned intervals: if the host was asleep for most of that time,
    /// it was suspended, else the agent did not get to run.
    fn gap_by_clocks(&self, at: &At, awake_us: u64) -> Option<GapReason> {
        let last = self.last.as_ref()?;
        let passed = at.boot_since(&last.at);
        let planned = u64::from(last.state.interval_ms).saturating_mul(1000);
        if passed <= planned.saturating_mul(GAP_INTERVALS) {
            return None;
        }
        let awake = awake_us.saturating_sub(last.awake_us);
        let asleep = passed.saturating_sub(awake);
        Some(if asleep > passed / 2 { GapReason::Suspended } else { GapReason::Stalled })
    }
}

/// What a keyframe has at least: a byte for each row, and the fixed fields. Below it nothing need be packed to compare.
fn least_keyframe_bytes(state: &State) -> usize {
    let rows = |namespace: &Namespace| {
        let (sem, shm, msg) = (namespace.sem.as_deref(), namespace.shm.as_deref(), namespace.msg.as_deref());
        sem.map_or(0, <[_]>::len) + shm.map_or(0, <[_]>::len) + msg.map_or(0, <[_]>::len)
    };
    state.namespaces.iter().map(rows).sum::<usize>() + 100
}

fn without_objects(state: &State) -> State {
    let mut summary = State { users: Default::default(), groups: Default::default(), ..state.clone() };
    for namespace in &mut summary.namespaces {
        (namespace.sem, namespace.shm, namespace.msg) = (None, None, None);
    }
    summary
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
