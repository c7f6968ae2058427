//! `highwater hosts`: the fleet.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{Args, value_parser};
use highwater_ipc::availability::SysvipcState;
use highwater_ipc::time::parse_rfc3339_ms;
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::host::{fleet_instant, own_zone};
use super::table::{Tone, paint, table};
use super::{print, when};
use crate::api::json::{AtRisk, HostJson, HostsJson, RiskJson};

/// Arguments of `hosts`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct HostsArgs {
    /// Only hosts on which a program that needs System V IPC is refused, with evidence and remedy
    #[arg(long)]
    pub lacks_sysvipc: bool,
    /// Only hosts in these states
    #[arg(long, value_name = "S,..", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(SysvipcState::ALL.map(SysvipcState::name)))]
    pub state: Vec<String>,
    /// Only hosts with one of these risks: what their next logout or reboot breaks
    #[arg(long, value_name = "K,..", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(AtRisk::ALL.map(AtRisk::name)))]
    pub at_risk: Vec<String>,
    /// Only hosts with these labels
    #[arg(long, value_name = "K=V,..", value_delimiter = ',', value_parser = label)]
    pub label: Vec<String>,
    /// Only hosts that should report and do not
    #[arg(long)]
    pub stale: bool,
    /// Also hosts that have been silent for 7 days (label ephemeral=1: 1 hour)
    #[arg(long)]
    pub all: bool,
    /// At this instant of the collector's clock
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed)]
    pub at: Option<String>,
    /// Exit with 3 if any host asked for, on whichever page, lacks System V IPC or is at a limit, or has one of the
    /// risks of --at-risk
    #[arg(long)]
    pub exit_code: bool,
    /// The most hosts of one --json document [default: 1000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000))]
    pub limit: Option<u32>,
    /// Go on where a --json document ended: its next_cursor
    #[arg(long, value_name = "C")]
    pub cursor: Option<String>,
}

const EXAMPLES: &str = "Examples:
  highwater hosts                                   who is there, and what is nearest to its limit
  highwater hosts --lacks-sysvipc                   where programs that need System V IPC cannot run, why, and the remedy
  highwater hosts --lacks-sysvipc --at 2026-06-30   the same on an audit date
  highwater hosts --at-risk removeipc               where the next logout removes somebody's objects
  highwater hosts --stale                           who should report and does not
  highwater hosts --label role=web --exit-code      for scripts: 3 = somebody lacks it or is at a limit";

fn label(text: &str) -> Result<String, &'static str> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("a label is KEY=VALUE, e.g. role=web"),
    }
}

/// Asks page after page and prints.
pub fn run(args: &HostsArgs, global: &Global) -> anyhow::Result<Exit> {
    let client = Client::from_environment()?;
    let zone = own_zone();
    let mut parameters = Vec::new();
    let flags = [("lacks_sysvipc", args.lacks_sysvipc), ("stale", args.stale), ("all", args.all)];
    parameters.extend(flags.into_iter().filter(|(_, given)| *given).map(|(name, _)| (name, "true".to_owned())));
    if !args.state.is_empty() {
        parameters.push(("state", args.state.join(",")));
    }
    if !args.at_risk.is_empty() {
        parameters.push(("at_risk", args.at_risk.join(",")));
    }
    if !args.label.is_empty() {
        parameters.push(("label", args.label.join(",")));
    }
    if let Some(at) = &args.at {
        parameters.push(("at", fleet_instant(&client, at, &zone)?));
    }
    let mut limit = args.limit;
    let mut cursor = args.cursor.clone();
    let mut hosts = Vec::new();
    let mut now = String::new();
    let mut trouble = false;
    loop {
        let mut page = parameters.clone();
        page.extend(limit.take().map(|limit| ("limit", limit.to_string())));
        page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let answer = client.get("/hosts", &page)?;
        let json: HostsJson = client.read(&answer)?;
        let is_at_risk = |host: &HostJson| host.at_risk.iter().any(|r| args.at_risk.contains(&r.kind));
        trouble |= args.exit_code && json.hosts.iter().any(|h| is_trouble(h) || is_at_risk(h));
        if global.wants_json() {
            // One page is printed; the exit code is about all of them.
            if now.is_empty() {
                print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
            }
            if trouble || !args.exit_code {
                break;
            }
        } else {
            hosts.extend(json.hosts);
        }
        now = if now.is_empty() { json.now } else { now };
        match json.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if !global.wants_json() {
        let look = Look { now_ms: parse_rfc3339_ms(&now).unwrap_or(0), zone: &zone, color: global.wants_color() };
        let text = match (args.lacks_sysvipc, args.at_risk.as_slice()) {
            (true, _) => lacking(&hosts, &look),
            (false, []) => fleet(&hosts, &look),
            (false, kinds) => at_risk(&hosts, kinds, &look),
        };
        print::answer(text.as_bytes()).context("writing the answer")?;
    }
    Ok(if trouble { Exit::Trouble } else { Exit::Answered })
}

fn is_trouble(host: &HostJson) -> bool {
    let lacks = SysvipcState::from_name(&host.state).is_none_or(SysvipcState::lacks_sysvipc);
    lacks || host.worst.as_ref().is_some_and(|w| w.ratio >= 1.0)
}

struct Look<'z> {
    now_ms: i64,
    zone: &'z TimeZone,
    color: bool,
}

