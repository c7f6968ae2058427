//! The collector's own health.

use serde::{Deserialize, Serialize};

/// How the collector is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusJson {
    /// The collector's clock.
    pub now: String,
    /// Its version.
    pub version: String,
    /// The database; null = it does not answer.
    pub database: Option<DatabaseJson>,
    /// Since when it does not, and why; null = it answers.
    #[serde(default)]
    pub database_away: Option<AwayJson>,
    /// Room on the database's disk; null = not known: it is no disk of this machine's own.
    pub disk: Option<DiskJson>,
    /// Whether what arrives is acked.
    pub ingest: IngestJson,
    /// Everything that was looked at, well or not.
    pub checks: Vec<CheckJson>,
}

/// A database that does not answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AwayJson {
    /// Since when, as far as anybody has asked it.
    pub since: String,
    /// The words of the last attempt.
    pub why: String,
}

/// What the database says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatabaseJson {
    /// The server's version.
    pub version: String,
    /// Bytes of the database.
    pub bytes: i64,
    /// Hosts in sight.
    pub hosts_live: i64,
    /// Hosts that have reported and are not in sight.
    pub hosts_silent: i64,
    /// When the oldest record came that waits for compaction; null = none waits.
    pub oldest_uncompacted: Option<String>,
    /// The oldest day whose chunks wait to be merged; null = none waits.
    pub oldest_unmerged_day: Option<String>,
    /// Who does the work of which there must be one.
    pub leases: Vec<LeaseJson>,
}

/// A lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseJson {
    /// The job.
    pub name: String,
    /// Which collector process holds it, or held it last.
    pub holder: String,
    /// Until when; null = it was given back.
    pub until: Option<String>,
}

/// Room on a disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskJson {
    /// The directory.
    pub path: String,
    /// Bytes free for everybody but root.
    pub free_bytes: u64,
    /// All bytes.
    pub bytes: u64,
}

/// Whether records are stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IngestJson {
    /// Whether what arrives is acked.
    pub acking: bool,
    /// Since when it is not; null = it is.
    pub since: Option<String>,
    /// Why not.
    pub why: Option<String>,
    /// When a commit last returned; null = none since the start.
    pub last_commit: Option<String>,
    /// Records a second, over the last whole ten seconds.
    pub records_per_second: f64,
}

/// Something that is well or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckJson {
    /// What was looked at: `database`, `ingest`, `disk`, `compaction`, `merge`, `notify` (once for
    /// each receiver in trouble), `compactor`, `retention`, `notifier`.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub what: String,
    /// What to do; null where it is well.
    pub remedy: Option<String>,
}

/// What is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StorageJson {
    /// Each table with its partitions, the largest first.
    pub tables: Vec<TableJson>,
    /// Bytes of what `find` looks at first; they are within those of `chunk`, `chunk_fresh` and `object_now`.
    pub find_index_bytes: i64,
    /// Days of history kept, all hosts together.
    pub host_days: f64,
    /// Bytes of all tables for a day of one host; null = there is no history.
    pub bytes_per_host_day: Option<f64>,
}

/// A table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableJson {
    /// Its name.
    pub name: String,
    /// Rows, as the server counts or estimates them.
    pub rows: i64,
    /// Bytes on disk: heap, TOAST, indexes, maps.
    pub bytes: i64,
}

/// What retention would do now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetentionJson {
    /// The collector's clock.
    pub now: String,
    /// Each table of which old partitions go.
    pub tables: Vec<RetainedJson>,
}

/// What retention would do to a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetainedJson {
    /// Its name.
    pub name: String,
    /// Days it is kept.
    pub keep_days: u32,
    /// What ended before this goes.
    pub horizon: String,
    /// Where the oldest partition that stays begins; null = there is none.
    pub kept_from: Option<String>,
    /// The partitions that would go now, oldest first.
    pub drops: Vec<DroppingJson>,
}

/// A partition that would go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DroppingJson {
    /// Where it begins.
    pub from: String,
    /// Where the next one begins.
    pub to: String,
    /// Rows, as the server counts or estimates them.
    pub rows: i64,
    /// Bytes on disk.
    pub bytes: i64,
    /// Baselines of stretches that are written first; null = of series, not counted.
    pub baselines: Option<i64>,
}
