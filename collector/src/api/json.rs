//! The contract's answers beside the snapshot, which is [`highwater_proto::json`]: what the API writes and the command
//! line reads. Fields may be added, none renamed or retyped. `null` = could not be read or does not exist, `[]` = none;
//! numbers that can exceed 2^53 are strings of decimal digits in fields named `*_u64`.

use std::collections::BTreeMap;

use highwater_proto::json::{MsgJson, SemJson, ShmJson};
use serde::{Deserialize, Serialize};

/// The kinds of events: what `kind` of an event can say.
pub use crate::query::timeline::EventKind;

/// A page of hosts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostsJson {
    /// By name and id.
    pub hosts: Vec<HostJson>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
    /// The collector's clock.
    pub now: String,
}

/// One host and the clock it is asked by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneHostJson {
    /// The host.
    pub host: HostJson,
    /// The collector's clock.
    pub now: String,
    /// The host's clock, as far as the collector knows.
    pub host_now: String,
    /// What a person should know about the choice of host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostJson {
    /// Opaque.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Collector's clock when it was last heard of; null = never.
    pub last_seen: Option<String>,
    /// `live`, `silent`, `gone` or `quarantined`.
    pub lifecycle: String,
    /// `available`, `absent`, `proc_hidden`, `blocked` or `unknown`.
    pub state: String,
    /// What decided.
    pub evidence: Vec<String>,
    /// What to do; null = nothing.
    pub remedy: Option<String>,
    /// `uname(2)` release.
    pub kernel: Option<String>,
    /// `uname(2)` machine.
    pub arch: Option<String>,
    /// PRETTY_NAME of os-release.
    pub distro: Option<String>,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// Whether its agent's stream is up.
    pub connected: bool,
    /// What will break at the next logout or reboot.
    pub at_risk: Vec<AtRiskJson>,
    /// What is nearest to its limit.
    pub worst: Option<WorstJson>,
    /// The host's clock minus the collector's, as last measured.
    pub skew_ms: Option<i64>,
    /// Time between its samples.
    pub interval_ms: Option<i64>,
}

/// Something that will break.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AtRiskJson {
    /// What kind of risk.
    pub kind: String,
    /// Why it is one.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// The resource that is nearest to its limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorstJson {
    /// Inode of the namespace.
    pub namespace: Option<u64>,
    /// E.g. `SEMMNI`.
    pub resource: String,
    /// In use.
    pub used_u64: String,
    /// The limit.
    pub limit_u64: String,
    /// Used over limit, 0..1 and above.
    pub ratio: f64,
}

/// No data for that instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GapAnswer {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// The instant asked for, host's clock.
    pub asked_at: String,
    /// The host's clock minus the collector's.
    pub skew_ms: i64,
    /// The gap it lies in.
    pub gap: GapJson,
    /// What a person should know about the choice of host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A span without samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapJson {
    /// Last sample before it; null = before the first.
    pub from: Option<String>,
    /// First sample after it; null = none yet.
    pub to: Option<String>,
    /// `open`, `closed` or `pending`.
    pub state: String,
    /// One of the list of reasons; null = pending: no gap for all anybody knows.
    pub reason: Option<String>,
    /// The same as `from`.
    pub last_sample_at: Option<String>,
    /// The same as `to`.
    pub next_sample_at: Option<String>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Pending: the oldest sample on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog_from: Option<String>,
}

/// Limits and use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LsipcJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// The instant asked for.
    pub asked_at: String,
    /// The sample's time.
    pub at: String,
    /// The host's clock minus the collector's.
    pub skew_ms: i64,
    /// In `lsipc`'s order, the host's own namespace first.
    pub rows: Vec<LsipcRowJson>,
    /// What a person should know about the choice of host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LsipcRowJson {
    /// Inode of the namespace.
    pub namespace: u64,
    /// E.g. `SEMMNI`.
    pub resource: String,
    /// `lsipc`'s words for it.
    pub description: String,
    /// null = could not be read.
    pub limit_u64: Option<String>,
    /// null = could not be read, or nothing counts against this limit.
    pub used_u64: Option<String>,
    /// Used over limit.
    pub ratio: Option<f64>,
}

/// Two instants compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiffJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// The first instant asked for.
    pub from: String,
    /// The second.
    pub to: String,
    /// The host's clock minus the collector's.
    pub skew_ms: i64,
    /// Spans in between of which nobody knows what came and went in them.
    pub gaps: Vec<GapJson>,
    /// Objects that differ.
    pub objects: Vec<ObjectChangeJson>,
    /// Limits that differ.
    pub limits: Vec<LimitChangeJson>,
    /// Owners whose sums differ.
    pub owners: Vec<OwnerChangeJson>,
    /// What a person should know about the choice of host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// An object that differs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObjectChangeJson {
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// `sem`, `shm` or `msg`.
    pub kind: String,
    /// Inode of the namespace.
    pub namespace: u64,
    /// As it was.
    pub before: Option<ObjectJson>,
    /// As it is.
    pub after: Option<ObjectJson>,
    /// For a changed one, which fields differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// An object of any kind, as in a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ObjectJson {
    /// A semaphore array.
    Sem(SemJson),
    /// A shared memory segment.
    Shm(ShmJson),
    /// A message queue.
    Msg(MsgJson),
}

