//! What PostgreSQL says that days take: rows, their indexes, what is stored out of line, free space and all.

use std::convert::Infallible;
use std::sync::Arc;

use highwater::import::{Request, import};
use highwater_tests::postgres::Database;

use crate::day::{self, Sample};
use crate::host::{Days, FIRST_DAY_MS};
use crate::stack::{DAY_MS, HOUR_MS, Stack};

/// The best of Prometheus for the peers' day: one block of 8 hosts (162 h, the first length that puts it into one), a host.
const PROMETHEUS: f64 = 1_377_944.0;
const GOALS: [(&str, f64); 2] = [("frame, chunk, find", 0.08), ("all tables", 0.16)];
/// Hosts that share a database, where the day is made.
const HOSTS: usize = 8;

/// Hosts that do nothing, so that what tables take without rows is little of it.
const IDLE_HOSTS: i64 = 100;

/// Of each table and its partitions: bytes in all, in the table itself, out of line, in indexes; partitions, and how many
/// of them are empty, with their bytes; and the bytes of the bodies.
const TABLES: &str = "SELECT p.relname, sum(pg_total_relation_size(t.relid)), sum(pg_relation_size(t.relid)),
        sum(COALESCE(pg_total_relation_size(NULLIF(c.reltoastrelid, 0)), 0)), sum(pg_indexes_size(t.relid)),
        count(*), count(*) FILTER (WHERE pg_relation_size(t.relid) = 0),
        COALESCE(sum(pg_total_relation_size(t.relid)) FILTER (WHERE pg_relation_size(t.relid) = 0), 0)
    FROM pg_class AS p CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(p.oid) WHERE isleaf
        UNION SELECT p.oid WHERE p.relkind = 'r') AS t
    JOIN pg_class AS c ON c.oid = t.relid
    WHERE p.relnamespace = 'public'::regnamespace AND p.relkind IN ('r', 'p') AND NOT p.relispartition
        AND p.relname NOT LIKE '%sqlx%' GROUP BY 1 HAVING sum(pg_total_relation_size(t.relid)) > 0 ORDER BY 2 DESC";
const BODIES: &str = "SELECT (SELECT COALESCE(sum(length(body)), 0) FROM chunk), \
     (SELECT COALESCE(sum(length(objects)), 0) FROM chunk), (SELECT count(*) FROM chunk)";

/// Days of files, a host each; or one that is made, of several hosts.
pub fn busy(files: &[String]) {
    let days: Vec<Vec<Sample>> = if files.is_empty() {
        vec![day::made(); HOSTS]
    } else {
        files.iter().map(|file| day::from_json(&std::fs::read_to_string(file).unwrap())).collect()
    };
    let mut stack = Stack::start(FIRST_DAY_MS);
    for (id, day) in (1..).zip(&days) {
        let mut host = stack.enrol(id);
        Days::busy(day.clone()).make(&mut host, 0, (0, DAY_MS));
        stack.store(&mut host, FIRST_DAY_MS + DAY_MS);
    }
    println!("the busy day of {} hosts, before compaction", days.len());
    say_tables(&stack.database, days.len());
    stack.compact(FIRST_DAY_MS + DAY_MS + 3 * HOUR_MS);
    say_both(&stack, "after it", days.len());
    drop(stack);
    as_it_comes(&days);
    if !files.is_empty() {
        imported(files);
    }
}

/// The same days as a collector has them: folded every ten minutes, each row of use and of owners written again and again.
fn as_it_comes(days: &[Vec<Sample>]) {
    let mut stack = Stack::start(FIRST_DAY_MS);
    let mut hosts: Vec<_> = (1..).zip(days).map(|(id, day)| (stack.enrol(id), Days::busy(day.clone()))).collect();
    for from_ms in (0..DAY_MS).step_by(600_000) {
        let to_ms = from_ms + 600_000;
        for (host, days) in &mut hosts {
            days.make(host, 0, (from_ms, to_ms));
            stack.store(host, FIRST_DAY_MS + to_ms);
        }
        stack.compact(FIRST_DAY_MS + to_ms);
        if to_ms % HOUR_MS == 0 {
            // As often as autovacuum comes to tables of which a row in five is dead.
            stack.settle();
        }
    }
    stack.compact(FIRST_DAY_MS + DAY_MS + 3 * HOUR_MS);
    say_both(&stack, "compacted every ten minutes", hosts.len());
}

