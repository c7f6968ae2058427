//! One random world: who is there, what may befall it, and one step after the other until it has healed and drained.

mod faults;

use std::collections::{BTreeMap, BTreeSet};

use highwater::host::HostId;
use highwater_agent::spool::{FsyncPolicy, Limits};
use highwater_ipc::record::{EpochId, EpochNo, GapReason, Seq};

use self::faults::{FAULTS, Fault};
use crate::chance::Chance;
use crate::collector::Collector;
use crate::database::{Database, positions};
use crate::ground::{Broken, Ground, Kept, Truth, broken};
use crate::history::History;
use crate::machine::{HostClock, Machine};
use crate::mutation::Mutation;
use crate::promises;

/// When every world begins: 2026-11-24T03:01:01Z.
pub(crate) const BEGIN_MS: i64 = 1_795_489_261_000;
/// Rounds after healing in which all must have drained.
const PATIENCE: u32 = 2000;

/// A world.
pub(crate) struct World {
    pub(crate) ground: Ground,
    machines: Vec<Machine>,
    collectors: Vec<Collector>,
    faults: Vec<Fault>,
    backups: Vec<Database>,
    /// Copies that sleep as memory images, since when (true time).
    images: Vec<(Machine, i64)>,
    /// The furthest that anything was ever durable.
    durable: BTreeMap<(HostId, EpochNo, EpochId), Seq>,
    /// How often agents do something: some worlds have backlogs.
    diligence: u64,
    /// The database's version that was checked last.
    checked: u64,
}

/// What became of a world.
pub(crate) struct Ran {
    pub(crate) kept: Kept,
    pub(crate) tally: BTreeMap<&'static str, u64>,
    /// Its steps in words, if they were asked for.
    pub(crate) trace: Vec<String>,
}

/// What many worlds must come to: gaps of each of these reasons, and what is hard to reach. Each counts what took effect:
/// a write that found no room, a sample after the clock was set, sessions of both collectors, records of a stream that
/// are read after something of a newer stream of the host.
pub(crate) const TO_BE_SEEN: [&str; 29] = [
    "agent_stopped",
    "agent_killed",
    "host_down",
    "suspended",
    "stalled",
    "spool_overflow",
    "spool_damaged",
    "forked",
    "state_lost",
    "history_restored",
    "refused_record",
    "before_first",
    "answers lost",
    "began without its state",
    "clock stepped back",
    "clock stepped forward",
    "collectors killed",
    "database restored",
    "died within a write",
    "disk full",
    "forked at hello",
    "guard refused",
    "memory images woken",
    "power failures",
    "quarantined",
    "read out of order",
    "samples shown",
    "two collectors",
    "window full",
];

/// Runs the world of a seed to its end.
pub(crate) fn run(seed: u64, mutation: Option<Mutation>, traced: bool) -> Ran {
    let mut world = World::new(seed, mutation, traced);
    let kept = world.live();
    Ran { kept, tally: world.ground.tally, trace: world.ground.trace.unwrap_or_default() }
}

impl World {
    fn new(seed: u64, mutation: Option<Mutation>, traced: bool) -> Self {
        let mut ground = Ground {
            chance: Chance::new(seed),
            now_ms: BEGIN_MS,
            mutation,
            truth: Truth::default(),
            connections: Vec::new(),
            database: Database { up: true, ..Database::default() },
            served: BTreeSet::new(),
            answers_lost: 0,
            tally: BTreeMap::new(),
            trace: traced.then(Vec::new),
        };
        let few = 1 + ground.chance.below(5);
        let faults: Vec<Fault> = (0..few).map(|_| ground.chance.pick(&FAULTS)).collect();
        let collectors = (0..=ground.chance.index(2)).map(Collector::new).collect();
        let mut machines = Vec::new();
        for host in 1..=1 + i64::try_from(ground.chance.below(2)).unwrap() {
            let bytes = match ground.chance.below(4) {
                0 => 700 + ground.chance.below(1_500),
                1 => 1_500 + ground.chance.below(3_000),
                _ => 1 << 20,
            };
            let policies = [
                FsyncPolicy::Every,
                FsyncPolicy::Every,
                FsyncPolicy::Unacked,
                FsyncPolicy::Second,
                FsyncPolicy::Segment,
            ];
            let limits = Limits { bytes, fsync: ground.chance.pick(&policies) };
            let (host, wrong_ms) = (HostId(host), ground.chance.pick(&[0, 0, -40, 3_000, -BEGIN_MS + 1_000]));
            let clock = HostClock::boot(&mut ground, wrong_ms);
            let mut machine = Machine::new(machines.len(), host, limits, clock, &mut ground);
            machine.keeps_all = limits.fsync == FsyncPolicy::Every;
            if bytes < 1 << 20 {
                ground.befall(host, GapReason::SpoolOverflow);
            }
            machine.start(&mut ground);
            machines.push(machine);
        }
        ground.say(|| format!("seed {seed}, {} hosts, may befall: {faults:?}", machines.len()));
        let diligence = ground.chance.pick(&[30, 30, 6]);
        let (backups, images, durable) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { ground, machines, collectors, faults, backups, images, durable, diligence, checked: 0 }
    }