/// A limit that differs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitChangeJson {
    /// Inode of the namespace.
    pub namespace: u64,
    /// E.g. `SEMMNI`.
    pub resource: String,
    /// As it was.
    pub before_u64: String,
    /// As it is.
    pub after_u64: String,
}

/// An owner whose sums differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnerChangeJson {
    /// Inode of the namespace.
    pub namespace: u64,
    /// `sem`, `shm` or `msg`.
    pub kind: String,
    /// Whose.
    pub uid: u32,
    /// Its name; null = none.
    pub user: Option<String>,
    /// Objects before.
    pub objects_before: u64,
    /// Objects after.
    pub objects_after: u64,
    /// After minus before.
    pub net: i64,
    /// Semaphores in arrays before.
    pub semaphores_before: u64,
    /// Semaphores in arrays after.
    pub semaphores_after: u64,
    /// Bytes of segments or in queues before.
    pub bytes_before_u64: String,
    /// Bytes of segments or in queues after.
    pub bytes_after_u64: String,
}

/// What happened, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TimelineJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// From when, host's clock.
    pub since: String,
    /// Until when.
    pub until: String,
    /// The host's clock minus the collector's.
    pub skew_ms: i64,
    /// By (epoch, seq): a host's clock can go back.
    pub events: Vec<EventJson>,
    /// Where to go on.
    pub next_cursor: Option<String>,
    /// What a person should know about the choice of host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventJson {
    /// First sample that shows it, or when it happened.
    pub at: String,
    /// One of the contract's kinds.
    pub kind: String,
    /// Inode of the namespace.
    pub namespace: Option<u64>,
    /// The object.
    pub subject: Option<SubjectJson>,
    /// More about it; which fields there are depends on the kind.
    pub detail: DetailJson,
    /// Who did it, where that is recorded.
    pub by: Option<ByJson>,
}

/// An object by what people call it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubjectJson {
    /// `sem`, `shm` or `msg`.
    pub kind: String,
    /// semid, shmid or msqid.
    pub id: i32,
    /// Its key.
    pub key: String,
}

/// Who did something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ByJson {
    /// As whom.
    pub uid: Option<u32>,
    /// Its name.
    pub user: Option<String>,
    /// Which process.
    pub pid: Option<i32>,
    /// Its comm.
    pub comm: Option<String>,
    /// How that is known: `trace`, `cuid` or `cpid`.
    pub source: String,
}

/// More about an event. Absent fields do not belong to its kind.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DetailJson {
    /// Last sample that does not show it yet; absent = `at` is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// changed: the object as it was; removed: as it was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<ObjectJson>,
    /// created, changed: the object as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<ObjectJson>,
    /// changed: which fields differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// limit_changed: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// limit_changed: as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_u64: Option<String>,
    /// limit_changed: as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_u64: Option<String>,
    /// reboot: the boot that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id_before: Option<String>,
    /// reboot: the boot that began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// reboot: when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<String>,
    /// reboot: objects that went with the boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostJson>,
    /// clock_step: by how much; negative = back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_ms: Option<i64>,
    /// gap: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapJson>,
    /// agent_started: its epoch, opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// Objects that a reboot took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostJson {
    /// Semaphore arrays.
    pub sem: u64,
    /// Shared memory segments.
    pub shm: u64,
    /// Message queues.
    pub msg: u64,
}

/// Which build answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionJson {
    /// Version of the collector.
    pub version: String,
}

/// What an enrolment token is to be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewTokenJson {
    /// Its life, milliseconds; absent = 1 h.
    pub ttl_ms: Option<i64>,
    /// How many hosts it may enrol; absent = 1.
    pub uses: Option<u32>,
    /// The host to re-enrol, by name, id or unique prefix; absent = a new one.
    pub host: Option<String>,
    /// Labels of the hosts that it makes.
    pub labels: BTreeMap<String, String>,
}

/// An enrolment token just made. No `Debug`: it holds the secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenCreatedJson {
    /// Its id.
    pub id: String,
    /// The token, secret included; shown this once.
    pub token: String,
    /// Until when it can be used.
    pub expires_at: String,
}

/// Enrolment tokens, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokensJson {
    /// At most 1,000.
    pub tokens: Vec<TokenJson>,
}

/// An enrolment token without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenJson {
    /// Its id.
    pub id: String,
    /// `valid`, `used`, `expired` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created_at: String,
    /// Until when it can be used.
    pub expires_at: String,
    /// How many hosts it may still enrol.
    pub uses_left: u32,
    /// The host that it re-enrols; null = a new one.
    pub host: Option<String>,
}