fn fleet(hosts: &[HostJson], look: &Look<'_>) -> String {
    if hosts.is_empty() {
        return "no hosts\n".to_owned();
    }
    let cell = |text: &str, tone| (text.to_owned(), tone);
    let rows: Vec<Vec<(String, Tone)>> = hosts
        .iter()
        .map(|host| {
            vec![
                cell(&host.name, Tone::Plain),
                cell(&last_seen(host, look), Tone::Faint),
                cell(&host.lifecycle, if host.lifecycle == "live" { Tone::Good } else { Tone::Warn }),
                cell(&host.state, if host.state == "available" { Tone::Good } else { Tone::Bad }),
                worst(host),
                cell(host.kernel.as_deref().unwrap_or("-"), Tone::Plain),
                cell(host.distro.as_deref().unwrap_or("-"), Tone::Plain),
                cell(&host.id, Tone::Faint),
            ]
        })
        .collect();
    let headings = ["HOST", "LAST SEEN", "LIFE", "SYSVIPC", "NEAREST LIMIT", "KERNEL", "DISTRO", "ID"];
    let mut out = table(&headings, &rows, look.color);
    for host in hosts.iter().filter(|h| h.state != "available" || !h.at_risk.is_empty()) {
        out.push_str(&format!("\n{}\n{}", paint(&host.name, Tone::Strong, look.color), why(host)));
    }
    out
}

/// The answer to "where can programs that need it not run": one block a host, with what decided and what to do.
fn lacking(hosts: &[HostJson], look: &Look<'_>) -> String {
    if hosts.is_empty() {
        return "no host lacks System V IPC\n".to_owned();
    }
    let mut by_state: BTreeMap<&str, usize> = BTreeMap::new();
    for host in hosts {
        *by_state.entry(host.state.as_str()).or_default() += 1;
    }
    let sums: Vec<String> = by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let noun = if hosts.len() == 1 { "host lacks" } else { "hosts lack" };
    let head = format!("{} {noun} System V IPC: {}", hosts.len(), sums.join(", "));
    let mut out = paint(&head, Tone::Strong, look.color) + "\n";
    for host in hosts {
        let system: Vec<&str> =
            [&host.kernel, &host.arch, &host.distro].into_iter().filter_map(|t| t.as_deref()).collect();
        out.push_str(&format!(
            "\n{}  {}  {}, last seen {}  {}\n{}",
            paint(&host.name, Tone::Strong, look.color),
            paint(&host.state, Tone::Bad, look.color),
            host.lifecycle,
            last_seen(host, look),
            system.join("  "),
            why(host)
        ));
    }
    out
}

