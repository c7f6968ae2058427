//! Pieces to what is stored of them: chunks, epochs, what remains of the gaps, and what they say of the host. Pure.

use highwater_ipc::availability::Availability;
use highwater_ipc::chunk::{ChunkError, ChunkWriter, Head, Told};
use highwater_ipc::record::{Epoch, EpochId, EpochNo, GapReason, RecordKind, Seq};
use highwater_ipc::risk::Risk;
use highwater_ipc::snapshot::{BootId, State};
use highwater_ipc::time::At;

use super::hole::{Mark, Piece};
use super::judging::Judging;
use super::pack::Taken;
use super::plan::{Run, runs};
use crate::compact::derive::{self, Derived, Deriver};
use crate::host::HostId;
use crate::query::find::{Filter, FilterBuilder};
use crate::query::walk::{Place, Position};
use crate::store::chunk::Chunk;
use crate::store::day::Day;
use crate::store::gap::Gap;
use crate::store::host_status::{Present, Usage};
use crate::store::imported::Imported;

/// Bytes of a chunk's ended segments after which it is ended.
const CHUNK_BYTES: usize = 1 << 20;

/// How far apart the numbers of epochs are that begin a millisecond apart: what retention has shortened can be imported
/// again in front of what is left, which keeps its number.
const NUMBERS_PER_MS: u64 = 256;

/// What does not come from the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Whose history it becomes.
    pub(super) host: HostId,
    /// The collector's clock, milliseconds.
    pub(super) now_ms: i64,
    /// The file's median step, milliseconds.
    pub(super) median_ms: i64,
    /// The form has no interval of its own: the median stands for it.
    pub(super) is_flat: bool,
    /// Random: what the epochs' ids are made of.
    pub(super) seed: u64,
}

/// What is to be stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Built {
    pub(super) epochs: Vec<Imported>,
    pub(super) chunks: Vec<Chunk>,
    /// Records whose gap is to be deleted.
    pub(super) filled: Vec<(EpochNo, Seq)>,
    /// What remains of the gaps.
    pub(super) gaps: Vec<Gap>,
    /// What follows from the states, run by run.
    pub(super) derived: Vec<Derived>,
    /// What the file says of the host itself, where a run begins or it changes.
    pub(super) described: Vec<Described>,
    /// What the newest state says of the present.
    pub(super) newest: Option<(Present, Usage)>,
}

/// What is true of a host beside its objects, from an instant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// The host's wall clock, milliseconds.
    pub(super) wall_ms: i64,
    /// Whether it can do System V IPC.
    pub(super) availability: Availability,
    /// What threatens it.
    pub(super) risks: Vec<Risk>,
    /// Its boot.
    pub(super) boot_id: BootId,
}

/// The number of an epoch that begins at this wall time: in the order of time, which is the order of history between two
/// stretches of an agent.
fn epoch_no(from_ms: i64) -> EpochNo {
    let ms = u64::try_from(from_ms).unwrap_or(0);
    EpochNo(EpochNo::IMPORTED.0.saturating_add(ms.saturating_mul(NUMBERS_PER_MS)).saturating_add(NUMBERS_PER_MS / 2))
}

/// Makes what is stored of one piece; of a host whose history is judged by imports, `judging` gets its samples, too.
pub(super) fn build(
    mut piece: Piece,
    context: &Context,
    built: &mut Built,
    mut judging: Option<&mut Judging>,
) -> Result<(), ChunkError> {
    let runs = runs(&piece, context.median_ms);
    gaps(&piece, &runs, context, built);
    let packed = std::mem::take(&mut piece.packed);
    let mut open: Option<Writing<'_>> = None;
    // What the last state of the run before was, and when.
    let mut earlier: Option<(State, i64)> = None;
    let mut place = (0_usize, 0_usize);
    packed.each(|taken| {
        let (mark, run) = (place.0, runs.get(place.1));
        place.0 = place.0.saturating_add(1);
        let (Some(run), Some(at)) = (run.filter(|run| mark >= run.marks.0), piece.marks.get(mark)) else {
            return Ok(());
        };
        let writing = open.get_or_insert_with(|| {
            let mut writing = Writing::new(&piece, run, context, taken.state.boot_id);
            let earlier = earlier.as_ref().map(|(state, wall_ms)| derive::Before { state, wall_ms: *wall_ms });
            writing.deriver = writing.deriver.following(earlier);
            writing
        });
        writing.take(at, &taken, judging.as_deref_mut())?;
        if mark == run.marks.1 {
            place.1 = place.1.saturating_add(1);
            let ends =
                runs.get(place.1).map_or(piece.tail, |next| piece.marks.get(next.marks.0).and_then(|m| m.reason));
            if let Some(writing) = open.take() {
                writing.finish(ends, built, judging.as_deref_mut());
            }
            earlier = Some((taken.state.clone(), at.from_ms));
        }
        Ok::<(), ChunkError>(())
    })
}

