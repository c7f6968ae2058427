//! What a flag's limit was used over the span that the flag rests on: from a day before it was raised, or from where its
//! growth begins, to when it was cleared, or to the newest sample. Read of the slots of `usage`, thinned for one answer.
//!
//! Nothing is told between two slots that changed: what the first one left was in use until the second.

use highwater_ipc::snapshot::State;

use super::judge::Memory;
use super::state;
use crate::flag::Flag;
use crate::query::AskError;
use crate::query::as_of::{Answer, Instant, as_of};
use crate::store::StoreError;
use crate::store::day::Day;
use crate::store::history::Reading;
use crate::store::usage::{Step, UsageRow, Used};
use crate::thinning::kept;

/// The most samples of one answer.
pub const MOST: usize = 48;
const DAY_MS: i64 = 86_400_000;
/// How long before a flag was raised its samples begin, milliseconds.
const LEAD_MS: i64 = DAY_MS;
/// And how long at most, where its growth rests on more.
const MOST_LEAD_MS: i64 = 14 * DAY_MS;
/// A longer span is told by the hour, milliseconds.
const FINE_MS: i64 = 2 * DAY_MS;
/// Rows of a host that are read at once.
const PAGE: usize = 5_000;
/// Rows of a host that are read for one answer, those of its other namespaces with them; of a host that has more the
/// answer tells the beginning and the end.
const MOST_ROWS: usize = 100_000;

/// What was in use at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When: where its slot begins or ends, or the span does; host's wall clock, milliseconds.
    pub at_ms: i64,
    /// The most that was in use at once in the slot that begins then; where one ends, what it left.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// A slot of the flag's namespace and limit.
type Slot = (i64, Used);

/// The samples of a flag, in order, at most [`MOST`]; `now_ms` is the collector's wall clock.
pub async fn of_flag(reading: &mut Reading, flag: &Flag, now_ms: i64) -> Result<Vec<Sample>, AskError> {
    let end = end(reading, flag, now_ms).await?;
    let to_ms = end.at_ms;
    let from_ms = begin_ms(flag.raised_ms, to_ms, grown_ms(reading, flag).await?);
    let mut left = MOST_ROWS;
    let mut step = if to_ms.saturating_sub(from_ms) <= FINE_MS { Step::TenMinutes } else { Step::Hour };
    let mut slots = slots(reading, flag, step, (floor(from_ms, step), to_ms), &mut left).await?;
    if slots.is_empty() && step == Step::TenMinutes {
        // Hours are kept for longer.
        step = Step::Hour;
        slots = self::slots(reading, flag, step, (floor(from_ms, step), to_ms), &mut left).await?;
    }
    let is_told = slots.first().is_some_and(|(slot_ms, _)| *slot_ms <= from_ms);
    let before = if is_told { None } else { before(reading, flag, from_ms, &mut left).await? };
    Ok(thinned(&told(before, &slots, step.length_ms(), (from_ms, end)), MOST))
}

/// What was in use at the span's end: when it was cleared, or as the newest sample read it; if that does not show it, what
/// it was judged with.
async fn end(reading: &mut Reading, flag: &Flag, now_ms: i64) -> Result<Sample, AskError> {
    let judged = |at_ms: i64| Sample { at_ms, used: flag.used, limit: flag.limit };
    if let Some(cleared_ms) = flag.cleared_ms {
        return Ok(judged(cleared_ms));
    }
    let newest = as_of(reading, flag.host, Instant::Last, now_ms).await?.answer;
    let Answer::Held(held) = newest else { return Ok(judged(flag.raised_ms)) };
    let at_ms = held.covered_ms.1;
    let (used, limit) = read(flag, &held.snapshot.state).unwrap_or((flag.used, flag.limit));
    Ok(Sample { at_ms, used, limit })
}

/// Used and limit as a sample read them.
fn read(flag: &Flag, state: &State) -> Option<(u64, u64)> {
    let namespace = state.namespaces.iter().find(|namespace| namespace.id == flag.namespace)?;
    Some(flag.resource.of(namespace.totals.as_ref()?, namespace.limits.as_ref()?))
}

/// Over how long the growth was seen that a flag rests on which is up, milliseconds; `None` = it is over or rests on none,
/// or that is not known.
async fn grown_ms(reading: &mut Reading, flag: &Flag) -> Result<Option<i64>, StoreError> {
    if flag.cleared_ms.is_some() || flag.growth_per_hour.is_none() {
        return Ok(None);
    }
    let bytes = reading.judged(flag.host).await?.and_then(|judged| judged.memory);
    let memory = bytes.and_then(|bytes| state::unpack::<Memory>(&bytes));
    Ok(memory.and_then(|memory| memory.grown_ms(flag.id)))
}

