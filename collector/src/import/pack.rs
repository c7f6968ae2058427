//! Samples of a file, packed while the rest of it is read: only then is known which of them belong together. Pure.

use std::sync::Arc;

use highwater_ipc::chunk::{ChunkError, ChunkReader, ChunkWriter, Head, Told};
use highwater_ipc::record::{RecordKind, Seq};
use highwater_ipc::snapshot::State;
use highwater_ipc::time::At;

use super::line::Sample;

/// Records after which a chunk in memory is ended, and what its ended segments may hold.
const RECORDS: usize = 4_096;
const BYTES: usize = 1 << 20;

/// Packed samples, in order.
#[derive(Debug, Default)]
pub(super) struct Packed {
    chunks: Vec<Vec<u8>>,
}

/// Packs samples.
#[derive(Default)]
pub(super) struct Packer {
    packed: Packed,
    writer: ChunkWriter,
    next: Seq,
}

impl Packer {
    /// Adds a sample; says how many bytes were packed for good.
    pub(super) fn push(&mut self, sample: &Sample, wall_ms: i64) -> Result<usize, ChunkError> {
        let kind = if self.writer.is_empty() { RecordKind::Keyframe } else { RecordKind::Delta };
        let head = Head { seq: self.next, kind, wall_ms, prev_wall_ms: None, received_ms: wall_ms };
        let activity = Arc::new(sample.activity.clone());
        let told = Told::Sample { took_us: sample.snapshot.took_us, gap: None, activity };
        self.writer.push(&head, sample.snapshot.at, &told, Some(&sample.snapshot.state))?;
        self.next = self.next.next();
        if self.writer.records() >= RECORDS || self.writer.bytes() >= BYTES { Ok(self.turn()) } else { Ok(0) }
    }

    fn turn(&mut self) -> usize {
        let chunk = std::mem::take(&mut self.writer).finish();
        let bytes = chunk.len();
        if bytes > 0 {
            self.packed.chunks.push(chunk);
        }
        bytes
    }

    /// What was packed, and how many bytes of it were not said yet.
    pub(super) fn finish(mut self) -> (Packed, usize) {
        let bytes = self.turn();
        (self.packed, bytes)
    }
}

/// One sample as it was packed.
#[derive(Debug)]
pub(super) struct Taken<'s> {
    pub(super) at: At,
    pub(super) took_us: u32,
    pub(super) activity: Arc<highwater_ipc::activity::Activity>,
    pub(super) state: &'s State,
}

impl Packed {
    /// Hands over sample after sample, and frees what has been read.
    pub(super) fn each<E: From<ChunkError>>(self, mut take: impl FnMut(Taken<'_>) -> Result<(), E>) -> Result<(), E> {
        for chunk in self.chunks {
            let mut reader = ChunkReader::new(chunk)?;
            while let Some(step) = reader.next()? {
                if let (Told::Sample { took_us, activity, .. }, Some(state)) = (step.told, reader.state()) {
                    take(Taken { at: step.at, took_us, activity, state })?;
                }
            }
        }
        Ok(())
    }
}
