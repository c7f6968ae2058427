//! `highwater ipcs`: what `ipcs` would have printed on a host, now or then.

use anyhow::Context as _;
use clap::Args;
use highwater_ipc::object::{Kind, ShmSegment};
use highwater_ipc::render::{Question, View, ipcs as render};
use highwater_ipc::snapshot::{Namespace, Snapshot, Unreadable};
use highwater_ipc::text::HostText;
use highwater_ipc::time::{Zone, parse_rfc3339_ms};
use highwater_ipc::who::Grade;
use highwater_proto::json::SnapshotJson;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args::Global;
use super::client::Client;
use super::exit::Exit;
use super::host::{Asked, MayBe, gap_words, own_now_ms, own_zone, read_may_be, say_notes};
use super::namespace::{Called, choose};
use super::object::{self, Found};
use super::{amount, print, when};

/// Arguments of `ipcs`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct IpcsArgs {
    /// Exact name, id or unique prefix of a host; omitted = this machine
    pub host: Option<String>,
    /// All three kinds (the default)
    #[arg(short = 'a', long = "all")]
    pub all: bool,
    /// Semaphore arrays
    #[arg(short = 's', long = "semaphores")]
    pub sem: bool,
    /// Shared memory segments
    #[arg(short = 'm', long = "shmems")]
    pub shm: bool,
    /// Message queues
    #[arg(short = 'q', long = "queues")]
    pub msg: bool,
    /// Times of last operations and changes
    #[arg(short = 't', long = "time", overrides_with_all = ["pid", "creator", "summary", "limits"])]
    pub time: bool,
    /// Processes of creator and last operation
    #[arg(short = 'p', long = "pid", overrides_with_all = ["time", "creator", "summary", "limits"])]
    pub pid: bool,
    /// Creators and owners
    #[arg(short = 'c', long = "creator", overrides_with_all = ["time", "pid", "summary", "limits"])]
    pub creator: bool,
    /// Summary: what is in use
    #[arg(short = 'u', long = "summary", overrides_with_all = ["time", "pid", "creator", "limits"])]
    pub summary: bool,
    /// Limits
    #[arg(short = 'l', long = "limits", overrides_with_all = ["time", "pid", "creator", "summary"])]
    pub limits: bool,
    /// One object whole, with its life: needs one of -s, -m, -q
    #[arg(short = 'i', long = "id", value_name = "ID", allow_negative_numbers = true)]
    pub id: Option<i32>,
    /// At this instant of the host's clock (2026-11-24T03:12:00Z, 03:12, -2h, yesterday, @unix, ...)
    #[arg(long, value_name = "T", allow_hyphen_values = true, value_parser = when::typed, conflicts_with = "last")]
    pub at: Option<String>,
    /// The newest sample, however old; its age goes to stderr
    #[arg(long)]
    pub last: bool,
    /// IPC namespace: its inode, the beginning of its name, or all; omitted = the host's own
    #[arg(long, value_name = "N")]
    pub namespace: Option<String>,
}

const EXAMPLES: &str = "Examples:
  highwater ipcs                                all of this machine, as `ipcs` prints it
  highwater ipcs web-17 -s --at 03:12           its semaphore arrays at 03:12 today
  highwater ipcs web-17 -u --at '2 days ago'    what was in use
  highwater ipcs web-17 -l --last               the limits in its newest sample
  highwater ipcs web-17 -s -i 98304             one array, who holds it, and when it came
  highwater ipcs node-4 -m --namespace all      the segments of every container
  highwater ipcs web-17 --at -1h --json         the recorded snapshot";

