//! Files and secrets: what a running `up` and an agent leave on the disk is closed to others, what others could have
//! read or written is refused, and no secret is where it does not belong.

mod debug;
mod leaks;
mod modes;
mod planted;
