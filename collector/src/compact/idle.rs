//! Hosts on which a flag is up and nothing changes: no tail tells that time passes, so that is told here.

use super::{CompactError, Held};
use crate::evaluate::judge::Judge;
use crate::evaluate::rules::Rules;
use crate::evaluate::state;
use crate::store::history::Reading;
use crate::store::link::Link;
use crate::store::{Db, StoreError, flag};

/// The most hosts of one look.
const MOST: i64 = 1_000;

/// Judges them up to what is covered; says how many there were.
pub async fn judge(db: &Db, link: &mut Link, (held, rules): (&Held, &Rules)) -> Result<usize, CompactError> {
    let mut reading = Reading::begin(db).await?;
    let idle = reading.idle_with_flags(MOST).await?;
    let mut judged = Vec::with_capacity(idle.len());
    for (host, covered_ms) in idle {
        let flag::Judged { labels, memory } = reading.judged(host).await?.unwrap_or_default();
        let Some(memory) = memory.and_then(|bytes| state::unpack(&bytes)) else { continue };
        let mut judge = Judge::new(host, memory, rules.of(&labels));
        judge.covered(covered_ms);
        let (changes, memory) = judge.finish(None);
        judged.extend(state::pack(&memory).map(|memory| (host, changes, memory)));
    }
    drop(reading);
    let count = judged.len();
    for (host, changes, memory) in judged {
        let held = held.clone();
        let stored = link.run(move |connection| {
            Box::pin(async move {
                let mut tx = connection.write().await?;
                if !held.still(&mut tx).await? {
                    tx.rollback().await?;
                    return Ok(false);
                }
                flag::upsert(&mut tx, &changes.flags).await?;
                flag::tell(&mut tx, &changes.events).await?;
                flag::keep(&mut tx, host, &memory).await?;
                tx.commit().await?;
                Ok::<_, StoreError>(true)
            })
        });
        if !stored.await? {
            return Err(CompactError::LeaseLost);
        }
    }
    Ok(count)
}
