//! Who grew in the whole fleet.

use serde::{Deserialize, Serialize};

/// Who grew, of all hosts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FleetBlameJson {
    /// The first instant asked for, collector's clock.
    pub since: String,
    /// The second.
    pub until: String,
    /// What is compared with it: owners are kept by the hour, so this is the end of the hour that holds `since`.
    pub compared_since: String,
    /// Likewise for `until`; now, if that hour is not over.
    pub compared_until: String,
    /// How many hosts were compared.
    pub hosts: usize,
    /// Who grew most comes first; who neither grew nor shrank and left no orphans is not listed.
    pub owners: Vec<FleetOwnerJson>,
    /// Lists that could not be read whole at one of the instants: nothing is said of those. At most 1,000.
    pub unknown: Vec<FleetUnknownJson>,
    /// Where to go on.
    pub next_cursor: Option<String>,
    /// What a person should know about this answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What one owner holds of one kind in one namespace of one host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FleetOwnerJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// Inode of the namespace.
    pub namespace: u64,
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
    /// The sample that `arrays_before` is of, host's clock.
    pub base_at: String,
    /// `asked`, or `first_row`: the host has none as old as was asked, and its first is the base.
    pub since_is: String,
}

/// A list that is not compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FleetUnknownJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// Inode of the namespace.
    pub namespace: u64,
    /// `sem`, `shm` or `msg`.
    pub kind: String,
}
