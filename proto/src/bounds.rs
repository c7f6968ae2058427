//! The bounds of the protocol, one list for both sides. What exceeds one is refused with an error that names it.

/// Bytes in one gRPC message, encoded.
pub const MESSAGE: usize = 256 << 10;
/// Bytes of body in one part of a record; leaves room for the rest of the message.
pub const PART: usize = 192 << 10;
/// Records in one message.
pub const RECORDS: usize = 1024;
/// Epochs in a hello.
pub const EPOCHS: usize = 1024;
/// Bytes of a `Now` summary.
pub const SUMMARY: usize = 64 << 10;
/// Bytes of a certificate request.
pub const CSR: usize = 4 << 10;
/// Bytes of agent version, machine id, token id.
pub const SHORT_TEXT: usize = 64;
/// Bytes of a token's secret.
pub const SECRET: usize = 128;
/// Highest epoch number, sequence number and boot time (microseconds): they are `bigint` in the database.
pub const NUMBER: u64 = i64::MAX as u64;
/// Numbers of epochs are below this: from here on they are those of imported history.
pub const EPOCH_NO: u64 = highwater_ipc::record::EpochNo::IMPORTED.0;
/// Shortest sampling interval, milliseconds.
pub const INTERVAL_MIN_MS: u32 = 100;
/// Longest sampling interval, milliseconds.
pub const INTERVAL_MAX_MS: u32 = 3_600_000;
/// Samples may be this many intervals apart before the time between them is a gap.
pub const GAP_INTERVALS: u64 = 3;
/// A change of wall against boot clock beyond this begins a new stretch, milliseconds.
pub const CLOCK_STEP_MS: i64 = 500;
/// DNS name in the collector's certificate, whatever address the agent dials.
pub const COLLECTOR_NAME: &str = "collector.highwater.internal";
