//! HTTP: the JSON API that people, pages and scripts share.
//!
//! [`serve`] answers `/api/v1/...` on a listener until it is told to stop. Everything but `/livez` and
//! `/openapi.json` needs `Authorization: Bearer TOKEN` of an operator ([`auth`]). Answers have the shapes of the JSON
//! contract ([`json`]), errors are problem documents (RFC 9457) with a machine-readable `code` ([`problem`]). An
//! instant without data is an answer (200 with `gap`), not an error. `/openapi.json` ([`openapi`]) describes all of
//! it. Handlers ask [`crate::query`] and hold no logic of their own.

mod ask;
mod auth;
mod capacity;
mod explain;
mod export;
mod find;
mod flags;
mod fleet_blame;
mod history;
mod hosts;
mod import;
pub mod json;
mod lines;
mod notify;
mod openapi;
mod problem;
mod router;
mod series;
mod server;
mod status;
mod tokens;
mod write;
mod write_event;

pub use router::ApiState;
pub use server::serve;
