//! A database with the real writer and the real compactors, in this process, by a clock that a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highwater::cli::migrate::DatabaseUrl;
use highwater::clock::WallClock;
use highwater::compact::Held;
use highwater::compact::job::{Compactor, Config, Round};
use highwater::evaluate::rules::{Rules, Ruling};
use highwater::host::HostId;
use highwater::store::Db;
use highwater::store::lease;
use highwater::writer::{self, Writer};
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::scribe::Scribe;
use tokio::runtime::Runtime;

/// The collector's clock.
#[derive(Debug, Default)]
struct Hand(AtomicI64);

impl WallClock for Hand {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Takes every tail at once, and looks at hosts on which nothing changes in every round.
pub(crate) const EAGER: Config = Config {
    tail_age_ms: 0,
    urgent_age_ms: i64::MAX,
    tail_positions: 1,
    merge_after_ms: 0,
    partitions_every_ms: 0,
    round_ms: 0,
};

/// The stage.
pub(crate) struct Stage {
    pub(crate) runtime: Runtime,
    pub(crate) database: Database,
    pub(crate) db: Db,
    held: Held,
    clock: Arc<Hand>,
    writer: Option<Writer>,
    eager: Compactor,
}

impl Stage {
    /// With these hosts, at that time of the collector's clock.
    pub(crate) fn new(hosts: &[HostId], now_ms: i64) -> Self {
        let database = Postgres::shared().database();
        let runtime = Runtime::new().unwrap();
        let clock = Arc::new(Hand(AtomicI64::new(now_ms)));
        let (db, held, writer, eager) = runtime.block_on(async {
            let url = DatabaseUrl::named(Some(database.url.as_ref())).unwrap().unwrap();
            let db = Db::connect(url.options(), 4).await.unwrap();
            db.migrate().await.unwrap();
            let config = writer::Config { workers: 1, linger_ms: 0, ..writer::Config::default() };
            let writer = Writer::start(db.clone(), Arc::<Hand>::clone(&clock), config).await.unwrap();
            let mut link = db.dedicated().await.unwrap();
            let fence = lease::take(&mut link, "compact/test", "a", now_ms, 1_000).await.unwrap().unwrap();
            link.close().await;
            let held = Held { name: "compact/test".to_owned(), fence };
            let eager = Compactor::new(db.clone(), EAGER, held.clone());
            (db, held, writer, eager)
        });
        for host in hosts {
            let id = host.0;
            database.sql(&format!("INSERT INTO host (host_id, name, enrolled_ms) VALUES ({id}, 'h{id}.', 0)"));
        }
        Self { runtime, database, db, held, clock, writer: Some(writer), eager }
    }

    /// Sends so many records of a host once the collector's clock has come to the first of them.
    pub(crate) fn send(&self, host: &mut Scribe, most: usize) {
        let Some(next_ms) = host.next_ms() else { return };
        self.clock.0.fetch_max(next_ms, Ordering::SeqCst);
        self.runtime.block_on(host.send(self.writer.as_ref().unwrap(), most));
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Time passes on the collector's clock.
    pub(crate) fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Does what is due now.
    pub(crate) fn compact(&mut self) -> Round {
        let now_ms = self.now_ms();
        let round = self.runtime.block_on(self.eager.round(now_ms)).unwrap();
        assert_eq!(round.failed, 0, "{round:?}");
        round
    }

    /// From now on receivers are told of flags, or not.
    pub(crate) fn judge_by_telling(&mut self, notify: bool) {
        let default = Ruling { notify, ..Ruling::default() };
        self.eager.judge_by(Arc::new(Rules { default, ..Rules::default() }));
    }

    /// The same by a compactor that takes tails later.
    pub(crate) fn compact_as(&mut self, config: Config) -> Round {
        let now_ms = self.now_ms();
        let mut compactor = Compactor::new(self.db.clone(), config, self.held.clone());
        self.runtime.block_on(compactor.round(now_ms)).unwrap()
    }

    /// Compacts until nothing is left to move.
    pub(crate) fn compact_all(&mut self) {
        self.pass(1);
        while self.compact().compacted > 0 {}
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.runtime.block_on(writer.shutdown());
        }
        self.runtime.block_on(self.db.close());
    }
}
