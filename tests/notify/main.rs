//! Notifications against real servers: HTTP that fails, hangs and hangs up, a mail server, Alertmanager; a collector that is
//! killed between the delivery and the mark; and any sequence of transitions and failures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod alerts;
mod command;
mod flags;
mod imported;
mod mail;
mod order;
mod stage;
mod webhook;
