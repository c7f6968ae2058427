//! Whether a host lives that another collector holds. Pure.
//!
//! Its stream cannot be pinged from here. What can be seen is the database: a session that lives moves its stream, or
//! its `now`, within three intervals. So a newcomer is looked at several times: where the holder stood still for that long it is dead
//! and the newcomer takes its place; where it moved it lives and the newcomer is a copy, but not within the first
//! interval: until then the other collector may still commit what it had queued of an agent that was since restarted
//! and is the newcomer itself. Only change is compared, never a collector's clock with another's. What was seen outlives the newcomer's
//! connection, so that three intervals longer than its patience pass as well.

use std::collections::HashMap;
use std::time::Duration;

use highwater_ipc::record::{EpochNo, Seq};

use crate::host::HostId;
use crate::store::fleet::in_sight_ms;
use crate::store::stream::Session;

/// Hosts that are watched at once by one worker; beyond it the one that was looked at longest ago begins anew.
const MOST: usize = 16_384;
/// Looks within the time in which a holder has to move.
const LOOKS: i64 = 6;
/// Intervals within the same time.
const INTERVALS: i64 = 3;

/// What a holder moves as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its session.
    pub session: Session,
    /// Where the host's latest epoch ends.
    pub place: (EpochNo, Seq),
    /// Its collector's clock at its last record or `now`, milliseconds.
    pub last_seen_ms: i64,
    /// Time between its samples, milliseconds.
    pub interval_ms: i64,
}

/// A holder as it was seen, by a clock that nobody sets, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    holder: Holder,
    began_ms: i64,
    /// Since when it has not moved.
    since_ms: i64,
    looked_ms: i64,
}

/// What a look shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It moved since the look before, an interval after the first one or later.
    Lives,
    /// It stood still for too long.
    Gone,
    /// It cannot be told yet.
    Unknown(Watch),
}

impl Watch {
    /// Looks at a holder; `before` is what the look before left.
    pub fn look(before: Option<Self>, holder: Holder, now_ms: i64) -> Sight {
        let span_ms = in_sight_ms(holder.interval_ms);
        let began = Self { holder, began_ms: now_ms, since_ms: now_ms, looked_ms: now_ms };
        match before {
            Some(watch) if watch.holder == holder => {
                let gone = now_ms.saturating_sub(watch.since_ms) >= span_ms;
                if gone { Sight::Gone } else { Sight::Unknown(Self { looked_ms: now_ms, ..watch }) }
            }
            // A move since a look of long ago says nothing of the present.
            Some(watch) if now_ms.saturating_sub(watch.looked_ms) > span_ms => Sight::Unknown(began),
            Some(watch) if now_ms.saturating_sub(watch.began_ms) >= span_ms / INTERVALS => Sight::Lives,
            Some(watch) => Sight::Unknown(Self { began_ms: watch.began_ms, ..began }),
            None => Sight::Unknown(began),
        }
    }

    /// When to look again.
    pub fn again(&self) -> Duration {
        let span_ms = in_sight_ms(self.holder.interval_ms);
        let left_ms = self.since_ms.saturating_add(span_ms).saturating_sub(self.looked_ms);
        Duration::from_millis(u64::try_from(left_ms.min(span_ms / LOOKS)).unwrap_or(0).max(1))
    }
}

/// What one worker has seen.
#[derive(Debug, Default)]
pub(super) struct Watches(HashMap<HostId, Watch>);

impl Watches {
    /// What the look before left.
    pub(super) fn of(&self, host: HostId) -> Option<Watch> {
        self.0.get(&host).copied()
    }

    /// Keeps what a look shows for the next one.
    pub(super) fn keep(&mut self, host: HostId, watch: Watch) {
        if self.0.len() >= MOST && !self.0.contains_key(&host) {
            let oldest = self.0.iter().min_by_key(|(_, w)| w.looked_ms).map(|(host, _)| *host);
            oldest.map(|host| self.0.remove(&host));
        }
        self.0.insert(host, watch);
    }

