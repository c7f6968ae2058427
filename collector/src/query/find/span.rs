//! A span of time: the lives of the objects in it, host after host. A host is walked if any of its chunks may hold such
//! an object, or if some of its records are in no chunk yet; runs of chunks that cannot hold one are passed over.

use highwater_ipc::record::{EpochNo, Seq};

use super::Question;
use super::expr::Expr;
use super::filter::Filter;
use super::lives::{Life, Lives};
use super::page::{Found, Page};
use crate::host::HostId;
use crate::query::AskError;
use crate::query::as_of::{Answer, Instant, as_of};
use crate::query::walk::{Begin, Position, Walk};
use crate::store::find::{ChunkObjects, SkewedHost};
use crate::store::history::Reading;

/// Hosts whose chunks are looked at in one statement.
const HOSTS: i64 = 128;

/// The most chunks that are looked at in one statement.
const MOST_CHUNKS: usize = 200_000;

/// The most chunks that a page looks at.
const MOST_LOOKED_AT: usize = 400_000;

/// The most records that a page reads, or rows of objects a hundred times that.
const MOST_RECORDS: usize = 200_000;

/// A shorter run of chunks is not passed over: its first record and its last state are read in any case.
const SHORTEST_RUN: usize = 3;

/// What a chunk may hold.
#[derive(Clone, Copy, Debug)]
struct May {
    /// An object that matches.
    matches: bool,
    /// One that matches what creation fixes: it may match in another chunk.
    lives: bool,
}

type Chunks = Vec<ChunkObjects<May>>;

/// A page of it; the span is of the collector's clock, milliseconds, both included.
pub(super) async fn find(
    reading: &mut Reading,
    question: &Question,
    mut page: Page<'_>,
    span_ms: (i64, i64),
    now_ms: i64,
) -> Result<Found, AskError> {
    let mut search = Search { question, span_ms, now_ms, records: 0, looked_at: 0 };
    if let Some(host) = page.half_told()
        && let Some(skew_ms) = reading.status(host.id).await?.map(|status| status.skew_ms)
    {
        let hosts = [SkewedHost { host, skew_ms }];
        if !search.hosts(reading, &mut page, &hosts).await? {
            return Ok(page.more());
        }
    }
    let (mut after, mut most) = (page.begin(), HOSTS);
    loop {
        let hosts = reading.hosts_to_search(after.as_ref(), question.expr.host_begins(), most).await?;
        let Some(last) = hosts.last().map(|h| h.host.clone()) else { return Ok(page.end()) };
        if !search.hosts(reading, &mut page, &hosts).await? {
            return Ok(page.more());
        }
        page.pass(&last);
        if page.is_full() || search.is_spent() {
            return Ok(page.more());
        }
        // About as many chunks at once as one statement may hand over.
        let each = search.looked_at.div_ceil(hosts.len().max(1)).max(1);
        most = i64::try_from(MOST_CHUNKS / 4 / each).unwrap_or(HOSTS).clamp(1, HOSTS);
        after = Some(last);
    }
}

/// A search under way, and what it has cost.
struct Search<'q> {
    question: &'q Question,
    span_ms: (i64, i64),
    now_ms: i64,
    records: usize,
    looked_at: usize,
}

