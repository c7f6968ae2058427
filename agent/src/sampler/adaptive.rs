//! How often to sample: faster as use nears a limit, grows towards one, or a call was refused; back when it is calm.
//!
//! Pure. The interval is one of four: the base, a half, a quarter, and the floor (`fastest`). A sample calls for the
//! level of its most threatened limit (the higher of two findings):
//!
//! | level | use / limit | time to the limit, as use grows | else |
//! |---|---|---|---|
//! | 1 | 70 % | 2 h | |
//! | 2 | 85 % | 30 min | |
//! | 3 | 95 % | 5 min | a call was refused |
//!
//! 70 % is where people begin to raise limits; of 128 arrays 95 % leaves six, less than one Apache makes as it starts. Two
//! hours, thirty minutes and five are what a person, a person on call and nobody can act in. Up goes at once, down one
//! level at a time, when for [`CALM`] (and six base intervals) no sample called for the level, with the thresholds of use
//! five points lower and those of time half as long again: so that use that moves about a threshold does not make the
//! interval flap, which would be a change in every record. Use grows where it is higher than it was in that time: a host
//! that makes and removes the same number again and again is calm.
//!
//! A sample that takes long is not taken so often: the floor is at least [`REST`] times what the last one took.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_ipc::activity::{Activity, Did, Peak};
use highwater_ipc::limits::{Resource, Totals, Usage};
use highwater_ipc::snapshot::{NamespaceId, State};

/// For so long nothing must call for a level before it is left.
pub const CALM: Duration = Duration::from_secs(60);
/// The time between two samples is at least so many times what one takes: a fifth of a hundredth of sampling for the
/// usual 0.1 ms at the fastest interval there is, and never more than a twentieth.
pub const REST: u64 = 20;
/// The highest level.
const TOP: u8 = 3;

/// Decides the interval of one host.
#[derive(Debug)]
pub struct Adaptive {
    floor_ms: u32,
    level: u8,
    /// Since when nothing called for this level.
    calm_since_us: Option<u64>,
    highs: BTreeMap<NamespaceId, Highs>,
    highs_since_us: u64,
    last_us: Option<u64>,
}

/// The most that was in use in this stretch of [`CALM`] and in the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Highs {
    now: [u64; Resource::ALL.len()],
    before: [u64; Resource::ALL.len()],
}

/// What one sample calls for.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Signs {
    /// Use over limit of the most threatened limit, 0 to 1 and above.
    pub ratio: f64,
    /// Seconds to the nearest limit at the rate of the last sample; `None` = nothing grows.
    pub seconds_left: Option<f64>,
    /// A call was refused for want of room, memory or permission to call at all.
    pub refused: bool,
}

impl Signs {
    /// The level this calls for; `slack` = with the thresholds for leaving it.
    fn level(&self, slack: bool) -> u8 {
        let (points, longer) = if slack { (0.05, 1.5) } else { (0.0, 1.0) };
        let by_ratio = [0.70, 0.85, 0.95].into_iter().filter(|least| self.ratio >= least - points).count();
        let left = self.seconds_left;
        let soon = |within: &f64| left.is_some_and(|seconds| seconds <= within * longer);
        let by_time = [7200.0, 1800.0, 300.0].into_iter().filter(soon).count();
        let level = if self.refused { TOP.into() } else { by_ratio.max(by_time) };
        u8::try_from(level).unwrap_or(TOP).min(TOP)
    }
}

impl Adaptive {
    /// Never faster than `floor_ms`; knows nothing yet.
    pub fn new(floor_ms: u32) -> Self {
        Self { floor_ms, level: 0, calm_since_us: None, highs: BTreeMap::new(), highs_since_us: 0, last_us: None }
    }

    /// The shortest interval at that base and with samples that take so long, milliseconds.
    pub fn floor(&self, base_ms: u32, took_us: u32) -> u32 {
        let rest = u32::try_from(u64::from(took_us).saturating_mul(REST) / 1000).unwrap_or(u32::MAX);
        self.floor_ms.max(rest).min(base_ms)
    }

