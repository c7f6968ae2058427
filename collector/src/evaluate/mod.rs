//! From samples to flags: live, in the transaction that compacts what they were told by.
//!
//! [`feed`] makes the rows of each series from samples; [`judge`] gives them to the forecaster and keeps one flag for each
//! series; [`cause`] finds the events that make it grow, [`pair`] which of two limits comes first; [`words`] says why;
//! [`state`] packs a judge between two steps. [`rules`] is how a host is judged by its labels, [`config`] the file of
//! that. [`desk`] is what operators do to flags, [`samples`] what a flag that is shown whole rests on. [`series`] makes
//! the same rows of stored history, [`csv`] text of them, for `backtest`.

pub mod cause;
pub mod config;
pub mod csv;
pub mod desk;
pub mod feed;
#[cfg(test)]
mod flag_tests;
pub mod judge;
pub mod pair;
pub mod rules;
pub mod samples;
pub mod series;
pub mod state;
#[cfg(test)]
mod tests;
pub mod words;
