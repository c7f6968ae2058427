//! What waits for one worker: a lane for each host, and how a commit is gathered from them. Pure.
//!
//! A commit takes from the lanes in turn, a record at a time, so a host's backlog fills what the others leave. It takes
//! of a host one epoch of one session, and of few days: whatever a host queues, it is part of one transaction a round.
//! A record that does not fit leads the next commit; one that is larger than a commit goes alone, and of two commits in
//! a row at most one is such, unless nothing else waits.

use std::collections::{BTreeSet, HashMap, VecDeque};

use highwater_ipc::record::EpochNo;

use super::command::{Command, Item};
use crate::host::HostId;
use crate::store::day::Day;
use crate::store::stream::Session;

/// Days of one host in one commit: each may need a partition made.
const DAYS: usize = 8;

/// What one round may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// Commands, at least 1.
    pub(super) commands: usize,
    /// Bytes of records, but at least one record.
    pub(super) bytes: usize,
}

/// What one round does, in this order: what is no record, then records; those of a host are of one epoch and session.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) control: Vec<Command>,
    pub(super) items: Vec<Item>,
}

/// The lanes of one worker's hosts.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    hosts: HashMap<HostId, Lane>,
    /// Lanes with commands that may be taken, the next one first; each once.
    turn: VecDeque<HostId>,
    /// Commands and bytes in those.
    ready: Load,
    /// The last commit was of one record that is larger than a commit.
    was_alone: bool,
}

#[derive(Debug, Default)]
struct Lane {
    commands: VecDeque<Command>,
    load: Load,
    /// What comes next must wait for what was taken before.
    held: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    commands: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, other: Load) {
        self.commands += other.commands;
        self.bytes += other.bytes;
    }

    fn take(&mut self, other: Load) {
        self.commands -= other.commands;
        self.bytes -= other.bytes;
    }
}

impl Command {
    fn load(&self) -> Load {
        match self {
            Command::Record(item) => Load { commands: 1, bytes: item.arrival.weight() },
            _ => Load { commands: 1, bytes: 0 },
        }
    }
}

impl Lanes {
    /// Queues a command, and returns one that it took the place of: of a host the newest opening alone waits and the
    /// newest newcomer turned away, of a session the newest present. Records are counted before they come here, and a session ends once; so all that a
    /// host can queue is bounded.
    pub(super) fn push(&mut self, command: Command) -> Option<Command> {
        let host = command.host();
        let lane = self.hosts.entry(host).or_default();
        if let Some((at, older)) = lane.replace(&command) {
            match command {
                // What waits behind an opening is for the sessions before it.
                Command::Open(..) => lane.commands.push_back(command),
                _ => lane.commands.insert(at, command),
            }
            return Some(older);
        }
        let (was_empty, load) = (lane.commands.is_empty(), command.load());
        lane.commands.push_back(command);
        lane.load.add(load);
        if !lane.held {
            self.ready.add(load);
            if was_empty {
                self.turn.push_back(host);
            }
        }
        None
    }

    /// Lets a host's commands wait until [`Lanes::release`].
    pub(super) fn hold(&mut self, host: HostId) {
        let lane = self.hosts.entry(host).or_default();
        if !std::mem::replace(&mut lane.held, true) {
            self.ready.take(lane.load);
            self.turn.retain(|other| *other != host);
        }
    }

    /// Lets a host's commands be taken again.
    pub(super) fn release(&mut self, host: HostId) {
        let Some(lane) = self.hosts.get_mut(&host) else { return };
        if !std::mem::replace(&mut lane.held, false) {
            return;
        }
        if lane.commands.is_empty() {
            self.hosts.remove(&host);
        } else {
            self.ready.add(lane.load);
            self.turn.push_back(host);
        }
    }

