//! A world: hosts, what befalls them, and what is done to their history meanwhile, step after step.

mod tending;

use std::collections::BTreeMap;

use highwater::compact::job::Round;
use highwater::host::HostId;
use highwater::store::Db;
use highwater_ipc::record::GapReason;
use highwater_tests::chance::Chance;

use crate::compare::compare;
use crate::compare_forgotten;
use crate::crooked::Mutation;
use crate::machine::{Machine, Made, merged};
use crate::stage::{Stage, Which};
use crate::truth::Truth;

/// An answer that is not true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

/// Whether every answer was true.
pub(crate) type Kept<T = ()> = Result<T, Broken>;

/// `Err` with these words.
pub(crate) fn broken<T>(words: impl Into<String>) -> Kept<T> {
    Err(Broken(words.into()))
}

/// 2026-12-24T12:00:00Z: a week, a month and a year end within what a world lasts.
pub(crate) const BEGIN_MS: i64 = 1_798_113_600_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What can happen next, with its weight.
const STEPS: [(&str, u64); 28] = [
    ("samples", 30),
    ("heartbeats", 9),
    ("a keyframe", 3),
    ("a stall", 3),
    ("a suspend", 2),
    ("a clock creeps back", 2),
    ("a clock set forward", 2),
    ("a clock set back", 3),
    ("a clock in 1970", 1),
    ("an agent stopped", 2),
    ("an agent killed", 2),
    ("a reboot", 2),
    ("a state directory lost", 1),
    ("an epoch forked", 1),
    ("a host woken twice", 2),
    ("a line cut", 5),
    ("a line back", 6),
    ("a spool overflow", 3),
    ("records sent again", 2),
    ("a compaction", 9),
    ("two compactions at once", 3),
    ("a compaction without a lease", 1),
    ("a merge", 4),
    ("days dropped", 2),
    ("the collector's clock set back", 1),
    ("questions beside a compaction", 5),
    ("weeks forgotten", 1),
    ("questions beside a forgetting", 1),
];

/// All that some world must come to, or nothing is proved of it.
pub(crate) fn to_be_seen() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|(name, _)| *name).chain([
        "a partition dropped",
        "records merged",
        "records compacted",
        "history forgotten",
        "spans of what is left",
    ])
}

/// How a world ended.
pub(crate) struct Ran {
    pub(crate) kept: Kept,
    /// What happened, step after step.
    pub(crate) trace: Vec<String>,
    pub(crate) tally: BTreeMap<&'static str, u64>,
}

struct World<'s> {
    stage: &'s mut Stage,
    chance: Chance,
    machines: Vec<Machine>,
    truths: Vec<Truth>,
    /// By how much the collector's clock is wrong.
    wrong_ms: i64,
    /// What came before may be gone: the end of the last week that was forgotten.
    horizon_ms: Option<i64>,
    mutation: Option<Mutation>,
    trace: Vec<String>,
    tally: BTreeMap<&'static str, u64>,
}

/// Plays a world.
pub(crate) async fn run(stage: &mut Stage, seed: u64, mutation: Option<Mutation>) -> Ran {
    let mut chance = Chance::new(seed);
    let begin_ms = BEGIN_MS + i64::try_from(chance.below(8 * 24)).unwrap() * HOUR_MS;
    let hosts = 1 + chance.weighted(&[5, 3, 1]).unwrap_or(0);
    let machines: Vec<_> = (0..hosts).map(|_| Machine::new(stage.host(), begin_ms, &mut chance)).collect();
    let mut world = World {
        stage,
        truths: vec![Truth::default(); machines.len()],
        chance,
        machines,
        wrong_ms: 0,
        horizon_ms: None,
        mutation,
        trace: Vec::new(),
        tally: BTreeMap::new(),
    };
    let kept = world.play().await;
    Ran { kept, trace: world.trace, tally: world.tally }
}

