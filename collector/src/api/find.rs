//! `/find`: objects across the fleet and time.

use axum::Json;
use axum::extract::{Query, State, rejection::QueryRejection};
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms as rfc3339;
use serde::Deserialize;

use super::ask;
use super::json::{FindJson, MatchJson};
use super::problem::Problem;
use super::router::Shared;
use crate::query::Reading;
use crate::query::as_of::Instant;
use crate::query::find::{Expr, Found, Mark, Match, NotLookedAt, Place, Question, When, find as search};

/// Parameters of `find`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FindParams {
    expr: Option<String>,
    at: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// Finds.
pub(super) async fn find(
    State(shared): State<Shared>,
    params: Result<Query<FindParams>, QueryRejection>,
) -> Result<Json<FindJson>, Problem> {
    let Query(params) = params?;
    let text = params.expr.clone().unwrap_or_default();
    let expr: Expr = text.parse().map_err(|refused| Problem::bad_request(&format!("expr: {refused}")))?;
    let now_ms = shared.clock.now_ms();
    let when = when(&params, now_ms)?;
    let most = ask::limit(params.limit.as_deref())?;
    let after = read_cursor(params.cursor.as_deref())?;
    let question = Question { expr, when, most, after };
    let mut reading = Reading::begin(&shared.db).await?;
    let found = search(&mut reading, &question, now_ms).await?;
    Ok(Json(answer(text, when, &found, now_ms)))
}

/// Instants are of the collector's clock: no host is asked about.
fn when(params: &FindParams, now_ms: i64) -> Result<When, Problem> {
    let read = |name, text: &Option<String>| {
        let instant = text.as_deref().map(|text| ask::instant(name, Some(text))).transpose()?;
        let at_ms = instant.map(|instant| if let Instant::At(at_ms) = instant { at_ms } else { now_ms });
        match at_ms {
            Some(at_ms) if at_ms > now_ms => Err(Problem::future(&format!(
                "{name} ({}) has not come yet: the collector's clock shows {}",
                rfc3339(at_ms),
                rfc3339(now_ms)
            ))),
            at_ms => Ok(at_ms),
        }
    };
    let (since, until) = (read("since", &params.since)?, read("until", &params.until)?);
    let at_text = params.at.as_ref().filter(|text| *text != "now");
    match (read("at", &params.at)?, since, until) {
        (None, None, None) => Ok(When::Now),
        (Some(at_ms), None, None) => Ok(at_text.map_or(When::Now, |_| When::At(at_ms))),
        (Some(_), ..) => Err(Problem::bad_request("at excludes since and until")),
        (None, None, Some(_)) => Err(Problem::bad_request("until needs since: from when on it is looked for")),
        (None, Some(since_ms), until) => {
            let until_ms = until.unwrap_or(now_ms);
            if since_ms > until_ms {
                return Err(Problem::bad_request("since is later than until"));
            }
            Ok(When::Between(since_ms, until_ms))
        }
    }
}

fn answer(expr: String, when: When, found: &Found, now_ms: i64) -> FindJson {
    let (at, span) = match when {
        When::Now => (Some(now_ms), None),
        When::At(at_ms) => (Some(at_ms), None),
        When::Between(since_ms, until_ms) => (None, Some((since_ms, until_ms))),
    };
    let (since, until) = span.map(|(since, until)| (rfc3339(since), rfc3339(until))).unzip();
    FindJson {
        matches: found.matches.iter().map(one).collect(),
        next_cursor: found.next.as_ref().map(cursor),
        expr,
        at: at.map(rfc3339),
        since,
        until,
        notes: notes(&found.not_looked_at),
    }
}

fn one(found: &Match) -> MatchJson {
    let life = &found.life;
    let here = |host_ms: i64| rfc3339(host_ms.saturating_sub(found.skew_ms));
    MatchJson {
        host: found.host.name.clone(),
        host_id: found.host.id.to_string(),
        skew_ms: found.skew_ms,
        namespace: life.namespace.inode,
        namespace_name: life.namespace_name.as_ref().map(HostText::escaped),
        kind: life.kind.name().to_owned(),
        key: life.key.to_string(),
        id: life.id,
        uid: life.uid,
        user: life.user.as_ref().map(HostText::escaped),
        comm: life.comm.as_ref().map(HostText::escaped),
        from: here(life.from_ms),
        from_is: life.from_is.name().to_owned(),
        to: life.to.map(|(to_ms, _)| here(to_ms)),
        to_is: life.to.map(|(_, why)| why.name().to_owned()),
    }
}