    fn live(&mut self) -> Kept {
        let long = if self.ground.chance.one_in(6) { 4 } else { 1 };
        for _ in 0..long * (60 + self.ground.chance.below(140)) {
            self.step()?;
            self.check()?;
        }
        self.heal();
        self.drain()?;
        for machine in &self.machines {
            promises::at_the_end(machine, &self.ground)?;
        }
        let mut seen: Vec<&'static str> = Vec::new();
        seen.extend((self.ground.served.len() == 2).then_some("two collectors"));
        seen.extend(self.machines.iter().any(|machine| machine.spool.has_refused()).then_some("disk full"));
        for (host, rows) in &self.ground.database.hosts {
            let history = History::of(&self.ground, *host, rows)?;
            history.check_all_states()?;
            seen.extend(history.shown().map(|_| "samples shown"));
            seen.extend(rows.gaps.values().map(|gap| gap.reason.name()));
        }
        seen.into_iter().for_each(|what| self.ground.count(what));
        Ok(())
    }

    fn step(&mut self) -> Kept {
        self.ground.now_ms += 1 + i64::try_from(self.ground.chance.below(4)).unwrap();
        match self.ground.chance.weighted(&[18, 8, self.diligence, 20, 24, 4, 6]) {
            Some(0) => self.tick(),
            Some(1) => {
                let at = self.ground.chance.index(self.machines.len());
                self.machines[at].change(&mut self.ground);
            }
            Some(2) => {
                let at = self.ground.chance.index(self.machines.len());
                return self.act(at);
            }
            Some(3) => self.hear(),
            Some(4) => {
                let at = self.ground.chance.index(self.collectors.len());
                return self.work(at);
            }
            Some(5) => self.mend(),
            _ => {
                let fault = self.ground.chance.index(self.faults.len());
                return self.befall(self.faults[fault]);
            }
        }
        Ok(())
    }

    /// A second passes; who is awake takes a sample.
    fn tick(&mut self) {
        self.ground.now_ms += 950 + i64::try_from(self.ground.chance.below(100)).unwrap();
        let unstorable = self.faults.contains(&Fault::Unstorable);
        for machine in &mut self.machines {
            if machine.asleep.is_some() || machine.process.is_none() {
                continue;
            }
            let refused = unstorable && self.ground.chance.one_in(8);
            if refused {
                self.ground.befall(machine.host, GapReason::RefusedRecord);
            }
            machine.sample(refused, &mut self.ground);
        }
    }

    fn act(&mut self, at: usize) -> Kept {
        let all: Vec<usize> = (0..self.collectors.len()).collect();
        let machine = &mut self.machines[at];
        if machine.asleep.is_some() || (machine.quarantined && !self.ground.chance.one_in(8)) {
            return Ok(());
        }
        machine.act(&all, &mut self.ground)
    }

    /// Some collector takes a message of some stream that it still reads.
    fn hear(&mut self) {
        let open: Vec<usize> = (0..self.ground.connections.len()).filter(|line| self.has_something(*line)).collect();
        if open.is_empty() {
            return;
        }
        let line = open[self.ground.chance.index(open.len())];
        let collector = self.ground.connections[line].collector;
        self.collectors[collector].hear(line, &mut self.ground);
    }

    fn has_something(&self, line: usize) -> bool {
        let connection = &self.ground.connections[line];
        connection.collector_open && (!connection.to_collector.is_empty() || !connection.agent_open)
    }

    fn work(&mut self, at: usize) -> Kept {
        let collector = &mut self.collectors[at];
        if self.ground.chance.one_in(3) {
            collector.pass_on(&mut self.ground);
            return Ok(());
        }
        collector.work(&mut self.ground)
    }

