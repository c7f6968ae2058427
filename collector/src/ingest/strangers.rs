//! Connections that have not shown a certificate: bounded, and whoever lingers makes room for whoever comes.
//!
//! Refusing the newest would let anybody keep every host out with as many idle connections as there are places. Ending
//! the oldest at once would let a storm of honest handshakes end its own head. So at the bound the port waits, hosts in
//! the kernel's queue, until a place is free or the oldest stranger has had its time; then that one goes.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// How long one that was sent away may take to be gone before the next one is.
const GOING: Duration = Duration::from_millis(100);

/// The places for strangers.
#[derive(Debug)]
pub(super) struct Strangers {
    places: Arc<Semaphore>,
    stay: Duration,
    here: Mutex<Here>,
}

/// Who is here, oldest first.
#[derive(Debug, Default)]
struct Here {
    next: u64,
    oldest_first: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

/// A stranger's place; resolves if it must go.
#[derive(Debug)]
pub(super) struct Stranger {
    number: u64,
    sent_away: oneshot::Receiver<()>,
    of: Arc<Strangers>,
    _place: OwnedSemaphorePermit,
}

impl Strangers {
    /// So many at once; each may stay at least this long.
    pub(super) fn new(most: usize, stay: Duration) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(most)), stay, here: Mutex::default() })
    }

    /// Waits for a place. At the bound the oldest stranger is sent away, once its time is over.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return place;
            }
            let oldest = self.here().oldest_first.first_key_value().map(|(number, (since, _))| (*number, *since));
            // None: every place is with the one who waits here, or is just given back.
            let until = oldest.map_or_else(|| Instant::now() + GOING, |(_, since)| since + self.stay);
            if let Some(place) = self.free_by(until).await {
                return place;
            }
            if let Some((number, _)) = oldest
                && let Some((_, away)) = self.here().oldest_first.remove(&number)
            {
                let _ = away.send(());
            }
            if let Some(place) = self.free_by(Instant::now() + GOING).await {
                return place;
            }
        }
    }

    async fn free_by(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).acquire_owned();
        tokio::time::timeout_at(until, place).await.ok()?.ok()
    }

    /// A stranger takes the place.
    pub(super) fn enter(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Stranger {
        let (away, sent_away) = oneshot::channel();
        let mut here = self.here();
        let number = here.next;
        here.next += 1;
        here.oldest_first.insert(number, (Instant::now(), away));
        drop(here);
        Stranger { number, sent_away, of: Arc::clone(self), _place: place }
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Stranger {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.sent_away).poll(cx).map(|_| ())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.of.here().oldest_first.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn enter(strangers: &Arc<Strangers>) -> Stranger {
        strangers.enter(strangers.place().await)
    }

    #[tokio::test]
    async fn at_the_bound_the_oldest_makes_room_when_its_time_is_over_and_never_before() {
        let stay = Duration::from_millis(60);
        let strangers = Strangers::new(2, stay);
        let (oldest, newer) = (enter(&strangers).await, enter(&strangers).await);
        let since = Instant::now();
        let gone = tokio::spawn(oldest);
        let third = enter(&strangers).await;
        assert!(gone.await.is_ok() && since.elapsed() >= stay.mul_f32(0.9));
        assert_eq!(strangers.here().oldest_first.keys().collect::<Vec<_>>(), [&1, &2]);
        drop((newer, third));
        assert!(strangers.here().oldest_first.is_empty());
        assert_eq!(strangers.places.available_permits(), 2);
    }

    /// Each leaves by itself in time, and nobody is sent away.
    #[tokio::test]
    async fn a_storm_of_honest_handshakes_waits_its_turn() {
        let strangers = Strangers::new(4, Duration::from_secs(3600));
        let mut all = Vec::new();
        for _ in 0..100 {
            let mut stranger = enter(&strangers).await;
            all.push(tokio::spawn(async move {
                tokio::task::yield_now().await;
                stranger.sent_away.try_recv() == Err(oneshot::error::TryRecvError::Empty)
            }));
        }
        for one in all {
            assert!(one.await.unwrap());
        }
    }

    #[tokio::test]
    async fn one_who_does_not_go_keeps_no_other_from_going() {
        let strangers = Strangers::new(2, Duration::from_millis(10));
        let _deaf = enter(&strangers).await;
        let hears = tokio::spawn(enter(&strangers).await);
        let third = tokio::time::timeout(Duration::from_secs(30), enter(&strangers)).await;
        assert!(third.is_ok() && hears.await.is_ok());
    }
}
