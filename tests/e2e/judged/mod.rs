//! What is judged as it comes, and what `backtest` says of the same history: one and the same.
//!
//! Hosts over some days ([`machine`]) send their records in pieces, with compactions in between, and once more to another
//! collector in one go. Both store the same flags with the same transitions; and `highwater backtest` says the same of each
//! series that `highwater export --series` writes.
//!
//! ```text
//! HIGHWATER_JUDGED_HOSTS=100          how many; 6 unless given
//! HIGHWATER_JUDGED_SEED=7             the first seed; 1 unless given
//! ```

mod idle;
mod imported;
mod machine;
mod order;
pub(crate) mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater::host::HostId;
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, State};
use highwater_ipc::time::format_rfc3339_ms;
use highwater_tests::chance::Chance;
use highwater_tests::cli::Cli;
use highwater_tests::collector::Up;
use highwater_tests::postgres::Database;
use highwater_tests::wait::now_ms;
use serde_json::Value;

use self::machine::{CONTAINER, Machine, RESOURCES, to_be_seen};
use self::stage::{EAGER, Stage};

pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;
/// How long a host is sampled, days.
const DAYS: i64 = 8;
const HOSTS: u64 = 6;

/// A change of a flag: when, what happened, how urgent it was then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    at_ms: i64,
    what: String,
    severity: String,
}

/// Which series: host, instance of its namespace (0 = the host's own), limit.
type Which = (i64, u64, String);

fn given(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What a collector stored, by series, in order.
pub(crate) fn stored(database: &Database) -> BTreeMap<Which, Vec<Change>> {
    let rows = database.sql(
        "SELECT f.host_id, CASE WHEN f.own THEN 0 ELSE f.instance END, f.resource, e.at_ms, e.what, e.severity
        FROM flag_event e JOIN flag f USING (host_id, flag_id)
        JOIN flag_event first ON first.host_id = e.host_id AND first.flag_id = e.flag_id AND first.no = 0
        ORDER BY 1, 2, 3, first.epoch_no, first.seq, first.at_ms, e.flag_id, e.no",
    );
    let mut all: BTreeMap<Which, Vec<Change>> = BTreeMap::new();
    for row in rows.lines() {
        let [host, instance, resource, at_ms, what, severity] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row}")
        };
        let change = Change { at_ms: at_ms.parse().unwrap(), what: what.to_owned(), severity: severity.to_owned() };
        let which = (host.parse().unwrap(), instance.parse().unwrap(), resource.to_owned());
        all.entry(which).or_default().push(change);
    }
    all
}

/// Everything that is stored of flags but what is only of the present.
fn flags(database: &Database) -> String {
    database.sql(
        "SELECT f.host_id, f.flag_id, f.namespace, f.instance, f.own, f.resource, f.kind, f.severity, f.state,
            f.raised_ms, f.cleared_ms, e.no, e.at_ms, e.epoch_no, e.seq, e.what, e.severity
        FROM flag f LEFT JOIN flag_event e USING (host_id, flag_id) ORDER BY 1, 2, e.no",
    )
}

/// What `backtest` says, by the names of its files: changes alone, without each hour's refresh.
fn backtested(cli: &Cli, files: &[PathBuf]) -> BTreeMap<String, Vec<Change>> {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let answer = cli.run(&[&["backtest", "--json"], &files[..]].concat()).must_succeed();
    let mut all: BTreeMap<String, Vec<Change>> = BTreeMap::new();
    let mut up: BTreeMap<String, String> = BTreeMap::new();
    for line in answer.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let text = |field: &str| line[field].as_str().unwrap().to_owned();
        let (series, severity) = (text("series"), text("severity"));
        let what = match (line["state"].as_str().unwrap(), up.get(&series)) {
            ("cleared", _) => "cleared",
            (_, None) => "raised",
            (_, Some(was)) if *was == severity => continue,
            (_, Some(was)) if was == "warning" => "worsened",
            _ => "eased",
        };
        if what == "cleared" {
            up.remove(&series)
        } else {
            up.insert(series.clone(), severity.clone())
        };
        #[allow(clippy::cast_possible_truncation, reason = "milliseconds of a believable year")]
        let at_ms = (line["at"].as_f64().unwrap() * 1_000.0).round() as i64;
        all.entry(series).or_default().push(Change { at_ms, what: what.to_owned(), severity });
    }
    all
}

/// A state of which only the arrays matter.
pub(crate) fn state(used: u64, limit: u64) -> State {
    let limits = Limits {
        semmsl: 250,
        semmns: 32_000,
        semopm: 32,
        semmni: limit,
        semvmx: 32_767,
        shmmax: 1 << 30,
        shmall: 1 << 20,
        shmmni: 4_096,
        shmmin: 1,
        msgmax: 8_192,
        msgmnb: 16_384,
        msgmni: 32_000,
    };
    let totals = Some(Totals { sem_arrays: used, semaphores: used, ..Totals::default() });
    let id = NamespaceId { inode: machine::OWN, instance: 1 };
    let own = Namespace {
        id,
        limits: Some(limits),
        totals,
        sem: Some(Vec::new()),
        shm: Some(Vec::new()),
        msg: Some(Vec::new()),
        ..Namespace::default()
    };
    State { boot_id: BootId([1; 16]), interval_ms: 600_000, namespaces: vec![own], ..State::default() }
}

