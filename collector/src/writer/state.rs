//! What a writer keeps of a host between two commits: some words, whatever the host holds. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::session::HostFacts;
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::At;

use crate::host::HostId;
use crate::store::host_facts::Facts;
use crate::store::host_status::{Present, Status, Usage};
use crate::store::stream::{Session, Stream};

/// A host with a session here.
#[derive(Clone, Debug)]
pub struct HostState {
    /// Its session.
    pub session: Session,
    /// Its hello's facts.
    pub hello: Arc<HostFacts>,
    /// How its clock compares with the collector's.
    pub skew: Skew,
    /// The epochs it may write, and the latest one with samples before them.
    pub streams: BTreeMap<EpochNo, Stream>,
    /// The facts stored last.
    pub facts: Option<Arc<Facts>>,
    /// What `host_status` says; `None` = no sample yet.
    pub present: Option<Present>,
    /// The sample of its last `now`, until history has caught up with it.
    pub ahead: Option<At>,
}

/// The collector's clocks at one moment, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Moment {
    /// Wall clock, since 1970.
    pub wall_ms: i64,
    /// A clock that nobody sets, since this process began.
    pub steady_ms: i64,
}

impl Moment {
    /// The moment at which the wall clock showed this.
    pub fn back_to(self, wall_ms: i64) -> Self {
        let ago_ms = self.wall_ms.saturating_sub(wall_ms);
        Self { wall_ms, steady_ms: self.steady_ms.saturating_sub(ago_ms) }
    }
}

/// Boot time over which the freshest sample is looked for, microseconds: clocks drift by some milliseconds in it.
const WINDOW_US: u64 = 5 * 60 * 1_000_000;

/// A host's wall clock against the collector's. Both are set now and then, so it is three differences: the host's wall
/// clock to its boot clock, as its newest sample shows it; the boot clock to the collector's steady clock, which only
/// drift, so it is measured again and again, and the sample that was least late is the one to believe; and the
/// steady clock to the collector's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Skew {
    hello: At,
    /// Steady minus boot clock of the least late sample of this window, and of the one before.
    least_ms: [i64; 2],
    /// Boot time at which this window began.
    window_us: u64,
    now_ms: i64,
}

impl Skew {
    /// As a hello shows it, milliseconds: the host's clock minus the collector's.
    pub fn at_hello(hello: At, read: Moment) -> Self {
        let least_ms = [read.steady_ms.saturating_sub(boot_ms(&hello)); 2];
        let now_ms = hello.wall_ms.saturating_sub(read.wall_ms);
        Self { hello, least_ms, window_us: hello.boot_us, now_ms }
    }

    /// As a sample of the same boot shows it; one from before the hello says nothing, one that came late for all that is
    /// known says nothing of the time that it took.
    fn see(&mut self, at: &At, came: Moment, is_present: bool) {
        if at.boot_us < self.hello.boot_us {
            return;
        }
        if is_present {
            self.measure(came.steady_ms.saturating_sub(boot_ms(at)), at.boot_us);
        }
        let [now, before] = self.least_ms;
        let since_ms = came.steady_ms.saturating_sub(boot_ms(at)).saturating_sub(now.min(before));
        self.now_ms = at.wall_ms.saturating_add(since_ms).saturating_sub(came.wall_ms);
    }

    fn measure(&mut self, late_ms: i64, boot_us: u64) {
        let windows = boot_us.saturating_sub(self.window_us) / WINDOW_US;
        let [now, before] = self.least_ms;
        self.least_ms = match windows {
            0 => [now.min(late_ms), before],
            1 => [late_ms, now],
            _ => [late_ms, late_ms],
        };
        if windows > 0 {
            self.window_us = boot_us;
        }
    }
}

fn boot_ms(at: &At) -> i64 {
    i64::try_from(at.boot_us / 1000).unwrap_or(i64::MAX)
}

impl HostState {
    /// Takes in what a sample says of the host's clock.
    pub fn see_clock(&mut self, boot_id: BootId, at: &At, came: Moment) {
        if boot_id == self.hello.boot_id {
            self.skew.see(at, came, self.is_present(boot_id, at));
        }
    }

    /// The latest epoch before `no` that has samples: where a gap before `no` begins.
    pub fn before(&self, no: EpochNo) -> Option<&Stream> {
        self.streams.range(..no).rev().map(|(_, stream)| stream).find(|stream| stream.covered.is_some())
    }

