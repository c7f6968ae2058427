//! Heads: where and when a record is, which its predecessor mostly foretells.

use alloc::vec::Vec;

use super::number::{Number, Signed, tree};
use super::range::{Bit, Coder};
use super::{ChunkError, Head};
use crate::record::{Event, GapReason, RecordKind, Seq};
use crate::time::At;

/// What was learned of heads.
pub(super) struct Heads {
    kind: [Bit; 4],
    seq: Number,
    boot: Signed,
    clock: Signed,
    wall: Signed,
    first: [Bit; 2],
    prev: [Signed; 2],
    together: Bit,
    received: Signed,
    took: Signed,
    odd: Vec<Signed>,
    gap: Bit,
    before: Before,
}

/// What the next head is expected to follow.
struct Before {
    head: Head,
    at: At,
    took_us: u32,
    /// Wall clock less boot clock, microseconds: wherever it lies in the millisecond that is not cut off.
    ahead_us: i64,
    /// Whether there was one in this segment.
    any: bool,
}

/// A head and what comes right after it: a decoder fills it.
pub(super) struct Headed {
    pub(super) head: Head,
    pub(super) at: At,
    pub(super) beside: Beside,
}

/// What a record tells beside state and activity.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    Sample { took_us: u32, gap: Option<GapReason> },
    Event(Event),
    GapReason(GapReason),
}

impl Heads {
    /// The first head is expected where the directory says.
    pub(super) fn new(first_seq: Seq, first_wall_ms: i64) -> Self {
        let kind = RecordKind::Keyframe;
        let head =
            Head { seq: first_seq, kind, wall_ms: first_wall_ms, prev_wall_ms: None, received_ms: first_wall_ms };
        let before = Before { head, at: At::default(), took_us: 0, ahead_us: 0, any: false };
        Heads {
            kind: [Bit::NEW; 4],
            seq: Number::NEW,
            boot: Signed::NEW,
            clock: Signed::NEW,
            wall: Signed::NEW,
            first: [Bit::NEW; 2],
            prev: [Signed::NEW; 2],
            together: Bit::NEW,
            received: Signed::NEW,
            took: Signed::NEW,
            odd: Vec::new(),
            gap: Bit::NEW,
            before,
        }
    }

    /// Codes a head of a host that is sampled every `interval_ms`.
    pub(super) fn code<C: Coder>(&mut self, c: &mut C, want: &Headed, interval_ms: u32) -> Result<Headed, ChunkError> {
        c.on("head");
        let interval = i64::from(interval_ms);
        let kind = match tree(c, &mut self.kind, 2, kind_code(want.head.kind)) {
            0 => RecordKind::Delta,
            1 => RecordKind::Keyframe,
            2 => RecordKind::Event,
            _ => RecordKind::GapReason,
        };
        let last = self.before.head.seq.0;
        let expected = if self.before.any { last.checked_add(1) } else { Some(last) };
        let expected = expected.ok_or_else(|| c.broken("a position"))?;
        let skipped = self.seq.code(c, want.head.seq.0.wrapping_sub(expected).cast_signed()).cast_unsigned();
        let seq = Seq(expected.checked_add(skipped).ok_or_else(|| c.broken("a position"))?);
        let at = self.code_at(c, want.at, skipped, interval);
        c.on("stored time");
        let expected =
            if self.before.any { at.wall_ms.max(self.before.head.wall_ms) } else { self.before.head.wall_ms };
        let wall_ms = expected.wrapping_add(self.wall.code(c, want.head.wall_ms.wrapping_sub(expected)));
        c.on("time before");
        let follows = self.before.any && skipped == 0;
        let prev_wall_ms = if c.bit(&mut self.first[usize::from(self.before.any)], want.head.prev_wall_ms.is_some()) {
            let expected = if follows { self.before.head.wall_ms } else { wall_ms.wrapping_sub(interval) };
            let wanted = want.head.prev_wall_ms.unwrap_or_default().wrapping_sub(expected);
            Some(expected.wrapping_add(self.prev[usize::from(follows)].code(c, wanted)))
        } else {
            None
        };
        c.on("received");
        let last = self.before.head.received_ms;
        let received_ms = if c.bit(&mut self.together, want.head.received_ms == last) {
            last
        } else {
            let expected = wall_ms.wrapping_add(last.wrapping_sub(self.before.head.wall_ms));
            expected.wrapping_add(self.received.code(c, want.head.received_ms.wrapping_sub(expected)))
        };
        self.before.head = Head { seq, kind, wall_ms, prev_wall_ms, received_ms };
        self.before.at = at;
        self.before.any = true;
        let beside = self.code_beside(c, want.beside)?;
        Ok(Headed { head: self.before.head, at, beside })
    }

