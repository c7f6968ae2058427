//! How near to its limits a fleet is, over its month.

use std::time::Instant as Clock;

use highwater::query::Reading;
use highwater::query::capacity::{Question, WhatIf, gather, tell};
use highwater_ipc::limits::Resource;

use crate::cost::{self, Cpu};
use crate::host::FIRST_DAY_MS;
use crate::stack::{DAY_MS, HOUR_MS, Stack};
use crate::stopwatch::Times;

const ROUNDS: usize = 7;

/// One host in ten has other values at the end of each hour, the others in so many hours a day.
pub fn measure(hosts: i64, days: i64, changing: i64) {
    let stack = Stack::start(FIRST_DAY_MS);
    let begun = Clock::now();
    fill(&stack, hosts, days, changing);
    stack.settle();
    let rows = stack.database.sql("SELECT count(*) FROM usage_hour");
    let (rows, filled) = (rows.trim(), begun.elapsed().as_secs());
    println!(
        "{hosts} hosts of {days} days, one in ten changes each hour, the others in {changing} a day: {rows} rows, filled in {filled} s"
    );
    crate::bytes::say_tables(&stack.database, usize::try_from(hosts).unwrap());
    Times::head();
    let what_if = WhatIf { limits: vec![(Resource::Semmni, 250)], growth: None };
    for (what, resources, what_if, goal) in [
        ("capacity, all five resources", vec![], WhatIf::default(), "<= 1,000 ms"),
        ("capacity --what-if SEMMNI=250", vec![], what_if.clone(), "<= 1,000 ms"),
        ("capacity --resource SEMMNI --what-if SEMMNI=250", vec![Resource::Semmni], what_if, "<= 1,000 ms"),
    ] {
        let now_ms = FIRST_DAY_MS + days * DAY_MS;
        let since_ms = FIRST_DAY_MS;
        let question = Question { since_ms, resources, what_if, most: 1_000, ..Question::default() };
        let (mut whole, mut reading_alone) = (Times::default(), Times::default());
        let (processor, memory) = (Cpu::now(&stack.database), cost::memory_begins());
        for _ in 0..ROUNDS {
            let begun = Clock::now();
            let gathered = stack.runtime.block_on(async {
                let mut reading = Reading::begin(&stack.db).await.unwrap();
                gather(&mut reading, &question, now_ms).await.unwrap()
            });
            reading_alone.add(begun);
            let told = tell(&gathered, &question);
            whole.add(begun);
            assert_eq!(i64::try_from(told.fleet.all.hosts).unwrap(), hosts);
        }
        whole.say(&format!("{what}, {hosts} hosts"), goal);
        reading_alone.say("  of that reading", "");
        processor.say(ROUNDS, &stack.database);
        cost::say_memory(memory);
    }
}

/// A row where a host changes, in the order of time, as compaction writes them.
fn fill(stack: &Stack, hosts: i64, days: i64, changing: i64) {
    let sql = |text: &str| stack.database.sql(text);
    sql("CREATE TABLE usage_hour_bench PARTITION OF usage_hour FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')");
    sql(&format!(
        "INSERT INTO host (host_id, name, enrolled_ms) SELECT n, 'host-' || n, 0 FROM generate_series(1, {hosts}) AS n"
    ));
    for day in 0..days {
        sql(&format!(
            "INSERT INTO usage_hour SELECT n, 4026531840, 77, {FIRST_DAY_MS} + (24 * {day} + hour) * {HOUR_MS}::bigint,
                '2026-01-01', true, a, a + dice % 3, 128 + n % 3 * 16000, a * 17, a * 17 + dice % 3 * 17, 1024000000,
                40 + n % 17 + dice % 2, 42 + n % 17, 4096, 100000 + n * 31 % 9999 + dice, 100900 + n * 31 % 9999 + dice,
                18446744073692774399, 3 + n % 3, 3 + n % 3, 32000
            FROM (SELECT n, hour, dice, 20 + n % 60 + CASE WHEN n % 7 = 0 THEN {day} ELSE 0 END + dice % 5 AS a
                FROM generate_series(0, 23) AS hour, generate_series(1, {hosts}) AS n,
                    LATERAL (SELECT (n * 7919 + hour * 104729 + {day} * 1299709) % 1000 AS dice) AS d
                WHERE n % 10 = 0 OR ({day} = 0 AND hour = 0) OR (hour * 7 + n * 11) % 24 < {changing}
                ORDER BY hour, n) AS x"
        ));
    }
    let last_ms = FIRST_DAY_MS + days * DAY_MS - 1;
    sql(&format!(
        "INSERT INTO host_status (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms, session, namespace,
            sem_arrays, semmni, semaphores, semmns, shm_segments, shmmni, shm_pages, shmall, msg_queues, msgmni)
        SELECT n, {last_ms}, {last_ms}, 0, 10000, 1, 4026531840, 20 + n % 60, 128 + n % 3 * 16000, 17 * (20 + n % 60),
            1024000000, 40 + n % 17, 4096, 100000 + n * 31 % 9999, 18446744073692774399, 3 + n % 3, 32000
        FROM generate_series(1, {hosts}) AS n"
    ));
}
