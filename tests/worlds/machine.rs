//! One host: its clocks, what it holds, and the agent on it, which makes records as the real one does and keeps them until
//! they are durable. How a commit, a session and a spool go wrong is the simulation's matter (`tests/model/`); here
//! records only come late, again, or not at all.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use highwater::host::HostId;
use highwater_ipc::codec;
use highwater_ipc::delta::{Delta, diff};
use highwater_ipc::record::{
    Body, Chain, Content, Epoch, EpochId, EpochNo, Event, GapReason, Keyframe, Record, RecordKind, Seq,
};
use highwater_ipc::session::{Hello, HostFacts, Now, SpooledEpoch};
use highwater_ipc::snapshot::{BootId, Namespace, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use highwater_proto::chain;
use highwater_tests::chance::Chance;

use crate::content;
use crate::stage::Session;

/// What a keyframe begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opens {
    /// Nothing: it is one amid continuous sampling.
    Nothing,
    /// A stretch: the clock was set.
    Stretch,
    /// A stretch after a gap, and why, as far as the agent knows.
    Gap(Option<GapReason>),
}

/// A record, and what is true of it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) epoch: EpochNo,
    pub(crate) boot_id: BootId,
    pub(crate) record: Record,
    pub(crate) body: Body,
    pub(crate) opens: Opens,
    /// What a sample read; of heartbeats the last one.
    pub(crate) state: Option<Arc<State>>,
}

/// A run of the agent.
#[derive(Clone, Debug)]
struct Run {
    epoch: Epoch,
    sampled: Option<Arc<State>>,
    /// What the next keyframe begins.
    due: Opens,
    /// The clock crept back in this stretch: once, so that it never becomes a step.
    crept: bool,
}

/// A host.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) host: HostId,
    /// The time it really is.
    pub(crate) true_ms: i64,
    /// By how much its wall clock is wrong.
    pub(crate) wrong_ms: i64,
    boot_us: u64,
    boot_id: BootId,
    boots: u8,
    state: State,
    run: Option<Run>,
    /// Why none runs, as its next one will say.
    ended: Option<GapReason>,
    next_epoch: u64,
    /// What is not durable yet.
    pub(crate) spool: VecDeque<Made>,
    /// What is, of this run: for sending it again.
    pub(crate) durable: Vec<Made>,
    epochs: Vec<SpooledEpoch>,
    pub(crate) session: Option<Session>,
}

impl Machine {
    pub(crate) fn new(host: HostId, true_ms: i64, chance: &mut Chance) -> Self {
        let mut this = Self {
            host,
            true_ms,
            wrong_ms: if chance.one_in(4) { 90_000 } else { 0 },
            boot_us: 60_000_000,
            boot_id: BootId::default(),
            boots: 0,
            state: State::default(),
            run: None,
            ended: None,
            next_epoch: 1 + chance.below(3),
            spool: VecDeque::new(),
            durable: Vec::new(),
            epochs: Vec::new(),
            session: None,
        };
        this.boot(chance);
        this
    }

    pub(crate) fn runs(&self) -> bool {
        self.run.is_some()
    }

    pub(crate) fn wall_ms(&self) -> i64 {
        self.true_ms + self.wrong_ms
    }

    fn at(&self) -> At {
        At { wall_ms: self.wall_ms(), boot_us: self.boot_us }
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, ms: i64) {
        self.true_ms += ms;
        self.boot_us += ms.unsigned_abs() * 1000;
    }

    fn interval_ms(&self) -> i64 {
        i64::from(self.state.interval_ms)
    }

    /// Samples in so long, at least one.
    pub(crate) fn intervals_of(&self, ms: i64) -> u64 {
        (ms / self.interval_ms()).max(1).unsigned_abs()
    }

    fn boot(&mut self, chance: &mut Chance) {
        self.boots += 1;
        self.boot_id = BootId([self.boots; 16]);
        self.boot_us = 5_000_000 + chance.below(60_000_000);
        self.state = content::after_boot(self.boot_id, u64::from(self.boots), chance);
    }

    /// An agent starts: a new epoch.
    pub(crate) fn start(&mut self) {
        self.epochs.retain(|epoch| self.spool.iter().any(|made| made.epoch == epoch.epoch.no));
        self.durable.clear();
        let epoch = Epoch { no: EpochNo(self.next_epoch), id: EpochId(self.next_epoch * 1000) };
        self.next_epoch += 1;
        let empty = SpooledEpoch { epoch, boot_id: self.boot_id, first: Seq(0), next: Seq(0), chain: Chain::default() };
        self.epochs.push(empty);
        let due = Opens::Gap(self.ended.take());
        self.run = Some(Run { epoch, sampled: None, due, crept: false });
    }

