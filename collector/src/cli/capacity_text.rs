//! The fleet's capacity as text that can be pasted into a review. Pure.

use jiff::tz::TimeZone;

use super::host::show_instant;
use super::table::{Tone, paint, table};
use crate::api::json::{CapacityEntryJson, CapacityGroupJson, CapacityJson, CapacitySumsJson};

/// How it is to look.
pub struct Look<'l> {
    /// In which times are shown.
    pub zone: &'l TimeZone,
    /// Whether colours are wanted.
    pub color: bool,
    /// What was asked, as typed; empty = nothing.
    pub what_if: &'l str,
    /// What sums were asked by.
    pub group_by: Option<&'l str>,
}

type Cell = (String, Tone);

/// The whole answer.
pub fn text(json: &CapacityJson, look: &Look<'_>) -> String {
    let fleet = &json.fleet;
    let strong = |text: &str| paint(text, Tone::Strong, look.color) + "\n";
    let (hosts, namespaces) = (count(fleet.sums.hosts, "host"), count(fleet.sums.namespaces, "namespace"));
    let (since, now) = (show_instant(&json.since, look.zone), show_instant(&json.now, look.zone));
    let mut out = strong(&format!("{hosts}, {namespaces}  {since} .. {now}"));
    for (number, why) in [
        (fleet.hosts_without_data, "without data in that time"),
        (fleet.hosts_gone, "silent for 7 days and not counted (label ephemeral=1: 1 hour)"),
    ] {
        if number > 0 {
            out.push_str(&format!("{} {why}\n", count(number, "host")));
        }
    }
    if fleet.sums.hosts == 0 {
        return out;
    }
    out.push_str(&sums(json, look));
    if let Some(by) = look.group_by {
        out.push_str(&format!("\n{}{}", strong(&format!("by {by}")), groups(&fleet.groups, look)));
    }
    if !look.what_if.is_empty() {
        let refused = match fleet.sums.would_refuse {
            0 => "no host would be refused".to_owned(),
            n => format!("{} of {} would be refused", n, hosts),
        };
        out.push_str(&format!("\n{}", strong(&format!("what if {}: {refused}", look.what_if))));
    } else {
        out.push_str(&format!("\n{}", strong("nearest to a limit")));
    }
    out.push_str(&entries(&json.hosts, look));
    let total: usize = fleet.resources.iter().map(|resource| resource.sums.namespaces).sum();
    let rest = total.saturating_sub(json.hosts.len());
    if json.next_cursor.is_some() && rest > 0 {
        out.push_str(&format!("and {rest} more: --limit or --json\n"));
    }
    out
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

const NEAR: [&str; 8] = [">=50%", ">=80%", ">=90%", "PEAK>=90%", "<7 d", "<30 d", "<90 d", "REFUSED"];

/// How many are how near; who would be refused only if that was asked.
fn near(sums: &CapacitySumsJson, look: &Look<'_>) -> Vec<Cell> {
    let tone = |number: usize, tone| if number == 0 { Tone::Faint } else { tone };
    let cells = [
        (sums.above_50, Tone::Plain),
        (sums.above_80, Tone::Warn),
        (sums.above_90, Tone::Bad),
        (sums.peak_above_90, Tone::Warn),
        (sums.days_left_under_7, Tone::Bad),
        (sums.days_left_under_30, Tone::Warn),
        (sums.days_left_under_90, Tone::Plain),
        (sums.would_refuse, Tone::Bad),
    ];
    let shown = NEAR.len() - usize::from(look.what_if.is_empty());
    cells.into_iter().take(shown).map(|(number, high)| (number.to_string(), tone(number, high))).collect()
}

fn headings(first: &[&'static str], look: &Look<'_>) -> Vec<&'static str> {
    first.iter().copied().chain(NEAR).take(first.len() + NEAR.len() - usize::from(look.what_if.is_empty())).collect()
}

fn plain(text: &str) -> Cell {
    (text.to_owned(), Tone::Plain)
}

fn sums(json: &CapacityJson, look: &Look<'_>) -> String {
    let fleet = &json.fleet;
    let of_resource = |group: &CapacityGroupJson| {
        let first = [plain(&group.resource), plain(&group.sums.namespaces.to_string())];
        first.into_iter().chain(near(&group.sums, look)).collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<Cell>> = fleet.resources.iter().map(of_resource).collect();
    let any = [plain("any, hosts"), plain(&fleet.sums.hosts.to_string())];
    rows.push(any.into_iter().chain(near(&fleet.sums, look)).collect());
    table(&headings(&["RESOURCE", "COUNTED"], look), &rows, look.color)
}

fn groups(groups: &[CapacityGroupJson], look: &Look<'_>) -> String {
    let by_limit = look.group_by == Some("namespace");
    let of_group = |group: &CapacityGroupJson| {
        let mut row = vec![plain(group.group.as_deref().unwrap_or("-")), plain(&group.resource)];
        if by_limit {
            row.push(plain(group.limit_u64.as_deref().unwrap_or("?")));
        }
        row.extend([plain(&group.sums.hosts.to_string()), plain(&group.sums.namespaces.to_string())]);
        row.extend(near(&group.sums, look));
        row
    };
    let rows: Vec<Vec<Cell>> = groups.iter().map(of_group).collect();
    let first: &[&str] = if by_limit {
        &["GROUP", "RESOURCE", "LIMIT", "HOSTS", "NAMESPACES"]
    } else {
        &["GROUP", "RESOURCE", "HOSTS", "NAMESPACES"]
    };
    table(&headings(first, look), &rows, look.color)
}

fn entries(entries: &[CapacityEntryJson], look: &Look<'_>) -> String {
    let asks = !look.what_if.is_empty();
    let rows: Vec<Vec<Cell>> = entries.iter().map(|entry| row(entry, asks, look.zone)).collect();
    let mut headings =
        vec!["HOST", "RESOURCE", "USED", "LIMIT", "USE%", "PEAK", "P95", "A WEEK", "DAYS LEFT", "CEILING", "NAMESPACE"];
    if asks {
        headings.insert(1, "REFUSED FROM");
    }
    table(&headings, &rows, look.color)
}

fn row(entry: &CapacityEntryJson, asks: bool, zone: &TimeZone) -> Vec<Cell> {
    let number = |digits: &Option<String>| plain(digits.as_deref().unwrap_or("?"));
    let (use_percent, tone) = match entry.ratio {
        None => ("?".to_owned(), Tone::Faint),
        Some(ratio) => {
            let tone = if ratio >= 0.9 {
                Tone::Bad
            } else if ratio >= 0.8 {
                Tone::Warn
            } else {
                Tone::Plain
            };
            (format!("{:.0}%", (ratio * 100.0).floor()), tone)
        }
    };
    let mut row = vec![
        plain(&entry.host),
        plain(&entry.resource),
        number(&entry.used_u64),
        number(&entry.limit_u64),
        (use_percent, tone),
        number(&entry.peak_u64),
        number(&entry.p95_u64),
        plain(&pace(entry)),
        days_left(entry),
        plain(
            &entry
                .ceiling
                .as_ref()
                .map_or_else(|| "-".to_owned(), |c| format!("{} arrays by {}", c.arrays_u64, c.binds)),
        ),
        plain(&format!("{}{}", entry.namespace, if entry.own { "" } else { " (container)" })),
    ];
    if asks {
        let at = entry.would_refuse_at.as_ref().map(|at| show_instant(at, zone));
        let ahead = if entry.would_refuse_is.as_deref() == Some("ahead") { " (ahead)" } else { "" };
        row.insert(1, at.map_or_else(|| plain("-"), |at| (format!("{at}{ahead}"), Tone::Bad)));
    }
    row
}

fn pace(entry: &CapacityEntryJson) -> String {
    match (entry.growth_per_week, entry.trend.as_str()) {
        (Some(pace), "growing" | "shrinking") => format!("{pace:+}"),
        (_, "steady") => "steady".to_owned(),
        _ => "?".to_owned(),
    }
}

/// A forecast shows its width.
fn days_left(entry: &CapacityEntryJson) -> Cell {
    let Some(days) = entry.days_left else { return ("-".to_owned(), Tone::Faint) };
    let tone = match days {
        ..7.0 => Tone::Bad,
        ..30.0 => Tone::Warn,
        _ => Tone::Plain,
    };
    let low = entry.days_left_low.unwrap_or(days);
    let words = match entry.days_left_high {
        Some(high) if low == high => format!("{days}"),
        Some(high) => format!("{days} ({low}..{high})"),
        None => format!("{days} ({low} or more)"),
    };
    (words, tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hosts: &str, fleet: &str, more: Option<&str>, what_if: &str, group_by: Option<&str>) -> String {
        let cursor = more.map_or("null".to_owned(), |more| format!("{more:?}"));
        let json = format!(
            r#"{{"since":"2026-10-25T03:12:00.000Z","now":"2026-11-24T03:12:00.000Z","hosts":[{hosts}],
            "fleet":{fleet},"next_cursor":{cursor}}}"#
        );
        let json: CapacityJson = serde_json::from_str(&json).unwrap();
        text(&json, &Look { zone: &TimeZone::UTC, color: false, what_if, group_by })
    }

    const WEB: &str = r#"{"host":"web-17","host_id":"ab","namespace":4026531839,"own":true,"resource":"SEMMNI",
        "used_u64":"121","limit_u64":"128","ratio":0.9453125,"peak_u64":"127","p95_u64":"120","known_hours":720,
        "growth_per_week":14,"trend":"growing","days_left":3,"days_left_low":2,"days_left_high":5,
        "ceiling":{"binds":"SEMMNI","arrays_u64":"128","semaphores_u64":"19968"},"would_refuse_at":null,
        "would_refuse_is":null,"what_if":null}"#;
    const POD: &str = r#"{"host":"node-3","host_id":"cd","namespace":4026532001,"own":false,"resource":"MSGMNI",
        "used_u64":null,"limit_u64":"16","ratio":null,"peak_u64":"9","p95_u64":"7","known_hours":9,
        "growth_per_week":null,"trend":"unknown","days_left":null,"days_left_low":null,"days_left_high":null,
        "ceiling":null,"would_refuse_at":"2026-11-02T14:00:00.000Z","would_refuse_is":"past",
        "what_if":{"limit_u64":"8","used_u64":null,"days_left":null}}"#;
    const SUMS: &str = r#""above_50":2,"above_80":1,"above_90":1,"peak_above_90":1,"days_left_under_7":1,
        "days_left_under_30":1,"days_left_under_90":1"#;

    #[test]
    fn the_fleet_is_a_page_that_can_be_pasted() {
        let fleet = format!(
            r#"{{"hosts":2,"namespaces":3,{SUMS},"would_refuse":0,"hosts_without_data":1,"hosts_gone":0,"groups":[],
            "resources":[{{"group":null,"resource":"SEMMNI","limit_u64":null,"hosts":2,"namespaces":3,{SUMS},"would_refuse":0}}]}}"#
        );
        assert_eq!(
            shown(WEB, &fleet, Some("c1"), "", None),
            "\
2 hosts, 3 namespaces  2026-10-25 03:12:00 +0000 .. 2026-11-24 03:12:00 +0000
1 host without data in that time
RESOURCE    COUNTED  >=50%  >=80%  >=90%  PEAK>=90%  <7 d  <30 d  <90 d
SEMMNI      3        2      1      1      1          1     1      1
any, hosts  2        2      1      1      1          1     1      1

nearest to a limit
HOST    RESOURCE  USED  LIMIT  USE%  PEAK  P95  A WEEK  DAYS LEFT  CEILING               NAMESPACE
web-17  SEMMNI    121   128    94%   127   120  +14     3 (2..5)   128 arrays by SEMMNI  4026531839
and 2 more: --limit or --json
"
        );
    }

    #[test]
    fn who_would_be_refused_comes_with_the_hour_and_groups_by_namespace_with_their_limit() {
        let fleet = format!(
            r#"{{"hosts":1,"namespaces":2,{SUMS},"would_refuse":1,"hosts_without_data":0,"hosts_gone":4,
            "resources":[],"groups":[
            {{"group":"container","resource":"MSGMNI","limit_u64":"16","hosts":1,"namespaces":1,{SUMS},"would_refuse":1}}]}}"#
        );
        assert_eq!(
            shown(POD, &fleet, None, "MSGMNI=8", Some("namespace")),
            "\
1 host, 2 namespaces  2026-10-25 03:12:00 +0000 .. 2026-11-24 03:12:00 +0000
4 hosts silent for 7 days and not counted (label ephemeral=1: 1 hour)
RESOURCE    COUNTED  >=50%  >=80%  >=90%  PEAK>=90%  <7 d  <30 d  <90 d  REFUSED
any, hosts  1        2      1      1      1          1     1      1      1

by namespace
GROUP      RESOURCE  LIMIT  HOSTS  NAMESPACES  >=50%  >=80%  >=90%  PEAK>=90%  <7 d  <30 d  <90 d  REFUSED
container  MSGMNI    16     1      1           2      1      1      1          1     1      1      1

what if MSGMNI=8: 1 of 1 host would be refused
HOST    REFUSED FROM               RESOURCE  USED  LIMIT  USE%  PEAK  P95  A WEEK  DAYS LEFT  CEILING  NAMESPACE
node-3  2026-11-02 14:00:00 +0000  MSGMNI    ?     16     ?     9     7    ?       -          -        4026532001 (container)
"
        );
    }

    #[test]
    fn a_forecast_shows_how_wide_it_is() {
        let mut entry: CapacityEntryJson = serde_json::from_str(WEB).unwrap();
        entry.days_left_high = None;
        assert_eq!(days_left(&entry).0, "3 (2 or more)");
        (entry.days_left_low, entry.days_left_high) = (Some(3.0), Some(3.0));
        assert_eq!(days_left(&entry).0, "3");
        (entry.trend, entry.growth_per_week) = ("shrinking".to_owned(), Some(-2.5));
        assert_eq!(pace(&entry), "-2.5");
    }
}
