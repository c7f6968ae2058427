//! What the evaluator costs: time per row and per host-day, and the size of its state, on series of its own or on files.
//!
//! ```text
//! cargo bench -p highwater-tests --bench forecast               a month each of rest, cycle, leak and noise
//! cargo bench -p highwater-tests --bench forecast -- FILE.csv.. series as `highwater backtest` reads them
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measuring program: it may panic anywhere"
)]
#![allow(clippy::disallowed_methods, reason = "measuring is reading a clock")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures")]

use std::hint::black_box;
use std::time::Instant;

use highwater::forecast::{Evaluator, Event, Policy, Row};

const ROUNDS: usize = 5;
const DAYS: f64 = 30.0;

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if files.is_empty() {
        for (name, step, used) in [
            ("rest, a row in 10 minutes", 600.0, (|_| 200.0) as fn(f64) -> f64),
            ("daily cycle, a row a minute", 60.0, |d| 400.0 + 300.0 * (d * std::f64::consts::TAU).cos()),
            ("leak, a row a minute", 60.0, |d| 100.0 + 28.0 * d),
            ("noise, a row in 10 seconds", 10.0, |d| 300.0 + 100.0 * (d * 7_919.0).sin()),
        ] {
            let rows = (0..(DAYS * 86_400.0 / step) as u64).map(|i| {
                let at = i as f64 * step;
                Row { at, used: used(at / 86_400.0) as u64, limit: 1_000, event: Event::Sample }
            });
            measure(name, &[rows.collect()]);
        }
    } else {
        measure(&format!("{} files", files.len()), &files.iter().map(|file| read(file)).collect::<Vec<_>>());
    }
}

fn measure(name: &str, series: &[Vec<Row>]) {
    let rows: usize = series.iter().map(Vec::len).sum();
    let days: f64 = series.iter().map(|s| (s[s.len() - 1].at - s[0].at) / 86_400.0).sum();
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| run(series)).collect();
    times.sort_by(f64::total_cmp);
    let median = times[ROUNDS / 2];
    let mut evaluator = Evaluator::default();
    series[0].iter().for_each(|row| {
        evaluator.take(row, &Policy::default(), |t| {
            let _ = black_box(t);
        })
    });
    println!(
        "{name}: {rows} rows of {days:.0} host-days in {:.1} ms: {:.0} ns a row, {:.1} us a host-day; state {} bytes of JSON",
        median * 1e3,
        median * 1e9 / rows as f64,
        median * 1e6 / days,
        serde_json::to_vec(&evaluator).unwrap().len(),
    );
}

fn run(series: &[Vec<Row>]) -> f64 {
    let began = Instant::now();
    for rows in series {
        let mut evaluator = Evaluator::default();
        rows.iter().for_each(|row| {
            evaluator.take(row, &Policy::default(), |t| {
                let _ = black_box(t);
            })
        });
    }
    began.elapsed().as_secs_f64()
}

fn read(file: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(file).unwrap();
    let row = |line: &str| {
        let columns: Vec<&str> = line.split(',').collect();
        let event = match columns[3] {
            "gap_start" => Event::GapStart,
            "gap_end" => Event::GapEnd,
            "reboot" => Event::Reboot,
            "limit_change" => Event::LimitChange,
            _ => Event::Sample,
        };
        let number = |at: usize| columns[at].parse().unwrap();
        Row { at: columns[0].parse().unwrap(), used: number(1), limit: number(2), event }
    };
    text.lines().skip(1).map(row).collect()
}
