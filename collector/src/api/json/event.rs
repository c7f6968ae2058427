//! Events, as the API writes and the command line reads them.

use serde::{Deserialize, Serialize};

use super::{GapJson, ObjectJson, RiskJson};

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
    /// What that is called, as claimed; null = it has no name, or is the host's own.
    #[serde(default)]
    pub namespace_name: Option<String>,
    /// Whether it is the host's own; null = nothing of one namespace, or not known.
    #[serde(default)]
    pub own_namespace: Option<bool>,
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
    /// The comm of its parent, where that says more; null = not known, or process 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
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
    /// refused: the call, e.g. `semget`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// refused: what it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<ErrnoJson>,
    /// refused, and created between two samples: semaphores asked for by the first call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nsems: Option<u32>,
    /// The same of a segment: bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_u64: Option<String>,
    /// The key of the first call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many calls of that process did the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// When the first of them was: the event's own instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_at: Option<String>,
    /// When the last of them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
    /// Created or removed between two samples: ids, as many as were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<i32>>,
    /// Whether they are known to have come and gone between two samples; absent = they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transient: Option<bool>,
    /// refused: how much of `resource` was in use, or asked for where the limit is of one object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_u64: Option<String>,
    /// refused: the limit that bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_u64: Option<String>,
    /// refused: what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// refused for want of room: who holds most of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderJson>,
    /// peak: the most that was in use at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<PeakJson>,
    /// lost: events that the kernel dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_lost: Option<u64>,
    /// lost: calls beyond what one sample carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_beyond: Option<u64>,
    /// flag_raised, flag_cleared: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<FlagToldJson>,
    /// risk_raised, risk_cleared: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskJson>,
    /// namespace_appeared, namespace_gone: what the name is (`docker`, `comm`, ...).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named_by: Option<String>,
    /// namespace_appeared, namespace_gone: what tells it from another one with its inode, opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// namespace_gone: sizes of segments and bytes in queues that went with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_u64: Option<String>,
    /// changed: the object as it was; removed: as it was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<ObjectJson>,
    /// removed: comms of processes that ran as its owner when it was seen last; absent = none were seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_runs: Option<Vec<String>>,
    /// created, changed: the object as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<ObjectJson>,
    /// changed: which fields differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<String>>,
    /// limit_changed, refused: which limit.
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
    /// reboot, namespace_gone: objects that went with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostJson>,
    /// clock_step: by how much; negative = back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_ms: Option<i64>,
    /// gap: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapJson>,
    /// gap: `sem`, `shm` or `msg` where samples were taken but that list of the namespace could not be read; absent = there
    /// were no samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// agent_started: its epoch, opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

/// Objects that went with a boot or a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostJson {
    /// Semaphore arrays.
    pub sem: u64,
    /// Shared memory segments.
    pub shm: u64,
    /// Message queues.
    pub msg: u64,
}

/// Who holds most of what ran out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderJson {
    /// Owner.
    pub uid: u32,
    /// Its name.
    pub user: Option<String>,
    /// Its program; null = not known, or several.
    pub comm: Option<String>,
    /// How many arrays, segments or queues it holds.
    pub arrays: u64,
    /// Those that nobody seems to hold.
    pub orphans: u64,
    /// Those of them that are proven.
    pub orphans_certain: u64,
    /// When the oldest orphan was made or changed last.
    pub oldest_orphan_at: Option<String>,
}

/// What a call answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrnoJson {
    /// The number, `errno(3)`.
    pub number: u32,
    /// Its name; null = none that such calls are known to answer.
    pub name: Option<String>,
}

/// The most that was in use at once between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakJson {
    /// Semaphore arrays.
    pub sem_arrays: u64,
    /// Semaphores.
    pub semaphores: u64,
    /// The limit of arrays.
    pub semmni: Option<u64>,
    /// The limit of semaphores.
    pub semmns: Option<u64>,
}

/// A flag that went up or down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagToldJson {
    /// Its number.
    pub id: String,
    /// SEMMNI, SEMMNS, SHMMNI, SHMALL or MSGMNI.
    pub resource: String,
    /// `trend`, `tight` or `refusing`.
    pub kind: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// In words, as it was judged last.
    pub why: String,
}
