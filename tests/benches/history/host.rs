//! Hosts whose days are made: one that is busy as the peers' day, one that is not.

use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::{BootId, State};
use highwater_ipc::time::At;
use highwater_tests::scribe::Scribe;

use crate::day::{self, Sample};
use crate::stack::{DAY_MS, MINUTE_MS};

/// 2026-06-01T00:00:00Z, a Monday.
pub const FIRST_DAY_MS: i64 = 1_780_272_000_000;
/// A host boots again after so many days.
const UP_DAYS: i64 = 10;
/// And is away for so long, milliseconds: its first samples of that day are missing.
const AWAY_MS: i64 = 5 * MINUTE_MS;

/// A host's day after day.
pub struct Days {
    day: Vec<Sample>,
    state: State,
    dice: u64,
    quiet: bool,
}

impl Days {
    /// Sampled each minute, and no two samples alike.
    pub fn busy(day: Vec<Sample>) -> Self {
        Self { state: day[0].state.clone(), day, dice: 1, quiet: false }
    }

    /// Sampled each 10 seconds; an array is used about once a minute.
    pub fn quiet() -> Self {
        let mut state = day::made()[0].state.clone();
        state.interval_ms = 10_000;
        Self { day: Vec::new(), state, dice: 7, quiet: true }
    }

    /// Makes the samples of a day (from 0) from `from_ms` to `to_ms` after its midnight.
    pub fn make(&mut self, host: &mut Scribe, day: i64, (from_ms, to_ms): (i64, i64)) {
        let midnight_ms = FIRST_DAY_MS + day * DAY_MS;
        let reboots = day % UP_DAYS == 0;
        if reboots && from_ms == 0 {
            self.state.boot_id = BootId([u8::try_from(day / UP_DAYS % 250).unwrap() + 1; 16]);
            host.begin_epoch(self.state.boot_id);
        }
        let step_ms = i64::from(self.state.interval_ms);
        let mut first = true;
        for offset_ms in (from_ms..to_ms).step_by(usize::try_from(step_ms).unwrap()) {
            if reboots && offset_ms < AWAY_MS {
                continue;
            }
            let wall_ms = midnight_ms + offset_ms;
            let up_ms = day % UP_DAYS * DAY_MS + offset_ms;
            let at = At { wall_ms: wall_ms + self.roll(9), boot_us: 60_000_000 + up_ms.unsigned_abs() * 1000 };
            if self.quiet {
                self.use_one(wall_ms / 1000);
            } else {
                self.state = self.sampled(offset_ms / step_ms, wall_ms);
            }
            let begins = first && reboots && from_ms == 0;
            let reason = if day == 0 { GapReason::BeforeFirst } else { GapReason::HostDown };
            host.sample(at, &self.state, begins.then_some(reason));
            first = false;
        }
    }

    /// One array in six samples.
    fn use_one(&mut self, now_s: i64) {
        if self.roll(6) > 0 {
            return;
        }
        let roll = self.roll(1 << 20);
        let arrays = self.state.namespaces[0].sem.as_mut().unwrap();
        let which = usize::try_from(roll).unwrap() % arrays.len();
        arrays[which].otime = now_s;
    }

    /// The sample of that place in the day, with all its times moved to the day that is.
    fn sampled(&self, place: i64, wall_ms: i64) -> State {
        let sample = &self.day[usize::try_from(place).unwrap() % self.day.len()];
        let by_s = (wall_ms - sample.at.wall_ms) / 1000;
        let mut state = sample.state.clone();
        state.boot_id = self.state.boot_id;
        let move_on = |time: &mut i64| *time += if *time == 0 { 0 } else { by_s };
        for namespace in &mut state.namespaces {
            for row in namespace.sem.iter_mut().flatten() {
                [&mut row.otime, &mut row.ctime].into_iter().for_each(move_on);
            }
            for row in namespace.shm.iter_mut().flatten() {
                [&mut row.atime, &mut row.dtime, &mut row.ctime].into_iter().for_each(move_on);
            }
            for row in namespace.msg.iter_mut().flatten() {
                [&mut row.stime, &mut row.rtime, &mut row.ctime].into_iter().for_each(move_on);
            }
        }
        state
    }

    fn roll(&mut self, sides: i64) -> i64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.dice >> 33).unwrap() % sides
    }
}
