//! House rules as tests: who may import what, how long a file may get, what a migration and a statement must look like.
//!
//! Each rule is a function from text to what is wrong with it. It has two tests: the repository keeps it, and a
//! planted violation is found; a rule that cannot fail keeps nothing.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "what fails here fails a rule")]

mod arrows;
mod imports;
mod manifests;
mod migrations;
mod promises;
mod repository;
mod rust;
mod sql;
mod text;
