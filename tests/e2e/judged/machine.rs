//! A host over some days, made of nothing but its seed: what of each limit is in use, and what befalls the host meanwhile.

use std::collections::BTreeMap;

use highwater::host::HostId;
use highwater_ipc::limits::{Limits, Resource, Totals};
use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_ipc::time::At;
use highwater_tests::chance::Chance;
use highwater_tests::scribe::Scribe;

/// Between two samples.
const INTERVAL_MS: i64 = 300_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Limits in the order of [`Resource::ALL`], before anybody changes one.
const LIMITS: [u64; 5] = [128, 2_000, 64, 100_000, 32];
/// Inode of the host's own namespace, and of its container's.
pub(crate) const OWN: u64 = 4_026_531_839;
pub(crate) const CONTAINER: u64 = 4_026_532_201;

/// What can befall a host, with its weight. Of those that set its clock none has a container that goes.
const INCIDENTS: [(&str, u64); 12] = [
    ("a gap", 5),
    ("a reboot", 2),
    ("an agent stopped", 2),
    ("an agent killed", 2),
    ("a clock set forward", 2),
    ("a clock set back", 2),
    ("a clock that creeps back", 1),
    ("totals that cannot be read", 2),
    ("a limit changed", 3),
    ("nothing changes for hours", 4),
    ("a clean-up", 3),
    ("a container", 2),
];

/// All that some host must come to, or nothing is proved of it.
pub(crate) fn to_be_seen() -> impl Iterator<Item = &'static str> {
    INCIDENTS.iter().map(|(name, _)| *name)
}

/// How much of a limit is in use over time, as a share of it.
#[derive(Clone, Copy, Debug)]
enum Course {
    Flat(f64),
    /// So much more a day from that hour on.
    Leak(f64, f64, f64),
    /// By day and night.
    Cycle(f64, f64),
    /// So much more a day, and all of it given back after so many hours.
    Saw(f64, f64, f64),
    /// Full within so many hours from that hour on, and back after three more.
    Burst(f64, f64, f64),
}

impl Course {
    fn random(chance: &mut Chance) -> Self {
        let which = chance.below(5);
        let mut share = |from: u64, to: u64| (from + chance.below(to - from)) as f64 / 100.0;
        let base = share(5, 40);
        match which {
            0 => Course::Flat(share(5, 97)),
            1 => Course::Leak(base, share(15, 60), share(0, 300) * 10.0),
            2 => Course::Cycle(base, share(10, 55)),
            3 => Course::Saw(base, share(20, 90), 12.0 + share(0, 40) * 100.0),
            _ => Course::Burst(base, share(30, 300) * 30.0, 0.5 + share(0, 400)),
        }
    }

    fn at(self, hours: f64) -> f64 {
        match self {
            Course::Flat(base) => base,
            Course::Leak(base, day, from) => base + (hours - from).max(0.0) * day / 24.0,
            Course::Cycle(base, height) => base + height * (hours * std::f64::consts::PI / 24.0).sin().powi(2),
            Course::Saw(base, day, every) => base + (hours % every) * day / 24.0,
            Course::Burst(base, from, takes) if (from..from + takes + 3.0).contains(&hours) => {
                base + (1.0 - base) * ((hours - from) / takes).min(1.0)
            }
            Course::Burst(base, ..) => base,
        }
    }
}

/// A namespace.
#[derive(Clone, Debug)]
struct Space {
    id: NamespaceId,
    courses: [Course; 5],
    limits: [u64; 5],
    /// Since when each course runs: a clean-up begins it anew.
    since_ms: [i64; 5],
}

impl Space {
    fn new(id: NamespaceId, now_ms: i64, chance: &mut Chance) -> Self {
        let courses = std::array::from_fn(|_| Course::random(chance));
        Self { id, courses, limits: LIMITS, since_ms: [now_ms; 5] }
    }

