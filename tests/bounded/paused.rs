//! A fleet's streams are held open while the database is paused, and it loses nothing.

use std::fs;
use std::time::Duration;

use highwater_agent::config::Interval;
use highwater_tests::collector::{Options, Up};
use highwater_tests::fleet::Fleet;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::{now_ms, until};

use super::{pass, say, variable};

/// Samples that each agent of the small fleet takes while the database is away: more than travel together.
const SAMPLES: u64 = 30;
/// How long a fleet of any size may take to be there, and to have caught up.
const LONG: Duration = Duration::from_secs(900);

#[test]
fn a_paused_database_costs_a_fleet_no_record() {
    let seed = variable("HIGHWATER_FLEET_SEED", 1);
    let count = usize::try_from(variable("HIGHWATER_FLEET", 24)).unwrap();
    let pause_s = variable("HIGHWATER_PAUSE_S", 0);
    let interval = std::env::var("HIGHWATER_INTERVAL").unwrap_or_else(|_| "250ms".to_owned());
    let interval = Interval::parse(&interval).expect("an interval");
    say(&format!("fleet: seed {seed}, {count} agents at {interval}, paused for {pause_s} s"));
    let server = Postgres::start();
    let database = server.database();
    let up = Up::start(&Options { database: Some(&database), interval: Some("1s"), ..Options::default() });
    let mut fleet = Fleet::enrol(&up, count, seed);
    let enrolled = Seen::of(&up, &fleet);
    fleet.start(interval);
    let current = || how_many_are_current(&database, interval.ms()) == count;
    until("every agent's samples are stored", LONG, current);

    if pause_s == 0 {
        let before = fleet.least_samples();
        server.pause();
        until("every agent samples on", LONG, || fleet.least_samples() >= before + SAMPLES);
        server.resume();
        until("every agent's samples are stored again", LONG, current);
    } else {
        enrolled.say("enrolled, none connected");
        pass(60_000);
        campaign(&server, &up, &fleet, pause_s, &current);
        pass(30_000);
        Seen::of(&up, &fleet).say("30 s after");
    }

    fleet.stop(&database);
    let held = fleet.held(&database);
    say(&format!(
        "fleet: {} samples taken; {} frames stored, {} samples covered; {} hosts wrong; gaps {:?}",
        held.samples,
        held.frames,
        held.covered,
        held.wrong.len(),
        held.gaps
    ));
    assert!(held.wrong.is_empty(), "{:#?}", held.wrong);
    // A machine that is busy enough delays a sample by three intervals: then the agent says so.
    let stalled = format!("{}|", highwater_ipc::record::GapReason::Stalled.code());
    assert!(held.gaps.iter().all(|gap| gap.starts_with(&stalled)), "{:?}", held.gaps);
}

/// Pauses the server, prints what the collector holds meanwhile, and lets it go on.
fn campaign(server: &Postgres, up: &Up, fleet: &Fleet, pause_s: u64, current: &dyn Fn() -> bool) {
    Seen::of(up, fleet).say("before the pause");
    let rss_before = rss_kib(up);
    server.pause();
    let mut rss = Vec::new();
    for second in 1..=pause_s {
        pass(1000);
        rss.push(rss_kib(up));
        if second % 60 == 0 {
            Seen::of(up, fleet).say(&format!("paused for {} min", second / 60));
        }
    }
    let late = &rss[rss.len().saturating_sub(120)..];
    let per_minute = |from: u64, to: u64, samples: usize| {
        let grown = i128::from(to) - i128::from(from);
        grown * 60 / i128::try_from(samples.max(2) - 1).unwrap()
    };
    let slope = per_minute(late[0], late[late.len() - 1], late.len());
    say(&format!("peak {} KiB; slope over the last {} s {slope} KiB/min", rss.iter().max().unwrap(), late.len()));
    // It levels off: what agents send without an ack is bounded. (A few percent are the allocator's.)
    let most = i128::from(rss_before) / 20;
    assert!(pause_s < 300 || slope <= most, "grows by {slope} KiB a minute still; at most {most}");
    server.resume();
    let resumed = now_ms();
    let mut most = 0;
    until("the fleet has caught up", LONG, || {
        most = most.max(rss_kib(up));
        current()
    });
    say(&format!("caught up {} ms after the server went on; RSS at most {most} KiB meanwhile", now_ms() - resumed));
    Seen::of(up, fleet).say("caught up");
}

/// Hosts whose history reaches to the present.
fn how_many_are_current(database: &Database, interval_ms: u32) -> usize {
    let since = now_ms() - i64::from(interval_ms) * 3 - 1000;
    let sql = format!("SELECT count(*) FROM stream WHERE covered_wall_ms > {since}");
    database.sql(&sql).trim().parse().unwrap()
}

/// What a collector and a fleet hold.
struct Seen {
    rss_kib: u64,
    files: usize,
    spooled: u64,
}

impl Seen {
    fn of(up: &Up, fleet: &Fleet) -> Self {
        let files = fs::read_dir(format!("/proc/{}/fd", up.pid())).map_or(0, Iterator::count);
        Self { rss_kib: rss_kib(up), files, spooled: fleet.spooled() }
    }

    fn say(&self, when: &str) {
        let (rss, files, spooled) = (self.rss_kib, self.files, self.spooled / 1024);
        say(&format!("{when:>26}: collector's RSS {rss:>8} KiB, open files {files:>5}, in spools {spooled:>8} KiB"));
    }
}

fn rss_kib(up: &Up) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", up.pid())).expect("a running collector");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
