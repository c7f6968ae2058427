//! Hands over what was recorded of one host, record after record, in (epoch, seq) order.

use std::collections::VecDeque;
use std::sync::Arc;

use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::Snapshot;

use super::AskError;
use super::fold::{FoldError, Said, fold_with_activity, read};
use crate::host::HostId;
use crate::store::history::{Reading, StoredRecord, Stretch, Until};

/// Where a record is. Its order is the order of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its epoch.
    pub epoch: EpochNo,
    /// Its stretch in that epoch.
    pub stretch: i32,
    /// Its place in that epoch.
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
    /// Wall clock of the sample before it, milliseconds; `None` = the first of its epoch.
    pub prev_wall_ms: Option<i64>,
    /// What it says.
    pub said: Said,
    /// It lies before the walk's begin and only says what was there: nothing happened at it.
    pub opening: bool,
}

/// A walk that is under way.
#[derive(Debug)]
pub struct Walk<'r> {
    reading: &'r mut Reading,
    host: HostId,
    from_ms: i64,
    until_ms: i64,
    resume: Option<Position>,
    place: Option<(EpochNo, i32)>,
    is_first: bool,
    stretches: VecDeque<Arc<Stretch>>,
    current: Option<Arc<Stretch>>,
    after: Option<Seq>,
    page: VecDeque<StoredRecord>,
    state: Option<Arc<Snapshot>>,
}

/// Stretches fetched at once.
const STRETCHES: i64 = 64;

/// Records fetched at once: a body can have 16 MiB.
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
            // Strictly after this place: the stretch of the position itself is the first.
            place: resume.map(|p| (p.epoch, p.stretch.saturating_sub(1))),
            is_first: true,
            stretches: VecDeque::new(),
            current: None,
            after: None,
            page: VecDeque::new(),
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
            if let (Some(stretch), Some(record)) = (self.current.clone(), self.page.pop_front()) {
                self.after = Some(record.seq);
                return self.step(stretch, &record).map(Some);
            }
            if let Some(stretch) = self.current.clone() {
                let limits = (self.until_ms, RECORDS);
                let page = self.reading.records_after(self.host, &stretch, self.after, limits).await?;
                if page.is_empty() {
                    self.current = None;
                } else {
                    self.page = page.into();
                }
                continue;
            }
            let Some(stretch) = self.next_stretch().await? else { return Ok(None) };
            self.current = Some(stretch.clone());
            self.after = None;
            if let Some(opening) = self.open(&stretch).await? {
                return Ok(Some(opening));
            }
        }
    }

    fn step(&mut self, stretch: Arc<Stretch>, record: &StoredRecord) -> Result<Step, AskError> {
        let said = read(self.state.as_ref().map(|s| &s.state), record)?;
        if let Said::Sample { snapshot, .. } = &said {
            self.state = Some(snapshot.clone());
        }
        let position = Position { epoch: stretch.epoch, stretch: stretch.number, seq: record.seq };
        Ok(Step { position, stretch, prev_wall_ms: record.prev_wall_ms, said, opening: false })
    }

    async fn next_stretch(&mut self) -> Result<Option<Arc<Stretch>>, AskError> {
        if self.stretches.is_empty() {
            let span = (self.from_ms, self.until_ms);
            let more = self.reading.stretches_between(self.host, span, self.place, STRETCHES).await?;
            self.place = more.last().map(Stretch::place).or(self.place);
            self.stretches = more.into_iter().map(Arc::new).collect();
        }
        Ok(self.stretches.pop_front())
    }

    /// What was there when the walk enters a stretch, if its first records do not say it themselves.
    async fn open(&mut self, stretch: &Arc<Stretch>) -> Result<Option<Step>, AskError> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let resume = self.resume.take().filter(|p| (p.epoch, p.stretch) == stretch.place());
        let until = match resume {
            Some(position) => {
                self.after = position.seq.0.checked_sub(1).map(Seq);
                Some(Until::Before(position.seq))
            }
            None if stretch.from_wall_ms <= self.from_ms => Some(Until::Wall(self.from_ms)),
            None => None,
        };
        if let Some(until) = until
            && let Some(opening) = self.state_until(stretch, until).await?
        {
            if resume.is_none() {
                self.after = Some(opening.position.seq);
            }
            return Ok(Some(opening));
        }
        if !is_first {
            return Ok(None);
        }
        let Some(before) = self.reading.stretch_before(self.host, stretch.place()).await? else { return Ok(None) };
        let end_ms = before.end_wall_ms;
        self.state_until(&Arc::new(before), Until::Wall(end_ms)).await
    }

    async fn state_until(&mut self, stretch: &Arc<Stretch>, until: Until) -> Result<Option<Step>, AskError> {
        let Some(place) = self.reading.state_place(self.host, stretch, until).await? else { return Ok(None) };
        let records = self.reading.state_records(self.host, stretch, &place).await?;
        let (snapshot, activity) = fold_with_activity(&records)?;
        let last = records.last().ok_or(FoldError::Empty)?;
        self.state = Some(snapshot.clone());
        Ok(Some(Step {
            position: Position { epoch: stretch.epoch, stretch: stretch.number, seq: place.seq },
            stretch: stretch.clone(),
            prev_wall_ms: last.prev_wall_ms,
            said: Said::Sample { snapshot, gap: None, activity },
            opening: true,
        }))
    }
}