    /// What was broken is mended: an agent starts, a machine wakes, a database is back, a disk has room.
    fn mend(&mut self) {
        self.ground.database.up = true;
        let at = self.ground.chance.index(self.machines.len());
        let machine = &mut self.machines[at];
        if machine.gone {
            return;
        }
        if let Some(since) = machine.asleep.take() {
            machine.clock.slept_ms += self.ground.now_ms - since;
        }
        if machine.process.as_ref().is_some_and(|process| process.stopping) {
            machine.exit(&mut self.ground);
        } else if machine.process.is_none() {
            machine.start(&mut self.ground);
        } else if self.faults.contains(&Fault::FillDisk) {
            machine.set_room(None, &mut self.ground);
        }
        if !self.images.is_empty() && self.ground.chance.one_in(3) {
            self.thaw();
        }
    }

    /// Nothing befalls the world any more. Of each host one machine stays, and its agent runs.
    fn heal(&mut self) {
        self.ground.say(|| "all is mended".to_owned());
        self.faults.clear();
        self.images.clear();
        self.ground.answers_lost = 0;
        self.ground.database.up = true;
        for host in [HostId(1), HostId(2)] {
            let there: Vec<usize> =
                self.machines.iter().filter(|m| m.host == host && !m.gone).map(|m| m.number).collect();
            let Some(stays) = (!there.is_empty()).then(|| there[self.ground.chance.index(there.len())]) else {
                continue;
            };
            for machine in self.machines.iter_mut().filter(|machine| machine.host == host) {
                if machine.number == stays {
                    machine.spool.set_room(None);
                    if let Some(since) = machine.asleep.take() {
                        machine.clock.slept_ms += self.ground.now_ms - since;
                    }
                } else {
                    machine.kill(&mut self.ground);
                    machine.gone = true;
                }
            }
        }
    }

    /// Everybody does what it can, round after round.
    fn drain(&mut self) -> Kept {
        for round in 0..PATIENCE {
            self.ground.now_ms += 5;
            if round % if round < 200 { 8 } else { 64 } == 0 {
                self.tick();
            }
            for at in 0..self.machines.len() {
                let machine = &mut self.machines[at];
                if machine.gone {
                    continue;
                }
                if machine.process.as_ref().is_some_and(|process| process.stopping) {
                    machine.exit(&mut self.ground);
                }
                if machine.quarantined && round % 32 == 31 {
                    // A person sees to it: another boot is no copy.
                    self.befall_machine(at, Fault::Reboot);
                }
                let machine = &mut self.machines[at];
                if machine.process.is_none() {
                    machine.start(&mut self.ground);
                }
                let all: Vec<usize> = (0..self.collectors.len()).collect();
                machine.act(&all, &mut self.ground)?;
                self.check()?;
            }
            for line in 0..self.ground.connections.len() {
                if self.has_something(line) {
                    let collector = self.ground.connections[line].collector;
                    self.collectors[collector].hear(line, &mut self.ground);
                }
            }
            for at in 0..self.collectors.len() {
                self.collectors[at].work(&mut self.ground)?;
                self.check()?;
                self.collectors[at].pass_on(&mut self.ground);
            }
            let drained = self.machines.iter().all(|machine| machine.gone || machine.is_drained(&self.ground));
            if round > 24 && drained && self.collectors.iter().all(Collector::is_idle) {
                return Ok(());
            }
        }
        broken(format!("{PATIENCE} rounds after all was mended something is still on its way"))
    }

    /// What must hold after every step.
    fn check(&mut self) -> Kept {
        let changed = self.checked != self.ground.database.version;
        if changed {
            for (key, next) in positions(&self.ground.database) {
                let furthest = self.durable.entry(key).or_default();
                *furthest = next.max(*furthest);
            }
        }
        for collector in &self.collectors {
            for (line, no, next) in collector.acks() {
                promises::acked(&self.ground, &self.durable, line, (no, next))?;
            }
        }
        if changed {
            self.checked = self.ground.database.version;
            let ago_ms = i64::try_from(self.ground.chance.below(100_000)).unwrap();
            for (host, rows) in &self.ground.database.hosts {
                let history = History::of(&self.ground, *host, rows)?;
                history.check()?;
                let wrong_ms = self.machines.iter().find(|m| m.host == *host).map_or(0, |m| m.clock.wrong_ms);
                history.as_of(self.ground.now_ms + wrong_ms - ago_ms)?;
            }
        }
        Ok(())
    }
}

/// Words of a broken promise.
impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
