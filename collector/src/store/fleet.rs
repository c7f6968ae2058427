//! Reads which hosts there are, how they are, and which one a name means.

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::limits::Resource;
use highwater_ipc::risk::RiskKind;
use sqlx::FromRow;

use super::StoreError;
use super::history::Reading;
use super::host_facts::{StoredRisk, read_risks};
use crate::host::{HostId, Quarantine};

/// A host by id and present name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName {
    /// Its name as last said, escaped.
    pub name: String,
    /// Its id.
    pub id: HostId,
}

/// The present of a host, as last heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Collector's clock at the last record or `now`, milliseconds.
    pub last_seen_ms: i64,
    /// Host's clock of its newest sample, also of one that history does not hold yet, milliseconds.
    pub sampled_wall_ms: i64,
    /// Host's clock minus the collector's, milliseconds, as its last hello or sample shows it.
    pub skew_ms: i64,
    /// Time between its samples, milliseconds.
    pub interval_ms: i64,
    /// Oldest sample not yet received, host's clock; `None` = none behind.
    pub backlog_from_ms: Option<i64>,
    /// When its last session ended, collector's clock; `None` = it has not.
    pub disconnected_ms: Option<i64>,
    /// The newcomer with its certificate that was turned away last; `None` = none since a session was opened.
    pub turned_away: Option<TurnedAway>,
    /// Inode of its own IPC namespace.
    pub namespace: Option<u64>,
    /// Used and limit of what could be read.
    pub usage: Vec<(Resource, u64, u64)>,
}

/// A newcomer that was quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// When, collector's clock, milliseconds.
    pub at_ms: i64,
    /// Why.
    pub why: Quarantine,
    /// The address it came from.
    pub peer: String,
}

/// What was true of a host since its last facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name then, escaped (so are all texts here).
    pub name: String,
    /// Whether it can do System V IPC.
    pub state: SysvipcState,
    /// What decided.
    pub evidence: Vec<String>,
    /// What to do; may be empty.
    pub remedy: String,
    /// What threatened it.
    pub risks: Vec<StoredRisk>,
    /// `uname(2)` release.
    pub kernel: String,
    /// `uname(2)` machine.
    pub arch: String,
    /// PRETTY_NAME.
    pub distro: String,
    /// Version of its agent.
    pub agent_version: String,
}

/// A host with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRow {
    /// Which one.
    pub host: HostName,
    /// Its labels: a JSON object of strings, as stored.
    pub labels: Vec<(String, String)>,
    /// Its present; `None` = it has enrolled and never sent anything.
    pub status: Option<Status>,
    /// Its facts at the instant asked for; `None` = none were stored by then.
    pub facts: Option<Facts>,
}

/// Which hosts are wanted. Empty lists and `None` mean no condition.
#[derive(Clone, Debug, Default)]
pub struct HostFilter {
    /// One of these availability states.
    pub states: Vec<SysvipcState>,
    /// Only hosts that have reported.
    pub reported: bool,
    /// With one of these risks.
    pub at_risk: Option<RiskFilter>,
    /// All of these labels.
    pub labels: Vec<(String, String)>,
    /// Not seen since, by the collector's clock, milliseconds: silent.
    pub silent_now_ms: Option<i64>,
    /// Hide those last seen before this, by the collector's clock ...
    pub gone_before_ms: Option<i64>,
    /// ... or, with label `ephemeral=1`, before this.
    pub ephemeral_gone_before_ms: Option<i64>,
    /// Do not hide those with a newcomer turned away since this, by the collector's clock.
    pub quarantined_since_ms: Option<i64>,
    /// Facts as of this instant of the collector's clock, milliseconds.
    pub facts_at_ms: Option<i64>,
    /// Only this host.
    pub only: Option<HostId>,
    /// Those after this one, in order of name and id.
    pub after: Option<HostName>,
}

/// Which risks are wanted.
#[derive(Clone, Debug, Default)]
pub struct RiskFilter {
    /// One of these, which the host itself reported ...
    pub kinds: Vec<RiskKind>,
    /// ... or that a newcomer was turned away since this, by the collector's clock, milliseconds.
    pub clone_since_ms: Option<i64>,
}

