//! `/import`: history from a file, streamed in.

use axum::body::Body;
use axum::extract::{Query, State, rejection::QueryRejection};
use axum::{Extension, Json};
use serde::Deserialize;

use super::json::ImportJson;
use super::problem::Problem;
use super::router::Shared;
use super::write;
use crate::clock;
use crate::identity::operators::{Operator, Role};
use crate::import::{ImportError, Request, import as take};

/// Imports under way at once; the next one is told to come again.
pub(super) const MOST_AT_ONCE: usize = 2;

/// Parameters of `import`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ImportParams {
    host: Option<String>,
}

/// Fills the gaps of a host's history.
pub(super) async fn import(
    State(shared): State<Shared>,
    Extension(operator): Extension<Operator>,
    params: Result<Query<ImportParams>, QueryRejection>,
    body: Body,
) -> Result<Json<ImportJson>, Problem> {
    if operator.role < Role::Operator {
        let (name, role) = (&operator.name, operator.role.as_str());
        let detail = format!("importing is for operators with the role operator or admin; {name:?} is {role}");
        return Err(Problem::forbidden(&detail));
    }
    let Query(params) = params?;
    let host = params.host.ok_or_else(|| Problem::bad_request("host is missing: the name or id of a host"))?;
    let Ok(_turn) = shared.importing.try_acquire() else {
        return Err(Problem::busy(&format!(
            "{MOST_AT_ONCE} imports are under way already; try again when one is done"
        )));
    };
    let seed = clock::random::<8>().map_err(|error| Problem::internal(&format!("no randomness: {error}")))?;
    let (now_ms, seed) = (shared.clock.now_ms(), u64::from_le_bytes(seed));
    let rules = shared.rules.rules();
    let request = Request { host, who: operator.name, now_ms, seed, rules };
    let done = take(&shared.db, &request, body.into_data_stream()).await?;
    Ok(Json(write::imported(&done)))
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        let detail = error.to_string();
        match error {
            ImportError::Store(error) => error.into(),
            ImportError::Ask(error) => error.into(),
            ImportError::Ambiguous { candidates, .. } => Problem::ambiguous(&detail, candidates),
            ImportError::Name { .. } => Problem::bad_request(&detail),
            ImportError::Contradiction { .. } => Problem::contradiction(&detail),
            ImportError::Moved | ImportError::Stalled { .. } | ImportError::NoOwnSample => Problem::busy(&detail),
            ImportError::Repack(_) => Problem::internal(&detail),
            ImportError::Empty
            | ImportError::Line { .. }
            | ImportError::LongLine { .. }
            | ImportError::Order { .. }
            | ImportError::Ahead { .. }
            | ImportError::AfterOwn { .. }
            | ImportError::Pack { .. }
            | ImportError::TooMuch { .. }
            | ImportError::CutOff { .. } => Problem::bad_file(&detail),
        }
    }
}
