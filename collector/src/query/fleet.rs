//! All hosts: who is there, how they are, what is nearest to its limit.

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::limits::{Resource, Usage, nearest};
use highwater_ipc::snapshot::State;

use super::AskError;
use super::as_of::{Answer, Instant, as_of};
use crate::store::fleet::{HostFilter, HostName, HostRow, in_sight_ms};
use crate::store::history::Reading;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// One of these availability states; none = all.
    pub states: Vec<SysvipcState>,
    /// Only hosts that have reported: of one that has only enrolled nothing is known, not even that it is `unknown`.
    pub reported: bool,
    /// All of these labels.
    pub labels: Vec<(String, String)>,
    /// Only hosts that should report and do not.
    pub stale: bool,
    /// Also hosts that are gone.
    pub all: bool,
    /// At this instant of the collector's clock, milliseconds; `None` = now.
    pub at_ms: Option<i64>,
    /// Only this host.
    pub only: Option<crate::host::HostId>,
    /// Those after this one, by name and id.
    pub after: Option<HostName>,
    /// The most hosts wanted.
    pub most: usize,
}

/// A page of hosts.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// By name and id.
    pub hosts: Vec<Host>,
    /// Where to go on; `None` = that was all.
    pub next: Option<HostName>,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// What is stored of it.
    pub row: HostRow,
    /// When it was last heard of, collector's clock, milliseconds; `None` = never.
    pub last_seen_ms: Option<i64>,
    /// How it is.
    pub lifecycle: Lifecycle,
    /// Whether its agent's stream is up.
    pub connected: bool,
    /// What is nearest to its limit.
    pub worst: Option<Worst>,
}

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It reports.
    Live,
    /// It should report and does not.
    Silent,
    /// Silent for so long that nobody expects it back: [`GONE_AFTER_MS`], or [`EPHEMERAL_GONE_AFTER_MS`].
    Gone,
}

impl Lifecycle {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Lifecycle::Live => "live",
            Lifecycle::Silent => "silent",
            Lifecycle::Gone => "gone",
        }
    }
}

/// The resource that is nearest to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worst {
    /// Inode of the namespace.
    pub namespace: Option<u64>,
    /// Which, and how near.
    pub usage: Usage,
}

/// Silent for so long, a host is gone: 7 days.
pub const GONE_AFTER_MS: i64 = 7 * 86_400_000;

/// The same for a host with the label `ephemeral=1`: one hour.
pub const EPHEMERAL_GONE_AFTER_MS: i64 = 3_600_000;

/// Answers; `now_ms` is the collector's wall clock.
pub async fn fleet(reading: &mut Reading, question: &Question, now_ms: i64) -> Result<Fleet, AskError> {
    let hide_gone = !question.all && question.at_ms.is_none();
    let filter = HostFilter {
        states: question.states.clone(),
        reported: question.reported,
        labels: question.labels.clone(),
        silent_now_ms: (question.stale && question.at_ms.is_none()).then_some(now_ms),
        gone_before_ms: hide_gone.then_some(now_ms.saturating_sub(GONE_AFTER_MS)),
        ephemeral_gone_before_ms: hide_gone.then_some(now_ms.saturating_sub(EPHEMERAL_GONE_AFTER_MS)),
        facts_at_ms: question.at_ms,
        only: question.only,
        after: question.after.clone(),
    };
    let most = i64::try_from(question.most).unwrap_or(i64::MAX);
    let mut rows = reading.hosts(&filter, most.saturating_add(1)).await?;
    let more = rows.len() > question.most;
    rows.truncate(question.most);
    let next = rows.last().filter(|_| more).map(|r| r.host.clone());
    let mut hosts = Vec::with_capacity(rows.len());
    for row in rows {
        let host = match question.at_ms {
            None => Some(present(row, now_ms)),
            Some(at_ms) => past(reading, row, at_ms, now_ms).await?,
        };
        let wanted = |h: &Host| match h.lifecycle {
            Lifecycle::Gone => question.all,
            Lifecycle::Silent => true,
            Lifecycle::Live => !question.stale,
        };
        hosts.extend(host.filter(wanted));
    }
    Ok(Fleet { hosts, next })
}

