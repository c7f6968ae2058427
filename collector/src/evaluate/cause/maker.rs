//! What one program made of one kind of objects in one place, cut into events. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Pace;

/// The most events that are remembered; older ones are forgotten.
const MOST_EVENTS: usize = 32;
/// The most objects that wait to be an event's. Of more it is only counted how many there were.
const MOST_FRESH: usize = 64;
/// The most earlier events of which it is followed what becomes of their objects.
const MOST_LOTS: usize = 8;
/// The most objects of one event that are followed; of more these stand for all.
const MOST_OF_LOT: usize = 16;
/// The most processes that are remembered, the latest.
const MOST_PIDS: usize = 4;
/// An object that was made and is not seen in so many samples was gone before it could be.
const MOST_MISSED: u8 = 2;

/// How an event follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum How {
    /// Nothing is known of one before, in this boot.
    First,
    /// It was the same process.
    Same,
    /// It was another process, and nothing says that the one before is gone.
    Other,
    /// It was another process, and the one before is gone.
    Restart,
}

/// Objects that were made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    /// When the last of them was made, milliseconds of time seen.
    pub(super) at_ms: i64,
    /// How many more objects there were than before: what it made and was kept, less what the program itself removed.
    pub(super) objects: i64,
    /// The same in semaphores or pages.
    pub(super) units: i64,
    /// How it follows the one before.
    pub(super) how: How,
    /// It went on for so long that it is no event.
    pub(super) is_long: bool,
}

/// What an event left, as far as it is there still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lot {
    /// Who made it.
    pub(super) pid: i32,
    objects: u64,
    units: u64,
    /// Some of its objects.
    pub(super) ids: Vec<i32>,
    /// How many of those the program itself removed since the last event.
    gone: u64,
    /// Most of them seemed to be nobody's when they were looked at last.
    is_orphaned: bool,
}

/// An object that no event has yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fresh {
    id: i32,
    at_ms: i64,
    pid: i32,
    /// Semaphores or pages; known once it was seen.
    units: u64,
    is_seen: bool,
    missed: u8,
}

/// One program's objects of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Maker {
    /// Those that made something last, the latest at the end.
    pub(super) pids: Vec<i32>,
    /// Oldest first.
    fresh: Vec<Fresh>,
    /// How many were made since the last event, and how many of them `fresh` had no room for.
    made: u64,
    unlisted: u64,
    pub(super) lots: Vec<Lot>,
    /// No process of that name was seen since its last event.
    is_gone: bool,
    pub(super) events: Vec<Event>,
}

/// What a sample shows of those objects that somebody asks for.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Semaphores or pages of those that are there, by id.
    pub(super) present: BTreeMap<i32, u64>,
    /// Those of them that nobody seems to hold, and whose makers are dead as far as is known.
    pub(super) orphans: Vec<i32>,
    /// What is not in it is not there.
    pub(super) is_whole: bool,
    /// So many samples pass between two that read it.
    pub(super) skipped: u32,
}

impl Maker {
    /// A process made these; `count` counts those that are not listed, too.
    pub(super) fn make(&mut self, pid: i32, at_ms: i64, ids: &[i32], count: u64) {
        let room = MOST_FRESH.saturating_sub(self.fresh.len());
        let fresh = |id: &i32| Fresh { id: *id, at_ms, pid, units: 1, is_seen: false, missed: 0 };
        let listed = ids.iter().take(room).map(fresh);
        self.fresh.extend(listed);
        self.fresh.sort_by_key(|fresh| fresh.at_ms);
        let count = count.max(ids.len() as u64);
        self.made = self.made.saturating_add(count);
        self.unlisted = self.unlisted.saturating_add(count.saturating_sub(ids.len().min(room) as u64));
    }

    /// These were removed, by the program itself or by somebody else.
    pub(super) fn remove(&mut self, ids: &[i32], by_itself: bool) {
        self.fresh.retain(|fresh| !ids.contains(&fresh.id));
        self.forget_if_none();
        self.lots.iter_mut().for_each(|lot| lot.remove(|id| ids.contains(&id), by_itself));
    }

