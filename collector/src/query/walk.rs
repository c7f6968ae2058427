//! Hands over what was recorded of one host, record after record, in (epoch, seq) order.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_ipc::record::Seq;
use highwater_ipc::snapshot::Snapshot;

use super::AskError;
use super::fold::{Said, read};
use super::past::{Unpacking, confirmed_ms, state_until};
use crate::host::HostId;
use crate::store::history::{ClosedGap, Reading, StoredRecord, Stretch, Tier, Until};

pub use crate::store::history::Place;

/// Where a record is. Its order is the order of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its stretch.
    pub place: Place,
    /// Its place in its epoch.
    pub seq: Seq,
}

impl Position {
    /// The place after this one in its stretch, whether or not there is a record.
    pub fn next(self) -> Self {
        Self { seq: self.seq.next(), ..self }
    }
}

/// Where a walk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// After what was held at this wall time, milliseconds: in every stretch that holds it.
    At(i64),
    /// With this record.
    With(Position),
}

/// One record on the way.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where it is.
    pub position: Position,
    /// The stretch it belongs to.
    pub stretch: Arc<Stretch>,
    /// Wall clock as stored, milliseconds: that of the sample, but where the clock was set back a little.
    pub wall_ms: i64,
    /// Wall clock of the sample before it, milliseconds; `None` = the first of its epoch.
    pub prev_wall_ms: Option<i64>,
    /// Collector's clock when it came, milliseconds.
    pub received_ms: i64,
    /// What it says.
    pub said: Said,
    /// It lies before the walk's begin and only says what was there: nothing happened at it.
    pub opening: bool,
}

impl Step {
    /// Whether it only says what was held before a span that its stretch shares no instant with: one that was over before
    /// or, where the clock was set back since, one whose times all lie behind the span.
    pub fn is_before(&self, (from_ms, until_ms): (i64, i64)) -> bool {
        self.opening && (self.stretch.end_wall_ms < from_ms || self.stretch.from_wall_ms > until_ms)
    }
}

/// A walk that is under way.
#[derive(Debug)]
pub struct Walk<'r> {
    reading: &'r mut Reading,
    host: HostId,
    from_ms: i64,
    until_ms: i64,
    resume: Option<Position>,
    /// Stretches up to this place are done, or known.
    place: Option<Place>,
    is_first: bool,
    stretches: VecDeque<Arc<Stretch>>,
    current: Option<Arc<Stretch>>,
    /// The next record of the current stretch is this one or a later one.
    from: Seq,
    page: Option<Page>,
    state: Option<Arc<Snapshot>>,
}

/// What lies open.
#[derive(Debug)]
enum Page {
    Chunk(Box<Unpacking>),
    Tail(VecDeque<StoredRecord>),
}

/// Stretches fetched at once.
const STRETCHES: i64 = 64;

/// Records of a tail fetched at once: a body can have 16 MiB.
const RECORDS: i64 = 64;

impl<'r> Walk<'r> {
    /// Begins a walk that ends with the last record at or before `until_ms` (host's wall clock) of each stretch.
    pub fn new(reading: &'r mut Reading, host: HostId, begin: Begin, until_ms: i64) -> Self {
        let (from_ms, resume) = match begin {
            Begin::At(from_ms) => (from_ms, None),
            Begin::With(position) => (i64::MIN, Some(position)),
        };
        Self {
            reading,
            host,
            from_ms,
            until_ms,
            resume,
            place: None,
            is_first: true,
            stretches: VecDeque::new(),
            current: None,
            from: Seq(0),
            page: None,
            state: None,
        }
    }

    /// Limits a walk that was begun with a position to stretches and events at or after this wall time.
    pub fn not_before(mut self, from_ms: i64) -> Self {
        self.from_ms = from_ms;
        self
    }

    /// The next record; `None` = that was all.
    pub async fn next(&mut self) -> Result<Option<Step>, AskError> {
        loop {
            if let Some(stretch) = self.current.clone() {
                if let Some(step) = self.read(&stretch)? {
                    return Ok(Some(step));
                }
                if self.page.is_none() && !self.turn(&stretch).await? {
                    self.current = None;
                }
                continue;
            }
            let Some(stretch) = self.next_stretch().await? else { return Ok(None) };
            self.current = Some(stretch.clone());
            self.from = Seq(0);
            if let Some(opening) = self.open(&stretch).await? {
                return Ok(Some(opening));
            }
        }
    }

    /// The gap that a stretch's first record closed.
    pub async fn gap_before(&mut self, stretch: &Stretch) -> Result<Option<ClosedGap>, AskError> {
        Ok(self.reading.gap_before(self.host, stretch).await?)
    }

    /// Until when the last state of a stretch within the walk was confirmed, host's wall clock, milliseconds.
    pub async fn confirmed_ms(&mut self, stretch: &Stretch) -> Result<i64, AskError> {
        let found = state_until(self.reading, self.host, stretch, Until::Wall(self.until_ms)).await?;
        match found {
            Some(found) => confirmed_ms(self.reading, self.host, stretch, &found).await,
            None => Ok(stretch.end_wall_ms),
        }
    }

