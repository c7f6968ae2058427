//! `highwater import`: history from a file.

use std::io::{self, IsTerminal as _, Read};
use std::path::PathBuf;

use clap::Args;

use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::export::open;
use super::host::{own_zone, show_instant};
use super::print;
use super::progress::Progress;
use crate::api::json::ImportJson;

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportArgs {
    /// Into the history of this host: its exact name or id; a name that no host has makes a new one
    #[arg(long, value_name = "NAME")]
    pub host: String,
    /// JSON lines in order of time; - = standard input
    pub file: PathBuf,
}

const EXAMPLES: &str = "Examples:
  highwater import --host web-17 web-17.jsonl        what `highwater export` wrote
  zcat day.jsonl.gz | highwater import --host lab -  from a pipe
  highwater import --host lab day.jsonl --json

Takes the form of `export`, or the flat one: {\"at\":SECONDS,\"sem\":[..],\"shm\":[..],\"msg\":[..],\"limits\":{..}} with the
columns of /proc/sysvipc by name; the first line tells which. The file's times are kept. Only gaps are filled; a line that
contradicts what is stored refuses the whole file before anything is written; the same file once more changes nothing. A
line speaks until the next one if that comes within three times the file's median step. Into the history of a host that
has an agent, only what is older than its newest sample can be imported.";

/// Lines of runs that are printed for people.
const SHOWN: usize = 20;

/// Sends the file and prints what became of it.
pub fn run(args: &ImportArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let (file, size) = open(&args.file)?;
    let mut file = Watched { file, progress: Progress::of("sent", io::stderr().is_terminal(), size) };
    let answer = client.post_stream("/import", &[("host", args.host.clone())], &mut file);
    file.progress.end();
    let answer = answer?;
    if global.wants_json() {
        print::answer(format!("{}\n", answer.trim_end()).as_bytes())?;
        return Ok(Exit::Answered);
    }
    let done: ImportJson = client.read(&answer)?;
    for note in &done.notes {
        eprintln!("highwater: note: {note}");
    }
    print::answer(words(&done).as_bytes())?;
    Ok(Exit::Answered)
}

fn words(done: &ImportJson) -> String {
    let zone = own_zone();
    let mut words = format!(
        "{} ({}): {} of {} lines stored, {} were there already\n",
        done.host, done.host_id, done.stored, done.lines, done.already_there
    );
    for span in done.gaps_filled.iter().take(SHOWN) {
        words.push_str(&format!("  {} to {}\n", show_instant(&span.from, &zone), show_instant(&span.to, &zone)));
    }
    let more = done.gaps_filled_count.saturating_sub(u64::try_from(SHOWN).unwrap_or(0));
    if more > 0 {
        words.push_str(&format!("  and {more} spans more\n"));
    }
    words
}

/// A file whose reader is told how far it is.
struct Watched {
    file: Box<dyn Read + Send>,
    progress: Progress,
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.progress.add(0, u64::try_from(read).unwrap_or(0));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use highwater_proto::json::SpanJson;

    use super::*;

    #[test]
    fn people_read_what_was_stored_and_which_spans_it_fills() {
        let span = SpanJson { from: "2026-01-01T00:00:00.000Z".into(), to: "2026-01-01T23:59:00.000Z".into() };
        let done = ImportJson {
            host: "lab".into(),
            host_id: "00000000000000ab".into(),
            new_host: true,
            lines: 1_440,
            stored: 1_439,
            already_there: 1,
            gaps_filled: vec![span; 30],
            gaps_filled_count: 30,
            notes: vec![],
        };
        let words = words(&done);
        assert!(
            words.starts_with("lab (00000000000000ab): 1439 of 1440 lines stored, 1 were there already\n  2"),
            "{words}"
        );
        assert!(words.ends_with("  and 10 spans more\n") && words.lines().count() == 22, "{words}");
    }
}