/// One run on its way into chunks.
struct Writing<'a> {
    run: &'a Run,
    context: &'a Context,
    after: (EpochNo, i32),
    epoch: Epoch,
    boot_id: BootId,
    interval_ms: u32,
    writer: ChunkWriter,
    chunks: Vec<Chunk>,
    objects: FilterBuilder,
    deriver: Deriver,
    described: Vec<Described>,
    /// The own namespace of the last state.
    own: Option<(u64, Usage)>,
    next: Seq,
    /// First sample, and the last: its clock and until when it was confirmed.
    first: Option<At>,
    last: Option<(At, i64)>,
    /// Head of the open chunk's first record, and of its last.
    span: Option<(Head, Head)>,
}

impl<'a> Writing<'a> {
    fn new(piece: &Piece, run: &'a Run, context: &'a Context, boot_id: BootId) -> Self {
        let no = epoch_no(piece.marks.get(run.marks.0).map_or(0, |mark| mark.from_ms));
        Self {
            run,
            context,
            after: piece.hole.after,
            epoch: Epoch { no, id: EpochId(context.seed ^ no.0.rotate_left(17)) },
            boot_id,
            interval_ms: 0,
            writer: ChunkWriter::new(),
            chunks: Vec::new(),
            objects: Filter::builder(),
            deriver: Deriver::new(context.host, no, None),
            described: Vec::new(),
            own: None,
            next: Seq(0),
            first: None,
            last: None,
            span: None,
        }
    }

    fn take(&mut self, mark: &Mark, taken: &Taken<'_>, judging: Option<&mut Judging>) -> Result<(), ChunkError> {
        let before_ms = self.last.map(|(_, end_ms)| end_ms);
        self.last = Some((taken.at, mark.end_ms));
        if self.first.is_some() && mark.is_same && !mark.is_own {
            return Ok(());
        }
        self.first.get_or_insert(At { wall_ms: mark.from_ms, ..taken.at });
        let turns = self.span.is_some_and(|(first, _)| {
            Day::of(first.wall_ms) != Day::of(mark.from_ms) || self.writer.bytes() >= CHUNK_BYTES
        });
        if turns {
            self.turn();
        }
        let kind = if before_ms.is_none() { RecordKind::Keyframe } else { RecordKind::Delta };
        let (wall_ms, received_ms) = (mark.from_ms, self.context.now_ms);
        let head = Head { seq: self.next, kind, wall_ms, prev_wall_ms: before_ms, received_ms };
        let gap = mark.reason.filter(|_| before_ms.is_none());
        let told = Told::Sample { took_us: taken.took_us, gap, activity: taken.activity.clone() };
        let median_ms = u32::try_from(self.context.median_ms).unwrap_or(u32::MAX);
        if self.context.is_flat {
            let state = State { interval_ms: median_ms, ..taken.state.clone() };
            self.writer.push(&head, taken.at, &told, Some(&state))?;
            self.pass(&head, taken, &state, judging);
        } else {
            self.writer.push(&head, taken.at, &told, Some(taken.state))?;
            self.pass(&head, taken, taken.state, judging);
        }
        self.interval_ms = median_ms;
        self.next = self.next.next();
        self.span = Some((self.span.map_or(head, |(first, _)| first), head));
        Ok(())
    }

    /// What is derived from states is derived from these, too.
    fn pass(&mut self, head: &Head, taken: &Taken<'_>, state: &State, judging: Option<&mut Judging>) {
        if let Some(judging) = judging {
            let position = Position { place: Place::imported(self.after, self.epoch.no, 0), seq: head.seq };
            judging.sample(position, head, taken, state);
        }
        self.objects.add(state);
        let State { availability, risks, boot_id, .. } = state;
        let known = |d: &Described| (&d.availability, &d.risks, &d.boot_id) == (availability, risks, boot_id);
        if !self.described.last().is_some_and(known) {
            let (availability, risks) = (availability.clone(), risks.clone());
            self.described.push(Described { wall_ms: head.wall_ms, availability, risks, boot_id: *boot_id });
        }
        self.own = state.namespaces.first().map(|n| (n.id.inode, Usage { totals: n.totals, limits: n.limits }));
        self.deriver.sample(&derive::Sample {
            seq: head.seq,
            wall_ms: head.wall_ms,
            boot_us: taken.at.boot_us,
            prev_wall_ms: head.prev_wall_ms,
            begins_stretch: head.prev_wall_ms.is_none(),
            state,
            activity: &taken.activity,
        });
    }

