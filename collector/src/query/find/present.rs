//! The fleet's present: filters of `object_now` first, then the states of the hosts that may match.

use super::Question;
use super::expr::Expr;
use super::filter::Filter;
use super::lives::{Life, ToIs, lives_in};
use super::page::{Found, MOST_READ, Page, Tails};
use crate::host::HostId;
use crate::query::AskError;
use crate::query::as_of::{Answer, AsOf, Instant, as_of};
use crate::query::fleet::{EPHEMERAL_GONE_AFTER_MS, GONE_AFTER_MS};
use crate::store::fleet::HostName;
use crate::store::history::Reading;
use crate::store::object_now::PresentFilter;

/// The most hosts that are read because they have records which their filters do not know.
const MOST_TAILS: usize = 2_000;

/// Hosts that are looked at in order first: what many hosts hold is soon found, and then the others need no look.
const FIRST: usize = 1_000;

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
    let begin = page.begin();
    let mut filter = PresentFilter {
        after: begin.as_ref(),
        begins: expr.host_begins(),
        gone_before_ms: now_ms.saturating_sub(GONE_AFTER_MS),
        ephemeral_gone_before_ms: now_ms.saturating_sub(EPHEMERAL_GONE_AFTER_MS),
    };
    let may_hold = |host: HostId, objects: &[u8]| {
        tails.as_ref().is_some_and(|tails| tails.contains(&host)) || Filter::may_match(objects, expr)
    };
    let of_host = |host: &HostName, objects: Option<&[u8]>| {
        expr.wants_host(host) && objects.is_none_or(|objects| may_hold(host.id, objects))
    };
    let (first, last) = reading.next_presents(&filter, FIRST, of_host).await?;
    if !look_at(reading, expr, &mut page, &first, now_ms).await? {
        return Ok(page.more());
    }
    let Some(last) = last else { return Ok(page.end()) };
    page.pass(&last);
    if page.is_full() {
        return Ok(page.more());
    }
    filter.after = Some(&last);
    let ids = reading.all_presents(may_hold).await?;
    let others = reading.presents_of(&filter, &ids, MOST_READ).await?;
    let is_all = others.len() < MOST_READ;
    let end = others.last().cloned();
    let wanted: Vec<HostName> = others.into_iter().filter(|host| expr.wants_host(host)).collect();
    if !look_at(reading, expr, &mut page, &wanted, now_ms).await? {
        return Ok(page.more());
    }
    match end.filter(|_| !is_all) {
        Some(end) => {
            page.pass(&end);
            Ok(page.more())
        }
        None => Ok(page.end()),
    }
}

/// Reads the presents of these hosts; `false` = the page is full.
async fn look_at(
    reading: &mut Reading,
    expr: &Expr,
    page: &mut Page<'_>,
    hosts: &[HostName],
    now_ms: i64,
) -> Result<bool, AskError> {
    for host in hosts {
        if page.is_full() || !look(reading, expr, page, host, now_ms).await? {
            return Ok(false);
        }
    }
    Ok(true)
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
