//! What a host's records say, wherever they are: in merged chunks, in fresh ones, or in the tail. A record is read in
//! exactly one place, so a compaction changes no answer.

use std::sync::Arc;

use highwater_ipc::activity::Activity;
use highwater_ipc::chunk::{ChunkReader, Head, Step as Unpacked, Told};
use highwater_ipc::record::{GapReason, RecordKind, Seq};
use highwater_ipc::snapshot::{Snapshot, State};

use super::fold::{FoldError, Said, fold_on};
use super::{AskError, raw};
use crate::host::HostId;
use crate::store::history::{Packed, Reading, Stretch, Tier, Until};

/// A state-bearing record, and what it says.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its position.
    pub seq: Seq,
    /// Wall clock as stored, milliseconds: that of the sample, but where the clock was set back a little.
    pub wall_ms: i64,
    /// The sample, whole.
    pub snapshot: Arc<Snapshot>,
    /// What happened just before it.
    pub activity: Arc<Activity>,
    /// Wall clock of the sample before it, milliseconds; `None` = the first of its epoch.
    pub prev_wall_ms: Option<i64>,
    /// Collector's clock when it came, milliseconds.
    pub received_ms: i64,
    /// Last sample that read the same, where the record after it was at hand.
    confirmed_ms: Option<i64>,
    /// The gap that it closed, of a sample that was compacted.
    gap: Option<GapReason>,
}

/// The last state of a stretch up to `until`.
pub async fn state_until(
    reading: &mut Reading,
    host: HostId,
    stretch: &Stretch,
    until: Until,
) -> Result<Option<Found>, AskError> {
    match in_tail(reading, host, stretch, until).await? {
        Some(found) => Ok(Some(found)),
        None => in_chunks(reading, host, stretch, until).await,
    }
}

/// Until when that state was confirmed: the sample before the next state-bearing record of its stretch, or the stretch's end;
/// host's wall clock, milliseconds.
pub async fn confirmed_ms(
    reading: &mut Reading,
    host: HostId,
    stretch: &Stretch,
    found: &Found,
) -> Result<i64, AskError> {
    if let Some(confirmed_ms) = found.confirmed_ms {
        return Ok(confirmed_ms);
    }
    let from = found.seq.next();
    for tier in [Tier::Merged, Tier::Fresh] {
        if let Some(confirmed_ms) = reading.chunk_confirms(host, stretch, (tier, from)).await? {
            return Ok(confirmed_ms);
        }
    }
    Ok(reading.tail_confirms(host, stretch, from).await?.unwrap_or(stretch.end_wall_ms))
}

async fn in_tail(
    reading: &mut Reading,
    host: HostId,
    stretch: &Stretch,
    until: Until,
) -> Result<Option<Found>, AskError> {
    let Some(place) = reading.tail_place(host, stretch, until).await? else { return Ok(None) };
    let records = reading.tail_records(host, stretch, &place).await?;
    let before = if place.base_seq < stretch.compacted {
        in_chunks(reading, host, stretch, Until::Before(stretch.compacted)).await?
    } else {
        None
    };
    let (snapshot, activity) = fold_on(before.as_ref().map(|b| &b.snapshot.state), &records)?;
    let last = records.last().ok_or(FoldError::Empty)?;
    Ok(Some(Found {
        seq: place.seq,
        wall_ms: last.wall_ms,
        snapshot,
        activity,
        prev_wall_ms: last.prev_wall_ms,
        received_ms: last.received_ms,
        confirmed_ms: None,
        gap: None,
    }))
}

async fn in_chunks(
    reading: &mut Reading,
    host: HostId,
    stretch: &Stretch,
    until: Until,
) -> Result<Option<Found>, AskError> {
    for tier in [Tier::Fresh, Tier::Merged] {
        if let Some(packed) = reading.chunk_until(host, stretch, (tier, until)).await? {
            return Ok(last_of(packed, until)?);
        }
    }
    Ok(None)
}

/// The last sample of a chunk up to `until`.
fn last_of(packed: Packed, until: Until) -> Result<Option<Found>, FoldError> {
    let from = packed.from;
    if raw::is_raw(&packed.body) {
        return Err(FoldError::Raw { from });
    }
    let damaged = |why| FoldError::Chunk { from, why };
    let mut reader = ChunkReader::new(packed.body).map_err(damaged)?;
    match until {
        Until::Wall(wall_ms) => reader.seek_wall(wall_ms),
        Until::Before(seq) => reader.seek_seq(Seq(seq.0.saturating_sub(1))),
    }
    .map_err(damaged)?;
    let lies_within = |head: &Head| match until {
        Until::Wall(wall_ms) => head.wall_ms <= wall_ms,
        Until::Before(seq) => head.seq < seq,
    };
    let mut found: Option<(Head, Arc<Activity>, Option<GapReason>)> = None;
    while reader.peek().map_err(damaged)?.is_some_and(lies_within) {
        let Some(step) = reader.next().map_err(damaged)? else { break };
        if let Told::Sample { activity, gap, .. } = step.told {
            found = Some((step.head, activity, gap));
        }
    }
    let Some((head, activity, gap)) = found else { return Ok(None) };
    let Some(snapshot) = reader.snapshot() else { return Ok(None) };
    let confirmed_ms = next_sample(&mut reader).map_err(damaged)?.and_then(|next| next.prev_wall_ms);
    Ok(Some(Found {
        seq: head.seq,
        wall_ms: head.wall_ms,
        snapshot: Arc::new(snapshot),
        activity,
        prev_wall_ms: head.prev_wall_ms,
        received_ms: head.received_ms,
        confirmed_ms,
        gap,
    }))
}

