//! What one host held at an instant: exactly what its last sample at or before that instant read, or the gap.

use std::sync::Arc;

use highwater_ipc::snapshot::Snapshot;

use super::AskError;
use super::fold::FoldError;
use super::gap::{Gap, grace_ms};
use super::past::{confirmed_ms, state_until};
use super::walk::Position;
use crate::host::HostId;
use crate::store::fleet::{Status, in_sight, in_sight_ms};
use crate::store::history::{Reading, Stretch, Until};

/// Which instant, by the host's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instant {
    /// The present.
    Now,
    /// Milliseconds since 1970.
    At(i64),
    /// That of the newest sample stored, however old.
    Last,
}

/// A state or the gap, and when that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The instant, host's wall clock, milliseconds.
    pub asked_ms: i64,
    /// The host's clock minus the collector's, milliseconds, as its newest samples show it.
    pub skew_ms: i64,
    /// What was held.
    pub answer: Answer,
}

/// A state or the gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What the host held.
    Held(Box<Held>),
    /// Nobody knows.
    Gap(Gap),
}

/// What a host held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The sample that first read this state.
    pub snapshot: Arc<Snapshot>,
    /// Where that sample's record is.
    pub position: Position,
    /// The first and last sample that read this state, host's wall clock, milliseconds.
    pub covered_ms: (i64, i64),
    /// Collector's clock when its record came, milliseconds.
    pub received_ms: i64,
    /// First and last sample of other stretches that hold the same wall time: the clock was set back. At most
    /// [`MOST_ALSO`].
    pub also_ms: Vec<(i64, i64)>,
}

/// The most other stretches an answer lists.
pub const MOST_ALSO: usize = 16;

/// What `host` held at `instant`; `now_ms` is the collector's wall clock.
pub async fn as_of(reading: &mut Reading, host: HostId, instant: Instant, now_ms: i64) -> Result<AsOf, AskError> {
    let status = reading.status(host).await?;
    let skew_ms = status.as_ref().map_or(0, |s| s.skew_ms);
    let host_now_ms = now_ms.saturating_add(skew_ms);
    let newest = reading.newest_stretch(host).await?;
    if let Some(settling) = settling(reading, host, instant, newest.as_ref()).await? {
        let asked_ms = if let Instant::At(t) = instant { t } else { host_now_ms };
        return Ok(AsOf { asked_ms, skew_ms, answer: Answer::Gap(settling) });
    }
    let Some(newest) = newest else {
        let asked_ms = if let Instant::At(t) = instant { t } else { host_now_ms };
        return Ok(AsOf { asked_ms, skew_ms, answer: Answer::Gap(Gap::no_sample_yet()) });
    };
    let end_ms = newest.end_wall_ms;
    let (asked_ms, holding) = match instant {
        Instant::Last => (end_ms, vec![newest.clone()]),
        Instant::Now if is_present(&newest, status.as_ref(), now_ms) => (host_now_ms, vec![newest.clone()]),
        Instant::Now => (host_now_ms, Vec::new()),
        Instant::At(t) => (t, holding(reading, host, t, &newest, status.as_ref()).await?),
    };
    let Some((stretch, others)) = holding.split_first() else {
        let gap = match instant {
            Instant::At(t) => gap_at(reading, host, (t, host_now_ms), &newest, status.as_ref()).await?,
            _ => Gap::after_all(&newest, status.as_ref()),
        };
        return Ok(AsOf { asked_ms, skew_ms, answer: Answer::Gap(gap) });
    };
    let until_ms = if let Instant::At(t) = instant { t } else { end_ms };
    let held = held_in(reading, host, stretch, until_ms).await?;
    let also_ms = others.iter().take(MOST_ALSO).map(|s| (s.from_wall_ms, s.end_wall_ms)).collect();
    Ok(AsOf { asked_ms, skew_ms, answer: Answer::Held(Box::new(Held { also_ms, ..held })) })
}

