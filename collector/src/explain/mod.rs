//! What an application's error text says: which product, which call of System V IPC, what that answered, and what can
//! have been the reason. Pure; whether it was is asked of history in [`crate::query::explain`].
//!
//! In path order: [`catalogue`] holds the messages of `messages.toml`, [`pattern`] finds one in a line, [`errno`] and
//! [`call`] read what stands in it, [`read`] puts that together as [`Told`], [`meaning`] says what such an answer of such
//! a call can come from.
//!
//! - E1 Each message of the file is told as its own product and as no other (`tests.rs`).
//! - E2 A line that no message knows is explained by the call and the answer that stand in it, or not at all.
//! - E3 No text makes it panic, and none makes it slow: a line has at most [`read::MOST_BYTES`].

pub mod call;
pub mod catalogue;
pub mod errno;
pub mod meaning;
mod pattern;
pub mod read;
#[cfg(test)]
mod tests;

pub use call::Call;
pub use catalogue::{Catalogue, CatalogueError, Product, catalogue};
pub use errno::Errno;
pub use meaning::Cause;
pub use read::{ReadError, Told, read};