/// The head of the next sample; what lies before it is passed over.
fn next_sample(reader: &mut ChunkReader) -> Result<Option<Head>, highwater_ipc::chunk::ChunkError> {
    while let Some(head) = reader.peek()?.cloned() {
        if matches!(head.kind, RecordKind::Keyframe | RecordKind::Delta) {
            return Ok(Some(head));
        }
        reader.next()?;
    }
    Ok(None)
}

impl Found {
    /// The same as a record that was read in order. What kind it was is not known any more, and does not matter.
    pub fn into_record(self) -> Record {
        Record {
            seq: self.seq,
            kind: RecordKind::Keyframe,
            wall_ms: self.wall_ms,
            prev_wall_ms: self.prev_wall_ms,
            received_ms: self.received_ms,
            said: Said::Sample { snapshot: self.snapshot, gap: self.gap, activity: self.activity },
        }
    }
}

impl Record {
    /// The state, of a sample.
    pub fn state(&self) -> Option<&State> {
        match &self.said {
            Said::Sample { snapshot, .. } => Some(&snapshot.state),
            _ => None,
        }
    }
}

/// A chunk that is read record after record.
#[derive(Debug)]
pub struct Unpacking {
    reader: ChunkReader,
    from: Seq,
    /// Position of the chunk's last record.
    pub to: Seq,
}

/// What an [`Unpacking`] gives, and what a chunk is made of.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its position.
    pub seq: Seq,
    /// What its body was.
    pub kind: RecordKind,
    /// Wall clock as stored, milliseconds.
    pub wall_ms: i64,
    /// Wall clock of the sample before it in the epoch.
    pub prev_wall_ms: Option<i64>,
    /// Collector's clock when it came, milliseconds.
    pub received_ms: i64,
    /// What it says.
    pub said: Said,
}

impl Unpacking {
    /// Begins with the record `from`, or the first one after it.
    pub fn new(packed: Packed, from: Seq) -> Result<Self, FoldError> {
        let (first, to) = (packed.from, packed.to);
        if raw::is_raw(&packed.body) {
            return Err(FoldError::Raw { from: first });
        }
        let damaged = |why| FoldError::Chunk { from: first, why };
        let mut reader = ChunkReader::new(packed.body).map_err(damaged)?;
        reader.seek_seq(from).map_err(damaged)?;
        let mut this = Self { reader, from: first, to };
        while this.peek()?.is_some_and(|head| head.seq < from) {
            this.step()?;
        }
        Ok(this)
    }

    /// The next record, if its time is at or before `until_ms`.
    pub fn next_until(&mut self, until_ms: i64) -> Result<Option<Record>, FoldError> {
        if self.peek()?.is_none_or(|head| head.wall_ms > until_ms) {
            return Ok(None);
        }
        let Some(Unpacked { head, at, told }) = self.step()? else { return Ok(None) };
        let said = match told {
            Told::Sample { gap, activity, .. } => {
                let snapshot = self.reader.snapshot().ok_or(FoldError::NoBase { seq: head.seq })?;
                Said::Sample { snapshot: Arc::new(snapshot), gap, activity }
            }
            Told::Event(event) => Said::Event(at, event),
            Told::GapReason(reason) => Said::GapReason(at, reason),
        };
        let Head { seq, kind, wall_ms, prev_wall_ms, received_ms } = head;
        Ok(Some(Record { seq, kind, wall_ms, prev_wall_ms, received_ms, said }))
    }

    /// Whether no record is left.
    pub fn is_done(&mut self) -> Result<bool, FoldError> {
        Ok(self.peek()?.is_none())
    }

    fn peek(&mut self) -> Result<Option<&Head>, FoldError> {
        let from = self.from;
        self.reader.peek().map_err(|why| FoldError::Chunk { from, why })
    }

    fn step(&mut self) -> Result<Option<Unpacked>, FoldError> {
        let from = self.from;
        self.reader.next().map_err(|why| FoldError::Chunk { from, why })
    }
}
