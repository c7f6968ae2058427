//! Room for records between socket and database: each is counted before it is taken, its stream waits until it fits.
//!
//! Nobody waits behind somebody else's greed, by construction:
//! - A host has a share of its own. What exceeds it waits behind that host's own records and nobody else.
//! - What fits into one message and what travels in parts have a room each, so that a small record never queues behind
//!   a 16 MiB one. Within a room it is first come, first served, and a stream waits with one record at a time.
//! - The room of a record in parts is taken whole before its second part is: those that are being put together never
//!   wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_ipc::record::Record;
use highwater_proto::bounds;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::Config;
use crate::host::HostId;

const KIB: usize = 1024;
/// Shares that are kept before those in use are looked for.
const FEW: usize = 64;

/// The writer is stopping: nothing more is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the collector is stopping; connect again")]
pub struct Stopped;

/// A record's room, given back when it is dropped: after its commit, or with the stream that could not use it.
#[derive(Debug)]
pub struct Room {
    _own: OwnedSemaphorePermit,
    _common: OwnedSemaphorePermit,
}

/// All the room there is. Units are KiB, and a record takes at least one: so bytes bound their number as well.
#[derive(Debug)]
pub(super) struct Rooms {
    shares: Mutex<Shares>,
    share_kib: u32,
    small: Arc<Semaphore>,
    small_kib: u32,
    large: Arc<Semaphore>,
    large_kib: u32,
}

/// Each host's share, while it uses it.
#[derive(Debug, Default)]
struct Shares {
    hosts: HashMap<HostId, Arc<Semaphore>>,
    look_at: usize,
}

impl Rooms {
    pub(super) fn new(config: &Config) -> Self {
        // Two of the largest: while one is committed another comes in.
        let large_kib = kib(config.queue_bytes / 2).max(kib(2 * Record::MAX_BODY));
        let small_kib = kib(config.queue_bytes / 2).max(kib(bounds::MESSAGE));
        Self {
            shares: Mutex::default(),
            share_kib: kib(config.host_bytes),
            small: Arc::new(Semaphore::new(small_kib as usize)),
            small_kib,
            large: Arc::new(Semaphore::new(large_kib as usize)),
            large_kib,
        }
    }

    /// Waits until a record of so many bytes fits, first into its host's share (the whole share, if it is larger), then
    /// into the room for records of its size.
    pub(super) async fn take(&self, host: HostId, bytes: usize) -> Result<Room, Stopped> {
        let wanted = kib(bytes.min(Record::MAX_BODY));
        let share = self.share(host);
        let own = share.acquire_many_owned(wanted.min(self.share_kib)).await.map_err(|_| Stopped)?;
        let (room, most) =
            if bytes > bounds::MESSAGE { (&self.large, self.large_kib) } else { (&self.small, self.small_kib) };
        let common = Arc::clone(room).acquire_many_owned(wanted.min(most)).await.map_err(|_| Stopped)?;
        Ok(Room { _own: own, _common: common })
    }

    /// Nothing more is taken; who waits is told so.
    pub(super) fn close(&self) {
        self.small.close();
        self.large.close();
        self.lock().hosts.values().for_each(|share| share.close());
    }

