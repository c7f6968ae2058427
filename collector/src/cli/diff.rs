//! `highwater diff`: what a host held at two instants, compared.

use anyhow::Context as _;
use clap::Args;
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::Client;
use super::event_text::{change_words, name_words, object_words};
use super::exit::Exit;
use super::host::{Asked, MayBe, gap_words, own_zone, read_may_be, say_notes, show_instant};
use super::table::{Tone, paint};
use super::{print, when};
use crate::api::json::{DiffJson, ObjectChangeJson, OwnerChangeJson};

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DiffArgs {
    /// Exact name, id or unique prefix of a host; omitted = this machine
    pub host: Option<String>,
    /// The first instant, by the host's clock
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub from: String,
    /// The second one
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed, default_value = "now")]
    pub to: String,
}

const EXAMPLES: &str = "Examples:
  highwater diff --from -1h                              this machine, an hour ago and now
  highwater diff web-17 --from yesterday --to today      a whole day
  highwater diff web-17 --from 03:00 --to 03:15 --json";

/// Asks and prints.
pub fn run(args: &DiffArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let zone = own_zone();
    let asked = Asked::new(args.host.as_deref(), &client)?;
    let from = asked.instant(&client, &args.from, &zone)?;
    let to = asked.instant(&client, &args.to, &zone)?;
    let answer = client.get(&asked.path("diff"), &[("from", from), ("to", to)])?;
    if global.wants_json() {
        print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
    }
    match read_may_be::<DiffJson>(&client, &answer)? {
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

fn text(json: &DiffJson, zone: &TimeZone, color: bool) -> String {
    let head = format!("{}  {} .. {}", json.host, show_instant(&json.from, zone), show_instant(&json.to, zone));
    let mut lines = vec![paint(&head, Tone::Strong, color)];
    let mut line = |word: &str, tone: Tone, rest: &str| {
        lines.push(format!("{}  {rest}", paint(&format!("{word:<7}"), tone, color)));
    };
    for gap in &json.gaps {
        let bound = |text: &Option<String>| text.as_ref().map_or_else(|| "?".to_owned(), |t| show_instant(t, zone));
        let reason = gap.reason.as_deref().unwrap_or("?");
        let (from, to) = (bound(&gap.from), bound(&gap.to));
        line("gap", Tone::Warn, &format!("{from} .. {to}  {reason}: what came and went in it is not known"));
    }
    for change in &json.objects {
        let tone = match change.change.as_str() {
            "added" => Tone::Good,
            "removed" => Tone::Bad,
            _ => Tone::Plain,
        };
        line(&change.change, tone, &change_text(change));
    }
    for limit in &json.limits {
        line("limit", Tone::Warn, &format!("{}  {} -> {}", limit.resource, limit.before_u64, limit.after_u64));
    }
    for owner in &json.owners {
        line("owner", Tone::Plain, &owner_text(owner));
    }
    for list in &json.unknown {
        let rest =
            format!("{} of namespace {}: it could not be read whole at one of the instants", list.kind, list.namespace);
        line("unknown", Tone::Warn, &rest);
    }
    if json.objects.is_empty() && json.limits.is_empty() && json.owners.is_empty() {
        let but = if json.unknown.is_empty() { "" } else { " in what could be read" };
        lines.push(format!("no difference{but}"));
    }
    lines.join("\n") + "\n"
}

fn change_text(change: &ObjectChangeJson) -> String {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => {
            format!("{}  {}", name_words(after), change_words(before, after, &change.fields))
        }
        (Some(only), None) | (None, Some(only)) => object_words(only),
        (None, None) => change.kind.clone(),
    }
}

fn owner_text(owner: &OwnerChangeJson) -> String {
    let who = match &owner.user {
        Some(user) => format!("{user}({})", owner.uid),
        None => format!("uid {}", owner.uid),
    };
    let what = match owner.kind.as_str() {
        "sem" => "arrays",
        "shm" => "segments",
        _ => "queues",
    };
    let more = match owner.kind.as_str() {
        "sem" => format!("{} -> {} semaphores", owner.semaphores_before, owner.semaphores_after),
        _ => format!("{} -> {} bytes", owner.bytes_before_u64, owner.bytes_after_u64),
    };
    format!("{who}  {} -> {} {what} ({:+}), {more}", owner.objects_before, owner.objects_after, owner.net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_says_what_went_what_changed_what_came_and_whose_it_was() {
        let sem = |semid: i32, uid: u32| {
            format!(
                r#"{{"key":"0x0000000{semid}","semid":{semid},"perms":"600","nsems":2,"uid":{uid},"gid":0,"cuid":0,
                "cgid":0,"user":null,"group":null,"cuser":"root","cgroup":"root","otime":0,"ctime":5}}"#
            )
        };
        let json = format!(
            r#"{{"host":"web-17","host_id":"ab","from":"2026-11-24T03:00:00.000Z","to":"2026-11-24T04:00:00.000Z",
            "skew_ms":0,"gaps":[{{"from":"2026-11-24T03:10:00.000Z","to":"2026-11-24T03:20:00.000Z","state":"closed",
            "reason":"agent_killed","last_sample_at":null,"next_sample_at":null}}],"objects":[
            {{"change":"removed","kind":"sem","namespace":1,"before":{},"after":null}},
            {{"change":"changed","kind":"sem","namespace":1,"before":{},"after":{},"fields":["uid"]}},
            {{"change":"added","kind":"sem","namespace":1,"before":null,"after":{}}}],
            "limits":[{{"namespace":1,"resource":"SEMMNI","before_u64":"128","after_u64":"256"}}],
            "owners":[{{"namespace":1,"kind":"sem","uid":33,"user":"www-data","objects_before":1,"objects_after":3,
            "net":2,"semaphores_before":2,"semaphores_after":6,"bytes_before_u64":"0","bytes_after_u64":"0"}}]}}"#,
            sem(1, 33),
            sem(2, 33),
            sem(2, 48),
            sem(3, 33)
        );
        assert_eq!(
            text(&serde_json::from_str(&json).unwrap(), &TimeZone::UTC, false),
            "\
web-17  2026-11-24 03:00:00 +0000 .. 2026-11-24 04:00:00 +0000
gap      2026-11-24 03:10:00 +0000 .. 2026-11-24 03:20:00 +0000  agent_killed: what came and went in it is not known
removed  sem 1 key 0x00000001 nsems 2  owner uid 33
changed  sem 2 key 0x00000002  uid 33 -> 48
added    sem 3 key 0x00000003 nsems 2  owner uid 33
limit    SEMMNI  128 -> 256
owner    www-data(33)  1 -> 3 arrays (+2), 2 -> 6 semaphores
"
        );
    }

    #[test]
    fn what_could_not_be_read_is_not_told_as_no_difference() {
        let json = r#"{"host":"web-17","host_id":"ab","from":"2026-11-24T03:00:00.000Z","to":"2026-11-24T04:00:00.000Z",
            "skew_ms":0,"gaps":[],"objects":[],"limits":[],"owners":[],"unknown":[{"namespace":4026531839,"kind":"sem"}]}"#;
        assert_eq!(
            text(&serde_json::from_str(json).unwrap(), &TimeZone::UTC, false),
            "\
web-17  2026-11-24 03:00:00 +0000 .. 2026-11-24 04:00:00 +0000
unknown  sem of namespace 4026531839: it could not be read whole at one of the instants
no difference in what could be read
"
        );
    }
}
