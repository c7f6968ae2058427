//! `highwater flags`: what is going wrong, and what to do about it.

use anyhow::Context as _;
use clap::{Args, Subcommand, value_parser};
use highwater_ipc::time::parse_rfc3339_ms;
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::{Client, segment};
use super::exit::Exit;
use super::host::own_zone;
use super::table::{Tone, paint, table};
use super::{print, when};
use crate::api::json::{AcknowledgeJson, FlagJson, FlagSampleJson, FlagsJson, SilenceJson, SilencedJson};
use crate::thinning::kept;

/// The most lines of samples of one flag.
const MOST_SAMPLES: usize = 8;

/// Arguments of `flags`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct FlagsArgs {
    #[command(subcommand)]
    command: Option<FlagCommand>,
    /// Only this host's: name, id or unique prefix
    #[arg(value_name = "HOST")]
    host: Option<String>,
    /// Also flags that are over
    #[arg(long)]
    all: bool,
    /// Exit with 3 if any flag is up
    #[arg(long)]
    exit_code: bool,
    /// The most flags of one --json document [default: 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000))]
    limit: Option<u32>,
    /// Go on where a --json document ended: its next_cursor
    #[arg(long, value_name = "C")]
    cursor: Option<String>,
}

const EXAMPLES: &str = "Examples:
  highwater flags                                       what is going wrong, the newest first
  highwater flags web-17 --all                          what was wrong on one host, too
  highwater flag show 3f9a61c2d4e58b07                  one flag whole: why, who, what to do
  highwater flag ack 3f9a61c2d4e58b07 --note 'ticket 7'
  highwater flag silence web-17 --for 2h --note 'patching'
  highwater flags --exit-code                           for scripts: 3 = a flag is up";

/// What to do with one flag, or one host's.
#[derive(Debug, Subcommand)]
enum FlagCommand {
    /// One flag whole: what was seen and used, when the limit is reached, who holds it, what to do
    #[command(after_help = "Example:\n  highwater flag show 3f9a61c2d4e58b07")]
    Show {
        /// The flag's id, as `flags` shows it
        id: String,
    },
    /// Say that you know of it; it stays up until the danger is over
    #[command(after_help = "Example:\n  highwater flag ack 3f9a61c2d4e58b07 --note 'restart planned for tonight'")]
    Ack {
        /// The flag's id, as `flags` shows it
        id: String,
        /// What you know
        #[arg(long, value_name = "WORDS")]
        note: String,
    },
    /// Tell nobody of a host's flags for a while; they are judged and listed all the same
    #[command(after_help = "Examples:\n  highwater flag silence web-17 --for 2h --note 'patching'\n  \
                            highwater flag silence web-17 --for 0s --note 'done'")]
    Silence {
        /// Name, id or unique prefix
        host: String,
        /// How long: a number with s, m, h or d; 0s ends a silence
        #[arg(long = "for", value_name = "TIME")]
        time: super::token::Ttl,
        /// Why
        #[arg(long, value_name = "WORDS")]
        note: String,
    },
}

/// Does what was asked.
pub fn run(args: &FlagsArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let zone = own_zone();
    match &args.command {
        None => list(&client, args, global, &zone),
        Some(FlagCommand::Show { id }) => {
            let answer = client.get(&format!("/flags/{}", segment(id)), &[])?;
            one(&client, &answer, global, &zone)
        }
        Some(FlagCommand::Ack { id, note }) => {
            let document = serde_json::to_string(&AcknowledgeJson { note: note.clone() })?;
            let answer = client.post(&format!("/flags/{}/ack", segment(id)), &document)?;
            one(&client, &answer, global, &zone)
        }
        Some(FlagCommand::Silence { host, time, note }) => {
            let document = serde_json::to_string(&SilenceJson { for_ms: time.0, note: note.clone() })?;
            let answer = client.post(&format!("/hosts/{}/silence", segment(host)), &document)?;
            let silenced: SilencedJson = client.read(&answer)?;
            let text = if global.wants_json() {
                format!("{answer}\n")
            } else if time.0 == 0 {
                format!("{} is not silenced any more\n", silenced.host)
            } else {
                format!("{} is silenced until {}\n", silenced.host, shown(&silenced.until, &zone))
            };
            print::answer(text.as_bytes()).context("writing the answer")?;
            Ok(Exit::Answered)
        }
    }
}

fn list(client: &Client, args: &FlagsArgs, global: &Global, zone: &TimeZone) -> anyhow::Result<Exit> {
    let mut parameters = Vec::new();
    parameters.extend(args.host.clone().map(|host| ("host", host)));
    parameters.extend(args.all.then(|| ("all", "true".to_owned())));
    let (mut limit, mut cursor) = (args.limit, args.cursor.clone());
    let (mut flags, mut is_up, mut is_first) = (Vec::new(), false, true);
    loop {
        let mut page = parameters.clone();
        page.extend(limit.take().map(|limit| ("limit", limit.to_string())));
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer = client.get("/flags", &page)?;
        let json: FlagsJson = client.read(&answer)?;
        is_up |= json.flags.iter().any(|flag| flag.state != "cleared");
        cursor = json.next_cursor;
        if global.wants_json() {
            // One page is printed; the exit code is about all of them.
            if is_first {
                print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
            }
            if !args.exit_code || is_up {
                break;
            }
        } else {
            flags.extend(json.flags);
        }
        is_first = false;
        if cursor.is_none() {
            break;
        }
    }
    if !global.wants_json() {
        let text = listed(&flags, zone, global.wants_color());
        print::answer(text.as_bytes()).context("writing the answer")?;
    }
    Ok(if args.exit_code && is_up { Exit::Trouble } else { Exit::Answered })
}

