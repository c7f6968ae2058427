//! Table `host_facts`: what was true of a host from a record on.

use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::session::HostFacts;
use highwater_ipc::snapshot::BootId;
use highwater_ipc::text::HostText;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::number::{bigint, fixed};
use super::tx::Write;
use crate::host::HostId;

const LATEST_SQL: &str =
    "SELECT state, evidence::text AS evidence, remedy, risks::text AS risks, name, kernel, arch, distro, agent_version,
        machine_id, boot_id
    FROM host_facts WHERE host_id = $1 ORDER BY epoch_no DESC, seq DESC LIMIT 1";

macro_rules! insert {
    ($rest:literal) => {
        concat!(
            "INSERT INTO host_facts (host_id, epoch_no, seq, wall_ms, state, evidence, remedy, name, kernel,
                arch, distro, agent_version, machine_id, boot_id, risks)
            SELECT f.host_id, f.epoch_no, f.seq, f.wall_ms, f.state, f.evidence::jsonb, f.remedy, f.name, f.kernel,
                f.arch, f.distro, f.agent_version, f.machine_id, f.boot_id, f.risks::jsonb
            FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bytea[], $15::text[])
                AS f (host_id, epoch_no, seq, wall_ms, state, evidence, remedy, name, kernel, arch, distro,
                      agent_version, machine_id, boot_id, risks)",
            $rest
        )
    };
}

const INSERT_SQL: &str = insert!("");
const INSERT_IMPORTED_SQL: &str = insert!(" ON CONFLICT (host_id, epoch_no, seq) DO NOTHING");

/// All that is kept about a host beside its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether it can do System V IPC.
    pub availability: Availability,
    /// What threatens it.
    pub risks: Vec<Risk>,
    /// The rest.
    pub host: HostFacts,
}

/// Facts from a record on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The host.
    pub host: HostId,
    /// Epoch of the record.
    pub epoch: EpochNo,
    /// Position of the record.
    pub seq: Seq,
    /// Its wall time.
    pub wall_ms: i64,
    /// What is true from then on.
    pub facts: Facts,
}

/// The latest facts of a host.
pub async fn latest(tx: &mut Write<'_>, host: HostId) -> Result<Option<Facts>, StoreError> {
    let row: Option<Row> = sqlx::query_as(LATEST_SQL).bind(host.0).fetch_optional(tx.connection()).await?;
    row.map(Row::into_domain).transpose()
}

/// Adds changes.
pub async fn insert(tx: &mut Write<'_>, rows: &[&Changed]) -> Result<(), StoreError> {
    insert_by(INSERT_SQL, tx, rows).await
}

/// Adds what a file says of a host that has no agent, but for instants of which something is stored. Their epoch is 0, and
/// their position the wall time: facts are in the order of (epoch, position), and an agent that comes later has the last
/// word.
pub async fn insert_imported(tx: &mut Write<'_>, rows: &[&Changed]) -> Result<(), StoreError> {
    insert_by(INSERT_IMPORTED_SQL, tx, rows).await
}

async fn insert_by(sql: &'static str, tx: &mut Write<'_>, rows: &[&Changed]) -> Result<(), StoreError> {
    let text = |f: fn(&Facts) -> &HostText| rows.iter().map(|r| f(&r.facts).escaped()).collect::<Vec<_>>();
    sqlx::query(sql)
        .bind(rows.iter().map(|r| r.host.0).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.epoch.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| bigint(r.seq.0)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.wall_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.facts.availability.state.name()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| evidence_to_json(&r.facts.availability.evidence)).collect::<Vec<_>>())
        .bind(text(|f| &f.availability.remedy))
        .bind(text(|f| &f.host.hostname))
        .bind(text(|f| &f.host.kernel))
        .bind(text(|f| &f.host.arch))
        .bind(text(|f| &f.host.distro))
        .bind(text(|f| &f.host.agent_version))
        .bind(text(|f| &f.host.machine_id))
        .bind(rows.iter().map(|r| r.facts.host.boot_id.0.as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| risks_to_json(&r.facts.risks)).collect::<Vec<_>>())
        .execute(tx.connection())
        .await?;
    Ok(())
}

fn evidence_to_json(lines: &[HostText]) -> String {
    serde_json::Value::from(lines.iter().map(HostText::escaped).collect::<Vec<_>>()).to_string()
}

fn risks_to_json(risks: &[Risk]) -> String {
    let of = |r: &Risk| StoredRisk { kind: r.kind.name().to_owned(), why: r.why.escaped(), remedy: r.remedy.escaped() };
    serde_json::json!(risks.iter().map(of).collect::<Vec<_>>()).to_string()
}

/// Reads what [`risks_to_json`] wrote.
pub(super) fn read_risks(json: &str) -> Result<Vec<StoredRisk>, StoreError> {
    serde_json::from_str(json).map_err(|e| StoreError::Corrupt { what: format!("host_facts.risks {json:?}: {e}") })
}

/// A risk as it is stored, also of a kind that only a later version knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRisk {
    /// A word of `proto/ipc/src/risk.rs`.
    pub kind: String,
    /// What was found, escaped.
    pub why: String,
    /// What a person can do, escaped.
    pub remedy: String,
}

impl StoredRisk {
    fn domain(&self) -> Result<Option<Risk>, StoreError> {
        let Some((kind, ..)) = RiskKind::ALL.iter().find(|(_, _, name)| *name == self.kind) else { return Ok(None) };
        let (why, remedy) = (text("host_facts.risks", &self.why)?, text("host_facts.risks", &self.remedy)?);
        Ok(Some(Risk { kind: *kind, why, remedy }))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    state: String,
    evidence: String,
    remedy: String,
    risks: String,
    name: String,
    kernel: String,
    arch: String,
    distro: String,
    agent_version: String,
    machine_id: String,
    boot_id: Vec<u8>,
}

impl Row {
    fn into_domain(self) -> Result<Facts, StoreError> {
        let state = SysvipcState::from_name(&self.state)
            .ok_or_else(|| StoreError::Corrupt { what: format!("host_facts.state = {:?}", self.state) })?;
        let lines: Vec<String> = serde_json::from_str(&self.evidence)
            .map_err(|e| StoreError::Corrupt { what: format!("host_facts.evidence that is no list of text ({e})") })?;
        let evidence = lines.iter().map(|l| text("host_facts.evidence", l)).collect::<Result<_, _>>()?;
        let risks: Vec<Option<Risk>> =
            read_risks(&self.risks)?.iter().map(StoredRisk::domain).collect::<Result<_, _>>()?;
        Ok(Facts {
            availability: Availability { state, evidence, remedy: text("host_facts.remedy", &self.remedy)? },
            risks: risks.into_iter().flatten().collect(),
            host: HostFacts {
                agent_version: text("host_facts.agent_version", &self.agent_version)?,
                machine_id: text("host_facts.machine_id", &self.machine_id)?,
                boot_id: BootId(fixed("host_facts.boot_id", &self.boot_id)?),
                hostname: text("host_facts.name", &self.name)?,
                kernel: text("host_facts.kernel", &self.kernel)?,
                arch: text("host_facts.arch", &self.arch)?,
                distro: text("host_facts.distro", &self.distro)?,
            },
        })
    }
}

fn text(column: &'static str, escaped: &str) -> Result<HostText, StoreError> {
    HostText::from_escaped(escaped).ok_or_else(|| StoreError::Corrupt { what: format!("{column} = {escaped:?}") })
}