/// Asks for a snapshot and prints it.
pub fn run(args: &IpcsArgs, global: &Global) -> anyhow::Result<Exit> {
    let kinds = args.kinds();
    if let (Some(_), [] | [_, _, ..]) = (args.id, kinds.as_slice()) {
        eprintln!("highwater: -i ID needs exactly one of -s, -m and -q");
        return Ok(Exit::Usage);
    }
    let client = Client::from_environment()?;
    let zone = own_zone();
    let asked = Asked::new(args.host.as_deref(), &client)?;
    let mut parameters = Vec::new();
    if args.last {
        parameters.push(("last", "true".to_owned()));
    } else if let Some(at) = &args.at {
        parameters.push(("at", asked.instant(&client, at, &zone)?));
    }
    let answer = client.get(&asked.path("snapshot"), &parameters)?;
    let json: SnapshotJson = match read_may_be(&client, &answer)? {
        MayBe::Data(json) => json,
        MayBe::Gap(gap) => {
            if global.wants_json() {
                print::answer(format!("{answer}\n").as_bytes()).context("writing the answer")?;
            }
            say_notes(&gap.host, &gap.notes, gap.skew_ms);
            eprintln!("highwater: {}", gap_words(&gap, &args.command(), &zone));
            return Ok(Exit::NoData);
        }
    };
    let (snapshot, _) = json.to_snapshot().context("the collector's answer")?;
    let host = json.host.clone().unwrap_or_default();
    say_notes(&host, &json.notes, json.skew_ms.unwrap_or(0));
    if args.last {
        eprintln!("highwater: {}", age_words(&json, &zone, own_now_ms()));
    }
    let wanted = choose(&called(&snapshot), args.namespace.as_deref())?;
    let chosen: Vec<&Namespace> = wanted.iter().filter_map(|index| snapshot.state.namespaces.get(*index)).collect();
    if let (Some(id), [kind]) = (args.id, kinds.as_slice()) {
        let is_now = args.at.is_none() && !args.last;
        let found = Found { client: &client, json: &json, snapshot: &snapshot, chosen: &chosen, is_now };
        return object::run(&found, (*kind, id), global);
    }
    if global.wants_json() {
        let text = if args.namespace.is_some() { only(json, &chosen)? } else { answer };
        print::answer(format!("{text}\n").as_bytes()).context("writing the answer")?;
        return Ok(Exit::Answered);
    }
    let mut words = state_words(&host, &snapshot, &chosen);
    if args.namespace.is_none() {
        words.extend(own_words(&host, &snapshot));
    }
    if args.view() == View::Default {
        words.extend(chosen.iter().filter_map(|n| unattached_words(&host, n, &kinds)));
    }
    for word in words {
        eprintln!("highwater: {word}");
    }
    let host_zone = HostZone::of(&snapshot.state.zone, &host);
    let all = args.namespace.as_deref() == Some("all");
    let question = Question { kinds, view: args.view() };
    print::answer(&page(&snapshot, (&chosen, all), &question, &host_zone)).context("writing the answer")?;
    Ok(Exit::Answered)
}

impl IpcsArgs {
    fn kinds(&self) -> Vec<Kind> {
        if self.all {
            return Vec::new();
        }
        let wanted = [(self.sem, Kind::Sem), (self.shm, Kind::Shm), (self.msg, Kind::Msg)];
        wanted.into_iter().filter(|(wanted, _)| *wanted).map(|(_, kind)| kind).collect()
    }

    fn view(&self) -> View {
        match (self.time, self.pid, self.creator, self.summary, self.limits) {
            (true, ..) => View::Time,
            (_, true, ..) => View::Pid,
            (_, _, true, ..) => View::Creator,
            (_, _, _, true, _) => View::Summary,
            (.., true) => View::Limits,
            _ => View::Default,
        }
    }

    /// The same question without host and time.
    fn command(&self) -> String {
        let mut command = "ipcs".to_owned();
        let flags = [
            (self.all, " -a"),
            (self.sem, " -s"),
            (self.shm, " -m"),
            (self.msg, " -q"),
            (self.time, " -t"),
            (self.pid, " -p"),
            (self.creator, " -c"),
            (self.summary, " -u"),
            (self.limits, " -l"),
        ];
        command.extend(flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag));
        if let Some(id) = self.id {
            command.push_str(&format!(" -i {id}"));
        }
        if let Some(namespace) = &self.namespace {
            command.push_str(&format!(" --namespace {}", quoted(namespace)));
        }
        command
    }
}

/// As a shell reads it.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What they can be called.
fn called(snapshot: &Snapshot) -> Vec<Called> {
    let name = |n: &Namespace| n.name.as_ref().map(HostText::escaped);
    snapshot.state.namespaces.iter().map(|n| Called { inode: n.id.inode, name: name(n) }).collect()
}