/// The gap of an instant at or after the visible end of a history whose next commit is in doubt: it may hold a sample of
/// that instant. What lies before that end, and the newest sample that is visible, are not in doubt.
async fn settling(
    reading: &mut Reading,
    host: HostId,
    instant: Instant,
    newest: Option<&Stretch>,
) -> Result<Option<Gap>, AskError> {
    let may_change = match (instant, newest) {
        (Instant::Now, _) | (Instant::At(_), None) => true,
        (Instant::At(t), Some(newest)) => t > newest.end_wall_ms,
        (Instant::Last, _) => false,
    };
    let is_settling = may_change && reading.is_settling(host).await?;
    Ok(is_settling.then(|| Gap::settling(newest)))
}

/// The stretches that speak for that wall time, the last first. The newest speaks for a while after its end, unless a
/// sample of that time is known to be on its way.
async fn holding(
    reading: &mut Reading,
    host: HostId,
    wall_ms: i64,
    newest: &Stretch,
    status: Option<&Status>,
) -> Result<Vec<Stretch>, AskError> {
    let most = i64::try_from(MOST_ALSO).unwrap_or(0).saturating_add(1);
    let mut holding = reading.stretches_at(host, wall_ms, most).await?;
    let on_its_way = status.and_then(|s| s.backlog_from_ms).is_some_and(|from_ms| from_ms <= wall_ms);
    let is_close = wall_ms > newest.end_wall_ms && wall_ms <= newest.end_wall_ms.saturating_add(grace_ms(newest));
    if is_close && !on_its_way {
        holding.insert(0, newest.clone());
    }
    Ok(holding)
}

/// Whether the newest sample is the present: the host is in sight, history holds all that it has sampled up to its clock's
/// now, nothing is on its way, and nobody said that it ended.
fn is_present(newest: &Stretch, status: Option<&Status>, now_ms: i64) -> bool {
    let Some(status) = status else { return false };
    let in_sight_ms = in_sight_ms(newest.interval_ms);
    let host_now_ms = now_ms.saturating_add(status.skew_ms).max(status.sampled_wall_ms);
    newest.end_reason.is_none()
        && status.backlog_from_ms.is_none()
        && in_sight(now_ms, status.last_seen_ms, newest.interval_ms)
        && host_now_ms.saturating_sub(newest.end_wall_ms) <= in_sight_ms
}

/// The last state of a stretch whose sample began at or before `until_ms`.
async fn held_in(reading: &mut Reading, host: HostId, stretch: &Stretch, until_ms: i64) -> Result<Held, AskError> {
    let found = state_until(reading, host, stretch, Until::Wall(until_ms)).await?.ok_or(FoldError::Empty)?;
    let from_ms = found.snapshot.at.wall_ms;
    let to_ms = confirmed_ms(reading, host, stretch, &found).await?;
    let position = Position { place: stretch.place, seq: found.seq };
    let (snapshot, received_ms) = (found.snapshot, found.received_ms);
    Ok(Held { snapshot, position, covered_ms: (from_ms, to_ms.max(from_ms)), received_ms, also_ms: Vec::new() })
}

/// The gap that holds an instant which no stretch holds.
async fn gap_at(
    reading: &mut Reading,
    host: HostId,
    (asked_ms, host_now_ms): (i64, i64),
    newest: &Stretch,
    status: Option<&Status>,
) -> Result<Gap, AskError> {
    let before = reading.stretch_ended_before(host, asked_ms).await?;
    // Where the clock was set back, older stretches lie ahead of the newest: it may yet come to what is between them.
    let is_open = before.as_ref().is_some_and(|before| before.place == newest.place);
    if !is_open && let Some(after) = reading.stretch_begun_after(host, asked_ms).await? {
        let mut stored = reading.gap_at(host, asked_ms).await?;
        if before.is_none() && stored.is_none() {
            // A clock that was set forward leaves no gap of its own; what ended before that may be forgotten.
            stored = reading.forgotten(host).await?;
        }
        return Ok(Gap::between(before.as_ref(), &after, stored));
    }
    if asked_ms > host_now_ms.saturating_add(in_sight_ms(newest.interval_ms)) {
        return Err(AskError::Future { asked_ms, host_now_ms });
    }
    Ok(Gap::after_all(newest, status))
}