fn notes(not: &NotLookedAt) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(tails) = not.tails {
        let since = tails.since_ms.map_or_else(|| "ever".to_owned(), |ms| format!("since {}", rfc3339(ms)));
        notes.push(format!(
            "too many hosts have records of their last minutes that are not compacted yet: what came on a host {since} \
             or later is missing here unless the host held such an object before; --since finds it"
        ));
    }
    if not.in_a_gap > 0 {
        notes.push(format!(
            "{} that may have held such an object {} no data for that instant: `highwater hosts --at` lists them",
            hosts(not.in_a_gap),
            if not.in_a_gap == 1 { "has" } else { "have" }
        ));
    }
    if not.unreadable > 0 {
        notes.push(format!(
            "the stored records of {} do not read: `highwater ipcs` on each says why",
            hosts(not.unreadable)
        ));
    }
    notes
}

fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

/// The end of a page: the host, and its last match if more of it are to come.
fn cursor(mark: &Mark) -> String {
    let host = ask::host_cursor(&mark.host);
    match mark.after {
        None => format!("f{host}"),
        Some((namespace, kind, id, from_ms)) => {
            format!("f{host}.{}.{}.{}.{id}.{from_ms}", namespace.inode, namespace.instance, kind.name())
        }
    }
}

/// Reads [`cursor`].
fn read_cursor(text: Option<&str>) -> Result<Option<Mark>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let refused = || ask::foreign_cursor(text);
    let rest = text.strip_prefix('f').ok_or_else(refused)?;
    let mut parts = rest.splitn(3, '.');
    let host = match (parts.next(), parts.next()) {
        (Some(id), Some(name)) => ask::read_host_cursor(Some(&format!("{id}.{name}")))?.ok_or_else(refused)?,
        _ => return Err(refused()),
    };
    let after = parts.next().map(|rest| place(rest).ok_or_else(refused)).transpose()?;
    Ok(Some(Mark { host, after }))
}

fn place(text: &str) -> Option<Place> {
    let parts: Vec<&str> = text.split('.').collect();
    let [inode, instance, kind, id, from_ms] = parts.as_slice() else { return None };
    let namespace = NamespaceId { inode: inode.parse().ok()?, instance: instance.parse().ok()? };
    let kind = Kind::ALL.into_iter().find(|k| k.name() == *kind)?;
    Some((namespace, kind, id.parse().ok()?, from_ms.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostId;
    use crate::query::HostName;

    #[test]
    fn a_cursor_of_find_reads_back_and_a_made_up_one_is_refused() {
        let host = HostName { name: "wéb.1".into(), id: HostId(77) };
        let place = (NamespaceId { inode: 4, instance: u64::MAX }, Kind::Shm, -3, i64::MIN);
        for after in [None, Some(place)] {
            let mark = Mark { host: host.clone(), after };
            assert_eq!(read_cursor(Some(&cursor(&mark))).unwrap(), Some(mark));
        }
        for other in ["", "f", "h000000000000004d.00", "fh000000000000004d.00.1", "fh000000000000004d.00.1.2.pipe.3.4"]
        {
            assert!(read_cursor(Some(other)).is_err(), "{other}");
        }
    }

    fn asked(at: Option<&str>, since: Option<&str>, until: Option<&str>) -> Result<When, String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let params = FindParams { at: own(at), since: own(since), until: own(until), ..FindParams::default() };
        when(&params, 5_000).map_err(|problem| serde_json::to_value(problem).unwrap()["detail"].to_string())
    }

    #[test]
    fn an_instant_a_span_or_neither_is_asked_for_by_the_collectors_clock() {
        let (second, tenth) = ("1970-01-01T00:00:02Z", "1970-01-01T00:00:10Z");
        assert_eq!(asked(None, None, None), Ok(When::Now));
        assert_eq!(asked(Some("now"), None, None), Ok(When::Now));
        assert_eq!(asked(Some(second), None, None), Ok(When::At(2_000)));
        assert_eq!(asked(None, Some(second), None), Ok(When::Between(2_000, 5_000)));
        assert_eq!(asked(None, Some(second), Some(second)), Ok(When::Between(2_000, 2_000)));
        let refused = [
            (asked(Some(second), Some(second), None), "at excludes since"),
            (asked(None, None, Some(second)), "until needs since"),
            (asked(None, Some("now"), Some(second)), "since is later than until"),
            (asked(Some(tenth), None, None), "has not come yet"),
            (asked(None, Some(second), Some(tenth)), "has not come yet"),
        ];
        for (answer, words) in refused {
            assert!(answer.as_ref().is_err_and(|e| e.contains(words)), "{answer:?} {words}");
        }
    }
}