    fn forget_if_none(&mut self) {
        if self.fresh.is_empty() {
            self.forget_unlisted();
        }
    }

    /// Whether it waits to be shown what became of its objects.
    pub(super) fn waits(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The objects that it asks for.
    pub(super) fn ids(&self) -> impl Iterator<Item = i32> + '_ {
        self.fresh.iter().map(|fresh| fresh.id).chain(self.lots.iter().flat_map(|lot| lot.ids.iter().copied()))
    }

    /// Takes what a sample shows of them.
    pub(super) fn see(&mut self, shown: &Shown) {
        let most = MOST_MISSED.saturating_add(u8::try_from(shown.skipped.saturating_mul(2)).unwrap_or(u8::MAX));
        self.fresh.retain_mut(|fresh| match shown.present.get(&fresh.id) {
            Some(units) => {
                (fresh.units, fresh.is_seen, fresh.missed) = (*units, true, 0);
                true
            }
            None if !shown.is_whole => true,
            None => {
                fresh.missed = fresh.missed.saturating_add(1);
                !fresh.is_seen && fresh.missed < most
            }
        });
        self.forget_if_none();
        for lot in &mut self.lots {
            if shown.is_whole {
                lot.remove(|id| !shown.present.contains_key(&id), true);
            }
            lot.is_orphaned = mostly(&lot.ids, &shown.orphans);
        }
    }

    /// Takes whether a process of its name lives.
    pub(super) fn lives(&mut self, lives: bool) {
        self.is_gone |= !lives && !self.pids.is_empty() && !self.waits();
    }

    /// The boot ended, and with it all that it had.
    pub(super) fn reboot(&mut self) {
        let events = std::mem::take(&mut self.events);
        *self = Self { events, ..Self::default() };
    }

    /// Makes events of what is complete: nothing more was made for a while, or it went on for too long. `all` = whatever
    /// comes next does not belong to it.
    pub(super) fn settle(&mut self, now_ms: i64, pace: &Pace, all: bool) {
        while let Some(count) = self.complete(now_ms, pace, all) {
            let made: Vec<Fresh> = self.fresh.drain(..count).collect();
            self.close(&made, pace);
        }
    }

    /// How many of `fresh`, from the oldest, belong together and are complete.
    fn complete(&self, now_ms: i64, pace: &Pace, all: bool) -> Option<usize> {
        let first = self.fresh.first()?;
        let parts = |pair: &[Fresh]| {
            let pause_ms = pair[1].at_ms.saturating_sub(pair[0].at_ms);
            let lasts_ms = pair[0].at_ms.saturating_sub(first.at_ms);
            let other = pair[1].pid != pair[0].pid && pause_ms >= pace.burst_ms();
            other || pause_ms >= pace.quiet_ms || lasts_ms > pace.long_ms()
        };
        if let Some(end) = self.fresh.windows(2).position(parts) {
            return Some(end + 1);
        }
        let last = self.fresh.last()?;
        let is_quiet = now_ms.saturating_sub(last.at_ms) >= pace.quiet_ms;
        let is_long = last.at_ms.saturating_sub(first.at_ms) > pace.long_ms();
        (all || is_quiet || is_long).then_some(self.fresh.len())
    }