    /// Whether nothing waits, held back or not.
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.values().all(|lane| lane.commands.is_empty())
    }

    /// Whether something may be taken.
    pub(super) fn is_ready(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Whether what may be taken fills a commit.
    pub(super) fn fill(&self, most: Most) -> bool {
        self.ready.commands >= most.commands || self.ready.bytes >= most.bytes
    }

    /// Takes a commit's worth.
    pub(super) fn gather(&mut self, most: Most) -> Gathered {
        let may_be_alone = !self.was_alone;
        let runs = HashMap::new();
        let mut round = Round { most, may_be_alone, load: Load::default(), gathered: Gathered::default(), runs };
        let mut over = Vec::new();
        let mut first = None;
        while round.has_room() {
            let Some(host) = self.turn.pop_front() else { break };
            match self.visit(host, &mut round) {
                Visit::More => self.turn.push_back(host),
                Visit::TooLarge if first.is_none() => first = Some(host),
                Visit::TooLarge | Visit::Over => over.push(host),
                Visit::Empty | Visit::Held => {}
            }
        }
        if round.load == Load::default()
            && let Some(host) = first.take()
        {
            round.may_be_alone = true;
            if let Visit::More | Visit::Over = self.visit(host, &mut round) {
                over.push(host);
            }
        }
        self.was_alone = round.load.bytes > most.bytes;
        // One that did not fit leads the next commit; a second one does not, or those behind would wait for all.
        self.turn.extend(over);
        if let Some(host) = first {
            self.turn.push_front(host);
        }
        round.gathered
    }

    fn visit(&mut self, host: HostId, round: &mut Round) -> Visit {
        let Some(lane) = self.hosts.get_mut(&host) else { return Visit::Empty };
        let before = lane.load;
        let visited = round.visit(host, lane);
        self.ready.take(Load { commands: before.commands - lane.load.commands, bytes: before.bytes - lane.load.bytes });
        match visited {
            Visit::Empty => drop(self.hosts.remove(&host)),
            Visit::Held => self.ready.take(lane.load),
            _ => {}
        }
        visited
    }
}

impl Lane {
    /// Takes out what this command makes pointless, and says where it stood.
    fn replace(&mut self, command: &Command) -> Option<(usize, Command)> {
        let is_replaced = |waiting: &Command| match (waiting, command) {
            (Command::Open(..), Command::Open(..)) => true,
            (Command::Now(_, of, _), Command::Now(_, session, _)) => of == session,
            (Command::TurnedAway(_), Command::TurnedAway(_)) => true,
            _ => false,
        };
        if !matches!(command, Command::Open(..) | Command::Now(..) | Command::TurnedAway(_)) {
            return None;
        }
        let at = self.commands.iter().position(is_replaced)?;
        self.commands.remove(at).map(|older| (at, older))
    }

    fn pop(&mut self) -> Option<Command> {
        let command = self.commands.pop_front()?;
        self.load.take(command.load());
        Some(command)
    }

    fn rest(&self) -> Visit {
        if self.commands.is_empty() { Visit::Empty } else { Visit::More }
    }
}

/// What a lane has after a visit.
enum Visit {
    /// Nothing.
    Empty,
    /// It is held: what it gave must be over first.
    Held,
    /// Perhaps more for this commit.
    More,
    /// More, but not for this commit.
    Over,
    /// A record that is too large for what this commit has left.
    TooLarge,
}

/// A commit that is being gathered.
struct Round {
    most: Most,
    /// Whether a record that is larger than a commit may be this one.
    may_be_alone: bool,
    load: Load,
    gathered: Gathered,
    runs: HashMap<HostId, (Session, EpochNo, BTreeSet<Day>)>,
}

impl Round {
    fn has_room(&self) -> bool {
        self.load.commands < self.most.commands.max(1) && self.load.bytes < self.most.bytes.max(1)
    }

    /// Takes what leads a lane and is no record, then one record.
    fn visit(&mut self, host: HostId, lane: &mut Lane) -> Visit {
        if !self.runs.contains_key(&host) {
            while self.has_room() && lane.commands.front().is_some_and(|c| !matches!(c, Command::Record(_))) {
                let Some(command) = lane.pop() else { break };
                self.load.commands += 1;
                lane.held = matches!(command, Command::Open(..));
                self.gathered.control.push(command);
                if lane.held {
                    return Visit::Held;
                }
            }
        }
        let Some(Command::Record(next)) = lane.commands.front() else {
            return if lane.commands.is_empty() { Visit::Empty } else { Visit::Over };
        };
        let bytes = next.arrival.weight();
        if !self.has_room() {
            return Visit::More;
        }
        let fits = self.load.bytes.saturating_add(bytes) <= self.most.bytes;
        if !fits && (self.load.bytes > 0 || !self.may_be_alone) {
            return Visit::TooLarge;
        }
        let (session, epoch, days) =
            self.runs.entry(host).or_insert_with(|| (next.session, next.epoch, BTreeSet::new()));
        days.insert(Day::of(next.arrival.at.wall_ms));
        if (*session, *epoch) != (next.session, next.epoch) || days.len() > DAYS {
            return Visit::Over;
        }
        if let Some(Command::Record(item)) = lane.pop() {
            self.gathered.items.push(item);
            self.load.add(Load { commands: 1, bytes });
        }
        lane.rest()
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
