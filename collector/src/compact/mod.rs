//! What is done to history behind the writer's back, by one collector at a time: partitions made and dropped, and what is
//! older than is kept forgotten.
//!
//! [`lease`] says who works, [`partitions`] makes and drops partitions.

pub mod lease;
pub mod partitions;
