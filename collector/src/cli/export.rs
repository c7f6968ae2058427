//! `highwater export`: every stored sample of a span, as JSON lines; or one series of it, as CSV for `backtest`.

use std::fs::{File, OpenOptions, remove_file, rename};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;

use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::host::{Asked, MayBe, gap_words, own_zone, read_may_be};
use super::namespace::{called, choose};
use super::progress::Progress;
use super::when;
use crate::api::json::{ErrorLineJson, LsipcJson};

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportArgs {
    /// Exact name, id or unique prefix of a host; omitted = this machine
    pub host: Option<String>,
    /// From this instant of the host's clock on, beginning with what was held then
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub from: String,
    /// Up to this instant of the host's clock [default: now]
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub to: Option<String>,
    /// Only the use of this limit, as CSV: the rows that flags are judged by, for `backtest`
    #[arg(long, value_name = "R", ignore_case = true, value_parser = ["SEMMNI", "SEMMNS", "SHMMNI", "SHMALL", "MSGMNI"])]
    pub series: Option<String>,
    /// With --series: of this IPC namespace, by its inode or the beginning of its name at --to [default: the host's own]
    #[arg(long, value_name = "N", requires = "series")]
    pub namespace: Option<String>,
    /// Write to this file, which appears once it is whole
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// With --out: replace the file if it is there
    #[arg(long, requires = "out")]
    pub force: bool,
}

const EXAMPLES: &str = "Examples:
  highwater export web-17 --from yesterday --to today --out web-17.jsonl
  highwater export --from -1h | gzip > last-hour.jsonl.gz      this machine's last hour
  highwater export web-17 --from -1d | jq -c '.namespaces[0].totals'
  highwater export web-17 --from -30d --series SEMMNI --out web-17.csv && highwater backtest web-17.csv

