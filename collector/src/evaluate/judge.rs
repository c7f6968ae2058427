//! What of a host is going wrong: one flag for each series, kept from sample to sample. Pure.
//!
//! J1. Records are judged in the order of history, each once: what lies before the mark is passed over.
//! J2. A flag is up while the forecaster's is, or while calls are refused and for half an hour after.
//! J3. Its number follows from host, series, record and how many flags that series had, so that whoever judges the same
//!     again finds the same flag, however the records are cut into steps. What time alone decides is decided by the
//!     record that holds then, not by the one whose coming shows that time has passed.

use std::collections::{BTreeMap, BTreeSet};

use highwater_ipc::activity::{Activity, Did};
use highwater_ipc::limits::Resource;
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::{NamespaceId, State};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cause::tell::Question;
use super::cause::{self, Causes};
use super::feed::{self, Feed, Input, Place, Which};
use super::rules::Ruling;
use super::words;
use crate::flag::{Cause, Eta, Flag, FlagEvent, FlagId, Kind, Severity, What};
use crate::forecast::{self, Evaluator, Transition};
use crate::host::HostId;
use crate::query::walk::Position;

/// A refused call speaks so long, milliseconds.
const REFUSING_MS: i64 = 1_800_000;
/// `errno(3)`: no space left; of these calls: a limit is reached.
const ENOSPC: u32 = 28;

/// What is remembered of a host between two steps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The last record that was judged.
    mark: Option<Mark>,
    feed: Feed,
    series: BTreeMap<Which, Series>,
    causes: Causes,
    /// The place's present id and name.
    ids: BTreeMap<Place, (u64, u64)>,
}

impl Memory {
    /// Over how long the growth was seen that a flag rests on which is up, milliseconds; `None` = it rests on none, or is not
    /// up.
    pub fn grown_ms(&self, id: FlagId) -> Option<i64> {
        let series = self.series.values().find(|series| series.open.as_ref().is_some_and(|open| open.id == id))?;
        series.said.and_then(|said| said.why.grown_seconds()).map(ms)
    }
}

/// A record's place, in the order of history: its agent's own stretch, or of an imported one the own stretch before it and
/// its own; then its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Mark {
    base: (u64, i32),
    imported: Option<(u64, i32)>,
    seq: u64,
}

impl From<Position> for Mark {
    fn from(Position { place, seq }: Position) -> Self {
        let of = (place.epoch().0, place.number());
        match place.after() {
            None => Self { base: of, imported: None, seq: seq.0 },
            Some((epoch, number)) => Self { base: (epoch.0, number), imported: Some(of), seq: seq.0 },
        }
    }
}

impl Mark {
    /// Its epoch, and its place there.
    fn record(self) -> (EpochNo, Seq) {
        (EpochNo(self.imported.unwrap_or(self.base).0), Seq(self.seq))
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Series {
    evaluator: Evaluator,
    /// Flags that it had.
    raised: u32,
    /// What the forecaster says; `None` = nothing is wrong.
    said: Option<Said>,
    refused_ms: Option<i64>,
    used: u64,
    limit: u64,
    open: Option<Open>,
}

/// The forecaster's last word.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    severity: Severity,
    eta: Eta,
    why: forecast::why::Why,
}

/// A flag that is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    id: FlagId,
    kind: Kind,
    severity: Severity,
    raised_ms: i64,
    /// Transitions so far.
    events: u32,
    /// What was found last to make it grow.
    cause: Option<Cause>,
    /// The flag that it follows.
    follows: Option<FlagId>,
}

/// What a step changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Flags that were raised, refreshed or cleared, as they are at its end.
    pub flags: Vec<Flag>,
    /// Their transitions, in order.
    pub events: Vec<FlagEvent>,
}

/// One sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// Its record.
    pub position: Position,
    /// The sample.
    pub sample: feed::Sample<'s>,
    /// What happened just before it.
    pub activity: &'s Activity,
}

/// Judges one host's records, step by step.
#[derive(Debug)]
pub struct Judge {
    host: HostId,
    memory: Memory,
    ruling: Ruling,
    touched: BTreeMap<Which, Vec<Flag>>,
    events: Vec<FlagEvent>,
    /// The record by which what comes out is decided.
    by: (EpochNo, Seq),
    /// Wall time of the record that is being judged, milliseconds.
    now_ms: i64,
}

