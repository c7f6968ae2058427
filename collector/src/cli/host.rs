//! Which host a command is about, by whose clock its times are, and what it says when there is no data.

use anyhow::{Context as _, anyhow};
use highwater_ipc::time::{format_rfc3339_ms, parse_rfc3339_ms};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::client::{Client, segment};
use super::when::{self, When};
use crate::api::json::{GapAnswer, OneHostJson};
use crate::clock::WallClock as _;

/// A skew beyond this is printed: the contract's two seconds.
const SKEW_SHOWN_MS: i64 = 2_000;

/// The host that an argument names; omitted = this machine.
pub struct Asked {
    /// Ready for a path.
    path: String,
}

impl Asked {
    /// Takes the argument, or what this machine is called: the id that `up` left, else its host name.
    pub fn new(argument: Option<&str>, client: &Client) -> anyhow::Result<Self> {
        let name = match (argument, client.own_host()) {
            (Some(argument), _) => argument.to_owned(),
            (None, Some(own)) => own.to_owned(),
            (None, None) => own_name()?,
        };
        Ok(Self { path: format!("/hosts/{}", segment(&name)) })
    }

    /// The path of something of this host, e.g. `snapshot`.
    pub fn path(&self, of: &str) -> String {
        format!("{}/{of}", self.path)
    }

    /// What a time means on this host, as the API takes it: relative ones count from the host's clock, which is asked
    /// for only then.
    pub fn instant(&self, client: &Client, text: &str, zone: &TimeZone) -> anyhow::Result<String> {
        let now_ms = if when::needs_clock(text) { self.host_now_ms(client)? } else { 0 };
        Ok(parameter(when::parse(text, now_ms, zone)?))
    }

    /// The host's clock, as far as the collector knows.
    pub fn host_now_ms(&self, client: &Client) -> anyhow::Result<i64> {
        let answer: OneHostJson = client.read(&client.get(&self.path, &[])?)?;
        parse_rfc3339_ms(&answer.host_now).ok_or_else(|| anyhow!("the collector's host_now is no time"))
    }
}

/// What a fleet-wide time means, by the collector's clock, which is asked for only where it matters.
pub fn fleet_instant(client: &Client, text: &str, zone: &TimeZone) -> anyhow::Result<String> {
    let now_ms = if when::needs_clock(text) {
        // The collector's clock comes with any page of hosts.
        let page: NowJson = client.read(&client.get("/hosts", &[("limit", "1".into())])?)?;
        parse_rfc3339_ms(&page.now).ok_or_else(|| anyhow!("the collector's now is no time"))?
    } else {
        0
    };
    Ok(parameter(when::parse(text, now_ms, zone)?))
}

#[derive(Deserialize)]
struct NowJson {
    now: String,
}

fn parameter(when: When) -> String {
    match when {
        When::Now => "now".to_owned(),
        When::At(ms) => format_rfc3339_ms(ms),
    }
}

fn own_name() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name = std::fs::read(path).with_context(|| format!("reading {path} to find out which host this is"))?;
    Ok(highwater_ipc::text::HostText::cut(name.trim_ascii()).escaped())
}

/// This machine's wall clock, for what is shown as an age only.
pub fn own_now_ms() -> i64 {
    crate::clock::SystemClock.now_ms()
}

/// The zone in which people here read times.
pub fn own_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// A time of an answer, local with its offset.
pub fn show_instant(text: &str, zone: &TimeZone) -> String {
    parse_rfc3339_ms(text).map_or_else(|| text.to_owned(), |ms| when::show(ms, zone))
}

/// What every answer about a host may need to say on stderr: notes on the choice of host, and clocks that disagree.
pub fn say_notes(host: &str, notes: &[String], skew_ms: i64) {
    for note in notes {
        eprintln!("highwater: note: {note}");
    }
    if let Some(note) = skew_note(host, skew_ms) {
        eprintln!("highwater: note: {note}");
    }
}

/// Whether clocks that disagree so much are worth telling.
pub fn is_skew_shown(skew_ms: i64) -> bool {
    skew_ms.saturating_abs() > SKEW_SHOWN_MS
}

fn skew_note(host: &str, skew_ms: i64) -> Option<String> {
    let way = if skew_ms < 0 { "behind" } else { "ahead of" };
    let away = when::show_duration(skew_ms.saturating_abs());
    is_skew_shown(skew_ms)
        .then(|| format!("{host}'s clock is {away} {way} the collector's; times are by {host}'s clock"))
}

/// An answer that may be a gap.
pub enum MayBe<T> {
    /// Data.
    Data(T),
    /// None for that instant.
    Gap(Box<GapAnswer>),
}

