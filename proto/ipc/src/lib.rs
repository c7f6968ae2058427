//! What a System V IPC snapshot is, how it changes, how it is packed and how it is shown.
//!
//! `no_std` on purpose: a clock, a file or a random hash order does not compile here. Time and randomness arrive
//! as arguments. Both binaries use this crate; nothing in it knows protobuf, JSON, SQL or sockets.
//!
//! In path order: [`object`] and [`limits`] are what the kernel shows, [`availability`] says whether it shows
//! anything, [`who`] holds it, [`risk`] is what threatens it; [`snapshot`] is one sample, [`delta`] is the difference of
//! two, [`activity`] is what happened between them, [`record`] is what a stream carries, [`codec`] is how a record is
//! packed, [`chunk`] is how many of them are kept, [`render`] is the text people know, [`remedy`] are the commands that help them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod activity;
#[cfg(test)]
mod arbitrary;
pub mod availability;
pub mod chunk;
pub mod codec;
pub mod delta;
pub mod limits;
pub mod nearest;
pub mod object;
pub mod record;
pub mod remedy;
pub mod render;
pub mod risk;
pub mod session;
pub mod snapshot;
pub mod text;
pub mod time;
pub mod who;