impl Search<'_> {
    fn is_spent(&self) -> bool {
        self.records >= MOST_RECORDS || self.looked_at >= MOST_LOOKED_AT
    }

    /// Looks at these hosts, in order; `false` = the page is full.
    async fn hosts(
        &mut self,
        reading: &mut Reading,
        page: &mut Page<'_>,
        hosts: &[SkewedHost],
    ) -> Result<bool, AskError> {
        let expr = &self.question.expr;
        let wanted: Vec<&SkewedHost> = hosts.iter().filter(|h| expr.wants_host(&h.host)).collect();
        let ids: Vec<HostId> = wanted.iter().map(|h| h.host.id).collect();
        let for_life = expr.for_life();
        let judge = |objects: &[u8]| May {
            matches: Filter::may_match(objects, expr),
            lives: Filter::may_match(objects, &for_life),
        };
        let mut chunks = reading.chunks_in(&wanted, self.span_ms, MOST_CHUNKS, judge).await?;
        let count = chunks.as_ref().map_or(MOST_CHUNKS, |chunks| chunks.values().map(Vec::len).sum());
        self.looked_at = self.looked_at.saturating_add(count);
        let tails = reading.tails_of(&ids, self.span_ms.1).await?;
        for host in wanted {
            let id = host.host.id;
            // Of more chunks than that nothing is known: then the host is walked whole.
            let known: Option<Chunks> = chunks.as_mut().map(|chunks| chunks.remove(&id).unwrap_or_default());
            let in_chunk = known.as_ref().is_none_or(|chunks| chunks.iter().any(|chunk| chunk.told.matches));
            if !in_chunk && !tails.contains(&id) {
                continue;
            }
            if page.is_full() || !self.host(reading, page, host, &known.unwrap_or_default()).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Follows the lives on one host; `false` = the page is full.
    async fn host(
        &mut self,
        reading: &mut Reading,
        page: &mut Page<'_>,
        host: &SkewedHost,
        chunks: &Chunks,
    ) -> Result<bool, AskError> {
        let left = MOST_RECORDS.saturating_sub(self.records);
        let read = self.follow(reading, host, &runs(chunks), left).await;
        let lives = match page.or_unreadable(read)? {
            Some(Some(lives)) => lives,
            // It does not fit any more; alone it would not fit any page.
            Some(None) if page.has_begun() => return Ok(false),
            Some(None) => return Err(AskError::TooMuch { what: "records of one host", most: MOST_RECORDS }),
            None => Vec::new(),
        };
        Ok(page.take(&host.host, host.skew_ms, lives))
    }

    /// The lives on one host, in order; `None` = more than `left` records would have to be read.
    async fn follow(
        &mut self,
        reading: &mut Reading,
        host: &SkewedHost,
        runs: &[Run],
        left: usize,
    ) -> Result<Option<Vec<Life>>, AskError> {
        let (id, expr): (HostId, &Expr) = (host.host.id, &self.question.expr);
        let on_host = |ms: i64| ms.saturating_add(host.skew_ms);
        let (since_ms, until_ms) = (on_host(self.span_ms.0), on_host(self.span_ms.1));
        let mut lives = Lives::new(expr, (since_ms, until_ms));
        let mut begin = Some(Begin::At(since_ms));
        let mut records = 0_usize;
        while let Some(from) = begin.take() {
            let mut walk = Walk::new(reading, id, from, until_ms).not_before(since_ms);
            while let Some(step) = walk.next().await? {
                records = records.saturating_add(1);
                if records.saturating_add(lives.cost() / 100) > left {
                    return Ok(None);
                }
                lives.follow(&step);
                // Its first record is read in any case: it says until when the sample before was confirmed.
                if !step.opening
                    && let Some(run) = runs.iter().find(|run| run.holds(step.position))
                {
                    begin = Some(Begin::With(Position { seq: run.last.next(), ..step.position }));
                    break;
                }
            }
        }
        self.records = self.records.saturating_add(records).saturating_add(lives.cost() / 100);
        let end = if self.span_ms.1 >= self.now_ms { Instant::Now } else { Instant::At(until_ms) };
        let at_end = as_of(reading, id, end, self.now_ms).await?;
        Ok(Some(lives.finish(matches!(at_end.answer, Answer::Held(_)))))
    }
}

/// Consecutive chunks of one stretch that hold no object which ever matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    of: (EpochNo, i32),
    first: Seq,
    last: Seq,
}

impl Run {
    /// Whether it holds this record and more behind it.
    fn holds(&self, position: Position) -> bool {
        let Position { place, seq } = position;
        (place.epoch(), place.number()) == self.of && self.first <= seq && seq < self.last
    }
}

/// The runs that are worth passing over.
fn runs(chunks: &Chunks) -> Vec<Run> {
    let alike = |a: &ChunkObjects<May>, b: &ChunkObjects<May>| {
        (a.epoch, a.stretch, a.told.lives) == (b.epoch, b.stretch, b.told.lives)
    };
    let run = |chunks: &[ChunkObjects<May>]| {
        let (first, last) = (chunks.first().filter(|chunk| !chunk.told.lives)?, chunks.last()?);
        let of = (first.epoch, first.stretch);
        (chunks.len() >= SHORTEST_RUN).then_some(Run { of, first: first.from, last: last.to })
    };
    chunks.chunk_by(alike).filter_map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::walk::Place;

    #[test]
    fn three_chunks_and_more_of_one_stretch_that_hold_nothing_are_a_run() {
        let chunk = |stretch, from: u64, lives| {
            let (epoch, told) = (EpochNo(1), May { matches: lives, lives });
            ChunkObjects { epoch, stretch, from: Seq(from), to: Seq(from + 9), told }
        };
        let chunks = [(0, 0, true), (0, 10, false), (0, 20, false), (0, 30, false), (0, 40, true), (1, 50, false)];
        let chunks: Chunks = chunks.into_iter().map(|(stretch, from, lives)| chunk(stretch, from, lives)).collect();
        let run = Run { of: (EpochNo(1), 0), first: Seq(10), last: Seq(39) };
        assert_eq!(runs(&chunks), [run]);
        let at = |number, seq| Position { place: Place::own(EpochNo(1), number), seq: Seq(seq) };
        assert!(run.holds(at(0, 10)) && run.holds(at(0, 38)));
        assert!(!run.holds(at(0, 9)) && !run.holds(at(0, 39)) && !run.holds(at(1, 20)));
        assert_eq!(runs(&chunks[..3].to_vec()), []);
    }
}
