//! What a log line came from, as the API writes and the command line reads it.

use serde::{Deserialize, Serialize};

use super::{GapJson, HolderJson, RemedyJson, SubjectJson};

/// A log line, explained.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExplainJson {
    /// The line.
    pub message: String,
    /// Whose message it is; null = none that is known: it is explained by the call and the answer in it.
    pub product: Option<String>,
    /// The call that failed, e.g. `semget`; null = none of System V IPC.
    pub call: Option<String>,
    /// Whether the call is only guessed from words of the line.
    pub call_guessed: bool,
    /// What it answered, e.g. `ENOSPC`; null = the line does not say.
    pub errno: Option<String>,
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// The instant asked for, host's clock.
    pub asked_at: String,
    /// When it happened, or the instant that shows it most.
    pub at: String,
    /// The host's clock minus the collector's.
    pub skew_ms: i64,
    /// `refused`, `full`, `near`, `too_much`, `not_reached`, `no_sysvipc`, `removed`, `denied`, `memory`, `exists`,
    /// `missing`, `posix` or `not_known`.
    pub verdict: String,
    /// That in words.
    pub why: String,
    /// What whoever reads such a line must know; null = nothing.
    pub know: Option<String>,
    /// Inode of the namespace; null = not known, or none.
    pub namespace: Option<u64>,
    /// What that is called, as claimed; null = it has no name, or is the host's own.
    pub namespace_name: Option<String>,
    /// Whether it is the host's own.
    pub own_namespace: Option<bool>,
    /// The limit, e.g. `SEMMNI`; null = none.
    pub resource: Option<String>,
    /// How much of it was in use, in the queue, or asked for; null = not known.
    pub used_u64: Option<String>,
    /// The limit's value.
    pub limit_u64: Option<String>,
    /// Who held most of what ran out; null = nothing ran out, or not known.
    pub holder: Option<HolderJson>,
    /// Why the holder's objects are not to be removed by hand; null = no such product.
    pub holder_keep: Option<String>,
    /// Who held the rest, most first; at most five.
    pub others: Vec<OtherJson>,
    /// How many objects the others held in all.
    pub others_hold: u64,
    /// Who was refused; null = that was not traced.
    pub victim: Option<VictimJson>,
    /// The object that was removed; null = none.
    pub removed: Option<SubjectJson>,
    /// Last sample that showed it; null = `at` is exact.
    pub removed_after: Option<String>,
    /// Who removed it; null = not traced.
    pub remover: Option<RemoverJson>,
    /// Limits that it could have been, most used first.
    pub looked_at: Vec<LookedJson>,
    /// Spans around it of which nothing is known.
    pub gaps: Vec<GapJson>,
    /// Whether refused calls are traced on that host.
    pub traced: bool,
    /// What to do, in order.
    pub remedy: Vec<RemedyJson>,
    /// What a person should know about the choice of host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Who held some of what ran out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherJson {
    /// Owner.
    pub uid: u32,
    /// Its name.
    pub user: Option<String>,
    /// Its program.
    pub comm: Option<String>,
    /// How many objects.
    pub arrays: u64,
    /// Those that nobody seems to hold.
    pub orphans: u64,
}

/// Who was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VictimJson {
    /// Which process.
    pub pid: i32,
    /// Its comm.
    pub comm: String,
    /// As whom; null = it was gone before it could be asked.
    pub uid: Option<u32>,
    /// That uid's name.
    pub user: Option<String>,
    /// How many of its calls.
    pub count: u64,
    /// Whether it is a program of the message's product, for all that is known; else another one that met the same limit.
    pub is_its_own: bool,
}

/// Who removed an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoverJson {
    /// Which process.
    pub pid: i32,
    /// Its comm.
    pub comm: String,
    /// As whom.
    pub uid: Option<u32>,
    /// That uid's name.
    pub user: Option<String>,
    /// Comm of its parent, where that says more.
    pub parent: Option<String>,
}

/// A limit that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedJson {
    /// Inode of the namespace.
    pub namespace: u64,
    /// What that is called, as claimed.
    pub namespace_name: Option<String>,
    /// Whether it is the host's own.
    pub own_namespace: Option<bool>,
    /// The limit.
    pub resource: String,
    /// The most in use around that instant.
    pub used_u64: Option<String>,
    /// Its value.
    pub limit_u64: String,
    /// When.
    pub at: String,
}
