//! All hosts: who is there, how they are, what is nearest to its limit.

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::limits::{Resource, Usage, nearest};
use highwater_ipc::risk::RiskKind;
use highwater_ipc::snapshot::State;

use super::AskError;
use super::as_of::{Answer, Instant, as_of};
use crate::store::fleet::{HostFilter, HostName, HostRow, RiskFilter, TurnedAway, in_sight};
use crate::store::history::Reading;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// One of these availability states; none = all.
    pub states: Vec<SysvipcState>,
    /// Only hosts that have reported: of one that has only enrolled nothing is known, not even that it is `unknown`.
    pub reported: bool,
    /// Only hosts with one of these risks; none = all hosts.
    pub at_risk: Vec<AtRisk>,
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

/// The kinds of risks that a host can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtRisk {
    /// Another agent uses its certificate.
    Clone,
    /// One that its agent reports.
    Reported(RiskKind),
}

impl AtRisk {
    /// All of them.
    pub const ALL: [AtRisk; 2] = [AtRisk::Clone, AtRisk::Reported(RiskKind::RemoveIpc)];

    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            AtRisk::Clone => "clone",
            AtRisk::Reported(kind) => kind.name(),
        }
    }

    /// The kind of that word.
    pub fn from_name(name: &str) -> Option<AtRisk> {
        AtRisk::ALL.into_iter().find(|r| r.name() == name)
    }
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
    /// An agent with its certificate that is turned away these days.
    pub turned_away: Option<TurnedAway>,
}

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It reports.
    Live,
    /// It should report and does not.
    Silent,
    /// Nobody reports as it, and an agent that would is turned away: a copy of it, or set back.
    Quarantined,
    /// Silent for so long that nobody expects it back: [`GONE_AFTER_MS`], or [`EPHEMERAL_GONE_AFTER_MS`].
    Gone,
}

impl Lifecycle {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Lifecycle::Live => "live",
            Lifecycle::Silent => "silent",
            Lifecycle::Quarantined => "quarantined",
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

/// A newcomer that was turned away comes again after 30 to 60 s; one not seen for so long is gone: 2 minutes.
pub const TURNED_AWAY_MS: i64 = 120_000;

/// Answers; `now_ms` is the collector's wall clock.
pub async fn fleet(reading: &mut Reading, question: &Question, now_ms: i64) -> Result<Fleet, AskError> {
    let hide_gone = !question.all && question.at_ms.is_none();
    let filter = HostFilter {
        states: question.states.clone(),
        reported: question.reported,
        at_risk: risk_filter(question, now_ms),
        labels: question.labels.clone(),
        silent_now_ms: (question.stale && question.at_ms.is_none()).then_some(now_ms),
        gone_before_ms: hide_gone.then_some(now_ms.saturating_sub(GONE_AFTER_MS)),
        ephemeral_gone_before_ms: hide_gone.then_some(now_ms.saturating_sub(EPHEMERAL_GONE_AFTER_MS)),
        quarantined_since_ms: hide_gone.then_some(now_ms.saturating_sub(TURNED_AWAY_MS)),
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
            Lifecycle::Silent | Lifecycle::Quarantined => true,
            Lifecycle::Live => !question.stale,
        };
        hosts.extend(host.filter(wanted));
    }
    Ok(Fleet { hosts, next })
}

/// Of clones only the last one is remembered, so nothing is known of who was one in the past.
fn risk_filter(question: &Question, now_ms: i64) -> Option<RiskFilter> {
    let reported = |risk: &AtRisk| if let AtRisk::Reported(kind) = risk { Some(*kind) } else { None };
    let clones = question.at_risk.contains(&AtRisk::Clone) && question.at_ms.is_none();
    (!question.at_risk.is_empty()).then(|| RiskFilter {
        kinds: question.at_risk.iter().filter_map(reported).collect(),
        clone_since_ms: clones.then_some(now_ms.saturating_sub(TURNED_AWAY_MS)),
    })
}

