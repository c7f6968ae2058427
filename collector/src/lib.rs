//! The Highwater collector and the operator's command line, as a library; `main.rs` is thin.
//!
//! In path order: [`ingest`] takes records from agents, [`writer`] commits them, [`store`] is the only room that knows
//! SQL, [`compact`] packs what it keeps and what follows from it, [`evaluate`] judges that, [`query`] answers
//! questions from it, [`api`] says the answers over HTTP, [`cli`] shows them. [`identity`] decides who a peer is,
//! [`embedded`] keeps the private PostgreSQL of `up`. [`forecast`] is pure: where use is heading. [`config`] is what
//! configuration files have in common.

pub mod api;
pub mod cli;
pub mod clock;
pub mod compact;
pub mod config;
pub mod embedded;
pub mod evaluate;
pub mod explain;
pub mod flag;
pub mod forecast;
pub mod health;
pub mod host;
pub mod identity;
pub mod import;
pub mod ingest;
pub mod notify;
pub mod query;
pub mod secret_file;
pub mod store;
pub mod thinning;
pub mod writer;
