//! Defects that are planted beside the product, never in it: steps of compaction that a world takes in the place of the real
//! ones, each with one mistake.

use highwater::compact::pack::Packer;
use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::fold::{Said, read};
use highwater::query::past::{Record, state_until};
use highwater::store::chunk;
use highwater::store::compaction::{self, Of};
use highwater::store::history::{TailRecord, Until};
use highwater::store::partition::{self, Table};
use highwater_ipc::record::{EpochNo, Seq};

use crate::compare::unanswered;
use crate::stage::Stage;
use crate::world::{Kept, broken};

/// One planted defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// `compacted_to` moves one record too far: that record is in no chunk, and not looked for in the tail.
    OneTooFar,
    /// The tail is folded on the state that its stretch began with, not on the sample before it.
    WrongBase,
    /// Fresh chunks go with their day before they are merged.
    DroppedUnmerged,
}

impl Mutation {
    /// Whether the way in which it compacts is not the product's.
    pub(crate) fn compacts(self) -> bool {
        self != Mutation::DroppedUnmerged
    }

    /// Whether an answer that is wrong with these words can be its doing.
    pub(crate) fn breaks(self, words: &str) -> bool {
        let can: &[&str] = match self {
            Mutation::OneTooFar => {
                &["a walk", "are now", "the walk came to", "follows no sample", "no answer", "epochs failed"]
            }
            Mutation::WrongBase => &["the walk came to", "are now", "no answer", "epochs failed"],
            Mutation::DroppedUnmerged => &["a walk", "are now", "the walk came to", "no answer", "epochs failed"],
        };
        can.iter().any(|can| words.contains(can))
    }
}

/// Compacts the tails of a host's epochs as that defect would.
pub(crate) async fn compact(stage: &mut Stage, host: HostId, epochs: &[EpochNo], how: Mutation) -> Kept {
    for epoch in epochs {
        compact_one(stage, (host, *epoch), how).await?;
    }
    Ok(())
}

async fn compact_one(stage: &mut Stage, of: Of, how: Mutation) -> Kept {
    let mut reading = Reading::begin(&stage.db).await.or_else(unanswered)?;
    let marks = reading.marks(of).await.or_else(unanswered)?;
    let Some(marks) = marks.filter(|m| m.framed > m.compacted) else { return Ok(()) };
    let tail = reading.tail(of.0, (of.1, marks.compacted), 10_000).await.or_else(unanswered)?;
    let Some(first) = tail.first() else { return Ok(()) };
    let stretch = reading.stretch(of.0, (of.1, i32::try_from(first.stretch).unwrap())).await.or_else(unanswered)?;
    let before = match (&stretch, how) {
        (None, _) => None,
        (Some(stretch), Mutation::WrongBase) => {
            let until = Until::Wall(stretch.from_wall_ms);
            let began = state_until(&mut reading, of.0, stretch, until).await.or_else(unanswered)?;
            began.filter(|began| began.seq < first.record.seq)
        }
        (Some(stretch), _) => {
            let until = Until::Before(first.record.seq);
            state_until(&mut reading, of.0, stretch, until).await.or_else(unanswered)?
        }
    };
    drop(reading);
    let before = before.map(|found| (first.stretch, found.into_record()));
    let to = tail.last().map_or(marks.framed, |last| last.record.seq.next());
    let packed = if how == Mutation::OneTooFar { &tail[..tail.len() - 1] } else { &tail };
    let Some(chunks) = pack(of, before, packed) else { return Ok(()) };
    store(stage, of, (marks.compacted, to), chunks).await
}

/// `None`: it does not fold, so that even this compactor would have stopped.
fn pack(of: Of, before: Option<(u32, Record)>, tail: &[TailRecord]) -> Option<Vec<chunk::Chunk>> {
    let mut latest = before.clone().map(|(_, record)| record);
    let mut packer = Packer::new(of.0, of.1, before);
    for TailRecord { stretch, day, record } in tail {
        let said = read(latest.as_ref().and_then(Record::state), record).ok()?;
        let record = Record {
            seq: record.seq,
            kind: record.kind,
            wall_ms: record.wall_ms,
            prev_wall_ms: record.prev_wall_ms,
            received_ms: record.received_ms,
            said,
        };
        packer.take(*stretch, (*day, *day), &record).ok()?;
        if matches!(record.said, Said::Sample { .. }) {
            latest = Some(record);
        }
    }
    Some(packer.finish())
}

async fn store(stage: &mut Stage, of: Of, step: (Seq, Seq), chunks: Vec<chunk::Chunk>) -> Kept {
    let link = stage.link.as_mut().unwrap();
    for day in chunks.iter().map(|chunk| chunk.part) {
        partition::ensure(link, Table::ChunkFresh, day).await.or_else(unanswered)?;
    }
    let mut tx = link.write().await.or_else(unanswered)?;
    if !compaction::move_compacted(&mut tx, of, step).await.or_else(unanswered)? {
        return broken("the stream moved under a single compactor");
    }
    chunk::insert_fresh(&mut tx, &chunks).await.or_else(unanswered)?;
    tx.commit().await.or_else(unanswered).map(|_| ())
}

/// Drops every day of fresh chunks, whatever is still read there. Not on the runtime's thread: readings that were dropped
/// are only ended by it, and hold their locks until then.
pub(crate) async fn drop_days(stage: &Stage) -> Kept {
    const DROP_SQL: &str = "DO $$ DECLARE day text; BEGIN
            FOR day IN SELECT inhrelid::regclass::text FROM pg_inherits
                WHERE inhparent = 'chunk_fresh'::regclass AND inhrelid::regclass::text <> 'chunk_fresh_fallback'
            LOOP EXECUTE 'DROP TABLE ' || day; END LOOP;
        END $$";
    let database = stage.database.clone();
    tokio::task::spawn_blocking(move || database.sql(DROP_SQL)).await.map_or_else(|e| broken(e.to_string()), |_| Ok(()))
}
