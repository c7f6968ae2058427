//! The part of a chunk that stays when its week goes: the last sample before the border, and what follows it. Pure.

use highwater_ipc::chunk::{ChunkError, ChunkReader, ChunkWriter, Head, Told};
use highwater_ipc::record::{RecordKind, Seq};
use highwater_ipc::time::At;

use crate::query::find::Filter;

/// What stays of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Position of its first record, a sample.
    pub from: Seq,
    /// Wall time of that sample, as stored.
    pub from_wall_ms: i64,
    /// The clock as it says it.
    pub at: At,
    /// Wall time of the sample before it.
    pub prev_wall_ms: Option<i64>,
    /// Position of its last record.
    pub to: Seq,
    /// Wall time of that record.
    pub to_wall_ms: i64,
    /// How many records it holds.
    pub records: u32,
    /// What `find` looks at first.
    pub objects: Vec<u8>,
    /// The records, packed.
    pub body: Vec<u8>,
}

/// From the last sample before `border_ms` on; of a chunk that begins after it, all.
pub fn rest(body: &[u8], border_ms: i64) -> Result<Option<Rest>, ChunkError> {
    let mut reader = ChunkReader::new(body)?;
    let Some(from) = last_sample(&mut reader, border_ms)? else { return Ok(None) };
    reader.seek_seq(from)?;
    let (mut writer, mut objects) = (ChunkWriter::new(), Filter::builder());
    let mut ends: Option<(Head, At, Head)> = None;
    while let Some(step) = reader.next()? {
        if step.head.seq < from {
            continue;
        }
        let is_sample = matches!(step.told, Told::Sample { .. });
        let state = reader.state().filter(|_| is_sample);
        writer.push(&step.head, step.at, &step.told, state)?;
        if let Some(state) = state {
            objects.add(state);
        }
        ends = Some(ends.map_or((step.head, step.at, step.head), |(first, at, _)| (first, at, step.head)));
    }
    let Some((first, at, last)) = ends else { return Ok(None) };
    Ok(Some(Rest {
        from,
        from_wall_ms: first.wall_ms,
        at,
        prev_wall_ms: first.prev_wall_ms,
        to: last.seq,
        to_wall_ms: last.wall_ms,
        records: u32::try_from(writer.records()).unwrap_or(u32::MAX),
        objects: objects.finish(),
        body: writer.finish(),
    }))
}

/// The last sample before the border, else the first of all.
fn last_sample(reader: &mut ChunkReader, border_ms: i64) -> Result<Option<Seq>, ChunkError> {
    reader.seek_wall(border_ms.saturating_sub(1))?;
    let mut found = None;
    while let Some(head) = reader.peek()?.copied() {
        let is_sample = matches!(head.kind, RecordKind::Keyframe | RecordKind::Delta);
        if head.wall_ms >= border_ms && found.is_some() {
            break;
        }
        if is_sample {
            found = Some(head.seq);
        }
        reader.next()?;
    }
    Ok(found)
}
