//! `highwater explain`: an application's error text -> the limit, the moment, who holds it, who was refused, what to do.

use std::io::Read as _;

use anyhow::Context as _;
use clap::Args;
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::Client;
use super::event_text::{holder_words, user};
use super::exit::Exit;
use super::host::{Asked, MayBe, gap_words, own_zone, read_may_be, say_notes, show_instant};
use super::table::{Tone, paint};
use super::{print, when};
use crate::api::json::{ExplainJson, LookedJson, OtherJson};

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// What the program wrote, one or a few lines; `-` = read it from standard input
    #[arg(value_name = "LOG LINE")]
    pub message: String,
    /// Exact name, id or unique prefix of the host it was written on [default: this machine]
    #[arg(long, value_name = "H")]
    pub host: Option<String>,
    /// When, by the host's clock, within ten minutes [default: lately]
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub at: Option<String>,
}

const EXAMPLES: &str = "Examples:
  highwater explain 'sem_get(): failed for key 0x6602b303: No space left on device' --host web-17
  highwater explain 'could not create semaphores: No space left on device' --host db-3 --at '2026-11-24 03:12'
  highwater explain -              paste lines that hold quotes, then Ctrl-D
  grep AH00023 error_log | tail -1 | highwater explain - --json

Without --at the latest refusal of the last 24 hours that fits is explained, else the present.";

/// The most bytes read of standard input; the collector takes less.
const MOST_INPUT: u64 = 64 << 10;

/// The most limits listed that were looked at.
const MOST_LOOKED: usize = 6;

