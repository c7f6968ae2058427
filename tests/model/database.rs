//! PostgreSQL as the writer sees it: rows, the guard, whole transactions. Beside the rows it keeps a *ledger*, which the
//! real one has not: which sample of which machine each position came from. Copying it is a backup.

use std::collections::{BTreeMap, BTreeSet};

use highwater::host::HostId;
use highwater::store::frame::Frame;
use highwater::store::gap::Gap;
use highwater::store::stream::{Advance, Session, Stream};
use highwater::store::stretch::Opened;
use highwater::writer::batch::Run;
use highwater::writer::plan::Plan;
use highwater_ipc::record::{Epoch, EpochId, EpochNo, RecordKind, Seq};
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::At;

use crate::ground::{Kept, Truth, broken};
use crate::mutation::Mutation;

/// All that is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    pub(crate) up: bool,
    pub(crate) hosts: BTreeMap<HostId, Rows>,
    /// Changes with each transaction.
    pub(crate) version: u64,
}

/// Rows of one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) streams: BTreeMap<EpochNo, Stream>,
    pub(crate) frames: BTreeMap<(EpochNo, Seq), Frame>,
    pub(crate) stretches: BTreeMap<(EpochNo, u32), Stretch>,
    pub(crate) gaps: BTreeMap<(EpochNo, Seq), Gap>,
    pub(crate) status: Option<Status>,
    /// The sample behind each position that a sample was sent for.
    pub(crate) ledger: BTreeMap<(EpochNo, Seq), usize>,
}

/// A row of table `host_status`, as far as it decides who holds a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) session: Session,
    pub(crate) last_seen_ms: i64,
    pub(crate) interval_ms: i64,
    pub(crate) disconnected: bool,
}

/// A row of table `stretch`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) from: Opened,
    pub(crate) to: Option<At>,
}

/// What a transaction answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Stored what there was of these hosts.
    Stored(BTreeSet<HostId>),
    /// A value cannot be stored.
    Refused,
}

impl Database {
    /// All epochs of a host, ascending.
    pub(crate) fn streams(&self, host: HostId) -> Vec<Stream> {
        self.hosts.get(&host).map(|rows| rows.streams.values().cloned().collect()).unwrap_or_default()
    }

    /// The number that an enrolment gives.
    pub(crate) fn next_epoch_no(&self, host: HostId) -> u64 {
        self.hosts.get(&host).and_then(|rows| rows.streams.keys().next_back()).map_or(1, |no| no.0 + 1)
    }

    /// Drops abandoned epochs, adds missing ones and makes `session` the only one that may commit.
    pub(crate) fn open(
        &mut self,
        host: HostId,
        session: Session,
        now_ms: i64,
        (abandoned, missing): (&[EpochNo], &[(Epoch, BootId)]),
    ) -> Vec<Stream> {
        self.version += 1;
        let rows = self.hosts.entry(host).or_default();
        rows.streams.retain(|no, stream| stream.next > Seq(0) || !abandoned.contains(no));
        for (epoch, boot_id) in missing {
            rows.streams.entry(epoch.no).or_insert_with(|| Stream::new(*epoch, *boot_id, session));
        }
        for stream in rows.streams.values_mut() {
            stream.session = session;
        }
        if let Some(status) = &mut rows.status {
            *status = Status { session, last_seen_ms: now_ms, disconnected: false, ..*status };
        }
        self.streams(host)
    }

    /// Says that a session has ended.
    pub(crate) fn close(&mut self, host: HostId, session: Session) {
        let status = self.hosts.get_mut(&host).and_then(|rows| rows.status.as_mut());
        if let Some(status) = status.filter(|status| status.session == session) {
            status.disconnected = true;
        }
    }

    /// The session that holds a host, if nobody has said that it ended.
    pub(crate) fn held(&self, host: HostId) -> Option<Status> {
        self.hosts.get(&host).and_then(|rows| rows.status).filter(|status| !status.disconnected)
    }

    /// The writer's transaction: the guard, then what the plans hold of the hosts that moved. All or nothing.
    /// `machine_of` says which machine a session belongs to.
    pub(crate) fn store(
        &mut self,
        (runs, plans): (&[Run], &[Plan]),
        truth: &Truth,
        mutation: Option<Mutation>,
        machine_of: impl Fn(Session) -> usize,
    ) -> Kept<Answer> {
        let moved: BTreeSet<HostId> =
            plans.iter().filter(|plan| self.may_advance(&plan.step, mutation)).map(|plan| plan.host).collect();
        let storing = || runs.iter().zip(plans).filter(|(_, plan)| moved.contains(&plan.host));
        for (run, plan) in storing() {
            let refused = |frame: &Frame| {
                let sample = sample(truth, machine_of(run.session), plan.step.after.epoch, frame.seq);
                sample.is_some_and(|number| truth.samples[number].unstorable)
            };
            if plan.frames.iter().any(refused) {
                return Ok(Answer::Refused);
            }
        }
        self.version += 1;
        for (run, plan) in storing() {
            self.insert(run, plan, truth, machine_of(run.session))?;
        }
        Ok(Answer::Stored(moved))
    }