impl Judge {
    /// Goes on with what an earlier step left; the default begins anew. The ruling is the present one of its labels.
    pub fn new(host: HostId, memory: Memory, ruling: Ruling) -> Self {
        let by = memory.mark.map_or((EpochNo(0), Seq(0)), Mark::record);
        let (touched, events) = (BTreeMap::new(), Vec::new());
        Self { host, memory, ruling, touched, events, by, now_ms: 0 }
    }

    /// Takes the next sample; `false` = it lies before what was judged already, and is passed over.
    pub fn sample(&mut self, sample: &Sample<'_>) -> bool {
        let mark = Mark::from(sample.position);
        if self.memory.mark.is_some_and(|before| mark <= before) {
            return false;
        }
        self.now_ms = sample.sample.wall_ms;
        let before = self.events.len();
        let mut feed = std::mem::take(&mut self.memory.feed);
        let passed = feed.pass(&sample.sample, &mut |which, input| self.take(which, input));
        (self.memory.mark, self.by) = (Some(mark), mark.record());
        self.memory.ids =
            feed::places(sample.sample.state).map(|(place, id)| (place, (id.inode, id.instance))).collect();
        feed.read(&sample.sample, passed, &mut |which, input| self.take(which, input));
        self.memory.feed = feed;
        let (feed::Passed { follows, passed_ms }, activity) = (passed, sample.activity);
        let feed::Sample { boot_us, state, .. } = sample.sample;
        self.memory.causes.sample(&cause::Sample { follows, passed_ms, boot_us, state, activity }, &self.ruling.pace);
        self.refusals(sample);
        if self.events.len() > before {
            self.name_holders(state);
        }
        true
    }

    /// Says that what the last sample of that epoch read was still so then, host's wall clock, milliseconds. If that is not
    /// the last one that was judged, it says nothing.
    pub fn covered(&mut self, epoch: EpochNo, wall_ms: i64) {
        if self.memory.mark.is_none_or(|mark| mark.record().0 != epoch) {
            return;
        }
        let mut feed = std::mem::take(&mut self.memory.feed);
        feed.covered(wall_ms, &mut |which, input| self.take(which, input));
        self.memory.causes.covered(feed.passed_ms(), &self.ruling.pace);
        self.memory.feed = feed;
    }

    /// What to store; `state` is what the last sample read, which says who holds what and what to do.
    pub fn finish(mut self, state: Option<&State>) -> (Changes, Memory) {
        // Whoever looks at a flag that is up wants today's figures.
        let open: Vec<Which> = self.memory.series.iter().filter(|(_, s)| s.open.is_some()).map(|(w, _)| *w).collect();
        for (which, state) in open.into_iter().filter_map(|which| Some((which, state?))) {
            let cause = self.cause(which, state);
            self.refresh(which, |open| open.cause = cause);
        }
        self.let_go();
        let mut flags: Vec<Flag> = std::mem::take(&mut self.touched).into_values().flatten().collect();
        if let Some(state) = state {
            let mut open: Vec<&mut Flag> = flags.iter_mut().filter(|flag| flag.cleared_ms.is_none()).collect();
            words::explain(&mut open, state);
            for open_here in self.memory.series.values_mut().filter_map(|series| series.open.as_mut()) {
                open_here.follows = open.iter().find(|flag| flag.id == open_here.id).and_then(|flag| flag.follows);
            }
        }
        (Changes { flags, events: self.events }, self.memory)
    }

    /// A flag that is over before the step is would name nobody: so that is asked as it goes up.
    fn name_holders(&mut self, state: &State) {
        let flags = self.touched.values_mut().flatten();
        flags
            .filter(|flag| flag.cleared_ms.is_none() && flag.holder.is_none())
            .for_each(|flag| words::name_holder(flag, state));
    }

    /// Flags that follow one which is over are told by themselves from now on.
    fn let_go(&mut self) {
        let up: BTreeSet<FlagId> =
            self.memory.series.values().filter_map(|series| series.open.as_ref()).map(|open| open.id).collect();
        let leader = |series: &Series| series.open.as_ref().and_then(|open| open.follows);
        let alone = |series: &Series| leader(series).is_some_and(|leader| !up.contains(&leader));
        let alone: Vec<Which> = self.memory.series.iter().filter(|(_, s)| alone(s)).map(|(which, _)| *which).collect();
        for which in alone {
            self.refresh(which, |open| open.follows = None);
        }
    }