    /// The agent ends; its session with it.
    pub(crate) fn end(&mut self, why: GapReason) -> Option<Session> {
        self.run = None;
        self.ended.get_or_insert(why);
        self.session.take()
    }

    /// The agent is told to stop, and says so where it still can.
    pub(crate) fn say_stopped(&mut self, chance: &mut Chance) {
        if self.run.as_ref().is_some_and(|run| run.sampled.is_some()) && !chance.one_in(4) {
            // Its word may come so late that it lies in another day.
            self.pass(if chance.one_in(8) { 7_200_000 } else { 5 });
            self.make(Content::GapReason(GapReason::AgentStopped), 1, Opens::Nothing);
        }
    }

    /// The host goes down and comes up after so long; its agent died with it.
    pub(crate) fn reboot(&mut self, down_ms: i64, chance: &mut Chance) -> Option<Session> {
        let session = self.end(GapReason::HostDown);
        self.true_ms += down_ms;
        self.boot(chance);
        session
    }

    /// The state directory is lost: the agent enrols again and goes on with a number that it is told.
    pub(crate) fn lose_state(&mut self, chance: &mut Chance) -> Option<Session> {
        let session = self.end(GapReason::StateLost);
        self.ended = Some(GapReason::StateLost);
        self.next_epoch += chance.below(3);
        self.spool.clear();
        self.epochs.clear();
        session
    }

    /// What is stored is not what this epoch says: it is closed and another one opened.
    pub(crate) fn fork(&mut self) {
        self.end(GapReason::Forked);
        self.start();
    }

    /// The wall clock is set, and the next sample says so.
    pub(crate) fn set_clock(&mut self, by_ms: i64, chance: &mut Chance) {
        let before = self.at();
        self.wrong_ms += by_ms;
        let Some(run) = &mut self.run else { return };
        if run.sampled.is_none() {
            return;
        }
        run.due = Opens::Stretch;
        self.sample(chance.below(3), chance);
        self.make(Content::Event(Event::ClockStep { before, by_ms }), 1, Opens::Nothing);
    }

    /// The clock is slewed back by less than a step.
    pub(crate) fn creep(&mut self, chance: &mut Chance) {
        let Some(run) = self.run.as_mut().filter(|run| !run.crept) else { return };
        run.crept = true;
        self.wrong_ms -= 1 + i64::try_from(chance.below(400)).unwrap();
    }

    /// Samples are missing: nothing was scheduled for so many intervals.
    pub(crate) fn stall(&mut self, intervals: i64, why: GapReason, chance: &mut Chance) {
        let Some(run) = self.run.as_mut().filter(|run| run.sampled.is_some()) else { return };
        run.due = Opens::Gap(Some(why));
        self.pass(self.interval_ms() * (3 + intervals));
        self.sample(0, chance);
    }

    /// The next sample is whole, for no reason.
    pub(crate) fn keyframe(&mut self, chance: &mut Chance) {
        let Some(run) = &mut self.run else { return };
        // What it builds on is forgotten; nothing begins.
        if run.sampled.take().is_some() {
            self.sample(chance.below(2), chance);
        }
    }

    /// A sample, after so many things have happened.
    pub(crate) fn sample(&mut self, edits: u64, chance: &mut Chance) {
        if self.run.is_none() {
            return;
        }
        let tenths = 10 + i64::try_from(chance.below(18)).unwrap();
        self.pass((self.interval_ms() * tenths / 10).max(1));
        let now_s = self.wall_ms().div_euclid(1000);
        for _ in 0..edits {
            content::edit(&mut self.state, now_s, chance);
        }
        let activity = content::activity(&self.state, self.boot_us, chance);
        let took_us = 5 + u32::try_from(chance.below(50)).unwrap();
        let Some(run) = &mut self.run else { return };
        let opens = mem::replace(&mut run.due, Opens::Nothing);
        let before = run.sampled.replace(Arc::new(self.state.clone())).filter(|_| opens == Opens::Nothing);
        run.crept &= opens == Opens::Nothing;
        let content = match before {
            None => {
                let gap = if let Opens::Gap(why) = opens { why } else { None };
                Content::Keyframe(Keyframe { gap, took_us, state: self.state.clone(), activity })
            }
            Some(before) => match diff(&before, &self.state, took_us) {
                Some(delta) => Content::Delta(Delta { activity, ..delta }),
                None if activity.is_empty() => Content::Heartbeat,
                None => Content::Delta(Delta { took_us, activity, ..Delta::default() }),
            },
        };
        self.make(content, 1, opens);
    }

    /// So many samples that read nothing new.
    pub(crate) fn heartbeats(&mut self, count: u64) {
        let runs = self.run.as_ref().is_some_and(|run| run.sampled.is_some() && run.due == Opens::Nothing);
        if runs {
            self.pass(self.interval_ms() * i64::try_from(count).unwrap());
            self.make(Content::Heartbeat, count, Opens::Nothing);
        }
    }

