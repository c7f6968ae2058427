//! `highwater up`: everything on this machine, without settings.
//!
//! [`args`] is the command, [`stack`] the story: data directory ([`data_dir`]), PostgreSQL, schema, CA, addresses
//! ([`listen`]), collector, API, this host's own agent ([`this_host`]), and all of it back down. [`files`] is what it
//! leaves for other programs, [`signals`] what ends it.

pub mod args;
pub mod data_dir;
pub mod files;
pub mod listen;
mod notifying;
pub mod signals;
pub mod stack;
pub mod this_host;