/// Where the span of a flag begins that was raised at that instant and ends at this one.
fn begin_ms(raised_ms: i64, to_ms: i64, grown_ms: Option<i64>) -> i64 {
    let grown_ms = grown_ms.map_or(i64::MAX, |grown_ms| to_ms.saturating_sub(grown_ms.max(0)));
    let usual_ms = raised_ms.saturating_sub(LEAD_MS);
    usual_ms.min(grown_ms).max(raised_ms.saturating_sub(MOST_LEAD_MS))
}

/// Where the slot begins that holds an instant.
fn floor(ms: i64, step: Step) -> i64 {
    ms.saturating_sub(ms.rem_euclid(step.length_ms()))
}

/// The slots of a flag that begin in a span, in order; `left` is how many rows may yet be read.
async fn slots(
    reading: &mut Reading,
    flag: &Flag,
    step: Step,
    (mut from_ms, to_ms): (i64, i64),
    left: &mut usize,
) -> Result<Vec<Slot>, StoreError> {
    let mut slots = Vec::new();
    while from_ms <= to_ms && *left > 0 {
        let most = PAGE.min(*left);
        let rows = reading.usage(flag.host, step, (from_ms, to_ms), i64::try_from(most).unwrap_or(i64::MAX)).await?;
        *left = left.saturating_sub(rows.len());
        let is_last = rows.len() < most;
        let Some(last_ms) = rows.last().map(|row| row.slot_ms) else { break };
        // Of the last slot of a full page rows may be missing: it is read again, unless it fills a page.
        let again = !is_last && last_ms > from_ms;
        add(&mut slots, flag, rows.iter().filter(|row| !again || row.slot_ms < last_ms));
        if is_last {
            break;
        }
        from_ms = if again { last_ms } else { last_ms.saturating_add(step.length_ms()) };
    }
    Ok(slots)
}

/// Adds what rows say of a flag's limit. The host's own namespace is one over boots, two of which can be in one slot.
fn add<'r>(slots: &mut Vec<Slot>, flag: &Flag, rows: impl Iterator<Item = &'r UsageRow>) {
    let is_it = |row: &&UsageRow| if flag.own { row.own } else { row.namespace == flag.namespace };
    for row in rows.filter(is_it) {
        let used = row.of(flag.resource);
        match slots.last_mut() {
            Some((slot_ms, there)) if *slot_ms == row.slot_ms => {
                *there = Used {
                    last: used.last.or(there.last),
                    most: there.most.max(used.most),
                    limit: used.limit.or(there.limit),
                };
            }
            _ => slots.push((row.slot_ms, used)),
        }
    }
}

/// What was in use as a span began: what the newest slot before it left, which is not older than its month.
async fn before(
    reading: &mut Reading,
    flag: &Flag,
    from_ms: i64,
    left: &mut usize,
) -> Result<Option<Used>, StoreError> {
    let step = Step::TenMinutes;
    let month_ms = step.part(Day::of(from_ms)).start_ms();
    let day_ms = floor(from_ms.saturating_sub(DAY_MS), step).max(month_ms);
    let spans = [(day_ms, from_ms.saturating_sub(1)), (month_ms, day_ms.saturating_sub(1))];
    for span in spans {
        if let Some((_, used)) = slots(reading, flag, step, span, left).await?.pop() {
            return Ok(Some(used));
        }
    }
    Ok(None)
}

/// What slots of that length tell of a span: what was in use as it began, the most of each slot, what is left where that is
/// less, and how it ended.
fn told(before: Option<Used>, slots: &[Slot], length_ms: i64, (from_ms, end): (i64, Sample)) -> Vec<Sample> {
    let sample = |at_ms: i64, used: Option<u64>, limit: Option<u64>| Some(Sample { at_ms, used: used?, limit: limit? });
    let mut told: Vec<Sample> = before.and_then(|used| sample(from_ms, used.last, used.limit)).into_iter().collect();
    for (at, (slot_ms, used)) in slots.iter().enumerate() {
        let over_ms = slot_ms.saturating_add(length_ms);
        let is_followed = slots.get(at.saturating_add(1)).is_some_and(|(next_ms, _)| *next_ms <= over_ms);
        told.extend(sample((*slot_ms).max(from_ms), used.most.or(used.last), used.limit));
        if used.last < used.most && !is_followed {
            told.extend(sample(over_ms, used.last, used.limit));
        }
    }
    told.retain(|sample| sample.at_ms < end.at_ms);
    told.push(end);
    told
}

/// At most `most` of them, evenly, but the first, the last and the highest in any case.
pub fn thinned(samples: &[Sample], most: usize) -> Vec<Sample> {
    let used: Vec<u64> = samples.iter().map(|sample| sample.used).collect();
    kept(&used, most).into_iter().filter_map(|at| samples.get(at).copied()).collect()
}

