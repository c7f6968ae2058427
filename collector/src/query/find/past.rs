//! One instant of the past: the chunks that cover it first, then the states of the hosts that may match.

use super::Question;
use super::filter::Filter;
use super::page::{Found, Page};
use super::present::matching;
use crate::host::HostId;
use crate::query::AskError;
use crate::query::as_of::{Answer, Instant, as_of};
use crate::store::find::SkewedHost;
use crate::store::history::Reading;

/// Hosts whose chunks are looked at in one statement.
const HOSTS: i64 = 512;

/// The most chunks that cover one instant of so many hosts: one of each kind for each stretch that holds it.
const MOST_CHUNKS: usize = 100_000;

/// The most hosts that a page passes over.
const MOST_PASSED: usize = 50_000;

/// A page of it; the instants are of the collector's clock.
pub(super) async fn find(
    reading: &mut Reading,
    question: &Question,
    mut page: Page<'_>,
    (at_ms, now_ms): (i64, i64),
) -> Result<Found, AskError> {
    let expr = &question.expr;
    if let Some(host) = page.half_told()
        && let Some(skew_ms) = reading.status(host.id).await?.map(|status| status.skew_ms)
    {
        let host = SkewedHost { host, skew_ms };
        if !look(reading, question, &mut page, &host, (at_ms, now_ms)).await? {
            return Ok(page.more());
        }
    }
    let (mut after, mut passed) = (page.begin(), 0_usize);
    loop {
        let hosts = reading.hosts_to_search(after.as_ref(), expr.host_begins(), HOSTS).await?;
        let Some(last) = hosts.last().map(|h| h.host.clone()) else { return Ok(page.end()) };
        let wanted: Vec<&SkewedHost> = hosts.iter().filter(|h| expr.wants_host(&h.host)).collect();
        let ids: Vec<HostId> = wanted.iter().map(|h| h.host.id).collect();
        let judge = |objects: &[u8]| Filter::may_match(objects, expr);
        let chunks = reading.chunks_in(&wanted, (at_ms, at_ms), MOST_CHUNKS, judge).await?;
        let tails = reading.tails_of(&ids, at_ms).await?;
        for host in wanted {
            let id = host.host.id;
            let in_chunk = chunks.as_ref().is_none_or(|c| c.get(&id).is_some_and(|c| c.iter().any(|c| c.told)));
            if !in_chunk && !tails.contains(&id) {
                continue;
            }
            if page.is_full() || !look(reading, question, &mut page, host, (at_ms, now_ms)).await? {
                return Ok(page.more());
            }
        }
        page.pass(&last);
        passed = passed.saturating_add(hosts.len());
        if page.is_full() || passed >= MOST_PASSED {
            return Ok(page.more());
        }
        after = Some(last);
    }
}

/// Reads what one host held then; `false` = the page is full.
async fn look(
    reading: &mut Reading,
    question: &Question,
    page: &mut Page<'_>,
    host: &SkewedHost,
    (at_ms, now_ms): (i64, i64),
) -> Result<bool, AskError> {
    let instant = Instant::At(at_ms.saturating_add(host.skew_ms));
    let read = as_of(reading, host.host.id, instant, now_ms).await;
    let Some(held) = page.or_unreadable(read)? else { return Ok(page.take(&host.host, host.skew_ms, Vec::new())) };
    if let Answer::Gap(_) = held.answer {
        page.not_looked_at.in_a_gap = page.not_looked_at.in_a_gap.saturating_add(1);
    }
    let lives = matching(&question.expr, &held, true);
    Ok(page.take(&host.host, host.skew_ms, lives))
}
