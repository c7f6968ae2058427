//! The only caller that adds frames: one group of hosts, one transaction, the guard first.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_ipc::text::HostText;
use tracing::{error, warn};

use super::ack::{Durable, Ended, Position};
use super::arrival::Arrival;
use super::backoff::Backoff;
use super::batch::{self, Attempt, Run};
use super::plan::{self, Context, Plan};
use super::worker::Worker;
use crate::health::Part;
use crate::host::HostId;
use crate::store::day::Day;
use crate::store::tx::{Committed, Dedicated};
use crate::store::{StoreError, frame, gap, host_facts, host_status, stream, stretch};

/// A host's records go back to planning this often when the guard refuses them; then its session ends.
const MOST_RELOADS: u32 = 5;
/// After a refused record a host shares no commit for this many of its own: one that is refused again and again costs
/// others a commit to be halved this seldom.
const APART: u32 = 64;

/// What became of a transaction.
enum Outcome {
    /// It is committed; it stored what it had of these hosts.
    Stored { moved: BTreeSet<HostId>, proof: Committed },
    /// The database refuses a value in it.
    Refused {
        /// Its words, escaped.
        detail: String,
        /// It may be no value, but a partition that is gone.
        lacks_partition: bool,
    },
    /// The collector is stopping.
    GaveUp,
}

impl Worker {
    /// Tries to commit runs of one bucket and acks them. What was refused comes back, in order, to be tried again in
    /// smaller groups, until each record is stored, in a gap, or its session is over.
    pub(super) async fn commit(&mut self, attempt: Attempt) -> Vec<Attempt> {
        let Attempt { runs, reloads, partitions_read, again } = attempt;
        if reloads > 0 && !self.reload(runs.first(), reloads).await {
            return Vec::new();
        }
        let (runs, plans) = self.plan(runs).await;
        if plans.is_empty() {
            return Vec::new();
        }
        match self.store(&plans).await {
            Outcome::Stored { moved, proof } => {
                let mut refused = Vec::new();
                for (run, plan) in runs.into_iter().zip(Arc::unwrap_or_clone(plans)) {
                    if moved.contains(&plan.host) {
                        self.adopt(plan, &proof, again);
                    } else {
                        let runs = vec![run];
                        refused.push(Attempt { runs, reloads: reloads + 1, partitions_read, again: true });
                    }
                }
                refused
            }
            // Dropped by somebody, or not in the backup that the database was restored from: no record's fault.
            Outcome::Refused { lacks_partition: true, .. } if !partitions_read => {
                let (partitions, now_ms) = (Arc::clone(&self.partitions), self.clock.now_ms());
                partitions.read_again(&mut self.link, now_ms, &self.give_up).await;
                vec![Attempt { runs, reloads: 0, partitions_read: true, again: true }]
            }
            Outcome::Refused { detail, .. } => {
                if let [run] = runs.as_slice()
                    && let Some(entry) = self.entry(run.host, run.session)
                {
                    entry.apart = APART;
                }
                match batch::halve(runs) {
                    Ok((first, second)) => {
                        [first, second].map(|runs| Attempt { runs, reloads: 0, partitions_read, again: true }).into()
                    }
                    Err(single) => {
                        if let Some(run) = single {
                            self.refuse(&run, detail).await;
                        }
                        Vec::new()
                    }
                }
            }
            Outcome::GaveUp => {
                self.end_all();
                Vec::new()
            }
        }
    }

    /// Plans what is still wanted; runs and plans correspond.
    async fn plan(&mut self, runs: Vec<Run>) -> (Vec<Run>, Arc<Vec<Plan>>) {
        let received = self.moment();
        let received_ms = received.wall_ms;
        let samples = runs.iter().flat_map(|run| run.items.iter().map(|item| item.arrival.at.wall_ms));
        let partitions = Arc::clone(&self.partitions);
        let missing = partitions.missing(samples, received_ms);
        if !missing.is_empty() {
            partitions.make(&mut self.link, missing, &self.give_up).await;
        }
        let day = |wall_ms| partitions.day(wall_ms, received_ms);
        let context = Context { received, day: &day };
        let mut kept = Vec::with_capacity(runs.len());
        let mut plans = Vec::with_capacity(runs.len());
        for run in runs {
            let Some(entry) = self.entry(run.host, run.session) else { continue };
            let arrivals: Vec<&Arrival> = run.items.iter().map(|item| &item.arrival).collect();
            match plan::plan(run.host, &entry.state, run.epoch, &arrivals, &context) {
                Ok(Some(plan)) => {
                    plans.push(plan);
                    kept.push(run);
                }
                Ok(None) => {}
                Err(why) => self.end(run.host, Ended::DoesNotFollow(why.to_string())),
            }
        }
        (kept, Arc::new(plans))
    }

