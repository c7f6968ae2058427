//! Why a peer is sent away, and how often that is logged.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_ipc::text::HostText;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

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
    /// A record in parts stopped coming.
    #[error(
        "the next part of a large record did not come within {0} s: the line to the collector must carry 14 KB/s from \
         this host; give it a better one, or let this host have fewer System V objects"
    )]
    Stalled(u64),
    /// Its acks were not read while it had or awaited room in the queue.
    #[error("acks were not read for {0} s, and others may wait for the room: is the agent stopped, or its disk stuck?")]
    Unread(u64),
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
            Refusal::Stalled(_) => "stalled",
            Refusal::Unread(_) => "unread",
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

/// How often counts that wait for their line are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Logs refused peers: at once, then one line per address and reason in 10 s, with how many it stands for.
#[derive(Debug)]
pub(super) struct RefusalLog {
    started: Instant,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    pairs: HashMap<(IpAddr, &'static str), Count>,
    /// All that are not counted apart.
    beyond: Count,
}

#[derive(Debug, Default)]
struct Count {
    logged_ms: Option<u64>,
    since: u64,
    /// Of the newest that waits for its line.
    why: String,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// `None`: at more addresses than are counted apart.
    pair: Option<(IpAddr, &'static str)>,
    count: u64,
    why: String,
}

impl Count {
    /// Counts a refusal; how many a line written now stands for, `None` = no line now.
    fn note(&mut self, now_ms: u64, why: &str) -> Option<u64> {
        self.since = self.since.saturating_add(1);
        if !self.is_over(now_ms) {
            why.clone_into(&mut self.why);
            return None;
        }
        self.logged_ms = Some(now_ms);
        self.why.clear();
        Some(std::mem::take(&mut self.since))
    }

    /// What was counted since the last line, once that is long enough ago.
    fn due(&mut self, now_ms: u64) -> Option<(u64, String)> {
        if self.since == 0 || !self.is_over(now_ms) {
            return None;
        }
        self.logged_ms = Some(now_ms);
        Some((std::mem::take(&mut self.since), std::mem::take(&mut self.why)))
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.logged_ms.is_none_or(|at| now_ms.saturating_sub(at) >= EVERY_MS)
    }
}

impl Seen {
    fn note(&mut self, now_ms: u64, peer: IpAddr, reason: &'static str, why: &str) -> Option<Line> {
        let key = (peer, reason);
        if self.pairs.len() >= MOST_PAIRS && !self.pairs.contains_key(&key) {
            let count = self.beyond.note(now_ms, why)?;
            return Some(Line { pair: None, count, why: why.to_owned() });
        }
        let count = self.pairs.entry(key).or_default().note(now_ms, why)?;
        Some(Line { pair: Some(key), count, why: why.to_owned() })
    }