fn title(namespace: &Namespace) -> String {
    Called { inode: namespace.id.inode, name: namespace.name.as_ref().map(HostText::escaped) }.title()
}

fn page(snapshot: &Snapshot, (chosen, all): (&[&Namespace], bool), question: &Question, zone: &HostZone) -> Vec<u8> {
    // On a kernel without System V IPC there is no namespace; ipcs has its own words for that.
    let nothing = Namespace::default();
    let mut out = Vec::new();
    match chosen {
        [] => out.extend(render(&snapshot.state, &nothing, question, zone)),
        // One that was named gets no heading: its page is what `ipcs` inside would print.
        [one] if !all => out.extend(render(&snapshot.state, one, question, zone)),
        several => {
            for namespace in several {
                out.extend(format!("namespace {}\n", title(namespace)).into_bytes());
                out.extend(render(&snapshot.state, namespace, question, zone));
            }
        }
    }
    out
}

/// What a person must know beside the table: why it is empty or not whole.
fn state_words(host: &str, snapshot: &Snapshot, chosen: &[&Namespace]) -> Vec<String> {
    let availability = &snapshot.state.availability;
    let mut words = Vec::new();
    if availability.state != highwater_ipc::availability::SysvipcState::Available {
        let evidence: Vec<String> = availability.evidence.iter().map(HostText::escaped).collect();
        let mut line = format!("{host}: System V IPC is {}: {}", availability.state.name(), evidence.join("; "));
        if !availability.remedy.as_bytes().is_empty() {
            line.push_str(&format!("; remedy: {}", availability.remedy));
        }
        words.push(line);
    }
    for namespace in chosen {
        for part in &namespace.unreadable {
            let line = if part.line == 0 { String::new() } else { format!(" line {}", part.line) };
            let word = format!("{host}: {}{line} could not be read: {}", part.source, part.error);
            // Without System V IPC every namespace says the same.
            if !words.contains(&word) {
                words.push(word);
            }
        }
        let host = if chosen.len() > 1 { format!("{host}: namespace {}", title(namespace)) } else { host.to_owned() };
        let left_out = namespace.left_out;
        for (kind, count) in [("sem", left_out.sem), ("shm", left_out.shm), ("msg", left_out.msg)] {
            if count > 0 {
                words.push(format!("{host}: {count} {kind} objects are not listed: the sample's budget was spent"));
            }
        }
        if namespace.torn {
            words.push(format!("{host}: objects came or went while this sample was read"));
        }
    }
    words
}

/// Why what is shown may not be the namespace of the host's pid 1.
fn own_words(host: &str, snapshot: &Snapshot) -> Vec<String> {
    let about = |part: &&Unreadable| part.source.as_bytes() == b"/proc/1/ns/ipc";
    let words = |part: &Unreadable| format!("{host}: {}: {}", part.source, part.error);
    snapshot.state.unseen.iter().filter(about).map(words).collect()
}

/// How many segments of a namespace nothing is attached to, and what removing them would destroy: the table has no column
/// for that.
fn unattached_words(host: &str, namespace: &Namespace, kinds: &[Kind]) -> Option<String> {
    let unattached = |o: &&ShmSegment| {
        let known = namespace.who.as_ref().and_then(|who| who.objects.get(&(Kind::Shm, o.shmid)));
        known.and_then(|k| k.orphan.as_ref()).is_some_and(|orphan| orphan.grade == Grade::Unattached)
    };
    let found: Vec<&ShmSegment> = namespace.shm.iter().flatten().filter(unattached).collect();
    if found.is_empty() || !(kinds.is_empty() || kinds.contains(&Kind::Shm)) {
        return None;
    }
    let bytes = found.iter().fold(0_u64, |sum, segment| sum.saturating_add(segment.size));
    let noun = if found.len() == 1 { "segment is" } else { "segments are" };
    Some(format!(
        "{host}: namespace {}: {} {noun} unattached (nattch 0): removing them would destroy {}; `-m -i ID` says more of one",
        title(namespace),
        found.len(),
        amount::bytes(bytes)
    ))
}

