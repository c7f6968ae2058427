//! `/flags`: what is going wrong, or went; and what operators say of it.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use highwater_ipc::limits::Resource;
use highwater_ipc::time::format_rfc3339_ms;
use serde::Deserialize;

use super::ask;
use super::json::{
    AcknowledgeJson, FlagCauseJson, FlagEventJson, FlagJson, FlagNoteJson, FlagOwnerJson, FlagSampleJson, FlagsJson,
    RemedyJson, SilenceJson, SilencedJson,
};
use super::problem::Problem;
use super::router::Shared;
use crate::evaluate::desk::{self, DeskError};
use crate::evaluate::samples::{self, Sample};
use crate::evaluate::{cause, words};
use crate::flag::{Cause, FlagFilter, FlagId, Note, StoredEvent, StoredFlag};
use crate::identity::operators::{Operator, Role};
use crate::query::Reading;
use crate::query::as_of::{Answer, Instant, as_of};

/// The longest note, characters.
const MOST_NOTE: usize = 1_000;
/// The longest silence, milliseconds: a year.
const MOST_SILENCE_MS: i64 = 366 * 86_400_000;

/// Parameters of `/flags`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FlagsParams {
    host: Option<String>,
    all: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

/// Flags, the newest first.
pub(super) async fn flags(
    State(shared): State<Shared>,
    params: Result<Query<FlagsParams>, QueryRejection>,
) -> Result<Json<FlagsJson>, Problem> {
    let Query(params) = params?;
    let now_ms = shared.clock.now_ms();
    let (all, most) = (ask::flag("all", params.all.as_deref())?, ask::limit(params.limit.as_deref())?);
    let after = read_cursor(params.cursor.as_deref())?;
    let mut reading = Reading::begin(&shared.db).await?;
    let host = match params.host.as_deref() {
        None => None,
        Some(text) => Some(ask::host(&mut reading, text, Instant::Now, now_ms).await?.host.id),
    };
    let asked = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
    let mut found = reading.flags(&FlagFilter { host, all, after }, now_ms, asked).await?;
    let more = found.len() > most;
    found.truncate(most);
    let next_cursor = found.last().filter(|_| more).map(cursor);
    Ok(Json(FlagsJson { flags: found.iter().map(write).collect(), next_cursor }))
}

/// One flag, whole, with what was used over the span it rests on; who holds most and what to do as of now.
pub(super) async fn one_flag(State(shared): State<Shared>, Path(id): Path<String>) -> Result<Json<FlagJson>, Problem> {
    let mut reading = Reading::begin(&shared.db).await?;
    let now_ms = shared.clock.now_ms();
    let mut found = find(&mut reading, &id, now_ms).await?;
    if found.flag.cleared_ms.is_none()
        && let Answer::Held(held) = as_of(&mut reading, found.flag.host, Instant::Now, now_ms).await?.answer
    {
        words::refresh(&mut found.flag, &held.snapshot.state);
    }
    let events = reading.flag_events(found.flag.host, found.flag.id).await?;
    let event = |event: StoredEvent| FlagEventJson {
        at: format_rfc3339_ms(event.at_ms),
        what: event.what,
        severity: event.severity,
    };
    let samples = samples::of_flag(&mut reading, &found.flag, now_ms).await?;
    Ok(Json(FlagJson {
        events: events.into_iter().map(event).collect(),
        samples: Some(samples.iter().map(write_sample).collect()),
        ..write(&found)
    }))
}

/// Says that somebody knows.
pub(super) async fn acknowledge(
    State(shared): State<Shared>,
    Extension(operator): Extension<Operator>,
    Path(id): Path<String>,
    body: Result<Json<AcknowledgeJson>, JsonRejection>,
) -> Result<Json<FlagJson>, Problem> {
    require_operator(&operator)?;
    let Json(body) = body?;
    let now_ms = shared.clock.now_ms();
    let note = Note { text: words(&body.note)?, by: operator.name.clone(), at_ms: now_ms };
    let mut reading = Reading::begin(&shared.db).await?;
    let found = find(&mut reading, &id, now_ms).await?;
    drop(reading);
    desk::acknowledge(&shared.db, (found.flag.host, found.flag.id), &note).await?;
    let mut reading = Reading::begin(&shared.db).await?;
    Ok(Json(write(&find(&mut reading, &id, now_ms).await?)))
}

/// Silences a host.
pub(super) async fn silence(
    State(shared): State<Shared>,
    Extension(operator): Extension<Operator>,
    Path(host): Path<String>,
    body: Result<Json<SilenceJson>, JsonRejection>,
) -> Result<Json<SilencedJson>, Problem> {
    require_operator(&operator)?;
    let Json(body) = body?;
    let now_ms = shared.clock.now_ms();
    if !(0..=MOST_SILENCE_MS).contains(&body.for_ms) {
        return Err(Problem::bad_request("for_ms is no time from 0 to a year"));
    }
    let note = Note { text: words(&body.note)?, by: operator.name.clone(), at_ms: now_ms };
    let mut reading = Reading::begin(&shared.db).await?;
    let host = ask::host(&mut reading, &host, Instant::Now, now_ms).await?.host;
    drop(reading);
    let until_ms = now_ms.saturating_add(body.for_ms);
    desk::silence(&shared.db, host.id, until_ms, &note).await?;
    Ok(Json(SilencedJson { host: host.name, host_id: host.id.to_string(), until: format_rfc3339_ms(until_ms) }))
}

