//! What the stored history of a host must be: a prefix in order, whole stretches, gaps between them with a reason that
//! befell the host, and the true state at every instant.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater::host::HostId;
use highwater::query::fold::{Said, fold_on, read};
use highwater::store::frame::Frame;
use highwater::store::gap::Gap;
use highwater::store::history::StoredRecord;
use highwater_ipc::record::{EpochNo, GapReason, RecordKind, Seq};
use highwater_ipc::snapshot::Snapshot;
use highwater_ipc::time::At;

use crate::database::Rows;
use crate::ground::{Ground, Kept, Sampled, broken};
use crate::machine::INTERVAL_MS;

/// Boot time that may pass between two samples of one stretch, microseconds.
const MOST_US: u64 = 3 * 1000 * INTERVAL_MS as u64;

/// One sample that history shows: its place, where the ledger says it came from, its wall time as stored.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'w> {
    pub(crate) place: (EpochNo, Seq),
    pub(crate) number: usize,
    sample: &'w Sampled,
    wall_ms: i64,
}

/// History of one host as the rows have it, stretch by stretch.
pub(crate) struct History<'w> {
    host: HostId,
    ground: &'w Ground,
    rows: &'w Rows,
    stretches: Vec<((EpochNo, u32), Vec<Shown<'w>>)>,
}

impl<'w> History<'w> {
    /// Reads it; a stretch that does not end with its last sample breaks a promise.
    pub(crate) fn of(ground: &'w Ground, host: HostId, rows: &'w Rows) -> Kept<Self> {
        let mut stretches = Vec::with_capacity(rows.stretches.len());
        for place in rows.stretches.keys() {
            stretches.push((*place, shown(ground, rows, *place)?));
        }
        Ok(Self { host, ground, rows, stretches })
    }

    /// Every sample that it shows, in order.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Shown<'w>> {
        self.stretches.iter().flat_map(|(_, shown)| shown)
    }

    /// 2: what must hold after every step.
    pub(crate) fn check(&self) -> Kept {
        let mut last = None;
        for (place, shown) in &self.stretches {
            self.whole(shown)?;
            let Some(first) = shown.first() else { return broken(format!("stretch {place:?} is empty")) };
            self.between(last, first)?;
            last = shown.last();
        }
        let stray = self
            .rows
            .gaps
            .keys()
            .find(|at| !self.stretches.iter().any(|(_, s)| s.first().is_some_and(|s| s.place == **at)));
        stray.map_or(Ok(()), |at| broken(format!("{}: a gap ends at {at:?}, where no stretch begins", self.host)))
    }

    /// No sample is missing within a stretch.
    fn whole(&self, shown: &[Shown]) -> Kept {
        for pair in shown.windows(2) {
            let [one, two] = pair else { continue };
            if !follows(one, two) {
                return broken(format!("{}: one stretch holds {:?} and then {:?}", self.host, one.place, two.place));
            }
        }
        Ok(())
    }

    /// Between two stretches lies one gap, unless a clock was set and nothing is missing.
    fn between(&self, before: Option<&Shown>, after: &Shown) -> Kept {
        let Some(gap) = self.rows.gaps.get(&after.place) else {
            // While one of two machines that woke from one image stalled, the other one may have sampled in its place.
            let twins = self.ground.truth.has_befallen(self.host, GapReason::Forked);
            let fits = before.is_some_and(|before| follows(before, after) || (twins && is_next(before, after)));
            return if fits { Ok(()) } else { broken(format!("{}: no gap before {:?}", self.host, after.place)) };
        };
        let from = before.map(|before| before.wall_ms);
        if gap.from_wall_ms != from || gap.to_wall_ms != after.sample.at.wall_ms {
            return broken(format!("{}: {gap:?} should begin at {from:?}", self.host));
        }
        if self.is_plausible(gap, before, after) {
            return Ok(());
        }
        broken(format!("{}: the gap before {:?} says {:?}, which never befell it", self.host, after.place, gap.reason))
    }

    /// Whether what a gap says is what happened.
    fn is_plausible(&self, gap: &Gap, before: Option<&Shown>, after: &Shown) -> bool {
        use GapReason::{AgentKilled, AgentStopped, BeforeFirst, Forked, HostDown, Stalled, Suspended, Unexplained};
        let truth = &self.ground.truth;
        let forked = truth.has_befallen(self.host, Forked);
        match gap.reason {
            BeforeFirst => before.is_none(),
            // Two machines that woke from one image sampled the same, and went apart.
            Unexplained => forked,
            // What happens to a machine happens between two of its samples.
            AgentKilled | AgentStopped | HostDown | Stalled | Suspended if !forked => {
                let from = before.map_or(i64::MIN, |before| before.sample.true_ms);
                truth.has_befallen_within(self.host, gap.reason, (from, after.sample.true_ms))
            }
            reason => truth.has_befallen(self.host, reason),
        }
    }

    /// 3: replaying each stretch shows each sample's state, and so does as-of at its instant.
    pub(crate) fn check_all_states(&self) -> Kept {
        for (place, shown) in &self.stretches {
            let mut state: Option<Arc<Snapshot>> = None;
            for this in shown {
                if let Some(frame) = self.rows.frames.get(&this.place) {
                    match read(state.as_ref().map(|s| &s.state), &stored(frame)) {
                        Ok(Said::Sample { snapshot, .. }) => state = Some(snapshot),
                        other => return broken(format!("{}: frame {:?} says {other:?}", self.host, this.place)),
                    }
                }
                if state.as_ref().is_none_or(|s| s.state != *this.sample.state) {
                    let what = format!("stretch {place:?} does not show what sample {} read", this.number);
                    return broken(format!("{}: {what} at {:?}", self.host, this.place));
                }
            }
        }
        // Replaying shows all; as-of is asked at the ends of stretches, where it may go wrong, and at some of the rest.
        let ends =
            self.stretches.iter().flat_map(|(_, s)| s.first().into_iter().chain(s.last())).map(|s| s.sample.at.wall_ms);
        let of_host = self.ground.truth.samples.iter().filter(|sample| sample.host == self.host);
        let some = of_host.map(|sample| sample.at.wall_ms).step_by(5);
        ends.flat_map(|wall_ms| [wall_ms - 1, wall_ms, wall_ms + 1])
            .chain(some)
            .try_for_each(|wall_ms| self.as_of(wall_ms))
    }

    /// 3: `--at` that instant is the last sample at or before it in the last stretch that holds it; where none holds it,
    /// there is nothing to show. The statements are those of `store/history.rs`.
    pub(crate) fn as_of(&self, wall_ms: i64) -> Kept {
        let holds = |shown: &[Shown]| {
            shown.first().is_some_and(|s| s.wall_ms <= wall_ms) && shown.last().is_some_and(|s| s.wall_ms >= wall_ms)
        };
        let Some((place, shown)) = self.stretches.iter().rfind(|(_, shown)| holds(shown)) else { return Ok(()) };
        let of_stretch = |frame: &&Frame| {
            let is_state = matches!(frame.kind, RecordKind::Keyframe | RecordKind::Delta);
            is_state && frame.epoch == place.0 && frame.stretch == place.1
        };
        let all = self.rows.frames.range((place.0, Seq(0))..=(place.0, Seq(u64::MAX)));
        let frames: Vec<&Frame> = all.map(|(_, frame)| frame).filter(of_stretch).collect();
        let Some(last) = frames.iter().rfind(|frame| frame.wall_ms <= wall_ms) else {
            return broken(format!("{}: nothing is stored of {wall_ms}, which a stretch holds", self.host));
        };
        let since_base = frames.iter().filter(|f| (last.base.seq..=last.seq).contains(&f.seq));
        let snapshot = match fold_on(None, &since_base.map(|frame| stored(frame)).collect::<Vec<_>>())
            .map(|(snapshot, _)| snapshot)
        {
            Ok(snapshot) => snapshot,
            Err(why) => return broken(format!("{}: at {wall_ms}: {why}", self.host)),
        };
        let truth = shown.iter().rfind(|this| this.wall_ms <= wall_ms);
        if truth.is_none_or(|truth| *truth.sample.state != snapshot.state) {
            let number = truth.map(|truth| truth.number);
            return broken(format!("{}: at {wall_ms} is not what sample {number:?} read", self.host));
        }
        Ok(())
    }

    /// Where each sample is that it shows.
    pub(crate) fn places(&self) -> BTreeMap<(EpochNo, Seq), usize> {
        self.shown().map(|this| (this.place, this.number)).collect()
    }
}

