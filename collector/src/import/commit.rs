//! Stores what was built, in one transaction.

use std::collections::BTreeMap;

use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::session::HostFacts;
use highwater_ipc::text::HostText;

use super::build::{Built, Described};
use super::judging::Judged;
use super::{ImportError, Request, Target};
use crate::compact::{derived, partitions};
use crate::host::HostId;
use crate::store::chunk::Chunk;
use crate::store::day::Day;
use crate::store::gap::Gap;
use crate::store::host_facts::{Changed, Facts};
use crate::store::partition::Table;
use crate::store::tx::{Dedicated, Write};
use crate::store::usage::Order;
use crate::store::{Db, chunk, flag, gap, host_facts, host_status, imported};

/// Bytes of chunks in one statement, and rows of anything else.
const STATEMENT_BYTES: usize = 8 << 20;
const STATEMENT_ROWS: usize = 10_000;

/// What went wrong longer ago, milliseconds, is no news: nobody is told of it.
const NEWS_MS: i64 = 86_400_000;

/// A number is looked for this often: each time in front of an epoch that has it.
const MOST_TRIES: usize = 100;

/// Adds all of it, or nothing.
pub(super) async fn commit(
    db: &Db,
    request: &Request,
    target: &Target,
    (built, judged): (Built, Judged),
) -> Result<(), ImportError> {
    let mut connection = db.dedicated().await?;
    let now_ms = request.now_ms;
    let mut parts = derived::partitions(&built.derived, &|slot_ms| place(slot_ms, now_ms));
    parts.insert((Table::Chunk, Day::of(now_ms).week()));
    partitions::ensure_all(&mut connection, parts).await?;
    let done = transaction(&mut connection, request, target, (built, judged)).await;
    connection.close().await;
    done
}

async fn transaction(
    connection: &mut Dedicated,
    request: &Request,
    target: &Target,
    (mut built, mut judged): (Built, Judged),
) -> Result<(), ImportError> {
    let mut tx = connection.write().await?;
    let (host, now_ms) = (target.host.id, request.now_ms);
    // Reference tables first.
    let stands = match &target.ground {
        Some(ground) => imported::lock(&mut tx, host).await? && imported::ground(&mut tx, host).await?.bears(ground),
        None => imported::add_host(&mut tx, host, &target.host.name, now_ms).await?,
    };
    if !stands {
        return Err(ImportError::Moved);
    }
    number(&mut tx, target, &mut built, &mut judged).await?;
    for keys in built.filled.chunks(STATEMENT_ROWS) {
        imported::delete_gaps(&mut tx, host, keys).await?;
    }
    for epochs in built.epochs.chunks(STATEMENT_ROWS) {
        imported::insert(&mut tx, host, epochs, now_ms).await?;
    }
    for gaps in built.gaps.chunks(STATEMENT_ROWS) {
        gap::insert(&mut tx, &gaps.iter().collect::<Vec<_>>()).await?;
    }
    for chunks in statements(&built.chunks) {
        chunk::insert_merged(&mut tx, chunks).await?;
    }
    derived::store_all(&mut tx, &built.derived, Order::Filling, &move |slot_ms| place(slot_ms, now_ms)).await?;
    if target.is_imported() {
        present(&mut tx, target, &built, now_ms).await?;
        flags(&mut tx, host, (&built, &judged), now_ms).await?;
    }
    imported::tell(&mut tx, host, &request.who, now_ms).await?;
    tx.commit().await?;
    Ok(())
}

/// What `hosts`, `find` and whoever asks for the fleet know a host by: an agent says it, and of a host without one the file.
async fn present(tx: &mut Write<'_>, target: &Target, built: &Built, now_ms: i64) -> Result<(), ImportError> {
    let host = target.host.id;
    let hostname = HostText::from_escaped(&target.host.name).unwrap_or_default();
    let changed = |of: &Described| Changed {
        host,
        epoch: EpochNo(0),
        seq: Seq(u64::try_from(of.wall_ms).unwrap_or(0)),
        wall_ms: of.wall_ms,
        facts: Facts {
            availability: of.availability.clone(),
            risks: of.risks.clone(),
            host: HostFacts { hostname: hostname.clone(), boot_id: of.boot_id, ..HostFacts::default() },
        },
    };
    let facts: Vec<Changed> = built.described.iter().map(changed).collect();
    for facts in facts.chunks(STATEMENT_ROWS) {
        host_facts::insert_imported(tx, &facts.iter().collect::<Vec<_>>()).await?;
    }
    if let Some((present, usage)) = &built.newest {
        host_status::import(tx, host, (present, usage), now_ms).await?;
    }
    Ok(())
}

