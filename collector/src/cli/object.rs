//! `highwater ipcs -i ID`: one object whole, and when it came and went.

use anyhow::{Context as _, bail};
use highwater_ipc::object::Kind;
use highwater_ipc::render::ipcs_object;
use highwater_ipc::snapshot::{Namespace, Snapshot};
use highwater_ipc::time::{format_rfc3339_ms, parse_rfc3339_ms};
use highwater_proto::json::{HeldJson, SnapshotJson, SpanJson};
use serde::Serialize;

use super::args::Global;
use super::client::Client;
use super::event_text::by_words;
use super::exit::Exit;
use super::host::{Asked, MayBe, read_may_be};
use super::ipcs::HostZone;
use super::{print, when};
use crate::api::json::{ByJson, EventJson, ObjectJson, TimelineJson};

/// The pages of events that each of the two searches for an object's life reads at most.
const MOST_PAGES: usize = 32;

/// The span next to the instant that is searched first, milliseconds; each further one is twice as long.
const FIRST_SPAN_MS: i64 = 86_400_000;

/// What `-i` is answered from.
pub struct Found<'a> {
    /// Whom to ask for events.
    pub client: &'a Client,
    /// The answer.
    pub json: &'a SnapshotJson,
    /// The same, read.
    pub snapshot: &'a Snapshot,
    /// The namespaces that are wanted.
    pub chosen: &'a [&'a Namespace],
    /// Whether it is of now.
    pub is_now: bool,
}

/// Searches for the object's life and prints both.
pub fn run(found: &Found<'_>, (kind, id): (Kind, i32), global: &Global) -> anyhow::Result<Exit> {
    let host = found.json.host.as_deref().unwrap_or("the host");
    let host_id = found.json.host_id.as_deref().unwrap_or_default();
    let Some((namespace, object)) = found.chosen.iter().find_map(|n| Some((*n, row(found.json, n, (kind, id))?)))
    else {
        bail!(
            "{host} had no {} {id} at {}; `highwater timeline {host_id} --kind created,removed` shows what it had",
            kind.name(),
            found.json.at,
        );
    };
    let at_ms = parse_rfc3339_ms(&found.json.at).context("the collector's `at` is no time")?;
    let asked = Asked::new(Some(host_id), found.client)?;
    let search = Search { client: found.client, asked: &asked, kind, id, namespace: namespace.id.inode };
    let life = search.life(at_ms, found.is_now)?;
    if global.wants_json() {
        let (from_ms, to_ms) = life.searched_ms;
        let answer = OneObject {
            host,
            host_id,
            at: &found.json.at,
            namespace: namespace.id.inode,
            kind: kind.name(),
            object: &object,
            created: life.created.as_ref(),
            removed: life.removed.as_ref(),
            searched: SpanJson { from: format_rfc3339_ms(from_ms), to: format_rfc3339_ms(to_ms) },
        };
        let text = serde_json::to_string(&answer).context("writing the answer")?;
        print::answer(format!("{text}\n").as_bytes()).context("writing the answer")?;
        return Ok(Exit::Answered);
    }
    let zone = HostZone::of(&found.snapshot.state.zone, host);
    let mut text = ipcs_object(&found.snapshot.state, namespace, kind, id, &zone).unwrap_or_default();
    text.extend(held_words(held(&object)).into_bytes());
    text.extend(life.words(found.is_now, &zone).into_bytes());
    print::answer(&text).context("writing the answer")?;
    Ok(Exit::Answered)
}

/// The answer as JSON.
#[derive(Serialize)]
struct OneObject<'a> {
    host: &'a str,
    host_id: &'a str,
    /// The sample that shows it.
    at: &'a str,
    namespace: u64,
    kind: &'a str,
    object: &'a ObjectJson,
    /// null = no record of it in the span that was searched.
    created: Option<&'a Moment>,
    /// Likewise; also null while it is there.
    removed: Option<&'a Moment>,
    /// The span whose records were searched: from the host's first sample to its present, or less.
    searched: SpanJson,
}

