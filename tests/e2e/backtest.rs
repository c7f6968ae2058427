//! `highwater backtest` as a person and a script meet it. It needs no collector.

use std::fmt::Write as _;
use std::path::Path;

use highwater_tests::cli::{Answer, Cli};
use serde_json::Value;

/// A command line that would find no collector.
fn cli(home: &Path) -> Cli {
    Cli { url: "http://127.0.0.1:1".to_owned(), token: String::new(), home: home.to_owned() }
}

/// Three quiet days, then 14 arrays a day against 128 until a clean-up after the tenth day: a row every ten minutes.
fn leak() -> String {
    let mut csv = "at,used,limit,event\n".to_owned();
    for row in 0..11 * 144_u64 {
        let grown = row.saturating_sub(3 * 144).min(9 * 144) * 14 / 144;
        let used = if row < 10 * 144 { 24 + grown } else { 24 };
        writeln!(csv, "{},{used},128,", 1_767_571_200 + row * 600).unwrap();
    }
    csv
}

fn backtest(folder: &Path, json: bool, csv: &str) -> Answer {
    let file = folder.join("leak.csv");
    std::fs::write(&file, csv).unwrap();
    let file = file.to_str().unwrap();
    let args: &[&str] = if json { &["backtest", "--json", file] } else { &["backtest", file] };
    cli(folder).run(args).must_succeed()
}

#[test]
fn backtest_tells_a_program_each_change_with_its_forecast_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let answer = backtest(folder.path(), true, &leak());
    let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &lines[0];
    assert_eq!(first["series"], "leak");
    assert_eq!((first["state"].as_str(), first["severity"].as_str()), (Some("raised"), Some("warning")), "{first}");
    assert_eq!((first["kind"].as_str(), first["limit_u64"].as_str()), (Some("trend"), Some("128")), "{first}");
    for number in ["at", "eta", "eta_low", "eta_high", "growth_per_hour"] {
        assert!(first[number].is_f64(), "{number} of {first}");
    }
    assert!(first["why"].as_str().unwrap().contains("of 128 used"), "{first}");
    let last = &lines[lines.len() - 1];
    assert_eq!(last["state"], "cleared");
    assert_eq!((last["eta"].clone(), last["at"].as_f64()), (Value::Null, Some(1_767_571_200.0 + 864_000.0)));
    assert!(lines.iter().all(|line| line["severity"] == "warning" || line["severity"] == "critical"));
    assert!(lines.iter().any(|line| line["severity"] == "critical"));
}

#[test]
fn backtest_says_of_a_file_cut_short_what_it_says_of_the_whole_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let whole = backtest(folder.path(), true, &leak());
    let cut = leak().lines().take(1_100).fold(String::new(), |csv, line| csv + line + "\n");
    let cut = backtest(folder.path(), true, &cut);
    assert!(!cut.out.is_empty() && whole.out.starts_with(&cut.out), "{cut:?}");
}

#[test]
fn backtest_tells_a_person_when_and_why_without_each_hours_refresh() {
    let folder = tempfile::tempdir().unwrap();
    let answer = backtest(folder.path(), false, &leak());
    let golden = include_str!("../golden/backtest.txt");
    assert_eq!(answer.text(), golden, "tests/golden/backtest.txt");
    let quiet = "at,used,limit,event\n1767571200,5,128,\n1767571800,5,128,\n";
    assert_eq!(backtest(folder.path(), false, quiet).text(), "leak\n  no flag in 2 rows\n");
}

#[test]
fn what_is_no_series_is_refused_with_file_line_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let cli = cli(folder.path());
    cli.run(&["backtest"]).must_exit(2);
    let missing = cli.run(&["backtest", "/nonexistent/a.csv"]).must_exit(1);
    assert_eq!(missing.err, "highwater: reading /nonexistent/a.csv: No such file or directory (os error 2)\n");
    let file = folder.path().join("b.csv");
    for (text, expected) in [
        ("time,value\n", "line 1 is \"time,value\": make it the header at,used,limit,event"),
        (
            "at,used,limit,event\n1,2,3,\n2,x,3,\n",
            "line 3: used is \"x\": a whole number from 0 to 18446744073709551615 is expected",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = cli.run(&["backtest", file.to_str().unwrap()]).must_exit(1);
        assert_eq!(refused.err, format!("highwater: reading {}: {expected}\n", file.display()));
    }
}
