//! The contract's answers beside the snapshot, which is [`highwater_proto::json`]: what the API writes and the command
//! line reads. Fields may be added, none renamed or retyped. `null` = could not be read or does not exist, `[]` = none;
//! numbers that can exceed 2^53 are strings of decimal digits in fields named `*_u64`.

use std::collections::BTreeMap;

use highwater_proto::json::{MsgJson, SemJson, ShmJson, SpanJson};
use serde::{Deserialize, Serialize};

mod capacity;
mod event;
mod explain;
mod find;
mod flag;
mod fleet;
mod notify;
mod status;

/// What threatens a host, as in its snapshots.
pub use highwater_proto::json::RiskJson;

pub use self::capacity::{
    CapacityCeilingJson, CapacityEntryJson, CapacityFleetJson, CapacityGroupJson, CapacityJson, CapacitySumsJson,
    CapacityWhatIfJson,
};
pub use self::event::{
    ByJson, DetailJson, ErrnoJson, EventJson, FlagToldJson, HolderJson, LostJson, PeakJson, SubjectJson, TimelineJson,
};
pub use self::explain::{ExplainJson, LookedJson, OtherJson, RemoverJson, VictimJson};
pub use self::find::{FindJson, MatchJson};
pub use self::flag::{
    AcknowledgeJson, FlagCauseJson, FlagEventJson, FlagJson, FlagNoteJson, FlagOwnerJson, FlagSampleJson, FlagsJson,
    SilenceJson, SilencedJson,
};
pub use self::fleet::{FleetBlameJson, FleetOwnerJson, FleetUnknownJson};
pub use self::notify::{NotifyTestJson, ReceiverJson, ReceiversJson, TestedJson, TestsJson};
pub use self::status::{
    AwayJson, CheckJson, DatabaseJson, DiskJson, DroppingJson, IngestJson, LeaseJson, RetainedJson, RetentionJson,
    StatusJson, StorageJson, TableJson,
};
/// The kinds of events: what `kind` of an event can say.
pub use crate::query::event::EventKind;
/// The kinds of risks: what `kind` of one in `at_risk` can say.
pub use crate::query::fleet::AtRisk;

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
    pub at_risk: Vec<RiskJson>,
    /// What is nearest to its limit.
    pub worst: Option<WorstJson>,
    /// The host's clock minus the collector's, as last measured.
    pub skew_ms: Option<i64>,
    /// Time between its samples.
    pub interval_ms: Option<i64>,
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
    /// `warning` from 80 % on, `critical` from 90 %; null = neither.
    pub severity: Option<String>,
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
    /// Pending: a commit of the host's records was acknowledged and is not visible yet; asked again, the answer changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settling: bool,
}

/// A line of an export that is no snapshot: no samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GapLineJson {
    /// The host's name.
    pub host: String,
    /// The gap.
    pub gap: GapJson,
}

/// The last line of an export that did not come to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorLineJson {
    /// Why.
    pub error: ErrorJson,
}

/// What went wrong once an answer had begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorJson {
    /// The `code` that a problem document would have.
    pub code: String,
    /// What, where, and what to do about it.
    pub detail: String,
}

/// What an import has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// Whether the import has made that host.
    pub new_host: bool,
    /// Lines with a snapshot.
    pub lines: u64,
    /// Lines of which something was stored.
    pub stored: u64,
    /// Lines of which everything was stored already.
    pub already_there: u64,
    /// First and last instant of each run of samples that was added; the first 1,000.
    pub gaps_filled: Vec<SpanJson>,
    /// How many there are.
    pub gaps_filled_count: u64,
    /// What a person should know.
    pub notes: Vec<String>,
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
    /// What it is called, as claimed; null = it has no name, or is the host's own.
    #[serde(default)]
    pub namespace_name: Option<String>,
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
    /// Lists that were not whole at one of the instants: not all is told of those.
    #[serde(default)]
    pub unknown: Vec<UnknownListJson>,
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

/// Who grew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlameJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// The first instant, host's clock.
    pub since: String,
    /// Where that comes from: `asked`, `day_before` (the second instant) or `first_sample`.
    pub since_is: String,
    /// The second instant.
    pub until: String,
    /// The host's clock minus the collector's.
    pub skew_ms: i64,
    /// Spans in between of which nobody knows what came and went in them.
    pub gaps: Vec<GapJson>,
    /// Who grew most comes first.
    pub owners: Vec<OwnerGrowthJson>,
    /// Lists that were not whole at one of the instants: nothing is said of those.
    pub unknown: Vec<UnknownListJson>,
    /// For the first of the owners with certain orphans: what to do, in order.
    pub remedy: Vec<RemedyJson>,
    /// What a person should know about the choice of host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What one owner holds of one kind in one namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnerGrowthJson {
    /// The host's name.
    pub host: String,
    /// Inode of the namespace.
    pub namespace: u64,
    /// What that is called, as claimed; null = it has no name, or is the host's own.
    pub namespace_name: Option<String>,
    /// `sem`, `shm` or `msg`.
    pub kind: String,
    /// Whose.
    pub uid: u32,
    /// Its name; null = none.
    pub user: Option<String>,
    /// The program's comm; null = not known, or the uid runs several.
    pub comm: Option<String>,
    /// Objects (arrays, segments or queues) at the first instant.
    pub arrays_before: u64,
    /// Objects at the second.
    pub arrays_after: u64,
    /// After minus before.
    pub net: i64,
    /// Semaphores after minus before.
    pub semaphores_net: i64,
    /// Bytes after minus before: decimal digits, after a `-` if there are fewer.
    pub bytes_net_u64: String,
    /// What nobody seems to hold any more at the second instant: certain, likely and unattached.
    pub orphans: u64,
    /// Of those, the certain ones: semaphore arrays only.
    pub orphans_certain: u64,
    /// Of those, the likely ones.
    pub orphans_likely: u64,
    /// Of those, the segments that nothing is attached to.
    pub orphans_unattached: u64,
    /// Bytes in all of them: what removing them would destroy.
    pub orphan_bytes_u64: String,
}

/// A list that was not whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnknownListJson {
    /// Inode of the namespace.
    pub namespace: u64,
    /// `sem`, `shm` or `msg`.
    pub kind: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemedyJson {
    /// What it does.
    pub step: String,
    /// The command, holding numbers only; null = there is none.
    pub command: Option<String>,
    /// What can go wrong.
    pub risk: String,
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
