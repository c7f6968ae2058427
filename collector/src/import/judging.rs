//! What of an imported past went wrong: its samples are judged as they are built, in the order of history. Pure.
//!
//! Only of a host without an agent: what an agent's host held in a gap that an import fills was passed by when it was judged,
//! and nothing is decided twice. For the same reason what is imported in front of what was judged is passed over.

use highwater_ipc::chunk::Head;
use highwater_ipc::record::EpochNo;
use highwater_ipc::snapshot::State;

use super::pack::Taken;
use crate::evaluate::feed;
use crate::evaluate::judge::{self, Changes, Judge, Memory};
use crate::evaluate::rules::Rules;
use crate::evaluate::state;
use crate::host::HostId;
use crate::query::walk::Position;
use crate::store::flag;

/// An import's samples on their way to the evaluator.
#[derive(Debug)]
pub(super) struct Judging {
    judge: Judge,
    /// What the newest of them read.
    newest: Option<State>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judged {
    /// Flags and their transitions.
    pub(super) changes: Changes,
    /// What is remembered, and the highest share of a limit that was in use; `None` = as before.
    pub(super) memory: Option<(Vec<u8>, f64)>,
}

impl Judging {
    /// Goes on with what is remembered of a host.
    pub(super) fn new(host: HostId, with: &flag::Judged, rules: &Rules) -> Self {
        let memory: Memory = with.memory.as_deref().and_then(state::unpack).unwrap_or_default();
        Self { judge: Judge::new(host, memory, rules.of(&with.labels)), newest: None }
    }

    /// The next sample, as it is stored.
    pub(super) fn sample(&mut self, position: Position, head: &Head, taken: &Taken<'_>, state: &State) {
        let (wall_ms, prev_wall_ms, boot_us) = (head.wall_ms, head.prev_wall_ms, taken.at.boot_us);
        let sample = feed::Sample { wall_ms, prev_wall_ms, boot_us, begins_stretch: prev_wall_ms.is_none(), state };
        if self.judge.sample(&judge::Sample { position, sample, activity: &taken.activity }) {
            self.newest = Some(state.clone());
        }
    }

    /// The last sample of that epoch speaks until then, milliseconds.
    pub(super) fn covered(&mut self, epoch: EpochNo, end_ms: i64) {
        self.judge.covered(epoch, end_ms);
    }

    /// All of the file was told.
    pub(super) fn finish(self) -> Judged {
        let Some(newest) = self.newest else { return Judged::default() };
        let (changes, memory) = self.judge.finish(Some(&newest));
        let memory = state::pack(&memory).map(|memory| (memory, judge::nearest(&newest)));
        Judged { changes, memory }
    }
}