    fn namespace(&self, now_ms: i64, unreadable: bool, chance: &mut Chance) -> Namespace {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small number")]
        let used: [u64; 5] = std::array::from_fn(|n| {
            let hours = (now_ms - self.since_ms[n]) as f64 / HOUR_MS as f64;
            let share = self.courses[n].at(hours) + (chance.below(30) as f64 - 15.0) / 1_000.0;
            (share.clamp(0.0, 1.0) * LIMITS[n] as f64) as u64
        });
        let totals = Totals {
            sem_arrays: used[0],
            semaphores: used[1],
            shm_segments: used[2],
            shm_pages: used[3],
            msg_queues: used[4],
            ..Totals::default()
        };
        let [semmni, semmns, shmmni, shmall, msgmni] = self.limits;
        let limits = Limits {
            semmsl: 250,
            semmns,
            semopm: 32,
            semmni,
            semvmx: 32_767,
            shmmax: 1 << 30,
            shmall,
            shmmni,
            shmmin: 1,
            msgmax: 8_192,
            msgmnb: 16_384,
            msgmni,
        };
        Namespace {
            id: self.id,
            limits: Some(limits),
            totals: (!unreadable).then_some(totals),
            sem: Some(Vec::new()),
            shm: Some(Vec::new()),
            msg: Some(Vec::new()),
            ..Namespace::default()
        }
    }
}

/// A host.
pub(crate) struct Machine {
    /// What it recorded.
    pub(crate) scribe: Scribe,
    /// What befell it, and how often.
    pub(crate) tally: BTreeMap<&'static str, u64>,
    /// The wall time of its last sample, milliseconds.
    pub(crate) last_ms: i64,
    chance: Chance,
    true_ms: i64,
    /// By how much its clock is wrong.
    wrong_ms: i64,
    boot_us: u64,
    boots: u8,
    own: Space,
    container: Option<Space>,
    containers: u64,
    keeps_time: bool,
    /// Samples that read nothing new, and that cannot read totals, still to come.
    frozen: u64,
    unreadable: u64,
    crept: bool,
    sampled: State,
}

impl Machine {
    /// A host that samples from `begin_ms` on for so many days.
    pub(crate) fn new(host: HostId, seed: u64, begin_ms: i64, days: i64) -> Self {
        let mut chance = Chance::new(seed);
        let own = Space::new(NamespaceId { inode: OWN, instance: 1 }, begin_ms, &mut chance);
        let mut this = Self {
            scribe: Scribe::new(host),
            tally: BTreeMap::new(),
            last_ms: begin_ms,
            keeps_time: chance.one_in(2),
            chance,
            true_ms: begin_ms,
            wrong_ms: 0,
            boot_us: 60_000_000,
            boots: 0,
            own,
            container: None,
            containers: 0,
            frozen: 0,
            unreadable: 0,
            crept: false,
            sampled: State::default(),
        };
        this.boot();
        this.sample(Some(GapReason::BeforeFirst));
        while this.true_ms < begin_ms + days * DAY_MS {
            let late_ms = i64::try_from(this.chance.below(2_000)).unwrap();
            this.pass(INTERVAL_MS + late_ms);
            if this.chance.one_in(110) {
                this.befall();
            } else {
                this.sample(None);
            }
        }
        // Something changes, so that all before it is judged.
        (this.frozen, this.unreadable) = (0, 0);
        this.own.limits[4] += 1;
        this.pass(INTERVAL_MS);
        this.sample(None);
        this
    }

    fn pass(&mut self, ms: i64) {
        self.true_ms += ms;
        self.boot_us += ms.unsigned_abs() * 1000;
    }

    fn at(&self) -> At {
        At { wall_ms: self.true_ms + self.wrong_ms, boot_us: self.boot_us }
    }

    fn boot(&mut self) {
        self.boots += 1;
        self.boot_us = 5_000_000 + self.chance.below(60_000_000);
        self.own.id.instance = u64::from(self.boots);
        self.own.since_ms = [self.true_ms; 5];
        // With it whoever held a container.
        self.container = None;
        self.begin();
    }

    fn begin(&mut self) {
        self.scribe.begin_epoch(BootId([self.boots; 16]));
        self.crept = false;
    }

