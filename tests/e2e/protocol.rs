//! The stream's promises, an interleaving a test: what is resent, restored, lost, damaged, cut, refused, and what
//! clocks do. Where it is possible the programs themselves run; where a host's clock must be moved, its agent runs in
//! this process with a clock and a kernel of the test ([`fake_host`]); where a commit must be exact, a test speaks to
//! the writer itself ([`crate::ingest`]).

mod as_of;
mod away;
mod clocks;
mod collectors_clock;
mod commits;
mod compacted;
pub(crate) mod fake_host;
pub(crate) mod gate;
pub(crate) mod log;
mod restored;
mod spooled;
