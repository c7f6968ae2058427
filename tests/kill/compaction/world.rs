//! Hosts that are written while what they sent is compacted, in a database of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highwater::cli::migrate::DatabaseUrl;
use highwater::clock::WallClock;
use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::as_of::{Answer, Instant, as_of};
use highwater::query::walk::{Begin, Walk};
use highwater::store::Db;
use highwater::writer::{Config, Writer};
use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::Totals;
use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::record::GapReason;
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId, Snapshot, State};
use highwater_ipc::time::At;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::scribe::{Reference, Scribe};
use tokio::runtime::Runtime;

use crate::plan::Dice;

const HOUR_MS: i64 = 3_600_000;
/// 2026-03-01T10:00:00Z, a Sunday: a week ends, and so does the day.
const START_MS: i64 = 1_772_359_200_000;
const INTERVAL_MS: i64 = 600_000;
/// Samples of each of a host's two epochs: two days and a half.
const SAMPLES: i64 = 360;
const HOSTS: i64 = 3;
/// Records that one host sends at most before a compactor is started.
const SLICE: u64 = 80;

/// 2026-03-02T00:00:00Z: the week before it is forgotten ..
pub(crate) const BORDER_MS: i64 = 1_772_409_600_000;
/// .. at noon of 2026-04-03, where exact history is kept for so many days, and the week after it is not.
const FORGET_MS: i64 = 1_775_217_600_000;
pub(crate) const KEPT_DAYS: i64 = 30;

/// A table whose name says that it is a partition, and that is none.
const ORPHANS: &str = "SELECT c.relname FROM pg_class AS c WHERE c.relkind = 'r'
    AND c.relname ~ '^(frame|chunk|chunk_fresh|usage|usage_hour|usage_pack|owner_usage)_[0-9]{8}$'
    AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid)";
/// Tables of what is derived of the records alone.
const DERIVED: [&str; 6] = ["usage", "usage_hour", "usage_pack", "owner_usage", "gap_part", "object_now"];
const MARKS: &str = "SELECT host_id, epoch_no, merged_to, compacted_to, framed_to FROM stream ORDER BY 1, 2";
const PARTITIONS: &str = "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('frame'::regclass, 'chunk_fresh'::regclass) AND c.relname ~ '_[0-9]{8}$'
    AND to_date(right(c.relname, 8), 'YYYYMMDD') < DATE '1970-01-01' + ";
const FIRST_WEEK: &str = "SELECT to_regclass('chunk_20260223') IS NULL";
const BACKENDS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = 'compactor' AND pid <> pg_backend_pid()";

/// The collector's clock, as the test sets it.
#[derive(Default)]
struct SetClock(AtomicI64);

impl WallClock for SetClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A host, an instant, and what it held then.
pub(crate) type Answers = Vec<(HostId, i64, Option<Arc<Snapshot>>)>;

pub(crate) struct World {
    runtime: Runtime,
    pub(crate) database: Database,
    db: Db,
    writer: Option<Writer>,
    clock: Arc<SetClock>,
    hosts: Vec<Scribe>,
    /// The same before anything was sent.
    untouched: Vec<Scribe>,
    marks: Vec<[i64; 5]>,
    /// The time of the last compactor's clock.
    compacted_ms: i64,
}

impl World {
    pub(crate) fn new(server: &Postgres, dice: &mut Dice) -> Self {
        Self::of(server, (1..=HOSTS).map(|id| host(HostId(id), dice)).collect())
    }

    /// Another one to whose hosts the same happened, of which nothing was sent.
    pub(crate) fn twin(&self, server: &Postgres) -> Self {
        Self::of(server, self.untouched.clone())
    }

    fn of(server: &Postgres, hosts: Vec<Scribe>) -> Self {
        let (runtime, database) = (Runtime::new().expect("a runtime"), server.database());
        let clock = Arc::new(SetClock(START_MS.into()));
        let url = DatabaseUrl::named(Some(database.url.as_ref())).expect("a URL").expect("a URL");
        let (db, writer) = runtime.block_on(async {
            let db = Db::connect(url.options(), 4).await.expect("a database");
            db.migrate().await.expect("the schema");
            let config = Config { workers: 1, ..Config::default() };
            let writer = Writer::start(db.clone(), Arc::<SetClock>::clone(&clock), config).await.expect("a writer");
            (db, writer)
        });
        database.sql(&format!(
            "INSERT INTO host (host_id, name, enrolled_ms) SELECT n, 'host-' || n, 0 FROM generate_series(1, {HOSTS}) n"
        ));
        let (untouched, writer, marks) = (hosts.clone(), Some(writer), Vec::new());
        Self { runtime, database, db, writer, clock, hosts, untouched, marks, compacted_ms: START_MS }
    }