    /// It is decided.
    pub(super) fn forget(&mut self, host: HostId) {
        self.0.remove(&host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDER: Holder =
        Holder { session: Session(1), place: (EpochNo(4), Seq(70)), last_seen_ms: 5, interval_ms: 10_000 };

    fn unknown(sight: Sight) -> Watch {
        match sight {
            Sight::Unknown(watch) => watch,
            other => panic!("decided: {other:?}"),
        }
    }

    #[test]
    fn a_holder_that_stands_still_for_three_intervals_is_gone_and_not_before() {
        let mut watch = unknown(Watch::look(None, HOLDER, 1_000));
        for now_ms in [6_000, 11_000, 30_999] {
            watch = unknown(Watch::look(Some(watch), HOLDER, now_ms));
        }
        assert_eq!(Watch::look(Some(watch), HOLDER, 31_000), Sight::Gone);
        // Also where nobody looked in between: it stood still all that time.
        let once = unknown(Watch::look(None, HOLDER, 1_000));
        assert_eq!(Watch::look(Some(once), HOLDER, 900_000), Sight::Gone);
    }

    #[test]
    fn a_holder_that_moves_in_any_way_lives() {
        let moved = [
            Holder { place: (EpochNo(4), Seq(71)), ..HOLDER },
            Holder { place: (EpochNo(5), Seq(0)), ..HOLDER },
            Holder { last_seen_ms: 4, ..HOLDER },
            Holder { session: Session(2), ..HOLDER },
        ];
        for holder in moved {
            let watch = unknown(Watch::look(None, HOLDER, 0));
            assert_eq!(Watch::look(Some(watch), holder, 30_000), Sight::Lives, "{holder:?}");
        }
    }

    #[test]
    fn moves_within_the_first_interval_may_be_what_a_dead_agent_left_queued_and_decide_nothing() {
        let queued = |seq| Holder { place: (EpochNo(4), Seq(seq)), ..HOLDER };
        let mut watch = unknown(Watch::look(None, HOLDER, 0));
        for (seq, now_ms) in [(71, 2_000), (72, 5_000), (73, 9_999)] {
            watch = unknown(Watch::look(Some(watch), queued(seq), now_ms));
        }
        // It stands still from then on, as the dead do, or goes on.
        assert_eq!(unknown(Watch::look(Some(watch), queued(73), 39_998)).again(), Duration::from_millis(1));
        assert_eq!(Watch::look(Some(watch), queued(73), 39_999), Sight::Gone);
        assert_eq!(Watch::look(Some(watch), queued(74), 10_000), Sight::Lives);
    }

    #[test]
    fn a_move_since_a_look_of_long_ago_begins_the_watch_anew() {
        let watch = unknown(Watch::look(None, HOLDER, 0));
        let moved = Holder { last_seen_ms: 6, ..HOLDER };
        let anew = unknown(Watch::look(Some(watch), moved, 30_001));
        unknown(Watch::look(Some(anew), moved, 60_000));
        assert_eq!(Watch::look(Some(anew), moved, 60_001), Sight::Gone);
    }

    #[test]
    fn the_next_look_comes_soon_and_not_after_the_end() {
        let watch = unknown(Watch::look(None, HOLDER, 0));
        assert_eq!(watch.again(), Duration::from_secs(5));
        assert_eq!(unknown(Watch::look(Some(watch), HOLDER, 29_000)).again(), Duration::from_secs(1));
        let fast = Holder { interval_ms: 100, ..HOLDER };
        assert_eq!(unknown(Watch::look(None, fast, 0)).again(), Duration::from_millis(500));
    }

    #[test]
    fn hosts_without_end_take_no_memory_without_end() {
        let mut watches = Watches::default();
        for n in 0..20_000 {
            watches.keep(HostId(n), unknown(Watch::look(None, HOLDER, n)));
        }
        assert_eq!(watches.0.len(), MOST);
        assert!(watches.of(HostId(19_999)).is_some() && watches.of(HostId(0)).is_none());
        watches.forget(HostId(19_999));
        assert_eq!(watches.of(HostId(19_999)), None);
    }
}
