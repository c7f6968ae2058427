//! When records are forced to the device, and what each choice can lose.

use std::collections::VecDeque;

use super::frame::Position;

/// When the spool forces records to the device. Only a crash of the *machine* (power, kernel) can lose what was not:
/// what a killed agent has appended, the kernel still writes. What a collector acknowledged is not lost with any of
/// them. Segment ends, events, a stop in order and the ack cursor are always forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FsyncPolicy {
    /// Once a record has waited two seconds for its ack, and each one where samples are two seconds or more apart. A
    /// crash of the machine loses at most the last four seconds of records, as far as no collector had them yet; the
    /// next epoch's first record says why samples are missing. While a collector answers, nothing need be forced: a
    /// steady agent that samples each second saves a third of its time, and the disk a flush a second.
    #[default]
    Unacked,
    /// After each record, before the append returns: loses none. Costs one `fdatasync` a sample.
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
            "unacked" => Some(Self::Unacked),
            "every" => Some(Self::Every),
            "second" => Some(Self::Second),
            "segment" => Some(Self::Segment),
            _ => None,
        }
    }

    /// Whether what was appended up to now must be forced.
    pub fn due(self, passed: Passed) -> bool {
        match self {
            Self::Unacked => passed.unacked_us >= WAIT_US || passed.appended_us >= WAIT_US,
            Self::Every => true,
            Self::Second => passed.forced_us >= 1_000_000,
            Self::Segment => false,
        }
    }
}

/// Longest time that a record may be neither acknowledged nor forced before the next append forces it, microseconds.
const WAIT_US: u64 = 2_000_000;

/// Time passed when a record is appended, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Since the last force.
    pub forced_us: u64,
    /// Since the record before was appended.
    pub appended_us: u64,
    /// Since the oldest record was appended that is neither acknowledged nor forced.
    pub unacked_us: u64,
}

/// What was appended and is neither acknowledged nor forced.
#[derive(Debug, Default)]
pub(super) struct Unforced {
    /// The position after each, and when it was appended; ascending.
    entries: VecDeque<(Position, u64)>,
    /// When the last one was appended, forced or not.
    appended_us: Option<u64>,
}

impl Unforced {
    /// More than these are counted as one: the oldest time stays.
    const MOST: usize = 64;

    /// An entry that ends at `end` was appended.
    pub(super) fn push(&mut self, end: Position, now_us: u64) {
        self.appended_us = Some(now_us);
        let full = self.entries.len() >= Self::MOST;
        match self.entries.back_mut().filter(|_| full) {
            Some(last) => last.0 = end,
            None => self.entries.push_back((end, now_us)),
        }
    }

    /// A collector has everything before `at`.
    pub(super) fn acked(&mut self, at: Position) {
        while self.entries.front().is_some_and(|(end, _)| *end <= at) {
            self.entries.pop_front();
        }
    }

    /// All was forced, or nothing more can be.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Time passed before an entry is appended now; the last force was at `forced_us`.
    pub(super) fn passed(&self, now_us: u64, forced_us: u64) -> Passed {
        let since = |us: u64| now_us.saturating_sub(us);
        Passed {
            forced_us: since(forced_us),
            appended_us: self.appended_us.map_or(u64::MAX, since),
            unacked_us: self.entries.front().map_or(0, |(_, us)| since(*us)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seq: u64) -> Position {
        Position { epoch_no: 1, seq }
    }

    proptest! {
        /// Whatever is acked and forced when, the age is never less than that of the oldest entry that is neither.
        #[test]
        fn the_oldest_unacked_entry_is_never_taken_for_younger(steps in proptest::collection::vec((0_u64..3_000_000, 0_u8..4), 1..200)) {
            let (mut unforced, mut held, mut now) = (Unforced::default(), Vec::new(), 0);
            for (seq, (passed, what)) in (1_u64..).zip(steps) {
                now += passed;
                match what {
                    0 => {
                        unforced.acked(at(seq / 2));
                        held.retain(|(end, _)| *end > seq / 2);
                    }
                    1 if seq % 5 == 0 => {
                        unforced.clear();
                        held.clear();
                    }
                    _ => {
                        unforced.push(at(seq), now);
                        held.push((seq, now));
                    }
                }
                let oldest = held.first().map_or(0, |(_, at)| now - at);
                prop_assert!(unforced.passed(now, 0).unacked_us >= oldest);
                prop_assert!(unforced.entries.len() <= Unforced::MOST);
            }
        }
    }

    #[test]
    fn an_agent_whose_records_are_acked_forces_none_and_one_without_a_collector_each_third() {
        let policy = FsyncPolicy::Unacked;
        let (mut unforced, mut forced) = (Unforced::default(), Vec::new());
        for seq in 0..12_u64 {
            let now_us = seq * 1_000_000;
            let due = policy.due(unforced.passed(now_us, 0));
            unforced.push(at(seq + 1), now_us);
            if due {
                unforced.clear();
                forced.push(seq);
            }
            if seq < 6 && seq % 2 == 1 {
                unforced.acked(at(seq + 1));
            }
        }
        assert_eq!(forced, [0, 8, 11]);
    }
}
