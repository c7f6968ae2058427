//! How near to its limits the fleet is, was and will be.

use serde::{Deserialize, Serialize};

/// How near to its limits the fleet is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CapacityJson {
    /// From then on, collector's clock.
    pub since: String,
    /// The collector's clock.
    pub now: String,
    /// One entry a host, namespace and resource: who would be refused earliest first, then who is nearest to its limit.
    pub hosts: Vec<CapacityEntryJson>,
    /// All hosts, whatever page.
    pub fleet: CapacityFleetJson,
    /// Where to go on.
    pub next_cursor: Option<String>,
}

/// One resource of one namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CapacityEntryJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// Inode of the namespace.
    pub namespace: u64,
    /// Whether it is the host's own.
    pub own: bool,
    /// E.g. `SEMMNI`.
    pub resource: String,
    /// In use now; null = not known.
    pub used_u64: Option<String>,
    /// The limit now.
    pub limit_u64: Option<String>,
    /// Used over limit; null where either is not known, and where the limit is 0.
    pub ratio: Option<f64>,
    /// The most in use at once since then.
    pub peak_u64: Option<String>,
    /// No more was in use at the end of 95 of 100 hours.
    pub p95_u64: Option<String>,
    /// Hours that are known: what the last two are of.
    pub known_hours: i64,
    /// By how much what is in use at least grows a week, three digits; null = fewer than five days are known.
    pub growth_per_week: Option<f64>,
    /// `growing`, `shrinking`, `steady` (neither, beyond what chance does) or `unknown` (fewer than five days).
    pub trend: String,
    /// Days until the limit is reached at that pace, two digits, cut; null = it does not grow, or more than ten years.
    pub days_left: Option<f64>,
    /// At a pace that a quarter of the days exceeds.
    pub days_left_low: Option<f64>,
    /// At a pace that a quarter of the days falls short of; null = not within ten years.
    pub days_left_high: Option<f64>,
    /// Of SEMMNI and SEMMNS: which of the two stops arrays of the usual size first, and where.
    pub ceiling: Option<CapacityCeilingJson>,
    /// With what_if: the hour from which on the next object of the usual size would have been refused, host's clock; null =
    /// none, or nothing was asked about this resource.
    pub would_refuse_at: Option<String>,
    /// `past` or `ahead` (the pace says so); null where would_refuse_at is.
    pub would_refuse_is: Option<String>,
    /// What that is under; null = nothing was asked about this resource.
    pub what_if: Option<CapacityWhatIfJson>,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CapacityWhatIfJson {
    /// The limit.
    pub limit_u64: Option<String>,
    /// What would be in use now.
    pub used_u64: Option<String>,
    /// Days until that limit is reached at that pace.
    pub days_left: Option<f64>,
}

/// Which of SEMMNI and SEMMNS binds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CapacityCeilingJson {
    /// `SEMMNI` or `SEMMNS`.
    pub binds: String,
    /// So many arrays of the usual size can be made in all.
    pub arrays_u64: String,
    /// And these hold so many semaphores.
    pub semaphores_u64: String,
}

/// The fleet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CapacityFleetJson {
    /// Each host counted once, where its nearest resource is.
    #[serde(flatten)]
    pub sums: CapacitySumsJson,
    /// Hosts of which nothing is known in that span.
    pub hosts_without_data: usize,
    /// Hosts silent for so long that they are not counted.
    pub hosts_gone: usize,
    /// By resource, namespaces counted.
    pub resources: Vec<CapacityGroupJson>,
    /// By group and resource, namespaces counted; empty without group_by.
    pub groups: Vec<CapacityGroupJson>,
}

/// How many are how near.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct CapacitySumsJson {
    /// Hosts.
    pub hosts: usize,
    /// Namespaces.
    pub namespaces: usize,
    /// Half of the limit or more is in use now.
    pub above_50: usize,
    /// 80 % or more.
    pub above_80: usize,
    /// 90 % or more.
    pub above_90: usize,
    /// 90 % or more was in use at the peak.
    pub peak_above_90: usize,
    /// Fewer than 7 days left.
    pub days_left_under_7: usize,
    /// Fewer than 30.
    pub days_left_under_30: usize,
    /// Fewer than 90.
    pub days_left_under_90: usize,
    /// With what_if: would be refused.
    pub would_refuse: usize,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CapacityGroupJson {
    /// The label's value, or `host` and `container`; null = hosts without that label, or no groups.
    pub group: Option<String>,
    /// Which limit.
    pub resource: String,
    /// The limit of all of them, with group_by=namespace; else null.
    pub limit_u64: Option<String>,
    /// How many are how near.
    #[serde(flatten)]
    pub sums: CapacitySumsJson,
}
