//! `highwater capacity`: how near to its limits the fleet is, was and will be.

use anyhow::Context as _;
use clap::{Args, value_parser};

use super::args::Global;
use super::capacity_text::{Look, text};
use super::client::Client;
use super::exit::Exit;
use super::host::{fleet_instant, own_zone};
use super::{print, when};
use crate::api::json::CapacityJson;

/// Arguments of `capacity`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CapacityArgs {
    /// Only these limits: SEMMNI, SEMMNS, SHMMNI, SHMALL, MSGMNI
    #[arg(long, value_name = "R,..", value_delimiter = ',', ignore_case = true,
          value_parser = ["SEMMNI", "SEMMNS", "SHMMNI", "SHMALL", "MSGMNI"])]
    pub resource: Vec<String>,
    /// Peak, percentile and growth are of the time from then on, by the collector's clock [default: -30d]
    #[arg(short = 'S', long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub since: Option<String>,
    /// Only hosts with these labels
    #[arg(long, value_name = "K=V,..", value_delimiter = ',', value_parser = pair)]
    pub label: Vec<String>,
    /// Sums by the value of this label, or `namespace`: the host's own and others, by limit
    #[arg(long, value_name = "L")]
    pub group_by: Option<String>,
    /// Who would have been refused, and when first, under these limits; growth=F: if use above the lowest were F times
    /// what it is, and grew F times as fast
    #[arg(long, value_name = "R=N,..", value_delimiter = ',', value_parser = pair)]
    pub what_if: Vec<String>,
    /// The most entries [default: 10, of a --json document 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// Go on where a --json document ended: its next_cursor
    #[arg(long, value_name = "C")]
    pub cursor: Option<String>,
}

const EXAMPLES: &str = "PEAK is the most in use at once, P95 what 95 of 100 hours did not exceed, A WEEK the median pace of each day's lowest
(days on both sides of a restart are not compared; steady = no more than chance does), CEILING how many arrays of the
usual size the tighter of SEMMNI and SEMMNS allows. Hours in which a host could not be read count for nothing.

Examples:
  highwater capacity                                            the fleet in a page, ready to be pasted
  highwater capacity --resource SEMMNI --group-by namespace     containers have limits of their own
  highwater capacity --label role=oracle --group-by site -S -90d
  highwater capacity --what-if SEMMNI=250                       who would have been refused, and when first
  highwater capacity --what-if growth=1.5 --limit 50            and had use above its lowest been half as much again
  highwater capacity --json                                     for a program";

/// Asks and prints.
pub fn run(args: &CapacityArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let zone = own_zone();
    let mut parameters = Vec::new();
    if let Some(since) = &args.since {
        parameters.push(("since", fleet_instant(&client, since, &zone)?));
    }
    for (name, list) in [("resource", &args.resource), ("label", &args.label), ("what_if", &args.what_if)] {
        if !list.is_empty() {
            parameters.push((name, list.join(",")));
        }
    }
    parameters.extend(args.group_by.clone().map(|by| ("group_by", by)));
    let limit = args.limit.or((!global.wants_json()).then_some(SHOWN));
    parameters.extend(limit.map(|limit| ("limit", limit.to_string())));
    parameters.extend(args.cursor.clone().map(|cursor| ("cursor", cursor)));
    let answer = client.get("/capacity", &parameters)?;
    if global.wants_json() {
        print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
        return Ok(Exit::Answered);
    }
    let json: CapacityJson = client.read(&answer)?;
    let what_if = args.what_if.join(",");
    let look = Look { zone: &zone, color: global.wants_color(), what_if: &what_if, group_by: args.group_by.as_deref() };
    print::answer(text(&json, &look).as_bytes()).context("writing the answer")?;
    Ok(Exit::Answered)
}

/// Entries that a person is shown: the sums tell of the rest.
const SHOWN: u32 = 10;

fn pair(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("it is no KEY=VALUE".to_owned()),
    }
}