    /// `UPDATE stream .. WHERE next_seq = from AND session = mine`, and the epoch before stands where it was left.
    fn may_advance(&self, step: &Advance, mutation: Option<Mutation>) -> bool {
        let row = self.hosts.get(&step.host).and_then(|rows| rows.streams.get(&step.after.epoch.no));
        row.is_some_and(|row| {
            let stands_there = row.next == step.from || mutation == Some(Mutation::GuardDropped);
            let mine = row.session == step.after.session || mutation == Some(Mutation::SessionNotFenced);
            let before = step.before.is_none_or(|(no, next)| {
                self.hosts.get(&step.host).and_then(|rows| rows.streams.get(&no)).is_some_and(|row| row.next == next)
            });
            stands_there && mine && (before || mutation == Some(Mutation::GuardDropped))
        })
    }

    fn insert(&mut self, run: &Run, plan: &Plan, truth: &Truth, machine: usize) -> Kept {
        let rows = self.hosts.entry(plan.host).or_default();
        let after = &plan.step.after;
        let Some(row) = rows.streams.get_mut(&after.epoch.no) else { return broken("a stream vanished") };
        if row.session != after.session {
            return broken(format!("session {} stored although {} has fenced it", after.session.0, row.session.0));
        }
        if row.epoch != after.epoch {
            return broken(format!("{}: {:?} is stored as {:?}", plan.host, after.epoch, row.epoch));
        }
        row.clone_from(after);
        let epoch = after.epoch;
        for item in &run.items {
            let arrival = &item.arrival;
            if !matches!(arrival.kind, RecordKind::Keyframe | RecordKind::Delta | RecordKind::Heartbeat) {
                continue;
            }
            for seq in (arrival.first.0.max(plan.step.from.0)..=arrival.seq.0).map(Seq) {
                let Some(number) = sample(truth, machine, epoch, seq) else {
                    return broken(format!("{}: {epoch:?} {seq:?} was stored and never sampled", plan.host));
                };
                if truth.samples[number].host != plan.host {
                    return broken(format!("a sample of {} is stored as of {}", truth.samples[number].host, plan.host));
                }
                if rows.ledger.insert((epoch.no, seq), number).is_some() {
                    return broken(format!("{}: {epoch:?} {seq:?} is stored twice", plan.host));
                }
            }
        }
        for frame in &plan.frames {
            if rows.frames.insert((frame.epoch, frame.seq), frame.clone()).is_some() {
                return broken(format!("{}: frame {epoch:?} {:?} is stored twice", plan.host, frame.seq));
            }
        }
        for opened in &plan.opened {
            let fresh = Stretch { from: *opened, to: None };
            if rows.stretches.insert((opened.epoch, opened.stretch), fresh).is_some() {
                return broken(format!("{}: stretch {opened:?} begins twice", plan.host));
            }
        }
        for closed in &plan.closed {
            match rows.stretches.get_mut(&(closed.epoch, closed.stretch)) {
                Some(stretch) => stretch.to = Some(closed.at),
                None => return broken(format!("{}: {closed:?} ends and never began", plan.host)),
            }
        }
        if let Some(status) = &plan.status {
            let (session, last_seen_ms) = (status.session, status.last_seen_ms);
            let disconnected = rows.status.is_some_and(|status| status.disconnected);
            let interval_ms = i64::from(status.present.interval_ms);
            rows.status = Some(Status { session, last_seen_ms, interval_ms, disconnected });
        }
        for gap in &plan.gaps {
            if rows.gaps.insert((gap.epoch, gap.seq), gap.clone()).is_some() {
                return broken(format!("{}: gap {gap:?} is stored twice", plan.host));
            }
        }
        Ok(())
    }
}

/// Number of the sample that this machine took there.
fn sample(truth: &Truth, machine: usize, epoch: Epoch, seq: Seq) -> Option<usize> {
    truth.made[machine].get(&(epoch, seq)).copied()
}

/// What is durable, by epoch as it was made: what acks may say.
pub(crate) fn positions(database: &Database) -> impl Iterator<Item = ((HostId, EpochNo, EpochId), Seq)> {
    database.hosts.iter().flat_map(|(host, rows)| {
        rows.streams.values().map(|stream| ((*host, stream.epoch.no, stream.epoch.id), stream.next))
    })
}