/// The samples that a stretch claims: up to its own end, or as far as its epoch is covered.
fn shown<'w>(ground: &'w Ground, rows: &Rows, place: (EpochNo, u32)) -> Kept<Vec<Shown<'w>>> {
    let (Some(stretch), Some(stream)) = (rows.stretches.get(&place), rows.streams.get(&place.0)) else {
        return broken(format!("stretch {place:?} has no stream"));
    };
    let end = stretch.to.or(stream.covered).unwrap_or(stretch.from.at);
    let next = rows.stretches.get(&(place.0, place.1 + 1)).map_or(Seq(u64::MAX), |next| next.from.from);
    let mut wall_ms = i64::MIN;
    let mut shown = Vec::new();
    for (at, number) in rows.ledger.range((place.0, stretch.from.from)..(place.0, next)) {
        let sample = &ground.truth.samples[*number];
        if sample.at.boot_us <= end.boot_us {
            // Within a stretch wall time never falls: a clock set back by less than a step is held.
            wall_ms = wall_ms.max(sample.at.wall_ms);
            shown.push(Shown { place: *at, number: *number, sample, wall_ms });
        }
    }
    let last = shown.last().map(|last| At { wall_ms: last.wall_ms, boot_us: last.sample.at.boot_us });
    // Of two machines that woke from one image the later one's boot clock may be behind the earlier one's last sample.
    let twins = ground.truth.has_befallen(stretch.from.host, GapReason::Forked);
    let fits =
        last.is_some_and(|last| last == end || (twins && last.wall_ms == end.wall_ms && last.boot_us < end.boot_us));
    if !fits {
        return broken(format!("stretch {place:?} ends at {end:?}, its last sample was {last:?}"));
    }
    Ok(shown)
}

/// Whether nothing is missing between two samples. An event of a clock that was set has a position of its own.
fn follows(one: &Shown, two: &Shown) -> bool {
    is_next(one, two) && two.sample.at.boot_since(&one.sample.at) <= MOST_US
}

fn is_next(one: &Shown, two: &Shown) -> bool {
    one.place.0 == two.place.0 && two.place.1.0 <= one.place.1.0 + 2
}

fn stored(frame: &Frame) -> StoredRecord {
    StoredRecord {
        seq: frame.seq,
        kind: frame.kind,
        wall_ms: frame.wall_ms,
        prev_wall_ms: frame.prev_wall_ms,
        received_ms: 0,
        body: frame.body.to_vec(),
    }
}
