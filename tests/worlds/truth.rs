//! What is true of one host: every record that is durable, in order, in a plain list, and naive answers from it. It shares
//! no code with the product's queries; what it finds it finds by looking at everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_ipc::activity::Activity;
use highwater_ipc::record::{Content, EpochNo, Event, GapReason, Seq};
use highwater_ipc::snapshot::{BootId, Snapshot};
use highwater_ipc::time::At;

use crate::machine::{Made, Opens};

/// Epoch, number of the stretch in it.
pub(crate) type Place = (EpochNo, i32);

/// What a record says.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Sample { snapshot: Arc<Snapshot>, gap: Option<GapReason>, activity: Activity },
    Event(At, Event),
    GapReason(At, GapReason),
}

/// A durable record that is no heartbeat.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) seq: Seq,
    /// Wall clock; within a stretch it never falls.
    pub(crate) wall_ms: i64,
    /// That of the epoch's sample before it, heartbeats included.
    pub(crate) prev_wall_ms: Option<i64>,
    /// Collector's clock.
    pub(crate) received_ms: i64,
    pub(crate) told: Told,
}

impl Entry {
    pub(crate) fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        if let Told::Sample { snapshot, .. } = &self.told { Some(snapshot) } else { None }
    }

    pub(crate) fn position(&self) -> (Place, Seq) {
        (self.place, self.seq)
    }
}

/// Samples without a gap, between which wall time does not fall.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    pub(crate) place: Place,
    boot_id: BootId,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
}

/// Samples are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) from_ms: Option<i64>,
    pub(crate) to_ms: i64,
    pub(crate) reason: GapReason,
}

/// What is known of an epoch as a whole.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    interval_ms: i64,
    covered_ms: Option<i64>,
    last_word: Option<GapReason>,
}

/// One host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) entries: Vec<Entry>,
    pub(crate) stretches: Vec<Stretch>,
    pub(crate) gaps: Vec<Gap>,
    epochs: BTreeMap<EpochNo, Known>,
    /// Times of all samples, merged heartbeats only by their last.
    pub(crate) instants: Vec<i64>,
}

/// What an instant must answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expected {
    /// The entry with this index; until when it was confirmed; other stretches that hold the instant.
    Held { index: usize, until_ms: i64, also: Vec<(i64, i64)> },
    /// A gap that is over: bounds and reason.
    Closed { from_ms: Option<i64>, to_ms: i64, reason: GapReason },
    /// One that nothing has ended yet, since then.
    Open { from_ms: Option<i64> },
    /// The instant has not come.
    Future,
}

/// What a record is to a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// It lies in a stretch that was over before.
    Before,
    /// It is what was held as the span began.
    Begin,
    /// It lies in it.
    Span,
}

impl Truth {
    /// A record is durable.
    pub(crate) fn store(&mut self, made: &Made, received_ms: i64) {
        let at = made.body.at;
        if made.opens != Opens::Nothing {
            self.open(made);
        }
        let known = self.epochs.entry(made.epoch).or_default();
        let Some(stretch) = self.stretches.last_mut() else { return };
        let wall_ms = at.wall_ms.max(stretch.to_ms);
        let prev_wall_ms = known.covered_ms;
        let told = match &made.body.content {
            Content::Keyframe(keyframe) => Some((keyframe.took_us, keyframe.gap, &keyframe.activity)),
            Content::Delta(delta) => Some((delta.took_us, None, &delta.activity)),
            Content::Heartbeat | Content::Event(_) | Content::GapReason(_) => None,
        };
        let told = match (told, &made.state, &made.body.content) {
            (Some((took_us, gap, activity)), Some(state), _) => {
                let snapshot = Arc::new(Snapshot { at, took_us, state: (**state).clone() });
                Some(Told::Sample { snapshot, gap, activity: activity.clone() })
            }
            (_, _, Content::Event(event)) => Some(Told::Event(at, *event)),
            (_, _, Content::GapReason(reason)) => Some(Told::GapReason(at, *reason)),
            _ => None,
        };
        if let Some(told) = told {
            let (place, seq) = (stretch.place, made.record.seq);
            self.entries.push(Entry { place, seq, wall_ms, prev_wall_ms, received_ms, told });
        }
        if let Some(state) = &made.state {
            stretch.to_ms = wall_ms;
            known.covered_ms = Some(wall_ms);
            known.interval_ms = i64::from(state.interval_ms);
            known.last_word = None;
            self.instants.push(at.wall_ms);
        } else if let Content::GapReason(reason) = made.body.content {
            known.last_word = Some(reason);
        }
    }

    fn open(&mut self, made: &Made) {
        let wall_ms = made.body.at.wall_ms;
        let before = self.stretches.last();
        if let Opens::Gap(why) = made.opens {
            let reason = match (why, before) {
                (None, None) => GapReason::BeforeFirst,
                // Whoever was killed together with its machine cannot tell.
                (Some(GapReason::AgentKilled), Some(before)) if before.boot_id != made.boot_id => GapReason::HostDown,
                (why, _) => why.unwrap_or(GapReason::Unexplained),
            };
            self.gaps.push(Gap { from_ms: before.map(|before| before.to_ms), to_ms: wall_ms, reason });
        }
        let number = before.filter(|before| before.place.0 == made.epoch).map_or(0, |before| before.place.1 + 1);
        self.stretches.push(Stretch {
            place: (made.epoch, number),
            boot_id: made.boot_id,
            from_ms: wall_ms,
            to_ms: wall_ms,
        });
    }

    /// Epochs with records.
    pub(crate) fn epochs(&self) -> Vec<EpochNo> {
        self.epochs.keys().copied().collect()
    }