    fn code_at(&mut self, c: &mut impl Coder, want: At, skipped: u64, interval: i64) -> At {
        c.on("boot clock");
        let passed = skipped.wrapping_add(1).wrapping_mul(interval.wrapping_mul(1000).cast_unsigned());
        let expected = if self.before.any { self.before.at.boot_us.wrapping_add(passed) } else { 0 };
        let late = self.boot.code(c, want.boot_us.wrapping_sub(expected).cast_signed());
        let boot_us = expected.wrapping_add(late.cast_unsigned());
        c.on("wall clock");
        let boot = boot_us.cast_signed();
        let expected = if self.before.any {
            boot.wrapping_add(self.before.ahead_us).div_euclid(1000)
        } else {
            self.before.head.wall_ms
        };
        let wall_ms = expected.wrapping_add(self.clock.code(c, want.wall_ms.wrapping_sub(expected)));
        let within = |rest: i64| wall_ms.wrapping_mul(1000).wrapping_add(rest).wrapping_sub(boot);
        if !self.before.any {
            self.before.ahead_us = within(500);
        } else if wall_ms > expected {
            self.before.ahead_us = within(0);
        } else if wall_ms < expected {
            self.before.ahead_us = within(999);
        }
        At { wall_ms, boot_us }
    }

    fn code_beside<C: Coder>(&mut self, c: &mut C, want: Beside) -> Result<Beside, ChunkError> {
        c.on("what is told");
        let reason = |c: &mut C, odd: &mut Signed, reason: Option<GapReason>| {
            let code = odd.code(c, reason.map_or(0, GapReason::code).into());
            u8::try_from(code).ok().and_then(GapReason::from_code).ok_or_else(|| c.broken("a reason"))
        };
        match self.before.head.kind {
            RecordKind::Keyframe | RecordKind::Delta => {
                let (wanted, gap) = match want {
                    Beside::Sample { took_us, gap } => (took_us, gap),
                    _ => (0, None),
                };
                let took = self.took.code(c, i64::from(wanted) - i64::from(self.before.took_us));
                let took = u32::try_from(took.wrapping_add(self.before.took_us.into()));
                self.before.took_us = took.map_err(|_| c.broken("how long a sample took"))?;
                let gap = match c.bit(&mut self.gap, gap.is_some()) {
                    true => Some(reason(c, self.odd(0), gap)?),
                    false => None,
                };
                Ok(Beside::Sample { took_us: self.before.took_us, gap })
            }
            RecordKind::Event => {
                let (before, by_ms) = match want {
                    Beside::Event(Event::ClockStep { before, by_ms }) => (before, by_ms),
                    _ => (At::default(), 0),
                };
                let At { wall_ms, boot_us } = self.before.at;
                let wall = self.odd(1).code(c, before.wall_ms.wrapping_sub(wall_ms));
                let boot = self.odd(2).code(c, before.boot_us.wrapping_sub(boot_us).cast_signed());
                let by_ms = self.odd(3).code(c, by_ms);
                let (wall_ms, boot_us) = (wall_ms.wrapping_add(wall), boot_us.wrapping_add(boot.cast_unsigned()));
                Ok(Beside::Event(Event::ClockStep { before: At { wall_ms, boot_us }, by_ms }))
            }
            _ => {
                let wanted = if let Beside::GapReason(reason) = want { Some(reason) } else { None };
                Ok(Beside::GapReason(reason(c, self.odd(4), wanted)?))
            }
        }
    }

    /// What hardly any chunk has.
    fn odd(&mut self, which: usize) -> &mut Signed {
        self.odd.resize(5, Signed::NEW);
        &mut self.odd[which]
    }
}

fn kind_code(kind: RecordKind) -> u64 {
    match kind {
        RecordKind::Delta | RecordKind::Heartbeat => 0,
        RecordKind::Keyframe => 1,
        RecordKind::Event => 2,
        RecordKind::GapReason => 3,
    }
}
