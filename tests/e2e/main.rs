//! The whole thing from outside: the programs as built, a real PostgreSQL, real namespaces. One binary, so that it
//! links once; a file per story.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod adaptive;
mod ahead;
mod apache;
mod api;
mod availability;
mod away;
mod backtest;
mod capacity;
mod cli;
mod clone;
mod doctor;
mod full_disk;
mod harness;
mod history;
mod hostile;
mod ingest;
mod judged;
mod keep;
mod live;
mod namespaces;
mod no_sysvipc;
mod note;
mod port;
mod privileges;
mod protocol;
mod remedies;
mod remedy;
mod removeipc;
mod secrets;
mod stories;
mod trace;
mod up;
mod util_linux;
