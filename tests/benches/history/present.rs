//! Finding an object in the present of many hosts.

use std::time::Instant as Clock;

use highwater::query::Reading;
use highwater::query::find::{Question, When, find};
use highwater_ipc::object::Key;
use highwater_ipc::record::GapReason;
use highwater_ipc::time::At;

use crate::day;
use crate::host::FIRST_DAY_MS;
use crate::stack::{HOUR_MS, Stack};
use crate::stopwatch::Times;

const ROUNDS: usize = 10;
const NEEDLE: Key = Key(0x0d4d_0001);

pub fn measure(hosts: i64) {
    let mut stack = Stack::start(FIRST_DAY_MS);
    for id in [1, 2] {
        let mut host = stack.enrol(id);
        let mut state = day::made()[0].state.clone();
        if id == 2 {
            state.namespaces[0].sem.as_mut().unwrap()[7].key = NEEDLE;
        }
        host.begin_epoch(state.boot_id);
        let at = At { wall_ms: FIRST_DAY_MS + HOUR_MS, boot_us: 60_000_000 };
        host.sample(at, &state, Some(GapReason::BeforeFirst));
        stack.store(&mut host, at.wall_ms + 1);
    }
    let now_ms = FIRST_DAY_MS + HOUR_MS + 1_000;
    stack.compact(now_ms);
    stack.clone_host(1, (1_000, 1_000 + hosts - 3));
    stack.settle();
    crate::bytes::say_tables(&stack.database, usize::try_from(hosts).unwrap());
    Times::head();
    for (what, expr, most, found) in [
        ("find: one host of them holds such a key", "sem.key=0x0d4d0001", 1_000, 1),
        ("find: such a key is nowhere", "sem.key=0x0d4d0002", 1_000, 0),
        ("find: a first page of 100 of what all hold", "sem.nsems=17", 100, 100),
    ] {
        let mut times = Times::default();
        for _ in 0..ROUNDS {
            let mut question = Question { expr: expr.parse().unwrap(), when: When::Now, most, after: None };
            let begun = Clock::now();
            let mut matches = 0;
            loop {
                let page = stack.runtime.block_on(async {
                    let mut reading = Reading::begin(&stack.db).await.unwrap();
                    find(&mut reading, &question, now_ms).await.unwrap()
                });
                matches += page.matches.len();
                question.after = page.next;
                if question.after.is_none() || matches >= most {
                    break;
                }
            }
            times.add(begun);
            assert_eq!(matches, found, "{what}");
        }
        times.say(&format!("{what}, {hosts} hosts"), "<= 1,000 ms");
    }
}