One line a stored sample, as `ipcs --json` prints it, the first one of what was held at --from; a span without samples is
a line {\"host\",\"gap\"}. `covered` says until when the same was read. A last line {\"error\"} (and exit code 1) says that
the export did not come to its end. Exit code 4: there is no sample in that span, only the gap.
`highwater import` takes the file. With --series, `backtest` takes it, and says what was said then if it begins before the
host's first sample: what is known of earlier days makes a difference.";

/// The most bytes of a line: a state of 100,000 objects fits several times over.
const MOST_LINE: u64 = 512 << 20;

/// Copies the answer.
pub fn run(args: &ExportArgs, _: &Global) -> anyhow::Result<Exit> {
    if let Some(path) = args.out.as_deref().filter(|path| !args.force && path.exists()) {
        bail!("{} is there already; --force replaces it", path.display());
    }
    let client = Client::from_environment()?;
    let zone = own_zone();
    let asked = Asked::new(args.host.as_deref(), &client)?;
    let mut parameters = vec![("from", asked.instant(&client, &args.from, &zone)?)];
    let to = args.to.as_ref().map(|to| asked.instant(&client, to, &zone)).transpose()?;
    parameters.extend(to.clone().map(|to| ("to", to)));
    let mut path = "export";
    if let Some(resource) = &args.series {
        path = "series";
        parameters.push(("resource", resource.clone()));
        if let Some(wanted) = &args.namespace {
            parameters.push(("namespace", inode(&client, &asked, to, wanted)?.to_string()));
        }
    }
    let answer = client.get_stream(&asked.path(path), &parameters)?;
    let mut progress = Progress::new("lines", io::stderr().is_terminal() && !io::stdout().is_terminal());
    let counted = match &args.out {
        None => match copy(answer, &mut io::stdout().lock(), &mut progress) {
            // Whoever read it has seen enough.
            Err(Copying::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Answered),
            copied => copied,
        },
        Some(path) => to_file(answer, path, args.force, &mut progress)?,
    };
    progress.end();
    let counted = counted.map_err(|failed| match failed {
        Copying::Read(e) => {
            anyhow!("the export broke off ({e}): the collector ended or the connection was lost; run it again")
        }
        Copying::Write(e) => anyhow!(e).context("writing the export"),
        Copying::Told(why) => anyhow!("the export did not come to its end: {why}"),
    })?;
    if args.series.is_some() && counted.samples <= 1 {
        eprintln!("highwater: no sample of that span is stored: there is no row but the header");
        return Ok(Exit::NoData);
    }
    if counted.samples == 0 {
        eprintln!("highwater: no sample of that span is stored; the gap that it lies in was written");
        return Ok(Exit::NoData);
    }
    Ok(Exit::Answered)
}

/// The namespace that is meant, as it is at the span's end.
fn inode(client: &Client, asked: &Asked, to: Option<String>, wanted: &str) -> anyhow::Result<u64> {
    let parameters: Vec<_> = to.map(|to| ("at", to)).into_iter().collect();
    let answer = client.get(&asked.path("lsipc"), &parameters)?;
    let rows = match read_may_be::<LsipcJson>(client, &answer)? {
        MayBe::Data(json) => json.rows,
        MayBe::Gap(gap) => bail!("{}; --to says when the namespace was there", gap_words(&gap, "lsipc", &own_zone())),
    };
    let all = called(&rows);
    match choose(&all, Some(wanted))?.as_slice() {
        [one] => Ok(all.get(*one).map_or(0, |n| n.inode)),
        _ => bail!("a series is of one namespace: --namespace takes an inode or the beginning of a name, not all"),
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    samples: u64,
    gaps: u64,
}

/// Why copying ended early.
#[derive(Debug)]
enum Copying {
    /// The answer broke off.
    Read(io::Error),
    /// It cannot be written.
    Write(io::Error),
    /// Its last line says why.
    Told(String),
}

/// Copies line by line. A body that does not end as HTTP says is an error of the reader's.
fn copy(from: impl Read, to: &mut impl Write, progress: &mut Progress) -> Result<Counted, Copying> {
    let mut from = BufReader::with_capacity(64 << 10, from);
    let mut counted = Counted::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = from.by_ref().take(MOST_LINE).read_until(b'\n', &mut line).map_err(Copying::Read)?;
        if read == 0 {
            to.flush().map_err(Copying::Write)?;
            return Ok(counted);
        }
        if line.last() != Some(&b'\n') {
            return Err(Copying::Read(io::Error::new(io::ErrorKind::UnexpectedEof, "within a line")));
        }
        to.write_all(&line).map_err(Copying::Write)?;
        if line.starts_with(b"{\"error\"")
            && let Ok(told) = serde_json::from_slice::<ErrorLineJson>(&line)
        {
            let _ = to.flush();
            return Err(Copying::Told(told.error.detail));
        }
        // A gap's line has a host and the gap, nothing else.
        let is_gap =
            line.len() < 4_096 && find(&line, b"\"gap\":{").is_some_and(|at| find(&line[..at], b"\"at\":").is_none());
        if is_gap {
            counted.gaps += 1
        } else {
            counted.samples += 1
        }
        progress.add(1, u64::try_from(line.len()).unwrap_or(0));
    }
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

/// Writes beside the file and renames at the end, so that the file is whole or not there.
fn to_file(
    answer: impl Read,
    path: &Path,
    force: bool,
    progress: &mut Progress,
) -> anyhow::Result<Result<Counted, Copying>> {
    let name = path.file_name().ok_or_else(|| anyhow!("{} names no file", path.display()))?;
    let mut part = name.to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(part);
    let opened = OpenOptions::new().write(true).create_new(true).open(&part);
    let mut file = opened.with_context(|| format!("making {}", part.display()))?;
    let copied = copy(answer, &mut file, progress).and_then(|counted| {
        file.sync_all().and_then(|()| settle(&part, path, force)).map_err(Copying::Write)?;
        Ok(counted)
    });
    if copied.is_err() {
        let _ = remove_file(&part);
    }
    Ok(copied)
}

fn settle(part: &Path, path: &Path, force: bool) -> io::Result<()> {
    if force {
        return rename(part, path);
    }
    // Somebody may have made it meanwhile.
    std::fs::hard_link(part, path)?;
    remove_file(part)
}

/// How long the collector may take for the next bytes.
pub(super) const NEXT_BYTES: Duration = Duration::from_secs(120);

/// What a file is read from: `-` is the standard input.
pub(super) fn open(path: &Path) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
    Ok((Box::new(file), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(text: &str) -> (Result<Counted, Copying>, String) {
        let mut out = Vec::new();
        let result = copy(text.as_bytes(), &mut out, &mut Progress::new("lines", false));
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn lines_are_copied_as_they_are_and_counted() {
        let text =
            "{\"host\":\"a\",\"at\":\"x\",\"zone\":\"\\\"gap\\\":{\"}\n{\"host\":\"a\",\"gap\":{\"from\":null}}\n";
        let (counted, out) = copied(text);
        assert_eq!((counted.unwrap(), out.as_str()), (Counted { samples: 1, gaps: 1 }, text));
    }

    #[test]
    fn an_export_that_says_that_it_failed_or_ends_within_a_line_is_an_error() {
        let (told, out) = copied("{\"host\":\"a\"}\n{\"error\":{\"code\":\"internal\",\"detail\":\"the disk\"}}\n");
        assert!(matches!(told, Err(Copying::Told(why)) if why == "the disk"));
        assert!(out.ends_with("}}\n"), "whoever keeps the output sees it, too: {out}");
        assert!(matches!(copied("{\"host\":\"a\"").0, Err(Copying::Read(_))));
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all_and_replaces_none_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let mut progress = Progress::new("lines", false);
        let broken = to_file(&b"{\"error\":{\"code\":\"x\",\"detail\":\"y\"}}\n"[..], &path, false, &mut progress);
        assert!(broken.unwrap().is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        to_file(&b"{}\n"[..], &path, false, &mut progress).unwrap().unwrap();
        assert!(to_file(&b"{\"b\":1}\n"[..], &path, false, &mut progress).unwrap().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
        to_file(&b"{\"b\":1}\n"[..], &path, true, &mut progress).unwrap().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"b\":1}\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
