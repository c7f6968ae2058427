//! `highwater status` and `highwater doctor`: the collector's own health, what is wrong and how to mend it.

use anyhow::Context as _;
use clap::Args;

use super::amount;
use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::print;
use super::table::{Tone, paint, table};
use crate::api::json::{CheckJson, RetentionJson, StatusJson, StorageJson};

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct StatusArgs {
    /// What each table takes, and what a day of one host costs
    #[arg(long, conflicts_with = "retention")]
    pub storage: bool,
    /// What would be forgotten now, and what is kept until when; changes nothing
    #[arg(long)]
    pub retention: bool,
}

const STATUS_EXAMPLES: &str = "Examples:
  highwater status                is the database there, are records stored, does work wait
  highwater status --storage      bytes by table
  highwater status --retention    what would be dropped now (--keep-chunks and the like of `up`)";

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  highwater doctor            what is wrong with the collector, and how to mend it\n  \
    highwater doctor --json || echo trouble    exit code 3 = something is wrong"
)]
pub struct DoctorArgs {}

/// Prints how the collector is.
pub fn run(args: &StatusArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let path = match (args.storage, args.retention) {
        (true, _) => "/storage",
        (_, true) => "/retention",
        _ => "/status",
    };
    let answer = client.get(path, &[])?;
    let text = if global.wants_json() {
        format!("{answer}\n")
    } else if args.storage {
        storage(&client.read(&answer)?, global.wants_color())
    } else if args.retention {
        retention(&client.read(&answer)?, global.wants_color())
    } else {
        status(&client.read(&answer)?, global.wants_color())
    };
    print::answer(text.as_bytes()).context("writing the answer")?;
    Ok(Exit::Answered)
}

/// Prints what is wrong; exit code 3 if anything is.
pub fn doctor(_: &DoctorArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let answer = match client.get("/status", &[]) {
        Ok(answer) => answer,
        // No collector, or one that never saw this token and whose database cannot say whose it is: that is the diagnosis.
        Err(error) => {
            eprintln!("highwater: {error}; see whether the collector and its PostgreSQL server run, and their logs");
            return Ok(Exit::Trouble);
        }
    };
    let status: StatusJson = client.read(&answer)?;
    let text = if global.wants_json() { format!("{answer}\n") } else { checks(&status.checks, global.wants_color()) };
    print::answer(text.as_bytes()).context("writing the answer")?;
    Ok(if status.checks.iter().all(|check| check.ok) { Exit::Answered } else { Exit::Trouble })
}

fn status(status: &StatusJson, color: bool) -> String {
    let mut out = format!("collector  {} at {}\n", status.version, status.now);
    match &status.database {
        Some(database) => {
            out.push_str(&format!("database   PostgreSQL {}, {}\n", database.version, size(database.bytes)));
            out.push_str(&format!("hosts      {} live, {} silent\n", database.hosts_live, database.hosts_silent));
        }
        None => match &status.database_away {
            Some(away) => out.push_str(&format!("database   does NOT answer since {}: {}\n", away.since, away.why)),
            None => out.push_str("database   does NOT answer\n"),
        },
    }
    if let Some(disk) = &status.disk {
        let (free, all) = (amount::bytes(disk.free_bytes), amount::bytes(disk.bytes));
        out.push_str(&format!("disk       {free} of {all} free at {}\n", disk.path));
    }
    let acks = if status.ingest.acking { "acks" } else { "does NOT ack" };
    out.push_str(&format!("ingest     {acks}, {:.1} records a second\n", status.ingest.records_per_second));
    for lease in status.database.iter().flat_map(|d| &d.leases) {
        let until = lease.until.as_deref().unwrap_or("given back");
        out.push_str(&format!("lease      {} {} until {until}\n", lease.name, lease.holder));
    }
    out.push('\n');
    out.push_str(&checks(&status.checks, color));
    out
}

fn checks(checks: &[CheckJson], color: bool) -> String {
    let mut out = String::new();
    for check in checks {
        let (word, tone) = if check.ok { ("ok  ", Tone::Good) } else { ("BAD ", Tone::Bad) };
        out.push_str(&format!("{} {}: {}\n", paint(word, tone, color), check.name, check.what));
        if let Some(remedy) = &check.remedy {
            out.push_str(&format!("     remedy: {remedy}\n"));
        }
    }
    out
}

fn storage(storage: &StorageJson, color: bool) -> String {
    let cell = |text: String| (text, Tone::Plain);
    let rows: Vec<_> = storage
        .tables
        .iter()
        .map(|t| vec![cell(t.name.clone()), cell(t.rows.to_string()), cell(size(t.bytes))])
        .collect();
    let mut out = table(&["TABLE", "ROWS", "BYTES"], &rows, color);
    out.push_str(&format!("\nfind index {} of these\n", size(storage.find_index_bytes)));
    out.push_str(&format!("{:.1} days of hosts", storage.host_days));
    if let Some(bytes) = storage.bytes_per_host_day {
        out.push_str(&format!(", {bytes:.0} bytes a day of one host"));
    }
    out.push('\n');
    out
}

fn retention(retention: &RetentionJson, color: bool) -> String {
    let cell = |text: String| (text, Tone::Plain);
    let mut out = String::new();
    for kept in &retention.tables {
        let from = kept.kept_from.as_deref().unwrap_or("nothing yet");
        out.push_str(&format!("{}: kept {} days, from {from} on\n", kept.name, kept.keep_days));
        if kept.drops.is_empty() {
            out.push_str("  nothing would be dropped now\n");
            continue;
        }
        let rows: Vec<_> = kept
            .drops
            .iter()
            .map(|drop| {
                let baselines = drop.baselines.map_or("-".to_owned(), |n| n.to_string());
                let span = format!("{} .. {}", drop.from, drop.to);
                vec![cell(span), cell(drop.rows.to_string()), cell(size(drop.bytes)), cell(baselines)]
            })
            .collect();
        out.push_str(&table(&["WOULD BE DROPPED", "ROWS", "BYTES", "BASELINES FIRST"], &rows, color));
    }
    out
}

fn size(bytes: i64) -> String {
    amount::bytes(u64::try_from(bytes).unwrap_or(0))
}