/// Whether a host with this interval that was last seen then is in sight now, both by the collector's clock. One that was
/// seen later than now was seen by a clock that has been set back since, which says nothing of now.
pub fn in_sight(now_ms: i64, last_seen_ms: i64, interval_ms: i64) -> bool {
    now_ms.abs_diff(last_seen_ms) <= in_sight_ms(interval_ms).unsigned_abs()
}

/// Milliseconds after its last sign of life for which a host with this interval is in sight: three intervals, or the two
/// seconds for which an agent may hold records back and one to commit them.
pub fn in_sight_ms(interval_ms: i64) -> i64 {
    interval_ms.saturating_mul(3).max(3_000)
}

// A row per host that ever reported. GREATEST(..) is `in_sight_ms`.
const HOSTS_SQL: &str = "SELECT h.host_id, h.name, h.labels::text AS labels, \
       s.last_seen_ms, s.sampled_wall_ms, s.skew_ms, s.interval_ms, s.backlog_from_ms, s.disconnected_ms, s.namespace, \
       s.quarantined_ms, s.quarantined_why, s.quarantined_peer, \
       s.sem_arrays::text, s.semmni::text, s.semaphores::text, s.semmns::text, s.shm_segments::text, s.shmmni::text, \
       s.shm_pages::text, s.shmall::text, s.msg_queues::text, s.msgmni::text, \
       f.name AS fact_name, f.state, f.evidence::text AS evidence, f.remedy, f.risks::text AS risks, f.kernel, f.arch, f.distro, f.agent_version \
     FROM host_status s \
     JOIN host h ON h.host_id = s.host_id \
     LEFT JOIN LATERAL (SELECT * FROM host_facts hf WHERE hf.host_id = s.host_id \
         AND ($3::bigint IS NULL OR hf.wall_ms - s.skew_ms <= $3) ORDER BY hf.epoch_no DESC, hf.seq DESC LIMIT 1) f ON true \
     WHERE (cardinality($1::text[]) = 0 OR COALESCE(f.state, 'unknown') = ANY ($1)) \
       AND h.labels @> $2::text::jsonb \
       AND ($4::bigint IS NULL OR s.last_seen_ms >= $4 OR h.labels ->> 'ephemeral' = '1' OR s.quarantined_ms >= $11) \
       AND ($5::bigint IS NULL OR s.last_seen_ms >= $5 OR h.labels ->> 'ephemeral' IS DISTINCT FROM '1' \
            OR s.quarantined_ms >= $11) \
       AND ($6::bigint IS NULL OR s.host_id = $6) \
       AND ($7::bigint IS NULL OR abs($7 - s.last_seen_ms) > GREATEST(3 * s.interval_ms::bigint, 3000)) \
       AND ($8::text IS NULL OR (h.name, h.host_id) > ($8, $9)) \
       AND (NOT $12::bool OR f.risks @> ANY ($13::text[]::jsonb[]) OR s.quarantined_ms >= $14) \
     ORDER BY h.name, h.host_id LIMIT $10";
const NEVER_SEEN_SQL: &str = "SELECT h.host_id, h.name, h.labels::text AS labels FROM host h \
     WHERE NOT EXISTS (SELECT 1 FROM host_status s WHERE s.host_id = h.host_id) \
       AND h.labels @> $1::text::jsonb \
       AND ($2::bigint IS NULL OR h.enrolled_ms >= $2 OR h.labels ->> 'ephemeral' = '1') \
       AND ($3::bigint IS NULL OR h.enrolled_ms >= $3 OR h.labels ->> 'ephemeral' IS DISTINCT FROM '1') \
       AND ($4::bigint IS NULL OR h.host_id = $4) \
       AND ($5::text IS NULL OR (h.name, h.host_id) > ($5, $6)) \
     ORDER BY h.name, h.host_id LIMIT $7";
const STATUS_SQL: &str = "SELECT last_seen_ms, sampled_wall_ms, skew_ms, interval_ms, backlog_from_ms, disconnected_ms, namespace, \
     quarantined_ms, quarantined_why, quarantined_peer, \
     sem_arrays::text, semmni::text, semaphores::text, semmns::text, shm_segments::text, shmmni::text, \
     shm_pages::text, shmall::text, msg_queues::text, msgmni::text FROM host_status WHERE host_id = $1";
