//! `/hosts/{host}/explain`: what a log line came from.

use axum::Json;
use axum::extract::{Path, Query, State, rejection::QueryRejection};
use axum::response::{IntoResponse, Response};
use highwater_ipc::activity::Actor;
use highwater_ipc::object::Kind;
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms as rfc3339;
use serde::Deserialize;

use super::json::*;
use super::problem::Problem;
use super::router::Shared;
use super::{ask, write, write_event};
use crate::explain::{Call, ReadError, Told, catalogue, read};
use crate::query::Reading;
use crate::query::as_of::{Answer, Instant};
use crate::query::explain::{ExplainAnswer, Explanation, Looked, Taken, Victim, explain as ask_history};
use crate::query::host::Resolved;
use crate::query::owners::Owner;
use crate::query::remedy::Step;

/// Parameters of `explain`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExplainParams {
    message: Option<String>,
    at: Option<String>,
}

/// Explains.
pub(super) async fn explain(
    State(shared): State<Shared>,
    Path(host): Path<String>,
    params: Result<Query<ExplainParams>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(params) = params?;
    let catalogue = catalogue().map_err(|error| Problem::internal(&error.to_string()))?;
    let message = params.message.unwrap_or_default();
    let told = read(catalogue, &message).map_err(|refused: ReadError| Problem::bad_request(&refused.to_string()))?;
    let at = params.at.as_deref().map(|at| ask::instant("at", Some(at))).transpose()?;
    let now_ms = shared.clock.now_ms();
    let mut reading = Reading::begin(&shared.db).await?;
    let resolved = ask::host(&mut reading, &host, at.unwrap_or(Instant::Now), now_ms).await?;
    let answer = ask_history(&mut reading, resolved.host.id, (catalogue, &told), at, now_ms).await?;
    Ok(match answer {
        ExplainAnswer::Explained(found) => Json(json(&resolved, (message, &told), &found)).into_response(),
        ExplainAnswer::Gap(as_of) => match &as_of.answer {
            Answer::Gap(gap) => Json(write::gap_answer(&resolved, &as_of, gap)).into_response(),
            Answer::Held(_) => Problem::internal("an instant is both held and a gap").into_response(),
        },
    })
}

fn json(resolved: &Resolved, (message, told): (String, &Told<'_>), found: &Explanation) -> ExplainJson {
    let user = |uid: u32| found.snapshot.state.users.get(&uid).map(HostText::escaped);
    let place = found.place.as_ref();
    ExplainJson {
        message,
        product: told.product.map(|product| product.name.clone()),
        call: told.call.map(|call| Call::name(call).to_owned()),
        call_guessed: told.is_guess,
        errno: told.errno.map(|errno| errno.name.to_owned()),
        host: resolved.host.name.clone(),
        host_id: resolved.host.id.to_string(),
        asked_at: rfc3339(found.asked_ms),
        at: rfc3339(found.at_ms),
        skew_ms: found.skew_ms,
        verdict: found.verdict.name().to_owned(),
        why: found.why.clone(),
        know: told.know.map(str::to_owned),
        namespace: place.map(|(id, _)| id.inode),
        namespace_name: place.and_then(|(_, place)| place.name.as_ref()).map(HostText::escaped),
        own_namespace: place.and_then(|(_, place)| place.own),
        resource: found.limit.map(|met| met.resource.to_owned()),
        used_u64: found.limit.and_then(|met| met.used).map(|used| used.to_string()),
        limit_u64: found.limit.map(|met| met.limit.to_string()),
        holder: found.holder.clone().map(write_event::holder),
        holder_keep: found.keeper.as_ref().and_then(|product| product.keep.clone()),
        others: found.others.iter().map(other).collect(),
        others_hold: found.others_hold,
        victim: found.victim.as_ref().map(victim),
        removed: found.taken.as_ref().map(subject),
        removed_after: found.taken.as_ref().and_then(|taken| taken.after_ms).map(rfc3339),
        remover: found.taken.as_ref().and_then(|taken| taken.by.as_ref()).map(|by| remover(by, user)),
        looked_at: found.looked.iter().map(looked).collect(),
        gaps: found.gaps.iter().map(write::gap).collect(),
        traced: found.is_traced,
        remedy: found
            .steps
            .iter()
            .cloned()
            .map(|Step { what, command, risk }| RemedyJson { step: what, command, risk })
            .collect(),
        notes: resolved.notes.clone(),
    }
}

fn other(owner: &Owner) -> OtherJson {
    OtherJson {
        uid: owner.uid,
        user: owner.user.as_ref().map(HostText::escaped),
        comm: owner.comm.as_ref().map(HostText::escaped),
        arrays: owner.after.objects,
        orphans: owner.orphans.values().map(Vec::len).sum::<usize>().try_into().unwrap_or(u64::MAX),
    }
}

fn victim(victim: &Victim) -> VictimJson {
    VictimJson {
        pid: victim.by.pid,
        comm: victim.by.comm.escaped(),
        uid: victim.by.uid,
        user: victim.user.as_ref().map(HostText::escaped),
        count: victim.count,
        is_its_own: victim.is_its_own,
    }
}

fn subject(taken: &Taken) -> SubjectJson {
    let object = &taken.object;
    SubjectJson { kind: Kind::name(object.kind()).to_owned(), id: object.id(), key: object.key().to_string() }
}

fn remover(by: &Actor, user: impl Fn(u32) -> Option<String>) -> RemoverJson {
    RemoverJson {
        pid: by.pid,
        comm: by.comm.escaped(),
        uid: by.uid,
        user: by.uid.and_then(user),
        parent: (by.parent != HostText::default()).then(|| by.parent.escaped()),
    }
}

fn looked(looked: &Looked) -> LookedJson {
    LookedJson {
        namespace: looked.namespace.inode,
        namespace_name: looked.place.name.as_ref().map(HostText::escaped),
        own_namespace: looked.place.own,
        resource: looked.met.resource.to_owned(),
        used_u64: looked.met.used.map(|used| used.to_string()),
        limit_u64: looked.met.limit.to_string(),
        at: rfc3339(looked.at_ms),
    }
}
