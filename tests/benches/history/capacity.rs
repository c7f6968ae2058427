//! How near to its limits a fleet is, over its month.

use std::time::Instant as Clock;

use highwater::compact::derive::Derived;
use highwater::compact::derived::store;
use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::capacity::{Question, WhatIf, gather, tell};
use highwater::store::day::Day;
use highwater::store::partition::{Table, ensure};
use highwater::store::usage::{Order, UsageRow, Used};
use highwater_ipc::limits::Resource;
use highwater_ipc::snapshot::NamespaceId;

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
    }
}

/// What each host uses where it changes, as compaction stores it, all of a host in one transaction.
fn fill(stack: &Stack, hosts: i64, days: i64, changing: i64) {
    let sql = |text: &str| stack.database.sql(text);
    sql(&format!(
        "INSERT INTO host (host_id, name, enrolled_ms) SELECT n, 'host-' || n, 0 FROM generate_series(1, {hosts}) AS n"
    ));
    let place = |slot_ms: i64| Day::of(slot_ms);
    stack.runtime.block_on(async {
        let mut connection = stack.db.dedicated().await.unwrap();
        for table in [Table::UsageHour, Table::UsagePack] {
            ensure(&mut connection, table, Day::of(FIRST_DAY_MS)).await.unwrap();
        }
        for n in 1..=hosts {
            let changes = |at: &i64| n % 10 == 0 || *at == 0 || (at % 24 * 7 + n * 11) % 24 < changing;
            let usage_hour = (0..24 * days).filter(changes).map(|at| hour(n, at)).collect();
            let mut tx = connection.write().await.unwrap();
            let derived = Derived { usage_hour, ..Derived::default() };
            store(&mut tx, &derived, Order::Newest, &place).await.unwrap();
            tx.commit().await.unwrap();
        }
        connection.close().await;
    });
    let last_ms = FIRST_DAY_MS + days * DAY_MS - 1;
    sql(&format!(
        "INSERT INTO host_status (host_id, last_seen_ms, sampled_wall_ms, skew_ms, interval_ms, session, namespace,
            sem_arrays, semmni, semaphores, semmns, shm_segments, shmmni, shm_pages, shmall, msg_queues, msgmni)
        SELECT n, {last_ms}, {last_ms}, 0, 10000, 1, 4026531840, 20 + n % 60, 128 + n % 3 * 16000, 17 * (20 + n % 60),
            1024000000, 40 + n % 17, 4096, 100000 + n * 31 % 9999, 18446744073692774399, 3 + n % 3, 32000
        FROM generate_series(1, {hosts}) AS n"
    ));
}

/// What a host uses at the end of an hour, and the most in it.
fn hour(n: i64, at: i64) -> UsageRow {
    let (day, hour) = (at / 24, at % 24);
    let dice = (n * 7_919 + hour * 104_729 + day * 1_299_709) % 1_000;
    let arrays = 20 + n % 60 + if n % 7 == 0 { day } else { 0 } + dice % 5;
    let used = |last: i64, more: i64, limit: u64| Used {
        last: u64::try_from(last).ok(),
        most: u64::try_from(last + more).ok(),
        limit: Some(limit),
    };
    UsageRow {
        host: HostId(n),
        namespace: NamespaceId { inode: 4_026_531_840, instance: 77 },
        slot_ms: FIRST_DAY_MS + at * HOUR_MS,
        own: true,
        used: [
            used(arrays, dice % 3, if n % 3 == 0 { 128 } else { 32_000 }),
            used(arrays * 17, dice % 3 * 17, 1_024_000_000),
            used(40 + n % 17 + dice % 2, 2, 4_096),
            used(100_000 + n * 31 % 9_999 + dice, 900, 18_446_744_073_692_774_399),
            used(3 + n % 3, 0, 32_000),
        ],
    }
}
