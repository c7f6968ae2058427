//! One epoch's tail becomes fresh chunks, and with them what is derived from its states. Idempotent: what another collector
//! has moved meanwhile stays as that left it.

use highwater_ipc::record::EpochNo;
use tracing::warn;

use super::derive::{Before, Derived, Deriver, Sample};
use super::pack::{PackError, Packer};
use super::{CompactError, Held, derived, partitions};
use crate::evaluate::judge::{self, Changes, Judge};
use crate::evaluate::rules::Rules;
use crate::evaluate::{feed, state};
use crate::host::HostId;
use crate::query::AskError;
use crate::query::find::Filter;
use crate::query::fold::{Said, read};
use crate::query::past::{Record, state_until};
use crate::query::walk::{Place, Position};
use crate::store::chunk::{self, Chunk};
use crate::store::compaction::{self, Marks, Of};
use crate::store::day::Day;
use crate::store::history::{Reading, TailRecord, Until};
use crate::store::link::Link;
use crate::store::object_now::{self, ObjectNow};
use crate::store::partition::Table;
use crate::store::usage::Order;
use crate::store::{Db, StoreError, flag, gap_part};

/// The most records and bytes of bodies that one step takes; what is left waits for the next.
const MOST_RECORDS: usize = 2_048;
const MOST_BYTES: usize = 32 << 20;
/// Records asked for at once: a body can have 16 MiB.
const PAGE: i64 = 64;

/// What became of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many records moved; `more` = there are more of them.
    Some {
        /// How many.
        records: usize,
        /// Whether records are left.
        more: bool,
    },
    /// There was nothing to move, or somebody else has moved it.
    Nothing,
}

/// Compacts the tail of one epoch, as far as one step goes, and judges its host by these rules; `now_ms` is the
/// collector's wall clock.
pub async fn compact(
    db: &Db,
    link: &mut Link,
    of: Of,
    (held, rules): (&Held, &Rules),
    now_ms: i64,
) -> Result<Moved, CompactError> {
    let mut reading = Reading::begin(db).await?;
    let Some(marks) = reading.marks(of).await?.filter(|m| m.framed > m.compacted) else { return Ok(Moved::Nothing) };
    let tail = read_tail(&mut reading, of, marks).await?;
    let before = before(&mut reading, of, tail.first()).await?;
    let flag::Judged { labels, memory } = reading.judged(of.0).await?.unwrap_or_default();
    let earlier = if before.is_none() { earlier(&mut reading, of, tail.first()).await? } else { None };
    drop(reading);
    let to = tail.last().map_or(marks.framed, |last| last.record.seq.next());
    let records = tail.len();
    let covered_ms = marks.covered_wall_ms.filter(|_| to == marks.framed);
    let memory = memory.and_then(|bytes| state::unpack(&bytes)).unwrap_or_default();
    let judge = Judge::new(of.0, memory, rules.of(&labels));
    let Packed { chunks, derived, now, judged } = pack(of, (earlier, before), judge, tail, covered_ms)?;
    let place = move |slot_ms: i64| Day::believed(slot_ms, now_ms).unwrap_or(Day::FALLBACK);
    let mut parts = derived::partitions([&derived], &place);
    parts.extend(chunks.iter().map(|c| (Table::ChunkFresh, c.part)));
    link.run(move |connection| Box::pin(partitions::ensure_all(connection, parts))).await?;
    let held = held.clone();
    let step = (marks.compacted, to);
    let stored = link.run(move |connection| {
        Box::pin(async move {
            let mut tx = connection.write().await?;
            if !held.still(&mut tx).await? {
                tx.rollback().await?;
                return Ok(None);
            }
            if !compaction::move_compacted(&mut tx, of, step).await? {
                tx.rollback().await?;
                return Ok(Some(false));
            }
            chunk::insert_fresh(&mut tx, &chunks).await?;
            derived::store(&mut tx, &derived, Order::Newest, &place).await?;
            gap_part::close_ended(&mut tx, of.0).await?;
            object_now::upsert(&mut tx, now.as_slice()).await?;
            flag::upsert(&mut tx, &judged.changes.flags).await?;
            flag::tell(&mut tx, &judged.changes.events).await?;
            if let Some(memory) = &judged.memory {
                flag::remember(&mut tx, of.0, judged.near, memory).await?;
            }
            tx.commit().await?;
            Ok::<_, StoreError>(Some(true))
        })
    });
    match stored.await? {
        None => Err(CompactError::LeaseLost),
        Some(false) => Ok(Moved::Nothing),
        Some(true) => Ok(Moved::Some { records, more: to < marks.framed }),
    }
}

async fn read_tail(reading: &mut Reading, of: Of, marks: Marks) -> Result<Vec<TailRecord>, StoreError> {
    let mut tail: Vec<TailRecord> = Vec::new();
    let mut bytes = 0_usize;
    while tail.len() < MOST_RECORDS && bytes < MOST_BYTES {
        let from = tail.last().map_or(marks.compacted, |last| last.record.seq.next());
        let page = reading.tail(of.0, (of.1, from), PAGE).await?;
        if page.is_empty() {
            break;
        }
        bytes = page.iter().fold(bytes, |sum, t| sum.saturating_add(t.record.body.len()));
        tail.extend(page);
    }
    Ok(tail)
}