    /// The time to the next sample, milliseconds, after one that read `state` at that boot time, and took so long.
    pub fn after(&mut self, state: &State, activity: &Activity, (boot_us, took_us): (u64, u32), base_ms: u32) -> u32 {
        let signs = self.signs(state, activity, boot_us, base_ms);
        self.step(&signs, boot_us, base_ms);
        let wanted = match self.level {
            0 => base_ms,
            1 => base_ms / 2,
            2 => base_ms / 4,
            _ => 0,
        };
        wanted.max(self.floor(base_ms, took_us))
    }

    /// What a sample calls for, given those before it.
    fn signs(&mut self, state: &State, activity: &Activity, boot_us: u64, base_ms: u32) -> Signs {
        if boot_us.saturating_sub(self.highs_since_us) >= calm_us(base_ms) {
            self.highs_since_us = boot_us;
            let present = |id: &NamespaceId| state.namespaces.iter().any(|namespace| namespace.id == *id);
            // Few namespaces go in a minute; a host with very many forgets them all instead of looking for each.
            if self.highs.len() > 1024 {
                self.highs.clear();
            }
            self.highs.retain(|id, highs| {
                *highs = Highs { now: [0; Resource::ALL.len()], before: highs.now };
                present(id)
            });
        }
        let seconds = self.last_us.replace(boot_us).map(|last| seconds(boot_us.saturating_sub(last)));
        let refused = |did| matches!(did, Did::Refused(errno) if errno != EINVAL);
        let mut signs = Signs { refused: activity.acts.iter().any(|act| refused(act.did)), ..Signs::default() };
        for namespace in &state.namespaces {
            let (Some(totals), Some(limits)) = (namespace.totals, namespace.limits) else { continue };
            let peak = activity.peaks.iter().find(|peak| peak.namespace == namespace.id);
            let totals = peak.map_or(totals, |peak| with_peak(totals, peak));
            let known = self.highs.get(&namespace.id).copied();
            let mut highs = known.unwrap_or_default();
            let places = highs.now.iter_mut().zip(highs.before);
            for (resource, (now, before)) in Resource::ALL.into_iter().zip(places) {
                let (used, limit) = resource.of(&totals, &limits);
                signs.ratio = signs.ratio.max(Usage { resource, used, limit }.ratio());
                let high = before.max(*now);
                if let Some(seconds) = seconds.filter(|_| known.is_some() && used > high) {
                    let left = seconds_left(limit.saturating_sub(used), used - high, seconds);
                    signs.seconds_left = Some(signs.seconds_left.map_or(left, |least| least.min(left)));
                }
                *now = used.max(*now);
            }
            self.highs.insert(namespace.id, highs);
        }
        signs
    }

    /// Up at once, down one level after calm.
    fn step(&mut self, signs: &Signs, boot_us: u64, base_ms: u32) {
        self.level = self.level.max(signs.level(false));
        if self.level == 0 || signs.level(true) >= self.level {
            self.calm_since_us = None;
            return;
        }
        let since = *self.calm_since_us.get_or_insert(boot_us);
        if boot_us.saturating_sub(since) >= calm_us(base_ms) {
            self.level -= 1;
            self.calm_since_us = Some(boot_us);
        }
    }
}

const EINVAL: u32 = 22;

fn calm_us(base_ms: u32) -> u64 {
    u64::from(base_ms).saturating_mul(6000).max(u64::try_from(CALM.as_micros()).unwrap_or(u64::MAX))
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "a time that is compared to minutes")]
fn seconds_left(room: u64, grown: u64, seconds: f64) -> f64 {
    room as f64 / grown as f64 * seconds
}

/// What was in use at the peak, where that is more.
fn with_peak(totals: Totals, peak: &Peak) -> Totals {
    let (sem_arrays, semaphores) = (totals.sem_arrays.max(peak.sem_arrays), totals.semaphores.max(peak.semaphores));
    Totals { sem_arrays, semaphores, ..totals }
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
mod tests;
