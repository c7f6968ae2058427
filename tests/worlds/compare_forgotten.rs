//! What is left after retention, against what is true: less may be said, nothing else may be said, and from the last week
//! that went on nothing is missing.

use highwater::host::HostId;
use highwater::query::Reading;
use highwater::query::as_of::{Answer, Held, Instant, as_of};
use highwater::query::walk::{Begin, Walk};
use highwater::store::Db;
use highwater_ipc::record::GapReason;
use highwater_tests::chance::Chance;

use crate::compare::{Compared, asked, place, says, unanswered};
use crate::truth::{Expected, Truth};
use crate::world::{Kept, broken};
use crate::{compare_find, compare_two};

/// Compares what is left of a host; history before `horizon_ms` may be gone. Says how many spans were asked for.
pub(crate) async fn compare(
    db: &Db,
    (host, truth): (HostId, &Truth),
    (now_ms, horizon_ms): (i64, i64),
    mut chance: Chance,
) -> Kept<u64> {
    let mut reading = Reading::begin(db).await.or_else(unanswered)?;
    walk(&mut reading, (host, truth), horizon_ms).await?;
    let newest = as_of(&mut reading, host, Instant::Last, now_ms).await.or_else(unanswered)?.answer;
    match (&newest, truth.last()) {
        (Answer::Held(held), Some((index, until_ms))) if is(truth, held, index, until_ms) => {}
        (_, last) => {
            let entry = last.map(|(index, _)| &truth.entries[index]);
            return broken(format!("{host}: the newest sample {last:?} is forgotten: {newest:?}, not {entry:?}"));
        }
    }
    for asked_ms in asked(truth, 16, &mut chance) {
        // Later than its newest sample is the present's matter.
        if truth.stretches.last().is_some_and(|newest| asked_ms > newest.to_ms) {
            continue;
        }
        let Ok(answer) = as_of(&mut reading, host, Instant::At(asked_ms), now_ms).await else {
            return broken(format!("{host}: after retention there is no answer as of {asked_ms}"));
        };
        let got = format!("{answer:?}");
        let right = match (truth.at(asked_ms, now_ms, None), answer.answer) {
            (_, Answer::Held(held)) => {
                // Of stretches that hold the instant the last may be gone, and an earlier one not.
                let mut holding = truth.stretches.iter().filter(|s| s.from_ms <= asked_ms && asked_ms <= s.to_ms);
                holding.any(|s| truth.held(s, asked_ms).is_some_and(|(index, until)| is(truth, &held, index, until)))
            }
            (Expected::Held { .. }, Answer::Gap(gap)) => asked_ms < horizon_ms && gap.reason.is_some(),
            (Expected::Closed { to_ms, reason, .. }, Answer::Gap(gap)) if asked_ms >= horizon_ms => {
                gap.to_ms == Some(to_ms) && (gap.reason == Some(reason) || gap.reason == Some(GapReason::Retention))
            }
            _ => true,
        };
        if !right {
            let expected = truth.at(asked_ms, now_ms, None);
            return broken(format!(
                "{host}: after retention before {horizon_ms} as of {asked_ms} is {got}, not {expected:?}"
            ));
        }
    }
    let status = reading.status(host).await.or_else(unanswered)?;
    let host_now_ms = now_ms + status.map_or(0, |s| s.skew_ms);
    let this = Compared { reading, host, truth, now_ms, host_now_ms, backlog_from_ms: None };
    spans(this, horizon_ms, &mut chance).await
}

/// Of instants from which on nothing is forgotten `diff`, `blame` and `find` say what they said before.
async fn spans(mut this: Compared<'_>, horizon_ms: i64, chance: &mut Chance) -> Kept<u64> {
    const SPANS: u64 = 4;
    let kept: Vec<i64> = this.truth.instants.iter().copied().filter(|instant| *instant >= horizon_ms).collect();
    // Where the clock was set back since, one time can be that of what is gone and of what is left.
    let is_straight = this.truth.stretches.windows(2).all(|pair| pair[0].to_ms <= pair[1].from_ms);
    if kept.is_empty() || !is_straight {
        return Ok(0);
    }
    for _ in 0..SPANS {
        let (one, other) = (chance.pick(&kept), chance.pick(&kept));
        let span = (one.min(other), one.max(other));
        compare_two::diff(&mut this, span).await?;
        compare_two::blame(&mut this, span).await?;
        let terms = [compare_find::Term::any(chance)];
        compare_find::past(&mut this, span, (&terms, 1_000)).await?;
    }
    Ok(SPANS)
}

fn is(truth: &Truth, held: &Held, index: usize, until_ms: i64) -> bool {
    let entry = &truth.entries[index];
    entry.snapshot().is_some_and(|snapshot| *snapshot == held.snapshot)
        && (place(held.position), held.position.seq) == entry.position()
        && held.covered_ms.1 == until_ms
        && held.received_ms == entry.received_ms
}

/// What is left comes in order, each record once and as it was; what is missing is older than the horizon.
async fn walk(reading: &mut Reading, (host, truth): (HostId, &Truth), horizon_ms: i64) -> Kept {
    let mut walk = Walk::new(reading, host, Begin::At(i64::MIN), i64::MAX);
    let mut entries = truth.entries.iter();
    while let Some(step) = walk.next().await.or_else(unanswered)? {
        let entry = loop {
            match entries.next() {
                Some(entry) if (place(step.position), step.position.seq) == entry.position() => break entry,
                Some(entry) if entry.wall_ms < horizon_ms => {}
                other => {
                    let words = format!("after retention before {horizon_ms} a walk came to {step:?}, not {other:?}");
                    return broken(format!("{host}: {words}"));
                }
            }
        };
        if step.received_ms != entry.received_ms || !says(&step.said, entry, step.opening) {
            return broken(format!("{host}: after retention a walk came to {step:?}, not {entry:?}"));
        }
    }
    match entries.find(|entry| entry.wall_ms >= horizon_ms) {
        Some(entry) => broken(format!("{host}: retention before {horizon_ms} took {entry:?}")),
        None => Ok(()),
    }
}