    /// The records of a stretch.
    pub(crate) fn entries_of(&self, place: Place) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter(move |(_, entry)| entry.place == place)
    }

    fn samples(&self, place: Place) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries_of(place).filter(|(_, entry)| entry.snapshot().is_some())
    }

    /// What the last sample of a stretch at or before an instant read.
    pub(crate) fn held(&self, stretch: &Stretch, wall_ms: i64) -> Option<(usize, i64)> {
        let (index, _) = self.samples(stretch.place).filter(|(_, e)| e.wall_ms <= wall_ms).last()?;
        let next = self.samples(stretch.place).find(|(later, _)| *later > index);
        let until_ms = next.and_then(|(_, e)| e.prev_wall_ms).unwrap_or(stretch.to_ms);
        let from_ms = self.entries[index].snapshot()?.at.wall_ms;
        Some((index, until_ms.max(from_ms)))
    }

    /// The newest sample.
    pub(crate) fn last(&self) -> Option<(usize, i64)> {
        let newest = self.stretches.last()?;
        self.held(newest, newest.to_ms)
    }

    pub(crate) fn interval_ms(&self) -> i64 {
        self.stretches.last().map_or(0, |newest| self.epochs[&newest.place.0].interval_ms)
    }

    /// What was held at an instant; `backlog_from_ms` is since when records are known to be on their way.
    pub(crate) fn at(&self, wall_ms: i64, host_now_ms: i64, backlog_from_ms: Option<i64>) -> Expected {
        let Some(newest) = self.stretches.last() else { return Expected::Open { from_ms: None } };
        let known = self.epochs[&newest.place.0];
        let mut holding: Vec<&Stretch> =
            self.stretches.iter().filter(|s| s.from_ms <= wall_ms && wall_ms <= s.to_ms).collect();
        // The last sample speaks for three intervals, unless it is known to be no more the last.
        let speaks_until_ms = newest.to_ms + known.interval_ms * 3;
        let is_over = known.last_word.is_some() || backlog_from_ms.is_some_and(|from_ms| from_ms <= wall_ms);
        if newest.to_ms < wall_ms && wall_ms <= speaks_until_ms && !is_over {
            holding.push(newest);
        }
        if let Some(stretch) = holding.pop() {
            let Some((index, until_ms)) = self.held(stretch, wall_ms) else { return Expected::Future };
            let also = holding.iter().rev().take(16).map(|s| (s.from_ms, s.to_ms)).collect();
            return Expected::Held { index, until_ms, also };
        }
        self.gap_at(wall_ms, host_now_ms, newest)
    }

    fn gap_at(&self, wall_ms: i64, host_now_ms: i64, newest: &Stretch) -> Expected {
        let before = self.stretches.iter().filter(|s| s.to_ms < wall_ms).max_by_key(|s| s.to_ms);
        let after = self.stretches.iter().filter(|s| s.from_ms > wall_ms).min_by_key(|s| s.from_ms);
        match (before, after) {
            (Some(before), _) if before.place == newest.place => {}
            (_, None) => {}
            (before, Some(after)) => {
                let holds = |gap: &&Gap| gap.from_ms.is_none_or(|from_ms| from_ms <= wall_ms) && wall_ms <= gap.to_ms;
                return match (self.gaps.iter().rfind(holds), before) {
                    (Some(gap), Some(_)) => {
                        Expected::Closed { from_ms: gap.from_ms, to_ms: gap.to_ms, reason: gap.reason }
                    }
                    (Some(gap), None) => Expected::Closed { from_ms: None, to_ms: after.from_ms, reason: gap.reason },
                    (None, before) => {
                        let from_ms = before.map(|before| before.to_ms);
                        let reason = if from_ms.is_some() { GapReason::Unexplained } else { GapReason::BeforeFirst };
                        Expected::Closed { from_ms, to_ms: after.from_ms, reason }
                    }
                };
            }
        }
        if wall_ms > host_now_ms + (self.interval_ms() * 3).max(3_000) {
            return Expected::Future;
        }
        Expected::Open { from_ms: Some(newest.to_ms) }
    }

    /// The records of a span, in order, after what its stretches begin with: what each held as the span began, or the
    /// first of them what the one before it held last.
    pub(crate) fn walk(&self, (from_ms, until_ms): (i64, i64)) -> Vec<(usize, Of)> {
        let mut entries = Vec::new();
        let shared = self.stretches.iter().enumerate().filter(|(_, s)| s.from_ms <= until_ms && s.to_ms >= from_ms);
        for (nth, (number, stretch)) in shared.enumerate() {
            let mut of_it: Vec<usize> = self.entries_of(stretch.place).map(|(index, _)| index).collect();
            if stretch.from_ms <= from_ms {
                let Some((begin, _)) = self.held(stretch, from_ms) else { continue };
                entries.push((begin, Of::Begin));
                of_it.retain(|index| *index > begin);
            } else if nth == 0 {
                let before = number.checked_sub(1).and_then(|number| self.held(&self.stretches[number], i64::MAX));
                entries.extend(before.map(|(index, _)| (index, Of::Before)));
            }
            of_it.retain(|index| self.entries[*index].wall_ms <= until_ms);
            entries.extend(of_it.into_iter().map(|index| (index, Of::Span)));
        }
        entries
    }

    /// The closed gaps between two instants; what was before the first sample is none.
    pub(crate) fn gaps_between(&self, from_ms: i64, to_ms: i64) -> Vec<Gap> {
        let gaps = self.gaps.iter().filter(|gap| gap.from_ms.is_some_and(|from| from <= to_ms) && gap.to_ms >= from_ms);
        gaps.cloned().collect()
    }
}
