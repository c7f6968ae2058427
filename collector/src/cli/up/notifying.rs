//! The part of `up` that tells receivers of flags.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::WallClock;
use crate::health::Health;
use crate::notify::deliver::{Deliver, PATIENCE, Wires};
use crate::notify::receiver::Receivers;
use crate::notify::sender::{Config, Sender};
use crate::notify::trial::Desk;
use crate::store::Db;

/// What it works with.
pub(super) struct Means {
    pub(super) db: Db,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) health: Arc<Health>,
    pub(super) receivers: Arc<Receivers>,
}

/// Starts it, where there is anybody to tell, and makes what answers about it.
pub(super) fn start(means: Means, stop: CancellationToken) -> (Option<JoinHandle<()>>, Desk) {
    let Means { db, clock, health, receivers } = means;
    let deliver: Arc<dyn Deliver> = Arc::new(Wires::new(&receivers, PATIENCE));
    let desk = Desk::new(receivers.clone(), deliver.clone(), db.clone(), clock.clone());
    let holder = format!("pid {}", std::process::id());
    let is_wanted = !receivers.list.is_empty();
    let sender = Sender { db, clock, health, receivers, deliver, holder, config: Config::default() };
    (is_wanted.then(|| tokio::spawn(sender.run(stop))), desk)
}