/// The answer to "which hosts are next": one block a host, with what was found and what to do.
fn at_risk(hosts: &[HostJson], kinds: &[String], look: &Look<'_>) -> String {
    if hosts.is_empty() {
        return format!("no host is at risk: {}\n", kinds.join(", "));
    }
    let count = |kind: &String| hosts.iter().filter(|h| h.at_risk.iter().any(|r| r.kind == *kind)).count();
    let sums: Vec<String> = kinds.iter().map(|kind| format!("{} {kind}", count(kind))).collect();
    let noun = if hosts.len() == 1 { "host is" } else { "hosts are" };
    let mut out =
        paint(&format!("{} {noun} at risk: {}", hosts.len(), sums.join(", ")), Tone::Strong, look.color) + "\n";
    for host in hosts {
        out.push_str(&format!(
            "\n{}  {}, last seen {}\n",
            paint(&host.name, Tone::Strong, look.color),
            host.lifecycle,
            last_seen(host, look)
        ));
        for risk in host.at_risk.iter().filter(|r| kinds.contains(&r.kind)) {
            out.push_str(&risk_words(risk));
        }
    }
    out
}

fn risk_words(risk: &RiskJson) -> String {
    format!("  {:<9} {}\n  remedy    {}\n", risk.kind, risk.why, risk.remedy)
}

fn why(host: &HostJson) -> String {
    let mut out = String::new();
    for evidence in &host.evidence {
        out.push_str(&format!("  evidence  {evidence}\n"));
    }
    if let Some(remedy) = &host.remedy {
        out.push_str(&format!("  remedy    {remedy}\n"));
    }
    for risk in &host.at_risk {
        out.push_str(&risk_words(risk));
    }
    out
}

/// An age while it is short, a date when it is long.
fn last_seen(host: &HostJson, look: &Look<'_>) -> String {
    match host.last_seen.as_deref().and_then(parse_rfc3339_ms) {
        None => "never".to_owned(),
        Some(at_ms) => {
            let age_ms = look.now_ms.saturating_sub(at_ms);
            if age_ms < 1_000 {
                "now".to_owned()
            } else if age_ms < 86_400_000 {
                format!("{} ago", when::show_duration(age_ms))
            } else {
                when::show(at_ms, look.zone)
            }
        }
    }
}