fn present(row: HostRow, now_ms: i64) -> Host {
    let last_seen_ms = row.status.as_ref().map(|s| s.last_seen_ms);
    let interval_ms = row.status.as_ref().map_or(0, |s| s.interval_ms);
    let lifecycle = lifecycle(now_ms, last_seen_ms, interval_ms, is_ephemeral(&row));
    let connected = lifecycle == Lifecycle::Live && row.status.as_ref().is_some_and(|s| s.disconnected_ms.is_none());
    let worst = row.status.as_ref().and_then(|s| worst_of(s.namespace, &s.usage));
    Host { last_seen_ms, lifecycle, connected, worst, row }
}

/// How a host was at an instant of the collector's clock; `None` = it had no sample yet.
async fn past(reading: &mut Reading, row: HostRow, at_ms: i64, now_ms: i64) -> Result<Option<Host>, AskError> {
    let skew_ms = row.status.as_ref().map_or(0, |s| s.skew_ms);
    let asked_ms = at_ms.saturating_add(skew_ms);
    let as_of = as_of(reading, row.host.id, Instant::At(asked_ms), now_ms).await?;
    let connected = false;
    let (last_ms, lifecycle, worst) = match &as_of.answer {
        Answer::Held(held) => (held.covered_ms.1.min(asked_ms), Lifecycle::Live, worst_in(&held.snapshot.state)),
        Answer::Gap(gap) => {
            let Some(last_ms) = gap.from_ms else { return Ok(None) };
            (last_ms, lifecycle(asked_ms, Some(last_ms), 0, is_ephemeral(&row)), None)
        }
    };
    let last_seen_ms = Some(last_ms.saturating_sub(skew_ms));
    Ok(Some(Host { last_seen_ms, lifecycle, connected, worst, row }))
}

fn is_ephemeral(row: &HostRow) -> bool {
    row.labels.iter().any(|(k, v)| k == "ephemeral" && v == "1")
}

fn lifecycle(now_ms: i64, last_seen_ms: Option<i64>, interval_ms: i64, ephemeral: bool) -> Lifecycle {
    let Some(last_seen_ms) = last_seen_ms else { return Lifecycle::Silent };
    let silent_ms = now_ms.saturating_sub(last_seen_ms);
    let gone_ms = if ephemeral { EPHEMERAL_GONE_AFTER_MS } else { GONE_AFTER_MS };
    if silent_ms <= in_sight_ms(interval_ms) {
        Lifecycle::Live
    } else if silent_ms > gone_ms {
        Lifecycle::Gone
    } else {
        Lifecycle::Silent
    }
}

fn worst_of(namespace: Option<u64>, usage: &[(Resource, u64, u64)]) -> Option<Worst> {
    let cross = |a: &Usage, b: &Usage| {
        let full = a.limit == 0 && b.limit != 0;
        full || (b.limit != 0 && u128::from(a.used) * u128::from(b.limit) > u128::from(b.used) * u128::from(a.limit))
    };
    let all = usage.iter().map(|(resource, used, limit)| Usage { resource: *resource, used: *used, limit: *limit });
    let usage = all.reduce(|best, next| if cross(&next, &best) { next } else { best })?;
    Some(Worst { namespace, usage })
}

fn worst_in(state: &State) -> Option<Worst> {
    let own = state.namespaces.first()?;
    let usage = nearest(own.totals.as_ref()?, own.limits.as_ref()?);
    Some(Worst { namespace: Some(own.id.inode), usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_live_then_silent_then_gone() {
        let day = 86_400_000;
        assert_eq!(lifecycle(10_000, Some(0), 10_000, false), Lifecycle::Live);
        assert_eq!(lifecycle(30_001, Some(0), 10_000, false), Lifecycle::Silent);
        assert_eq!(lifecycle(7 * day, Some(0), 10_000, false), Lifecycle::Silent);
        assert_eq!(lifecycle(7 * day + 1, Some(0), 10_000, false), Lifecycle::Gone);
        assert_eq!(lifecycle(3_600_001, Some(0), 10_000, true), Lifecycle::Gone);
        assert_eq!(lifecycle(0, None, 0, false), Lifecycle::Silent);
    }

    #[test]
    fn the_worst_resource_is_found_among_those_that_could_be_read() {
        let usage = [(Resource::Semmni, 5, 10), (Resource::Shmall, u64::MAX - 1, u64::MAX), (Resource::Msgmni, 1, 2)];
        assert_eq!(worst_of(Some(7), &usage).unwrap().usage.resource, Resource::Shmall);
        assert_eq!(worst_of(Some(7), &[(Resource::Msgmni, 0, 0)]).unwrap().usage.ratio(), 1.0);
        assert_eq!(worst_of(None, &[]), None);
    }
}