    /// The lines that are due; forgets who has been quiet since its last one.
    fn due(&mut self, now_ms: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        self.pairs.retain(|key, seen| {
            let over = seen.is_over(now_ms);
            let due = seen.due(now_ms).map(|(count, why)| Line { pair: Some(*key), count, why });
            let stays = due.is_some() || !over;
            lines.extend(due);
            stays
        });
        lines.extend(self.beyond.due(now_ms).map(|(count, why)| Line { pair: None, count, why }));
        lines
    }
}

impl Line {
    fn write(&self) {
        let (count, why) = (self.count, HostText::from(self.why.as_str()).escaped());
        match self.pair {
            Some((peer, reason)) => tracing::warn!(%peer, reason, count, why, "refused"),
            None => tracing::warn!(count, why, "refused, at more addresses than are counted apart"),
        }
    }
}

impl RefusalLog {
    /// Nobody was refused yet.
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), seen: Mutex::default() }
    }

    /// Notes a refusal.
    pub(super) fn note(&self, peer: IpAddr, reason: &'static str, why: &str) {
        let line = self.seen().note(self.now_ms(), peer.to_canonical(), reason, why);
        if let Some(line) = line {
            line.write();
        }
    }

    /// Writes the lines of those that were counted and did not come again, until `stop`; then all that wait.
    pub(super) async fn tell_counts(&self, stop: CancellationToken) {
        while tokio::time::timeout(LOOK, stop.cancelled()).await.is_err() {
            let due = self.seen().due(self.now_ms());
            due.iter().for_each(Line::write);
        }
        self.seen().due(u64::MAX).iter().for_each(Line::write);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Seek as _};
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    fn count(line: Option<Line>) -> Option<u64> {
        line.map(|line| line.count)
    }

    #[test]
    fn a_flood_of_refusals_is_a_line_in_ten_seconds_with_their_count() {
        let mut log = Seen::default();
        assert_eq!(count(log.note(0, ip(1), "tls", "")), Some(1));
        assert!((1..500).all(|i| log.note(i, ip(1), "tls", "").is_none()));
        assert_eq!(count(log.note(600, ip(2), "tls", "")), Some(1));
        assert_eq!(count(log.note(700, ip(1), "slow", "")), Some(1));
        assert_eq!(count(log.note(10_000, ip(1), "tls", "")), Some(500));
    }

    /// What `up` writes to its log meanwhile.
    fn written(say: impl FnOnce()) -> String {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let log = tracing_subscriber::fmt().with_writer(file.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(log, say);
        let (mut file, mut text): (&File, _) = (&file, String::new());
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_a_peer_said_is_one_line_of_the_log_without_control_bidi_or_separator() {
        // Broken UTF-8 is text by now: replaced, or each byte taken for a character.
        let wild = "\u{1b}[31m\nFORGED\r\t\u{202e}x\u{2028}y\u{2066}z\u{85}\u{fffd}\u{c3}\u{9b}\u{feff}";
        for pair in [Some((ip(1), "malformed")), None] {
            let line = Line { pair, count: 1, why: format!("before {wild} after") };
            let text = written(|| line.write());
            assert_eq!((text.lines().count(), text.matches('\n').count()), (1, 1), "{text:?}");
            let shown = text.trim_end_matches('\n');
            let bare =
                |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
            assert!(!shown.contains(bare), "{shown:?}");
            // As everywhere else: in the notation of `HostText`, not in that of whoever writes the log.
            for part in ["before ", r"\x1b", "[31m", r"\x0a", "FORGED", r"\xe2", r"\x80", r"\xae", r"\xa8", " after"] {
                assert!(shown.contains(part), "no {part} in {shown}");
            }
        }
    }

    /// The count of a flood was told only when its peer came again, so a flood that ended was one refusal in the log.
    #[test]
    fn a_flood_that_ends_is_told_with_its_count_by_itself() {
        let mut log = Seen::default();
        (0..100).for_each(|i| {
            log.note(i, ip(1), "tls", &i.to_string());
        });
        assert_eq!(log.due(9_999), []);
        assert_eq!(log.due(10_000), [Line { pair: Some((ip(1), "tls")), count: 99, why: "99".into() }]);
        assert_eq!(log.due(19_999), []);
        assert!(log.note(19_999, ip(1), "tls", "again").is_none(), "that line was one of these ten seconds");
        assert_eq!(log.due(20_000).len(), 1);
        assert_eq!(log.due(30_000), []);
        assert!(log.pairs.is_empty());
    }

    /// Those refused twice stayed for ever, so that after 4,096 of them no other peer got a line of its own.
    #[test]
    fn addresses_without_end_take_no_memory_without_end_and_are_forgotten() {
        let mut log = Seen::default();
        let lines = (0..10_000).chain(0..10_000).filter_map(|n| log.note(1, ip(n), "tls", "")).count();
        assert_eq!(lines, MOST_PAIRS + 1);
        assert_eq!(log.pairs.len(), MOST_PAIRS);
        let due = log.due(10_001);
        assert_eq!(due.len(), MOST_PAIRS + 1);
        assert_eq!(due.iter().map(|line| line.count).sum::<u64>(), 20_000 - (MOST_PAIRS as u64 + 1));
        assert_eq!(log.due(20_001), []);
        assert!(log.note(20_002, ip(77_777), "tls", "").is_some_and(|line| line.pair == Some((ip(77_777), "tls"))));
    }
}
