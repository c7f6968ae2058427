//! What is done to history behind the writer's back, by one collector at a time: partitions made and dropped, and what is
//! older than is kept forgotten.
//!
//! [`lease`] says who works, [`partitions`] makes and drops partitions, [`retention`] forgets what is older than is kept, with
//! [`baseline`] (pure) for what goes on; [`upkeep`] is the task that does all that.

pub mod baseline;
pub mod lease;
pub mod partitions;
pub mod retention;
pub mod upkeep;