/// Writes a series as a person does; `false` = there is none.
pub(crate) fn export(cli: &Cli, host: HostId, to_ms: i64, series: (&str, Option<u64>), file: &Path) -> bool {
    let (host, to) = (host.to_string(), format_rfc3339_ms(to_ms));
    let namespace = series.1.map(|inode| inode.to_string());
    let mut args = vec!["export", &host, "--from", "2020-01-01T00:00:00Z", "--to", &to, "--series", series.0];
    args.extend(["--out", file.to_str().unwrap()]);
    if let Some(namespace) = &namespace {
        args.extend(["--namespace", namespace]);
    }
    let answer = cli.run(&args);
    assert!(answer.code == 0 || answer.code == 4, "{answer:?}");
    answer.code == 0
}

/// Sends all of it in pieces, and compacts now and then.
fn in_pieces(machines: &mut [Machine], begin_ms: i64, seed: u64) -> Stage {
    let hosts: Vec<HostId> = machines.iter().map(|m| m.scribe.host()).collect();
    let mut stage = Stage::new(&hosts, begin_ms);
    let mut chance = Chance::new(seed);
    while machines.iter().any(|machine| machine.scribe.unsent() > 0) {
        let at = chance.index(machines.len());
        let most = 1 + chance.pick(&[3, 40, 400, 2_000]);
        stage.send(&mut machines[at].scribe, 1 + chance.index(most));
        stage.pass(i64::try_from(chance.below(3_600_000)).unwrap());
        match chance.below(4) {
            0 | 1 => drop(stage.compact()),
            2 => {
                let lazy = highwater::compact::job::Config { tail_age_ms: 6 * HOUR_MS, tail_positions: 700, ..EAGER };
                assert_eq!(stage.compact_as(lazy).failed, 0);
            }
            _ => {}
        }
    }
    stage.compact_all();
    stage
}

#[test]
fn live_evaluation_and_backtest_of_the_exported_series_say_the_same_however_records_come() {
    let (hosts, seed) = (given("HIGHWATER_JUDGED_HOSTS", HOSTS), given("HIGHWATER_JUDGED_SEED", 1));
    // Whole days ago: as many as chunks are kept for, and more than a clock is set forward by.
    let begin_ms = (now_ms() / DAY_MS - 40) * DAY_MS;
    let make = || -> Vec<Machine> {
        let host = |n: u64| HostId(i64::try_from(n).unwrap());
        (1..=hosts).map(|n| Machine::new(host(n), seed + n, begin_ms, DAYS)).collect()
    };
    let mut machines = make();
    let pieces = in_pieces(&mut machines, begin_ms, seed);
    let mut again = make();
    let whole = {
        let ids: Vec<HostId> = again.iter().map(|m| m.scribe.host()).collect();
        let mut stage = Stage::new(&ids, begin_ms);
        again.iter_mut().for_each(|machine| stage.send(&mut machine.scribe, usize::MAX));
        stage.compact_all();
        stage
    };
    let live = stored(&pieces.database);
    assert_eq!(flags(&pieces.database), flags(&whole.database), "however records come, the same flags");

    let up = Up::collector(&pieces.database);
    let cli = up.cli();
    let directory = tempfile::tempdir().unwrap();
    let mut files: BTreeMap<String, (PathBuf, Which)> = BTreeMap::new();
    for machine in &machines {
        let host = machine.scribe.host();
        for (namespace, resource) in machine.namespaces().into_iter().flat_map(|n| RESOURCES.map(|r| (n, r.name()))) {
            let instance = namespace.map_or(0, |inode| {
                assert_eq!(inode, CONTAINER);
                machine.instance()
            });
            let name = format!("{}-{instance}-{resource}", host.0);
            let file = directory.path().join(format!("{name}.csv"));
            assert!(export(&cli, host, machine.last_ms, (resource, namespace), &file), "{name}");
            files.insert(name, (file, (host.0, instance, resource.to_owned())));
        }
    }
    let paths: Vec<PathBuf> = files.values().map(|(file, _)| file.clone()).collect();
    let said = backtested(&cli, &paths);
    let mut changes: BTreeMap<String, u64> = BTreeMap::new();
    for (name, (file, which)) in &files {
        let (live, said) = (live.get(which).cloned().unwrap_or_default(), said.get(name).cloned().unwrap_or_default());
        if live != said {
            let kept = std::env::temp_dir().join(format!("{name}.csv"));
            std::fs::copy(file, &kept).unwrap();
            panic!("{name} ({}): live {live:#?}, backtest {said:#?}", kept.display());
        }
        for change in live {
            *changes.entry(format!("{} {}", change.what, change.severity)).or_default() += 1;
        }
    }
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in machines.iter().flat_map(|machine| &machine.tally) {
        *tally.entry(name).or_default() += count;
    }
    println!("{hosts} hosts, {} series: {changes:?}; {tally:?}", files.len());
    // What nothing comes to proves nothing.
    for what in ["raised warning", "worsened critical", "eased warning", "cleared warning", "raised critical"] {
        assert!(changes.get(what).is_some_and(|count| *count > 0), "{what}: {changes:?}");
    }
    for what in to_be_seen() {
        assert!(tally.get(what).is_some_and(|count| *count > 0), "no host comes to {what}");
    }
}
