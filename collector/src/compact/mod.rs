//! Compaction: what a stream's tail becomes.
//!
//! [`derive`] is what follows from the states: use over time, owners by the hour, what could not be read. It is pure, like
//! the fold that feeds it. [`derived`] stores it in the transaction that moves the tail.

pub mod derive;
pub mod derived;
#[cfg(test)]
mod derived_tests;
