//! `highwater find`: an object across fleet and time.

use anyhow::Context as _;
use clap::{Args, value_parser};
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::host::{fleet_instant, is_skew_shown, own_zone, show_instant};
use super::table::{Tone, table};
use super::{print, when};
use crate::api::json::{FindJson, MatchJson};

/// Arguments of `find`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct FindArgs {
    /// What to look for: FIELD=VALUE terms joined with commas, all of which must hold (quote it for the shell)
    pub expr: String,
    /// At this instant of the collector's clock [default: now]
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed,
          conflicts_with_all = ["since", "until"])]
    pub at: Option<String>,
    /// Whatever was there from this instant on, with its life
    #[arg(short = 'S', long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub since: Option<String>,
    /// Up to this instant [default: now]
    #[arg(short = 'U', long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed,
          requires = "since")]
    pub until: Option<String>,
    /// The most matches of one --json document [default: 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// Go on where a --json document ended: its next_cursor
    #[arg(long, value_name = "C")]
    pub cursor: Option<String>,
}

const EXAMPLES: &str =
    "Terms: FIELD, then = != > >= < <=, then a value. Before a field sem. shm. or msg. means that kind only.
  key        0x0d4d1234, 0x0d4d* (all that begin so), a decimal number, or private
  uid gid cuid cgid   a number or a name; user=NAME, comm=NAME, with * at the end for all that begin so
  size nattch (segments)  nsems (arrays)  cbytes qnum (queues)  id  perms (octal)  namespace (inode); size>1G: K M G T
  orphan     certain, likely, unattached, any or none
  kind       sem, shm or msg
  host       how the host's name begins

Examples:
  highwater find 'sem.key=0x0d4d*'                     every host that holds such an array now
  highwater find 'shm.size>1G,orphan=any'              large segments that nobody seems to hold
  highwater find uid=oracle,host=db --at yesterday     what a user held then
  highwater find comm=httpd,nsems=1 -S -7d             what came and went in a week, from when to when
  highwater find key=0x51001002 -S -30d --json         for a program";