impl World<'_> {
    async fn play(&mut self) -> Kept {
        for at in 0..self.machines.len() {
            self.machines[at].start();
            self.connect(at).await?;
        }
        let steps = 15 + self.chance.below(35);
        for _ in 0..steps {
            let at = self.chance.index(self.machines.len());
            if !self.machines[at].runs() && self.chance.one_in(2) {
                self.machines[at].start();
                self.connect(at).await?;
            }
            let weights = STEPS.map(|(_, weight)| weight);
            let name = STEPS[self.chance.weighted(&weights).unwrap_or(0)].0;
            self.say(format!("{name}, host {}", self.machines[at].host));
            *self.tally.entry(name).or_default() += 1;
            self.step(name, at).await?;
        }
        self.end().await
    }

    fn say(&mut self, what: String) {
        let at: Vec<_> = self.machines.iter().map(|m| (m.true_ms - BEGIN_MS) / 1000).collect();
        self.trace.push(format!("{at:?} s: {what}"));
    }

    /// It is as late as on the latest host.
    fn tick(&self) -> i64 {
        let true_ms = self.machines.iter().map(|machine| machine.true_ms).max().unwrap_or(BEGIN_MS);
        self.stage.set_clock(true_ms + self.wrong_ms);
        true_ms
    }

    async fn step(&mut self, name: &'static str, at: usize) -> Kept {
        match name {
            "a line cut" => self.cut(at).await,
            "a line back" => return self.connect(at).await,
            "records sent again" => return self.send_again(at).await,
            "a host woken twice" => return self.wake_twice(at).await,
            "an epoch forked" => return self.fork(at).await,
            "a compaction"
            | "a merge"
            | "a compaction without a lease"
            | "two compactions at once"
            | "days dropped" => {
                return self.tend(name).await;
            }
            "questions beside a compaction" => return self.ask_beside().await,
            "weeks forgotten" => return self.forget().await,
            "questions beside a forgetting" => return self.ask_beside_forgetting().await,
            "the collector's clock set back" => self.wrong_ms -= HOUR_MS,
            _ => self.befall(name, at).await,
        }
        if self.chance.one_in(2) { self.flush(at, usize::MAX).await } else { Ok(()) }
    }

    /// What befalls a host.
    async fn befall(&mut self, name: &'static str, at: usize) {
        let Self { machines, chance, .. } = self;
        let machine = &mut machines[at];
        let small = i64::try_from(chance.below(200)).unwrap();
        let session = match name {
            "samples" => {
                for _ in 0..=chance.below(4) {
                    machine.sample(chance.below(4), chance);
                }
                None
            }
            "heartbeats" => {
                machine.heartbeats(1 + chance.below(machine.intervals_of(12 * HOUR_MS).min(3000)));
                None
            }
            "a keyframe" => return machine.keyframe(chance),
            "a stall" => return machine.stall(1 + small, GapReason::Stalled, chance),
            "a suspend" => return machine.stall(2000, GapReason::Suspended, chance),
            "a clock creeps back" => return machine.creep(chance),
            "a clock set forward" => {
                let by_ms = chance.pick(&[1_000, 90_000, HOUR_MS, 5 * DAY_MS]);
                return machine.set_clock(by_ms, chance);
            }
            "a clock set back" => {
                let by_ms = chance.pick(&[-1_000, -90_000, -HOUR_MS, -DAY_MS]);
                return machine.set_clock(by_ms, chance);
            }
            "a clock in 1970" => {
                let by_ms =
                    if machine.wall_ms() < BEGIN_MS / 2 { -machine.wrong_ms } else { 7_000 - machine.wall_ms() };
                return machine.set_clock(by_ms, chance);
            }
            "an agent stopped" => {
                machine.say_stopped(chance);
                let last = machine.end(GapReason::AgentStopped);
                machine.pass(1_000 + small * small * 1_000);
                last
            }
            "an agent killed" => {
                let last = machine.end(GapReason::AgentKilled);
                machine.pass(1_000 + small * 1_000);
                last
            }
            "a reboot" => machine.reboot(20_000 + small * small * 1_000, chance),
            "a state directory lost" => machine.lose_state(chance),
            "a spool overflow" => {
                machine.overflow(chance);
                None
            }
            _ => None,
        };
        if let Some(session) = session {
            session.close().await;
        }
    }

    async fn cut(&mut self, at: usize) {
        if let Some(session) = self.machines[at].session.take() {
            session.close().await;
        }
    }

    /// Says hello; what waits is sent, or a part of it, with the present beside it.
    async fn connect(&mut self, at: usize) -> Kept {
        self.tick();
        let machine = &mut self.machines[at];
        if machine.session.is_some() || !machine.runs() {
            return Ok(());
        }
        let (opened, session) = match self.stage.open(machine.host, machine.hello()).await {
            Ok(opened) => opened,
            Err(error) => return broken(format!("{} is not let in: {error}", machine.host)),
        };
        if opened.is_forked() {
            return broken(format!("{} is taken for a fork: {opened:?}", machine.host));
        }
        let now = machine.now().filter(|_| self.chance.one_in(2));
        let behind = now.is_some();
        if let Some(now) = now {
            session.now(now).await;
        }
        let waiting = machine.spool.len();
        machine.session = Some(session);
        if behind && waiting > 1 {
            self.flush(at, 1 + waiting / 2).await?;
            self.ask(at, 4).await?;
        }
        if self.chance.one_in(4) { Ok(()) } else { self.flush(at, usize::MAX).await }
    }

    /// Sends what waits, at most so many records, and waits until it is durable.
    async fn flush(&mut self, at: usize, most: usize) -> Kept {
        self.tick();
        let received_ms = self.stage.now_ms();
        let Self { machines, truths, chance, .. } = self;
        let machine = &mut machines[at];
        let Some(session) = machine.session.clone() else { return Ok(()) };
        let waiting: Vec<Made> = machine.spool.iter().take(most).cloned().collect();
        let Some(last) = waiting.last() else { return Ok(()) };
        // Where it was not heard that they are durable, they come again.
        let again = if chance.one_in(3) { chance.index(machine.durable.len() + 1) } else { 0 };
        let again = machine.durable.iter().rev().take(again).rev();
        for made in merged(again.chain(&waiting), chance) {
            session.send(&made).await?;
        }
        session.acked(last.epoch, last.record.seq.next()).await?;
        let epoch = last.epoch;
        for made in machine.spool.drain(..waiting.len()) {
            truths[at].store(&made, received_ms);
            machine.durable.push(made);
        }
        machine.durable.retain(|made| made.epoch == epoch);
        let old = machine.durable.len().saturating_sub(6);
        machine.durable.drain(..old);
        Ok(())
    }

    /// Durable records come again, and nothing else does.
    async fn send_again(&mut self, at: usize) -> Kept {
        let Self { machines, chance, .. } = self;
        let machine = &machines[at];
        if let Some(session) = &machine.session {
            for made in merged(machine.durable.iter(), chance) {
                session.send(&made).await?;
            }
        }
        self.ask(at, 2).await
    }

    /// The collector holds another chain than the agent, which opens another epoch.
    async fn fork(&mut self, at: usize) -> Kept {
        self.flush(at, usize::MAX).await?;
        let machine = &mut self.machines[at];
        if !machine.spool.is_empty() || machine.durable.is_empty() || !machine.runs() {
            return Ok(());
        }
        let mut hello = machine.hello();
        if let Some(current) = hello.epochs.last_mut() {
            current.chain.0[0] ^= 1;
        }
        match self.stage.open(machine.host, hello).await {
            Ok((opened, _)) if opened.is_forked() => machine.fork(),
            other => return broken(format!("{}: another chain is no fork: {:?}", machine.host, other.map(|o| o.0))),
        }
        machine.sample(1, &mut self.chance);
        self.connect(at).await
    }

    /// Two machines wake from one memory image; the one that is late to speak goes on in an epoch of its own.
    async fn wake_twice(&mut self, at: usize) -> Kept {
        self.flush(at, usize::MAX).await?;
        let (machine, chance) = (&mut self.machines[at], &mut self.chance);
        if !machine.spool.is_empty() || machine.durable.is_empty() || machine.session.is_none() {
            return Ok(());
        }
        let mut other = machine.clone();
        other.session = None;
        for _ in 0..=chance.below(3) {
            machine.sample(1, chance);
        }
        other.true_ms = other.true_ms.max(machine.true_ms);
        self.flush(at, usize::MAX).await?;
        other.sample(1, &mut self.chance);
        other.spool.clear();
        // Heartbeats hand the chain on: twins that read nothing new in as many samples said the same.
        if other.said_as_much_as(&self.machines[at]) {
            return Ok(());
        }
        // Whatever it made since is not what is stored there.
        match self.stage.open(other.host, other.hello()).await {
            Ok((opened, _)) if opened.is_forked() => {}
            other => return broken(format!("a host woken twice is no fork: {:?}", other.map(|o| o.0))),
        }
        other.fork();
        self.cut(at).await;
        self.machines[at] = other;
        self.machines[at].sample(1, &mut self.chance);
        self.connect(at).await
    }

    /// Compares all answers about one host.
    async fn ask(&mut self, at: usize, instants: usize) -> Kept {
        let chance = Chance::new(self.chance.next());
        let about = (self.machines[at].host, &self.truths[at]);
        let spans = all_of(&self.stage.db, about, (self.stage.now_ms(), self.horizon_ms), instants, chance).await?;
        *self.tally.entry("spans of what is left").or_default() += spans;
        Ok(())
    }

    /// All that is on its way arrives, everything is compacted and merged, and days go.
    async fn end(&mut self) -> Kept {
        for at in 0..self.machines.len() {
            if !self.machines[at].runs() {
                self.machines[at].start();
            }
            self.machines[at].sample(1, &mut self.chance);
            self.connect(at).await?;
            self.flush(at, usize::MAX).await?;
        }
        self.say("all arrives".to_owned());
        for at in 0..self.machines.len() {
            self.ask(at, 12).await?;
        }
        self.say("all is compacted and merged".to_owned());
        let later_ms = self.tick() + 30 * DAY_MS;
        self.compact(Which::Eager, later_ms).await?;
        let round = self.stage.compactor(Which::Eager).round(later_ms).await;
        if !matches!(round, Ok(Round { compacted: 0, merged: 0, failed: 0, .. })) {
            return broken(format!("after everything was compacted there was more to do: {round:?}"));
        }
        if self.chance.one_in(6) {
            self.say("days are dropped".to_owned());
            self.drop_days(later_ms).await?;
        }
        for at in 0..self.machines.len() {
            self.ask(at, 12).await?;
            self.cut(at).await;
        }
        if self.chance.one_in(3) { self.forget().await } else { Ok(()) }
    }
}

/// Compares all answers about a host, or what is left of it where something may be gone; says how many spans were asked
/// for of that.
async fn all_of(
    db: &Db,
    about: (HostId, &Truth),
    (now_ms, horizon_ms): (i64, Option<i64>),
    instants: usize,
    chance: Chance,
) -> Kept<u64> {
    match horizon_ms {
        None => compare(db, about, now_ms, instants, chance).await.map(|()| 0),
        Some(_) if about.1.entries.is_empty() => Ok(0),
        Some(horizon_ms) => compare_forgotten::compare(db, about, (now_ms, horizon_ms), chance).await,
    }
}
