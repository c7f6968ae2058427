//! What makes use grow, where the events show it: reloads, restarts, processes that were killed. Pure.
//!
//! Growth that stays comes in *events*: what one program made with less than [`Pace::quiet_ms`] between, less what was
//! removed again. What lies between two of them says what they are: made by one process, they are reloads or jobs of a
//! running service; made by another one while the first is gone, restarts; and where the first one's objects are still
//! there and nobody's, its end did not free them. It rests on what the agent traced (who made what), so where nothing is
//! traced no cause is told.
//!
//! - C1 An object is an event's only once it outlived the quiet time: what comes and goes makes none.
//! - C2 Time is what was seen: a gap, a clock that is set and a boot are no time. A boot and a gap end what is under way,
//!   and make no event.
//! - C3 A host is remembered by at most [`MOST_MAKERS`] programs; those of which less is known give way.
//! - C4 No cause is told that a mere trickle would show, too: see `tell`.

mod maker;
#[cfg(test)]
mod scene;
pub mod tell;
#[cfg(test)]
mod tests;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::activity::{Act, Activity, Did};
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::who::{Doubt, Who};
use serde::{Deserialize, Serialize};

use super::feed::{self, Follows, Place};
use crate::query::owners::is_known;
use maker::{Maker, Shown};

/// The most programs of a host that are remembered.
const MOST_MAKERS: usize = 64;

/// How far apart is apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What is made with less between is one event, milliseconds.
    pub quiet_ms: i64,
}

impl Default for Pace {
    /// A minute.
    fn default() -> Self {
        Self { quiet_ms: 60_000 }
    }
}

impl Pace {
    /// Two processes that make something within so long make it together, milliseconds: 2 s.
    fn burst_ms(&self) -> i64 {
        self.quiet_ms / 30
    }

    /// What goes on for longer is no event, milliseconds: 5 min.
    fn long_ms(&self) -> i64 {
        self.quiet_ms.saturating_mul(5)
    }

    /// Events of one process are told only if there is as much between them as a rule, milliseconds: 3 min.
    fn apart_ms(&self) -> i64 {
        self.quiet_ms.saturating_mul(3)
    }

    /// Restarts that follow each other sooner are a loop, milliseconds: 10 min.
    fn loop_ms(&self) -> i64 {
        self.quiet_ms.saturating_mul(10)
    }

    /// Single objects are told only if there is as much between any two, milliseconds: 1 h.
    fn rare_ms(&self) -> i64 {
        self.quiet_ms.saturating_mul(60)
    }
}

/// A program's objects of one kind in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Key {
    place: Place,
    /// Number of the kind in [`Kind::ALL`].
    kind: u8,
    comm: Vec<u8>,
    /// Effective uid of its processes; `None` = they were gone before they could be asked.
    uid: Option<u32>,
}

/// What is remembered of who made a host's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Causes {
    /// Time seen up to the last sample, milliseconds.
    at_ms: i64,
    /// And up to what is known to be still so.
    now_ms: i64,
    makers: BTreeMap<Key, Maker>,
}

/// One sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// How it follows the one before.
    pub follows: Follows,
    /// How much time was seen since, milliseconds.
    pub passed_ms: i64,
    /// When it was taken, microseconds since boot.
    pub boot_us: u64,
    /// What it read.
    pub state: &'s State,
    /// What happened just before it.
    pub activity: &'s Activity,
}

impl Causes {
    /// Takes the next sample.
    pub fn sample(&mut self, sample: &Sample<'_>, pace: &Pace) {
        self.at_ms = self.at_ms.saturating_add(sample.passed_ms.max(0));
        self.now_ms = self.at_ms;
        self.settle(pace, false);
        let makes = sample.activity.acts.iter().any(|act| act.did == Did::Created && !act.ids.is_empty());
        if self.makers.is_empty() && !makes {
            return;
        }
        let places: BTreeMap<Place, NamespaceId> = feed::places(sample.state).collect();
        self.makers.retain(|key, _| places.contains_key(&key.place));
        match sample.follows {
            Follows::Reboot => {
                self.makers.retain(|key, _| key.place == Place::Own);
                self.makers.values_mut().for_each(Maker::reboot);
            }
            Follows::AfterGap => {
                self.look(sample.state, &places);
                self.settle(pace, true);
            }
            Follows::First | Follows::Directly => {}
        }
        for act in &sample.activity.acts {
            self.take(act, sample, &places);
        }
        self.look(sample.state, &places);
    }

    /// Says how long after the last sample it was still so, milliseconds.
    pub fn covered(&mut self, passed_ms: i64, pace: &Pace) {
        self.now_ms = self.now_ms.max(self.at_ms.saturating_add(passed_ms));
        self.settle(pace, false);
    }

    fn settle(&mut self, pace: &Pace, all: bool) {
        let now_ms = self.now_ms;
        self.makers.values_mut().for_each(|maker| maker.settle(now_ms, pace, all));
        self.makers.retain(|_, maker| !maker.is_idle());
    }

