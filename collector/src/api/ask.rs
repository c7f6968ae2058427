//! What the parameters of a request mean: host, instants, lists, cursors.

use highwater_ipc::availability::SysvipcState;
use highwater_ipc::object::Kind;
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::time::{format_rfc3339_ms, parse_rfc3339_ms};

use super::problem::Problem;
use crate::host::HostId;
use crate::query::AskError;
use crate::query::HostName;
use crate::query::Reading;
use crate::query::as_of::Instant;
use crate::query::event::EventKind;
use crate::query::fleet::AtRisk;
use crate::query::host::{Meaning, Resolved, resolve};
use crate::query::timeline::Bookmark;
use crate::query::trail::Anchor;
use crate::query::walk::{Place, Position};

/// Answers a page holds, unless told otherwise, and at most.
const LIMIT: (usize, usize) = (1_000, 10_000);

/// The host of a path segment, which may be a name of that instant; `now_ms` is the collector's clock.
pub(super) async fn host(
    reading: &mut Reading,
    text: &str,
    instant: Instant,
    now_ms: i64,
) -> Result<Resolved, Problem> {
    let at_ms = if let Instant::At(at_ms) = instant { Some(at_ms) } else { None };
    match resolve(reading, text, at_ms, now_ms).await? {
        Meaning::One(resolved) => Ok(resolved),
        Meaning::None => {
            let detail = format!(
                "no host is or was called {text:?}, and none has an id or name that begins so; `highwater hosts --all` lists them"
            );
            Err(Problem::no_such_host(&detail))
        }
        Meaning::Several { hosts, more } => Err(several(text, &hosts, more)),
    }
}

fn several(text: &str, hosts: &[HostName], more: bool) -> Problem {
    let candidates: Vec<String> = hosts.iter().map(|h| format!("{} ({})", h.name, h.id)).collect();
    let more = if more { " and more, which `highwater hosts --all` lists" } else { "" };
    Problem::ambiguous(&format!("{text:?} begins several hosts: {}{more}", candidates.join(", ")), candidates)
}

/// An instant by the host's clock: RFC 3339 or `now`; absent = now.
pub(super) fn instant(name: &str, text: Option<&str>) -> Result<Instant, Problem> {
    match text {
        None | Some("now") => Ok(Instant::Now),
        Some(text) => parse_rfc3339_ms(text).map(Instant::At).ok_or_else(|| {
            Problem::bad_request(&format!("{name}={text} is neither `now` nor RFC 3339 (2026-11-24T03:12:00Z)"))
        }),
    }
}

/// A yes or no: `1`, `true` or empty = yes; `0`, `false` or absent = no.
pub(super) fn flag(name: &str, text: Option<&str>) -> Result<bool, Problem> {
    match text {
        None | Some("0" | "false") => Ok(false),
        Some("" | "1" | "true") => Ok(true),
        Some(text) => Err(Problem::bad_request(&format!("{name}={text} is neither true nor false"))),
    }
}

/// How many answers a page holds.
pub(super) fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let (default, most) = LIMIT;
    let Some(text) = text else { return Ok(default) };
    match text.parse::<usize>() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(Problem::bad_request(&format!("limit={text} is no number from 1 to {most}"))),
    }
}