    fn make(&mut self, content: Content, count: u64, opens: Opens) {
        let body = Body { at: self.at(), content };
        let (Some(run), Some(spooled)) = (&self.run, self.epochs.last_mut()) else { return };
        let (first_seq, seq) = (spooled.next, Seq(spooled.next.0 + count - 1));
        let kind = body.content.kind();
        let packed = codec::encode_body(&body);
        let record = Record { kind, first_seq, seq, chain: spooled.chain, missing: None, body: packed };
        spooled.next = seq.next();
        spooled.chain = chain::after(record.chain, kind, &record.body);
        let is_sample = matches!(kind, RecordKind::Keyframe | RecordKind::Delta | RecordKind::Heartbeat);
        let state = run.sampled.clone().filter(|_| is_sample);
        let (epoch, boot_id) = (run.epoch.no, self.boot_id);
        self.spool.push_back(Made { epoch, boot_id, record, body, opens, state });
    }

    /// The spool is full: what is oldest goes, up to a keyframe. Whether anything went.
    pub(crate) fn overflow(&mut self, chance: &mut Chance) -> bool {
        let keyframes: Vec<usize> =
            (1..self.spool.len()).filter(|i| self.spool[*i].record.kind == RecordKind::Keyframe).collect();
        if keyframes.is_empty() {
            return false;
        }
        self.spool.drain(..chance.pick(&keyframes));
        self.durable.clear();
        let first = &mut self.spool[0];
        if first.record.first_seq > Seq(0) {
            let own = if let Opens::Gap(own) = first.opens { own } else { None };
            first.record.missing = Some(GapReason::SpoolOverflow);
            first.opens = Opens::Gap(own.or(first.record.missing));
        }
        true
    }

    /// Whether what is stored of that one's epoch is, by number and chain, what this one made in it.
    pub(crate) fn said_as_much_as(&self, other: &Self) -> bool {
        let said = |of: &Self| of.epochs.last().map(|epoch| (epoch.next, epoch.chain));
        said(self) == said(other)
    }

    /// What it says when it connects.
    pub(crate) fn hello(&self) -> Hello {
        let facts = HostFacts {
            agent_version: HostText::from("0.1.0"),
            boot_id: self.boot_id,
            hostname: HostText::from(&*format!("h{}.", self.host.0)),
            ..HostFacts::default()
        };
        let first = |epoch: &SpooledEpoch| {
            let mut held = self.spool.iter().filter(|made| made.epoch == epoch.epoch.no);
            held.next().map(|made| made.record.first_seq)
        };
        let current = self.epochs.last().map(|epoch| epoch.epoch.no);
        let epochs = self.epochs.iter().filter(|epoch| first(epoch).is_some() || Some(epoch.epoch.no) == current);
        let epochs = epochs.map(|epoch| SpooledEpoch { first: first(epoch).unwrap_or(epoch.next), ..*epoch });
        Hello { facts, now: self.at(), epochs: epochs.collect() }
    }

    /// The present, as it is told while records wait.
    pub(crate) fn now(&self) -> Option<Now> {
        let run = self.run.as_ref()?;
        let state = State::clone(run.sampled.as_ref()?);
        let oldest = self.spool.front()?;
        let newest = self.spool.iter().rfind(|made| made.state.is_some() && made.epoch == run.epoch.no)?;
        let namespaces =
            state.namespaces.iter().map(|n| Namespace { sem: None, shm: None, msg: None, who: None, ..n.clone() });
        let state = State { namespaces: namespaces.collect(), ..state };
        Some(Now { backlog_from_ms: oldest.body.at.wall_ms, at: newest.body.at, state })
    }
}

/// The same records, with some neighbouring heartbeats as one.
pub(crate) fn merged<'m>(records: impl Iterator<Item = &'m Made>, chance: &mut Chance) -> Vec<Made> {
    let mut out: Vec<Made> = Vec::new();
    for made in records {
        let is_beat = made.record.kind == RecordKind::Heartbeat;
        match out.last_mut().filter(|last| {
            // As one they say when the last of them was: where the clock crept back that is not the latest time.
            let follows = last.epoch == made.epoch
                && last.record.seq.next() == made.record.first_seq
                && last.body.at.wall_ms <= made.body.at.wall_ms;
            is_beat && follows && last.record.kind == RecordKind::Heartbeat
        }) {
            Some(last) if chance.one_in(2) => {
                let first_seq = last.record.first_seq;
                *last = made.clone();
                last.record.first_seq = first_seq;
            }
            _ => out.push(made.clone()),
        }
    }
    out
}
