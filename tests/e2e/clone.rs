//! One certificate, several agents or several collectors: who goes on, who is turned away, and that nothing is merged.
//!
//! Where an agent as built can do it, it does; where a boot, an epoch or a silence must be exact, the test itself speaks
//! to the collector over the real wire ([`speaker`]). The promises, a story each: [`copies`] of a state directory,
//! [`forks`] of a running machine, several [`collectors`] on one database, [`places`]: who gets a host's place, and when.

mod collectors;
mod copies;
mod forks;
mod places;
mod speaker;
