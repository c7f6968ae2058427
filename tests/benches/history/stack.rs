//! A database, a writer and a compactor in this process, by a clock that the bench sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highwater::cli::migrate::DatabaseUrl;
use highwater::clock::WallClock;
use highwater::compact::Held;
use highwater::compact::job::{Compactor, Config, LEASE, Round};
use highwater::compact::lease::{Keeper, Now};
use highwater::host::HostId;
use highwater::store::Db;
use highwater::writer::{Config as WriterConfig, Writer};
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::scribe::{Reference, Scribe};
use tokio::runtime::Runtime;

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// What `up` leaves as PostgreSQL has it, where the harness of the tests does not.
const AS_UP: [&str; 2] = ["shared_buffers=128MB", "max_connections=60"];

#[derive(Default)]
struct SetClock(AtomicI64);

impl WallClock for SetClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub struct Stack {
    pub runtime: Runtime,
    pub database: Database,
    pub db: Db,
    writer: Writer,
    clock: Arc<SetClock>,
    compactor: Compactor,
    _server: Postgres,
}

impl Stack {
    /// Empty, at that time.
    pub fn start(now_ms: i64) -> Self {
        let (runtime, server) = (Runtime::new().unwrap(), Postgres::start_with(&AS_UP));
        let database = server.database();
        let clock = Arc::new(SetClock(now_ms.into()));
        let url = DatabaseUrl::named(Some(database.url.as_ref())).unwrap().unwrap();
        let (db, writer, compactor) = runtime.block_on(async {
            let db = Db::connect(url.options(), 8).await.unwrap();
            db.migrate().await.unwrap();
            let of_clock = Arc::<SetClock>::clone(&clock);
            let writer = Writer::start(db.clone(), of_clock, WriterConfig { workers: 1, ..WriterConfig::default() });
            let now = Now { wall_ms: now_ms, steady_ms: 0 };
            let fence = Keeper::new(LEASE, "bench").hold(&db, now).await.unwrap().unwrap();
            let held = Held { name: LEASE.to_owned(), fence };
            let config = Config { tail_age_ms: 0, tail_positions: 1, partitions_every_ms: 0, ..Config::default() };
            let compactor = Compactor::new(db.clone(), config, held);
            (db, writer.await.unwrap(), compactor)
        });
        Self { runtime, database, db, writer, clock, compactor, _server: server }
    }

    /// A host that may send.
    pub fn enrol(&self, id: i64) -> Scribe {
        let insert = format!("INSERT INTO host (host_id, name, enrolled_ms) VALUES ({id}, 'host-{id}', 0)");
        self.database.sql(&insert);
        Scribe::new(HostId(id))
    }

    /// Stores all that a host has made; its records come right after they were made.
    pub fn store(&self, host: &mut Scribe, now_ms: i64) {
        self.store_and(host, now_ms, |_| {});
    }

    /// The same, and hands over what was sent.
    pub fn store_and(&self, host: &mut Scribe, now_ms: i64, sent: impl FnMut(&Reference)) {
        self.clock.0.store(now_ms, Ordering::SeqCst);
        self.runtime.block_on(host.send(&self.writer, usize::MAX));
        host.sent.iter().for_each(sent);
        host.sent.clear();
    }

    /// Compacts, merges and drops what is due then.
    pub fn compact(&mut self, now_ms: i64) {
        self.clock.0.store(now_ms, Ordering::SeqCst);
        loop {
            let round = self.runtime.block_on(self.compactor.round(now_ms)).unwrap();
            assert_eq!(round.failed, 0, "history that does not compact");
            if round == Round::default() {
                return;
            }
        }
    }

    /// Gives hosts of these ids the whole history of another.
    pub fn clone_host(&self, from: i64, (first, last): (i64, i64)) {
        const TABLES: &str = "SELECT c.oid::regclass FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
            WHERE a.attname = 'host_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relnamespace = 'public'::regnamespace
            AND c.relname NOT IN ('host', 'certificate', 'enrolment_token') ORDER BY c.relname <> 'stream'";
        self.database.sql(&format!(
            "INSERT INTO host (host_id, name, enrolled_ms)
             SELECT n, 'host-' || n, 0 FROM generate_series({first}, {last}) AS n"
        ));
        for table in self.database.sql(TABLES).lines() {
            let columns = format!(
                "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
                 WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'host_id'"
            );
            let columns = self.database.sql(&columns);
            let columns = columns.trim();
            self.database.sql(&format!(
                "INSERT INTO {table} (host_id, {columns}) SELECT n, {columns}
                 FROM {table}, generate_series({first}, {last}) AS n WHERE host_id = {from}"
            ));
        }
    }

    /// As autovacuum does in time.
    pub fn settle(&self) {
        self.database.sql("VACUUM (ANALYZE)");
        self.database.sql("CHECKPOINT");
    }
}