    /// Ends the open chunk.
    fn turn(&mut self) {
        let writer = std::mem::take(&mut self.writer);
        let Some((first, last)) = self.span.take() else { return };
        self.chunks.push(Chunk {
            host: self.context.host,
            epoch: self.epoch.no,
            stretch: 0,
            from_wall_ms: first.wall_ms,
            from: first.seq,
            part: Day::of(self.context.now_ms).week(),
            to: last.seq,
            to_wall_ms: last.wall_ms,
            prev_wall_ms: first.prev_wall_ms,
            records: u32::try_from(writer.records()).unwrap_or(u32::MAX),
            baseline: false,
            objects: std::mem::replace(&mut self.objects, Filter::builder()).finish(),
            body: writer.finish(),
        });
    }

    fn finish(mut self, ends: Option<GapReason>, built: &mut Built, judging: Option<&mut Judging>) {
        self.turn();
        let (Some(from), Some((last, end_ms))) = (self.first, self.last) else { return };
        let end_ms = self.run.end_ms.max(end_ms);
        let on_us = end_ms.saturating_sub(last.wall_ms).max(0).unsigned_abs().saturating_mul(1_000);
        built.epochs.push(Imported {
            epoch: self.epoch,
            boot_id: self.boot_id,
            records: self.next.0,
            from,
            end: At { wall_ms: end_ms, boot_us: last.boot_us.saturating_add(on_us) },
            interval_ms: self.interval_ms,
            after: self.after,
            end_reason: ends.unwrap_or(GapReason::Unexplained),
        });
        let (namespace, usage) = self.own.take().unzip();
        let present =
            Present { sampled_wall_ms: end_ms, interval_ms: self.interval_ms, backlog_from_ms: None, namespace };
        if built.newest.is_none_or(|(newest, _)| newest.sampled_wall_ms <= end_ms) {
            built.newest = Some((present, usage.unwrap_or_default()));
        }
        built.described.append(&mut self.described);
        built.chunks.append(&mut self.chunks);
        if let Some(judging) = judging {
            judging.covered(self.epoch.no, end_ms);
        }
        self.deriver.ended(end_ms);
        built.derived.push(self.deriver.finish());
    }
}

/// What remains of the gap that the hole was.
fn gaps(piece: &Piece, runs: &[Run], context: &Context, built: &mut Built) {
    let hole = &piece.hole;
    let stored = hole.gap();
    let unexplained = (GapReason::Unexplained, String::new());
    let before = match (stored, hole.low_ms) {
        (Some(gap), _) => (gap.reason, gap.detail.clone()),
        (None, None) => (GapReason::BeforeFirst, String::new()),
        (None, Some(_)) => unexplained.clone(),
    };
    let mut low_ms = hole.low_ms;
    for (i, run) in runs.iter().enumerate() {
        let Some(first) = piece.marks.get(run.marks.0) else { continue };
        let said = first.reason.map(|reason| (reason, String::new()));
        let (reason, detail) = match i {
            0 if stored.is_none() && low_ms.is_some() => said.unwrap_or_else(|| before.clone()),
            0 => before.clone(),
            _ => said.unwrap_or_else(|| unexplained.clone()),
        };
        let key = (epoch_no(first.from_ms), Seq(0));
        remain((low_ms, first.from_ms), key, (reason, detail), context, built);
        low_ms = Some(run.end_ms);
    }
    let Some(high) = &hole.high else { return };
    if high.gap.is_some() && stored.is_none() {
        return;
    }
    if stored.is_some() {
        built.filled.push(high.first);
    }
    let after = match (piece.tail, stored, hole.low_ms) {
        (Some(reason), ..) => (reason, String::new()),
        (None, Some(gap), Some(_)) => (gap.reason, gap.detail.clone()),
        _ => unexplained,
    };
    remain((low_ms, high.from_ms), high.first, after, context, built);
}

/// A gap, if there is an instant in it.
fn remain(
    (from_ms, to_ms): (Option<i64>, i64),
    (epoch, seq): (EpochNo, Seq),
    (reason, detail): (GapReason, String),
    context: &Context,
    built: &mut Built,
) {
    if from_ms.is_none_or(|from_ms| from_ms < to_ms.saturating_sub(1)) {
        built.gaps.push(Gap {
            host: context.host,
            epoch,
            seq,
            from_wall_ms: from_ms,
            to_wall_ms: to_ms,
            reason,
            detail,
        });
    }
}
