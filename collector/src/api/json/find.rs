//! Objects across the fleet and time.

use serde::{Deserialize, Serialize};

/// What was found. All instants are of the collector's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FindJson {
    /// By host, namespace, kind, id and begin.
    pub matches: Vec<MatchJson>,
    /// Where the next page begins; a page can hold few matches or none and not be the last.
    pub next_cursor: Option<String>,
    /// The expression as it was asked.
    pub expr: String,
    /// The instant asked for; null = `since` and `until` were.
    pub at: Option<String>,
    /// The begin of the span asked for; null = `at` was.
    pub since: Option<String>,
    /// Its end.
    pub until: Option<String>,
    /// What this answer does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One object on one host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MatchJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// Its clock minus the collector's: added to `from` and `to` it makes instants of the host's clock.
    pub skew_ms: i64,
    /// Inode of the namespace.
    pub namespace: u64,
    /// What that is called, as claimed; null = it has no name, or is the host's own.
    pub namespace_name: Option<String>,
    /// `sem`, `shm` or `msg`.
    pub kind: String,
    /// Its key, of the last sample in which it is what was looked for; so are uid, user and comm.
    pub key: String,
    /// semid, shmid or msqid.
    pub id: i32,
    /// Whose.
    pub uid: u32,
    /// That uid's name; null = none.
    pub user: Option<String>,
    /// The comm of its maker or last user, else the only one of its owner's processes; null = not known.
    pub comm: Option<String>,
    /// First sample that shows it, not before `since`; without `since` the sample that was looked at.
    pub from: String,
    /// `created` (the sample before it does not show it) or `seen` (it may be older).
    pub from_is: String,
    /// Last sample that shows it; null = it is there at the end of the span, at `at`, or now.
    pub to: Option<String>,
    /// `removed`, `reboot` or `last_sample` (no later sample could see it); null = `to` is.
    pub to_is: Option<String>,
}