    /// Some hosts send some of their records; `false` = all were sent before.
    pub(crate) fn feed(&mut self, dice: &mut Dice) -> bool {
        let writer = self.writer.as_ref().expect("a writer");
        let mut sent = false;
        for host in &mut self.hosts {
            if host.unsent() == 0 || dice.roll(3) == 0 {
                sent |= host.unsent() > 0;
                continue;
            }
            sent = true;
            let most = usize::try_from(dice.roll(SLICE) + 1).expect("a count");
            let now_ms = host.next_ms().unwrap_or(0).max(self.clock.now_ms()) + 100;
            self.clock.0.store(now_ms, Ordering::SeqCst);
            self.runtime.block_on(host.send(writer, most));
        }
        sent
    }

    /// All hosts send all of their records.
    pub(crate) fn feed_all(&mut self) {
        let writer = self.writer.as_ref().expect("a writer");
        for host in &mut self.hosts {
            while let Some(next_ms) = host.next_ms() {
                self.clock.0.fetch_max(next_ms + 100, Ordering::SeqCst);
                self.runtime.block_on(host.send(writer, usize::MAX));
            }
        }
    }

    /// All that is derived of the records, row by row.
    pub(crate) fn derived(&self) -> String {
        DERIVED
            .map(|table| self.database.sql(&format!("SELECT '{table}', t FROM {table} AS t ORDER BY t::text")))
            .concat()
    }

    /// A time of the next compactor's clock: up to a day and a half after what was sent last, and far enough after the one
    /// before that its lease is over.
    pub(crate) fn next_ms(&mut self, dice: &mut Dice) -> i64 {
        let after = self.hosts.iter().filter_map(Scribe::next_ms).max().unwrap_or(self.compacted_ms);
        self.compacted_ms = (self.compacted_ms + 60_000).max(after + dice.ms(0, 36 * HOUR_MS));
        self.compacted_ms
    }

    /// A time of the compactor's clock at which the first week is too old.
    pub(crate) fn next_old_ms(&mut self) -> i64 {
        self.compacted_ms = (self.compacted_ms + 60_000).max(FORGET_MS);
        self.compacted_ms
    }

    /// What each host held at instants all over its history; `None` = nobody knows.
    pub(crate) fn answers(&self) -> Answers {
        let mut answers = Vec::new();
        self.runtime.block_on(async {
            let mut reading = Reading::begin(&self.db).await.expect("a snapshot");
            for host in &self.hosts {
                for step in 0..90 {
                    let at_ms = START_MS + step * HOUR_MS * 4 / 3;
                    let instant = Instant::At(at_ms);
                    let told = as_of(&mut reading, host.host(), instant, FORGET_MS).await.expect("an answer");
                    let held = if let Answer::Held(held) = told.answer { Some(held.snapshot) } else { None };
                    answers.push((host.host(), at_ms, held));
                }
            }
        });
        answers
    }

    /// What lies behind the border answers as before; what lies before it does too, or is a gap.
    pub(crate) fn check_answers(&self, truth: &Answers) {
        for (now, truth) in self.answers().into_iter().zip(truth) {
            let forgotten = now.2.is_none() && now.1 < BORDER_MS;
            assert!(now == *truth || forgotten, "{now:?}\n{truth:?}");
        }
    }

    /// The week before the border is gone, and no table is nobody's partition.
    pub(crate) fn check_forgotten(&self) {
        assert_eq!(self.database.sql(FIRST_WEEK), "t\n");
        assert_eq!(self.database.sql(ORPHANS), "", "tables that look like partitions and are none");
    }

    /// The dead compactor's connections are known to be so.
    pub(crate) fn is_alone(&self) -> bool {
        self.database.sql(BACKENDS) == "0\n"
    }

    /// Records move one way: from frames to fresh chunks to merged ones.
    pub(crate) fn check_marks(&mut self) {
        let printed = self.database.sql(MARKS);
        let row = |line: &str| -> [i64; 5] {
            let fields: Vec<i64> = line.split('|').map(|field| field.parse().expect("a number")).collect();
            fields.try_into().expect("five columns")
        };
        let marks: Vec<[i64; 5]> = printed.lines().map(row).collect();
        for [host, epoch, merged, compacted, framed] in &marks {
            assert!(merged <= compacted && compacted <= framed, "{printed}");
            let before = self.marks.iter().find(|m| m[..2] == [*host, *epoch]);
            assert!(before.is_none_or(|b| b[2] <= *merged && b[3] <= *compacted && b[4] <= *framed), "{printed}");
        }
        self.marks = marks;
    }

    /// Everything that one host sent is read back once, in order and as it was.
    pub(crate) fn check_host(&self, which: u64) -> usize {
        let host = &self.hosts[usize::try_from(which).expect("an index") % self.hosts.len()];
        let read = self.runtime.block_on(walk(&self.db, host.host()));
        let places = |all: &[Reference]| all.iter().map(|r| r.position).collect::<Vec<_>>();
        assert_eq!(places(&read), places(&host.sent), "host {}", host.host());
        for (read, sent) in read.iter().zip(&host.sent) {
            assert_eq!(read, sent, "host {}", host.host());
        }
        read.len()
    }