    fn take(&mut self, act: &Act, sample: &Sample<'_>, places: &BTreeMap<Place, NamespaceId>) {
        let kind = number(act.kind);
        let place = match act.namespace {
            Some(id) => places.iter().find(|(_, known)| **known == id).map(|(place, _)| *place),
            None => only_place(act, sample.state),
        };
        match act.did {
            Did::Created if !act.ids.is_empty() => {
                let Some(place) = place else { return };
                let ago_ms = sample.boot_us.saturating_sub(act.last_us) / 1_000;
                let at_ms = self.at_ms.saturating_sub_unsigned(ago_ms);
                let comm = act.by.comm.as_bytes().to_vec();
                let maker = self.maker(Key { place, kind, comm, uid: act.by.uid });
                maker.make(act.by.pid, at_ms, &act.ids, act.count);
            }
            Did::Removed => {
                let there = self.makers.iter_mut().filter(|(key, _)| key.kind == kind && Some(key.place) == place);
                for (key, maker) in there {
                    maker.remove(&act.ids, key.comm == act.by.comm.as_bytes());
                }
            }
            Did::Created | Did::Refused(_) => {}
        }
    }

    /// The one of that key; one whose uid is not known is any of that name.
    fn maker(&mut self, key: Key) -> &mut Maker {
        let is_same = |known: &&Key| {
            let uid = known.uid == key.uid || known.uid.is_none() || key.uid.is_none();
            uid && (known.place, known.kind, &known.comm) == (key.place, key.kind, &key.comm)
        };
        let exact = self.makers.contains_key(&key);
        let known = if exact { None } else { self.makers.keys().find(is_same).cloned() };
        if !exact && known.is_none() && self.makers.len() >= MOST_MAKERS {
            let least = self.makers.iter().min_by_key(|(_, maker)| maker.weight()).map(|(key, _)| key.clone());
            least.and_then(|key| self.makers.remove(&key));
        }
        self.makers.entry(known.unwrap_or(key)).or_default()
    }

    /// Shows each maker what became of its objects.
    fn look(&mut self, state: &State, places: &BTreeMap<Place, NamespaceId>) {
        let mut wanted: BTreeMap<(Place, u8), BTreeSet<i32>> = BTreeMap::new();
        for (key, maker) in self.makers.iter().filter(|(_, maker)| maker.waits()) {
            wanted.entry((key.place, key.kind)).or_default().extend(maker.ids());
        }
        let namespace = |place: Place| places.get(&place).and_then(|id| state.namespaces.iter().find(|n| n.id == *id));
        for ((place, kind), ids) in wanted {
            let Some(namespace) = namespace(place) else { continue };
            let shown = show(namespace, Kind::ALL[usize::from(kind)], &ids, state.page_size);
            let of_it = |(key, maker): &(&Key, &mut Maker)| (key.place, key.kind) == (place, kind) && maker.waits();
            self.makers.iter_mut().filter(of_it).for_each(|(_, maker)| maker.see(&shown));
        }
        for (key, maker) in self.makers.iter_mut().filter(|(_, maker)| !maker.waits()) {
            if let Some(who) = namespace(key.place).and_then(|namespace| namespace.who.as_ref()) {
                maker.lives(lives(who, &key.comm));
            }
        }
    }
}

fn number(kind: Kind) -> u8 {
    (0_u8..).zip(Kind::ALL).find(|(_, each)| *each == kind).map_or(0, |(number, _)| number)
}

/// Where an act was whose process was gone before it could be asked: the one place that has its first object.
fn only_place(act: &Act, state: &State) -> Option<Place> {
    let ids = act.ids.iter().copied().take(1).collect();
    let there = feed::places(state).zip(&state.namespaces).filter(|(_, namespace)| {
        let shown = show(namespace, act.kind, &ids, state.page_size);
        !shown.present.is_empty()
    });
    let mut there = there.map(|((place, _), _)| place);
    there.next().filter(|_| there.next().is_none())
}

/// What is there of these objects.
fn show(namespace: &Namespace, kind: Kind, ids: &BTreeSet<i32>, page_size: u32) -> Shown {
    let rows: BTreeMap<i32, u64> = match kind {
        Kind::Sem => {
            let rows = namespace.sem.iter().flatten().filter(|row| ids.contains(&row.semid));
            rows.map(|row| (row.semid, u64::from(row.nsems))).collect()
        }
        Kind::Shm => {
            let rows = namespace.shm.iter().flatten().filter(|row| ids.contains(&row.shmid));
            rows.map(|row| (row.shmid, row.size.div_ceil(u64::from(page_size.max(1))))).collect()
        }
        Kind::Msg => {
            let rows = namespace.msg.iter().flatten().filter(|row| ids.contains(&row.msqid));
            rows.map(|row| (row.msqid, 1)).collect()
        }
    };
    let orphans = rows.keys().copied().filter(|id| is_left(namespace.who.as_ref(), kind, *id)).collect();
    Shown { present: rows, orphans, is_whole: is_known(namespace, kind), skipped: namespace.skipped }
}

/// Whether an object seems to be nobody's, and nothing says that its maker lives.
fn is_left(who: Option<&Who>, kind: Kind, id: i32) -> bool {
    let orphan = who.and_then(|who| who.objects.get(&(kind, id))).and_then(|known| known.orphan.as_ref());
    orphan.is_some_and(|orphan| !matches!(orphan.doubt, Doubt::MakerLives | Doubt::UserLives | Doubt::PidInUse))
}

/// Whether a process of that name may live: a list of names that is full does not say.
fn lives(who: &Who, comm: &[u8]) -> bool {
    let is_of_it = |comms: &Vec<highwater_ipc::text::HostText>| {
        comms.len() >= Who::MAX_COMMS || comms.iter().any(|known| known.as_bytes() == comm)
    };
    who.comms.values().any(is_of_it)
}
