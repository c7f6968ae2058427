//! How the writer works.

/// How the writer works. The defaults serve one host as well as ten thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Workers, each with a connection of its own, 1 to 64. Default 4.
    pub workers: usize,
    /// Bytes of records queued or being committed by all workers, half of them for records that fit into one message,
    /// half (and at least twice the largest record, 16 MiB) for those that travel in parts; beyond it streams wait.
    /// A record counts as 1 KiB at least. Default 64 MiB.
    pub queue_bytes: usize,
    /// Bytes of one host's records among them, or a single larger record; beyond it this host's stream waits, others do
    /// not. Default 4 MiB.
    pub host_bytes: usize,
    /// Records in one commit. Default 1,000.
    pub records_per_commit: usize,
    /// Bytes of records in one commit; a larger record is committed alone. Default 8 MiB.
    pub bytes_per_commit: usize,
    /// How long the first record of a commit waits for others, milliseconds. Default 3.
    pub linger_ms: u64,
    /// How long a shutdown waits for the database to take what is queued, milliseconds. Default 5,000.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 4,
            queue_bytes: 64 << 20,
            host_bytes: 4 << 20,
            records_per_commit: 1000,
            bytes_per_commit: 8 << 20,
            linger_ms: 3,
            drain_ms: 5000,
        }
    }
}