#[cfg(test)]
mod tests {
    use highwater_ipc::limits::Resource;
    use highwater_ipc::snapshot::NamespaceId;

    use super::*;
    use crate::flag::{Eta, FlagId, Kind, Severity};
    use crate::host::HostId;

    const SLOT_MS: i64 = 600_000;

    fn used(last: u64, most: u64) -> Used {
        Used { last: Some(last), most: Some(most), limit: Some(40) }
    }

    fn told_of(before: Option<Used>, slots: &[Slot], from_ms: i64, end: (i64, u64)) -> Vec<(i64, u64)> {
        let end = Sample { at_ms: end.0, used: end.1, limit: 40 };
        told(before, slots, SLOT_MS, (from_ms, end)).into_iter().map(|s| (s.at_ms, s.used)).collect()
    }

    fn flag(own: bool) -> Flag {
        Flag {
            host: HostId(1),
            id: FlagId(1),
            namespace: NamespaceId { inode: 7, instance: 2 },
            own,
            resource: Resource::Semmni,
            kind: Kind::Tight,
            severity: Severity::Warning,
            raised_ms: 0,
            cleared_ms: None,
            used: 0,
            limit: 40,
            growth_per_hour: None,
            eta: Eta::default(),
            holder: None,
            cause: None,
            follows: None,
            notify: true,
            why: String::new(),
            remedy: Vec::new(),
        }
    }

    #[test]
    fn a_span_tells_how_it_began_each_peak_what_that_left_and_how_it_ended() {
        let slots = [(2 * SLOT_MS, used(20, 30)), (3 * SLOT_MS, used(25, 25)), (6 * SLOT_MS, used(5, 38))];
        let told = told_of(Some(used(10, 12)), &slots, 1, (9 * SLOT_MS + 1, 5));
        let at = |slot: i64, used| (slot * SLOT_MS, used);
        assert_eq!(told, [(1, 10), at(2, 30), at(3, 25), at(6, 38), at(7, 5), (9 * SLOT_MS + 1, 5)]);
    }

    #[test]
    fn a_span_begins_within_a_slot_and_ends_within_one() {
        let slots = [(0, used(20, 20)), (SLOT_MS, used(0, 37))];
        let told = told_of(None, &slots, 5, (SLOT_MS + 5, 0));
        assert_eq!(told, [(5, 20), (SLOT_MS, 37), (SLOT_MS + 5, 0)]);
        assert_eq!(told_of(None, &[], 5, (9, 3)), [(9, 3)]);
    }

    #[test]
    fn of_what_was_gone_or_could_not_be_read_nothing_is_told() {
        let slots = [(SLOT_MS, Used::default()), (2 * SLOT_MS, Used { last: None, most: Some(8), limit: None })];
        assert_eq!(told_of(Some(Used::default()), &slots, 0, (9 * SLOT_MS, 3)), [(9 * SLOT_MS, 3)]);
    }

    #[test]
    fn a_span_begins_a_day_before_or_where_growth_does_but_no_more_than_two_weeks_before() {
        let day = |days: i64| days * DAY_MS;
        assert_eq!(begin_ms(day(100), day(101), None), day(99));
        assert_eq!(begin_ms(day(100), day(101), Some(day(1))), day(99));
        assert_eq!(begin_ms(day(100), day(101), Some(day(5))), day(96));
        assert_eq!(begin_ms(day(100), day(101), Some(day(60))), day(86));
        for (raised_ms, to_ms) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MIN, i64::MIN)] {
            assert!(begin_ms(raised_ms, to_ms, Some(i64::MIN)) <= raised_ms);
            let _ = floor(raised_ms, Step::Hour);
        }
    }

    #[test]
    fn the_own_namespace_is_one_over_boots_and_any_other_is_itself() {
        let row = |slot_ms, (inode, instance), own, last| {
            let mut all = [Used::default(); 5];
            let at = Resource::ALL.iter().position(|r| *r == Resource::Semmni).unwrap();
            all[at] = last;
            UsageRow { host: HostId(1), namespace: NamespaceId { inode, instance }, slot_ms, own, used: all }
        };
        let gone = Used { last: None, most: Some(9), limit: None };
        let rows = [
            row(0, (5, 1), true, used(9, 9)),
            row(0, (7, 2), false, used(1, 1)),
            row(SLOT_MS, (5, 1), true, gone),
            row(SLOT_MS, (5, 3), true, used(2, 3)),
            row(SLOT_MS, (7, 3), false, used(4, 4)),
        ];
        let slots = |own| {
            let mut slots = Vec::new();
            add(&mut slots, &flag(own), rows.iter());
            slots
        };
        assert_eq!(slots(true), [(0, used(9, 9)), (SLOT_MS, used(2, 9))]);
        assert_eq!(slots(false), [(0, used(1, 1))]);
    }
}
