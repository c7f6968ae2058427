//! `highwater backtest`: the evaluator over series in files, to see what it would have said.
//!
//! Runs here and asks no collector. [`series`] reads a file row by row, [`show`] says what changes.

mod series;
mod show;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::args::Global;
use super::exit::Exit;
use super::host::own_zone;
use crate::forecast::{Evaluator, Policy, Transition};
use series::Rows;
use show::{Look, json, line};

/// Arguments of `backtest`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BacktestArgs {
    /// Series of one resource: CSV with the header at,used,limit,event
    #[arg(required = true, value_name = "FILE.csv")]
    pub files: Vec<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  highwater backtest web-17.csv               when a flag would have gone up, why, and when it would have been cleared
  highwater backtest --json series/*.csv      one JSON line per change, with each hour's forecast, for a program

at is in unix seconds, used and limit are whole numbers up to 18446744073709551615, event is empty or one of gap_start,
gap_end, reboot, limit_change. Rows are in the order sampled; a row holds until the next. Files are read as streams.";

/// Reads each file once and prints what the evaluator says to it.
pub fn run(args: &BacktestArgs, global: &Global) -> anyhow::Result<Exit> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let zone = own_zone();
    let look = if global.wants_json() { None } else { Some(Look { zone: &zone, color: global.wants_color() }) };
    for file in &args.files {
        match backtest(file, look.as_ref(), &mut out) {
            Err(Stopped::Pipe(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Answered),
            Err(Stopped::Pipe(error)) => return Err(error).context("writing the answer"),
            Err(Stopped::Input(error)) => {
                // What was said before the broken row stands.
                let _ = out.flush();
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing the answer"),
        _ => Ok(Exit::Answered),
    }
}

/// Why a file was not read to its end.
enum Stopped {
    Pipe(io::Error),
    Input(anyhow::Error),
}

fn backtest(path: &Path, look: Option<&Look<'_>>, out: &mut impl Write) -> Result<(), Stopped> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let input = |error: anyhow::Error| Stopped::Input(error.context(format!("reading {}", path.display())));
    let file = File::open(path).map_err(|e| input(anyhow::Error::new(e)))?;
    let mut rows = Rows::of(BufReader::with_capacity(1 << 16, file)).map_err(|e| input(e.into()))?;
    let mut evaluator = Evaluator::default();
    let mut before: Option<Transition> = None;
    if let Some(look) = look {
        writeln!(out, "{}", look.heading(&name)).map_err(Stopped::Pipe)?;
    }
    while let Some(row) = rows.next().map_err(|e| input(e.into()))? {
        let mut said = Ok(());
        evaluator.take(&row, &Policy::default(), |transition| {
            if said.is_ok() {
                said = match look {
                    None => writeln!(out, "{}", json(&name, &transition)),
                    Some(look) => match line(look, before.as_ref(), &transition) {
                        Some(line) => writeln!(out, "{line}"),
                        None => Ok(()),
                    },
                };
            }
            before = Some(transition);
        });
        said.map_err(Stopped::Pipe)?;
    }
    if let (Some(look), None) = (look, before) {
        writeln!(out, "{}", look.nothing(rows.count())).map_err(Stopped::Pipe)?;
    }
    Ok(())
}
