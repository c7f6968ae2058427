//! Instants of a host, cut once when sampled.

/// When a sample began, on the sampled host.
///
/// Order in a stream is (epoch, seq), never this: wall clocks are set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At {
    /// Wall clock (CLOCK_REALTIME), milliseconds since 1970, cut (not rounded) when sampled.
    pub wall_ms: i64,
    /// CLOCK_BOOTTIME, microseconds since boot, suspend included.
    pub boot_us: u64,
}

impl At {
    /// The change of the wall clock against the boot clock since `before`, milliseconds: 0 while nobody sets the clock.
    /// Saturates on absurd input.
    pub fn step_since(&self, before: &At) -> i64 {
        let boot = i128::from(self.boot_us) / 1000 - i128::from(before.boot_us) / 1000;
        let wall = i128::from(self.wall_ms) - i128::from(before.wall_ms);
        let clamped = (wall - boot).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        i64::try_from(clamped).unwrap_or(i64::MAX)
    }

    /// Boot time since `before`, microseconds; 0 if it ran backwards (another boot).
    pub fn boot_since(&self, before: &At) -> u64 {
        self.boot_us.saturating_sub(before.boot_us)
    }
}

/// The source of instants, handed to whatever needs one. The real ones live in the two binaries.
pub trait Clock: Send + Sync {
    /// Wall and boot time now.
    fn now(&self) -> At;
}
