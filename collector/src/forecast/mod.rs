//! Where the use of one resource is heading: when the next allocation will fail, how sure that is, and why.
//!
//! Pure: rows in, transitions out; no clock, no I/O. In the order a row passes: [`row`] is what comes in, [`clock`] makes
//! one steady time of the rows' jumping ones, [`hours`] and [`minutes`] keep what was seen, [`segment`] cuts it where
//! everything was freed, [`swing`] remembers the heights from which use came back by itself. Five readers look at
//! that ([`past`]): [`surge`] for minutes, [`climb`] for hours, [`drift`] for days, [`peaks`] for growth from one day's
//! peak to the next, [`sawtooth`] for growth from restart to restart. [`eta`] turns growth into an instant and an interval, [`alarm`] into one flag with hysteresis, [`why`]
//! into words. [`evaluator`] joins them.
//!
//! One principle runs through all readers: growth is a danger when it is steady, would reach the limit soon, and is
//! beyond what this series came back from by itself.

pub mod alarm;
pub mod climb;
pub mod clock;
pub mod drift;
pub mod eta;
pub mod evaluator;
pub mod hours;
pub mod minutes;
pub mod past;
pub mod peaks;
pub mod policy;
pub mod row;
pub mod sawtooth;
pub mod segment;
pub mod surge;
pub mod swing;
pub mod trend;
pub mod why;

pub use alarm::{Severity, Transition};
pub use eta::{Forecast, Growth};
pub use evaluator::Evaluator;
pub use policy::Policy;
pub use row::{Event, Row};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
