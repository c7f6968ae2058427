//! `highwater timeline`: what happened on a host, in order.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use clap::Args;
use highwater_ipc::object::Kind;
use highwater_ipc::time::parse_rfc3339_ms;

use super::args::Global;
use super::client::Client;
use super::event_text::{Look, events};
use super::exit::Exit;
use super::host::{Asked, own_zone, say_notes};
use super::ipcs::HostZone;
use super::{print, when};
use crate::api::json::{EventJson, TimelineJson};

/// Arguments of `timeline`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct TimelineArgs {
    /// Exact name, id or unique prefix of a host; omitted = this machine
    pub host: Option<String>,
    /// From this instant of the host's clock on [default: 24 h before --until]
    #[arg(short = 'S', long, value_name = "T", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Up to this instant of the host's clock [default: now]
    #[arg(short = 'U', long, value_name = "T", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Only these kinds: created, removed, changed, limit_changed, reboot, clock_step, gap, agent_started, agent_stopped,
    /// namespace_appeared, namespace_gone
    #[arg(long, value_name = "K,..", value_delimiter = ',')]
    pub kind: Vec<String>,
    /// The most events of one --json document [default: 1000]
    #[arg(long, value_name = "N")]
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

/// When an object came and went, as far as it was recorded.
pub struct Life {
    created: Option<EventJson>,
    removed: Option<EventJson>,
}

/// The pages that a search for an object's life reads at most.
const LIFE_PAGES: usize = 64;

/// The life of the object that had this kind and id at an instant.
pub fn life(client: &Client, asked: &Asked, (kind, id): (Kind, i32), at: &str) -> anyhow::Result<Life> {
    let mut life = Life { created: None, removed: None };
    let mut cursor = None;
    for _ in 0..LIFE_PAGES {
        let mut parameters = vec![
            ("since", "1970-01-01T00:00:00Z".to_owned()),
            ("kind", "created,removed,reboot".to_owned()),
            ("subject", format!("{}:{id}", kind.name())),
        ];
        parameters.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let json: TimelineJson = client.read(&client.get(&asked.path("timeline"), &parameters)?)?;
        for event in json.events {
            life.learn(event, at);
        }
        match json.next_cursor {
            Some(next) if life.removed.is_none() => cursor = Some(next),
            _ => return Ok(life),
        }
    }
    Ok(life)
}

impl Life {
    fn learn(&mut self, event: EventJson, at: &str) {
        let before = parse_rfc3339_ms(&event.at) <= parse_rfc3339_ms(at);
        match (event.kind.as_str(), before) {
            ("created", true) => self.created = Some(event),
            // What ended before the instant belongs to an earlier object of that id.
            ("removed" | "reboot", true) => self.created = None,
            ("removed" | "reboot", false) if self.removed.is_none() => self.removed = Some(event),
            _ => {}
        }
    }

    /// Two lines more below the object's fields; `is_now` = the fields are of now.
    pub fn words(&self, is_now: bool, zone: &HostZone) -> String {
        let show =
            |text: &String| parse_rfc3339_ms(text).map_or_else(|| text.clone(), |ms| when::show(ms, zone.zone()));
        let span = |event: &EventJson| match &event.detail.not_before {
            Some(before) => format!("between {} and {}", show(before), show(&event.at)),
            None => show(&event.at),
        };
        let created = match &self.created {
            Some(event) => span(event),
            None => "before the first sample".to_owned(),
        };
        let removed = match (&self.removed, is_now) {
            (Some(event), _) => span(event),
            (None, true) => "not yet".to_owned(),
            (None, false) => "not by the last sample".to_owned(),
        };
        format!("created={created}\nremoved={removed}\n")
    }
}
