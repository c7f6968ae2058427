//! Questions about two instants, against what is true: `diff` and `blame`.

use std::collections::BTreeSet;

use highwater::query::as_of::Instant;
use highwater::query::blame::{Blame, BlameAnswer, blame as ask_blame};
use highwater::query::diff::{Diff, DiffAnswer, MOST_RECORDS, diff as ask_diff};
use highwater::query::{AskError, ClosedGap};

use crate::compare::Compared;
use crate::counting::{self, Change, OwnerSums, Owners};
use crate::truth::{Expected, Gap};
use crate::world::{Kept, broken};

/// The entries that two instants are answered with, if both are.
fn held(this: &Compared<'_>, span_ms: (i64, i64)) -> Option<(usize, usize)> {
    let mut indexes =
        [span_ms.0, span_ms.1].into_iter().map(|t| match this.truth.at(t, this.host_now_ms, this.backlog_from_ms) {
            Expected::Held { index, .. } => Some(index),
            _ => None,
        });
    indexes.next().flatten().zip(indexes.next().flatten())
}

/// Closed gaps of which more than an end lies in the span.
fn gaps_within(this: &Compared<'_>, (from_ms, to_ms): (i64, i64)) -> Vec<Gap> {
    let gaps = this.truth.gaps_between(from_ms, to_ms).into_iter();
    gaps.filter(|gap| gap.to_ms > from_ms && gap.from_ms.is_some_and(|begin| begin < to_ms)).collect()
}

fn are(told: &[ClosedGap], gaps: &[Gap]) -> bool {
    let told = told.iter().map(|g| (g.from_wall_ms, g.to_wall_ms, g.reason));
    told.eq(gaps.iter().map(|g| (g.from_ms, g.to_ms, g.reason)))
}

/// `diff` of two instants.
pub(crate) async fn diff(this: &mut Compared<'_>, span_ms: (i64, i64)) -> Kept {
    let expected = held(this, span_ms);
    let instants = (Instant::At(span_ms.0), Instant::At(span_ms.1));
    let answer = ask_diff(&mut this.reading, this.host, instants, this.now_ms, MOST_RECORDS).await;
    match (answer, expected) {
        (Ok(DiffAnswer::Compared(diff)), Some((first, last))) => {
            let what = is_diff(this, &diff, first, last);
            let gaps = gaps_within(this, span_ms);
            let what = what.or_else(|| (!are(&diff.gaps, &gaps)).then(|| format!("{:?}, not {gaps:?}", diff.gaps)));
            what.map_or(Ok(()), |what| broken(format!("{}: diff {span_ms:?}: {what}", this.host)))
        }
        (Ok(DiffAnswer::Gap(_)) | Err(AskError::Future { .. }), None) => Ok(()),
        (Err(error), _) => broken(format!("{}: diff {span_ms:?}: {error}", this.host)),
        (Ok(_), expected) => broken(format!("{}: diff {span_ms:?}: not that of {expected:?}", this.host)),
    }
}

/// What is wrong with a diff of two entries.
fn is_diff(this: &Compared<'_>, diff: &Diff, first: usize, last: usize) -> Option<String> {
    let (a, b) = (this.truth.entries[first].snapshot()?, this.truth.entries[last].snapshot()?);
    if diff.before != *a || diff.after != *b {
        return Some("other samples".to_owned());
    }
    let told: BTreeSet<_> = diff.limits.iter().map(|l| (l.namespace, l.resource, l.before, l.after)).collect();
    let limits = counting::limits(&a.state, &b.state);
    if told != limits {
        return Some(format!("limits {told:?} and not {limits:?}"));
    }
    let sums = |sum: highwater::query::diff::Sum| (sum.objects, sum.semaphores, sum.bytes);
    let told: OwnerSums =
        diff.owners.iter().map(|o| ((o.namespace, o.kind, o.uid), (sums(o.before), sums(o.after)))).collect();
    let owners = counting::sums(&a.state, &b.state);
    if told != owners {
        return Some(format!("owners {told:?} and not {owners:?}"));
    }
    let told: BTreeSet<_> = diff.unknown.iter().copied().collect();
    let unknown = counting::not_whole(&a.state, &b.state);
    if told != unknown {
        return Some(format!("unknown {told:?} and not {unknown:?}"));
    }
    if first > last {
        // The clock was set back: the later instant was sampled earlier, and what lives from one to the other is not
        // followed.
        return None;
    }
    let mut told: Vec<Change> = Vec::new();
    for change in &diff.objects {
        let object = change.before.or(change.after)?;
        told.push((change.namespace, object.kind(), object.id(), change.before, change.after));
    }
    told.sort_by_key(|(place, kind, id, before, _)| (*place, *kind, *id, before.is_none()));
    let changes = counting::changes(this.truth, first, last);
    (told != changes).then(|| format!("objects {told:?} and not {changes:?}"))
}

/// `blame` between two instants.
pub(crate) async fn blame(this: &mut Compared<'_>, span_ms: (i64, i64)) -> Kept {
    let expected = held(this, span_ms);
    let instants = (Some(Instant::At(span_ms.0)), Instant::At(span_ms.1));
    let answer = ask_blame(&mut this.reading, this.host, instants, &[], this.now_ms).await;
    match (answer, expected) {
        (Ok(BlameAnswer::Ranked(blame)), Some((first, last))) => {
            let what = is_blame(this, &blame, first, last);
            let gaps = gaps_within(this, span_ms);
            let what = what.or_else(|| (!are(&blame.gaps, &gaps)).then(|| format!("{:?}, not {gaps:?}", blame.gaps)));
            what.map_or(Ok(()), |what| broken(format!("{}: blame {span_ms:?}: {what}", this.host)))
        }
        (Ok(BlameAnswer::Gap(_)) | Err(AskError::Future { .. }), None) => Ok(()),
        (Err(error), _) => broken(format!("{}: blame {span_ms:?}: {error}", this.host)),
        (Ok(_), expected) => broken(format!("{}: blame {span_ms:?}: not that of {expected:?}", this.host)),
    }
}

/// What is wrong with a blame between two entries.
fn is_blame(this: &Compared<'_>, blame: &Blame, first: usize, last: usize) -> Option<String> {
    let (a, b) = (this.truth.entries[first].snapshot()?, this.truth.entries[last].snapshot()?);
    if blame.after != *b {
        return Some("another sample".to_owned());
    }
    let sums = |sum: highwater::query::diff::Sum| (sum.objects, sum.semaphores, sum.bytes);
    let told: Owners = blame
        .owners
        .iter()
        .map(|o| {
            let comm = o.comm.as_ref().map(|comm| comm.as_bytes().to_vec());
            let key = (o.namespace, o.kind, o.uid, comm);
            (key, (sums(o.before), sums(o.after), o.orphans.clone(), o.orphan_bytes))
        })
        .collect();
    let (owners, unknown) = counting::owners(&a.state, &b.state);
    if told != owners || told.len() != blame.owners.len() {
        return Some(format!("owners {told:?} and not {owners:?}"));
    }
    let told: BTreeSet<_> = blame.unknown.iter().copied().collect();
    if told != unknown {
        return Some(format!("not known {told:?} and not {unknown:?}"));
    }
    let falls = blame.owners.windows(2).all(|pair| pair[0].net() >= pair[1].net());
    (!falls).then(|| "whoever grew most does not come first".to_owned())
}