const HOST_BY_ID_SQL: &str = "SELECT host_id, name FROM host WHERE host_id = $1";
const HOSTS_NAMED_SQL: &str =
    "SELECT host_id, name FROM host WHERE name = $1 ORDER BY enrolled_ms DESC, host_id DESC LIMIT $2";
const HOSTS_ONCE_NAMED_SQL: &str = "SELECT h.host_id, h.name FROM host h \
     WHERE h.host_id IN (SELECT f.host_id FROM host_facts f WHERE f.name = $1) \
     ORDER BY h.enrolled_ms DESC, h.host_id DESC LIMIT $2";
const HOSTS_NAMED_AT_SQL: &str = "SELECT h.host_id, h.name FROM host_status s \
     JOIN host h ON h.host_id = s.host_id \
     JOIN LATERAL (SELECT hf.name FROM host_facts hf WHERE hf.host_id = s.host_id AND hf.wall_ms <= $3 \
         ORDER BY hf.epoch_no DESC, hf.seq DESC LIMIT 1) f ON f.name = $1 \
     WHERE s.host_id IN (SELECT n.host_id FROM host_facts n WHERE n.name = $1) \
     ORDER BY h.enrolled_ms DESC, h.host_id DESC LIMIT $2";
const HOSTS_BY_PREFIX_SQL: &str = "SELECT host_id, name FROM host \
     WHERE starts_with(name, $1) OR starts_with(lpad(to_hex(host_id), 16, '0'), $1) ORDER BY name, host_id LIMIT $2";
const LIVE_SQL: &str = "SELECT host_id FROM host_status WHERE host_id = ANY ($1) \
     AND abs($2 - last_seen_ms) <= GREATEST(3 * interval_ms::bigint, 3000)";

impl Reading {
    /// A page of hosts in order of name and id, at most `most`.
    pub async fn hosts(&mut self, filter: &HostFilter, most: i64) -> Result<Vec<HostRow>, StoreError> {
        let mut found = self.hosts_that_reported(filter, most).await?;
        let unknown_wanted = filter.states.is_empty() || filter.states.contains(&SysvipcState::Unknown);
        if unknown_wanted && !filter.reported && filter.at_risk.is_none() && filter.facts_at_ms.is_none() {
            found.extend(self.hosts_never_seen(filter, most).await?);
            found.sort_by(|a, b| a.host.cmp(&b.host));
            found.truncate(usize::try_from(most).unwrap_or(0));
        }
        Ok(found)
    }

    async fn hosts_that_reported(&mut self, filter: &HostFilter, most: i64) -> Result<Vec<HostRow>, StoreError> {
        let states: Vec<&str> = filter.states.iter().map(|s| s.name()).collect();
        let query = sqlx::query_as(HOSTS_SQL).bind(states).bind(labels_json(&filter.labels)).bind(filter.facts_at_ms);
        let query = query.bind(filter.gone_before_ms).bind(filter.ephemeral_gone_before_ms);
        let query = query.bind(filter.only.map(|h| h.0)).bind(filter.silent_now_ms);
        let (name, id) = filter.after.as_ref().map(|h| (h.name.as_str(), h.id.0)).unzip();
        let query = query.bind(name).bind(id).bind(most).bind(filter.quarantined_since_ms);
        let wanted = filter.at_risk.as_ref();
        let kinds = wanted.map_or(&[][..], |w| w.kinds.as_slice()).iter().map(|k| with_kind(*k)).collect::<Vec<_>>();
        let query = query.bind(wanted.is_some()).bind(kinds).bind(wanted.and_then(|w| w.clone_since_ms));
        let rows: Vec<FleetRow> = query.fetch_all(&mut *self.tx).await?;
        rows.into_iter().map(FleetRow::domain).collect()
    }

