//! A fleet's month, and how fast it answers.

use std::time::Instant as Clock;

use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::as_of::{Answer, Instant, as_of};
use highwater::query::diff::{DiffAnswer, MOST_RECORDS, diff};
use highwater::query::fleet_blame;
use highwater::query::timeline::{Question, timeline};

use crate::day;
use crate::host::{Days, FIRST_DAY_MS};
use crate::stack::{DAY_MS, HOUR_MS, MINUTE_MS, Stack};
use crate::stopwatch::Times;

/// One host in so many is busy.
const BUSY_OF: i64 = 10;
/// Ids: the busy hosts, and from here on the quiet ones.
const QUIET: i64 = 100_000;
const ASKS: usize = 3_000;
const FEW: usize = 60;

pub fn measure(hosts: i64, days: i64) {
    let begun = Clock::now();
    let mut fleet = Fleet::fill(hosts, days);
    println!("{hosts} hosts of {days} days, one in {BUSY_OF} busy: filled in {} s", begun.elapsed().as_secs());
    crate::bytes::say_tables(&fleet.stack.database, usize::try_from(hosts * days).unwrap());
    Times::head();
    fleet.as_of();
    fleet.diff();
    fleet.timeline();
    fleet.blame();
}

struct Fleet {
    stack: Stack,
    busy: i64,
    quiet: i64,
    now_ms: i64,
    days: i64,
    dice: u64,
}

impl Fleet {
    /// One host of each sort is written and compacted as it would be; the others get copies of its rows.
    fn fill(hosts: i64, days: i64) -> Self {
        let mut stack = Stack::start(FIRST_DAY_MS);
        let kinds = [(1, Days::busy(day::made())), (QUIET, Days::quiet())];
        let mut all: Vec<_> = kinds.map(|(id, days)| (stack.enrol(id), days)).into_iter().collect();
        for day in 0..days {
            let end_ms = FIRST_DAY_MS + (day + 1) * DAY_MS;
            // Of the last day the end is still fresh, and its last ten minutes are not compacted.
            let parts = if day + 1 == days { (20 * HOUR_MS..DAY_MS).step_by(600_000).collect() } else { Vec::new() };
            let mut from_ms = 0;
            for to_ms in parts.into_iter().chain([DAY_MS]) {
                for (host, days) in &mut all {
                    days.make(host, day, (from_ms, to_ms));
                    stack.store(host, FIRST_DAY_MS + day * DAY_MS + to_ms);
                }
                if to_ms < DAY_MS {
                    stack.compact(FIRST_DAY_MS + day * DAY_MS + to_ms);
                }
                from_ms = to_ms;
            }
            if day + 1 < days {
                stack.compact(end_ms + 3 * HOUR_MS);
            }
        }
        let busy = (hosts / BUSY_OF).max(1);
        stack.clone_host(1, (2, busy));
        stack.clone_host(QUIET, (QUIET + 1, QUIET + hosts - busy - 1));
        stack.settle();
        let now_ms = FIRST_DAY_MS + days * DAY_MS;
        Self { stack, busy, quiet: hosts - busy, now_ms, days, dice: 5 }
    }

    fn roll(&mut self, sides: i64) -> i64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.dice >> 33).unwrap() % sides
    }

    fn host(&mut self, busy: bool) -> HostId {
        HostId(if busy { 1 + self.roll(self.busy) } else { QUIET + self.roll(self.quiet) })
    }

    fn as_of(&mut self) {
        let span_ms = self.days * DAY_MS;
        for (what, busy, recent_ms, goal) in [
            ("as-of, a quiet host at any instant", false, span_ms, "<= 5 ms"),
            ("as-of, a busy host at any instant", true, span_ms, "<= 5 ms"),
            ("as-of, a quiet host in its last four hours", false, 4 * HOUR_MS, "<= 5 ms"),
            ("as-of, a busy host in its last four hours", true, 4 * HOUR_MS, "<= 5 ms"),
        ] {
            let mut times = Times::default();
            let mut gaps = 0;
            for _ in 0..ASKS {
                let (host, at_ms) = (self.host(busy), self.now_ms - 1 - self.roll(recent_ms));
                let begun = Clock::now();
                let answer = self.stack.runtime.block_on(async {
                    let mut reading = Reading::begin(&self.stack.db).await.unwrap();
                    as_of(&mut reading, host, Instant::At(at_ms), self.now_ms).await.unwrap().answer
                });
                times.add(begun);
                gaps += usize::from(matches!(answer, Answer::Gap(_)));
            }
            assert!(gaps < ASKS / 20, "{gaps} of {ASKS} answers are gaps");
            times.say(what, goal);
        }
    }

    fn diff(&mut self) {
        for (what, busy) in [("diff over a day, a quiet host", false), ("diff over a day, a busy host", true)] {
            let mut times = Times::default();
            for _ in 0..FEW {
                let (host, from_ms) = (self.host(busy), self.now_ms - 1 - DAY_MS - self.roll((self.days - 2) * DAY_MS));
                let span = (Instant::At(from_ms), Instant::At(from_ms + DAY_MS));
                let begun = Clock::now();
                let answer = self.stack.runtime.block_on(async {
                    let mut reading = Reading::begin(&self.stack.db).await.unwrap();
                    diff(&mut reading, host, span, self.now_ms, MOST_RECORDS).await.unwrap()
                });
                if matches!(answer, DiffAnswer::Compared(_)) {
                    times.add(begun);
                }
            }
            times.say(what, "<= 100 ms");
        }
    }

    fn timeline(&mut self) {
        for (what, most, goal) in [
            ("timeline of a busy day, its first row", 1, "<= 100 ms"),
            ("timeline of a busy day, a page of 1,000", 1_000, ""),
        ] {
            let mut times = Times::default();
            for _ in 0..FEW {
                let day = self.roll(self.days - 1);
                let from_ms = FIRST_DAY_MS + day * DAY_MS + MINUTE_MS;
                let span_ms = (from_ms, from_ms + DAY_MS);
                let question = Question { span_ms, kinds: vec![], subject: None, most, after: None };
                let host = self.host(true);
                let begun = Clock::now();
                let told = self.stack.runtime.block_on(async {
                    let mut reading = Reading::begin(&self.stack.db).await.unwrap();
                    timeline(&mut reading, host, &question, self.now_ms).await.unwrap()
                });
                times.add(begun);
                assert_eq!(told.events.len(), most);
            }
            times.say(what, goal);
        }
    }

    fn blame(&mut self) {
        for (what, span_days) in [("blame --fleet over a day", 1), ("blame --fleet over the whole time", self.days - 1)]
        {
            let mut times = Times::default();
            for _ in 0..FEW / 6 {
                let span_ms = (self.now_ms - span_days * DAY_MS, self.now_ms);
                let question = fleet_blame::Question { span_ms, kinds: vec![], most: 100, after: None };
                let begun = Clock::now();
                let blamed = self.stack.runtime.block_on(async {
                    let mut reading = Reading::begin(&self.stack.db).await.unwrap();
                    fleet_blame::fleet_blame(&mut reading, &question).await.unwrap()
                });
                times.add(begun);
                assert_eq!(i64::try_from(blamed.hosts).unwrap(), self.busy + self.quiet);
            }
            times.say(what, "<= 1,000 ms");
        }
    }
}