/// Asks and prints.
pub fn run(args: &ExplainArgs, global: &Global) -> anyhow::Result<Exit> {
    let message = if args.message == "-" { read_input()? } else { args.message.clone() };
    let client = Client::from_environment()?;
    let zone = own_zone();
    let asked = Asked::new(args.host.as_deref(), &client)?;
    let mut parameters = vec![("message", message)];
    if let Some(at) = &args.at {
        parameters.push(("at", asked.instant(&client, at, &zone)?));
    }
    let answer = client.get(&asked.path("explain"), &parameters)?;
    if global.wants_json() {
        print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
    }
    match read_may_be::<ExplainJson>(&client, &answer)? {
        MayBe::Gap(gap) => {
            say_notes(&gap.host, &gap.notes, gap.skew_ms);
            eprintln!("highwater: {}", gap_words(&gap, "explain 'LOG LINE' --host", &zone));
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

fn read_input() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(MOST_INPUT).read_to_end(&mut bytes).context("reading the line from standard input")?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The answer for a person: what it was, where, who, what to do.
fn text(json: &ExplainJson, zone: &TimeZone, color: bool) -> String {
    let product = json.product.as_deref().unwrap_or("unknown product");
    let guessed = if json.call_guessed { " (guessed)" } else { "" };
    let call = json.call.as_ref().map_or_else(String::new, |call| format!("  {call}{guessed}"));
    let errno = json.errno.as_ref().map_or_else(String::new, |errno| format!(" {errno}"));
    let head = format!("{}  {}  {product}{call}{errno}", json.host, show_instant(&json.at, zone));
    let mut out = paint(&head, Tone::Strong, color) + "\n";
    out.push_str(&verdict(json, color));
    let mut line = |label: &str, words: String| out.push_str(&format!("{label:<8}{words}\n"));
    if let Some(namespace) = json.namespace {
        line("where", place(namespace, json.namespace_name.as_deref(), json.own_namespace));
    }
    if let Some(holder) = &json.holder {
        line("holder", holder_words(holder, zone).trim_start().to_owned());
    }
    if json.others_hold > 0 {
        line("others", others(json));
    }
    if let Some(words) = victim(json) {
        line("victim", words);
    }
    if let (Some(removed), Some(after)) = (&json.removed, &json.removed_after) {
        line("when", format!("{} {} was there until {} at least", removed.kind, removed.id, show_instant(after, zone)));
    }
    if let Some(words) = remover(json) {
        line("by", words);
    }
    if json.verdict == "not_reached" {
        for looked in json.looked_at.iter().take(MOST_LOOKED) {
            line("looked", looked_words(looked));
        }
    }
    for gap in &json.gaps {
        let bound = |text: &Option<String>| text.as_ref().map_or_else(|| "?".to_owned(), |t| show_instant(t, zone));
        line("gap", format!("{} .. {}: nothing is known of that time", bound(&gap.from), bound(&gap.to)));
    }
    if let Some(know) = &json.know {
        line("know", know.clone());
    }
    out.push_str(&remedy(json, color));
    out
}

/// `It was SEMMNI 128/128, not the disk: a traced semget was refused by it`.
fn verdict(json: &ExplainJson, color: bool) -> String {
    let limit = |json: &ExplainJson| {
        let (resource, limit) = (json.resource.as_deref()?, json.limit_u64.as_deref()?);
        Some(
            json.used_u64
                .as_ref()
                .map_or_else(|| format!("{resource} {limit}"), |used| format!("{resource} {used}/{limit}")),
        )
    };
    let disk = if json.errno.as_deref() == Some("ENOSPC") { ", not the disk" } else { "" };
    let (said, tone) = match (json.verdict.as_str(), limit(json)) {
        ("refused" | "full" | "too_much", Some(limit)) => (format!("It was {limit}{disk}"), Tone::Bad),
        ("near", Some(limit)) => (format!("It was probably {limit}{disk}"), Tone::Warn),
        ("not_reached", _) => (format!("No limit was near{disk}"), Tone::Warn),
        ("no_sysvipc", _) => ("No System V IPC for that program".to_owned(), Tone::Bad),
        ("removed", _) => ("The object was removed".to_owned(), Tone::Bad),
        ("not_known", _) => ("Not known".to_owned(), Tone::Warn),
        _ => ("No limit".to_owned(), Tone::Warn),
    };
    format!("{}: {}\n", paint(&said, tone, color), json.why)
}

/// `namespace 4026531839, the host's own`.
fn place(inode: u64, name: Option<&str>, own: Option<bool>) -> String {
    let what = match (own, name) {
        (Some(true), _) => ", the host's own".to_owned(),
        (_, Some(name)) => format!(" {name}"),
        _ => String::new(),
    };
    format!("namespace {inode}{what}")
}

/// `32: postgres(26) postgres 20, zabbix(110) zabbix_server 12; leave them`.
fn others(json: &ExplainJson) -> String {
    let one = |other: &OtherJson| {
        let comm = other.comm.as_ref().map_or_else(String::new, |comm| format!(" {comm}"));
        format!("{}{comm} {}", user(other.user.as_deref(), Some(other.uid)), other.arrays)
    };
    let listed: Vec<String> = json.others.iter().map(one).collect();
    let held: u64 = json.others.iter().map(|other| other.arrays).fold(0, u64::saturating_add);
    let more = json.others_hold.saturating_sub(held);
    let more = if more > 0 { format!(", and {more} of others") } else { String::new() };
    let orphans = json.others.iter().any(|other| other.orphans > 0);
    let leave = if orphans { "" } else { "; leave them" };
    format!("{}: {}{more}{leave}", json.others_hold, listed.join(", "))
}

/// `php-fpm (pid 13808) as www-data(33), 17 calls`; why there is none, where one should be.
fn victim(json: &ExplainJson) -> Option<String> {
    let Some(victim) = &json.victim else {
        let expected = matches!(json.verdict.as_str(), "full" | "near" | "too_much");
        let why = if json.traced {
            "no refused call was traced around that time"
        } else {
            "refused calls are not traced on this host"
        };
        return expected.then(|| format!("not known: {why}"));
    };
    let who = victim.uid.map_or_else(String::new, |uid| format!(" as {}", user(victim.user.as_deref(), Some(uid))));
    let count = if victim.count > 1 { format!(", {} calls", victim.count) } else { String::new() };
    let other = if victim.is_its_own { "" } else { "; no refusal of that product was traced, this one met the same" };
    Some(format!("{} (pid {}){who}{count}{other}", victim.comm, victim.pid))
}

fn remover(json: &ExplainJson) -> Option<String> {
    let by = json.remover.as_ref()?;
    let who = by.uid.map_or_else(String::new, |uid| format!(" as {}", user(by.user.as_deref(), Some(uid))));
    let parent = by.parent.as_ref().map_or_else(String::new, |parent| format!(", run by {parent}"));
    Some(format!("{} (pid {}){who}{parent}", by.comm, by.pid))
}

fn looked_words(looked: &LookedJson) -> String {
    let used = looked.used_u64.as_deref().unwrap_or("?");
    let place = place(looked.namespace, looked.namespace_name.as_deref(), looked.own_namespace);
    format!("{} {used}/{} in {place}", looked.resource, looked.limit_u64)
}

fn remedy(json: &ExplainJson, color: bool) -> String {
    if json.remedy.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{}\n", paint("What to do", Tone::Strong, color));
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
mod tests;
