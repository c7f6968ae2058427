//! The text people know: `ipcs` and `lsipc` of util-linux 2.38 under LC_ALL=C.
//!
//! Pure: a state and the host's time zone in, bytes out. What a room below does not know: how wide a terminal is, what
//! a standard error stream is, where a state came from. [`ipcs`] answers every flag of `ipcs`, [`object`] its `-i ID`,
//! [`lsipc`] is `lsipc` without arguments.
//!
//! Byte for byte means: owner columns are cut at 10 *bytes* as printf(3) does, in the middle of a character if need be,
//! so the output is bytes. A name that is not printable UTF-8 is the one exception: it is shown escaped (see
//! [`crate::text::HostText::escaped`]), because it must not reach a terminal.

#[cfg(test)]
mod golden;
pub mod ipcs;
pub mod lsipc;
pub mod object;
mod page;

pub use ipcs::{Question, View, ipcs};
pub use lsipc::lsipc;
pub use object::ipcs_object;
