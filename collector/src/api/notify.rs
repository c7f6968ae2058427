//! `/notify`: whom this collector tells of flags, and whether they can be told now.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use highwater_ipc::time::format_rfc3339_ms;

use super::json::{NotifyTestJson, ReceiverJson, ReceiversJson, TestedJson, TestsJson};
use super::problem::Problem;
use super::router::Shared;
use crate::identity::operators::{Operator, Role};
use crate::notify::trial::{Listed, Outcome, TrialError};

/// Everybody who is told, and how they fare.
pub(super) async fn list(State(shared): State<Shared>) -> Result<Json<ReceiversJson>, Problem> {
    let listed = shared.notify.list().await?;
    Ok(Json(ReceiversJson { receivers: listed.into_iter().map(receiver).collect() }))
}

/// Tells one receiver, or all of them, that this is a test.
pub(super) async fn test(
    State(shared): State<Shared>,
    Extension(operator): Extension<Operator>,
    body: Result<Json<NotifyTestJson>, JsonRejection>,
) -> Result<Json<TestsJson>, Problem> {
    if operator.role < Role::Operator {
        let role = operator.role.as_str();
        let detail = format!("a test wakes people: it is for operators and admins; {:?} is {role}", operator.name);
        return Err(Problem::forbidden(&detail));
    }
    let Json(body) = body?;
    let outcomes = shared.notify.test(body.receiver.as_deref(), &operator.name).await?;
    Ok(Json(TestsJson { results: outcomes.into_iter().map(tested).collect() }))
}

fn receiver(listed: Listed) -> ReceiverJson {
    let Listed { receiver, standing } = listed;
    let at = |ms: Option<i64>| ms.map(format_rfc3339_ms);
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    ReceiverJson {
        kind: receiver.way.name().to_owned(),
        to: receiver.place(),
        name: receiver.name,
        severities: receiver.severities.iter().map(|s| s.name().to_owned()).collect(),
        labels: receiver.labels,
        last_sent_at: at(standing.as_ref().and_then(|s| s.sent_ms)),
        last_failed_at: at(standing.as_ref().and_then(|s| s.failed_ms)),
        failing_since: at(standing.as_ref().and_then(|s| s.failing_ms)),
        waiting: standing.as_ref().map_or(0, |s| count(s.waiting)),
        given_up: standing.as_ref().map_or(0, |s| count(s.given_up)),
        error: standing.and_then(|s| s.error),
    }
}

fn tested(outcome: Outcome) -> TestedJson {
    TestedJson {
        receiver: outcome.name,
        kind: outcome.kind.to_owned(),
        to: outcome.place,
        ok: outcome.failure.is_none(),
        took_ms: u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
        remedy: outcome.failure.as_ref().map(|f| f.remedy.to_owned()),
        error: outcome.failure.map(|f| f.what),
    }
}

impl From<TrialError> for Problem {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Store(error) => error.into(),
            TrialError::Nobody | TrialError::Unknown { .. } => Problem::no_such_receiver(&error.to_string()),
            TrialError::Busy => Problem::busy(&error.to_string()),
            TrialError::Random(_) => Problem::internal(&error.to_string()),
        }
    }
}