async fn find(reading: &mut Reading, id: &str, now_ms: i64) -> Result<StoredFlag, Problem> {
    let unknown = || Problem::no_such_flag(&format!("no flag {id}: `highwater flags --all` lists them"));
    let id = FlagId::parse(id).ok_or_else(unknown)?;
    reading.flag(id, now_ms).await?.ok_or_else(unknown)
}

fn words(note: &str) -> Result<String, Problem> {
    if note.trim().is_empty() || note.chars().count() > MOST_NOTE {
        return Err(Problem::bad_request(&format!("note wants 1 to {MOST_NOTE} characters")));
    }
    Ok(note.to_owned())
}

fn require_operator(operator: &Operator) -> Result<(), Problem> {
    if operator.role >= Role::Operator {
        return Ok(());
    }
    let detail = format!(
        "flags are acknowledged and silenced by those with the role operator or admin; {:?} is {}",
        operator.name,
        operator.role.as_str()
    );
    Err(Problem::forbidden(&detail))
}

fn write(stored: &StoredFlag) -> FlagJson {
    let flag = &stored.flag;
    let time = |ms: Option<i64>| ms.map(format_rfc3339_ms);
    FlagJson {
        id: flag.id.to_string(),
        host: stored.host.clone(),
        host_id: flag.host.to_string(),
        namespace: flag.namespace.inode,
        resource: flag.resource.name().to_owned(),
        kind: flag.kind.name().to_owned(),
        severity: flag.severity.name().to_owned(),
        state: stored.state.name().to_owned(),
        raised_at: format_rfc3339_ms(flag.raised_ms),
        cleared_at: time(flag.cleared_ms),
        used_u64: flag.used.to_string(),
        limit_u64: flag.limit.to_string(),
        growth_per_hour: flag.growth_per_hour,
        eta: time(flag.eta.at_ms),
        eta_low: time(flag.eta.low_ms),
        eta_high: time(flag.eta.high_ms),
        owner: flag.holder.as_ref().map(|holder| FlagOwnerJson {
            uid: holder.uid,
            user: holder.user.clone(),
            comm: holder.comm.clone(),
            arrays: holder.objects,
            orphans: holder.orphans,
        }),
        cause: flag.cause.as_ref().map(|cause| write_cause(cause, flag.resource)),
        follows: flag.follows.map(|leader| leader.to_string()),
        why: flag.why.clone(),
        remedy: flag
            .remedy
            .iter()
            .map(|step| RemedyJson { step: step.step.clone(), command: step.command.clone(), risk: step.risk.clone() })
            .collect(),
        note: stored.note.as_ref().map(|note| FlagNoteJson {
            note: note.text.clone(),
            by: note.by.clone(),
            at: format_rfc3339_ms(note.at_ms),
        }),
        silenced_until: stored.silence.as_ref().map(|(until_ms, _)| format_rfc3339_ms(*until_ms)),
        events: Vec::new(),
        samples: None,
    }
}

fn write_sample(sample: &Sample) -> FlagSampleJson {
    FlagSampleJson {
        at: format_rfc3339_ms(sample.at_ms),
        used_u64: sample.used.to_string(),
        limit_u64: sample.limit.to_string(),
    }
}

fn write_cause(cause: &Cause, resource: Resource) -> FlagCauseJson {
    FlagCauseJson {
        kind: cause.kind.name().to_owned(),
        comm: cause.comm.clone(),
        per_event: cause.per_event,
        seen: cause.seen,
        of: cause.of,
        left_u64: cause.left.to_string(),
        per_day: cause.per_day,
        days_left: cause.days_left.likely,
        days_left_low: cause.days_left.low,
        days_left_high: cause.days_left.high,
        words: cause::words::words(cause, resource),
    }
}

/// The end of a page: the last flag's place.
fn cursor(last: &StoredFlag) -> String {
    format!("f{}.{}", last.flag.raised_ms, last.flag.id)
}

/// Reads [`cursor`].
fn read_cursor(text: Option<&str>) -> Result<Option<(i64, FlagId)>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let read = || {
        let (raised_ms, id) = text.strip_prefix('f')?.split_once('.')?;
        Some((raised_ms.parse().ok()?, FlagId::parse(id)?))
    };
    read().map(Some).ok_or_else(|| ask::foreign_cursor(text))
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Store(error) => error.into(),
            DeskError::Over => Problem::bad_request(&error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_flags_reads_back_and_a_made_up_one_is_refused() {
        assert_eq!(read_cursor(Some("f-5.00000000000000ff")).unwrap(), Some((-5, FlagId(255))));
        for other in ["", "f", "f1", "f1.", "f1.2", "b1.00000000000000ff", "f1.zz000000000000ff"] {
            assert!(read_cursor(Some(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn a_note_has_words_and_an_end() {
        assert!(words("  ").is_err() && words(&"x".repeat(1_001)).is_err());
        assert_eq!(words("known: ticket 7").unwrap(), "known: ticket 7");
    }
}
