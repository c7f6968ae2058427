//! The fleet's present: filters of `object_now` first, then the states of the hosts that may match.

use super::Question;
use super::expr::Expr;
use super::filter::Filter;
use super::lives::{Life, ToIs, lives_in};
use super::page::{Found, Page, Tails};
use crate::host::HostId;
use crate::query::AskError;
use crate::query::as_of::{Answer, AsOf, Instant, as_of};
use crate::query::fleet::{EPHEMERAL_GONE_AFTER_MS, GONE_AFTER_MS};
use crate::store::fleet::HostName;
use crate::store::history::Reading;
use crate::store::object_now::PresentFilter;

/// The most hosts that are read because they have records which their filters do not know.
const MOST_TAILS: usize = 2_000;

/// Filters looked at in one statement: few at first, because what many hosts hold is soon found.
const FIRST_FILTERS: usize = 2_000;
const MOST_FILTERS: usize = 128_000;

/// A page of it.
pub(super) async fn find(
    reading: &mut Reading,
    question: &Question,
    mut page: Page<'_>,
    now_ms: i64,
) -> Result<Found, AskError> {
    let expr = &question.expr;
    let tails = reading.tails(MOST_TAILS).await?;
    if tails.is_none() {
        page.not_looked_at.tails = Some(Tails { since_ms: reading.longest_tail_ms().await? });
    }
    if let Some(host) = page.half_told()
        && !look(reading, expr, &mut page, &host, now_ms).await?
    {
        return Ok(page.more());
    }
    let (mut after, mut most) = (page.begin(), FIRST_FILTERS);
    loop {
        let filter = PresentFilter {
            after: after.as_ref(),
            begins: expr.host_begins(),
            gone_before_ms: now_ms.saturating_sub(GONE_AFTER_MS),
            ephemeral_gone_before_ms: now_ms.saturating_sub(EPHEMERAL_GONE_AFTER_MS),
        };
        let may_hold = |host: &HostName, objects: Option<&[u8]>| {
            let has_tail = tails.as_ref().is_some_and(|tails| tails.contains(&host.id));
            expr.wants_host(host) && (has_tail || objects.is_none_or(|objects| Filter::may_match(objects, expr)))
        };
        let (candidates, last) = reading.presents(&filter, most, may_hold).await?;
        for host in &candidates {
            if page.is_full() || !look(reading, expr, &mut page, host, now_ms).await? {
                return Ok(page.more());
            }
        }
        let Some(last) = last else { return Ok(page.end()) };
        if page.is_full() {
            page.pass(&last);
            return Ok(page.more());
        }
        after = Some(last);
        most = most.saturating_mul(4).min(MOST_FILTERS);
    }
}

/// Reads one host's present; `false` = the page is full.
async fn look(
    reading: &mut Reading,
    expr: &Expr,
    page: &mut Page<'_>,
    host: &HostName,
    now_ms: i64,
) -> Result<bool, AskError> {
    let read = read(reading, expr, host.id, now_ms).await;
    let (skew_ms, lives) = page.or_unreadable(read)?.unwrap_or_default();
    Ok(page.take(host, skew_ms, lives))
}

async fn read(reading: &mut Reading, expr: &Expr, host: HostId, now_ms: i64) -> Result<(i64, Vec<Life>), AskError> {
    let now = as_of(reading, host, Instant::Now, now_ms).await?;
    if let Answer::Held(_) = now.answer {
        return Ok((now.skew_ms, matching(expr, &now, true)));
    }
    let last = as_of(reading, host, Instant::Last, now_ms).await?;
    Ok((last.skew_ms, matching(expr, &last, false)))
}

/// What matches of what a host held, in order; none in a gap. `is_held` = it still is.
pub(super) fn matching(expr: &Expr, as_of: &AsOf, is_held: bool) -> Vec<Life> {
    let Answer::Held(held) = &as_of.answer else { return Vec::new() };
    let to = (!is_held).then_some((held.covered_ms.1, ToIs::LastSample));
    let mut lives = lives_in(expr, &held.snapshot, to);
    lives.sort_by_key(Life::place);
    lives
}
