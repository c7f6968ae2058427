//! `highwater blame`: whose objects grew between two instants, what of them nobody holds any more, and what to do.

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Args, value_parser};
use highwater_ipc::object::Kind;
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::host::{Asked, MayBe, gap_words, own_zone, read_may_be, say_notes, show_instant};
use super::table::{Tone, paint, table};
use super::{amount, fleet_blame, print, when};
use crate::api::json::{BlameJson, OwnerGrowthJson};

/// Arguments of `blame`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BlameArgs {
    /// Exact name, id or unique prefix of a host; omitted = this machine
    pub host: Option<String>,
    /// Only objects of these kinds
    #[arg(long, value_name = "K,..", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::name)))]
    pub kind: Vec<String>,
    /// Growth from this instant of the host's clock on [default: 24 h before --until, or the host's first sample]
    #[arg(short = 'S', long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub since: Option<String>,
    /// Up to this instant of the host's clock [default: now]
    #[arg(short = 'U', long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub until: Option<String>,
    /// All hosts, by the collector's clock, from what is kept of owners by the hour
    #[arg(long, conflicts_with = "host")]
    pub fleet: bool,
    /// With --fleet: the most owners of one --json document [default: 1000]
    #[arg(long, value_name = "N", requires = "fleet", value_parser = value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// With --fleet: go on where a --json document ended, its next_cursor
    #[arg(long, value_name = "C", requires = "fleet")]
    pub cursor: Option<String>,
}

const EXAMPLES: &str = "Examples:
  highwater blame web-17                       who grew since yesterday, what of it is orphaned, what to do
  highwater blame web-17 --kind sem -S -7d     semaphore arrays, a week
  highwater blame -S 03:00 -U 04:00 --json     this machine, one hour of tonight, for a program
  highwater blame --fleet --kind sem -S -30d   who in the whole fleet grew in a month";

/// Asks and prints.
pub fn run(args: &BlameArgs, global: &Global) -> anyhow::Result<Exit> {
    if args.fleet {
        return fleet_blame::run(args, global);
    }
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
    let answer = client.get(&asked.path("blame"), &parameters)?;
    if global.wants_json() {
        print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
    }
    match read_may_be::<BlameJson>(&client, &answer)? {
        MayBe::Gap(gap) => {
            say_notes(&gap.host, &gap.notes, gap.skew_ms);
            eprintln!("highwater: {}", gap_words(&gap, "ipcs", &zone));
            Ok(Exit::NoData)
        }
        MayBe::Data(json) => {
            say_notes(&json.host, &json.notes, json.skew_ms);
            if !global.wants_json() {
                print::answer(text(&json, &zone, global.wants_color()).as_bytes()).context("writing the answer")?;
            }
            Ok(Exit::Answered)
        }
    }
}

fn text(json: &BlameJson, zone: &TimeZone, color: bool) -> String {
    let why = match json.since_is.as_str() {
        "first_sample" => " (since its first sample)",
        "day_before" => " (a day)",
        _ => "",
    };
    let (since, until) = (show_instant(&json.since, zone), show_instant(&json.until, zone));
    let mut out = paint(&format!("{}  {since} .. {until}{why}", json.host), Tone::Strong, color) + "\n";
    for gap in &json.gaps {
        let bound = |text: &Option<String>| text.as_ref().map_or_else(|| "?".to_owned(), |t| show_instant(t, zone));
        let reason = gap.reason.as_deref().unwrap_or("?");
        out.push_str(&format!("gap  {} .. {}  {reason}: ", bound(&gap.from), bound(&gap.to)));
        out.push_str("what came and went in it is not known\n");
    }
    for list in &json.unknown {
        out.push_str(&format!("not told  {} of namespace {}: ", list.kind, list.namespace));
        out.push_str("it could not be read whole at one of the instants\n");
    }
    if json.owners.is_empty() {
        return out + "nobody holds anything\n";
    }
    let rows: Vec<_> = json.owners.iter().map(row).collect();
    let headings = ["OWNER", "COMM", "KIND", "BEFORE", "AFTER", "NET", "SEMAPHORES", "BYTES", "ORPHANS", "NAMESPACE"];
    out.push_str(&table(&headings, &rows, color));
    out.push_str(&remedy_words(json, color));
    out
}

fn row(owner: &OwnerGrowthJson) -> Vec<(String, Tone)> {
    let plain = |text: String| (text, Tone::Plain);
    let grew = if owner.net > 0 { Tone::Warn } else { Tone::Plain };
    let semaphores = if owner.kind == "sem" { format!("{:+}", owner.semaphores_net) } else { "-".to_owned() };
    let bytes = if owner.kind == "sem" { "-".to_owned() } else { amount::signed_bytes(&owner.bytes_net_u64) };
    vec![
        plain(user(owner)),
        plain(owner.comm.clone().unwrap_or_else(|| "?".to_owned())),
        plain(owner.kind.clone()),
        plain(owner.arrays_before.to_string()),
        plain(owner.arrays_after.to_string()),
        (format!("{:+}", owner.net), grew),
        plain(semaphores),
        plain(bytes),
        (orphans(owner), if owner.orphans > 0 { Tone::Bad } else { Tone::Faint }),
        plain(match &owner.namespace_name {
            Some(name) => format!("{} {name}", owner.namespace),
            None => owner.namespace.to_string(),
        }),
    ]
}

