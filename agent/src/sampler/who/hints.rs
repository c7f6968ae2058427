//! What the trace says of who made which object, until a sample takes it: the one after the sample that showed the object
//! first, for what happened is put together when that one has been read.

use highwater_ipc::activity::{Activity, Did};
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::NamespaceId;

use super::maker::{Maker, Seen};
use super::roster::Roster;
use crate::kernel::Kernel;

/// Most hints kept; the oldest go first, and their objects have no maker then.
const MAX_HINTS: usize = 512;

/// Age at which nobody will ask any more, microseconds: a namespace may be visited by turns.
const KEEP_US: u64 = 600_000_000;

/// The same where it is not known which namespace a hint is about: then each looks at it in every visit.
const KEEP_UNPLACED_US: u64 = 30_000_000;

/// Most makers looked at for one sample.
const LOOKS: usize = 64;

/// Creations by one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// Where; `None` = not known.
    pub namespace: Option<NamespaceId>,
    /// What.
    pub kind: Kind,
    /// Which, as far as told.
    pub ids: Vec<i32>,
    /// Whether more were made than `ids` tells.
    pub more: bool,
    /// Whether the trace lost nothing since, so that whoever made something is among the hints.
    pub whole: bool,
    /// Who.
    pub maker: Maker,
    looked: bool,
}

/// All hints, the oldest first.
#[derive(Debug, Default)]
pub struct Hints {
    hints: Vec<Hint>,
}

impl Hints {
    /// Takes what was traced.
    pub fn learn(&mut self, activity: &Activity) {
        let made = || activity.acts.iter().filter(|act| act.did == Did::Created);
        let whole = activity.lost == 0 && activity.more == 0;
        if !whole {
            self.hints.iter_mut().for_each(|hint| hint.whole = false);
        }
        for act in made() {
            let (pid, comm) = (act.by.pid, act.by.comm.clone());
            let (from_us, until_us) = (act.first_us, act.last_us);
            let maker = Maker { pid, comm, from_us, until_us, seen: None, stands_in: false };
            let more = u64::try_from(act.ids.len()).is_ok_and(|told| act.count > told);
            let (namespace, kind, ids) = (act.namespace, act.kind, act.ids.clone());
            self.hints.push(Hint { namespace, kind, ids, more, whole, maker, looked: false });
        }
        let over = self.hints.len().saturating_sub(MAX_HINTS);
        self.hints.drain(..over);
    }

    /// Looks at makers that may still live, and forgets what is too old.
    pub fn look(&mut self, kernel: &mut dyn Kernel, roster: &mut Roster, at_us: u64) {
        self.hints.retain(|hint| {
            let keep_us = if hint.namespace.is_some() { KEEP_US } else { KEEP_UNPLACED_US };
            at_us.saturating_sub(hint.maker.until_us) < keep_us
        });
        for hint in self.hints.iter_mut().filter(|hint| !hint.looked).take(LOOKS) {
            hint.looked = true;
            let Ok(Some(process)) = roster.look(kernel, hint.maker.pid) else { continue };
            if process.start_us <= hint.maker.until_us {
                // The trace names the thread that made the call; what holds the object is its process.
                hint.maker.pid = process.pid;
                hint.maker.seen = Some(Seen { start_us: process.start_us, session: process.session });
            }
        }
    }

    /// Those of one kind that may be about objects of that namespace.
    pub fn about(&self, id: NamespaceId, kind: Kind) -> impl Iterator<Item = &Hint> {
        let here = move |hint: &&Hint| hint.kind == kind && hint.namespace.is_none_or(|namespace| namespace == id);
        self.hints.iter().filter(here)
    }

    /// That namespace has taken them.
    pub fn taken(&mut self, id: NamespaceId) {
        self.hints.retain(|hint| hint.namespace != Some(id));
    }
}