/// A comma-separated list of words, each of which must mean something; `values` says what.
pub(super) fn list<T>(
    name: &str,
    text: Option<&str>,
    values: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Problem> {
    let words = text.unwrap_or_default().split(',').filter(|w| !w.is_empty());
    let refused = |word| Problem::bad_request(&format!("{name}: {word:?} is none of its values: {values}"));
    words.map(|word| read(word).ok_or_else(|| refused(word))).collect()
}

/// Availability states.
pub(super) fn states(text: Option<&str>) -> Result<Vec<SysvipcState>, Problem> {
    list("state", text, &SysvipcState::ALL.map(SysvipcState::name).join(", "), SysvipcState::from_name)
}

/// Kinds of events.
pub(super) fn event_kinds(text: Option<&str>) -> Result<Vec<EventKind>, Problem> {
    list("kind", text, &EventKind::ALL.map(|(_, name)| name).join(", "), EventKind::from_name)
}

/// Kinds of objects.
pub(super) fn kinds(text: Option<&str>) -> Result<Vec<Kind>, Problem> {
    let read = |word: &str| Kind::ALL.into_iter().find(|k| k.name() == word);
    list("kind", text, &Kind::ALL.map(Kind::name).join(", "), read)
}

/// Kinds of risks.
pub(super) fn risks(text: Option<&str>) -> Result<Vec<AtRisk>, Problem> {
    list("at_risk", text, &AtRisk::ALL.map(AtRisk::name).join(", "), AtRisk::from_name)
}

/// `KEY=VALUE`.
pub(super) fn label(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}

/// An object: `sem:98304`.
pub(super) fn subject(text: &str) -> Option<(Kind, i32)> {
    let (kind, id) = text.split_once(':')?;
    Some((Kind::ALL.into_iter().find(|k| k.name() == kind)?, id.parse().ok()?))
}

/// The end of a page of hosts: id, then name.
pub(super) fn host_cursor(host: &HostName) -> String {
    format!("h{}.{}", host.id, hex(host.name.as_bytes()))
}

/// Reads [`host_cursor`].
pub(super) fn read_host_cursor(text: Option<&str>) -> Result<Option<HostName>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let read = || {
        let (id, name) = text.strip_prefix('h')?.split_once('.')?;
        let name = String::from_utf8(unhex(name)?).ok()?;
        Some(HostName { name, id: HostId::parse(id)? })
    };
    read().map(Some).ok_or_else(|| foreign_cursor(text))
}

/// The end of a page of events, and where to begin to know what was known there.
pub(super) fn event_cursor(mark: &Bookmark) -> String {
    let Bookmark { position, told, since } = mark;
    let since = since.map_or_else(String::new, |since| {
        let opened = if since.opened { "~o" } else { "~" };
        format!("{opened}{}", position_text(since.from))
    });
    format!("e{}.{told}{since}", position_text(*position))
}

/// Reads [`event_cursor`].
pub(super) fn read_event_cursor(text: Option<&str>) -> Result<Option<Bookmark>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let read = || {
        let (mark, since) = match text.strip_prefix('e')?.split_once('~') {
            Some((mark, since)) => (mark, Some(since)),
            None => (text.strip_prefix('e')?, None),
        };
        let (position, told) = mark.rsplit_once('.')?;
        let since = match since {
            None => None,
            Some(since) => {
                let from = since.strip_prefix('o');
                Some(Anchor { from: read_position(from.unwrap_or(since))?, opened: from.is_some() })
            }
        };
        Some(Bookmark { position: read_position(position)?, told: told.parse().ok()?, since })
    };
    read().map(Some).ok_or_else(|| foreign_cursor(text))
}

/// A record: its stretch and its place there, and where that is imported what it follows.
fn position_text(Position { place, seq }: Position) -> String {
    let after = place.after().map_or_else(String::new, |(epoch, number)| format!(".{}.{number}", epoch.0));
    format!("{}.{}.{}{after}", place.epoch().0, place.number(), seq.0)
}

fn read_position(text: &str) -> Option<Position> {
    let mut parts = text.split('.');
    let (epoch, number) = (EpochNo(parts.next()?.parse().ok()?), parts.next()?.parse().ok()?);
    let seq = Seq(parts.next()?.parse().ok()?);
    let place = match parts.next() {
        Some(after) => Place::imported((EpochNo(after.parse().ok()?), parts.next()?.parse().ok()?), epoch, number),
        None => Place::own(epoch, number),
    };
    parts.next().is_none().then_some(Position { place, seq })
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Store(error) => error.into(),
            AskError::Fold(error) => {
                tracing::error!(%error, "stored history does not read");
                Problem::internal(&error.to_string())
            }
            AskError::Future { asked_ms, host_now_ms } => Problem::future(&format!(
                "{} has not come yet: the host's clock shows {}",
                format_rfc3339_ms(asked_ms),
                format_rfc3339_ms(host_now_ms)
            )),
            AskError::Backwards { from_ms, to_ms } => Problem::bad_request(&format!(
                "from ({}) is later than to ({})",
                format_rfc3339_ms(from_ms),
                format_rfc3339_ms(to_ms)
            )),
            AskError::TooMuch { .. } => Problem::bad_request(&error.to_string()),
        }
    }
}

