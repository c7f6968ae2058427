//! The command line. [`args`] is what may be typed, [`run`] turns it into one command, [`exit`] into one exit code;
//! each command is a file: arguments in, question asked, answer printed.
//!
//! Every command but `up`, `migrate` and `version` is a client of the HTTP API and knows nothing of the database.

pub mod args;
pub mod data_dir;
pub mod exit;
pub mod migrate;
pub mod print;
pub mod run;
pub mod up;
pub mod version;
