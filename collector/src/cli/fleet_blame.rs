//! `highwater blame --fleet`: whose objects grew, of all hosts.

use anyhow::Context as _;
use jiff::tz::TimeZone;

use super::args::Global;
use super::blame::BlameArgs;
use super::client::Client;
use super::exit::Exit;
use super::host::{fleet_instant, own_zone, show_instant};
use super::table::{Tone, paint, table};
use super::{amount, print};
use crate::api::json::{FleetBlameJson, FleetOwnerJson};

/// Asks page after page and prints; of JSON one page.
pub fn run(args: &BlameArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let zone = own_zone();
    let mut parameters = Vec::new();
    for (name, text) in [("since", &args.since), ("until", &args.until)] {
        if let Some(text) = text {
            parameters.push((name, fleet_instant(&client, text, &zone)?));
        }
    }
    if !args.kind.is_empty() {
        parameters.push(("kind", args.kind.join(",")));
    }
    parameters.extend(args.limit.map(|limit| ("limit", limit.to_string())));
    let mut cursor = args.cursor.clone();
    let mut whole: Option<FleetBlameJson> = None;
    loop {
        let mut page = parameters.clone();
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer = client.get("/blame", &page)?;
        if global.wants_json() {
            print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
            return Ok(Exit::Answered);
        }
        let json: FleetBlameJson = client.read(&answer)?;
        cursor.clone_from(&json.next_cursor);
        match &mut whole {
            None => whole = Some(json),
            Some(whole) => whole.owners.extend(json.owners),
        }
        if cursor.is_none() {
            break;
        }
    }
    if let Some(json) = whole {
        print::answer(text(&json, &zone, global.wants_color()).as_bytes()).context("writing the answer")?;
        for note in &json.notes {
            eprintln!("highwater: {note}");
        }
    }
    Ok(Exit::Answered)
}

fn text(json: &FleetBlameJson, zone: &TimeZone, color: bool) -> String {
    let (since, until) = (show_instant(&json.compared_since, zone), show_instant(&json.compared_until, zone));
    let noun = if json.hosts == 1 { "host" } else { "hosts" };
    let mut out = paint(&format!("{} {noun}  {since} .. {until}", json.hosts), Tone::Strong, color) + "\n";
    if json.owners.is_empty() {
        out.push_str("nobody grew or shrank, and nobody left an orphan\n");
    } else {
        let rows: Vec<_> = json.owners.iter().map(row).collect();
        let headings =
            ["HOST", "OWNER", "COMM", "KIND", "BEFORE", "AFTER", "NET", "SEMAPHORES", "BYTES", "ORPHANS", "NAMESPACE"];
        out.push_str(&table(&headings, &rows, color));
    }
    if json.owners.iter().any(|owner| owner.since_is == FIRST_ROW) {
        out.push_str("* since the host's first row, which is later than was asked\n");
    }
    for list in &json.unknown {
        out.push_str(&format!("not told  {}: {} of namespace {}: ", list.host, list.kind, list.namespace));
        out.push_str("it could not be read whole at one of the instants\n");
    }
    out
}

const FIRST_ROW: &str = "first_row";

fn row(owner: &FleetOwnerJson) -> Vec<(String, Tone)> {
    let plain = |text: String| (text, Tone::Plain);
    let grew = if owner.net > 0 { Tone::Warn } else { Tone::Plain };
    let semaphores = if owner.kind == "sem" { format!("{:+}", owner.semaphores_net) } else { "-".to_owned() };
    let bytes = if owner.kind == "sem" { "-".to_owned() } else { amount::signed_bytes(&owner.bytes_net_u64) };
    let star = if owner.since_is == FIRST_ROW { "*" } else { "" };
    let orphans = match (owner.orphans, owner.orphans_certain) {
        (0, _) => "0".to_owned(),
        (all, 0) => all.to_string(),
        (all, certain) => format!("{all}: {certain} certain"),
    };
    let user = match &owner.user {
        Some(user) => format!("{user}({})", owner.uid),
        None => format!("uid {}", owner.uid),
    };
    vec![
        plain(format!("{}{star}", owner.host)),
        plain(user),
        plain(owner.comm.clone().unwrap_or_else(|| "?".to_owned())),
        plain(owner.kind.clone()),
        plain(owner.arrays_before.to_string()),
        plain(owner.arrays_after.to_string()),
        (format!("{:+}", owner.net), grew),
        plain(semaphores),
        plain(bytes),
        (orphans, if owner.orphans > 0 { Tone::Bad } else { Tone::Faint }),
        plain(owner.namespace.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(owners: &str, unknown: &str) -> String {
        let json = format!(
            r#"{{"since":"2026-11-23T03:10:00.000Z","until":"2026-11-24T04:10:00.000Z",
            "compared_since":"2026-11-23T04:00:00.000Z","compared_until":"2026-11-24T04:10:00.000Z","hosts":2,
            "owners":[{owners}],"unknown":[{unknown}],"next_cursor":null}}"#
        );
        text(&serde_json::from_str(&json).unwrap(), &TimeZone::UTC, false)
    }

    #[test]
    fn the_fleets_owners_are_a_table_that_says_whose_base_is_a_first_row() {
        let apache = r#"{"host":"web-17","host_id":"ab","namespace":4026531839,"kind":"sem","uid":33,"user":"www-data",
            "comm":"apache2","arrays_before":1,"arrays_after":9,"net":8,"semaphores_net":8,"bytes_net_u64":"0",
            "orphans":9,"orphans_certain":7,"base_at":"2026-11-23T03:41:00.000Z","since_is":"asked"}"#;
        let cache = r#"{"host":"db-1","host_id":"cd","namespace":4026531839,"kind":"shm","uid":26,"user":null,
            "comm":null,"arrays_before":9,"arrays_after":8,"net":-1,"semaphores_net":0,"bytes_net_u64":"-142606336",
            "orphans":0,"orphans_certain":0,"base_at":"2026-11-24T01:00:00.000Z","since_is":"first_row"}"#;
        let unknown = r#"{"host":"db-1","host_id":"cd","namespace":4026531839,"kind":"sem"}"#;
        assert_eq!(
            shown(&format!("{apache},{cache}"), unknown),
            "\
2 hosts  2026-11-23 04:00:00 +0000 .. 2026-11-24 04:10:00 +0000
HOST    OWNER         COMM     KIND  BEFORE  AFTER  NET  SEMAPHORES  BYTES     ORPHANS       NAMESPACE
web-17  www-data(33)  apache2  sem   1       9      +8   +8          -         9: 7 certain  4026531839
db-1*   uid 26        ?        shm   9       8      -1   -           -136 MiB  0             4026531839
* since the host's first row, which is later than was asked
not told  db-1: sem of namespace 4026531839: it could not be read whole at one of the instants
"
        );
        assert!(shown("", "").ends_with("\nnobody grew or shrank, and nobody left an orphan\n"));
    }
}
