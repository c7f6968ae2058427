//! What the database holds of one host, held against every record its agent made.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::record::{Chain, GapReason, RecordKind};
use highwater_ipc::time::At;
use highwater_proto::chain;
use highwater_proto::token::to_hex;
use highwater_tests::postgres::Database;

use super::sampled::{Gap, Record, Sampled, Stretch};

/// Where the records went.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sampled: usize,
    pub(crate) stored: usize,
    pub(crate) covered: usize,
    /// Records that were sampled and are not stored but lie in a gap, by its reason.
    pub(crate) lost: BTreeMap<&'static str, usize>,
    /// Rows beyond one for a record.
    pub(crate) duplicates: usize,
    /// Gaps, by reason.
    pub(crate) gaps: BTreeMap<&'static str, usize>,
}

impl Counts {
    /// Adds those of another host.
    pub(crate) fn add(&mut self, other: Self) {
        self.sampled += other.sampled;
        self.stored += other.stored;
        self.covered += other.covered;
        self.duplicates += other.duplicates;
        other.lost.into_iter().for_each(|(reason, count)| *self.lost.entry(reason).or_default() += count);
        other.gaps.into_iter().for_each(|(reason, count)| *self.gaps.entry(reason).or_default() += count);
    }
}

/// The tables of one host.
pub(crate) struct Stored {
    streams: BTreeMap<u64, Stream>,
    frames: BTreeMap<(u64, u64), Vec<Frame>>,
    stretches: Vec<Stretch>,
    gaps: Vec<Gap>,
}

/// A row of `stream`.
struct Stream {
    next_seq: u64,
    chain: String,
    covered: Option<At>,
}

/// A row of `frame`.
struct Frame {
    kind: u8,
    at: At,
    body: String,
}

impl Stored {
    /// Of the host of that name.
    pub(crate) fn read(database: &Database, host: &str) -> Self {
        let rows = |columns: &str, table: &str, order: &str| {
            let host_id = format!("(SELECT host_id FROM host WHERE name = '{host}')");
            rows(
                &database.sql(&format!("SELECT {columns} FROM {table} t WHERE t.host_id = {host_id} ORDER BY {order}")),
            )
        };
        let streams =
            rows("epoch_no, next_seq, encode(chain, 'hex'), covered_wall_ms, covered_boot_us", "stream", "epoch_no");
        let mut frames: BTreeMap<(u64, u64), Vec<Frame>> = BTreeMap::new();
        for row in rows("epoch_no, seq, kind, wall_ms, boot_us, encode(body, 'hex')", "frame", "epoch_no, seq") {
            let at = at(&row[3], &row[4]).expect("a frame has a time");
            let frame = Frame { kind: parse(&row[2]), at, body: row[5].clone() };
            frames.entry((parse(&row[0]), parse(&row[1]))).or_default().push(frame);
        }
        let ends = "COALESCE(to_wall_ms, (SELECT covered_wall_ms FROM stream s WHERE (s.host_id, s.epoch_no) = \
                    (t.host_id, t.epoch_no))), COALESCE(to_boot_us, (SELECT covered_boot_us FROM stream s WHERE \
                    (s.host_id, s.epoch_no) = (t.host_id, t.epoch_no)))";
        let columns = format!("epoch_no, stretch, from_seq, from_wall_ms, from_boot_us, {ends}");
        Self {
            streams: streams.iter().map(|row| (parse(&row[0]), stream(row))).collect(),
            frames,
            stretches: rows(&columns, "stretch", "epoch_no, stretch").iter().map(|row| stretch(row)).collect(),
            gaps: rows("epoch_no, seq, from_wall_ms, to_wall_ms, reason", "gap", "epoch_no, seq")
                .iter()
                .map(|row| gap(row))
                .collect(),
        }
    }

    /// Whether nothing more will come: history is in order, so what is not there once the last record is never will be.
    pub(crate) fn holds_end(&self, sampled: &Sampled) -> bool {
        let Some((epoch_no, records)) = sampled.epochs.last_key_value() else { return false };
        self.streams.get(epoch_no).is_some_and(|stream| stream.next_seq >= records.len() as u64)
    }

    /// Holds every record against what is stored.
    ///
    /// # Panics
    ///
    /// If one is lost without a gap, stored twice or otherwise than it was made, or if the tables show something that no
    /// agent ever said.
    pub(crate) fn check(&self, sampled: &Sampled, host: &str) -> Counts {
        let mut counts = Counts { sampled: sampled.len(), ..Counts::default() };
        for (&epoch_no, records) in &sampled.epochs {
            for record in records {
                self.place(&mut counts, epoch_no, record, host);
            }
            self.check_stream(epoch_no, records, host);
        }
        let made = |(epoch_no, seq): &(u64, u64)| {
            sampled.epochs.get(epoch_no).is_some_and(|records| *seq < records.len() as u64)
        };
        let invented: BTreeSet<_> = self.frames.keys().filter(|place| !made(place)).collect();
        assert!(invented.is_empty(), "{host}: stored, but no agent made it: {invented:?}");
        let unknown =
            self.streams.iter().filter(|(no, stream)| !sampled.epochs.contains_key(no) && stream.next_seq > 0);
        let unknown: Vec<_> = unknown.map(|(no, _)| no).collect();
        assert!(unknown.is_empty(), "{host}: epochs that no agent had: {unknown:?}");
        counts.duplicates = self.frames.values().map(|rows| rows.len() - 1).sum();
        assert_eq!(counts.duplicates, 0, "{host}");
        assert_eq!(counts.sampled, counts.stored + counts.covered + counts.lost.values().sum::<usize>(), "{host}");

        let (stretches, gaps) = sampled.history();
        assert_eq!(self.stretches, stretches, "{host}: spans that are covered");
        assert_eq!(self.gaps, gaps, "{host}: spans that are not");
        for gap in &self.gaps {
            *counts.gaps.entry(gap.reason.name()).or_default() += 1;
        }
        counts
    }

