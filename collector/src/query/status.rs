//! How the collector itself is, what it stores, what retention would do now, and what to do about what is wrong.

use crate::health::{Disk, Known, Part, Trouble};
use crate::store::day::Day;
use crate::store::keep::{Days, Keep};
use crate::store::lease::Lease;
use crate::store::notice::Standing;
use crate::store::partition::Table;
pub use crate::store::report::TableSize;
use crate::store::{Db, StoreError, report};

use super::Reading;

/// A tail that waits longer for compaction means that nobody compacts.
const COMPACTED_WITHIN_MS: i64 = 2 * 3_600_000;
/// Days after which a day's chunks are merged as a rule.
const MERGED_WITHIN_DAYS: i32 = 3;
/// Less room than this on the database's disk is trouble: bytes, and a part of it.
const LEAST_FREE: u64 = 512 << 20;
const LEAST_PART: u64 = 50;

/// How the collector is.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The collector's clock, milliseconds.
    pub now_ms: i64,
    /// Version and bytes of the database; the error if it does not answer.
    pub database: Result<Database, String>,
    /// Room on its disk, where that is this machine's.
    pub disk: Option<Disk>,
    /// What the parts fail at.
    pub known: Known,
}

/// What the database says.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The server's version.
    pub version: String,
    /// Bytes of the database.
    pub bytes: i64,
    /// Hosts in sight, and all that ever reported.
    pub hosts: (i64, i64),
    /// When the oldest record came that waits for compaction.
    pub uncompacted_ms: Option<i64>,
    /// The oldest day of which chunks wait to be merged.
    pub unmerged: Option<Day>,
    /// Who works.
    pub leases: Vec<Lease>,
    /// How the receivers of notifications fare that were ever told something.
    pub receivers: Vec<Standing>,
}

/// Something that is well or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub what: String,
    /// What to do; empty where it is well.
    pub remedy: String,
}

/// Asks the database.
pub async fn database(db: &Db, now_ms: i64) -> Result<Database, StoreError> {
    let (version, bytes) = report::server(db).await?;
    let mut reading = Reading::begin(db).await?;
    Ok(Database {
        version,
        bytes,
        hosts: reading.hosts_in_sight(now_ms).await?,
        uncompacted_ms: reading.oldest_uncompacted_ms().await?,
        unmerged: reading.oldest_unmerged().await?,
        leases: reading.leases().await?,
        receivers: reading.notice_standings(now_ms).await?,
    })
}

impl Status {
    /// Whether records are acked, as far as is known.
    pub fn is_acking(&self) -> bool {
        self.known.unacked().is_none()
    }

    /// Since when the database does not answer, collector's clock, milliseconds, as far as somebody has asked; `None` = it
    /// does.
    pub fn away_since_ms(&self) -> Option<i64> {
        let noticed = self.known.troubles.get(&Part::Database).map(|trouble| trouble.since_ms);
        self.database.is_err().then(|| noticed.unwrap_or(self.now_ms))
    }