    fn share(&self, host: HostId) -> Arc<Semaphore> {
        let mut shares = self.lock();
        if shares.hosts.len() >= shares.look_at {
            // A permit holds its semaphore: one that nobody else holds is whole, and as good as a new one.
            shares.hosts.retain(|_, share| Arc::strong_count(share) > 1);
            shares.look_at = FEW.max(2 * shares.hosts.len());
        }
        let share = shares.hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(self.share_kib as usize)));
        Arc::clone(share)
    }

    fn lock(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX).clamp(1, 1 << 28)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const NOISY: HostId = HostId(1);
    const LOUD: HostId = HostId(2);
    const QUIET: HostId = HostId(3);
    const LARGEST: usize = Record::MAX_BODY;

    type Taking<'a> = Pin<Box<dyn Future<Output = Result<Room, Stopped>> + 'a>>;

    fn rooms() -> Rooms {
        Rooms::new(&Config { queue_bytes: 4 << 20, host_bytes: 1 << 20, ..Config::default() })
    }

    fn now(taking: &mut Taking<'_>) -> Option<Result<Room, Stopped>> {
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(room) => Some(room),
            Poll::Pending => None,
        }
    }

    fn taking(rooms: &Rooms, host: HostId, bytes: usize) -> Taking<'_> {
        Box::pin(rooms.take(host, bytes))
    }

    /// Takes as often as there is room, and returns what it got and the one that waits.
    fn flood(rooms: &Rooms, host: HostId, bytes: usize) -> (Vec<Room>, Taking<'_>) {
        let mut got = Vec::new();
        loop {
            let mut next = taking(rooms, host, bytes);
            match now(&mut next) {
                Some(room) => got.push(room.unwrap()),
                None => return (got, next),
            }
        }
    }

    #[test]
    fn a_flood_waits_for_its_own_host_and_nobody_waits_for_it() {
        let rooms = rooms();
        let (mut got, mut waits) = flood(&rooms, NOISY, 10);
        assert_eq!(got.len(), 1024, "a share of 1 MiB, and no record takes less than 1 KiB");
        assert!(now(&mut taking(&rooms, QUIET, 10)).is_some());
        got.pop();
        assert!(now(&mut waits).is_some());
    }

    #[test]
    fn a_small_record_never_queues_behind_large_ones() {
        let rooms = rooms();
        let large: Vec<_> = [NOISY, LOUD].map(|host| now(&mut taking(&rooms, host, LARGEST)).unwrap()).into();
        let mut third = taking(&rooms, HostId(9), LARGEST);
        assert!(now(&mut third).is_none(), "there is room for two");
        assert!(now(&mut taking(&rooms, QUIET, 10)).is_some());
        drop(large);
        assert!(now(&mut third).is_some());
    }

    #[test]
    fn one_host_has_one_large_record_at_a_time_so_that_there_is_room_for_anothers() {
        let rooms = rooms();
        let (got, mut waits) = flood(&rooms, NOISY, LARGEST);
        assert_eq!(got.len(), 1);
        assert!(now(&mut taking(&rooms, QUIET, LARGEST)).is_some());
        drop(got);
        assert!(now(&mut waits).is_some());
    }

    #[test]
    fn hosts_that_fill_the_room_together_take_turns() {
        let rooms = rooms();
        let floods: Vec<_> = (10..13).map(|host| flood(&rooms, HostId(host), 100_000)).collect();
        let held: usize = floods.iter().map(|(got, _)| got.len()).sum();
        assert_eq!(held, (2 << 20) / (98 * 1024), "bounded by the room, not by the number of hosts");
        let mut quiet = taking(&rooms, QUIET, 10);
        assert!(now(&mut quiet).is_none());
        // Those two that were there before, then this one: nobody waits with more than one record.
        let mut waiting: Vec<_> = floods.into_iter().map(|(got, waits)| (got.into_iter(), waits)).collect();
        let mut freed = 0;
        while now(&mut quiet).is_none() {
            let mut more = waiting.iter_mut().filter_map(|(got, _)| got.next());
            drop(more.next().expect("the quiet one gets its turn"));
            freed += 1;
            waiting.iter_mut().for_each(|(_, waits)| drop(now(waits)));
        }
        assert!(freed <= 4, "{freed}");
    }

    #[test]
    fn shares_that_nobody_uses_are_forgotten() {
        let rooms = rooms();
        let _kept = now(&mut taking(&rooms, QUIET, 10)).unwrap();
        for host in 100..10_000 {
            assert!(now(&mut taking(&rooms, HostId(host), 10)).is_some());
        }
        let shares = rooms.lock();
        assert!(shares.hosts.len() <= FEW && shares.hosts.contains_key(&QUIET), "{}", shares.hosts.len());
    }

    #[test]
    fn who_waits_when_the_writer_stops_is_told() {
        let rooms = rooms();
        let (_got, mut own) = flood(&rooms, NOISY, LARGEST);
        let _second = now(&mut taking(&rooms, LOUD, LARGEST)).unwrap();
        let mut common = taking(&rooms, QUIET, LARGEST);
        assert!(now(&mut common).is_none());
        rooms.close();
        assert!(matches!(now(&mut own), Some(Err(Stopped))));
        assert!(matches!(now(&mut common), Some(Err(Stopped))));
        assert!(matches!(now(&mut taking(&rooms, HostId(9), 10)), Some(Err(Stopped))));
    }
}
