//! Stored records to what they say: a keyframe and the deltas after it make a state.

use std::sync::Arc;

use highwater_ipc::activity::Activity;
use highwater_ipc::chunk::ChunkError;
use highwater_ipc::codec::{CodecError, decode_body};
use highwater_ipc::delta::{DeltaError, apply};
use highwater_ipc::record::{Content, Event, GapReason, Seq};
use highwater_ipc::snapshot::{Snapshot, State};
use highwater_ipc::time::At;

use crate::store::history::StoredRecord;

/// What one record says, given the state before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A sample, whole.
    Sample {
        /// What was read.
        snapshot: Arc<Snapshot>,
        /// For a keyframe that follows missing samples: why, as far as the agent knew.
        gap: Option<GapReason>,
        /// What happened since the sample before it, as far as that was traced.
        activity: Arc<Activity>,
    },
    /// Something happened beside the samples.
    Event(At, Event),
    /// The agent said why nothing will follow.
    GapReason(At, GapReason),
    /// A sample that read the same (not stored as a row, but a reader need not insist).
    Heartbeat(At),
}

/// Why records make no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// A body does not unpack.
    #[error("the stored record {seq} does not unpack: {why}", seq = .seq.0)]
    Codec {
        /// Its position.
        seq: Seq,
        /// Why.
        why: CodecError,
    },
    /// A delta does not fit the state before it.
    #[error("the stored record {seq} does not fit the one before it: {why}", seq = .seq.0)]
    Delta {
        /// Its position.
        seq: Seq,
        /// Why.
        why: DeltaError,
    },
    /// A delta comes first.
    #[error("the stored record {seq} builds on a keyframe that is not stored", seq = .seq.0)]
    NoBase {
        /// Its position.
        seq: Seq,
    },
    /// A chunk does not unpack.
    #[error("the stored chunk of records from {seq} on does not unpack: {why}", seq = .from.0)]
    Chunk {
        /// Position of its first record.
        from: Seq,
        /// Why.
        why: ChunkError,
    },
    /// These records were found to make no state when they were compacted.
    #[error("the stored records from {from} on make no state, up to the next keyframe", from = .from.0)]
    Raw {
        /// The first of them.
        from: Seq,
    },
    /// There are no records.
    #[error("the keyframe of a stored record is not stored")]
    Empty,
}

/// Reads one record on top of the state before it.
pub fn read(before: Option<&State>, record: &StoredRecord) -> Result<Said, FoldError> {
    let seq = record.seq;
    let body = decode_body(record.kind, &record.body).map_err(|why| FoldError::Codec { seq, why })?;
    let at = body.at;
    Ok(match body.content {
        Content::Keyframe(keyframe) => Said::Sample {
            snapshot: Arc::new(Snapshot { at, took_us: keyframe.took_us, state: keyframe.state }),
            gap: keyframe.gap,
            activity: Arc::new(keyframe.activity),
        },
        Content::Delta(delta) => {
            let before = before.ok_or(FoldError::NoBase { seq })?;
            let state = apply(before, &delta).map_err(|why| FoldError::Delta { seq, why })?;
            let snapshot = Arc::new(Snapshot { at, took_us: delta.took_us, state });
            Said::Sample { snapshot, gap: None, activity: Arc::new(delta.activity) }
        }
        Content::Heartbeat => Said::Heartbeat(at),
        Content::Event(event) => Said::Event(at, event),
        Content::GapReason(reason) => Said::GapReason(at, reason),
    })
}

/// The sample that the last of these records describes, and what happened just before it. Without a state `before` them the
/// first must be a keyframe.
pub fn fold_on(before: Option<&State>, records: &[StoredRecord]) -> Result<(Arc<Snapshot>, Arc<Activity>), FoldError> {
    let mut latest: Option<(Arc<Snapshot>, Arc<Activity>)> = None;
    for record in records {
        let before = latest.as_ref().map(|(snapshot, _)| &snapshot.state).or(before);
        if let Said::Sample { snapshot, activity, .. } = read(before, record)? {
            latest = Some((snapshot, activity));
        }
    }
    latest.ok_or(FoldError::Empty)
}
