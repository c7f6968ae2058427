//! From a chunk to its records.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use super::directory::Directory;
use super::head::{Beside, Headed};
use super::model::{Model, Wanted};
use super::range::{Bit, Coder, Decoder};
use super::{ChunkError, Head, Step, Told};
use crate::record::{RecordKind, Seq};
use crate::snapshot::{Snapshot, State};
use crate::time::At;

/// Reads the records of a chunk, from its first or from the first of any segment.
pub struct ChunkReader {
    bytes: Arc<[u8]>,
    directory: Directory,
    /// The segment that is read next.
    next: usize,
    open: Option<Open>,
    /// The last state of the segment before, until the open one has its own.
    last: Option<State>,
    /// Time and effort of the sample that the state is of.
    sampled: Option<(At, u32)>,
    failed: Option<ChunkError>,
}

/// The segment that is read.
struct Open {
    decoder: Decoder,
    model: Box<Model>,
    /// The head of the next record, once it was looked at.
    head: Option<Headed>,
    more: Bit,
    begun: bool,
    ended: bool,
}

impl ChunkReader {
    /// Begins at the first record. Only the directory is looked at; a segment that the bytes do not reach, or that is not
    /// as it was written, is an error when its first record is read.
    ///
    /// # Errors
    /// [`ChunkError`] for bytes that do not begin as a chunk.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, ChunkError> {
        let bytes: Arc<[u8]> = bytes.as_ref().into();
        let directory = Directory::read(&bytes)?;
        Ok(Self { bytes, directory, next: 0, open: None, last: None, sampled: None, failed: None })
    }

    /// Where the segments are.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Goes to the first record of the last segment that begins at or before that time, or else of the first segment.
    ///
    /// # Errors
    /// [`ChunkError`] if that segment is not as it was written.
    pub fn seek_wall(&mut self, wall_ms: i64) -> Result<(), ChunkError> {
        self.seek(self.directory.at_wall(wall_ms))
    }

    /// Likewise, of the last segment that begins at or before that position.
    ///
    /// # Errors
    /// [`ChunkError`] if that segment is not as it was written.
    pub fn seek_seq(&mut self, seq: Seq) -> Result<(), ChunkError> {
        self.seek(self.directory.at_seq(seq))
    }

    fn seek(&mut self, segment: usize) -> Result<(), ChunkError> {
        (self.next, self.open, self.last, self.sampled, self.failed) = (segment, None, None, None, None);
        self.open_next()
    }

    fn open_next(&mut self) -> Result<(), ChunkError> {
        let Some(segment) = self.directory.segments.get(self.next) else { return Ok(()) };
        segment.bytes(&self.bytes)?;
        let span = segment.offset..segment.offset.saturating_add(segment.len);
        let decoder = Decoder::of(self.bytes.clone(), span);
        let model = Box::new(Model::new(segment.first_seq, segment.first_wall_ms));
        self.next += 1;
        self.open = Some(Open { decoder, model, head: None, more: Bit::NEW, begun: false, ended: false });
        Ok(())
    }

    /// The head of the next record, `None` after the last. The state is still that of the sample before.
    ///
    /// # Errors
    /// As [`ChunkReader::next`].
    pub fn peek(&mut self) -> Result<Option<&Head>, ChunkError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.look() {
            Ok(true) => Ok(self.open.as_ref().and_then(|open| open.head.as_ref()).map(|headed| &headed.head)),
            Ok(false) => Ok(None),
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// The next record if its `wall_ms` is that or less; else `None`, and the state stays as it is: so a reader finds the
    /// state at an instant without a copy of each.
    ///
    /// # Errors
    /// As [`ChunkReader::next`].
    pub fn next_until(&mut self, wall_ms: i64) -> Result<Option<Step>, ChunkError> {
        match self.peek()? {
            Some(head) if head.wall_ms <= wall_ms => self.next(),
            _ => Ok(None),
        }
    }

    /// The next record, `None` after the last. After a sample the state is that sample's.
    ///
    /// # Errors
    /// [`ChunkError`] for bytes that are no chunk; then every further call gives the same.
    #[allow(clippy::should_implement_trait, reason = "an iterator of results would go on after an error")]
    pub fn next(&mut self) -> Result<Option<Step>, ChunkError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.step().inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn step(&mut self) -> Result<Option<Step>, ChunkError> {
        if !self.look()? {
            return Ok(None);
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        let Some(headed) = open.head.take() else { return Ok(None) };
        let told = open.model.code(&mut open.decoder, &headed, &nothing())?;
        if let Told::Sample { took_us, .. } = &told {
            self.sampled = Some((headed.at, *took_us));
        }
        Ok(Some(Step { head: headed.head, at: headed.at, told }))
    }

    /// Reads the next record's head, of the next segment where this one ends; `false` after the last record.
    fn look(&mut self) -> Result<bool, ChunkError> {
        loop {
            let Some(open) = self.open.as_mut().filter(|open| !open.ended) else {
                if self.next >= self.directory.segments.len() {
                    return Ok(false);
                }
                self.open_after()?;
                continue;
            };
            if open.head.is_some() {
                return Ok(true);
            }
            if open.begun && !open.decoder.bit(&mut open.more, false) {
                open.decoder.ended()?;
                open.ended = true;
                continue;
            }
            open.begun = true;
            open.head = Some(open.model.code_head(&mut open.decoder, &nothing().headed)?);
        }
    }

    /// Goes on with the next segment; the state of the one that ended stays to be seen until its first record is read.
    fn open_after(&mut self) -> Result<(), ChunkError> {
        let state = self.open.take().and_then(|open| open.model.state).or(self.last.take());
        self.last = state;
        self.open_next()
    }

    /// The state of the last sample that was read, `None` before the first.
    pub fn state(&self) -> Option<&State> {
        self.open.as_ref().and_then(|open| open.model.state.as_ref()).or(self.last.as_ref())
    }

    /// That sample, its state cloned.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let ((at, took_us), state) = self.sampled.zip(self.state())?;
        Some(Snapshot { at, took_us, state: state.clone() })
    }
}

impl fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkReader").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// What a decoder is given in the place of what a writer wants.
fn nothing() -> Wanted<'static> {
    let head = Head { seq: Seq(0), kind: RecordKind::Delta, wall_ms: 0, prev_wall_ms: None, received_ms: 0 };
    let beside = Beside::Sample { took_us: 0, gap: None };
    Wanted { headed: Headed { head, at: At::default(), beside }, activity: None, state: None }
}
