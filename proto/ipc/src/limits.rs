//! The limits and totals of one IPC namespace, and which limit binds first.
//!
//! Sources: `/proc/sys/kernel/{sem,shmmax,shmall,shmmni,msgmax,msgmnb,msgmni}` (or IPC_INFO), SEM_INFO, SHM_INFO,
//! MSG_INFO; `sysvipc(7)`, `semctl(2)`, `ipc/ipc_sysctl.c`.

/// The kernel's limits for one IPC namespace. SEMVMX and SHMMIN are compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// SEMMSL: semaphores in one array.
    pub semmsl: u64,
    /// SEMMNS: semaphores in all arrays.
    pub semmns: u64,
    /// SEMOPM: operations in one `semop(2)`.
    pub semopm: u64,
    /// SEMMNI: arrays.
    pub semmni: u64,
    /// SEMVMX: highest value of a semaphore.
    pub semvmx: u64,
    /// SHMMAX: bytes in one segment, up to 2^64-1.
    pub shmmax: u64,
    /// SHMALL: pages in all segments, up to 2^64-1.
    pub shmall: u64,
    /// SHMMNI: segments.
    pub shmmni: u64,
    /// SHMMIN: bytes in the smallest segment.
    pub shmmin: u64,
    /// MSGMAX: bytes in one message.
    pub msgmax: u64,
    /// MSGMNB: bytes in one queue, as it is made.
    pub msgmnb: u64,
    /// MSGMNI: queues.
    pub msgmni: u64,
}

/// What is in use in one IPC namespace, as SEM_INFO, SHM_INFO and MSG_INFO answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// Arrays in use (SEM_INFO `semusz`).
    pub sem_arrays: u64,
    /// Semaphores in use (SEM_INFO `semaem`).
    pub semaphores: u64,
    /// Segments in use (SHM_INFO `used_ids`).
    pub shm_segments: u64,
    /// Pages of all segments (SHM_INFO `shm_tot`).
    pub shm_pages: u64,
    /// Pages resident (SHM_INFO `shm_rss`).
    pub shm_resident: u64,
    /// Pages swapped (SHM_INFO `shm_swp`).
    pub shm_swapped: u64,
    /// SHM_INFO `swap_attempts`, always 0 since Linux 2.4.
    pub swap_attempts: u64,
    /// SHM_INFO `swap_successes`, always 0 since Linux 2.4.
    pub swap_successes: u64,
    /// Queues in use (MSG_INFO `msgpool`).
    pub msg_queues: u64,
    /// Messages in all queues (MSG_INFO `msgmap`).
    pub msg_messages: u64,
    /// Bytes in all queues (MSG_INFO `msgtql`).
    pub msg_bytes: u64,
}

/// A limit that can run out, by its kernel name; the order in which `lsipc` lists them is not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Semaphore arrays.
    Semmni,
    /// Semaphores in all arrays.
    Semmns,
    /// Shared memory segments.
    Shmmni,
    /// Shared memory pages.
    Shmall,
    /// Message queues.
    Msgmni,
}

impl Resource {
    /// All, semaphores first.
    pub const ALL: [Resource; 5] =
        [Resource::Semmni, Resource::Semmns, Resource::Shmmni, Resource::Shmall, Resource::Msgmni];

    /// The kernel's name, e.g. `SEMMNI`.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Semmni => "SEMMNI",
            Resource::Semmns => "SEMMNS",
            Resource::Shmmni => "SHMMNI",
            Resource::Shmall => "SHMALL",
            Resource::Msgmni => "MSGMNI",
        }
    }

    /// `(used, limit)` of this resource.
    pub fn of(self, totals: &Totals, limits: &Limits) -> (u64, u64) {
        match self {
            Resource::Semmni => (totals.sem_arrays, limits.semmni),
            Resource::Semmns => (totals.semaphores, limits.semmns),
            Resource::Shmmni => (totals.shm_segments, limits.shmmni),
            Resource::Shmall => (totals.shm_pages, limits.shmall),
            Resource::Msgmni => (totals.msg_queues, limits.msgmni),
        }
    }
}

/// A resource with its use: what a reviewer compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Which limit.
    pub resource: Resource,
    /// In use now.
    pub used: u64,
    /// The limit; 0 means nothing can be made.
    pub limit: u64,
}

impl Usage {
    /// Used over limit, 0..1 and above if the limit was lowered below use; a limit of 0 is full.
    #[allow(clippy::cast_precision_loss, reason = "a ratio is shown with two digits")]
    pub fn ratio(&self) -> f64 {
        if self.limit == 0 { 1.0 } else { self.used as f64 / self.limit as f64 }
    }
}

/// How near a limit is, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 80 % of the limit is used.
    Warning,
    /// 90 %.
    Critical,
}

impl Severity {
    /// The word of the JSON contract.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Usage {
    /// How near the limit is; `None` = below 80 %. Exact, up to 2^64-1; a limit of 0 is full.
    pub fn severity(&self) -> Option<Severity> {
        let reaches = |tenths: u128| u128::from(self.used) * 10 >= u128::from(self.limit) * tenths;
        if reaches(9) { Some(Severity::Critical) } else { reaches(8).then_some(Severity::Warning) }
    }
}

/// The resource that is nearest to its limit; on a tie the first of [`Resource::ALL`].
pub fn nearest(totals: &Totals, limits: &Limits) -> Usage {
    let usage = |resource: Resource| {
        let (used, limit) = resource.of(totals, limits);
        Usage { resource, used, limit }
    };
    // used/limit compared as exact cross products: a float would call 2^64-1 and 2^64-2 equal.
    let cross =
        |a: &Usage, b: &Usage| u128::from(a.used) * u128::from(b.limit) > u128::from(b.used) * u128::from(a.limit);
    Resource::ALL.into_iter().map(usage).fold(usage(Resource::Semmni), |best, u| {
        let full = u.limit == 0 && best.limit != 0;
        if full || (best.limit != 0 && cross(&u, &best)) { u } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_near_at_eighty_and_critical_at_ninety_percent() {
        let severity = |used, limit| Usage { resource: Resource::Semmni, used, limit }.severity();
        assert_eq!(severity(79, 100), None);
        assert_eq!(severity(80, 100), Some(Severity::Warning));
        assert_eq!(severity(89, 100), Some(Severity::Warning));
        assert_eq!(severity(90, 100), Some(Severity::Critical));
        assert_eq!(severity(0, 0), Some(Severity::Critical), "nothing can be made");
        assert_eq!(severity(u64::MAX, u64::MAX), Some(Severity::Critical));
        assert_eq!(severity(0, u64::MAX), None);
    }

    #[test]
    fn the_nearest_limit_is_the_one_with_the_highest_ratio() {
        let limits = Limits {
            semmsl: 250,
            semmns: 32000,
            semopm: 32,
            semmni: 128,
            semvmx: 32767,
            shmmax: u64::MAX,
            shmall: u64::MAX,
            shmmni: 4096,
            shmmin: 1,
            msgmax: 8192,
            msgmnb: 16384,
            msgmni: 16,
        };
        let totals =
            Totals { sem_arrays: 64, semaphores: 64, msg_queues: 12, shm_pages: u64::MAX / 4, ..Totals::default() };
        assert_eq!(nearest(&totals, &limits), Usage { resource: Resource::Msgmni, used: 12, limit: 16 });
        let none = Limits { semmni: 0, ..limits };
        assert_eq!(nearest(&totals, &none).resource, Resource::Semmni);
    }
}
