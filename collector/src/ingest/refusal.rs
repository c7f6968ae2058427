//! Why a peer is sent away, and how often that is logged.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use highwater_ipc::text::HostText;

use super::session::SessionError;
use crate::writer::ack::Ended;
use crate::writer::{OpenError, Stopped};
use highwater_proto::convert::WireError;

/// Why a stream ends; the agent is told these words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No certificate, or one that names no host.
    #[error("{0}")]
    NoHost(String),
    /// A message that breaks a bound or cannot be read.
    #[error("{0}")]
    Malformed(#[from] WireError),
    /// A message that has no place here.
    #[error("{0}")]
    OutOfPlace(&'static str),
    /// Nothing was said in time.
    #[error("no hello came within {0} s")]
    Silent(u64),
    /// A record that does not follow.
    #[error(transparent)]
    Record(#[from] SessionError),
    /// No session began.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The host's stream here is busy; whether it lives cannot be told now.
    #[error("another stream of this host is waiting for the collector's database; try again later")]
    Busy,
    /// The writer ended the session.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The collector is stopping.
    #[error(transparent)]
    Stopping(#[from] Stopped),
}

impl Refusal {
    /// A word for logs and counts.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Refusal::NoHost(_) => "no_host",
            Refusal::Malformed(_) => "malformed",
            Refusal::OutOfPlace(_) => "out_of_place",
            Refusal::Silent(_) => "silent",
            Refusal::Record(_) => "record",
            Refusal::Open(OpenError::Quarantined(_)) => "quarantined",
            Refusal::Open(OpenError::UnknownHost) => "unknown_host",
            Refusal::Open(OpenError::Held { .. }) => "held",
            Refusal::Open(_) => "unavailable",
            Refusal::Busy => "busy",
            Refusal::Ended(_) => "ended",
            Refusal::Stopping(_) => "stopping",
        }
    }
}

/// One address and reason is logged at most this often, milliseconds.
const EVERY_MS: u64 = 10_000;
/// Pairs of address and reason that are counted apart; beyond that only the total is.
const MOST_PAIRS: usize = 4096;

/// Logs refused peers: one line per address and reason in 10 s, with how many it stands for.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    pairs: HashMap<(IpAddr, &'static str), Count>,
    beyond: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    logged_ms: Option<u64>,
    since: u64,
}

impl Count {
    /// How many refusals a line written now stands for; `None` = no line now.
    fn note(&mut self, now_ms: u64) -> Option<u64> {
        self.since = self.since.saturating_add(1);
        if self.logged_ms.is_some_and(|at| now_ms.saturating_sub(at) < EVERY_MS) {
            return None;
        }
        self.logged_ms = Some(now_ms);
        Some(std::mem::take(&mut self.since))
    }
}

impl RefusalLog {
    /// Notes a refusal at a monotonic time.
    pub(super) fn note(&self, now_ms: u64, peer: IpAddr, reason: &'static str, why: &str) {
        if let Some(count) = self.count(now_ms, peer, reason) {
            let why = HostText::from(why).escaped();
            tracing::warn!(%peer, reason, count, why, "refused");
        }
    }

    fn count(&self, now_ms: u64, peer: IpAddr, reason: &'static str) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (peer, reason);
        if seen.pairs.len() >= MOST_PAIRS && !seen.pairs.contains_key(&key) {
            seen.pairs.retain(|_, c| c.logged_ms.is_some_and(|at| now_ms.saturating_sub(at) < EVERY_MS) || c.since > 0);
        }
        if seen.pairs.len() >= MOST_PAIRS && !seen.pairs.contains_key(&key) {
            return seen.beyond.note(now_ms);
        }
        seen.pairs.entry(key).or_default().note(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    #[test]
    fn a_flood_of_refusals_is_a_line_in_ten_seconds_with_their_count() {
        let log = RefusalLog::default();
        assert_eq!(log.count(0, ip(1), "tls"), Some(1));
        assert!((1..500).all(|i| log.count(i, ip(1), "tls").is_none()));
        assert_eq!(log.count(600, ip(2), "tls"), Some(1));
        assert_eq!(log.count(10_000, ip(1), "tls"), Some(500));
    }

    #[test]
    fn addresses_without_end_take_no_memory_without_end() {
        let log = RefusalLog::default();
        let lines = (0..10_000).filter_map(|n| log.count(1, ip(n), "tls")).count();
        assert_eq!(lines, MOST_PAIRS + 1);
        assert_eq!(log.seen.lock().unwrap().pairs.len(), MOST_PAIRS);
    }
}
