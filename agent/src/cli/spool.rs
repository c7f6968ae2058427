//! `highwater-agent spool status`: what waits to be sent. Reads only; a running agent is not disturbed.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use highwater_ipc::codec::{decode_at, decode_record};
use highwater_ipc::time::format_rfc3339_ms;
use serde::Serialize;

use super::args::{Output, Places};
use super::snapshot;
use crate::agent::SPOOL_DIR;
use crate::config::Overrides;
use crate::spool::Position;
use crate::spool::disk::PrivateDir;
use crate::spool::recover::{self, Found};

const EXAMPLES: &str = "Examples:\n  highwater-agent spool status\n  highwater-agent spool status --json";

/// Look into the spool
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SpoolArgs {
    #[command(subcommand)]
    command: SpoolCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum SpoolCommand {
    /// Say how much waits to be acknowledged, since when, and what is damaged
    Status(StatusArgs),
}

#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
struct StatusArgs {
    #[command(flatten)]
    places: Places,
    #[command(flatten)]
    output: Output,
}

/// The answer, as JSON has it.
#[derive(Debug, Serialize)]
struct Status {
    directory: String,
    bytes: u64,
    limit_bytes: u64,
    segments: usize,
    records: u64,
    damaged_places: u32,
    /// As last written down: when a segment was freed, or the agent stopped.
    acknowledged: Option<Place>,
    /// Times of the oldest and newest record, RFC 3339.
    oldest_at: Option<String>,
    newest_at: Option<String>,
    epochs: Vec<Epoch>,
}

#[derive(Debug, Serialize)]
struct Place {
    /// Opaque: the contract's epochs are texts.
    epoch_no: String,
    next_seq: u64,
}

#[derive(Debug, Serialize)]
struct Epoch {
    epoch_no: String,
    first_seq: u64,
    next_seq: u64,
}

/// Answers.
pub fn run(args: &SpoolArgs) -> anyhow::Result<()> {
    let SpoolCommand::Status(args) = &args.command;
    let config = args.places.load(Overrides::default())?;
    let path = config.state_dir.join(SPOOL_DIR);
    let status = status(&path, config.spool_bytes)?;
    let text = if args.output.wants_json() { serde_json::to_string_pretty(&status)? + "\n" } else { text(&status) };
    snapshot::print(&text)
}

fn status(path: &Path, limit_bytes: u64) -> anyhow::Result<Status> {
    let reading = || format!("reading the spool {}", path.display());
    let (found, times) = match PrivateDir::open(path) {
        Ok(mut disk) => {
            let found = recover::scan(&mut disk).with_context(reading)?;
            let oldest = found.segments.first().map(|s| recover::first_entry(&mut disk, s)).transpose();
            let oldest = oldest.with_context(reading)?.flatten().and_then(time_of);
            let newest = found.segments.last().map(|s| recover::last_entry(&mut disk, s)).transpose();
            let newest = newest.with_context(reading)?.flatten().and_then(time_of);
            (found, (oldest, newest))
        }
        // No agent ran yet.
        Err(e) if e.kind() == ErrorKind::NotFound => (Found::default(), (None, None)),
        Err(e) => return Err(e).with_context(reading),
    };
    let mut epochs: Vec<Epoch> = Vec::new();
    for segment in &found.segments {
        let (epoch_no, first_seq, next_seq) = (segment.label.epoch_no.to_string(), segment.first_seq, segment.next_seq);
        match epochs.last_mut().filter(|e| e.epoch_no == epoch_no) {
            Some(epoch) => epoch.next_seq = next_seq,
            None => epochs.push(Epoch { epoch_no, first_seq, next_seq }),
        }
    }
    Ok(Status {
        directory: path.display().to_string(),
        bytes: found.bytes(),
        limit_bytes,
        segments: found.segments.len(),
        records: found.entries,
        damaged_places: found.damaged,
        acknowledged: found
            .acked
            .map(|Position { epoch_no, seq }| Place { epoch_no: epoch_no.to_string(), next_seq: seq }),
        oldest_at: times.0,
        newest_at: times.1,
        epochs,
    })
}

fn time_of(entry: crate::spool::Entry) -> Option<String> {
    let record = decode_record(&entry.bytes).ok()?;
    decode_at(&record.body).ok().map(|at| format_rfc3339_ms(at.wall_ms))
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{name:13} {value}");
    };
    line("Spool", status.directory.clone());
    line("Bytes", format!("{} of at most {}", status.bytes, status.limit_bytes));
    line("Records", format!("{} in {} segments", status.records, status.segments));
    if let (Some(oldest), Some(newest)) = (&status.oldest_at, &status.newest_at) {
        line("Times", format!("{oldest} to {newest}"));
    }
    for epoch in &status.epochs {
        line(&format!("Epoch {}", epoch.epoch_no), format!("seq {} to {}", epoch.first_seq, epoch.next_seq - 1));
    }
    match &status.acknowledged {
        Some(at) => line(
            "Acknowledged",
            format!("up to epoch {} seq {} when last written down (a segment was freed)", at.epoch_no, at.next_seq),
        ),
        None => line("Acknowledged", "nothing is written down yet".into()),
    }
    match status.damaged_places {
        0 => {}
        n => line("Damaged", format!("{n} places; history will show gaps `spool_damaged`")),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_that_never_was_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let status = status(&dir.path().join("spool"), 100).unwrap();
        assert!(text(&status).contains("0 in 0 segments"));
    }

    #[test]
    fn an_epoch_is_an_opaque_text_in_json() {
        let epoch = Epoch { epoch_no: u64::MAX.to_string(), first_seq: 0, next_seq: 1 };
        assert_eq!(serde_json::to_value(&epoch).unwrap()["epoch_no"], "18446744073709551615");
    }
}