fn age_words(json: &SnapshotJson, zone: &TimeZone, now_ms: i64) -> String {
    let to = json.covered.as_ref().map_or(json.at.as_str(), |c| c.to.as_str());
    let Some(to_ms) = parse_rfc3339_ms(to) else { return format!("the newest sample is of {to}") };
    let host_now_ms = now_ms.saturating_add(json.skew_ms.unwrap_or(0));
    let age = when::show_duration(host_now_ms.saturating_sub(to_ms));
    format!(
        "the newest sample of {} is of {}, {age} old",
        json.host.as_deref().unwrap_or("it"),
        when::show(to_ms, zone)
    )
}

/// The document with the chosen namespaces only.
fn only(mut json: SnapshotJson, chosen: &[&Namespace]) -> anyhow::Result<String> {
    let wanted =
        |id: u64, instance: &str| chosen.iter().any(|n| n.id.inode == id && n.id.instance.to_string() == instance);
    json.namespaces.retain(|n| wanted(n.id, &n.instance));
    serde_json::to_string(&json).context("writing the answer")
}

/// The sampled host's zone, as its `ipcs` would have used it.
pub struct HostZone(TimeZone);

impl HostZone {
    /// An IANA name, or a POSIX TZ text; empty = UTC. An unknown one is taken for UTC, and stderr says so.
    pub fn of(name: &HostText, host: &str) -> Self {
        let text = String::from_utf8_lossy(name.as_bytes()).into_owned();
        if text.is_empty() {
            return Self(TimeZone::UTC);
        }
        match TimeZone::get(&text).or_else(|_| TimeZone::posix(&text)) {
            Ok(zone) => Self(zone),
            Err(_) => {
                eprintln!("highwater: note: {host}'s time zone {name} is not known here; its times are shown in UTC");
                Self(TimeZone::UTC)
            }
        }
    }

    /// Such a zone.
    pub fn zone(&self) -> &TimeZone {
        &self.0
    }
}

impl Zone for HostZone {
    fn offset_at(&self, unix_seconds: i64) -> i32 {
        let nearest = if unix_seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
        self.0.to_offset(Timestamp::from_second(unix_seconds).unwrap_or(nearest)).seconds()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: IpcsArgs,
    }

    fn parse(args: &[&str]) -> IpcsArgs {
        Only::try_parse_from(std::iter::once("ipcs").chain(args.iter().copied())).unwrap().args
    }

    #[test]
    fn of_several_views_the_last_is_obeyed_as_by_ipcs() {
        assert_eq!(parse(&["-s", "-t", "-u"]).view(), View::Summary);
        assert_eq!(parse(&["-u", "-t"]).view(), View::Time);
        assert_eq!(parse(&["-slp"]).view(), View::Pid);
        assert_eq!(parse(&[]).view(), View::Default);
    }

    #[test]
    fn all_wins_over_kinds() {
        assert_eq!(parse(&["-s", "-a"]).kinds(), vec![]);
        assert_eq!(parse(&["-qs"]).kinds(), vec![Kind::Sem, Kind::Msg]);
    }

    #[test]
    fn the_command_to_repeat_has_the_same_flags() {
        assert_eq!(parse(&["-m", "-t", "--at", "-2h"]).command(), "ipcs -m -t");
        assert_eq!(parse(&["web", "-s", "-i", "98304"]).command(), "ipcs -s -i 98304");
        assert_eq!(parse(&["-s", "--namespace", "4026531839"]).command(), "ipcs -s --namespace 4026531839");
        assert_eq!(parse(&["--namespace", "my web's"]).command(), r"ipcs --namespace 'my web'\''s'");
    }

    #[test]
    fn the_hosts_zone_is_an_iana_name_or_a_posix_text_else_utc() {
        let july = 1_782_864_000;
        assert_eq!(HostZone::of(&HostText::from("Europe/Berlin"), "h").offset_at(july), 7200);
        assert_eq!(HostZone::of(&HostText::from("CET-1CEST,M3.5.0,M10.5.0/3"), "h").offset_at(july), 7200);
        assert_eq!(HostZone::of(&HostText::from(""), "h").offset_at(july), 0);
        assert_eq!(HostZone::of(&HostText::from("No/Such"), "h").offset_at(july), 0);
        assert_eq!(HostZone::of(&HostText::from("Europe/Berlin"), "h").offset_at(i64::MAX), 3600);
    }
}
