//! Which of the events, if any, is why a limit runs out. Pure.
//!
//! Told is the program that made most of the growth, and only if its events are more than a trickle cut into pieces:
//!
//! | what is told | what must be so, of its last 32 events |
//! |---|---|
//! | killed | three restarts left something, and most of what the processes before made is there and nobody's |
//! | crash loop | the same, minutes apart, and it goes on |
//! | restart | three restarts left something |
//! | reload | three times the same process left the same, at least two objects, minutes apart; or one object, five times, an hour apart and evenly |
//! | recurring, process | three times one process, or one of several, left at least two objects |
//!
//! Whose growth does not stay, or is a small part of what the flag says, causes nothing.

use std::collections::BTreeSet;

use highwater_ipc::limits::Resource;
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{NamespaceId, State};
use highwater_ipc::text::HostText;

use super::maker::{Event, How, Maker, mostly};
use super::{Causes, Pace, number, show};
use crate::evaluate::feed::Place;
use crate::evaluate::words::objects_of;
use crate::flag::{Cause, CauseKind, Days};

const DAY_MS: f64 = 86_400_000.0;
/// So many events make a cause.
const LEAST: usize = 3;
/// And so many of one object each.
const LEAST_SINGLE: usize = 5;
/// Growth is told as one cause's if it is at least that share of what there is to tell.
const MOST_OF_IT: f64 = 0.6;
/// And of what the flag rests on, which has noise in it.
const SOME_OF_IT: f64 = 0.25;
/// Standard deviation over mean of times between events that are even.
const EVEN: f64 = 0.25;
/// The ends of an 80 % interval, in standard deviations.
const EIGHTY: f64 = 1.28;

/// What is asked: where, of which limit, what is used of it, and the growth that a flag rests on.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Where.
    pub place: Place,
    /// The namespace there now.
    pub namespace: NamespaceId,
    /// Of which limit.
    pub resource: Resource,
    /// Used and limit.
    pub used: (u64, u64),
    /// Units an hour; `None` = the flag says nothing of growth.
    pub growth_per_hour: Option<f64>,
}

impl Causes {
    /// Why a limit runs out, as far as the events show it; `state` is what the last sample read.
    pub fn tell(&self, asked: &Question, state: &State, pace: &Pace) -> Option<Cause> {
        let kind = objects_of(asked.resource);
        let of_it = self.makers.iter().filter(|(key, _)| (key.place, key.kind) == (asked.place, number(kind)));
        let grown = of_it.map(|(key, maker)| (self.growth_per_day(maker, asked.resource), key, maker));
        let (growth, key, maker) = grown.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(growth, ..)| *growth > 0.0)?;
        if asked.growth_per_hour.is_some_and(|per_hour| growth < SOME_OF_IT * per_hour * 24.0) {
            return None;
        }
        let left_behind = left_behind(maker, state, asked.namespace, kind);
        let found = Found::of(maker, asked.resource, left_behind, (self.now_ms, pace))?;
        let room = asked.used.1.saturating_sub(asked.used.0);
        Some(found.cause(HostText::cut(&key.comm).escaped(), room))
    }

    /// What a program adds a day, by all of its events; nothing if it does not stay.
    fn growth_per_day(&self, maker: &Maker, resource: Resource) -> f64 {
        const LEAST_MS: f64 = 600_000.0;
        let Some(first) = maker.events.first() else { return 0.0 };
        let sum = stays(maker.events.iter().filter(|event| event.how != How::First), resource).unwrap_or(0.0);
        sum / float(self.now_ms.saturating_sub(first.at_ms)).max(LEAST_MS) * DAY_MS
    }
}

/// What an event added of what a limit counts.
fn amount(event: &Event, resource: Resource) -> f64 {
    match resource {
        Resource::Semmns | Resource::Shmall => float(event.units),
        Resource::Semmni | Resource::Shmmni | Resource::Msgmni => float(event.objects),
    }
}

/// What these add in sum; `None` = most of it was removed again.
fn stays<'e>(events: impl Iterator<Item = &'e Event> + Clone, resource: Resource) -> Option<f64> {
    let added: f64 = events.clone().map(|event| amount(event, resource).max(0.0)).sum();
    let net: f64 = events.map(|event| amount(event, resource)).sum();
    (net >= MOST_OF_IT * added).then_some(net)
}

/// Whether most of what its processes before the present one made, and is there, is nobody's.
fn left_behind(maker: &Maker, state: &State, namespace: NamespaceId, kind: Kind) -> bool {
    let Some(namespace) = state.namespaces.iter().find(|n| n.id == namespace) else { return false };
    let earlier = maker.lots.iter().filter(|lot| !maker.pids.contains(&lot.pid));
    let ids: BTreeSet<i32> = earlier.flat_map(|lot| &lot.ids).copied().collect();
    let shown = show(namespace, kind, &ids, state.page_size);
    mostly(&shown.present.keys().copied().collect::<Vec<_>>(), &shown.orphans)
}

/// Events of one sort, oldest first, each with what it added.
type Added<'m> = Vec<(&'m Event, f64)>;

/// The events that are the cause.
struct Found<'m> {
    kind: CauseKind,
    /// Those that added something.
    added: Added<'m>,
    /// How many of the sort there were.
    of: usize,
    now_ms: i64,
}