/// An object's row in that namespace of an answer.
fn row(json: &SnapshotJson, namespace: &Namespace, (kind, id): (Kind, i32)) -> Option<ObjectJson> {
    let instance = namespace.id.instance.to_string();
    let rows = json.namespaces.iter().find(|n| n.id == namespace.id.inode && n.instance == instance)?;
    match kind {
        Kind::Sem => rows.sem.iter().flatten().find(|o| o.semid == id).cloned().map(ObjectJson::Sem),
        Kind::Shm => rows.shm.iter().flatten().find(|o| o.shmid == id).cloned().map(ObjectJson::Shm),
        Kind::Msg => rows.msg.iter().flatten().find(|o| o.msqid == id).cloned().map(ObjectJson::Msg),
    }
}

/// When an object came and went, as far as that was recorded and searched.
struct Life {
    created: Option<Moment>,
    removed: Option<Moment>,
    /// The span that was searched, host's clock, milliseconds.
    searched_ms: (i64, i64),
    /// Whether that begins with the host's first sample ...
    from_first: bool,
    /// ... and ends with its present.
    to_now: bool,
}

/// What is known of an object beside its row.
fn held(object: &ObjectJson) -> &HeldJson {
    match object {
        ObjectJson::Sem(o) => &o.held,
        ObjectJson::Shm(o) => &o.held,
        ObjectJson::Msg(o) => &o.held,
    }
}

/// A line each: the programs of its owner, the one that made it or used it last, whether it is an orphan and why.
fn held_words(held: &HeldJson) -> String {
    let mut words = String::new();
    let mut line = |name: &str, value: &str| words.push_str(&format!("{name}={value}\n"));
    match &held.owners {
        Some(Some(comms)) if comms.is_empty() => line("owners", "no process of its uid in this namespace"),
        Some(Some(comms)) => line("owners", &comms.join(", ")),
        Some(None) => line("owners", "unknown"),
        None => {}
    }
    if let Some(Some(comm)) = &held.comm {
        line("comm", comm);
    }
    if let Some(Some(orphan)) = &held.orphan {
        line("orphan", &format!("{}: {}", orphan.grade, orphan.reason));
    }
    if let Some(Some(pids)) = &held.last_pids {
        let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
        line("last_pids", &pids.join(" "));
    }
    words
}

/// When something happened: between two samples.
#[derive(Debug, Serialize)]
struct Moment {
    /// Last sample that does not show it; null = `at` is exact.
    not_before: Option<String>,
    /// First sample that shows it; null = not recorded.
    at: Option<String>,
    /// Who did it; null = not known.
    by: Option<ByJson>,
}

impl Life {
    /// Two lines more below the object's fields; `is_now` = the fields are of now.
    fn words(&self, is_now: bool, zone: &HostZone) -> String {
        let show_ms = |ms| when::show(ms, zone.zone());
        let show = |text: &String| parse_rfc3339_ms(text).map_or_else(|| text.clone(), show_ms);
        let span = |moment: &Moment| {
            let when = match (&moment.not_before, &moment.at) {
                (Some(before), Some(at)) => format!("between {} and {}", show(before), show(at)),
                (None, Some(at)) => show(at),
                (Some(before), None) => format!("after {}", show(before)),
                (None, None) => "unknown".to_owned(),
            };
            // What the kernel keeps of the creator is among the fields above.
            let traced = moment.by.as_ref().filter(|by| by.source == "trace");
            traced.map_or_else(|| when.clone(), |by| format!("{when} by {}", by_words(by)))
        };
        let created = match (&self.created, self.from_first) {
            (Some(moment), _) => span(moment),
            (None, true) => "before the first sample".to_owned(),
            (None, false) => format!("unknown (searched back to {})", show_ms(self.searched_ms.0)),
        };
        let removed = match (&self.removed, self.to_now) {
            (Some(moment), _) => span(moment),
            (None, true) if is_now => "not yet".to_owned(),
            (None, true) => "not by the last sample".to_owned(),
            (None, false) => format!("unknown (searched up to {})", show_ms(self.searched_ms.1)),
        };
        format!("created={created}\nremoved={removed}\n")
    }
}

/// A search among the events of one object.
struct Search<'a> {
    client: &'a Client,
    asked: &'a Asked,
    kind: Kind,
    id: i32,
    namespace: u64,
}

