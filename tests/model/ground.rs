//! What everything in a world stands on: time, chance, the network, the database, and the truth about every sample.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use highwater::host::HostId;
use highwater_agent::transport::session::{FromCollector, ToCollector};
use highwater_ipc::record::{Epoch, GapReason, Seq};
use highwater_ipc::snapshot::State;
use highwater_ipc::time::At;

use crate::chance::Chance;
use crate::database::Database;
use crate::mutation::Mutation;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

/// Whether the promises still hold.
pub(crate) type Kept<T = ()> = Result<T, Broken>;

/// `Err` with these words.
pub(crate) fn broken<T>(words: impl Into<String>) -> Kept<T> {
    Err(Broken(words.into()))
}

/// Number of a connection: its place in [`Ground::connections`].
pub(crate) type Line = usize;

/// One connection between one agent's process and one collector.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) host: HostId,
    pub(crate) machine: usize,
    pub(crate) collector: usize,
    pub(crate) to_collector: VecDeque<ToCollector>,
    pub(crate) to_agent: VecDeque<FromCollector>,
    /// Whether each end still has it open.
    pub(crate) agent_open: bool,
    pub(crate) collector_open: bool,
    /// The collector took the agent for a copy and said so.
    pub(crate) quarantined: bool,
    /// The collector read something from it.
    pub(crate) heard: bool,
}

impl Connection {
    /// The network drops it: what is under way may be lost from any message on. The ends notice or not.
    pub(crate) fn cut(&mut self, chance: &mut Chance) {
        let (up, down) = (chance.index(self.to_collector.len() + 1), chance.index(self.to_agent.len() + 1));
        self.to_collector.truncate(up);
        self.to_agent.truncate(down);
        self.agent_open = false;
        self.collector_open &= chance.one_in(2);
    }
}

/// One sample, as it was taken.
#[derive(Debug)]
pub(crate) struct Sampled {
    pub(crate) host: HostId,
    pub(crate) machine: usize,
    /// True time.
    pub(crate) true_ms: i64,
    pub(crate) at: At,
    pub(crate) state: Arc<State>,
    /// The database refuses a value in it.
    pub(crate) unstorable: bool,
    /// `false`: the process died while it wrote it down.
    pub(crate) certain: bool,
}

/// Every sample of the world. A sample's number is its place here; the sample carries it as `took_us`.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) samples: Vec<Sampled>,
    /// For each machine where each of its samples is; a machine woken from another's memory begins with a copy.
    pub(crate) made: Vec<BTreeMap<(Epoch, Seq), usize>>,
    /// What befell each host, and when (true time): the reasons that a gap of it may have.
    pub(crate) befell: BTreeMap<HostId, Vec<(GapReason, i64)>>,
}

impl Truth {
    /// Whether it befell the host, at any time.
    pub(crate) fn has_befallen(&self, host: HostId, reason: GapReason) -> bool {
        self.has_befallen_within(host, reason, (i64::MIN, i64::MAX))
    }

    /// Whether it befell the host in that span.
    pub(crate) fn has_befallen_within(&self, host: HostId, reason: GapReason, (from, to): (i64, i64)) -> bool {
        let all = self.befell.get(&host).map(Vec::as_slice).unwrap_or_default();
        all.iter().any(|(befell, at)| *befell == reason && (from..=to).contains(at))
    }
}

/// What machines and collectors share.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) chance: Chance,
    /// True time, milliseconds since 1970.
    pub(crate) now_ms: i64,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) truth: Truth,
    pub(crate) connections: Vec<Connection>,
    pub(crate) database: Database,
    /// Collectors that ever opened a session.
    pub(crate) served: BTreeSet<usize>,
    /// Once in so many statements the answer is lost; 0 = never.
    pub(crate) answers_lost: u64,
    /// What happened how often.
    pub(crate) tally: BTreeMap<&'static str, u64>,
    /// Steps in words, if anybody wants them.
    pub(crate) trace: Option<Vec<String>>,
}

impl Ground {
    /// Writes a step down.
    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9} {}", self.now_ms - crate::world::BEGIN_MS, words()));
        }
    }

    /// This befalls a host now: a gap may say so.
    pub(crate) fn befall(&mut self, host: HostId, reason: GapReason) {
        self.truth.befell.entry(host).or_default().push((reason, self.now_ms));
    }

    /// Counts something, to see that worlds are not tame.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// Whether that mutation is planted.
    pub(crate) fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}