    /// Changes a flag that is up, which is stored then as it is.
    fn refresh(&mut self, which: Which, change: impl FnOnce(&mut Open)) {
        let namespace = self.namespace(which);
        let Some(series) = self.memory.series.get_mut(&which) else { return };
        let Some(mut open) = series.open.take() else { return };
        change(&mut open);
        let flag = flag((self.host, self.ruling), (which, namespace), series, &open);
        series.open = Some(open);
        self.touch(which, flag);
    }

    fn cause(&self, which: Which, state: &State) -> Option<Cause> {
        let series = self.memory.series.get(&which)?;
        let asked = Question {
            place: which.place,
            namespace: self.namespace(which),
            resource: which.resource(),
            used: (series.used, series.limit),
            growth_per_hour: growth_per_hour(series),
        };
        self.memory.causes.tell(&asked, state, &self.ruling.pace)
    }

    fn take(&mut self, which: Which, input: Input) {
        let Input::Row(row) = input else {
            if let Some(mut series) = self.memory.series.remove(&which)
                && let Some(open) = series.open.take()
            {
                self.close(which, &series, &open, self.now_ms, "its namespace is gone");
            }
            return;
        };
        let series = self.memory.series.entry(which).or_default();
        let mut evaluator = std::mem::take(&mut series.evaluator);
        (series.used, series.limit) = (row.used, row.limit);
        let at_ms = ms(row.at);
        let mut said: Vec<Transition> = Vec::new();
        evaluator.take(&row, &self.ruling.policy, |transition| said.push(transition));
        series.evaluator = evaluator;
        for transition in said {
            let series = self.memory.series.entry(which).or_default();
            series.said = transition.raised.then(|| Said {
                severity: severity(transition.severity),
                eta: Eta {
                    at_ms: transition.eta.map(ms),
                    low_ms: transition.eta_low.map(ms),
                    high_ms: transition.eta_high.map(ms),
                },
                why: transition.why,
            });
            self.decide(which, ms(transition.at), true);
        }
        self.decide(which, at_ms, false);
    }

    fn refusals(&mut self, sample: &Sample<'_>) {
        let at_ms = sample.sample.wall_ms;
        for act in sample.activity.acts.iter().filter(|act| act.did == Did::Refused(ENOSPC)) {
            let Some((namespace, bound)) = act.namespace.zip(act.bound_by) else { continue };
            let place = self.memory.ids.iter().find(|(_, id)| **id == (namespace.inode, namespace.instance));
            let Some(place) = place.map(|(place, _)| *place) else { continue };
            let which = self.memory.series.keys().find(|w| w.place == place && w.resource() == bound.resource).copied();
            let Some(which) = which else { continue };
            if let Some(series) = self.memory.series.get_mut(&which) {
                series.refused_ms = Some(at_ms);
            }
            self.decide(which, at_ms, true);
        }
    }

    /// Raises, refreshes or clears the flag of a series; `news` = something was said since it was decided last.
    fn decide(&mut self, which: Which, at_ms: i64, news: bool) {
        let Some(series) = self.memory.series.get_mut(&which) else { return };
        if series.refused_ms.is_some_and(|refused_ms| at_ms.saturating_sub(refused_ms) > REFUSING_MS) {
            series.refused_ms = None;
        } else if !news && series.refused_ms.is_none() {
            return;
        }
        let is_refusing = series.refused_ms.is_some();
        let Some((kind, severity)) = verdict(series.said.as_ref(), is_refusing) else {
            if let Some(open) = series.open.take() {
                let series = series.clone();
                self.close(which, &series, &open, at_ms, "the danger is over");
            }
            return;
        };
        let before = series.open.as_ref().map(|open| (open.severity, open.kind));
        let open = series.open.get_or_insert_with(|| {
            let id = FlagId(number(self.host, which, self.by, series.raised));
            series.raised = series.raised.saturating_add(1);
            Open { id, kind, severity, raised_ms: at_ms, events: 0, cause: None, follows: None }
        });
        let what = match before {
            None => Some(What::Raised),
            Some((was, _)) if was < severity => Some(What::Worsened),
            Some((was, _)) if was > severity => Some(What::Eased),
            Some(_) => None,
        };
        if !news && what.is_none() && before.is_some_and(|(_, was)| was == kind) {
            return;
        }
        (open.kind, open.severity) = (kind, severity);
        let no = open.events;
        open.events = open.events.saturating_add(u32::from(what.is_some()));
        let (open, series) = (open.clone(), series.clone());
        self.touch(which, flag((self.host, self.ruling), (which, self.namespace(which)), &series, &open));
        if let Some(what) = what {
            self.tell(&open, no, at_ms, what);
        }
    }

