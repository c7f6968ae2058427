//! The model of one segment: what was learned, and the state that the last record led to.

use alloc::sync::Arc;

use super::head::{Beside, Headed, Heads};
use super::number::Bytes;
use super::range::{Bit, Coder};
use super::row::{New, Now};
use super::world::{World, bare, rows};
use super::{ChunkError, Told};
use crate::activity::Activity;
use crate::codec::{pack_delta, pack_state, unpack_delta, unpack_state};
use crate::delta::{Delta, apply, diff};
use crate::record::{Record, Seq};
use crate::snapshot::State;
use crate::time::At;

/// The most bytes of a part that is packed as in a record.
const MAX_PART: usize = Record::MAX_BODY * 4;

/// What was learned in a segment.
pub(super) struct Model {
    heads: Heads,
    /// The state after the last sample.
    pub(super) state: Option<State>,
    world: World,
    /// Samples so far.
    samples: u32,
    other: Bit,
    parts: Bytes,
    nothing: Arc<Activity>,
}

/// What a writer is given.
pub(super) struct Wanted<'a> {
    pub(super) headed: Headed,
    pub(super) activity: Option<&'a Activity>,
    /// Of a sample its state.
    pub(super) state: Option<&'a State>,
}

impl Model {
    /// Of a segment whose first record is there.
    pub(super) fn new(first_seq: Seq, first_wall_ms: i64) -> Self {
        Self {
            heads: Heads::new(first_seq, first_wall_ms),
            state: None,
            world: World::new(),
            samples: 0,
            other: Bit::NEW,
            parts: Bytes::NEW,
            nothing: Arc::default(),
        }
    }

    /// Codes one record.
    ///
    /// # Errors
    /// What the bytes say and cannot be; of a writer, a state beyond the bounds.
    pub(super) fn code<C: Coder>(&mut self, c: &mut C, headed: &Headed, want: &Wanted<'_>) -> Result<Told, ChunkError> {
        let told = match headed.beside {
            Beside::Event(event) => Told::Event(event),
            Beside::GapReason(reason) => Told::GapReason(reason),
            Beside::Sample { took_us, gap } => {
                let activity = self.code_sample(c, &headed.at, want)?;
                Told::Sample { took_us, gap, activity }
            }
        };
        if self.state.is_none() {
            return Err(c.broken("a segment without a sample"));
        }
        c.checked()?;
        Ok(told)
    }

    /// Codes the head of a record; the state is as it was.
    ///
    /// # Errors
    /// What the bytes say and cannot be.
    pub(super) fn code_head<C: Coder>(&mut self, c: &mut C, want: &Headed) -> Result<Headed, ChunkError> {
        let interval_ms = self.state.as_ref().map_or(0, |state| state.interval_ms);
        let headed = self.heads.code(c, want, interval_ms)?;
        c.checked()?;
        Ok(headed)
    }

    fn code_sample<C: Coder>(&mut self, c: &mut C, at: &At, want: &Wanted<'_>) -> Result<Arc<Activity>, ChunkError> {
        let (mut state, new) = match self.state.take() {
            Some(state) => (state, New::Came),
            None => (self.code_first(c, at, want)?, New::First),
        };
        let now = Now {
            seconds: at.wall_ms.div_euclid(1000),
            page: u64::from(state.page_size).max(1),
            number: self.samples,
            interval: (i64::from(state.interval_ms) / 1000).max(1),
        };
        self.samples = self.samples.wrapping_add(1);
        self.world.code(c, (now, new), &mut state, want.state)?;
        let activity = self.code_others(c, at, &mut state, want)?;
        let (value, bound) = (rows(&state) as u64, State::MAX_ENTRIES as u64);
        if value > bound {
            return Err(ChunkError::TooLarge { offset: c.offset(), what: "rows", value, bound });
        }
        self.state = Some(state);
        Ok(activity)
    }

    fn code_first<C: Coder>(&mut self, c: &mut C, at: &At, want: &Wanted<'_>) -> Result<State, ChunkError> {
        c.on("first state");
        let bare = want.state.map(|state| bare(state, u64::from(state.page_size).max(1)));
        let packed = bare.map(|state| pack_state(at, &state)).unwrap_or_default();
        let bytes = self.parts.code(c, &packed, MAX_PART)?;
        c.toil(bytes.len());
        let state = unpack_state(at, &bytes).map_err(|source| ChunkError::Part { offset: c.offset(), source })?;
        self.world.align(&state, self.samples);
        Ok(state)
    }

    /// Whatever else changed, as a difference.
    fn code_others<C: Coder>(
        &mut self,
        c: &mut C,
        at: &At,
        state: &mut State,
        want: &Wanted<'_>,
    ) -> Result<Arc<Activity>, ChunkError> {
        c.on("others");
        let mut delta = want.state.and_then(|after| diff(state, after, 0)).unwrap_or_default();
        delta.activity = want.activity.cloned().unwrap_or_default();
        if !c.bit(&mut self.other, delta != Delta::default()) {
            return Ok(self.nothing.clone());
        }
        let bytes = self.parts.code(c, &pack_delta(at, &delta), MAX_PART)?;
        let read = unpack_delta(at, &bytes).map_err(|source| ChunkError::Part { offset: c.offset(), source })?;
        *state = apply(state, &read).map_err(|source| ChunkError::Unfit { offset: c.offset(), source })?;
        self.world.align(state, self.samples);
        c.toil(bytes.len() + state.entries());
        Ok(if read.activity.is_empty() { self.nothing.clone() } else { Arc::new(read.activity) })
    }
}
