//! What the product answers of one host, against what is true. All of it is asked in one reading, as one answer would be,
//! so that a compaction beside it must change nothing.

use highwater::host::HostId;
use highwater::query::as_of::{Answer, Held, Instant, as_of};
use highwater::query::event::Happened;
use highwater::query::fold::Said;
use highwater::query::gap::{Gap, GapState};
use highwater::query::timeline::{Question, Timeline, timeline};
use highwater::query::walk::{Begin, Position, Step, Walk};
use highwater::query::{AskError, Reading};
use highwater::store::Db;
use highwater_tests::chance::Chance;

use crate::truth::{Entry, Expected, Of, Place, Told, Truth};
use crate::world::{Kept, broken};
use crate::{compare_find, compare_lists, compare_two};

/// One host under comparison.
pub(crate) struct Compared<'w> {
    pub(crate) reading: Reading,
    pub(crate) host: HostId,
    pub(crate) truth: &'w Truth,
    pub(crate) now_ms: i64,
    /// Where it is as far as the collector knows, by its own clock.
    pub(crate) host_now_ms: i64,
    pub(crate) backlog_from_ms: Option<i64>,
}

/// Compares all answers about a host: the whole history, and questions at `instants` random places.
pub(crate) async fn compare(
    db: &Db,
    (host, truth): (HostId, &Truth),
    now_ms: i64,
    instants: usize,
    mut chance: Chance,
) -> Kept {
    let mut reading = Reading::begin(db).await.or_else(unanswered)?;
    let status = reading.status(host).await.or_else(unanswered)?;
    let host_now_ms = now_ms + status.as_ref().map_or(0, |s| s.skew_ms);
    let backlog_from_ms = status.and_then(|s| s.backlog_from_ms);
    let mut this = Compared { reading, host, truth, now_ms, host_now_ms, backlog_from_ms };
    this.walk_all().await?;
    this.newest().await?;
    for asked_ms in asked(truth, instants, &mut chance) {
        this.at(asked_ms).await?;
    }
    if truth.instants.is_empty() {
        return Ok(());
    }
    for _ in 0..instants.div_ceil(8) {
        this.walk_some(&mut chance).await?;
        this.walk_on(&mut chance).await?;
        let span = span(truth, &mut chance);
        compare_two::diff(&mut this, span).await?;
        compare_two::blame(&mut this, span).await?;
        compare_find::find(&mut this, span, &mut chance).await?;
        this.timeline(span).await?;
    }
    Ok(())
}

pub(crate) fn unanswered<T, E: std::fmt::Display>(error: E) -> Kept<T> {
    broken(format!("no answer: {error}"))
}

/// Instants to ask for: at samples, a millisecond beside them, in between, before the first, after the last.
pub(crate) fn asked(truth: &Truth, most: usize, chance: &mut Chance) -> Vec<i64> {
    let known = &truth.instants;
    let Some(last) = known.last() else { return vec![i64::try_from(chance.below(1 << 41)).unwrap_or(0)] };
    let mut asked = vec![known.iter().min().unwrap_or(last) - 1, *last, last + 1];
    let grace_ms = truth.interval_ms() * 3;
    asked.extend([last + grace_ms, last + grace_ms + 1]);
    asked.extend(
        truth.stretches.iter().rev().take(most / 4).flat_map(|s| [s.from_ms - 1, s.from_ms, s.to_ms, s.to_ms + 1]),
    );
    for _ in 0..most {
        let (one, other) = (chance.pick(known), chance.pick(known));
        asked.push(match chance.below(4) {
            0 => one,
            1 => one - 1,
            2 => one + 1,
            _ => one.midpoint(other),
        });
    }
    asked
}

/// Two instants, mostly such that something is stored of.
fn span(truth: &Truth, chance: &mut Chance) -> (i64, i64) {
    let mut one = || chance.pick(&truth.instants) + i64::try_from(chance.below(3)).unwrap() - 1;
    let (one, other) = (one(), one());
    (one.min(other), one.max(other))
}

pub(crate) fn place(position: Position) -> Place {
    (position.place.epoch(), position.place.number())
}

