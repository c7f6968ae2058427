//! The private PostgreSQL of `up`: found, made, started, watched, stopped. Nobody else's server is touched, and no port
//! is opened.
//!
//! Under the data directory:
//! ```text
//! postgres/           the cluster, 0700, of the user that runs the server (as root: `postgres`, else `nobody`)
//! postgres.new.PID/   a cluster in the making; renamed when it is whole, so a crash of `up` never leaves half of one
//! postgres.password   password of the role `highwater`, 0600
//! postgres.log        what the server and initdb say; one older file is kept as postgres.log.1
//! pg_hba.conf         the only way in: role `highwater`, database `highwater`, by password, over the unix socket
//! run/                the unix socket (elsewhere if this path is too long for one)
//! ```
//! - E1 One `up` per data directory (it holds a lock), so whatever else is found here was left by one that is gone.
//! - E2 A server left running is taken over if its command line says that it is this cluster's; any other process
//!   under the pid in postmaster.pid is left alone.
//! - E3 The role of the collector is no superuser, and the superuser has no way in at all: role and database are made
//!   in single-user mode.

pub mod account;
pub mod binaries;
pub mod cluster;
pub mod error;
pub mod layout;
pub mod postmaster;
pub mod process;
pub mod server;
pub mod supervise;
#[cfg(test)]
mod tests;