    /// The next record of the page; without one the page is closed.
    fn read(&mut self, stretch: &Arc<Stretch>) -> Result<Option<Step>, AskError> {
        let (seq, (wall_ms, prev_wall_ms), received_ms, said) = match &mut self.page {
            None => return Ok(None),
            Some(Page::Tail(records)) => {
                let Some(record) = records.pop_front() else {
                    self.page = None;
                    return Ok(None);
                };
                let said = read(self.state.as_ref().map(|s| &s.state), &record)?;
                (record.seq, (record.wall_ms, record.prev_wall_ms), record.received_ms, said)
            }
            Some(Page::Chunk(chunk)) => {
                let Some(record) = chunk.next_until(self.until_ms)? else {
                    // What is left of it lies beyond the walk's end, and so does the rest of the stretch.
                    if !chunk.is_done()? {
                        self.current = None;
                    }
                    self.from = self.from.max(chunk.to.next());
                    self.page = None;
                    return Ok(None);
                };
                (record.seq, (record.wall_ms, record.prev_wall_ms), record.received_ms, record.said)
            }
        };
        self.from = seq.next();
        if let Said::Sample { snapshot, .. } = &said {
            self.state = Some(snapshot.clone());
        }
        let position = Position { place: stretch.place, seq };
        let stretch = stretch.clone();
        Ok(Some(Step { position, stretch, wall_ms, prev_wall_ms, received_ms, said, opening: false }))
    }

    /// Opens the next page of a stretch; `false` = there is none.
    async fn turn(&mut self, stretch: &Arc<Stretch>) -> Result<bool, AskError> {
        for tier in [Tier::Merged, Tier::Fresh] {
            if let Some(packed) = self.reading.chunk_from(self.host, stretch, (tier, self.from)).await? {
                if packed.from_wall_ms > self.until_ms {
                    return Ok(false);
                }
                self.page = Some(Page::Chunk(Box::new(Unpacking::new(packed, self.from)?)));
                return Ok(true);
            }
        }
        let page = self.reading.tail_page(self.host, stretch, self.from, (self.until_ms, RECORDS)).await?;
        let is_there = !page.is_empty();
        self.page = is_there.then(|| Page::Tail(page.into()));
        Ok(is_there)
    }

    async fn next_stretch(&mut self) -> Result<Option<Arc<Stretch>>, AskError> {
        if let Some(position) = self.resume.filter(|_| self.place.is_none()) {
            self.place = Some(position.place);
            let of_it = (position.place.epoch(), position.place.number());
            if let Some(stretch) = self.reading.stretch(self.host, of_it).await?
                && stretch.from_wall_ms <= self.until_ms
            {
                return Ok(Some(Arc::new(stretch)));
            }
        }
        if self.stretches.is_empty() {
            let span = (self.from_ms, self.until_ms);
            let more = self.reading.stretches_between(self.host, span, self.place, STRETCHES).await?;
            self.place = more.last().map(|s| s.place).or(self.place);
            self.stretches = more.into_iter().map(Arc::new).collect();
        }
        Ok(self.stretches.pop_front())
    }

    /// What was there when the walk enters a stretch, if its first records do not say it themselves.
    async fn open(&mut self, stretch: &Arc<Stretch>) -> Result<Option<Step>, AskError> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let resume = self.resume.take().filter(|p| p.place == stretch.place);
        let until = match resume {
            Some(position) => {
                self.from = position.seq;
                Some(Until::Before(position.seq))
            }
            None if stretch.from_wall_ms <= self.from_ms => Some(Until::Wall(self.from_ms)),
            None => None,
        };
        if let Some(until) = until
            && let Some(opening) = self.state_until(stretch, until).await?
        {
            if resume.is_none() {
                self.from = opening.position.seq.next();
            }
            return Ok(Some(opening));
        }
        if !is_first {
            return Ok(None);
        }
        // Where a walk goes on, what was told last is the stretch before it that lies in the span, too.
        let span = (self.from_ms, self.until_ms);
        let told = self.reading.stretch_before_in(self.host, stretch.place, span).await?;
        let until_ms = if told.is_some() { self.until_ms } else { i64::MAX };
        let before = match told {
            Some(told) => Some(told),
            None => self.reading.stretch_before(self.host, stretch.place).await?,
        };
        let Some(before) = before else { return Ok(None) };
        let end_ms = before.end_wall_ms.min(until_ms);
        self.state_until(&Arc::new(before), Until::Wall(end_ms)).await
    }

    async fn state_until(&mut self, stretch: &Arc<Stretch>, until: Until) -> Result<Option<Step>, AskError> {
        let Some(found) = state_until(self.reading, self.host, stretch, until).await? else { return Ok(None) };
        self.state = Some(found.snapshot.clone());
        Ok(Some(Step {
            position: Position { place: stretch.place, seq: found.seq },
            stretch: stretch.clone(),
            wall_ms: found.wall_ms,
            prev_wall_ms: found.prev_wall_ms,
            received_ms: found.received_ms,
            said: Said::Sample { snapshot: found.snapshot, gap: None, activity: found.activity },
            opening: true,
        }))
    }
}
