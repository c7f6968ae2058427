//! From records to a chunk.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::directory::Directory;
use super::head::{Beside, Headed};
use super::model::{Model, Wanted};
use super::range::{Bit, Coder, Encoder, Ledger};
use super::{ChunkError, Head, Told};
use crate::record::{RecordKind, Seq};
use crate::snapshot::State;
use crate::time::At;

/// The effort to read a segment's records after its first, from which on the next sample begins another.
const SEGMENT_WORK: u64 = 90_000;

/// Makes a chunk of consecutive stored records of one stretch.
#[derive(Default)]
pub struct ChunkWriter {
    done: Vec<(Seq, i64, Vec<u8>)>,
    open: Option<Open>,
    records: usize,
    last: Option<Seq>,
    given_up: bool,
    ledger: Option<Box<Ledger>>,
}

/// The segment that is written.
struct Open {
    seq: Seq,
    wall_ms: i64,
    encoder: Encoder,
    model: Box<Model>,
    more: Bit,
    /// The effort of its first record: whoever reads any other needs it too.
    first: u64,
}

impl ChunkWriter {
    /// A chunk without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Likewise, which counts where its bits go: for measuring.
    pub fn counting() -> Self {
        Self { ledger: Some(Box::default()), ..Self::default() }
    }

    /// Adds a record. `state` is the whole state of a sample, and there is none for what is no sample. `at` is the clock as
    /// the record says it, which may differ from `head.wall_ms`.
    ///
    /// # Errors
    /// [`ChunkError`] if the records are no stretch's or the state has too many rows: then nothing was added. If another
    /// part of it, or the activity, is larger than a record may hold, the chunk is given up.
    pub fn push(&mut self, head: &Head, at: At, told: &Told, state: Option<&State>) -> Result<(), ChunkError> {
        let kind = head.kind;
        let (beside, activity) = match told {
            Told::Sample { took_us, gap, activity } => {
                (Beside::Sample { took_us: *took_us, gap: *gap }, Some(&**activity))
            }
            Told::Event(event) => (Beside::Event(*event), None),
            Told::GapReason(reason) => (Beside::GapReason(*reason), None),
        };
        let fits = match kind {
            RecordKind::Keyframe | RecordKind::Delta => matches!(beside, Beside::Sample { .. }) && state.is_some(),
            RecordKind::Event => matches!(beside, Beside::Event(_)) && state.is_none(),
            RecordKind::GapReason => matches!(beside, Beside::GapReason(_)) && state.is_none(),
            RecordKind::Heartbeat => false,
        };
        if self.given_up {
            return Err(ChunkError::GivenUp);
        }
        if !fits {
            return Err(ChunkError::Mismatch { kind });
        }
        if let Some(after) = self.last.filter(|after| head.seq <= *after) {
            return Err(ChunkError::NotAscending { seq: head.seq, after });
        }
        if state.is_none() && self.open.is_none() {
            return Err(ChunkError::NoSampleYet { kind });
        }
        if let Some(state) = state {
            bounded("rows and names", state.entries(), State::MAX_ENTRIES)?;
            bounded("IPC namespaces", state.namespaces.len(), State::MAX_NAMESPACES)?;
        }
        bounded("segments", self.done.len() + 1, Directory::MAX_SEGMENTS)?;
        let full = |open: &mut Open| open.encoder.work() > SEGMENT_WORK + 2 * open.first;
        if let Some(open) = self.open.take_if(|open| state.is_some() && full(open)) {
            self.close(open);
        }
        let wanted = Wanted { headed: Headed { head: *head, at, beside }, activity, state };
        if let Err(error) = self.write(&wanted) {
            self.given_up = true;
            return Err(error);
        }
        self.last = Some(head.seq);
        self.records += 1;
        Ok(())
    }

    fn write(&mut self, wanted: &Wanted<'_>) -> Result<(), ChunkError> {
        let Head { seq, wall_ms, .. } = wanted.headed.head;
        let ledger = &mut self.ledger;
        let open = self.open.get_or_insert_with(|| Open {
            seq,
            wall_ms,
            encoder: Encoder::new(ledger.take()),
            model: Box::new(Model::new(seq, wall_ms)),
            more: Bit::NEW,
            first: 0,
        });
        let c = &mut open.encoder;
        if open.first > 0 {
            c.on("head");
            c.bit(&mut open.more, true);
        }
        let headed = open.model.code_head(c, &wanted.headed)?;
        open.model.code(c, &headed, wanted)?;
        if open.first == 0 {
            open.first = c.work().max(1);
        }
        Ok(())
    }

    fn close(&mut self, mut open: Open) {
        open.encoder.bit(&mut open.more, false);
        let (bytes, ledger) = open.encoder.finish();
        self.ledger = ledger;
        self.done.push((open.seq, open.wall_ms, bytes));
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records it has.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes of the segments that are finished.
    pub fn bytes(&self) -> usize {
        self.done.iter().map(|(_, _, bytes)| bytes.len()).sum()
    }

    /// The effort to read the segment that is being written, in decisions.
    pub fn work(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.encoder.work())
    }

    /// Of a chunk that counts, without its last segment until it is finished: what was coded, in how many decisions and
    /// 256ths of bits.
    pub fn ledger(&self) -> impl Iterator<Item = (&'static str, u64, i64)> {
        self.ledger.iter().flat_map(|ledger| ledger.lines.iter().map(|(what, (asked, bits))| (*what, *asked, *bits)))
    }

    /// Ends the segment that is being written: the next record begins another, so it must be a sample.
    pub fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            self.close(open);
        }
    }

    /// The chunk. Of no records, or of one that was given up, no bytes, which are no chunk.
    pub fn finish(mut self) -> Vec<u8> {
        self.cut();
        if self.is_empty() || self.given_up { Vec::new() } else { Directory::chunk(&self.done) }
    }
}

fn bounded(what: &'static str, count: usize, bound: usize) -> Result<(), ChunkError> {
    let (offset, value, most) = (0, count as u64, bound as u64);
    if count > bound { Err(ChunkError::TooLarge { offset, what, value, bound: most }) } else { Ok(()) }
}
