//! The agent's command line: [`args`] says what can be asked, each command has a file.

pub mod args;
pub mod doctor;
pub mod enrol;
mod people;
pub mod run;
pub mod snapshot;
pub mod spool;
