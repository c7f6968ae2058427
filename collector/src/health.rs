//! How the collector itself is: what its parts last failed at and since when, shared by those who work and those who
//! answer. No history: a part that works again has no trouble.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A part of the collector that can be in trouble for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The writer's worker of that number commits its hosts' records: while it fails nothing of them is acked.
    Writer(usize),
    /// Moves records into chunks.
    Compactor,
    /// Makes and drops partitions, and forgets what is older than is kept.
    Retention,
    /// The database, as it answers whoever asks it: work, or a person.
    Database,
    /// Looks for what receivers are to be told. What a receiver itself fails at is in the table `notice`.
    Notifier,
}

impl Part {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Part::Writer(_) => "writer",
            Part::Compactor => "compactor",
            Part::Retention => "retention",
            Part::Database => "database",
            Part::Notifier => "notifier",
        }
    }
}

/// What a part fails at. Times are the collector's clock, milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when nothing of it has worked.
    pub since_ms: i64,
    /// When it failed last.
    pub last_ms: i64,
    /// How often since.
    pub times: u64,
    /// The words of the last failure.
    pub what: String,
    /// Its SQLSTATE, where the database gave one: `53100` = its disk is full.
    pub sqlstate: Option<String>,
}

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The parts that fail.
    pub troubles: BTreeMap<Part, Trouble>,
    /// Collector's clock when a commit last stored or acked something; `None` = none yet.
    pub committed_ms: Option<i64>,
    /// Records committed in the last whole span of ten seconds.
    pub records_10s: u64,
}

impl Known {
    /// The oldest trouble of the writer's workers; `None` = all that arrives is acked, as far as is known.
    pub fn unacked(&self) -> Option<&Trouble> {
        let of_writer = self.troubles.iter().filter(|(part, _)| matches!(part, Part::Writer(_)));
        of_writer.map(|(_, trouble)| trouble).min_by_key(|trouble| trouble.since_ms)
    }
}

/// Shared by writer, compactor and API.
#[derive(Debug, Default)]
pub struct Health {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: Known,
    /// Number of the span of ten seconds that is counted, and its records.
    counting: (i64, u64),
}

impl Health {
    /// A part failed at that time.
    pub fn failed(&self, part: Part, now_ms: i64, what: String, sqlstate: Option<String>) {
        let mut inner = self.lock();
        let trouble = inner.known.troubles.entry(part).or_insert_with(|| Trouble {
            since_ms: now_ms,
            last_ms: now_ms,
            times: 0,
            what: String::new(),
            sqlstate: None,
        });
        trouble.last_ms = now_ms;
        trouble.times = trouble.times.saturating_add(1);
        (trouble.what, trouble.sqlstate) = (what, sqlstate);
    }

    /// A part did what it should.
    pub fn works(&self, part: Part) {
        self.lock().known.troubles.remove(&part);
    }

    /// A worker's commit returned, with so many records.
    pub fn committed(&self, worker: usize, now_ms: i64, records: u64) {
        let mut inner = self.lock();
        inner.known.troubles.remove(&Part::Writer(worker));
        inner.known.committed_ms = Some(now_ms);
        inner.count(now_ms, records);
    }

    /// What is known at that time.
    pub fn known(&self, now_ms: i64) -> Known {
        let mut inner = self.lock();
        inner.count(now_ms, 0);
        inner.known.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn count(&mut self, now_ms: i64, records: u64) {
        let span = now_ms.div_euclid(10_000);
        let (counted, so_far) = self.counting;
        if span != counted {
            self.known.records_10s = if span == counted.saturating_add(1) { so_far } else { 0 };
            self.counting = (span, 0);
        }
        self.counting.1 = self.counting.1.saturating_add(records);
    }
}

/// Room on the disk that holds the database, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The directory that was asked about.
    pub path: String,
    /// Room for everybody but root.
    pub free: u64,
    /// All of it.
    pub size: u64,
}

/// Asks for the room on the database's disk, where that is this machine's own; `None` = not known.
pub type AskDisk = Arc<dyn Fn() -> Option<Disk> + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_lasts_from_the_first_failure_to_the_next_success() {
        let health = Health::default();
        health.failed(Part::Writer(0), 1_000, "full".into(), Some("53100".into()));
        health.failed(Part::Writer(0), 5_000, "still full".into(), Some("53100".into()));
        // What another worker's hosts say helps nobody here.
        health.committed(1, 5_500, 1);
        let known = health.known(6_000);
        let trouble = known.unacked().unwrap();
        assert_eq!((trouble.since_ms, trouble.last_ms, trouble.times), (1_000, 5_000, 2));
        assert_eq!(trouble.what, "still full");
        health.failed(Part::Compactor, 6_000, "x".into(), None);
        health.committed(0, 7_000, 3);
        assert_eq!(health.known(7_000).troubles.keys().copied().collect::<Vec<_>>(), [Part::Compactor]);
    }

    #[test]
    fn records_are_counted_by_whole_spans_of_ten_seconds() {
        let health = Health::default();
        health.committed(0, 10_000, 3);
        health.committed(1, 19_999, 4);
        assert_eq!(health.known(19_999).records_10s, 0);
        assert_eq!(health.known(20_000).records_10s, 7);
        assert_eq!(health.known(40_000).records_10s, 0);
    }
}
