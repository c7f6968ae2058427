//! What worlds are played on: a database with the real writer and the real compactors, in this process, by clocks that a
//! world sets. A world adds hosts that no other has, so that it costs no database of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highwater::cli::migrate::DatabaseUrl;
use highwater::clock::WallClock;
use highwater::compact::job::{Compactor, Config, Round};
use highwater::compact::retention::Retention;
use highwater::compact::{CompactError, Held, partitions};
use highwater::host::HostId;
use highwater::store::Db;
use highwater::store::day::Day;
use highwater::store::keep::{Days, Keep};
use highwater::store::lease::{self, Fence};
use highwater::store::partition::Table;
use highwater::store::tx::Dedicated;
use highwater::writer::ack::Outbox;
use highwater::writer::{self, Arrival, Handle, OpenError, OpenRequest, Opened, Writer};
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::session::Hello;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::PATIENCE;

use crate::machine::Made;
use crate::world::{Kept, broken};

/// The collector's clock.
#[derive(Debug, Default)]
struct Hand(AtomicI64);

impl WallClock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Which of the compactors: each works under a lease of its own, so that nothing but the marks of `stream` keeps them from
/// one another's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Takes every tail at once.
    Eager,
    /// Takes those that are six hours old or have eight positions.
    Lazy,
    /// Its lease was taken by another one: it must change nothing.
    Fenced,
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) database: Database,
    pub(crate) db: Db,
    clock: Arc<Hand>,
    writer: Writer,
    eager: Compactor,
    /// The eager one's lease.
    held: Held,
    lazy: Compactor,
    fenced: Compactor,
    pub(crate) link: Option<Dedicated>,
    hosts: i64,
}

/// Hosts that one stage has room for.
const HOSTS: i64 = 600;

const EAGER: Config = Config {
    tail_age_ms: 0,
    urgent_age_ms: i64::MAX,
    tail_positions: 1,
    merge_after_ms: 0,
    partitions_every_ms: i64::MAX,
    round_ms: 0,
};
/// What is kept shortest of all: whole weeks, a day longer.
const FORGETFUL: Keep = Keep { chunks: Days(1), usage: Days(400), rollups: Days(3 * 365) };

const LAZY: Config = Config { tail_age_ms: 6 * 3_600_000, tail_positions: 8, merge_after_ms: 3_600_000, ..EAGER };

impl Stage {
    pub(crate) async fn new(now_ms: i64) -> Self {
        let database = Postgres::shared().database();
        let url = DatabaseUrl::named(Some(database.url.as_ref())).unwrap().unwrap();
        let db = Db::connect(url.options(), 4).await.unwrap();
        db.migrate().await.unwrap();
        database.sql(&format!(
            "INSERT INTO host (host_id, name, enrolled_ms) SELECT n, 'h' || n || '.', 0 FROM generate_series(1, {HOSTS}) n"
        ));
        let clock = Arc::new(Hand(AtomicI64::new(now_ms)));
        let config = writer::Config { workers: 1, linger_ms: 0, ..writer::Config::default() };
        let writer = Writer::start(db.clone(), Arc::<Hand>::clone(&clock), config).await.unwrap();
        let mut link = db.dedicated().await.unwrap();
        let mut take = async |name: &str, holder: &str, at_ms: i64| -> Held {
            let fence: Fence = lease::take(&mut link, name, holder, at_ms, 1_000).await.unwrap().unwrap();
            Held { name: name.to_owned(), fence }
        };
        let eager = take("compact/1", "a", now_ms).await;
        let lazy = take("compact/2", "b", now_ms).await;
        let fenced = take("compact/3", "c", now_ms).await;
        take("compact/3", "d", now_ms + 5_000).await;
        let mut compactors = Vec::new();
        for (config, held) in [(EAGER, eager.clone()), (LAZY, lazy), (EAGER, fenced)] {
            let mut compactor = Compactor::new(db.clone(), config, held);
            // It drops days once, long before there are any: when is a world's matter.
            compactor.round(0).await.unwrap();
            compactors.push(compactor);
        }
        let (Some(fenced), Some(lazy_one), Some(eager_one)) = (compactors.pop(), compactors.pop(), compactors.pop())
        else {
            panic!("three were made")
        };
        Self {
            eager: eager_one,
            held: eager,
            lazy: lazy_one,
            fenced,
            database,
            db: db.clone(),
            clock,
            writer,
            link: Some(link),
            hosts: 0,
        }
    }

