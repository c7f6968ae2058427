//! Ends of sessions that the database does not know of yet. Pure.
//!
//! To everybody else such a session looks held by this collector. Here it is known that it is over: the host's next
//! agent waits for nobody, and the end is said with the next transaction of its kind that succeeds.

use std::collections::BTreeMap;

use crate::host::HostId;
use crate::store::stream::Session;

/// Ends that are kept; beyond it one shows in `last_seen_ms` alone, and a new agent of its host waits three intervals.
const MOST: usize = 16_384;

/// One worker's; the latest of each host.
#[derive(Debug, Default)]
pub(super) struct Unsaid(BTreeMap<HostId, Session>);

impl Unsaid {
    /// These could not be said.
    pub(super) fn keep(&mut self, ended: &[(HostId, Session)]) {
        for (host, session) in ended {
            if self.0.len() < MOST || self.0.contains_key(host) {
                self.0.insert(*host, *session);
            }
        }
    }

    /// The session of this host that is over.
    pub(super) fn of(&self, host: HostId) -> Option<Session> {
        self.0.get(&host).copied()
    }

    /// All, ascending.
    pub(super) fn all(&self) -> Vec<(HostId, Session)> {
        self.0.iter().map(|(host, session)| (*host, *session)).collect()
    }

    /// Another session of the host has followed.
    pub(super) fn forget(&mut self, host: HostId) {
        self.0.remove(&host);
    }

    /// All were said.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_a_host_is_kept_and_hosts_without_end_take_no_memory_without_end() {
        let mut unsaid = Unsaid::default();
        unsaid.keep(&[(HostId(1), Session(1)), (HostId(1), Session(2))]);
        assert_eq!(unsaid.all(), [(HostId(1), Session(2))]);
        for n in 0..20_000 {
            unsaid.keep(&[(HostId(n), Session(3))]);
        }
        assert_eq!(
            (unsaid.all().len(), unsaid.of(HostId(1)), unsaid.of(HostId(19_999))),
            (MOST, Some(Session(3)), None)
        );
        unsaid.forget(HostId(1));
        assert_eq!(unsaid.of(HostId(1)), None);
    }
}