    async fn hosts_never_seen(&mut self, filter: &HostFilter, most: i64) -> Result<Vec<HostRow>, StoreError> {
        let query = sqlx::query_as(NEVER_SEEN_SQL).bind(labels_json(&filter.labels));
        let query = query.bind(filter.gone_before_ms).bind(filter.ephemeral_gone_before_ms);
        let (name, id) = filter.after.as_ref().map(|h| (h.name.as_str(), h.id.0)).unzip();
        let query = query.bind(filter.only.map(|h| h.0)).bind(name).bind(id).bind(most);
        let rows: Vec<(i64, String, String)> = query.fetch_all(&mut *self.tx).await?;
        let host = |(id, name, labels): (i64, String, String)| {
            let host = HostName { name, id: HostId(id) };
            Ok(HostRow { host, labels: read_labels(&labels)?, status: None, facts: None })
        };
        rows.into_iter().map(host).collect()
    }

    /// The present of one host; `None` = it never reported.
    pub async fn status(&mut self, host: HostId) -> Result<Option<Status>, StoreError> {
        let row: Option<StatusRow> = sqlx::query_as(STATUS_SQL).bind(host.0).fetch_optional(&mut *self.tx).await?;
        row.map(StatusRow::domain).transpose()
    }

    /// The host of that id.
    pub async fn host_by_id(&mut self, host: HostId) -> Result<Option<HostName>, StoreError> {
        let row: Option<(i64, String)> =
            sqlx::query_as(HOST_BY_ID_SQL).bind(host.0).fetch_optional(&mut *self.tx).await?;
        Ok(row.map(|(id, name)| HostName { name, id: HostId(id) }))
    }

    /// Hosts with exactly that name now, the last enrolled first.
    pub async fn hosts_named(&mut self, name: &str, most: i64) -> Result<Vec<HostName>, StoreError> {
        self.names(HOSTS_NAMED_SQL, name, most).await
    }

    /// Hosts that had exactly that name at this instant of their own clock, milliseconds, the last enrolled first.
    pub async fn hosts_named_at(&mut self, name: &str, wall_ms: i64, most: i64) -> Result<Vec<HostName>, StoreError> {
        let query = sqlx::query_as(HOSTS_NAMED_AT_SQL).bind(name).bind(most).bind(wall_ms);
        let rows: Vec<(i64, String)> = query.fetch_all(&mut *self.tx).await?;
        Ok(rows.into_iter().map(|(id, name)| HostName { name, id: HostId(id) }).collect())
    }

    /// Hosts that had exactly that name once, the last enrolled first.
    pub async fn hosts_once_named(&mut self, name: &str, most: i64) -> Result<Vec<HostName>, StoreError> {
        self.names(HOSTS_ONCE_NAMED_SQL, name, most).await
    }

    /// Hosts whose name or id begins so.
    pub async fn hosts_by_prefix(&mut self, prefix: &str, most: i64) -> Result<Vec<HostName>, StoreError> {
        self.names(HOSTS_BY_PREFIX_SQL, prefix, most).await
    }

    /// Those of these hosts that are in sight at this instant of the collector's clock, milliseconds.
    pub async fn live(&mut self, hosts: &[HostId], now_ms: i64) -> Result<Vec<HostId>, StoreError> {
        let ids: Vec<i64> = hosts.iter().map(|h| h.0).collect();
        let live: Vec<i64> = sqlx::query_scalar(LIVE_SQL).bind(ids).bind(now_ms).fetch_all(&mut *self.tx).await?;
        Ok(live.into_iter().map(HostId).collect())
    }

    async fn names(&mut self, sql: &'static str, name: &str, most: i64) -> Result<Vec<HostName>, StoreError> {
        let rows: Vec<(i64, String)> = sqlx::query_as(sql).bind(name).bind(most).fetch_all(&mut *self.tx).await?;
        Ok(rows.into_iter().map(|(id, name)| HostName { name, id: HostId(id) }).collect())
    }
}

#[derive(FromRow)]
struct FleetRow {
    host_id: i64,
    name: String,
    labels: String,
    #[sqlx(flatten)]
    status: StatusRow,
    fact_name: Option<String>,
    state: Option<String>,
    evidence: Option<String>,
    remedy: Option<String>,
    risks: Option<String>,
    kernel: Option<String>,
    arch: Option<String>,
    distro: Option<String>,
    agent_version: Option<String>,
}