    /// The latest epoch before `no` that has records.
    pub fn written_before(&self, no: EpochNo) -> Option<&Stream> {
        self.streams.range(..no).rev().map(|(_, stream)| stream).find(|stream| stream.next > Seq(0))
    }

    /// Whether the database stands where this session has left it, or further: a backup may have taken its place.
    pub fn is_kept_by(&self, stored: &[Stream]) -> bool {
        self.streams.values().all(|known| {
            let row = stored.iter().find(|row| row.epoch == known.epoch);
            row.map_or(Seq(0), |row| row.next) >= known.next
        })
    }

    /// Whether a sample is not older than the newest one known of: then it is the present.
    pub fn is_present(&self, boot_id: BootId, at: &At) -> bool {
        self.ahead.is_none_or(|ahead| boot_id == self.hello.boot_id && at.boot_us >= ahead.boot_us)
    }

    /// Drops epochs that can no longer matter once `no` is written to: history goes forward only.
    pub fn forget_before(&mut self, no: EpochNo) {
        let has_samples = self.streams.get(&no).is_some_and(|s| s.covered.is_some());
        let keep = if has_samples { no } else { self.before(no).map_or(no, |s| s.epoch.no) };
        self.streams.retain(|epoch, _| *epoch >= keep);
    }

    /// The row of `host_status`; `None` before the first sample.
    pub fn status(&self, host: HostId, last_seen_ms: i64, usage: Usage) -> Option<Status> {
        let present = self.present?;
        Some(Status { host, session: self.session, last_seen_ms, skew_ms: self.skew.now_ms, present, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The host's clocks `boot_ms` after its boot.
    fn at(wall_ms: i64, boot_ms: u64) -> At {
        At { wall_ms, boot_us: boot_ms * 1000 }
    }

    fn moment(wall_ms: i64, steady_ms: i64) -> Moment {
        Moment { wall_ms, steady_ms }
    }

    /// A second of skew; boot and steady clock differ by 49 s.
    fn at_hello() -> Skew {
        Skew::at_hello(at(100_000, 50_000), moment(99_000, 1_000))
    }

    #[test]
    fn a_clock_set_after_hello_moves_the_skew_and_a_backlog_from_before_it_does_not() {
        let mut skew = at_hello();
        skew.see(&at(40_000, 40_000), moment(99_500, 1_500), true);
        assert_eq!(skew.now_ms, 1_000);
        skew.see(&at(101_000, 51_000), moment(100_000, 2_000), true);
        assert_eq!(skew.now_ms, 1_000);
        skew.see(&at(3_702_000, 52_000), moment(101_000, 3_000), true);
        assert_eq!(skew.now_ms, 3_601_000);
        skew.see(&at(103_000, 53_000), moment(102_000, 4_000), true);
        assert_eq!(skew.now_ms, 1_000);
    }

    #[test]
    fn a_step_of_the_collectors_clock_moves_the_skew_at_once() {
        for step_ms in [2_000, -2_000] {
            let mut skew = at_hello();
            skew.see(&at(101_000, 51_000), moment(100_000 + step_ms, 2_000), true);
            assert_eq!(skew.now_ms, 1_000 - step_ms);
        }
    }

    #[test]
    fn a_clock_that_drifts_for_a_day_is_followed_and_late_samples_are_not() {
        let mut skew = at_hello();
        for second in 1..=86_400_i64 {
            let drift_ms = second * 12 / 1000; // a second in all
            let late_ms = second % 3 * 900;
            let (wall_ms, boot_ms) = (100_000 + second * 1000 + drift_ms, 50_000 + second * 1000 + drift_ms);
            let came = moment(99_000 + second * 1000 + late_ms, 1_000 + second * 1000 + late_ms);
            skew.see(&at(wall_ms, u64::try_from(boot_ms).unwrap()), came, true);
            let error_ms = skew.now_ms - 1_000 - drift_ms;
            assert!((-20..=20).contains(&error_ms), "second {second}: {error_ms} ms");
        }
    }

    #[test]
    fn a_backlog_that_takes_an_hour_says_nothing_of_the_skew() {
        let mut skew = at_hello();
        for second in 1..=3_600_i64 {
            let came = moment(3_700_000 + second, 3_602_000 + second);
            let sampled = at(100_000 + second * 1000, u64::try_from(50_000 + second * 1000).unwrap());
            skew.see(&sampled, came, false);
            assert_eq!(skew.now_ms, 1_000);
        }
    }
}