    /// Everything that is looked at, well or not.
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.reachable(), self.ingest(), self.room()];
        checks.extend(self.work());
        checks.extend(self.notifications());
        for part in [Part::Compactor, Part::Retention, Part::Notifier] {
            let trouble = self.known.troubles.get(&part);
            let what = trouble.map_or_else(|| "no failure".to_owned(), said);
            let remedy = if trouble.is_some() { "it tries again by itself; the collector's log says more" } else { "" };
            checks.push(Check { name: part.name(), ok: trouble.is_none(), what, remedy: remedy.to_owned() });
        }
        checks
    }

    fn reachable(&self) -> Check {
        match &self.database {
            Ok(database) => well("database", format!("PostgreSQL {}, {} bytes", database.version, database.bytes)),
            Err(error) => Check {
                name: "database",
                ok: false,
                what: format!(
                    "does not answer since {}: {error}",
                    highwater_ipc::time::format_rfc3339_ms(self.away_since_ms().unwrap_or(self.now_ms))
                ),
                remedy: "see whether the PostgreSQL server runs and its log (postgres.log in the data directory of \
                         `up`); the collector connects again by itself, agents keep their records meanwhile"
                    .to_owned(),
            },
        }
    }

    fn ingest(&self) -> Check {
        let Some(trouble) = self.known.unacked() else {
            let rate = self.known.records_10s;
            return well("ingest", format!("acks what is committed; {rate} records in the last 10 s"));
        };
        let full = trouble.sqlstate.as_deref() == Some("53100");
        let place = self.disk.as_ref().map_or("the database's disk".to_owned(), |d| d.path.clone());
        let remedy = if full {
            format!(
                "free space at {place} (never in pg_wal by hand), or give it more; agents keep their records and ingest \
                 goes on by itself"
            )
        } else {
            "see the database's log; agents keep their records and ingest goes on by itself".to_owned()
        };
        let why = if full { "the database's disk is full: " } else { "" };
        let since = highwater_ipc::time::format_rfc3339_ms(trouble.since_ms);
        let what = format!("has stopped acking since {since}: {why}{}", trouble.what);
        Check { name: "ingest", ok: false, what, remedy }
    }

    fn room(&self) -> Check {
        let Some(disk) = &self.disk else {
            return well("disk", "not known: the database is not this collector's own".to_owned());
        };
        let what = format!("{} of {} bytes free at {}", disk.free, disk.size, disk.path);
        if disk.free >= LEAST_FREE.min(disk.size / LEAST_PART) {
            return well("disk", what);
        }
        let remedy = format!(
            "free space at {}, or keep less: `highwater status --retention` says what --keep-chunks would drop",
            disk.path
        );
        Check { name: "disk", ok: false, what, remedy }
    }

    /// One for each receiver that is in trouble, or one that says that none is.
    fn notifications(&self) -> Vec<Check> {
        let Ok(database) = &self.database else { return Vec::new() };
        let mut checks = Vec::new();
        for receiver in &database.receivers {
            let waiting = receiver.waiting;
            let error = receiver.error.as_deref().unwrap_or("no error is known");
            let mut what = Vec::new();
            if let Some(since) = receiver.failing_ms {
                let since = highwater_ipc::time::format_rfc3339_ms(since);
                what.push(format!("fails since {since}, {waiting} notices wait: {error}"));
            }
            if receiver.given_up > 0 {
                what.push(format!("{} notices were given up within a day: {error}", receiver.given_up));
            }
            if what.is_empty() {
                continue;
            }
            let name = &receiver.receiver;
            let remedy = format!(
                "mend it, then try it: `highwater notify test --receiver {name}`; what waits is sent by itself, for a day"
            );
            checks.push(Check { name: "notify", ok: false, what: format!("{name}: {}", what.join("; ")), remedy });
        }
        if checks.is_empty() {
            let waiting: i64 = database.receivers.iter().map(|r| r.waiting).sum();
            checks.push(well("notify", format!("no receiver fails, {waiting} notices wait")));
        }
        checks
    }

    fn work(&self) -> Vec<Check> {
        let Ok(database) = &self.database else { return Vec::new() };
        let late = |waits: bool, what: String, name| match waits {
            false => well(name, what),
            true => Check {
                name,
                ok: false,
                what,
                remedy: "see which collector holds the lease (`highwater status`) and its log".to_owned(),
            },
        };
        let since = database.uncompacted_ms;
        let waits = since.is_some_and(|ms| self.now_ms.saturating_sub(ms) > COMPACTED_WITHIN_MS);
        let what = since.map_or("nothing waits".to_owned(), |ms| {
            format!("the oldest record that waits came at {}", highwater_ipc::time::format_rfc3339_ms(ms))
        });
        let mut checks = vec![late(waits, what, "compaction")];
        let day = database.unmerged;
        let waits = day.is_some_and(|day| day.plus(MERGED_WITHIN_DAYS) < Day::of(self.now_ms));
        let what = day.map_or("nothing waits".to_owned(), |day| {
            format!("the oldest day that waits begins at {}", highwater_ipc::time::format_rfc3339_ms(day.start_ms()))
        });
        checks.push(late(waits, what, "merge"));
        checks
    }
}

fn well(name: &'static str, what: String) -> Check {
    Check { name, ok: true, what, remedy: String::new() }
}

fn said(trouble: &Trouble) -> String {
    let since = highwater_ipc::time::format_rfc3339_ms(trouble.since_ms);
    format!("fails since {since} ({} times): {}", trouble.times, trouble.what)
}

/// What is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// Each table, the largest first.
    pub tables: Vec<TableSize>,
    /// Bytes of what `find` looks at first, within those of the chunks' tables.
    pub find_index_bytes: i64,
    /// Days of history, all hosts together.
    pub host_days: f64,
}

impl Storage {
    /// Bytes of all tables for a day of one host; `None` = there is no history.
    pub fn bytes_per_host_day(&self) -> Option<f64> {
        let bytes: i64 = self.tables.iter().map(|t| t.bytes).sum();
        // Sizes are far below 2^53.
        (self.host_days > 0.0).then(|| bytes as f64 / self.host_days)
    }
}

/// Counts what is stored.
pub async fn storage(reading: &mut Reading) -> Result<Storage, StoreError> {
    Ok(Storage {
        tables: reading.table_sizes().await?,
        find_index_bytes: reading.find_index_bytes().await?,
        host_days: reading.host_days().await?,
    })
}

/// What retention would do to one table now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Which table.
    pub table: Table,
    /// How long it is kept.
    pub keep: Days,
    /// What is older goes, collector's clock, milliseconds.
    pub horizon_ms: i64,
    /// When the oldest partition begins that stays; `None` = none stays.
    pub kept_from: Option<Day>,
    /// The partitions that would be dropped now, oldest first.
    pub drops: Vec<Dropping>,
}

