//! The command line. [`args`] is what may be typed, [`run`] turns it into one command, [`exit`] into one exit code;
//! each command is a file: arguments in, question asked, answer printed.
//!
//! Every command but `up`, `migrate`, `backtest` and `version` is a client of the HTTP API and knows nothing of the database.

pub mod amount;
pub mod args;
pub mod backtest;
pub mod blame;
pub mod capacity;
pub mod capacity_text;
pub mod client;
pub mod data_dir;
pub mod diff;
pub mod event_text;
pub mod exit;
pub mod explain;
pub mod export;
pub mod find;
pub mod flags;
pub mod fleet_blame;
pub mod host;
pub mod hosts;
pub mod import;
pub mod ipcs;
pub mod lsipc;
pub mod migrate;
pub mod namespace;
pub mod notify;
pub mod object;
pub mod print;
pub mod progress;
pub mod run;
pub mod status;
pub mod table;
pub mod timeline;
pub mod token;
pub mod up;
pub mod version;
pub mod when;