impl Search<'_> {
    /// From the instant back to what created it, and on to what removed it.
    fn life(&self, at_ms: i64, is_now: bool) -> anyhow::Result<Life> {
        let events = |span_ms, pages: &mut usize| self.events(span_ms, pages);
        let (created, from_ms, from_first) = back(at_ms, self.first_sample_ms()?, events)?;
        let (removed, to_ms, to_now) =
            if is_now { (None, at_ms, true) } else { forth(at_ms, self.asked.host_now_ms(self.client)?, events)? };
        Ok(Life { created, removed, searched_ms: (from_ms, to_ms), from_first, to_now })
    }

    /// When the host's history begins.
    fn first_sample_ms(&self) -> anyhow::Result<i64> {
        let start = ("at", "1970-01-01T00:00:00Z".to_owned());
        let answer = self.client.get(&self.asked.path("snapshot"), &[start])?;
        Ok(match read_may_be::<SnapshotJson>(self.client, &answer)? {
            MayBe::Gap(gap) => gap.gap.next_sample_at.as_deref().and_then(parse_rfc3339_ms).unwrap_or(0),
            MayBe::Data(_) => 0,
        })
    }

    /// The object's beginnings and ends in a span, those of its boot and its namespace among them; `None` = that takes more pages than are left.
    fn events(&self, (from_ms, to_ms): (i64, i64), pages: &mut usize) -> anyhow::Result<Option<Vec<EventJson>>> {
        let parameters = vec![
            ("since", format_rfc3339_ms(from_ms)),
            ("until", format_rfc3339_ms(to_ms)),
            ("kind", "created,removed,reboot,namespace_gone".to_owned()),
            ("subject", format!("{}:{}", self.kind.name(), self.id)),
        ];
        let mut events = Vec::new();
        let mut cursor = None;
        while *pages > 0 {
            *pages -= 1;
            let mut page = parameters.clone();
            page.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let json: TimelineJson = self.client.read(&self.client.get(&self.asked.path("timeline"), &page)?)?;
            // What came and went between two samples was another object with that id.
            let ends_all = |e: &EventJson| ["reboot", "namespace_gone"].contains(&e.kind.as_str());
            let here = |e: &EventJson| e.namespace.is_none_or(|n| n == self.namespace);
            events.extend(json.events.into_iter().filter(|e| here(e) && (e.subject.is_some() || ends_all(e))));
            match json.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(Some(events)),
            }
        }
        Ok(None)
    }
}

/// What a search found, how far it went, and whether that is as far as there is.
type Ended = (Option<Moment>, i64, bool);

/// Searches backwards from `at_ms` in spans that double, down to `first_ms`.
fn back(
    at_ms: i64,
    first_ms: i64,
    events: impl Fn((i64, i64), &mut usize) -> anyhow::Result<Option<Vec<EventJson>>>,
) -> anyhow::Result<Ended> {
    let (mut pages, mut span_ms, mut to_ms) = (MOST_PAGES, FIRST_SPAN_MS, at_ms);
    loop {
        let from_ms = to_ms.saturating_sub(span_ms).max(first_ms.min(to_ms));
        let Some(mut events) = events((from_ms, to_ms), &mut pages)? else { return Ok((None, to_ms, false)) };
        if let Some(last) = events.pop() {
            let moment = match last.kind.as_str() {
                "created" => Moment { not_before: last.detail.not_before, at: Some(last.at), by: last.by },
                // It was gone then, and is here: it came later, unseen.
                _ => Moment { not_before: Some(last.at), at: None, by: None },
            };
            return Ok((Some(moment), from_ms, from_ms <= first_ms));
        }
        if from_ms <= first_ms {
            return Ok((None, from_ms, true));
        }
        (to_ms, span_ms) = (from_ms, span_ms.saturating_mul(2));
    }
}