fn one(client: &Client, answer: &str, global: &Global, zone: &TimeZone) -> anyhow::Result<Exit> {
    let flag: FlagJson = client.read(answer)?;
    let text = if global.wants_json() { format!("{answer}\n") } else { whole(&flag, zone, global.wants_color()) };
    print::answer(text.as_bytes()).context("writing the answer")?;
    Ok(Exit::Answered)
}

fn listed(flags: &[FlagJson], zone: &TimeZone, color: bool) -> String {
    if flags.is_empty() {
        return "no flag is up\n".to_owned();
    }
    let plain = |text: &str| (text.to_owned(), Tone::Plain);
    let rows: Vec<Vec<(String, Tone)>> = flags
        .iter()
        .map(|flag| {
            vec![
                (flag.severity.clone(), tone(flag)),
                plain(&flag.host),
                plain(&format!("{} {}/{}", flag.resource, flag.used_u64, flag.limit_u64)),
                plain(&flag.kind),
                plain(&flag.eta.as_deref().map_or_else(|| "-".to_owned(), |eta| shown(eta, zone))),
                plain(&owner(flag)),
                plain(&if flag.follows.is_some() { format!("{}, follows", flag.state) } else { flag.state.clone() }),
                plain(&shown(&flag.raised_at, zone)),
                plain(&flag.id),
            ]
        })
        .collect();
    table(&["SEVERITY", "HOST", "LIMIT", "KIND", "FULL AT", "HOLDER", "STATE", "RAISED", "ID"], &rows, color)
}

fn tone(flag: &FlagJson) -> Tone {
    match (flag.state.as_str(), flag.severity.as_str()) {
        ("cleared", _) => Tone::Faint,
        (_, "critical") => Tone::Bad,
        _ => Tone::Warn,
    }
}

fn owner(flag: &FlagJson) -> String {
    let Some(owner) = &flag.owner else { return "?".to_owned() };
    let name = owner.user.clone().unwrap_or_else(|| format!("uid {}", owner.uid));
    let comm = owner.comm.as_ref().map(|comm| format!(" {comm}")).unwrap_or_default();
    let orphans = if owner.orphans > 0 { format!(" ({} orphans)", owner.orphans) } else { String::new() };
    format!("{name}{comm} {}{orphans}", owner.arrays)
}

/// One flag, as a person reads it.
fn whole(flag: &FlagJson, zone: &TimeZone, color: bool) -> String {
    let head = format!("{} {} of {}: {}", flag.severity, flag.kind, flag.host, flag.resource);
    let mut text = format!("{}  {}\n", paint(&head, tone(flag), color), flag.id);
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:9} {value}\n"));
    line("why", &flag.why);
    line("used", &format!("{} of {} in namespace {}", flag.used_u64, flag.limit_u64, flag.namespace));
    for (place, sample) in some_of(flag.samples.as_deref().unwrap_or_default()).into_iter().enumerate() {
        let name = if place == 0 { "samples" } else { "" };
        line(name, &format!("{}  {} of {}", shown(&sample.at, zone), sample.used_u64, sample.limit_u64));
    }
    if let Some(growth) = flag.growth_per_hour {
        line("growth", &format!("{growth:.2} an hour"));
    }
    if let Some(eta) = &flag.eta {
        let ends = [flag.eta_low.as_ref(), flag.eta_high.as_ref()];
        let [low, high] = ends.map(|end| end.map_or_else(|| "never".to_owned(), |end| shown(end, zone)));
        line("full at", &format!("{}, four times in five from {low} to {high}", shown(eta, zone)));
    }
    if let Some(cause) = &flag.cause {
        line("cause", &cause.words);
    }
    if let Some(leader) = &flag.follows {
        line("follows", &format!("flag {leader}, which is told in its place"));
    }
    line("holder", &owner(flag));
    line("raised", &shown(&flag.raised_at, zone));
    for event in flag.events.iter().skip(1) {
        line("", &format!("{} {} ({})", shown(&event.at, zone), event.what, event.severity));
    }
    if let Some(note) = &flag.note {
        line("known", &format!("{} by {}: {}", shown(&note.at, zone), note.by, note.note));
    }
    if let Some(until) = &flag.silenced_until {
        line("silenced", &format!("until {}", shown(until, zone)));
    }
    for (number, step) in (1..).zip(&flag.remedy) {
        text.push_str(&format!("{number}. {}\n", step.step));
        if let Some(command) = &step.command {
            text.push_str(&format!("     {command}\n"));
        }
        if !step.risk.is_empty() {
            text.push_str(&format!("   {}\n", paint(&format!("risk: {}", step.risk), Tone::Faint, color)));
        }
    }
    text
}

/// As many samples as a person looks at.
fn some_of(samples: &[FlagSampleJson]) -> Vec<&FlagSampleJson> {
    // A number that does not read is of no matter here: it is shown as it came, if it is among them.
    let used: Vec<u64> = samples.iter().map(|sample| sample.used_u64.parse().unwrap_or(0)).collect();
    kept(&used, MOST_SAMPLES).into_iter().filter_map(|place| samples.get(place)).collect()
}

fn shown(at: &str, zone: &TimeZone) -> String {
    parse_rfc3339_ms(at).map_or_else(|| at.to_owned(), |ms| when::show(ms, zone))
}
