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
use crate::store::chunk::Chunk;
use crate::store::day::Day;

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

/// Packs records of one epoch, in order.
pub struct Packer {
    host: HostId,
    epoch: EpochNo,
    chunks: Vec<Chunk>,
    open: Option<Open>,
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
        Self { host, epoch, chunks: Vec::new(), open: None, last: before, passed }
    }

    /// Adds a record of a stretch and of the day that was chosen for it; `part` is the partition of that day.
    pub fn take(&mut self, stretch: u32, (day, part): (Day, Day), record: &Record) -> Result<(), PackError> {
        let is_sample = matches!(record.said, Said::Sample { .. });
        let goes_on = self.open.as_ref().is_some_and(|open| {
            let full = open.repeats || open.day != day || open.writer.records() >= MOST_RECORDS;
            open.chunk.stretch == stretch && !(is_sample && full)
        });
        if !goes_on {
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
        let chunk = Chunk {
            host: self.host,
            epoch: self.epoch,
            stretch,
            from_wall_ms: record.wall_ms,
            from: record.seq,
            part,
            to: record.seq,
            to_wall_ms: record.wall_ms,
            prev_wall_ms: record.prev_wall_ms,
            records: 0,
            baseline: false,
            objects: Vec::new(),
            body: Vec::new(),
        };
        let mut open = Open { chunk, day, writer: ChunkWriter::new(), objects: Filter::builder(), repeats };
        open.push(record)?;
        self.open = Some(open);
        Ok(())
    }

    fn close(&mut self) {
        if let Some(Open { mut chunk, writer, objects, .. }) = self.open.take() {
            chunk.records = u32::try_from(writer.records()).unwrap_or(u32::MAX);
            chunk.objects = objects.finish();
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
