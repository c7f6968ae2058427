//! Records to chunks. Pure.
//!
//! A chunk holds records of one stretch and one part (a day, a week) and begins with a sample, so that it can be read
//! alone. Where something else comes first, because the samples before it were compacted earlier, the chunk begins with
//! the last of these once more, and ends before the next sample: then no state is looked for in two chunks.

use highwater_ipc::chunk::{ChunkError, ChunkWriter, Head, Told};
use highwater_ipc::record::{EpochNo, RecordKind, Seq};
use highwater_ipc::snapshot::Snapshot;

use crate::host::HostId;
use crate::query::find::{Filter, FilterBuilder};
use crate::query::fold::Said;
use crate::query::past::Record;
use crate::query::raw;
use crate::store::chunk::Chunk;
use crate::store::day::Day;
use crate::store::history::{Packed, StoredRecord};

/// Why records make no chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The records are no stretch's.
    #[error("record {seq} cannot be packed: {why}", seq = .seq.0)]
    Chunk {
        /// Which record.
        seq: Seq,
        /// Why.
        why: ChunkError,
    },
    /// Nothing before it says what the host held.
    #[error("record {seq} follows no sample", seq = .seq.0)]
    NoSample {
        /// Which record.
        seq: Seq,
    },
}

/// The most records of one chunk: bounds what one row can weigh.
const MOST_RECORDS: usize = 20_000;
/// The bytes of a chunk of records as they came after which it is ended.
const MOST_RAW_BYTES: usize = 1 << 20;

/// Packs records of one epoch, in order.
pub struct Packer {
    host: HostId,
    epoch: EpochNo,
    chunks: Vec<Chunk>,
    open: Option<Open>,
    /// The chunk of records that make no state.
    raw: Option<Chunk>,
    /// The last sample, and the stretch it lies in.
    last: Option<(u32, Record)>,
    passed: Option<Seq>,
}

/// The chunk that is written.
struct Open {
    chunk: Chunk,
    day: Day,
    writer: ChunkWriter,
    objects: FilterBuilder,
    /// It begins with what lies in another chunk.
    repeats: bool,
}

impl Packer {
    /// `before` is the sample before the first record, where both lie in one stretch.
    pub fn new(host: HostId, epoch: EpochNo, before: Option<(u32, Record)>) -> Self {
        let passed = before.as_ref().map(|(_, sample)| sample.seq);
        Self { host, epoch, chunks: Vec::new(), open: None, raw: None, last: before, passed }
    }

    /// Adds a record of a stretch and of the day that was chosen for it; `part` is the partition of that day.
    pub fn take(&mut self, stretch: u32, (day, part): (Day, Day), record: &Record) -> Result<(), PackError> {
        let is_sample = matches!(record.said, Said::Sample { .. });
        let goes_on = self.open.as_ref().is_some_and(|open| {
            let full = open.repeats || open.day != day || open.writer.records() >= MOST_RECORDS;
            open.chunk.stretch == stretch && !(is_sample && full)
        });
        if !goes_on || self.raw.is_some() {
            self.close();
        }
        if self.open.is_none() && !is_sample {
            let (of, sample) = self.last.clone().ok_or(PackError::NoSample { seq: record.seq })?;
            if of != stretch {
                return Err(PackError::NoSample { seq: record.seq });
            }
            self.begin(stretch, (day, part), &sample, true)?;
        }
        match &mut self.open {
            Some(open) => open.push(record)?,
            None => self.begin(stretch, (day, part), record, false)?,
        }
        if is_sample {
            self.last = Some((stretch, record.clone()));
        }
        self.passed = Some(record.seq);
        Ok(())
    }