impl Compared<'_> {
    pub(crate) fn wrong<T>(&self, what: impl std::fmt::Display) -> Kept<T> {
        broken(format!("{}: {what}", self.host))
    }

    /// Whether a step of a walk is that entry.
    fn is(&self, step: &Step, index: usize, opening: bool) -> Kept {
        let entry = &self.truth.entries[index];
        let is = step.opening == opening
            && (place(step.position), step.position.seq) == entry.position()
            && (step.prev_wall_ms, step.received_ms) == (entry.prev_wall_ms, entry.received_ms)
            && says(&step.said, entry, opening);
        if is { Ok(()) } else { self.wrong(format!("the walk came to {step:?} and not to {index}: {entry:?}")) }
    }

    /// A walk must come to these entries, opening or not, and to nothing else.
    async fn walks(&mut self, (begin, until_ms): (Begin, i64), expected: &[(usize, bool)]) -> Kept {
        let mut steps = Vec::new();
        let mut walk = Walk::new(&mut self.reading, self.host, begin, until_ms);
        while let Some(step) = walk.next().await.or_else(unanswered)? {
            steps.push(step);
        }
        for (step, (index, opening)) in steps.iter().zip(expected) {
            self.is(step, *index, *opening)?;
        }
        if steps.len() != expected.len() {
            let (got, wanted) = (steps.len(), expected.len());
            return self.wrong(format!("a walk {begin:?}..{until_ms} has {got} records and not {wanted}"));
        }
        Ok(())
    }

    /// The whole history: each record once, in order.
    async fn walk_all(&mut self) -> Kept {
        let all: Vec<_> = (0..self.truth.entries.len()).map(|index| (index, false)).collect();
        self.walks((Begin::At(i64::MIN), i64::MAX), &all).await
    }

    /// The history between two instants.
    async fn walk_some(&mut self, chance: &mut Chance) -> Kept {
        let (from_ms, until_ms) = span(self.truth, chance);
        let truth = self.truth;
        let expected: Vec<_> = truth.walk((from_ms, until_ms)).into_iter().map(|(i, of)| (i, of != Of::Span)).collect();
        self.walks((Begin::At(from_ms), until_ms), &expected).await
    }

    /// The history from one record on.
    async fn walk_on(&mut self, chance: &mut Chance) -> Kept {
        let truth = self.truth;
        let from = chance.index(truth.entries.len());
        let entry = &truth.entries[from];
        let Some(number) = truth.stretches.iter().position(|s| s.place == entry.place) else { return Ok(()) };
        let before = truth.entries_of(entry.place).filter(|(index, e)| *index < from && e.snapshot().is_some()).last();
        let before = before.map(|(index, _)| index).or_else(|| {
            let earlier = number.checked_sub(1)?;
            truth.held(&truth.stretches[earlier], i64::MAX).map(|(index, _)| index)
        });
        let mut expected: Vec<_> = before.into_iter().map(|index| (index, true)).collect();
        expected.extend((from..truth.entries.len()).map(|index| (index, false)));
        let place = highwater::query::walk::Place::own(entry.place.0, entry.place.1);
        let begin = Begin::With(Position { place, seq: entry.seq });
        self.walks((begin, i64::MAX), &expected).await
    }

    /// What was held at an instant, and everything that is said with it.
    async fn at(&mut self, asked_ms: i64) -> Kept {
        let expected = self.truth.at(asked_ms, self.host_now_ms, self.backlog_from_ms);
        let answer = as_of(&mut self.reading, self.host, Instant::At(asked_ms), self.now_ms).await;
        let answer = match answer {
            Ok(as_of) => Some(as_of.answer),
            Err(AskError::Future { .. }) => None,
            Err(error) => return self.wrong(format!("as of {asked_ms}: {error}")),
        };
        let agrees = match (&expected, &answer) {
            (Expected::Future, None) => true,
            (Expected::Held { index, until_ms, also }, Some(Answer::Held(held))) => {
                self.holds(held, *index, *until_ms) && held.also_ms == *also
            }
            (Expected::Closed { from_ms, to_ms, reason }, Some(Answer::Gap(gap))) => {
                let told = (gap.from_ms, gap.to_ms, gap.state, gap.reason);
                told == (*from_ms, Some(*to_ms), GapState::Closed, Some(*reason))
            }
            (Expected::Open { from_ms }, Some(Answer::Gap(gap))) => self.is_open(gap, *from_ms),
            _ => false,
        };
        if agrees {
            return Ok(());
        }
        let answer = answer.as_ref().map(short);
        let expected = match expected {
            Expected::Held { index, .. } => format!("{expected:?} {:?}", self.truth.entries[index]),
            other => format!("{other:?}"),
        };
        self.wrong(format!("as of {asked_ms} it says {answer:?} and not {expected}"))
    }

    fn is_open(&self, gap: &Gap, from_ms: Option<i64>) -> bool {
        let state =
            if self.backlog_from_ms.is_some() && from_ms.is_some() { GapState::Pending } else { GapState::Open };
        (gap.from_ms, gap.to_ms, gap.state) == (from_ms, None, state)
    }

    pub(crate) fn holds(&self, held: &Held, index: usize, until_ms: i64) -> bool {
        let entry = &self.truth.entries[index];
        let Some(snapshot) = entry.snapshot() else { return false };
        held.snapshot == *snapshot
            && (place(held.position), held.position.seq) == entry.position()
            && held.covered_ms == (snapshot.at.wall_ms, until_ms)
            && held.received_ms == entry.received_ms
    }

    /// The newest sample, and the present: that sample or the gap behind it.
    async fn newest(&mut self) -> Kept {
        let expected = self.truth.last();
        for instant in [Instant::Last, Instant::Now] {
            let answer = as_of(&mut self.reading, self.host, instant, self.now_ms).await.or_else(unanswered)?.answer;
            let agrees = match (&answer, expected) {
                (Answer::Held(held), Some((index, until_ms))) => self.holds(held, index, until_ms),
                (Answer::Gap(gap), Some(_)) => {
                    instant == Instant::Now && self.is_open(gap, self.truth.stretches.last().map(|s| s.to_ms))
                }
                (Answer::Gap(gap), None) => gap.from_ms.is_none() && gap.to_ms.is_none(),
                (Answer::Held(_), None) => false,
            };
            if !agrees {
                return self.wrong(format!("{instant:?} is {} and not {expected:?}", short(&answer)));
            }
        }
        Ok(())
    }

    /// The gaps of a span; and pages say what the whole says.
    async fn timeline(&mut self, span_ms: (i64, i64)) -> Kept {
        let whole = self.page(span_ms, usize::MAX, None).await?.events;
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(span_ms, 7, after).await?;
            paged.extend(page.events);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if paged != whole {
            let differs = paged.iter().zip(&whole).position(|(paged, whole)| paged != whole);
            let differs = differs.unwrap_or(paged.len().min(whole.len()));
            let (paged, whole) = (paged.get(differs), whole.get(differs));
            return self
                .wrong(format!("the timeline {span_ms:?} tells in pages {paged:?}, {differs}, and not {whole:?}"));
        }
        let (told, lists) = (compare_lists::told(&whole), compare_lists::expected(self.truth, span_ms));
        if told != lists {
            return self.wrong(format!("the timeline {span_ms:?} tells of lists {told:?} and not {lists:?}"));
        }
        let expected = self.truth.gaps_between(span_ms.0, span_ms.1);
        let (mut gaps, mut open) = (Vec::new(), 0);
        for event in whole {
            match event.happened {
                Happened::Gap(gap) if gap.state == GapState::Closed => gaps.push(gap),
                Happened::Gap(_) => open += 1,
                _ => {}
            }
        }
        let is = |(gap, of): (&Gap, &crate::truth::Gap)| {
            (gap.from_ms, gap.to_ms, gap.reason) == (of.from_ms, Some(of.to_ms), Some(of.reason))
        };
        if gaps.len() != expected.len() || !gaps.iter().zip(&expected).all(is) || open > 1 {
            return self.wrong(format!("the timeline {span_ms:?} tells {gaps:?}, {open} open, and not {expected:?}"));
        }
        Ok(())
    }

    async fn page(
        &mut self,
        span_ms: (i64, i64),
        most: usize,
        after: Option<highwater::query::timeline::Bookmark>,
    ) -> Kept<Timeline> {
        let question = Question { span_ms, kinds: Vec::new(), subject: None, most, after };
        timeline(&mut self.reading, self.host, &question, self.now_ms).await.or_else(unanswered)
    }
}

/// Whether a record says what is true. What a walk opens with is the state alone, with what happened before it.
pub(crate) fn says(said: &Said, entry: &Entry, opening: bool) -> bool {
    match (said, &entry.told) {
        (Said::Sample { snapshot, gap, activity }, Told::Sample { snapshot: read, gap: why, activity: acts }) => {
            snapshot == read && **activity == *acts && (opening || gap == why)
        }
        (Said::Event(at, event), Told::Event(then, told)) => (at, event) == (then, told),
        (Said::GapReason(at, reason), Told::GapReason(then, told)) => (at, reason) == (then, told),
        _ => false,
    }
}

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Held(held) => format!(
            "{:?} covered {:?} received {} also {:?}: {:?}",
            held.position, held.covered_ms, held.received_ms, held.also_ms, held.snapshot
        ),
        Answer::Gap(gap) => format!("{gap:?}"),
    }
}