impl<'m> Found<'m> {
    fn of(maker: &'m Maker, resource: Resource, left_behind: bool, (now_ms, pace): (i64, &Pace)) -> Option<Self> {
        let all = maker.events.iter().filter(|event| event.how != How::First);
        let all: Added<'m> = all.map(|event| (event, amount(event, resource))).collect();
        let added: f64 = all.iter().map(|(_, amount)| amount.max(0.0)).sum();
        let sort = |event: &Event| if left_behind && event.how == How::Other { How::Restart } else { event.how };
        let found = |how| {
            let of_it: Added<'m> = all.iter().copied().filter(|(event, _)| sort(event) == how).collect();
            let leaving = of_it.iter().copied().filter(|(event, amount)| *amount > 0.0 && !event.is_long);
            let leaving: Added<'m> = leaving.collect();
            let is_most = leaving.iter().map(|(_, amount)| amount).sum::<f64>() >= MOST_OF_IT * added;
            (leaving.len() >= LEAST && is_most).then_some((leaving, of_it))
        };
        if let Some((leaving, of_it)) = found(How::Restart) {
            let begin = looping(&leaving, now_ms, pace);
            let kind = match begin {
                Some(_) => CauseKind::CrashLoop,
                None if left_behind => CauseKind::Killed,
                None => CauseKind::Restart,
            };
            let from_ms = begin.unwrap_or(i64::MIN);
            let since = |list: Added<'m>| -> Added<'m> { list.into_iter().filter(|e| e.0.at_ms >= from_ms).collect() };
            return Some(Self { kind, added: since(leaving), of: since(of_it).len(), now_ms });
        }
        let (kind, (added, of_it)) = match found(How::Same) {
            Some(same) => (if is_reload(&same.0, pace) { CauseKind::Reload } else { CauseKind::Recurring }, same),
            None => (CauseKind::Process, found(How::Other)?),
        };
        let is_told = kind == CauseKind::Reload || is_apart(&added, pace);
        is_told.then_some(Self { kind, added, of: of_it.len(), now_ms })
    }

    fn cause(self, comm: String, room: u64) -> Cause {
        let count = real(self.added.len());
        let per_event = self.added.iter().map(|(_, amount)| amount).sum::<f64>() / count;
        let left = (room as f64 / per_event).floor();
        let gaps = gaps(&self.added);
        let first_ms = self.added.first().map_or(self.now_ms, |(event, _)| event.at_ms);
        // None for longer than usual: they have become rarer.
        let gap = mean(&gaps).max(float(self.now_ms.saturating_sub(first_ms)) / count).max(1.0);
        let spread = deviation(&gaps).max(gap / 10.0);
        let half = EIGHTY * spread * (left + left * left / real(gaps.len().max(1))).sqrt();
        let days = |ms: f64| (ms / DAY_MS).max(0.0);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Cause {
            kind: self.kind,
            comm,
            per_event,
            seen: number(self.added.len()),
            of: number(self.of.max(self.added.len())),
            left: whole(left),
            per_day: DAY_MS / gap,
            days_left: Days { likely: days(left * gap), low: days(left * gap - half), high: days(left * gap + half) },
        }
    }
}

/// Since when restarts follow each other within minutes, if they do to this day, milliseconds of time seen.
fn looping(restarts: &Added<'_>, now_ms: i64, pace: &Pace) -> Option<i64> {
    let close = float(pace.loop_ms());
    let latest_ms = restarts.last()?.0.at_ms;
    let gaps = gaps(restarts);
    let run = gaps.iter().rev().take_while(|gap| **gap <= close).count();
    let goes_on = now_ms.saturating_sub(latest_ms) <= pace.loop_ms();
    let from = restarts.len().checked_sub(run.saturating_add(1))?;
    (goes_on && run.saturating_add(1) >= LEAST).then(|| restarts.get(from).map(|(event, _)| event.at_ms)).flatten()
}

/// Whether these cannot be a trickle: as many each time, and far apart for so few.
fn is_reload(events: &Added<'_>, pace: &Pace) -> bool {
    let mut sizes: Vec<i64> = events.iter().map(|(event, _)| event.objects).collect();
    sizes.sort_unstable();
    let usual = sizes.get(sizes.len() / 2).copied().unwrap_or(0);
    let alike = sizes.iter().filter(|size| **size == usual).count();
    if alike.saturating_mul(5) < sizes.len().saturating_mul(4) {
        return false;
    }
    if usual >= 2 {
        return is_apart(events, pace);
    }
    let gaps = gaps(events);
    let is_rare = gaps.iter().all(|gap| *gap >= float(pace.rare_ms()));
    usual == 1 && events.len() >= LEAST_SINGLE && is_rare && deviation(&gaps) <= EVEN * mean(&gaps)
}

/// Whether as a rule there are minutes between them, and at least two objects in each.
fn is_apart(events: &Added<'_>, pace: &Pace) -> bool {
    let mut gaps = gaps(events);
    gaps.sort_by(f64::total_cmp);
    let several = events.iter().filter(|(event, _)| event.objects >= 2).count();
    let is_several = several.saturating_mul(4) >= events.len().saturating_mul(3);
    is_several && gaps.get(gaps.len() / 2).is_some_and(|median| *median >= float(pace.apart_ms()))
}

/// Times between events, milliseconds.
fn gaps(events: &Added<'_>) -> Vec<f64> {
    events.windows(2).map(|pair| float(pair[1].0.at_ms.saturating_sub(pair[0].0.at_ms))).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / real(values.len().max(1))
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
    (squares / real(values.len().saturating_sub(1).max(1))).sqrt()
}

fn float(value: i64) -> f64 {
    value as f64
}

fn real(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}
