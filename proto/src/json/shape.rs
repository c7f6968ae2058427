//! The shapes, field by field in the contract's order.
#![allow(missing_docs, reason = "the contract's names; what a field means is at the domain field of that name")]

use highwater_ipc::snapshot::NamedBy;
use serde::{Deserialize, Deserializer, Serialize};

/// A snapshot and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<String>,
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<SpanJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<Vec<SpanJson>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_ms: Option<i64>,
    pub interval_ms: u32,
    pub took_us: u32,
    pub torn: bool,
    pub boot_id: String,
    pub boot_us_u64: String,
    pub tz: String,
    pub page_size: u32,
    pub sysvipc: SysvipcJson,
    #[serde(default)]
    pub at_risk: Vec<RiskJson>,
    /// What the agent cannot see of the host as a whole.
    #[serde(default)]
    pub unseen: Vec<UnreadableJson>,
    pub namespaces: Vec<NamespaceJson>,
    /// What happened since the sample before; absent where nothing did, or nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<ActivityJson>,
    /// Of an answer: what a person should know about the choice of host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A span of time, RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpanJson {
    pub from: String,
    pub to: String,
}

/// Whether the host can do System V IPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysvipcJson {
    pub state: String,
    pub evidence: Vec<String>,
    /// Empty where nothing is to be done.
    pub remedy: String,
}

/// One IPC namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceJson {
    /// The inode.
    pub id: u64,
    pub instance: String,
    pub name: Option<String>,
    #[serde(default = "nothing")]
    pub named_by: String,
    #[serde(default)]
    pub skipped: u32,
    /// Derived: everything was read and nothing left out.
    pub complete: bool,
    /// Of this namespace; absent = as the snapshot's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn: Option<bool>,
    pub unreadable: Vec<UnreadableJson>,
    pub left_out: LeftOutJson,
    pub limits: Option<LimitsJson>,
    pub totals: Option<TotalsJson>,
    /// null = processes could not be looked at.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub owners: Option<Option<Vec<HolderJson>>>,
    pub sem: Option<Vec<SemJson>>,
    pub shm: Option<Vec<ShmJson>>,
    pub msg: Option<Vec<MsgJson>>,
    /// What is known of objects that the lists do not show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<KnownJson>,
}

fn nothing() -> String {
    NamedBy::Nothing.name().to_owned()
}

/// Tells null (`Some(None)`) from absent (`None`).
fn there<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// A uid with the comms of its processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderJson {
    pub uid: u32,
    pub user: Option<String>,
    pub comms: Vec<String>,
}

/// What is known of an object beside its row: null = not known, absent = an older agent, or an object outside a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldJson {
    /// Of an orphan: the dead processes that used it last.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub last_pids: Option<Option<Vec<i32>>>,
    /// Derived: the comms of its uid's processes.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub owners: Option<Option<Vec<String>>>,
    /// Of the process that made it, or else used it last.
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub comm: Option<Option<String>>,
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    pub orphan: Option<Option<OrphanJson>>,
}

/// Nobody seems to hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanJson {
    pub grade: String,
    pub doubt: String,
    /// Derived: what the doubt means.
    pub reason: String,
}

/// What is known of an object that is not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownJson {
    pub kind: String,
    pub id: i32,
    #[serde(flatten)]
    pub held: HeldJson,
}

/// What threatens the host although nothing went wrong yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskJson {
    pub kind: String,
    pub why: String,
    pub remedy: String,
}

/// What happened since the sample before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivityJson {
    pub acts: Vec<ActJson>,
    pub more_u64: String,
    pub lost_u64: String,
    pub peaks: Vec<PeakJson>,
}

/// Calls of one process that did the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActJson {
    /// Derived: the wall clock at the first call.
    pub at: String,
    /// created, removed or refused.
    pub did: String,
    /// Of a refusal.
    pub errno: Option<u32>,
    pub kind: String,
    /// null = not known.
    pub namespace: Option<InNamespaceJson>,
    pub by: ActorJson,
    pub first_us_u64: String,
    pub last_us_u64: String,
    pub count_u64: String,
    pub key: String,
    pub size_u64: String,
    pub ids: Vec<i32>,
    pub bound_by: Option<UsageJson>,
}

/// Which namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InNamespaceJson {
    /// The inode.
    pub id: u64,
    pub instance: String,
}

/// The process that called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorJson {
    pub pid: i32,
    pub comm: String,
    pub uid: Option<u32>,
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// A limit with its use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageJson {
    pub resource: String,
    pub used_u64: String,
    pub limit_u64: String,
}

/// The true high-water mark between two samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakJson {
    /// Derived: the wall clock at that instant.
    pub at: String,
    pub namespace: InNamespaceJson,
    pub boot_us_u64: String,
    pub sem_arrays_u64: String,
    pub semaphores_u64: String,
}

/// One source that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableJson {
    pub source: String,
    /// From 1; null = the source as a whole.
    pub line: Option<u32>,
    pub error: String,
}

/// Objects that exist but are not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutJson {
    pub sem: u64,
    pub shm: u64,
    pub msg: u64,
}

/// The kernel's limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsJson {
    pub semmsl: u64,
    pub semmns: u64,
    pub semopm: u64,
    pub semmni: u64,
    pub semvmx: u64,
    pub shmmax_u64: String,
    pub shmall_u64: String,
    pub shmmni: u64,
    pub shmmin: u64,
    pub msgmax: u64,
    pub msgmnb: u64,
    pub msgmni: u64,
}

/// What is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalsJson {
    pub sem_arrays: u64,
    pub semaphores: u64,
    pub shm_segments: u64,
    pub shm_pages_u64: String,
    pub shm_resident_u64: String,
    pub shm_swapped_u64: String,
    pub swap_attempts: u64,
    pub swap_successes: u64,
    pub msg_queues: u64,
    pub msg_messages: u64,
    pub msg_bytes_u64: String,
}

/// Owner and creator with their names, part of every object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerJson {
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    pub user: Option<String>,
    pub group: Option<String>,
    pub cuser: Option<String>,
    pub cgroup: Option<String>,
}

/// A semaphore array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemJson {
    pub key: String,
    pub semid: i32,
    pub perms: String,
    pub nsems: u32,
    #[serde(flatten)]
    pub owner: OwnerJson,
    pub otime: i64,
    pub ctime: i64,
    #[serde(flatten)]
    pub held: HeldJson,
}

/// A shared memory segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShmJson {
    pub key: String,
    pub shmid: i32,
    pub perms: String,
    pub size_u64: String,
    pub cpid: i32,
    pub lpid: i32,
    pub nattch: u64,
    #[serde(flatten)]
    pub owner: OwnerJson,
    pub atime: i64,
    pub dtime: i64,
    pub ctime: i64,
    pub rss_u64: String,
    pub swap_u64: String,
    #[serde(flatten)]
    pub held: HeldJson,
}

/// A message queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsgJson {
    pub key: String,
    pub msqid: i32,
    pub perms: String,
    pub cbytes_u64: String,
    pub qnum: u64,
    pub qbytes_u64: Option<String>,
    pub lspid: i32,
    pub lrpid: i32,
    #[serde(flatten)]
    pub owner: OwnerJson,
    pub stime: i64,
    pub rtime: i64,
    pub ctime: i64,
    #[serde(flatten)]
    pub held: HeldJson,
}