    /// What the next sample reads.
    fn read(&mut self) {
        if self.frozen > 0 {
            self.frozen -= 1;
            return;
        }
        let unreadable = self.unreadable > 0;
        self.unreadable = self.unreadable.saturating_sub(1);
        let (now_ms, chance) = (self.true_ms, &mut self.chance);
        let mut namespaces = vec![self.own.namespace(now_ms, unreadable, chance)];
        namespaces.extend(self.container.as_ref().map(|c| {
            let name = Some(HostText::from("a-container"));
            Namespace { name, ..c.namespace(now_ms, false, chance) }
        }));
        self.sampled = State {
            boot_id: BootId([self.boots; 16]),
            interval_ms: u32::try_from(INTERVAL_MS).unwrap(),
            namespaces,
            ..State::default()
        };
    }

    fn sample(&mut self, gap: Option<GapReason>) {
        self.read();
        let at = self.at();
        self.last_ms = at.wall_ms;
        self.scribe.sample(at, &self.sampled, gap);
        self.crept &= gap.is_none();
    }

    fn befall(&mut self) {
        let weights = INCIDENTS.map(|(_, weight)| weight);
        let name = INCIDENTS[self.chance.weighted(&weights).unwrap_or(0)].0;
        let set = name.starts_with("a clock");
        if self.keeps_time && set || !self.keeps_time && name == "a container" {
            return self.sample(None);
        }
        *self.tally.entry(name).or_default() += 1;
        let some = i64::try_from(self.chance.below(1_000)).unwrap();
        match name {
            "a gap" => {
                self.pass(4 * INTERVAL_MS + some * some * 70);
                self.sample(Some(GapReason::Stalled));
            }
            "a reboot" => {
                self.pass(30_000 + some * some * 40);
                self.boot();
                self.frozen = 0;
                self.sample(Some(GapReason::HostDown));
            }
            "an agent stopped" => {
                self.scribe.stop(self.at());
                self.pass(some * 2_000);
                self.begin();
                self.sample(Some(GapReason::AgentStopped));
            }
            "an agent killed" => {
                self.pass(some * some * 30);
                self.begin();
                self.sample(Some(GapReason::AgentKilled));
            }
            "a clock set forward" => self.set_clock(&[2_000, 90_000, HOUR_MS, 30 * HOUR_MS]),
            "a clock set back" => self.set_clock(&[-2_000, -90_000, -HOUR_MS, -26 * HOUR_MS]),
            "a clock that creeps back" => {
                self.wrong_ms -= if std::mem::replace(&mut self.crept, true) { 0 } else { 400 };
                self.sample(None);
            }
            "totals that cannot be read" => {
                self.unreadable = 1 + self.chance.below(40);
                self.frozen = 0;
                self.sample(None);
            }
            "a limit changed" => {
                let (n, percent) = (self.chance.index(5), 50 + self.chance.below(120));
                self.own.limits[n] = LIMITS[n] * percent / 100;
                self.sample(None);
            }
            "nothing changes for hours" => {
                self.frozen = 12 + self.chance.below(500);
                self.sample(None);
            }
            "a clean-up" => {
                self.own.since_ms = [self.true_ms; 5];
                self.sample(None);
            }
            _ => self.container(),
        }
    }

    /// One comes, or goes; the next one has its inode.
    fn container(&mut self) {
        self.containers += 1;
        let id = NamespaceId { inode: CONTAINER, instance: 100 + self.containers };
        self.container =
            if self.container.is_some() { None } else { Some(Space::new(id, self.true_ms, &mut self.chance)) };
        self.sample(None);
    }

    fn set_clock(&mut self, by_ms: &[i64]) {
        let by_ms = self.chance.pick(by_ms);
        self.wrong_ms += by_ms;
        self.read();
        self.scribe.step(self.at(), &self.sampled, by_ms);
        self.last_ms = self.at().wall_ms;
        self.crept = false;
    }

    /// The namespaces of its last sample, by inode; `None` = its own.
    pub(crate) fn namespaces(&self) -> Vec<Option<u64>> {
        [None].into_iter().chain(self.container.as_ref().map(|c| Some(c.id.inode))).collect()
    }

    /// What tells its container from others of that inode.
    pub(crate) fn instance(&self) -> u64 {
        self.container.as_ref().map_or(0, |c| c.id.instance)
    }
}

/// All limits.
pub(crate) const RESOURCES: [Resource; 5] = Resource::ALL;