    fn close(&mut self, which: Which, series: &Series, open: &Open, at_ms: i64, why: &str) {
        let flag = flag((self.host, self.ruling), (which, self.namespace(which)), series, open);
        let cleared_ms = Some(at_ms.max(open.raised_ms));
        self.touch(which, Flag { cleared_ms, why: why.to_owned(), eta: Eta::default(), remedy: Vec::new(), ..flag });
        self.tell(open, open.events, at_ms, What::Cleared);
    }

    fn touch(&mut self, which: Which, flag: Flag) {
        let flags = self.touched.entry(which).or_default();
        match flags.iter_mut().find(|known| known.id == flag.id) {
            Some(known) => {
                let holder = flag.holder.or_else(|| known.holder.take());
                *known = Flag { holder, ..flag };
            }
            None => flags.push(flag),
        }
    }

    fn tell(&mut self, open: &Open, no: u32, at_ms: i64, what: What) {
        let (host, (epoch, seq), severity) = (self.host, self.by, open.severity);
        self.events.push(FlagEvent { host, flag: open.id, no, at_ms, epoch, seq, what, severity });
    }

    fn namespace(&self, which: Which) -> NamespaceId {
        let (inode, instance) = match (which.place, self.memory.ids.get(&which.place)) {
            (_, Some(id)) => *id,
            (Place::Other(inode, instance), None) => (inode, instance),
            (Place::Own, None) => (0, 0),
        };
        NamespaceId { inode, instance }
    }
}

fn verdict(said: Option<&Said>, is_refusing: bool) -> Option<(Kind, Severity)> {
    if is_refusing {
        return Some((Kind::Refusing, Severity::Critical));
    }
    let said = said?;
    Some((Kind::from_name(said.why.kind()).unwrap_or(Kind::Tight), said.severity))
}

fn growth_per_hour(series: &Series) -> Option<f64> {
    let growth = series.said.as_ref().and_then(|said| said.why.growth_per_hour());
    growth.filter(|growth| growth.is_finite())
}

fn flag(
    (host, ruling): (HostId, Ruling),
    (which, namespace): (Which, NamespaceId),
    series: &Series,
    open: &Open,
) -> Flag {
    let resource = which.resource();
    let mut why = words::why(resource, (series.used, series.limit), series.said.map(|s| s.why), open.kind);
    if let Some(cause) = &open.cause {
        why += &format!("; {}", cause::words::words(cause, resource));
    }
    Flag {
        host,
        id: open.id,
        namespace,
        own: which.place == Place::Own,
        resource,
        kind: open.kind,
        severity: open.severity,
        raised_ms: open.raised_ms,
        cleared_ms: None,
        used: series.used,
        limit: series.limit,
        growth_per_hour: growth_per_hour(series),
        eta: series.said.map(|said| said.eta).unwrap_or_default(),
        holder: None,
        cause: open.cause.clone(),
        follows: open.follows,
        notify: ruling.notify,
        why,
        remedy: Vec::new(),
    }
}

fn severity(severity: forecast::Severity) -> Severity {
    match severity {
        forecast::Severity::Warning => Severity::Warning,
        forecast::Severity::Critical => Severity::Critical,
    }
}

/// Positive, and the same for the same record and as many flags before.
fn number(host: HostId, which: Which, (epoch, seq): (EpochNo, Seq), before: u32) -> i64 {
    let text = format!("{host} {which:?} {} {} {before}", epoch.0, seq.0);
    let digest = Sha256::digest(text.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (i64::from_be_bytes(first) & i64::MAX).max(1)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
fn ms(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// The highest share of a limit that is in use, 0..1 and above: what says that a host is worth a look soon.
pub fn nearest(state: &State) -> f64 {
    let usage = |namespace: &highwater_ipc::snapshot::Namespace| {
        let (totals, limits) = (namespace.totals.as_ref()?, namespace.limits.as_ref()?);
        Some(Resource::ALL.map(|resource| {
            let (used, limit) = resource.of(totals, limits);
            highwater_ipc::limits::Usage { resource, used, limit }.ratio()
        }))
    };
    state.namespaces.iter().take(feed::MAX_NAMESPACES).filter_map(usage).flatten().fold(0.0, f64::max)
}
