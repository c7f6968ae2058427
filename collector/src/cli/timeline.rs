//! `highwater timeline`: what happened on a host, in order.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Args, value_parser};

use super::args::Global;
use super::client::Client;
use super::event_text::{Look, events};
use super::exit::Exit;
use super::host::{Asked, own_zone, say_notes};
use super::{print, when};
use crate::api::json::{EventKind, TimelineJson};

/// Arguments of `timeline`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TimelineArgs {
    /// Exact name, id or unique prefix of a host; omitted = this machine
    pub host: Option<String>,
    /// From this instant of the host's clock on [default: 24 h before --until]
    #[arg(short = 'S', long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub since: Option<String>,
    /// Up to this instant of the host's clock [default: now]
    #[arg(short = 'U', long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub until: Option<String>,
    /// Only these kinds
    #[arg(long, value_name = "K,..", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(EventKind::ALL.map(|(_, name)| name)))]
    pub kind: Vec<String>,
    /// The most events of one --json document [default: 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// Go on where a --json document ended: its next_cursor
    #[arg(long, value_name = "C")]
    pub cursor: Option<String>,
}

const EXAMPLES: &str = "Examples:
  highwater timeline web-17 -S -2h                         the last two hours
  highwater timeline web-17 -S 03:00 -U 04:00              one hour of tonight
  highwater timeline --kind created,removed -S yesterday   what came and went on this machine
  highwater timeline web-17 --kind limit_changed,reboot -S -90d --json";

/// Asks page after page and prints.
pub fn run(args: &TimelineArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let zone = own_zone();
    let asked = Asked::new(args.host.as_deref(), &client)?;
    let mut parameters = Vec::new();
    for (name, text) in [("since", &args.since), ("until", &args.until)] {
        if let Some(text) = text {
            parameters.push((name, asked.instant(&client, text, &zone)?));
        }
    }
    if !args.kind.is_empty() {
        parameters.push(("kind", args.kind.join(",")));
    }
    parameters.extend(args.limit.map(|limit| ("limit", limit.to_string())));
    if global.wants_json() {
        parameters.extend(args.cursor.clone().map(|cursor| ("cursor", cursor)));
        let answer = client.get(&asked.path("timeline"), &parameters)?;
        print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
        let json: TimelineJson = client.read(&answer)?;
        say_notes(&json.host, &json.notes, json.skew_ms);
        return Ok(Exit::Answered);
    }
    let look = Look { zone: &zone, color: global.wants_color(), date_headings: std::io::stdout().is_terminal() };
    let mut last_date = String::new();
    let mut first = true;
    let mut cursor = args.cursor.clone();
    loop {
        let mut page = parameters.clone();
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let json: TimelineJson = client.read(&client.get(&asked.path("timeline"), &page)?)?;
        if first {
            say_notes(&json.host, &json.notes, json.skew_ms);
            first = false;
            // Later pages end where the first one did: `now` has moved on.
            parameters.retain(|(name, _)| !["since", "until"].contains(name));
            parameters.push(("since", json.since.clone()));
            parameters.push(("until", json.until.clone()));
        }
        print::answer(events(&json.events, &look, &mut last_date).as_bytes()).context("writing the answer")?;
        match json.next_cursor {
            Some(next) => cursor = Some(next),
            None => return Ok(Exit::Answered),
        }
    }
}