fn worst(host: &HostJson) -> (String, Tone) {
    let Some(worst) = &host.worst else { return ("-".to_owned(), Tone::Faint) };
    let (word, tone) = match worst.severity.as_deref() {
        Some("critical") => ("  CRITICAL", Tone::Bad),
        Some(_) => ("  warning", Tone::Warn),
        None => ("", Tone::Plain),
    };
    let (used, limit) = (&worst.used_u64, &worst.limit_u64);
    (format!("{} {used}/{limit} ({:.0}%){word}", worst.resource, worst.ratio * 100.0), tone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::WorstJson;

    fn host(name: &str, state: &str) -> HostJson {
        HostJson {
            id: "00000000000000ab".into(),
            name: name.into(),
            labels: BTreeMap::new(),
            last_seen: Some("2026-11-24T03:11:58.000Z".into()),
            lifecycle: "live".into(),
            state: state.into(),
            evidence: vec![],
            remedy: None,
            kernel: Some("6.1.0-25-amd64".into()),
            arch: Some("x86_64".into()),
            distro: Some("Debian GNU/Linux 12 (bookworm)".into()),
            agent_version: Some("0.1.0".into()),
            connected: true,
            at_risk: vec![],
            worst: Some(WorstJson {
                namespace: Some(4026531839),
                resource: "SEMMNI".into(),
                used_u64: "121".into(),
                limit_u64: "128".into(),
                ratio: 0.9453125,
                severity: Some("critical".into()),
            }),
            skew_ms: Some(0),
            interval_ms: Some(10_000),
        }
    }

    fn look(zone: &TimeZone) -> Look<'_> {
        Look { now_ms: parse_rfc3339_ms("2026-11-24T03:12:00Z").unwrap(), zone, color: false }
    }

    #[test]
    fn the_fleet_is_a_table_and_what_lacks_is_explained_below() {
        let mut lacking = host("db-3", "absent");
        lacking.worst = None;
        lacking.evidence = vec!["/boot/config-6.1.0: # CONFIG_SYSVIPC is not set".into()];
        lacking.remedy = Some("boot a kernel with CONFIG_SYSVIPC=y".into());
        let text = fleet(&[host("web-17", "available"), lacking], &look(&TimeZone::UTC));
        assert_eq!(
            text,
            "\
HOST    LAST SEEN  LIFE  SYSVIPC    NEAREST LIMIT                   KERNEL          DISTRO                          ID
web-17  2 s ago    live  available  SEMMNI 121/128 (95%)  CRITICAL  6.1.0-25-amd64  Debian GNU/Linux 12 (bookworm)  00000000000000ab
db-3    2 s ago    live  absent     -                               6.1.0-25-amd64  Debian GNU/Linux 12 (bookworm)  00000000000000ab

db-3
  evidence  /boot/config-6.1.0: # CONFIG_SYSVIPC is not set
  remedy    boot a kernel with CONFIG_SYSVIPC=y
"
        );
    }

    #[test]
    fn a_host_with_a_copy_is_explained_below_the_table() {
        let mut cloned = host("web-17", "available");
        let (why, remedy) = ("an agent at 10.0.0.7 was turned away".into(), "enrol it".into());
        cloned.at_risk = vec![RiskJson { kind: "clone".into(), why, remedy }];
        let text = fleet(&[cloned], &look(&TimeZone::UTC));
        let below = "\n\nweb-17\n  clone     an agent at 10.0.0.7 was turned away\n  remedy    enrol it\n";
        assert!(text.ends_with(below), "{text}");
    }

    #[test]
    fn hosts_at_risk_are_counted_by_kind_and_only_the_risks_asked_for_are_told() {
        let mut next = host("ora-2", "available");
        let risk = |kind: &str, why: &str| RiskJson { kind: kind.into(), why: why.into(), remedy: "mend it".into() };
        next.at_risk = vec![risk("clone", "a copy"), risk("removeipc", "uid 1000 (oracle) owns semaphore arrays")];
        let zone = TimeZone::UTC;
        assert_eq!(
            at_risk(&[next], &["removeipc".into()], &look(&zone)),
            "\
1 host is at risk: 1 removeipc

ora-2  live, last seen 2 s ago
  removeipc uid 1000 (oracle) owns semaphore arrays
  remedy    mend it
"
        );
        assert_eq!(at_risk(&[], &["removeipc".into()], &look(&zone)), "no host is at risk: removeipc\n");
    }

    #[test]
    fn hosts_that_lack_it_are_counted_by_state_with_evidence_and_remedy() {
        let mut blocked = host("ci-7", "blocked");
        blocked.evidence = vec!["semctl(SEM_INFO): ENOSYS".into(), "/proc/sysvipc/sem reads".into()];
        blocked.remedy = Some("allow semget in the seccomp filter".into());
        let mut unknown = host("old", "unknown");
        unknown.last_seen = Some("2026-11-20T00:00:00.000Z".into());
        unknown.lifecycle = "silent".into();
        let text = super::lacking(&[blocked, unknown], &look(&TimeZone::UTC));
        assert_eq!(
            text,
            "\
2 hosts lack System V IPC: 1 blocked, 1 unknown

ci-7  blocked  live, last seen 2 s ago  6.1.0-25-amd64  x86_64  Debian GNU/Linux 12 (bookworm)
  evidence  semctl(SEM_INFO): ENOSYS
  evidence  /proc/sysvipc/sem reads
  remedy    allow semget in the seccomp filter

old  unknown  silent, last seen 2026-11-20 00:00:00 +0000  6.1.0-25-amd64  x86_64  Debian GNU/Linux 12 (bookworm)
"
        );
    }

    #[test]
    fn trouble_is_a_host_that_lacks_it_or_is_at_a_limit() {
        assert!(!is_trouble(&host("a", "available")));
        assert!(!is_trouble(&host("a", "proc_hidden")));
        assert!(is_trouble(&host("a", "absent")));
        let mut full = host("a", "available");
        full.worst.as_mut().unwrap().ratio = 1.0;
        assert!(is_trouble(&full));
    }
}