/// Stores what was judged. An agent that is enrolled meanwhile waits for this transaction, which has locked the host, and so
/// does whoever would judge its records.
async fn flags(
    tx: &mut Write<'_>,
    host: HostId,
    (built, judged): (&Built, &Judged),
    now_ms: i64,
) -> Result<(), ImportError> {
    let Some((memory, near)) = &judged.memory else { return Ok(()) };
    flag::upsert(tx, &judged.changes.flags).await?;
    flag::tell(tx, &judged.changes.events).await?;
    flag::remember(tx, host, *near, memory).await?;
    let end_ms = built.epochs.iter().map(|epoch| epoch.end.wall_ms).max().unwrap_or(0);
    if end_ms < now_ms.saturating_sub(NEWS_MS) {
        flag::hush(tx, host).await?;
    }
    Ok(())
}

/// Gives each epoch a number that is free, in front of those that have its own: what retention left of an earlier import.
async fn number(
    tx: &mut Write<'_>,
    target: &Target,
    built: &mut Built,
    judged: &mut Judged,
) -> Result<(), ImportError> {
    for _ in 0..MOST_TRIES {
        let numbers: Vec<EpochNo> = built.epochs.iter().map(|epoch| epoch.epoch.no).collect();
        let taken = imported::taken(tx, target.host.id, &numbers).await?;
        if taken.is_empty() {
            return Ok(());
        }
        let other: BTreeMap<EpochNo, EpochNo> =
            taken.into_iter().map(|no| (no, EpochNo(no.0.saturating_sub(1)))).collect();
        let renumber = |no: &mut EpochNo| *no = other.get(no).copied().unwrap_or(*no);
        built.epochs.iter_mut().for_each(|epoch| renumber(&mut epoch.epoch.no));
        built.chunks.iter_mut().for_each(|chunk| renumber(&mut chunk.epoch));
        let parts = built.derived.iter_mut().flat_map(|derived| &mut derived.parts);
        parts.for_each(|part| renumber(&mut part.epoch));
        judged.changes.events.iter_mut().for_each(|event| renumber(&mut event.epoch));
        // Of the gaps those that this import's own records close; no stored one is closed by a record of a free number.
        let own = |gap: &&mut Gap| gap.seq == Seq(0) && !built.filled.contains(&(gap.epoch, gap.seq));
        built.gaps.iter_mut().filter(own).for_each(|gap| renumber(&mut gap.epoch));
    }
    Err(ImportError::Moved)
}

/// The day of a slot that is derived.
fn place(slot_ms: i64, now_ms: i64) -> Day {
    Day::believed(slot_ms, now_ms).unwrap_or(Day::FALLBACK)
}

/// Rows by what one statement takes.
fn statements(chunks: &[Chunk]) -> impl Iterator<Item = &[Chunk]> {
    let mut rest = chunks;
    std::iter::from_fn(move || {
        let mut bytes = 0_usize;
        let fits = |chunk: &&Chunk| {
            bytes = bytes.saturating_add(chunk.body.len()).saturating_add(chunk.objects.len());
            bytes <= STATEMENT_BYTES
        };
        let many = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (now, later) = rest.split_at(many);
        rest = later;
        (!now.is_empty()).then_some(now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_in_one_statement_of_bounded_size() {
        let chunk = |bytes| Chunk {
            host: HostId(1),
            epoch: EpochNo(1),
            stretch: 0,
            from_wall_ms: 0,
            from: Seq(0),
            part: Day(0),
            to: Seq(0),
            to_wall_ms: 0,
            prev_wall_ms: None,
            records: 1,
            baseline: false,
            objects: Vec::new(),
            body: vec![0; bytes],
        };
        let sizes = |bytes: &[usize]| {
            let chunks: Vec<Chunk> = bytes.iter().map(|b| chunk(*b)).collect();
            statements(&chunks).map(<[Chunk]>::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        assert_eq!(sizes(&[1, 2, 3]), [3]);
        assert_eq!(sizes(&[5 << 20, 5 << 20, 1, 20 << 20, 1]), [1, 2, 1, 1]);
    }
}
