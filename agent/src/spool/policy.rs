//! When records are forced to the device, and what each choice can lose.

/// When the spool forces records to the device. Only a crash of the *machine* (power, kernel) can lose what was not:
/// what a killed agent has appended, the kernel still writes. Segment ends, a stop in order and the ack cursor are
/// always forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FsyncPolicy {
    /// After each record, before the append returns: loses none. Costs one `fdatasync` a sample.
    #[default]
    Every,
    /// At most once a second: loses the records of up to the last second, or the last one if samples are further
    /// apart than that. The next epoch's first record then says why samples are missing.
    Second,
    /// At a segment's end only: loses up to one segment, about 1 MiB of records, which can be hours.
    Segment,
}

impl FsyncPolicy {
    /// The policy that the configuration calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "every" => Some(Self::Every),
            "second" => Some(Self::Second),
            "segment" => Some(Self::Segment),
            _ => None,
        }
    }

    /// Whether a record appended now must be forced, `since_us` microseconds after the last force.
    pub fn due(self, since_us: u64) -> bool {
        match self {
            Self::Every => true,
            Self::Second => since_us >= 1_000_000,
            Self::Segment => false,
        }
    }
}