/// A partition that would be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropping {
    /// Its first day, and that of the next.
    pub span: (Day, Day),
    /// Rows, about.
    pub rows: i64,
    /// Bytes on disk.
    pub bytes: i64,
    /// Baselines that must be written first; `None` = not counted (series are written in one statement).
    pub baselines: Option<i64>,
}

/// What retention would do now. Changes nothing.
pub async fn retention(reading: &mut Reading, keep: &Keep, now_ms: i64) -> Result<Vec<Retained>, StoreError> {
    let mut retained = Vec::new();
    for table in Table::AGED {
        let Some((days, horizon_ms)) = keep.of(table).zip(keep.horizon_ms(table, now_ms)) else { continue };
        let (mut drops, mut kept_from) = (Vec::new(), None);
        for size in reading.partition_sizes(table).await? {
            if !keep.is_expired(table, size.first, now_ms) {
                kept_from = kept_from.or(Some(size.first));
                continue;
            }
            let baselines = match table {
                Table::Chunk => Some(reading.baselines_missing(size.first).await?),
                _ => None,
            };
            let span = (size.first, table.next(size.first));
            drops.push(Dropping { span, rows: size.rows, bytes: size.bytes, baselines });
        }
        retained.push(Retained { table, keep: days, horizon_ms, kept_from, drops });
    }
    Ok(retained)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let database = Database {
            version: "15.1".into(),
            bytes: 1,
            hosts: (1, 1),
            uncompacted_ms: None,
            unmerged: None,
            leases: Vec::new(),
            receivers: Vec::new(),
        };
        Status { now_ms: 1_795_558_861_000, database: Ok(database), disk: None, known: Known::default() }
    }

    fn wrong(status: &Status) -> Vec<Check> {
        status.checks().into_iter().filter(|c| !c.ok).collect()
    }

    #[test]
    fn a_collector_that_is_well_has_no_trouble() {
        assert_eq!(wrong(&status()), []);
        assert!(status().is_acking());
    }

    #[test]
    fn a_full_disk_is_said_with_since_when_where_and_what_to_do() {
        let mut full = status();
        let trouble = Trouble {
            since_ms: 1_795_558_800_000,
            last_ms: 1_795_558_860_000,
            times: 9,
            what: "could not extend file".into(),
            sqlstate: Some("53100".into()),
        };
        full.known.troubles.insert(Part::Writer(0), trouble);
        full.disk = Some(Disk { path: "/d/postgres".into(), free: 0, size: 1 << 30 });
        let found = wrong(&full);
        assert_eq!(found.iter().map(|c| c.name).collect::<Vec<_>>(), ["ingest", "disk"]);
        let said = format!("{} {}", found[0].what, found[0].remedy);
        for word in ["has stopped acking since 2026-11-24T", "disk is full", "/d/postgres", "agents keep their records"]
        {
            assert!(said.contains(word), "{said}");
        }
        assert!(!full.is_acking());
    }

    #[test]
    fn a_receiver_that_fails_is_said_with_since_when_how_and_what_to_do() {
        let mut failing = status();
        let standing = Standing {
            receiver: "oncall".into(),
            waiting: 3,
            given_up: 0,
            failing_ms: Some(1_795_558_800_000),
            sent_ms: None,
            failed_ms: Some(1_795_558_860_000),
            error: Some("answered 503; see its log".into()),
        };
        let fine = Standing { receiver: "b".into(), failing_ms: None, waiting: 0, ..standing.clone() };
        let lost = Standing { receiver: "c".into(), failing_ms: None, given_up: 2, ..standing.clone() };
        if let Ok(database) = &mut failing.database {
            database.receivers = vec![standing, fine, lost];
        }
        let found = wrong(&failing);
        assert_eq!(found.iter().map(|c| c.name).collect::<Vec<_>>(), ["notify", "notify"]);
        let said = format!("{} {}", found[0].what, found[0].remedy);
        for word in
            ["oncall: fails since 2026-11-24T", "3 notices wait", "answered 503", "notify test --receiver oncall"]
        {
            assert!(said.contains(word), "{said}");
        }
        assert!(found[1].what.starts_with("c: 2 notices were given up"), "{}", found[1].what);
    }

    #[test]
    fn work_that_waits_too_long_and_a_database_that_is_away_are_trouble() {
        let mut late = status();
        let now = late.now_ms;
        if let Ok(database) = &mut late.database {
            database.uncompacted_ms = Some(now - COMPACTED_WITHIN_MS - 1);
            database.unmerged = Some(Day::of(now).plus(-4));
        }
        assert_eq!(wrong(&late).iter().map(|c| c.name).collect::<Vec<_>>(), ["compaction", "merge"]);
        late.database = Err("connection refused".into());
        assert_eq!(wrong(&late).iter().map(|c| c.name).collect::<Vec<_>>(), ["database"]);
    }
}
