//! What could not be read, and why.

use std::fmt::Display;

use highwater_ipc::snapshot::Unreadable;
use highwater_ipc::text::HostText;

/// A source that could not be read, and why. Errors show bytes of the host escaped; here they become bytes again, which
/// whoever shows them escapes once.
pub(super) fn because(source: &str, line: u32, error: impl Display) -> Unreadable {
    let shown = error.to_string();
    let error = HostText::from_escaped(&shown).unwrap_or_else(|| shown.as_str().into());
    Unreadable { source: source.into(), line, error }
}