/// A cursor that was made up, or belongs to another resource.
pub(super) fn foreign_cursor(text: &str) -> Problem {
    Problem::bad_request(&format!("cursor={text} is not one that this resource gave as next_cursor"))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    highwater_proto::token::to_hex(bytes)
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.len().is_multiple_of(2).then(|| text.as_bytes().chunks(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_a_made_up_one_is_refused() {
        let host = HostName { name: "wéb.1,\\x0a".into(), id: HostId(77) };
        assert_eq!(read_host_cursor(Some(&host_cursor(&host))).unwrap(), Some(host));
        let own = Place::own(EpochNo(u64::MAX), 3);
        for place in [own, Place::imported((EpochNo(0), -1), EpochNo(1 << 62), 7)] {
            let position = Position { place, seq: Seq(9) };
            for opened in [None, Some(false), Some(true)] {
                let since = opened.map(|opened| Anchor { from: position, opened });
                let mark = Bookmark { position, told: usize::MAX, since };
                assert_eq!(read_event_cursor(Some(&event_cursor(&mark))).unwrap(), Some(mark));
            }
        }
        for other in [
            "",
            "h",
            "e1.2.3",
            "e1.2.3.4.5",
            "e1.2.3.4~",
            "e1.2.3.4~1.2",
            "e1.2.3.4~oo1.2.3",
            "e1.2.3.4~1.2.3~1.2.3",
            "hzz.00",
            "h000000000000004d.0",
            "é",
        ] {
            assert!(read_host_cursor(Some(other)).is_err(), "{other}");
            assert!(read_event_cursor(Some(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn an_ambiguous_name_says_that_it_lists_not_all_candidates() {
        let hosts = [HostName { name: "web-1".into(), id: HostId(1) }];
        let detail = |more| serde_json::to_value(several("web", &hosts, more)).unwrap()["detail"].to_string();
        assert!(detail(true).contains("(0000000000000001) and more, which `highwater hosts --all` lists"));
        assert!(!detail(false).contains("more"));
    }

    #[test]
    fn instants_are_rfc_3339_or_now() {
        assert_eq!(instant("at", None).unwrap(), Instant::Now);
        assert_eq!(instant("at", Some("1970-01-01T01:00:00+01:00")).unwrap(), Instant::At(0));
        assert!(instant("at", Some("yesterday")).is_err());
    }

    #[test]
    fn a_word_that_means_nothing_is_refused_with_the_words_that_do() {
        let detail = |problem| serde_json::to_value::<Problem>(problem).unwrap()["detail"].as_str().unwrap().to_owned();
        assert_eq!(
            detail(states(Some("available,gone")).unwrap_err()),
            "state: \"gone\" is none of its values: available, absent, proc_hidden, blocked, unknown"
        );
        assert!(detail(event_kinds(Some("made")).unwrap_err()).contains("created, removed, changed"));
        assert_eq!(states(Some("absent")).unwrap(), [SysvipcState::Absent]);
    }

    #[test]
    fn a_limit_is_from_one_to_ten_thousand() {
        assert_eq!(limit(None).unwrap(), 1_000);
        assert_eq!(limit(Some("10000")).unwrap(), 10_000);
        for bad in ["0", "10001", "-1", "x", ""] {
            assert!(limit(Some(bad)).is_err(), "{bad}");
        }
    }
}