    /// The same of all; how many records that are. No table is nobody's partition.
    pub(crate) fn check(&mut self) -> usize {
        self.check_marks();
        assert_eq!(self.database.sql(ORPHANS), "", "tables that look like partitions and are none");
        (0..self.hosts.len()).map(|n| self.check_host(n as u64)).sum()
    }

    /// After a last compaction at that time: everything lies in merged chunks, and no day before that has a partition of
    /// frames or fresh chunks.
    pub(crate) fn check_moved(&self, now_ms: i64) {
        assert!(self.marks.iter().all(|[.., merged, compacted, framed]| merged == compacted && compacted == framed));
        assert_eq!(self.database.sql(&format!("{PARTITIONS}{}", now_ms / (24 * HOUR_MS))), "", "of days that are over");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.runtime.block_on(writer.shutdown());
        }
        self.runtime.block_on(self.db.close());
    }
}

async fn walk(db: &Db, host: HostId) -> Vec<Reference> {
    let mut reading = Reading::begin(db).await.expect("a snapshot");
    let mut walk = Walk::new(&mut reading, host, Begin::At(i64::MIN), i64::MAX);
    let mut read = Vec::new();
    while let Some(step) = walk.next().await.expect("history that reads") {
        if !step.opening {
            read.push(Reference { position: step.position, prev_wall_ms: step.prev_wall_ms, said: step.said });
        }
    }
    read
}

/// Two runs of an agent in two boots, with a pause and a clock that is set back; all that it will send.
fn host(id: HostId, dice: &mut Dice) -> Scribe {
    let mut host = Scribe::new(id);
    let mut at = At { wall_ms: START_MS + dice.ms(0, HOUR_MS), boot_us: 60_000_000 };
    let pass = |at: &mut At, ms: i64| {
        at.wall_ms += ms;
        at.boot_us += ms.unsigned_abs() * 1000;
    };
    for epoch in 1..=2_u8 {
        let boot_id = BootId([epoch; 16]);
        host.begin_epoch(boot_id);
        let mut state = state(boot_id);
        let (paused, set_back) = (dice.ms(20, 160), dice.ms(180, 340));
        for number in 0..SAMPLES {
            if dice.roll(3) == 0 {
                change(&mut state, at.wall_ms, dice);
            }
            match number {
                0 if epoch == 1 => host.sample(at, &state, Some(GapReason::BeforeFirst)),
                0 => host.sample(at, &state, Some(GapReason::AgentStopped)),
                n if n == paused => {
                    pass(&mut at, 5 * INTERVAL_MS);
                    host.sample(at, &state, Some(GapReason::Stalled));
                }
                n if n == set_back => {
                    at.wall_ms -= 2 * INTERVAL_MS;
                    host.step(at, &state, -2 * INTERVAL_MS);
                }
                _ => host.sample(at, &state, None),
            }
            pass(&mut at, INTERVAL_MS);
        }
        host.stop(at);
        pass(&mut at, HOUR_MS);
        at.boot_us = 60_000_000;
    }
    host
}

fn change(state: &mut State, wall_ms: i64, dice: &mut Dice) {
    let Some(namespace) = state.namespaces.first_mut() else { return };
    let arrays = namespace.sem.get_or_insert_default();
    let which = usize::try_from(dice.roll(arrays.len() as u64 + 1)).expect("an index");
    match arrays.get_mut(which) {
        Some(_) if dice.roll(5) == 0 => drop(arrays.remove(which)),
        Some(array) => array.otime = wall_ms / 1000,
        None => {
            let semid = arrays.last().map_or(0, |last| last.semid + 1);
            let owner = Owner { uid: 33, gid: 33, cuid: 33, cgid: 33 };
            let ctime = wall_ms / 1000;
            arrays.push(SemArray { key: Key(0), semid, perms: Perms(0o600), nsems: 1, owner, otime: 0, ctime });
        }
    }
    let count = arrays.len() as u64;
    namespace.totals = Some(Totals { sem_arrays: count, semaphores: count, ..Totals::default() });
}

fn state(boot_id: BootId) -> State {
    let namespace = Namespace {
        id: NamespaceId { inode: 4_026_531_839, instance: 1 },
        totals: Some(Totals::default()),
        sem: Some(Vec::new()),
        shm: Some(Vec::new()),
        msg: Some(Vec::new()),
        ..Namespace::default()
    };
    let evidence = vec!["SEM_INFO answers".into()];
    State {
        boot_id,
        interval_ms: u32::try_from(INTERVAL_MS).expect("an interval"),
        page_size: 4096,
        availability: Availability { state: SysvipcState::Available, evidence, ..Availability::default() },
        namespaces: vec![namespace],
        ..State::default()
    }
}
