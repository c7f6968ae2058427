//! The shapes, field by field in the contract's order.
#![allow(missing_docs, reason = "the contract's names; what a field means is at the domain field of that name")]

use serde::{Deserialize, Serialize};

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
    pub namespaces: Vec<NamespaceJson>,
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
    /// Derived: everything was read and nothing left out.
    pub complete: bool,
    /// Of this namespace; absent = as the snapshot's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn: Option<bool>,
    pub unreadable: Vec<UnreadableJson>,
    pub left_out: LeftOutJson,
    pub limits: Option<LimitsJson>,
    pub totals: Option<TotalsJson>,
    pub sem: Option<Vec<SemJson>>,
    pub shm: Option<Vec<ShmJson>>,
    pub msg: Option<Vec<MsgJson>>,
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
}