/// Asks page after page and prints.
pub fn run(args: &FindArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let zone = own_zone();
    let mut parameters = vec![("expr", args.expr.clone())];
    for (name, text) in [("at", &args.at), ("since", &args.since), ("until", &args.until)] {
        if let Some(text) = text {
            parameters.push((name, fleet_instant(&client, text, &zone)?));
        }
    }
    parameters.extend(args.limit.map(|limit| ("limit", limit.to_string())));
    let mut cursor = args.cursor.clone();
    let (mut told, mut found) = (Vec::new(), 0_usize);
    loop {
        let mut page = parameters.clone();
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer = client.get("/find", &page)?;
        let json: FindJson = client.read(&answer)?;
        for note in notes(&json).into_iter().filter(|note| !told.contains(note)).collect::<Vec<_>>() {
            eprintln!("highwater: note: {note}");
            told.push(note);
        }
        if global.wants_json() {
            print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
            return Ok(Exit::Answered);
        }
        found = found.saturating_add(json.matches.len());
        if !json.matches.is_empty() {
            let text = text(&json.matches, &zone, global.wants_color());
            print::answer(text.as_bytes()).context("writing the answer")?;
        }
        // Later pages are of the span of the first one: `now` has moved on.
        if let (Some(since), Some(until)) = (json.since, json.until) {
            parameters.retain(|(name, _)| !["since", "until"].contains(name));
            parameters.extend([("since", since), ("until", until)]);
        }
        match json.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if found == 0 {
        eprintln!("highwater: no object matches");
    }
    Ok(Exit::Answered)
}

/// What a person should know about one page.
fn notes(json: &FindJson) -> Vec<String> {
    let mut notes = json.notes.clone();
    let mut hosts: Vec<&str> =
        json.matches.iter().filter(|m| is_skew_shown(m.skew_ms)).map(|m| m.host.as_str()).collect();
    hosts.dedup();
    if let Some((first, more)) = hosts.split_first() {
        let more = if more.is_empty() { String::new() } else { format!(" and those of {} more hosts", more.len()) };
        notes.push(format!(
            "the clock of {first}{more} differs from the collector's; times are by the collector's clock"
        ));
    }
    notes
}

fn text(matches: &[MatchJson], zone: &TimeZone, color: bool) -> String {
    let rows: Vec<_> = matches.iter().map(|found| row(found, zone)).collect();
    table(&["HOST", "KIND", "KEY", "ID", "OWNER", "COMM", "FROM", "TO", "NAMESPACE"], &rows, color)
}

fn row(found: &MatchJson, zone: &TimeZone) -> Vec<(String, Tone)> {
    let plain = |text: String| (text, Tone::Plain);
    let from = show_instant(&found.from, zone);
    let owner = match &found.user {
        Some(user) => format!("{user}({})", found.uid),
        None => format!("uid {}", found.uid),
    };
    let (to, tone) = match (&found.to, found.to_is.as_deref()) {
        (None, _) => ("still there".to_owned(), Tone::Good),
        (Some(to), Some("reboot")) => (format!("{} (reboot)", show_instant(to, zone)), Tone::Plain),
        (Some(to), Some("last_sample")) => (format!("{} or later", show_instant(to, zone)), Tone::Warn),
        (Some(to), _) => (show_instant(to, zone), Tone::Plain),
    };
    vec![
        plain(found.host.clone()),
        plain(found.kind.clone()),
        plain(found.key.clone()),
        plain(found.id.to_string()),
        plain(owner),
        plain(found.comm.clone().unwrap_or_else(|| "?".to_owned())),
        plain(if found.from_is == "created" { from } else { format!("{from} or before") }),
        (to, tone),
        plain(match &found.namespace_name {
            Some(name) => format!("{} {name}", found.namespace),
            None => found.namespace.to_string(),
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(host: &str, more: &str) -> MatchJson {
        let json = format!(
            r#"{{"host":"{host}","host_id":"ab","namespace":4026531839,"namespace_name":null,"kind":"sem",
            "key":"0x0d4d1234","id":98304,"uid":33,"from":"2026-11-24T03:00:00.000Z",{more}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn what_was_found_is_a_table_that_says_how_sure_its_times_are() {
        let matches = [
            found(
                "web-1",
                r#""skew_ms":0,"user":"www-data","comm":"apache2","from_is":"created","to":null,"to_is":null"#,
            ),
            found(
                "web-2",
                r#""skew_ms":9,"user":null,"comm":null,"from_is":"seen","to":"2026-11-24T04:00:00.000Z","to_is":"removed""#,
            ),
            found(
                "web-3",
                r#""skew_ms":-9000,"user":null,"comm":null,"from_is":"seen","to":"2026-11-24T04:00:00.000Z","to_is":"last_sample""#,
            ),
        ];
        assert_eq!(
            text(&matches, &TimeZone::UTC, false),
            "\
HOST   KIND  KEY         ID     OWNER         COMM     FROM                                 TO                                  NAMESPACE
web-1  sem   0x0d4d1234  98304  www-data(33)  apache2  2026-11-24 03:00:00 +0000            still there                         4026531839
web-2  sem   0x0d4d1234  98304  uid 33        ?        2026-11-24 03:00:00 +0000 or before  2026-11-24 04:00:00 +0000           4026531839
web-3  sem   0x0d4d1234  98304  uid 33        ?        2026-11-24 03:00:00 +0000 or before  2026-11-24 04:00:00 +0000 or later  4026531839
"
        );
        let json = FindJson {
            matches: matches.to_vec(),
            next_cursor: None,
            expr: String::new(),
            at: None,
            since: None,
            until: None,
            notes: vec!["n".into()],
        };
        let clocks = "the clock of web-3 differs from the collector's; times are by the collector's clock";
        assert_eq!(notes(&json), ["n", clocks]);
    }
}