    fn close(&mut self, made: &[Fresh], pace: &Pace) {
        let kept: Vec<&Fresh> = made.iter().filter(|fresh| fresh.is_seen).collect();
        let (Some(first), Some(last)) = (kept.first(), kept.last()) else {
            self.forget_unlisted();
            return;
        };
        let listed = self.made.saturating_sub(self.unlisted).max(1);
        // Of what is not listed as much was kept as of what is.
        let scale = |sum: u64| sum.saturating_add(share(sum, self.unlisted, listed));
        let objects = scale(kept.len() as u64);
        let units = scale(kept.iter().fold(0, |sum: u64, fresh| sum.saturating_add(fresh.units)));
        let freed = self.lots.iter_mut().map(Lot::freed);
        let freed = freed.fold((0_u64, 0_u64), |sum, lot| (sum.0.saturating_add(lot.0), sum.1.saturating_add(lot.1)));
        let how = self.how(&kept, freed.0);
        self.events.push(Event {
            at_ms: last.at_ms,
            objects: net(objects, freed.0),
            units: net(units, freed.1),
            how,
            is_long: last.at_ms.saturating_sub(first.at_ms) > pace.long_ms(),
        });
        shorten(&mut self.events, MOST_EVENTS);
        let step = kept.len().div_ceil(MOST_OF_LOT).max(1);
        let ids = kept.iter().step_by(step).map(|fresh| fresh.id).collect();
        self.lots.retain(|lot| !lot.ids.is_empty());
        self.lots.push(Lot { pid: last.pid, objects, units, ids, gone: 0, is_orphaned: false });
        shorten(&mut self.lots, MOST_LOTS);
        if matches!(how, How::First | How::Restart) {
            self.pids.clear();
        }
        for fresh in &kept {
            self.pids.retain(|pid| *pid != fresh.pid);
            self.pids.push(fresh.pid);
        }
        shorten(&mut self.pids, MOST_PIDS);
        self.is_gone = false;
        self.forget_unlisted();
    }

    fn how(&self, kept: &[&Fresh], freed: u64) -> How {
        if self.pids.is_empty() {
            return How::First;
        }
        if kept.iter().any(|fresh| self.pids.contains(&fresh.pid)) {
            return How::Same;
        }
        let mut left = self.lots.iter().filter(|lot| self.pids.contains(&lot.pid) && !lot.ids.is_empty()).peekable();
        let is_gone = if left.peek().is_some() { left.all(|lot| lot.is_orphaned) } else { freed > 0 };
        if self.is_gone || is_gone { How::Restart } else { How::Other }
    }

    /// What is counted of the objects that wait begins anew once none of them does.
    fn forget_unlisted(&mut self) {
        (self.made, self.unlisted) = (self.fresh.len() as u64, 0);
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        self.fresh.is_empty() && self.events.is_empty()
    }

    /// What it loses against others when there is no room: how much is known of it, and until when.
    pub(super) fn weight(&self) -> (usize, i64) {
        let last = self.fresh.last().map(|fresh| fresh.at_ms).or_else(|| self.events.last().map(|event| event.at_ms));
        (self.events.len(), last.unwrap_or(0))
    }
}

impl Lot {
    fn remove(&mut self, is_removed: impl Fn(i32) -> bool, by_itself: bool) {
        let before = self.ids.len() as u64;
        self.ids.retain(|id| !is_removed(*id));
        let removed = before.saturating_sub(self.ids.len() as u64);
        if by_itself {
            self.gone = self.gone.saturating_add(removed);
        } else {
            self.shrink(removed, before.saturating_add(self.gone));
        }
    }

    /// What the program itself removed of it since it was asked last.
    fn freed(&mut self) -> (u64, u64) {
        let (gone, of) = (std::mem::take(&mut self.gone), self.ids.len() as u64);
        let before = (self.objects, self.units);
        self.shrink(gone, of.saturating_add(gone));
        (before.0.saturating_sub(self.objects), before.1.saturating_sub(self.units))
    }

    /// `part` of the `whole` that stand for it are gone.
    fn shrink(&mut self, part: u64, whole: u64) {
        let left = |sum: u64| sum.saturating_sub(share(sum, part, whole.max(1)));
        (self.objects, self.units) = (left(self.objects), left(self.units));
    }
}

/// Whether three quarters of these are among those; of none, no.
pub(super) fn mostly(ids: &[i32], those: &[i32]) -> bool {
    let among = ids.iter().filter(|id| those.contains(id)).count();
    !ids.is_empty() && among.saturating_mul(4) >= ids.len().saturating_mul(3)
}

/// `sum * part / whole`; saturates.
fn share(sum: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(sum) * u128::from(part) / u128::from(whole)).unwrap_or(u64::MAX)
}

fn net(kept: u64, freed: u64) -> i64 {
    let signed = |sum: u64| i64::try_from(sum).unwrap_or(i64::MAX);
    signed(kept).saturating_sub(signed(freed))
}

fn shorten<T>(list: &mut Vec<T>, most: usize) {
    list.drain(..list.len().saturating_sub(most));
}
