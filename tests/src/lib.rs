//! The harness of the end-to-end tests: a private PostgreSQL, IPC namespaces to make objects in, the two programs
//! under test, and the one place that waits.
//!
//! Nothing here touches the machine's own System V IPC, its PostgreSQL clusters or its ports: objects are made in
//! [`ipc_namespace`], the database server of [`postgres`] listens on a socket in a temporary directory, addresses are
//! chosen by the kernel. What the harness starts ends with the test, by process id, also when the test is killed
//! ([`process`]). What is missing (root, PostgreSQL, a built program) fails the test with the remedy; nothing is
//! skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails in the harness fails the test")]

pub mod agent;
pub mod alertmanager;
pub mod answers;
pub mod binaries;
pub mod chance;
pub mod cli;
pub mod collector;
pub mod fleet;
pub mod http;
pub mod http_sink;
pub mod ipc_namespace;
pub mod mail_sink;
pub mod postgres;
pub mod process;
pub mod sampling;
pub mod scribe;
pub mod small_disk;
pub mod stand_in;
pub mod wait;