impl FleetRow {
    fn domain(self) -> Result<HostRow, StoreError> {
        let facts = match self.state {
            None => None,
            Some(word) => Some(Facts {
                name: self.fact_name.unwrap_or_default(),
                state: SysvipcState::from_name(&word)
                    .ok_or_else(|| StoreError::Corrupt { what: format!("host_facts.state {word:?}") })?,
                evidence: read_evidence(&self.evidence.unwrap_or_default())?,
                remedy: self.remedy.unwrap_or_default(),
                risks: read_risks(&self.risks.unwrap_or_default())?,
                kernel: self.kernel.unwrap_or_default(),
                arch: self.arch.unwrap_or_default(),
                distro: self.distro.unwrap_or_default(),
                agent_version: self.agent_version.unwrap_or_default(),
            }),
        };
        Ok(HostRow {
            host: HostName { name: self.name, id: HostId(self.host_id) },
            labels: read_labels(&self.labels)?,
            status: Some(self.status.domain()?),
            facts,
        })
    }
}

#[derive(FromRow)]
struct StatusRow {
    last_seen_ms: i64,
    sampled_wall_ms: i64,
    skew_ms: i64,
    interval_ms: i32,
    backlog_from_ms: Option<i64>,
    disconnected_ms: Option<i64>,
    namespace: Option<i64>,
    quarantined_ms: Option<i64>,
    quarantined_why: Option<String>,
    quarantined_peer: Option<String>,
    sem_arrays: Option<String>,
    semmni: Option<String>,
    semaphores: Option<String>,
    semmns: Option<String>,
    shm_segments: Option<String>,
    shmmni: Option<String>,
    shm_pages: Option<String>,
    shmall: Option<String>,
    msg_queues: Option<String>,
    msgmni: Option<String>,
}

impl StatusRow {
    fn domain(self) -> Result<Status, StoreError> {
        let pairs = [
            (Resource::Semmni, &self.sem_arrays, &self.semmni),
            (Resource::Semmns, &self.semaphores, &self.semmns),
            (Resource::Shmmni, &self.shm_segments, &self.shmmni),
            (Resource::Shmall, &self.shm_pages, &self.shmall),
            (Resource::Msgmni, &self.msg_queues, &self.msgmni),
        ];
        let mut usage = Vec::new();
        for (resource, used, limit) in pairs {
            if let (Some(used), Some(limit)) = (used, limit) {
                usage.push((resource, whole(used)?, whole(limit)?));
            }
        }
        let turned_away = match (self.quarantined_ms, self.quarantined_why) {
            (Some(at_ms), Some(word)) => Some(TurnedAway {
                at_ms,
                why: Quarantine::from_name(&word)
                    .ok_or_else(|| StoreError::Corrupt { what: format!("host_status.quarantined_why {word:?}") })?,
                peer: self.quarantined_peer.unwrap_or_default(),
            }),
            _ => None,
        };
        Ok(Status {
            turned_away,
            last_seen_ms: self.last_seen_ms,
            sampled_wall_ms: self.sampled_wall_ms,
            skew_ms: self.skew_ms,
            interval_ms: i64::from(self.interval_ms),
            backlog_from_ms: self.backlog_from_ms,
            disconnected_ms: self.disconnected_ms,
            // The column is two's complement of an unsigned inode.
            namespace: self.namespace.map(i64::cast_unsigned),
            usage,
        })
    }
}

fn whole(text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { what: format!("host_status number {text:?}") })
}

pub(super) fn labels_json(labels: &[(String, String)]) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        labels.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    serde_json::Value::Object(map).to_string()
}

/// What the list of risks of a host that has one of that kind contains.
fn with_kind(kind: RiskKind) -> String {
    serde_json::json!([{ "kind": kind.name() }]).to_string()
}

pub(super) fn read_labels(json: &str) -> Result<Vec<(String, String)>, StoreError> {
    let map: std::collections::BTreeMap<String, String> =
        serde_json::from_str(json).map_err(|e| StoreError::Corrupt { what: format!("host.labels {json:?}: {e}") })?;
    Ok(map.into_iter().collect())
}

fn read_evidence(json: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(json).map_err(|e| StoreError::Corrupt { what: format!("host_facts.evidence {json:?}: {e}") })
}