    /// Whether there is room for another world.
    pub(crate) fn has_room(&self) -> bool {
        self.hosts + 3 <= HOSTS
    }

    /// A host that nothing is stored of.
    pub(crate) fn host(&mut self) -> HostId {
        self.hosts += 1;
        HostId(self.hosts)
    }

    pub(crate) fn set_clock(&self, now_ms: i64) {
        self.clock.0.store(now_ms, Ordering::SeqCst);
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(crate) fn compactor(&mut self, which: Which) -> &mut Compactor {
        match which {
            Which::Eager => &mut self.eager,
            Which::Lazy => &mut self.lazy,
            Which::Fenced => &mut self.fenced,
        }
    }

    /// Two compactors at once.
    pub(crate) async fn both(&mut self, now_ms: i64) -> [Result<Round, CompactError>; 2] {
        let (one, two) = tokio::join!(self.eager.round(now_ms), self.lazy.round(now_ms));
        [one, two]
    }

    /// Drops the days of which everything lies elsewhere.
    pub(crate) async fn drop_moved(&mut self, now_ms: i64) -> Kept<usize> {
        let link = self.link.as_mut().unwrap();
        partitions::drop_moved(link, now_ms).await.or_else(|error| broken(format!("dropping partitions: {error}")))
    }

    /// Forgets the weeks that ended more than a day ago.
    pub(crate) async fn forget(&mut self, now_ms: i64) -> Kept {
        let retention = Retention { keep: FORGETFUL, lease: self.held.name.clone(), fence: self.held.fence };
        let link = self.link.as_mut().unwrap();
        match retention.run(link, now_ms).await {
            Ok(_) => Ok(()),
            Err(error) => broken(format!("forgetting: {error}")),
        }
    }

    /// The end of the last week that goes then.
    pub(crate) fn horizon_ms(&self, now_ms: i64) -> i64 {
        let mut week = Day::of(now_ms).week();
        while !FORGETFUL.is_expired(Table::Chunk, week, now_ms) {
            week = week.plus(-7);
        }
        week.plus(7).start_ms()
    }

    /// Says hello.
    pub(crate) async fn open(&self, host: HostId, hello: Hello) -> Result<(Opened, Session), OpenError> {
        let (handle, outbox) = (self.writer.handle(), Arc::new(Outbox::default()));
        let request = OpenRequest { host, enrolled_ms: 0, hello, read_ms: self.now_ms(), outbox: Arc::clone(&outbox) };
        let opened = handle.open(request).await?;
        let number = opened.session;
        Ok((opened, Session { host, number, handle, outbox }))
    }

    pub(crate) async fn close(mut self) {
        self.writer.shutdown().await;
        if let Some(link) = self.link.take() {
            link.close().await;
        }
        self.db.close().await;
    }
}

/// A session with the writer.
#[derive(Clone)]
pub(crate) struct Session {
    host: HostId,
    number: writer::Session,
    handle: Handle,
    outbox: Arc<Outbox>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "session {} of {}", self.number.0, self.host)
    }
}

impl Session {
    /// Queues a record.
    pub(crate) async fn send(&self, made: &Made) -> Kept {
        let arrival = Arrival::new(made.record.clone(), &made.body);
        let sent = self.handle.record(self.host, self.number, made.epoch, arrival).await;
        sent.or_else(|_| broken("the writer takes nothing more"))
    }

    /// Tells the present.
    pub(crate) async fn now(&self, now: highwater_ipc::session::Now) {
        // A writer that stops takes nothing: whatever is waited for next says so.
        let _ = self.handle.now(self.host, self.number, now).await;
    }

    /// Waits until everything of that epoch before `next` is durable.
    pub(crate) async fn acked(&self, epoch: EpochNo, next: Seq) -> Kept {
        loop {
            let Ok(news) = tokio::time::timeout(PATIENCE, self.outbox.take()).await else {
                return broken(format!("{} is not acked up to {next:?} of {epoch:?}", self.host));
            };
            if let Some(why) = news.ended {
                return broken(format!("the session of {} ended: {why}", self.host));
            }
            let mut positions = news.acks.into_values().map(|durable| durable.into_inner());
            if positions.any(|at| at.epoch == epoch && at.next >= next) {
                return Ok(());
            }
        }
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        let _ = self.handle.close(self.host, self.number).await;
    }
}
