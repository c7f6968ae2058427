//! Hosts on which a flag is up and nothing changes: no tail tells that time passes, so that is told here.

use super::{CompactError, Held};
use crate::evaluate::judge::{Changes, Judge};
use crate::evaluate::rules::Rules;
use crate::evaluate::state;
use crate::host::HostId;
use crate::store::history::Reading;
use crate::store::link::Link;
use crate::store::{Db, StoreError, flag};

/// Hosts that are looked at at once.
const PAGE: i64 = 256;

/// Judges them up to what is covered; says how many there were.
pub async fn judge(db: &Db, link: &mut Link, (held, rules): (&Held, &Rules)) -> Result<usize, CompactError> {
    let mut count = 0_usize;
    let mut after = None;
    loop {
        let mut reading = Reading::begin(db).await?;
        let idle = reading.idle_with_flags(after, PAGE).await?;
        let mut judged = Vec::with_capacity(idle.len());
        for (host, epoch, covered_ms) in &idle {
            let flag::Judged { labels, memory } = reading.judged(*host).await?.unwrap_or_default();
            let Some(memory) = memory.and_then(|bytes| state::unpack(&bytes)) else { continue };
            let ruling = rules.of(&labels);
            let mut judge = Judge::new(*host, memory, ruling);
            judge.covered(*epoch, *covered_ms);
            let (changes, memory) = judge.finish(None);
            judged.extend(state::pack(&memory).map(|memory| (*host, ruling.notify, changes, memory)));
        }
        drop(reading);
        count = count.saturating_add(judged.len());
        for one in judged {
            store(link, held, one).await?;
        }
        after = idle.last().map(|(host, ..)| *host);
        if i64::try_from(idle.len()).unwrap_or(i64::MAX) < PAGE {
            return Ok(count);
        }
    }
}

async fn store(
    link: &mut Link,
    held: &Held,
    (host, notify, changes, memory): (HostId, bool, Changes, Vec<u8>),
) -> Result<(), CompactError> {
    let held = held.clone();
    let stored = link.run(move |connection| {
        Box::pin(async move {
            let mut tx = connection.write().await?;
            if !held.still(&mut tx).await? {
                tx.rollback().await?;
                return Ok(false);
            }
            flag::set_audible(&mut tx, host, notify).await?;
            flag::upsert(&mut tx, &changes.flags).await?;
            flag::tell(&mut tx, &changes.events).await?;
            flag::keep(&mut tx, host, &memory).await?;
            tx.commit().await?;
            Ok::<_, StoreError>(true)
        })
    });
    if stored.await? { Ok(()) } else { Err(CompactError::LeaseLost) }
}
