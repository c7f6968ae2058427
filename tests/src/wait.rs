//! The one place that waits: for something to be true, until a deadline.

use std::time::{Duration, Instant};

/// What a test allows for anything that normally takes well under a second, on a machine that is busy building.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks. Short against everything the tests wait for, long against the cost of a look.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// Looks every 20 ms, as there is no event that tells when another process wrote a file, a kernel object or a row;
/// the answer depends on the condition alone, never on how long a look took.
///
/// # Panics
///
/// After `patience`, saying what was waited for.
#[track_caller]
pub fn until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    until_some(what, patience, || condition().then_some(()));
}

/// Waits until `look` finds something, and returns it; otherwise as [`until`].
#[track_caller]
pub fn until_some<T>(what: &str, patience: Duration, look: impl FnMut() -> Option<T>) -> T {
    match found_within(patience, look) {
        Some(found) => found,
        None => panic!("waited {patience:?} in vain: {what}"),
    }
}

/// What `look` finds within `patience`, if anything; for cleaning up, where there is nobody to complain to.
#[allow(clippy::disallowed_methods, reason = "the one place in the tests that reads a clock and sleeps")]
pub(crate) fn found_within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// Milliseconds since 1970, by this machine's clock: to ask for an instant between two events.
#[allow(clippy::disallowed_methods, reason = "the one place in the tests that reads a clock")]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_millis()).expect("a clock before the year 292 million")
}
