//! Commits records durably, one writer per host, and acks what is durable.
//!
//! In path order: [`handle`] is the way in, `room` bounds it, `queue` and `lanes` (pure) hold what waits for each of W
//! workers, one lane a host (which always has the same worker); `worker` commits what it gathers, `batch` (pure) sorts
//! that, `plan` (pure) turns one host's records into rows, `commit` is the only caller that adds frames, [`ack`] is what
//! comes back. `open` starts a session, whose verdicts `admit` (pure) finds; `watch` (pure) says whether a host that
//! another collector holds lives; `unsaid` (pure) keeps what could not be said of sessions that are over. No caller can
//! cancel any of it: work that is queued is done, whoever waits for it.
//!
//! Invariants
//! - **W1** Nothing is acked before the COMMIT that stored it returned: [`ack::Durable`] is made from its proof.
//! - **W2** A commit first moves `stream` from where the plan began, under the session it was planned for, and an epoch's
//!   first one only while the epoch before it stands where it was left; of a host whose stream did not move it stores
//!   nothing. So a batch sent twice is stored once, and a session that another one has followed stores nothing.
//! - **W3** Records of a host are planned and committed in the order in which they were queued, one epoch a commit.
//! - **W4** Where a commit's outcome is not known, its connection is thrown away and the same batch goes again: W2
//!   makes that safe.
//! - **W5** What the database refuses for its value costs that record (and its host the span up to the next
//!   keyframe), never another host's.
//! - **W6** A gap is what lies between two samples, found here; agents only name reasons.
//! - **W7** What a host can have queued is bounded, and no host waits for another's: each has a share of the room and a
//!   lane, commits take from the lanes in turn, what is refused is tried again aside, sessions are opened beside.

pub mod ack;
pub mod admit;
mod arrival;
mod backoff;
pub mod batch;
mod command;
mod commit;
mod config;
mod handle;
mod lanes;
mod open;
mod partitions;
pub mod plan;
mod queue;
mod room;
pub mod state;
mod unsaid;
pub mod watch;
mod worker;

pub use crate::host::Quarantine;
pub use crate::store::stream::Session;
pub use arrival::{Arrival, NamespaceUse, Says};
pub use command::{Item, OpenError, OpenRequest, Opened};
pub use config::Config;
pub use handle::{Handle, Writer};
pub use room::{Room, Stopped};
