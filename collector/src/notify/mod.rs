//! Notifications: what happened to a flag, told to receivers outside.
//!
//! In path order: the evaluator makes a [`notice`], [`outbox`] says which receivers of [`receiver`] it is for, and
//! `store::notice::insert` keeps it in the transaction of the transition. [`sender`] takes what is due from there, under a
//! lease; [`courier`] is one receiver's part of that, so that one that hangs holds up no other; [`deliver`] renders and
//! sends. [`text`] is the words, [`webhook`], [`alertmanager`], [`slack`] and [`mail`] are the pure payloads, [`json`] is how
//! a notice is written down; [`http`], [`tls`] and [`smtp`] are the wires, [`config`] is the file, [`trial`] is `notify test`.
//!
//! At least once, in order for each flag and receiver: a notice that was delivered and not marked before the collector
//! died is sent again under the same id, and a later notice of a flag waits for the earlier ones, for at most a day.

pub mod alertmanager;
pub mod backoff;
pub mod config;
pub mod courier;
pub mod deliver;
#[cfg(test)]
mod golden;
pub mod http;
pub mod json;
pub mod mail;
pub mod notice;
pub mod outbox;
pub mod receiver;
pub mod sender;
pub mod slack;
pub mod smtp;
pub mod teller;
pub mod text;
pub mod tls;
#[cfg(test)]
mod tls_tests;
pub mod trial;
pub mod webhook;

/// Name of the lease under which receivers are told.
pub const LEASE: &str = "notify";