    /// Finds the one place where a record went.
    fn place(&self, counts: &mut Counts, epoch_no: u64, record: &Record, host: &str) {
        let what = || format!("{host}: {:?} {epoch_no}/{} of {:?}", record.kind, record.seq, record.at);
        let holding = |s: &&Stretch| {
            s.epoch_no == epoch_no
                && s.from_seq <= record.seq
                && s.from.boot_us <= record.at.boot_us
                && (record.at.boot_us <= s.to.boot_us || !record.is_sample())
        };
        let spans = self.stretches.iter().filter(holding).count();
        let in_span = if record.is_sample() { spans == 1 } else { spans >= 1 };
        match (self.frames.get(&(epoch_no, record.seq)), record.kind) {
            (Some(rows), _) => {
                for row in rows {
                    assert_eq!((row.kind, &row.body), (record.kind.code(), &to_hex(&record.body)), "{}", what());
                    assert_eq!(row.at.boot_us, record.at.boot_us, "{}", what());
                    assert!((row.at.wall_ms - record.at.wall_ms).abs() <= 500, "{} is stored at {:?}", what(), row.at);
                }
                assert!(in_span, "{} is stored, but lies in {spans} spans", what());
                counts.stored += 1;
            }
            (None, RecordKind::Heartbeat) if in_span => counts.covered += 1,
            (None, _) => {
                let place = (epoch_no, record.seq);
                let holding =
                    |g: &&Gap| (g.epoch_no, g.seq) > place && g.from_ms.is_some_and(|ms| ms < record.at.wall_ms);
                let gap = self.gaps.iter().find(holding).unwrap_or_else(|| panic!("{} is lost", what()));
                // Here nobody dropped a record on purpose: a killed agent has what it made in its spool.
                let says_so = [GapReason::SpoolOverflow, GapReason::SpoolDamaged, GapReason::RefusedRecord];
                assert!(says_so.contains(&gap.reason), "{} is lost, though history says {gap:?}", what());
                *counts.lost.entry(gap.reason.name()).or_default() += 1;
            }
        }
    }

    /// The stream ends behind the last record, at the time of the last sample.
    fn check_stream(&self, epoch_no: u64, records: &[Record], host: &str) {
        let stream = self.streams.get(&epoch_no).unwrap_or_else(|| panic!("{host}: epoch {epoch_no} never came"));
        assert_eq!(stream.next_seq, records.len() as u64, "{host}: epoch {epoch_no}");
        let chain = records.last().map_or(Chain::default(), |r| chain::after(r.chain, r.kind, &r.body));
        assert_eq!(stream.chain, to_hex(&chain.0), "{host}: epoch {epoch_no}");
        let last = records.iter().rfind(|record| record.is_sample()).map(|record| record.at.boot_us);
        assert_eq!(stream.covered.map(|at| at.boot_us), last, "{host}: epoch {epoch_no} is covered to its last sample");
    }
}

/// Rows and fields of what psql printed.
fn rows(printed: &str) -> Vec<Vec<String>> {
    printed.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

#[track_caller]
fn parse<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} in the database"))
}

/// A time of two columns; `None` where they are null.
fn at(wall_ms: &str, boot_us: &str) -> Option<At> {
    (!wall_ms.is_empty()).then(|| At { wall_ms: parse(wall_ms), boot_us: parse(boot_us) })
}

fn stream(row: &[String]) -> Stream {
    Stream { next_seq: parse(&row[1]), chain: row[2].clone(), covered: at(&row[3], &row[4]) }
}

fn stretch(row: &[String]) -> Stretch {
    Stretch {
        epoch_no: parse(&row[0]),
        number: parse(&row[1]),
        from_seq: parse(&row[2]),
        from: at(&row[3], &row[4]).expect("a stretch begins"),
        to: at(&row[5], &row[6]).expect("a stretch ends"),
    }
}

fn gap(row: &[String]) -> Gap {
    let reason = GapReason::from_code(parse(&row[4])).expect("a reason");
    let from_ms = (!row[2].is_empty()).then(|| parse(&row[2]));
    Gap { epoch_no: parse(&row[0]), seq: parse(&row[1]), from_ms, to_ms: parse(&row[3]), reason }
}
