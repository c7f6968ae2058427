//! When to look where all processes are. Pure.
//!
//! One look costs a `readlink(2)` a process, which is as much as the rest of a quiet sample at 285 of them: so it happens
//! every [`SCAN_US`], and sooner when something says that it is worth while: somebody asked, a known process died, or a
//! new process turns out to be where none was. New processes are told by the newest pid in `/proc/loadavg`: pids are given
//! out in ascending order until they wrap, so the few that are new since two samples ago are looked at singly. (Two,
//! because a process that was just forked may enter its namespace only after it was looked at.) That alone would not do:
//! an old process may make a namespace without a new pid.

use std::ops::RangeInclusive;

/// Time between two looks at all processes while nothing asks for one, microseconds.
pub const SCAN_US: u64 = 10_000_000;
/// The same where more new processes appear than are looked at singly.
pub const BUSY_SCAN_US: u64 = 2_000_000;
/// New processes that are looked at singly in one sample at most.
pub const MAX_NEW: i32 = 64;
/// Looking takes at most one part in so many of the time, however many processes there are.
const SHARE: u64 = 50;
/// The same while somebody asks for it.
const ASKED_SHARE: u64 = 10;
/// A look that took no longer than this may be repeated at once, microseconds.
const CHEAP_US: u64 = 2_000;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Nothing,
    /// These pids.
    At(RangeInclusive<i32>),
    /// All processes.
    All,
}

/// The schedule of one sampler; boot time (microseconds) is handed in.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// When all were looked at last, and how long that took.
    scanned: Option<(u64, u64)>,
    asked: bool,
    /// The newest pid at the last two samples, the older one first.
    newest: [Option<i32>; 2],
}

impl Schedule {
    /// All processes are to be looked at again soon.
    pub fn ask(&mut self) {
        self.asked = true;
    }

    /// A sample begins; `newest` is the newest pid, where it is known.
    pub fn look(&mut self, boot_us: u64, newest: Option<i32>) -> Look {
        let [before, last] = self.newest;
        self.newest = [last, newest];
        let Some((scanned_us, took_us)) = self.scanned else { return Look::All };
        let since = boot_us.saturating_sub(scanned_us);
        let no_sooner = |least: u64| since >= least.max(took_us.saturating_mul(SHARE));
        if self.asked && self.may_repeat(boot_us) || no_sooner(SCAN_US) {
            return Look::All;
        }
        let (Some(before), Some(newest)) = (before.or(last), newest) else { return Look::Nothing };
        match newest.checked_sub(before) {
            Some(0) => Look::Nothing,
            Some(new @ 1..) if new <= MAX_NEW => Look::At(before + 1..=newest),
            // More than can be looked at singly, or they wrapped.
            _ if no_sooner(BUSY_SCAN_US) => Look::All,
            _ => Look::Nothing,
        }
    }

    /// Whether a look at all processes is cheap enough to be taken out of turn.
    pub fn may_repeat(&self, boot_us: u64) -> bool {
        self.scanned.is_none_or(|(at, took_us)| {
            took_us <= CHEAP_US || boot_us.saturating_sub(at) >= took_us.saturating_mul(ASKED_SHARE)
        })
    }

    /// All processes were looked at.
    pub fn scanned(&mut self, boot_us: u64, took_us: u64) {
        (self.scanned, self.asked) = (Some((boot_us, took_us)), false);
    }
}

/// The newest pid in `/proc/loadavg`: its last field (`proc(5)`).
pub fn parse_newest(loadavg: &[u8]) -> Option<i32> {
    let last = loadavg.split(u8::is_ascii_whitespace).rfind(|field| !field.is_empty())?;
    std::str::from_utf8(last).ok()?.parse().ok().filter(|pid| *pid >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000;

    fn scanned() -> Schedule {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.look(0, Some(100)), Look::All);
        schedule.scanned(0, 300);
        schedule
    }

    #[test]
    fn nothing_new_is_not_looked_at_for_ten_seconds() {
        let mut schedule = scanned();
        assert_eq!((1..10).map(|n| schedule.look(n * S, Some(100))).collect::<Vec<_>>(), vec![Look::Nothing; 9]);
        assert_eq!(schedule.look(10 * S, Some(100)), Look::All);
    }

    #[test]
    fn the_new_ones_are_looked_at_in_two_samples() {
        let mut schedule = scanned();
        assert_eq!(schedule.look(S, Some(102)), Look::At(101..=102));
        assert_eq!(schedule.look(2 * S, Some(103)), Look::At(101..=103));
        assert_eq!(schedule.look(3 * S, Some(103)), Look::At(103..=103));
        assert_eq!(schedule.look(4 * S, Some(103)), Look::Nothing);
    }

    #[test]
    fn many_new_ones_and_a_wrap_bring_the_next_look_nearer_but_not_at_once() {
        for newest in [100 + MAX_NEW + 1, 3] {
            let mut schedule = scanned();
            assert_eq!(schedule.look(S, Some(newest)), Look::Nothing);
            assert_eq!(schedule.look(2 * S, Some(newest)), Look::All);
        }
    }

    #[test]
    fn whoever_asks_is_heard_unless_a_look_is_dear() {
        let mut schedule = scanned();
        schedule.ask();
        assert_eq!(schedule.look(1, None), Look::All);
        schedule.scanned(S, 100_000);
        schedule.ask();
        assert_eq!(schedule.look(S + 100_000, None), Look::Nothing);
        assert_eq!(schedule.look(2 * S, None), Look::All);
        schedule.scanned(2 * S, 1_000_000);
        assert_eq!(schedule.look(12 * S, None), Look::Nothing, "a fiftieth of the time at most");
        assert_eq!(schedule.look(52 * S, None), Look::All);
    }

    #[test]
    fn the_newest_pid_is_the_last_word() {
        assert_eq!(parse_newest(b"5.06 3.40 1.97 4/119 31740\n"), Some(31_740));
        assert_eq!((parse_newest(b"1.0 x\n"), parse_newest(b""), parse_newest(b"-1\n")), (None, None, None));
    }

    proptest! {
        #[test]
        fn a_new_pid_is_looked_at_or_all_are_within_two_seconds(births in proptest::collection::vec(0..100_i32, 1..30)) {
            let mut schedule = scanned();
            let (mut newest, mut unseen) = (100, Vec::new());
            for (second, born) in (1..).zip(births) {
                let now = second * S;
                unseen.extend((newest + 1..=newest + born).map(|pid| (pid, now)));
                newest += born;
                match schedule.look(now, Some(newest)) {
                    Look::All => {
                        schedule.scanned(now, 300);
                        unseen.clear();
                    }
                    Look::At(pids) => unseen.retain(|(pid, _)| !pids.contains(pid)),
                    Look::Nothing => {}
                }
                prop_assert!(unseen.iter().all(|(_, at)| now - at < 2 * S), "{unseen:?} at {second}");
            }
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse_newest(&bytes);
        }
    }
}
