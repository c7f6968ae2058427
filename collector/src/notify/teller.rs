//! From flags to notices: whatever receivers do not know yet goes into the outbox, in the transaction that says so of the
//! flag.

use super::LEASE;
use super::notice::{Flag, Notice, Owner, Severity, Step, Transition};
use super::outbox::rows;
use super::receiver::Receivers;
use crate::flag;
use crate::store::flag::{Untold, mark_told, untold};
use crate::store::lease::{self, Fence, LeaseError};
use crate::store::notice;
use crate::store::tx::Dedicated;

/// Flags at a time.
const BATCH: i64 = 500;

/// Queues what is to be told; says of how many flags. `now_ms` is the collector's clock.
pub async fn tell(
    connection: &mut Dedicated,
    fence: Fence,
    receivers: &Receivers,
    now_ms: i64,
) -> Result<usize, LeaseError> {
    let mut tx = connection.write_soon().await?;
    lease::check(&mut tx, LEASE, fence).await?;
    let mut count = 0_usize;
    for news in untold(&mut tx, now_ms, BATCH).await? {
        let Some(number) = mark_told(&mut tx, &news).await? else { continue };
        notice::insert(&mut tx, &rows(receivers, &notice_of(&news, number), now_ms)).await?;
        count = count.saturating_add(1);
    }
    tx.commit().await?;
    Ok(count)
}

fn notice_of(news: &Untold, number: u32) -> Notice {
    let of = &news.flag.flag;
    let transition = match news.told {
        _ if of.cleared_ms.is_some() => Transition::Cleared,
        None => Transition::Raised,
        Some(was) if was < of.severity => Transition::Worsened,
        Some(_) => Transition::Eased,
    };
    Notice {
        number,
        transition,
        flag: Flag {
            flag_id: of.id.0,
            host_id: of.host,
            host: news.flag.host.clone(),
            labels: news.labels.clone(),
            namespace: of.namespace.inode,
            resource: of.resource.name().to_owned(),
            kind: of.kind.name().to_owned(),
            severity: match of.severity {
                flag::Severity::Warning => Severity::Warning,
                flag::Severity::Critical => Severity::Critical,
            },
            state: news.flag.state.name().to_owned(),
            raised_ms: of.raised_ms,
            cleared_ms: of.cleared_ms,
            used: Some(of.used),
            limit: Some(of.limit),
            growth_per_hour: of.growth_per_hour,
            eta_ms: of.eta.at_ms,
            eta_low_ms: of.eta.low_ms,
            eta_high_ms: of.eta.high_ms,
            owner: of.holder.as_ref().map(|holder| Owner {
                uid: holder.uid,
                user: holder.user.clone(),
                comm: holder.comm.clone(),
                arrays: holder.objects,
                orphans: holder.orphans,
            }),
            why: of.why.clone(),
            remedy: of
                .remedy
                .iter()
                .map(|r| Step { step: r.step.clone(), command: r.command.clone(), risk: r.risk.clone() })
                .collect(),
        },
    }
}
