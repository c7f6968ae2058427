//! Connections of one host: bounded, and the newest replaces the oldest.
//!
//! Without it one host's certificate is enough to take every connection there is. An honest agent has one, and for a
//! moment two when it comes back before its old one is known to be dead; that one is the oldest, so it is what goes.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::host::HostId;

/// Who is connected, by host.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Connections of one host at once.
    most: usize,
    here: Mutex<Here>,
}

#[derive(Debug, Default)]
struct Here {
    next: u64,
    /// Of each host, oldest first.
    hosts: HashMap<HostId, BTreeMap<u64, oneshot::Sender<()>>>,
}

/// A connection's place among those of its host; resolves if it must go.
#[derive(Debug)]
pub(super) struct OfHost {
    host: HostId,
    number: u64,
    sent_away: oneshot::Receiver<()>,
    of: Arc<Hosts>,
}

impl Hosts {
    /// So many connections of each at once, at least 1.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), here: Mutex::default() })
    }

    /// A host's connection takes a place; beyond the bound its oldest one is sent away.
    pub(super) fn enter(self: &Arc<Self>, host: HostId) -> OfHost {
        let (away, sent_away) = oneshot::channel();
        let mut here = self.here();
        let number = here.next;
        here.next += 1;
        let of_host = here.hosts.entry(host).or_default();
        of_host.insert(number, away);
        let oldest = if of_host.len() > self.most { of_host.pop_first() } else { None };
        drop(here);
        if let Some((_, away)) = oldest {
            // It may be gone already.
            let _ = away.send(());
        }
        OfHost { host, number, sent_away, of: Arc::clone(self) }
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfHost {
    /// Whose it is.
    pub(super) fn host(&self) -> HostId {
        self.host
    }
}

impl Future for OfHost {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.sent_away).poll(cx).map(|_| ())
    }
}

impl Drop for OfHost {
    fn drop(&mut self) {
        let mut here = self.of.here();
        if let Some(of_host) = here.hosts.get_mut(&self.host) {
            of_host.remove(&self.number);
            if of_host.is_empty() {
                here.hosts.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn must_go(place: &mut OfHost) -> bool {
        Pin::new(place).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_newest_connection_of_a_host_replaces_its_oldest_and_no_other_hosts() {
        let hosts = Hosts::new(3);
        let mut other = hosts.enter(HostId(2));
        let mut all: Vec<_> = (0..5).map(|_| hosts.enter(HostId(1))).collect();
        assert_eq!(all.iter_mut().map(must_go).collect::<Vec<_>>(), [true, true, false, false, false]);
        assert!(!must_go(&mut other));
        // One that leaves by itself makes room.
        drop(all.remove(3));
        all.push(hosts.enter(HostId(1)));
        assert!(!must_go(&mut all[2]) && !must_go(&mut all[4]));
        drop((all, other));
        assert!(hosts.here().hosts.is_empty());
    }
}