    /// Adds a record that makes no state: it is kept as it came.
    pub fn take_raw(&mut self, stretch: u32, part: Day, record: &StoredRecord) {
        let goes_on = self
            .raw
            .as_ref()
            .is_some_and(|chunk| chunk.stretch == stretch && chunk.part == part && chunk.body.len() < MOST_RAW_BYTES);
        if !goes_on {
            self.close();
        }
        let chunk = self.raw.get_or_insert_with(|| {
            let first = (record.seq, record.wall_ms, record.prev_wall_ms);
            let chunk = empty((self.host, self.epoch), stretch, part, first);
            Chunk { body: raw::begin(), ..chunk }
        });
        raw::push(&mut chunk.body, record);
        (chunk.to, chunk.to_wall_ms) = (record.seq, record.wall_ms);
        chunk.records = chunk.records.saturating_add(1);
        (self.last, self.passed) = (None, Some(record.seq));
    }

    /// Adds a chunk of such records as it is.
    pub fn keep_raw(&mut self, stretch: u32, part: Day, packed: &Packed) {
        raw::records(&packed.body).iter().for_each(|record| self.take_raw(stretch, part, record));
    }

    /// Whether that position was passed: its record is in, or was told to be before.
    pub fn has(&self, seq: Seq) -> bool {
        self.passed.is_some_and(|passed| seq <= passed)
    }

    /// The chunks.
    pub fn finish(mut self) -> Vec<Chunk> {
        self.close();
        self.chunks
    }

    fn begin(
        &mut self,
        stretch: u32,
        (day, part): (Day, Day),
        record: &Record,
        repeats: bool,
    ) -> Result<(), PackError> {
        let first = (record.seq, record.wall_ms, record.prev_wall_ms);
        let chunk = empty((self.host, self.epoch), stretch, part, first);
        let mut open = Open { chunk, day, writer: ChunkWriter::new(), objects: Filter::builder(), repeats };
        open.push(record)?;
        self.open = Some(open);
        Ok(())
    }

    fn close(&mut self) {
        self.chunks.extend(self.raw.take());
        if let Some(Open { mut chunk, writer, objects, .. }) = self.open.take() {
            chunk.objects = objects.finish();
            chunk.records = u32::try_from(writer.records()).unwrap_or(u32::MAX);
            chunk.body = writer.finish();
            self.chunks.push(chunk);
        }
    }
}

impl Open {
    fn push(&mut self, record: &Record) -> Result<(), PackError> {
        push(&mut self.writer, record)?;
        if let Some(state) = record.state() {
            self.objects.add(state);
        }
        self.chunk.to = record.seq;
        self.chunk.to_wall_ms = record.wall_ms;
        Ok(())
    }
}

/// A chunk that begins with the record of that position, wall time and sample before it.
fn empty(
    (host, epoch): (HostId, EpochNo),
    stretch: u32,
    part: Day,
    (from, from_wall_ms, prev_wall_ms): (Seq, i64, Option<i64>),
) -> Chunk {
    Chunk {
        host,
        epoch,
        stretch,
        from_wall_ms,
        from,
        part,
        to: from,
        to_wall_ms: from_wall_ms,
        prev_wall_ms,
        records: 0,
        baseline: false,
        objects: Vec::new(),
        body: Vec::new(),
    }
}

/// Adds a record to a chunk.
fn push(writer: &mut ChunkWriter, record: &Record) -> Result<(), PackError> {
    let Record { seq, kind, wall_ms, prev_wall_ms, received_ms, said } = record;
    let (seq, kind) = (*seq, *kind);
    let head = Head { seq, kind, wall_ms: *wall_ms, prev_wall_ms: *prev_wall_ms, received_ms: *received_ms };
    let pushed = match said {
        Said::Sample { snapshot, gap, activity } => {
            let Snapshot { at, took_us, state } = &**snapshot;
            let told = Told::Sample { took_us: *took_us, gap: *gap, activity: activity.clone() };
            writer.push(&head, *at, &told, Some(state))
        }
        Said::Event(at, event) => writer.push(&head, *at, &Told::Event(*event), None),
        Said::GapReason(at, reason) => writer.push(&head, *at, &Told::GapReason(*reason), None),
        // No writer stores one.
        Said::Heartbeat(_) => Err(ChunkError::Mismatch { kind: RecordKind::Heartbeat }),
    };
    pushed.map_err(|why| PackError::Chunk { seq, why })
}