/// Reads an answer that may be a gap.
pub fn read_may_be<T: serde::de::DeserializeOwned>(client: &Client, answer: &str) -> anyhow::Result<MayBe<T>> {
    // An answer can be large and is read once: a gap has none of the fields that data must have.
    match client.read(answer) {
        Ok(data) => Ok(MayBe::Data(data)),
        Err(wrong) => client.read(answer).map(|gap| MayBe::Gap(Box::new(gap))).map_err(|_| wrong.into()),
    }
}

/// A gap in words: bounds, reason, and the command that shows the last sample before it. `command` is the question
/// without host and time, e.g. `ipcs -s`; it and all that is printed to be run holds nothing that a host has said.
pub fn gap_words(answer: &GapAnswer, command: &str, zone: &TimeZone) -> String {
    let at = |text: &Option<String>| text.as_ref().map(|t| show_instant(t, zone));
    let gap = &answer.gap;
    let asked = show_instant(&answer.asked_at, zone);
    let on_its_way = if gap.settling { "its newest records are stored" } else { "its records are on their way" };
    let reason = gap.reason.as_deref().unwrap_or(on_its_way);
    let span = match (at(&gap.from), at(&gap.to), gap.state.as_str()) {
        (None, Some(to), _) => format!("its first sample is of {to} ({reason})"),
        (None, None, _) if gap.settling => on_its_way.to_owned(),
        (None, None, _) => "it has not sent a sample yet".to_owned(),
        (Some(from), Some(to), _) => format!("gap from {from} to {to} ({reason})"),
        (Some(from), None, "pending") => match at(&gap.backlog_from) {
            Some(backlog) => {
                format!("pending since {from}: the host holds records from {backlog} on and is sending them")
            }
            None => format!("pending since {from}: {reason}"),
        },
        (Some(from), None, _) => format!("gap since {from}, still open ({reason})"),
    };
    let mut words = format!("no data of {} for {asked}: {span}", answer.host);
    if let Some(detail) = &gap.detail {
        words.push_str(&format!("; {detail}"));
    }
    if let Some(last) = &gap.last_sample_at {
        words.push_str(&format!("; the last sample before it: highwater {command} {} --at {last}", answer.host_id));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json::GapJson;

    fn answer(from: Option<&str>, to: Option<&str>, state: &str, reason: Option<&str>) -> GapAnswer {
        let (from, to) = (from.map(str::to_owned), to.map(str::to_owned));
        GapAnswer {
            host: "web-17".into(),
            host_id: "00000000000000ab".into(),
            asked_at: "2026-11-24T03:12:00.000Z".into(),
            skew_ms: 0,
            gap: GapJson {
                from: from.clone(),
                to: to.clone(),
                state: state.into(),
                reason: reason.map(str::to_owned),
                last_sample_at: from,
                next_sample_at: to,
                detail: None,
                backlog_from: None,
                settling: false,
            },
            notes: vec![],
        }
    }

    #[test]
    fn a_gap_says_bounds_reason_and_the_ready_command() {
        let open = answer(Some("2026-11-24T03:11:50.250Z"), None, "open", Some("agent_stopped"));
        assert_eq!(
            gap_words(&open, "ipcs -s", &TimeZone::UTC),
            "no data of web-17 for 2026-11-24 03:12:00 +0000: gap since 2026-11-24 03:11:50 +0000, still open \
             (agent_stopped); the last sample before it: highwater ipcs -s 00000000000000ab --at \
             2026-11-24T03:11:50.250Z"
        );
        let first = answer(None, Some("2026-11-24T04:00:00.000Z"), "closed", Some("before_first"));
        assert_eq!(
            gap_words(&first, "ipcs", &TimeZone::UTC),
            "no data of web-17 for 2026-11-24 03:12:00 +0000: its first sample is of 2026-11-24 04:00:00 +0000 \
             (before_first)"
        );
    }

    #[test]
    fn what_settles_says_so_and_that_asking_again_helps() {
        let mut settling = answer(Some("2026-11-24T03:11:50.250Z"), None, "pending", None);
        settling.gap.settling = true;
        settling.gap.detail = Some("settling: an acknowledged commit is not visible yet; ask again".to_owned());
        let words = gap_words(&settling, "ipcs", &TimeZone::UTC);
        assert!(
            words.contains(
                "pending since 2026-11-24 03:11:50 +0000: its newest records are stored; settling: an acknowledged \
                 commit is not visible yet; ask again; the last sample before it"
            ),
            "{words}"
        );
        (settling.gap.from, settling.gap.last_sample_at) = (None, None);
        let words = gap_words(&settling, "ipcs", &TimeZone::UTC);
        assert!(
            words.ends_with(
                "its newest records are stored; settling: an acknowledged commit is not visible yet; ask again"
            ),
            "{words}"
        );
    }

    #[test]
    fn a_skew_over_two_seconds_is_said() {
        assert_eq!(skew_note("h", 2_000), None);
        assert_eq!(
            skew_note("h", -61_000).unwrap(),
            "h's clock is 1 min 1 s behind the collector's; times are by h's clock"
        );
    }
}