/// The same days as `import` takes them, a host each.
fn imported(files: &[String]) {
    // The files say when they are.
    let now_ms = day::from_json(&std::fs::read_to_string(&files[0]).unwrap())[0].at.wall_ms + DAY_MS + 3 * HOUR_MS;
    let mut stack = Stack::start(now_ms);
    for (id, file) in (1..).zip(files) {
        let request =
            Request { host: format!("host-{id}"), who: "bench".to_owned(), now_ms, seed: id, rules: Arc::default() };
        let text = tokio_stream::iter([Ok::<_, Infallible>(std::fs::read(file).unwrap())]);
        let done = stack.runtime.block_on(import(&stack.db, &request, text)).unwrap();
        assert_eq!(done.lines, done.stored);
    }
    stack.compact(now_ms);
    say_both(&stack, "the busy day imported for each host", files.len());
}

/// Before and after a VACUUM, which also makes the maps of free and visible pages: 32 KiB for each table with rows, much of
/// so little and nothing of more.
fn say_both(stack: &Stack, what: &str, hosts: usize) {
    println!("{what}");
    say_tables(&stack.database, hosts);
    stack.settle();
    println!("{what}, and a VACUUM");
    say_tables(&stack.database, hosts);
}

/// A host of which every sample is equal, for a day and for a year; one that changes once a day, for a year.
pub fn idle() {
    for (what, days, changes) in [
        ("a day of equal samples", 1, false),
        ("a year of equal samples", 365, false),
        ("a year, a change a day", 365, true),
    ] {
        let mut stack = Stack::start(FIRST_DAY_MS);
        let mut host = stack.enrol(1);
        let mut state = day::made()[0].clone();
        host.begin_epoch(state.state.boot_id);
        for day in 0..days {
            if changes {
                state.state.namespaces[0].sem.as_mut().unwrap()[0].otime = FIRST_DAY_MS / 1000 + day * 86_400;
            }
            for minute in 0..1440 {
                let wall_ms = FIRST_DAY_MS + (day * 1440 + minute) * 60_000;
                let boot_us = (wall_ms - FIRST_DAY_MS).unsigned_abs() * 1000 + 60_000_000;
                let at = highwater_ipc::time::At { wall_ms, boot_us };
                let first = day == 0 && minute == 0;
                host.sample(at, &state.state, first.then_some(highwater_ipc::record::GapReason::BeforeFirst));
            }
            stack.store(&mut host, FIRST_DAY_MS + (day + 1) * DAY_MS);
            stack.compact(FIRST_DAY_MS + (day + 1) * DAY_MS + 3 * HOUR_MS);
        }
        stack.clone_host(1, (2, IDLE_HOSTS));
        println!("{what}, {IDLE_HOSTS} hosts");
        say_tables(&stack.database, usize::try_from(IDLE_HOSTS).unwrap());
    }
}

/// Prints what each table takes for one of so many hosts, and what that is beside Prometheus.
pub fn say_tables(database: &Database, hosts: usize) {
    let hosts = hosts as f64;
    println!(
        "  {:16} {:>12} {:>10} {:>10} {:>10} {:>6} {:>14}",
        "bytes a host", "all", "rows", "out of line", "indexes", "parts", "empty (bytes)"
    );
    let (mut all, mut read, mut empty) = (0.0, 0.0, 0.0);
    for line in database.sql(TABLES).lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let number = |at: usize| fields[at].parse::<f64>().unwrap();
        println!(
            "  {:16} {:12.0} {:10.0} {:11.0} {:10.0} {:6} {:>6} {:8.0}",
            fields[0],
            number(1) / hosts,
            number(2) / hosts,
            number(3) / hosts,
            number(4) / hosts,
            fields[5],
            fields[6],
            number(7) / hosts
        );
        all += number(1) / hosts;
        empty += number(7) / hosts;
        if matches!(fields[0], "frame" | "chunk" | "chunk_fresh" | "object_now") {
            read += number(1) / hosts;
        }
    }
    let bodies = database.sql(BODIES);
    println!("  bodies, objects and number of merged chunks, all hosts: {}", bodies.trim());
    println!("  of all bytes, in partitions and tables without rows: {empty:.0}");
    for ((what, goal), bytes) in GOALS.into_iter().zip([read, all]) {
        println!("  {what}: {bytes:.0} bytes a host, {:.3}x Prometheus' busy day (goal {goal})", bytes / PROMETHEUS);
    }
}