fn user(owner: &OwnerGrowthJson) -> String {
    match &owner.user {
        Some(user) => format!("{user}({})", owner.uid),
        None => format!("uid {}", owner.uid),
    }
}

/// `9: 7 certain, 2 likely`; `8: 8 unattached, 1.06 GiB`.
fn orphans(owner: &OwnerGrowthJson) -> String {
    let grades = [
        (owner.orphans_certain, "certain"),
        (owner.orphans_likely, "likely"),
        (owner.orphans_unattached, "unattached"),
    ];
    let told: Vec<String> = grades.iter().filter(|(n, _)| *n > 0).map(|(n, grade)| format!("{n} {grade}")).collect();
    if told.is_empty() {
        return "0".to_owned();
    }
    let bytes = owner.orphan_bytes_u64.parse().unwrap_or(0_u64);
    let bytes = if bytes > 0 { format!(", {}", amount::bytes(bytes)) } else { String::new() };
    format!("{}: {}{bytes}", owner.orphans, told.join(", "))
}

/// What to do for the first owner with certain orphans, in order.
fn remedy_words(json: &BlameJson, color: bool) -> String {
    let Some(owner) = json.owners.iter().find(|o| o.orphans_certain > 0).filter(|_| !json.remedy.is_empty()) else {
        return String::new();
    };
    let comm = owner.comm.as_ref().map_or_else(String::new, |comm| format!(" {comm}"));
    let certain = owner.orphans_certain;
    let noun = if certain == 1 { "orphan" } else { "orphans" };
    let head = format!("What to do about {}{comm}, {certain} certain {noun}", user(owner));
    let mut out = format!("\n{}\n", paint(&head, Tone::Strong, color));
    for (number, step) in json.remedy.iter().enumerate() {
        out.push_str(&format!("{}. {}\n", number.saturating_add(1), step.step));
        if let Some(command) = &step.command {
            out.push_str(command);
            out.push('\n');
        }
        if !step.risk.is_empty() {
            out.push_str(&format!("   risk: {}\n", step.risk));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const APACHE: &str = r#"{"host":"web-17","namespace":4026531839,"namespace_name":null,"kind":"sem","uid":33,
        "user":"www-data","comm":"apache2","arrays_before":1,"arrays_after":9,"net":8,"semaphores_net":8,
        "bytes_net_u64":"0","orphans":9,"orphans_certain":7,"orphans_likely":2,"orphans_unattached":0,
        "orphan_bytes_u64":"0"}"#;
    const POD: &str = r#"{"host":"web-17","namespace":4026532201,"namespace_name":"pause","kind":"shm","uid":26,
        "user":null,"comm":null,"arrays_before":9,"arrays_after":8,"net":-1,"semaphores_net":0,
        "bytes_net_u64":"-142606336","orphans":8,"orphans_certain":0,"orphans_likely":0,"orphans_unattached":8,
        "orphan_bytes_u64":"1140850688"}"#;

    fn shown(owners: &str, unknown: &str, remedy: &str) -> String {
        let json = format!(
            r#"{{"host":"web-17","host_id":"ab","since":"2026-11-24T03:00:00.000Z","since_is":"first_sample",
            "until":"2026-11-24T04:00:00.000Z","skew_ms":0,"gaps":[],"owners":[{owners}],"unknown":[{unknown}],
            "remedy":[{remedy}]}}"#
        );
        text(&serde_json::from_str(&json).unwrap(), &TimeZone::UTC, false)
    }

    #[test]
    fn owners_are_a_table_and_below_it_is_what_to_do_about_the_first_with_certain_orphans() {
        let remedy = r#"{"step":"raise SEMMNI to 256","command":"sysctl -w x","risk":"none"},
            {"step":"remove 7 arrays","command":"R='1'; ipcrm","risk":"a program that counts on them"}"#;
        assert_eq!(
            shown(&format!("{POD},{APACHE}"), "", remedy),
            "\
web-17  2026-11-24 03:00:00 +0000 .. 2026-11-24 04:00:00 +0000 (since its first sample)
OWNER         COMM     KIND  BEFORE  AFTER  NET  SEMAPHORES  BYTES     ORPHANS                    NAMESPACE
uid 26        ?        shm   9       8      -1   -           -136 MiB  8: 8 unattached, 1.06 GiB  4026532201 pause
www-data(33)  apache2  sem   1       9      +8   +8          -         9: 7 certain, 2 likely     4026531839

What to do about www-data(33) apache2, 7 certain orphans
1. raise SEMMNI to 256
sysctl -w x
   risk: none
2. remove 7 arrays
R='1'; ipcrm
   risk: a program that counts on them
"
        );
    }

    #[test]
    fn what_is_not_known_is_said_and_nothing_is_prescribed_without_certain_orphans() {
        let unknown = r#"{"namespace":4026531839,"kind":"sem"}"#;
        let text = shown(POD, unknown, "");
        assert!(text.contains("\nnot told  sem of namespace 4026531839: it could not be read whole"), "{text}");
        assert!(!text.contains("What to do"), "{text}");
        assert!(shown("", "", "").ends_with("nobody holds anything\n"));
    }
}