fn present(row: HostRow, now_ms: i64) -> Host {
    let last_seen_ms = row.status.as_ref().map(|s| s.last_seen_ms);
    let interval_ms = row.status.as_ref().map_or(0, |s| s.interval_ms);
    let turned_away = row.status.as_ref().and_then(|s| s.turned_away.clone());
    let turned_away = turned_away.filter(|t| now_ms.saturating_sub(t.at_ms) <= TURNED_AWAY_MS);
    let lifecycle = match lifecycle(now_ms, last_seen_ms, interval_ms, is_ephemeral(&row)) {
        Lifecycle::Silent | Lifecycle::Gone if turned_away.is_some() => Lifecycle::Quarantined,
        other => other,
    };
    let connected = lifecycle == Lifecycle::Live && row.status.as_ref().is_some_and(|s| s.disconnected_ms.is_none());
    let worst = row.status.as_ref().and_then(|s| worst_of(s.namespace, &s.usage));
    Host { last_seen_ms, lifecycle, connected, worst, turned_away, row }
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
    // Only the last newcomer is remembered, not whether there was one then.
    Ok(Some(Host { last_seen_ms, lifecycle, connected, worst, turned_away: None, row }))
}

fn is_ephemeral(row: &HostRow) -> bool {
    row.labels.iter().any(|(k, v)| k == "ephemeral" && v == "1")
}

fn lifecycle(now_ms: i64, last_seen_ms: Option<i64>, interval_ms: i64, ephemeral: bool) -> Lifecycle {
    let Some(last_seen_ms) = last_seen_ms else { return Lifecycle::Silent };
    let silent_ms = now_ms.saturating_sub(last_seen_ms);
    let gone_ms = if ephemeral { EPHEMERAL_GONE_AFTER_MS } else { GONE_AFTER_MS };
    if in_sight(now_ms, last_seen_ms, interval_ms) {
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
    use crate::host::Quarantine;
    use crate::store::fleet::Status;

    #[test]
    fn a_host_is_live_then_silent_then_gone() {
        let day = 86_400_000;
        assert_eq!(lifecycle(10_000, Some(0), 10_000, false), Lifecycle::Live);
        assert_eq!(lifecycle(30_001, Some(0), 10_000, false), Lifecycle::Silent);
        assert_eq!(lifecycle(7 * day, Some(0), 10_000, false), Lifecycle::Silent);
        assert_eq!(lifecycle(7 * day + 1, Some(0), 10_000, false), Lifecycle::Gone);
        assert_eq!(lifecycle(3_600_001, Some(0), 10_000, true), Lifecycle::Gone);
        assert_eq!(lifecycle(0, None, 0, false), Lifecycle::Silent);
        // Seen by a clock that was set back since.
        assert_eq!(lifecycle(0, Some(30_000), 10_000, false), Lifecycle::Live);
        assert_eq!(lifecycle(0, Some(9 * day), 10_000, false), Lifecycle::Silent);
    }

    #[test]
    fn a_host_whose_copy_is_turned_away_is_live_while_it_reports_and_quarantined_while_it_does_not() {
        let at = |last_seen_ms, turned_away_ms: i64, now_ms| {
            let away = TurnedAway { at_ms: turned_away_ms, why: Quarantine::OtherIsLive, peer: "::1".to_owned() };
            let status = Status {
                last_seen_ms,
                sampled_wall_ms: 0,
                skew_ms: 0,
                interval_ms: 1000,
                backlog_from_ms: None,
                disconnected_ms: None,
                turned_away: Some(away),
                namespace: None,
                usage: vec![],
            };
            let host = HostName { name: "a".into(), id: crate::host::HostId(1) };
            let host = present(HostRow { host, labels: vec![], status: Some(status), facts: None }, now_ms);
            (host.lifecycle, host.turned_away.is_some())
        };
        assert_eq!(at(1_000, 900, 2_000), (Lifecycle::Live, true));
        assert_eq!(at(1_000, 900, 10_000), (Lifecycle::Quarantined, true));
        assert_eq!(at(1_000, 8 * 86_400_000, 8 * 86_400_000), (Lifecycle::Quarantined, true));
        assert_eq!(at(1_000, 900, 120_901), (Lifecycle::Silent, false));
    }

    #[test]
    fn the_worst_resource_is_found_among_those_that_could_be_read() {
        let usage = [(Resource::Semmni, 5, 10), (Resource::Shmall, u64::MAX - 1, u64::MAX), (Resource::Msgmni, 1, 2)];
        assert_eq!(worst_of(Some(7), &usage).unwrap().usage.resource, Resource::Shmall);
        assert_eq!(worst_of(Some(7), &[(Resource::Msgmni, 0, 0)]).unwrap().usage.ratio(), 1.0);
        assert_eq!(worst_of(None, &[]), None);
    }
}