    /// Asks until the database answers: the guard makes asking again safe, whatever became of the time before.
    async fn store(&mut self, plans: &Arc<Vec<Plan>>) -> Outcome {
        let mut backoff = Backoff::default();
        let received_ms = self.clock.now_ms();
        let records = plans.iter().map(|plan| plan.frames.len() as u64).sum();
        loop {
            let plans = Arc::clone(plans);
            match self.link.run(move |connection| Box::pin(transaction(connection, plans, received_ms))).await {
                Ok((moved, proof)) => {
                    self.health.committed(self.number, self.clock.now_ms(), records);
                    return Outcome::Stored { moved, proof };
                }
                Err(error) if error.refused_value() => {
                    let lacks_partition = error.may_lack_partition();
                    return Outcome::Refused { detail: words(&error), lacks_partition };
                }
                Err(error) => {
                    warn!(%error, tries = backoff.tries(), "committing records; trying again, agents keep theirs");
                    self.health.failed(
                        Part::Writer(self.number),
                        self.clock.now_ms(),
                        error.to_string(),
                        error.sqlstate(),
                    );
                    tokio::select! {
                        () = self.give_up.cancelled() => return Outcome::GaveUp,
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
            }
        }
    }

    /// After the commit: the host's new state, and its ack.
    fn adopt(&mut self, plan: Plan, proof: &Committed, again: bool) {
        let stream = &plan.step.after;
        let position = Position { epoch: stream.epoch.no, next: stream.next };
        let Some(entry) = self.entry(plan.host, stream.session) else { return };
        if plan.wants_keyframe {
            entry.outbox.want_keyframe();
        }
        entry.outbox.ack(Durable::witnessed(position, proof));
        entry.state = plan.after;
        if !again {
            entry.apart = entry.apart.saturating_sub(1);
        }
    }

    /// The guard refused a host's records: somebody else moved its stream, or this very commit did before its answer
    /// was lost. Reads what is stored; `false` if the session is over.
    async fn reload(&mut self, run: Option<&Run>, times: u32) -> bool {
        let Some(run) = run else { return false };
        let (host, session) = (run.host, run.session);
        let mut backoff = Backoff::default();
        let read = loop {
            match self.link.run(move |connection| Box::pin(super::open::read(connection, host))).await {
                Ok(read) => break read,
                Err(error) => {
                    warn!(%error, %host, "reading what is stored of a host; trying again");
                    tokio::select! {
                        () = self.give_up.cancelled() => return false,
                        () = tokio::time::sleep(backoff.next()) => {}
                    }
                }
            }
        };
        let Some(entry) = self.entry(host, session) else { return false };
        let Some(stream) = read.streams.iter().find(|s| s.epoch.no == run.epoch && s.session == session) else {
            self.end(host, Ended::Replaced);
            return false;
        };
        if !entry.state.is_kept_by(&read.streams) && read.settling {
            warn!(%host, "a commit is acknowledged and not visible yet; its agent is told to come back");
            self.end(host, Ended::DoesNotFollow("the latest commit is not visible yet; connect again".to_owned()));
            return false;
        }
        if !entry.state.is_kept_by(&read.streams) {
            warn!(%host, "records that were stored are gone: the database was restored; its agent is asked for them again");
            self.end(host, Ended::DoesNotFollow("the database was restored from a backup; connect again".to_owned()));
            return false;
        }
        if times > MOST_RELOADS {
            error!(%host, epoch = run.epoch.0, next = stream.next.0, "the guard refuses what follows what is stored");
            self.end(host, Ended::DoesNotFollow("the collector cannot place these records".to_owned()));
            return false;
        }
        let position = Position { epoch: run.epoch, next: stream.next };
        if stream.next > entry.state.streams.get(&run.epoch).map_or(stream.next, |s| s.next) {
            entry.outbox.ack(Durable::witnessed(position, &read.proof));
        }
        let known = std::mem::take(&mut entry.state.streams);
        entry.state.streams =
            read.streams.into_iter().filter(|s| known.contains_key(&s.epoch.no)).map(|s| (s.epoch.no, s)).collect();
        entry.state.facts = read.facts.map(Arc::new);
        true
    }

    /// One record that the database refuses becomes a gap, in its words.
    async fn refuse(&mut self, run: &Run, detail: String) {
        let Some(item) = run.items.first() else { return };
        let received = self.moment();
        let Some(entry) = self.entry(run.host, run.session) else { return };
        warn!(host = %run.host, epoch = run.epoch.0, seq = item.arrival.seq.0, %detail, "a record cannot be stored");
        let refused = {
            // No frame is stored, so no day is chosen.
            let context = Context { received, day: &|_| Day::FALLBACK };
            plan::refuse(run.host, &entry.state, (run.epoch, &item.arrival), detail, &context)
        };
        let Some(plan) = refused else { return };
        match self.store(&Arc::new(vec![plan.clone()])).await {
            Outcome::Stored { moved, proof } if moved.contains(&run.host) => self.adopt(plan, &proof, true),
            // Moved by somebody else: this session is over, its agent comes back with what it holds.
            Outcome::Stored { .. } => self.end(run.host, Ended::Replaced),
            Outcome::Refused { detail, .. } => self.end(run.host, Ended::DoesNotFollow(detail)),
            Outcome::GaveUp => self.end_all(),
        }
    }
}

/// Stores of each plan everything or nothing.
async fn transaction(
    connection: &mut Dedicated,
    plans: Arc<Vec<Plan>>,
    received_ms: i64,
) -> Result<(BTreeSet<HostId>, Committed), StoreError> {
    let mut tx = connection.write().await?;
    let steps: Vec<_> = plans.iter().map(|plan| plan.step.clone()).collect();
    let moved: BTreeSet<HostId> = stream::advance(&mut tx, &steps).await?.into_iter().collect();
    let mine = || plans.iter().filter(|plan| moved.contains(&plan.host));
    let frames: Vec<_> = mine().flat_map(|plan| &plan.frames).collect();
    if !frames.is_empty() {
        frame::insert(&mut tx, &frames, received_ms).await?;
    }
    let opened: Vec<_> = mine().flat_map(|plan| plan.opened.iter().copied()).collect();
    if !opened.is_empty() {
        stretch::open(&mut tx, &opened).await?;
    }
    let closed: Vec<_> = mine().flat_map(|plan| plan.closed.iter().copied()).collect();
    if !closed.is_empty() {
        stretch::close(&mut tx, &closed).await?;
    }
    let gaps: Vec<_> = mine().flat_map(|plan| &plan.gaps).collect();
    if !gaps.is_empty() {
        gap::insert(&mut tx, &gaps).await?;
    }
    let facts: Vec<_> = mine().flat_map(|plan| &plan.facts).collect();
    if !facts.is_empty() {
        host_facts::insert(&mut tx, &facts).await?;
    }
    let ended: Vec<_> = mine().filter_map(|plan| plan.ended).collect();
    if !ended.is_empty() {
        stream::end(&mut tx, &ended).await?;
    }
    let status: Vec<_> = mine().filter_map(|plan| plan.status.clone()).collect();
    if !status.is_empty() {
        host_status::upsert(&mut tx, &status).await?;
    }
    let proof = tx.commit().await?;
    Ok((moved, proof))
}

/// The database's words, safe to show.
fn words(error: &StoreError) -> String {
    let code = error.sqlstate().unwrap_or_default();
    HostText::cut(format!("{code} {error}").as_bytes()).escaped()
}