/// The sample before the first record of a tail, where its stretch has one.
async fn before(
    reading: &mut Reading,
    (host, epoch): (HostId, EpochNo),
    first: Option<&TailRecord>,
) -> Result<Option<(u32, Record)>, CompactError> {
    let Some(first) = first else { return Ok(None) };
    let number = i32::try_from(first.stretch).unwrap_or(i32::MAX);
    let Some(stretch) = reading.stretch(host, (epoch, number)).await? else { return Ok(None) };
    match state_until(reading, host, &stretch, Until::Before(first.record.seq)).await {
        Ok(found) => Ok(found.map(|found| (first.stretch, found.into_record()))),
        // What is before it makes no state; then the next keyframe does.
        Err(AskError::Fold(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn in_force(record: &Record) -> Option<Before<'_>> {
    Some(Before { state: record.state()?, wall_ms: record.wall_ms })
}

/// The stretch before that of a tail's first record.
struct Earlier {
    /// Its last sample, where it makes a state.
    record: Option<Record>,
    /// Epoch of the last sample of the agent's own, and until when that was confirmed; `None` = there is none before it.
    own: Option<(EpochNo, i64)>,
}

/// The stretch before that of a tail's first record.
async fn earlier(
    reading: &mut Reading,
    (host, epoch): (HostId, EpochNo),
    first: Option<&TailRecord>,
) -> Result<Option<Earlier>, CompactError> {
    let Some(first) = first else { return Ok(None) };
    let number = i32::try_from(first.stretch).unwrap_or(i32::MAX);
    let Some(stretch) = reading.stretch(host, (epoch, number)).await? else { return Ok(None) };
    let Some(before) = reading.stretch_before(host, stretch.place).await? else { return Ok(None) };
    // What was imported into the gap between them confirms nothing of the agent's.
    let own = match before.place.after() {
        None => Some((before.place.epoch(), before.end_wall_ms)),
        Some(after) => reading.stretch(host, after).await?.map(|own| (after.0, own.end_wall_ms)),
    };
    let record = match state_until(reading, host, &before, Until::Wall(i64::MAX)).await {
        Ok(found) => found.map(|found| found.into_record()),
        Err(AskError::Fold(_)) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Some(Earlier { record, own }))
}

/// What a tail becomes.
struct Packed {
    chunks: Vec<Chunk>,
    derived: Derived,
    now: Option<ObjectNow>,
    judged: Judged,
}

/// What the evaluator says of a step.
struct Judged {
    changes: Changes,
    /// What it remembers; `None` = it does not fit, and begins anew.
    memory: Option<Vec<u8>>,
    near: f64,
}

/// Folds a tail into chunks and what follows from its states. `covered_ms` is until when its last sample was confirmed.
fn pack(
    (host, epoch): Of,
    (earlier, before): (Option<Earlier>, Option<(u32, Record)>),
    mut judge: Judge,
    tail: Vec<TailRecord>,
    covered_ms: Option<i64>,
) -> Result<Packed, CompactError> {
    let last = before.as_ref().and_then(|(_, record)| in_force(record));
    let mut deriver = Deriver::new(host, epoch, last)
        .following(earlier.as_ref().and_then(|earlier| in_force(earlier.record.as_ref()?)));
    // Heartbeats have no record: what confirmed the end of another epoch is not in this tail.
    if let Some((epoch, end_ms)) = earlier.as_ref().and_then(|earlier| earlier.own) {
        judge.covered(epoch, end_ms);
    }
    let mut latest = before.clone();
    let mut packer = Packer::new(host, epoch, before);
    for TailRecord { stretch, day, record: stored } in tail {
        let state = latest.as_ref().and_then(|(_, record)| record.state());
        let (seq, kind) = (stored.seq, stored.kind);
        let (wall_ms, prev_wall_ms, received_ms) = (stored.wall_ms, stored.prev_wall_ms, stored.received_ms);
        let taken = read(state, &stored).map_err(CompactError::from).and_then(|said| {
            let record = Record { seq, kind, wall_ms, prev_wall_ms, received_ms, said };
            packer.take(stretch, (day, day), &record)?;
            Ok(record)
        });
        let record = match taken {
            Ok(record) => record,
            // The open chunk is given up, and with it what was in it: nothing moves.
            Err(why @ CompactError::Pack(PackError::Chunk { .. })) => return Err(why),
            Err(why) => {
                // Only a host that does not say what it read comes here; its records stay for whoever wants to see them.
                warn!(%host, epoch = epoch.0, seq = seq.0, %why, "a stored record makes no state: kept as it came");
                packer.take_raw(stretch, day, &stored);
                latest = None;
                continue;
            }
        };
        if let Said::Sample { snapshot, activity, .. } = &record.said {
            let begins_stretch = latest.as_ref().is_none_or(|(of, _)| *of != stretch);
            let (state, boot_us) = (&snapshot.state, snapshot.at.boot_us);
            deriver.sample(&Sample { seq, wall_ms, boot_us, prev_wall_ms, begins_stretch, state, activity });
            let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch, state };
            let place = Place::own(epoch, i32::try_from(stretch).unwrap_or(i32::MAX));
            judge.sample(&judge::Sample { position: Position { place, seq }, sample, activity });
            latest = Some((stretch, record));
        }
    }
    if let Some(wall_ms) = covered_ms {
        deriver.covered(wall_ms);
        judge.covered(epoch, wall_ms);
    }
    let last = latest.as_ref().and_then(|(_, record)| record.state());
    let (changes, memory) = judge.finish(last);
    let judged = Judged { changes, memory: state::pack(&memory), near: last.map_or(0.0, judge::nearest) };
    let now = latest.as_ref().and_then(|(_, r)| Some((r, r.state()?))).map(|(record, state)| {
        let mut objects = Filter::builder();
        objects.add(state);
        ObjectNow { host, epoch, seq: record.seq, wall_ms: record.wall_ms, objects: objects.finish() }
    });
    Ok(Packed { chunks: packer.finish(), derived: deriver.finish(), now, judged })
}