/// Searches forwards from after `at_ms` in spans that double, up to `now_ms`.
fn forth(
    at_ms: i64,
    now_ms: i64,
    events: impl Fn((i64, i64), &mut usize) -> anyhow::Result<Option<Vec<EventJson>>>,
) -> anyhow::Result<Ended> {
    let (mut pages, mut span_ms, mut from_ms) = (MOST_PAGES, FIRST_SPAN_MS, at_ms.saturating_add(1));
    loop {
        let to_ms = from_ms.saturating_add(span_ms).min(now_ms.max(from_ms));
        let Some(events) = events((from_ms, to_ms), &mut pages)? else { return Ok((None, from_ms, false)) };
        if let Some(first) = events.into_iter().find(|e| e.kind != "created") {
            let moment = Moment { not_before: first.detail.not_before, at: Some(first.at), by: first.by };
            return Ok((Some(moment), to_ms, to_ms >= now_ms));
        }
        if to_ms >= now_ms {
            return Ok((None, to_ms, true));
        }
        (from_ms, span_ms) = (to_ms, span_ms.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use highwater_ipc::text::HostText;

    use super::*;

    const DAY_MS: i64 = 86_400_000;

    /// A history of `kind` at that day, of which each page holds at most a day.
    fn history(all: &[(&str, i64)]) -> impl Fn((i64, i64), &mut usize) -> anyhow::Result<Option<Vec<EventJson>>> {
        let event = |(kind, day): &(&str, i64)| -> EventJson {
            let at = format_rfc3339_ms(day * DAY_MS);
            serde_json::from_value(serde_json::json!({"at": at, "kind": kind, "namespace": null, "subject": null,
                "detail": {}, "by": null}))
            .unwrap()
        };
        let all: Vec<EventJson> = all.iter().map(event).collect();
        move |(from_ms, to_ms), pages| {
            assert!(from_ms <= to_ms);
            let days = usize::try_from((to_ms - from_ms) / DAY_MS).unwrap() + 1;
            let Some(left) = pages.checked_sub(days) else { return Ok(None) };
            *pages = left;
            let within = |e: &&EventJson| (from_ms..=to_ms).contains(&parse_rfc3339_ms(&e.at).unwrap());
            Ok(Some(all.iter().filter(within).cloned().collect()))
        }
    }

    fn day(moment: &Ended) -> Option<i64> {
        moment.0.as_ref().and_then(|m| m.at.as_deref()).map(|t| parse_rfc3339_ms(t).unwrap() / DAY_MS)
    }

    #[test]
    fn the_last_creation_before_and_the_first_end_after_an_instant_are_found() {
        let events =
            [("created", 3), ("removed", 5), ("created", 90), ("removed", 95), ("created", 96), ("reboot", 97)];
        let at_ms = 92 * DAY_MS;
        assert_eq!(day(&back(at_ms, 0, history(&events)).unwrap()), Some(90));
        assert_eq!(day(&forth(at_ms, 99 * DAY_MS, history(&events)).unwrap()), Some(95));
        let unseen = back(6 * DAY_MS, 0, history(&events)).unwrap();
        let moment = unseen.0.unwrap();
        assert_eq!((moment.not_before, moment.at), (Some(format_rfc3339_ms(5 * DAY_MS)), None));
    }

    #[test]
    fn who_holds_an_object_is_a_line_each_and_what_is_not_known_is_left_out() {
        let held = |json: &str| held_words(&serde_json::from_str(json).unwrap());
        assert_eq!(
            held(
                r#"{"owners":[],"comm":"apache2","orphan":{"grade":"certain","doubt":"none","reason":"all are dead"},
                "last_pids":[70,71]}"#
            ),
            "owners=no process of its uid in this namespace\ncomm=apache2\norphan=certain: all are dead\nlast_pids=70 71\n"
        );
        assert_eq!(held(r#"{"owners":["a","b"],"comm":null,"orphan":null,"last_pids":null}"#), "owners=a, b\n");
        assert_eq!(held(r#"{"owners":null}"#), "owners=unknown\n");
        assert_eq!(held("{}"), "", "an older agent");
    }

    #[test]
    fn a_search_that_was_cut_says_how_far_it_went_and_claims_nothing() {
        let zone = HostZone::of(&HostText::from(""), "h");
        let life = |(created, from_ms, from_first): Ended, (removed, to_ms, to_now): Ended| Life {
            created,
            removed,
            searched_ms: (from_ms, to_ms),
            from_first,
            to_now,
        };
        let at_ms = 400 * DAY_MS;
        let cut = life(
            back(at_ms, 0, history(&[("created", 1)])).unwrap(),
            forth(at_ms, 900 * DAY_MS, history(&[])).unwrap(),
        );
        assert_eq!(
            cut.words(false, &zone),
            "created=unknown (searched back to 1971-01-21 00:00:00 +0000)\n\
             removed=unknown (searched up to 1971-02-20 00:00:00 +0000)\n"
        );
        let whole = life(
            back(at_ms, at_ms - 9 * DAY_MS, history(&[])).unwrap(),
            forth(at_ms, at_ms + 9 * DAY_MS, history(&[])).unwrap(),
        );
        assert_eq!(whole.words(false, &zone), "created=before the first sample\nremoved=not by the last sample\n");
        assert!(whole.words(true, &zone).ends_with("removed=not yet\n"));
    }
}
