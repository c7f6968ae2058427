//! What each fuzz target does with its bytes: every parser of kernel text and of raw trace pages, and what must hold of
//! whatever it accepts. `agent/tests/corpus.rs` replays the corpus through these same functions.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "a failed assertion is a finding")]

mod process;
mod settings;
mod sysvipc;
mod trace;

pub use process::process;
pub use settings::settings;
pub use sysvipc::sysvipc;
pub use trace::{trace_format, trace_page};

use highwater_ipc::text::HostText;

/// Text that comes from a host is cut; an empty one says nothing.
fn named(text: &HostText) {
    assert!(!text.as_bytes().is_empty() && text.as_bytes().len() <= HostText::MAX);
}
