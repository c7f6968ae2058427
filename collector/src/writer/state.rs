//! What a writer keeps of a host between two commits: some words, whatever the host holds. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_ipc::record::EpochNo;
use highwater_ipc::session::HostFacts;
use highwater_ipc::snapshot::BootId;
use highwater_ipc::time::At;

use crate::host::HostId;
use crate::store::host_facts::Facts;
use crate::store::host_status::{Present, Status, Usage};
use crate::store::stream::{Session, Stream};

/// A host with a session here.
#[derive(Clone, Debug)]
pub(super) struct HostState {
    /// Its session.
    pub(super) session: Session,
    /// Its hello's facts.
    pub(super) hello: Arc<HostFacts>,
    /// How its clock compares with the collector's.
    pub(super) skew: Skew,
    /// The epochs it may write, and the latest one with samples before them.
    pub(super) streams: BTreeMap<EpochNo, Stream>,
    /// The facts stored last.
    pub(super) facts: Option<Arc<Facts>>,
    /// What `host_status` says; `None` = no sample yet.
    pub(super) present: Option<Present>,
    /// The sample of its last `now`, until history has caught up with it.
    pub(super) ahead: Option<At>,
}

/// A host's wall clock against the collector's: measured at hello, and carried on by the host's own boot clock, so that a
/// clock set during a session does not make its present look past or future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Skew {
    hello: At,
    hello_ms: i64,
    now_ms: i64,
}

impl Skew {
    /// As a hello shows it, milliseconds: the host's clock minus the collector's.
    pub(super) fn at_hello(hello: At, collector_ms: i64) -> Self {
        let skew_ms = hello.wall_ms.saturating_sub(collector_ms);
        Self { hello, hello_ms: skew_ms, now_ms: skew_ms }
    }

    /// As a sample of the same boot shows it; one from before the hello says nothing.
    fn see(&mut self, at: &At) {
        if at.boot_us >= self.hello.boot_us {
            self.now_ms = self.hello_ms.saturating_add(at.step_since(&self.hello));
        }
    }
}

impl HostState {
    /// Takes in what a sample says of the host's clock.
    pub(super) fn see_clock(&mut self, boot_id: BootId, at: &At) {
        if boot_id == self.hello.boot_id {
            self.skew.see(at);
        }
    }

    /// The latest epoch before `no` that has samples: where a gap before `no` begins.
    pub(super) fn before(&self, no: EpochNo) -> Option<&Stream> {
        self.streams.range(..no).rev().map(|(_, stream)| stream).find(|stream| stream.covered.is_some())
    }

    /// Whether a sample is not older than the newest one known of: then it is the present.
    pub(super) fn is_present(&self, boot_id: BootId, at: &At) -> bool {
        self.ahead.is_none_or(|ahead| boot_id == self.hello.boot_id && at.boot_us >= ahead.boot_us)
    }

    /// Drops epochs that can no longer matter once `no` is written to: history goes forward only.
    pub(super) fn forget_before(&mut self, no: EpochNo) {
        let has_samples = self.streams.get(&no).is_some_and(|s| s.covered.is_some());
        let keep = if has_samples { no } else { self.before(no).map_or(no, |s| s.epoch.no) };
        self.streams.retain(|epoch, _| *epoch >= keep);
    }

    /// The row of `host_status`; `None` before the first sample.
    pub(super) fn status(&self, host: HostId, last_seen_ms: i64, usage: Usage) -> Option<Status> {
        let present = self.present?;
        Some(Status { host, session: self.session, last_seen_ms, skew_ms: self.skew.now_ms, present, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_after_hello_moves_the_skew_and_a_backlog_from_before_it_does_not() {
        let at = |wall_ms, boot_us| At { wall_ms, boot_us };
        let mut skew = Skew::at_hello(at(100_000, 50_000_000), 99_000);
        skew.see(&at(40_000, 40_000_000));
        assert_eq!(skew.now_ms, 1_000);
        skew.see(&at(101_000, 51_000_000));
        assert_eq!(skew.now_ms, 1_000);
        skew.see(&at(3_702_000, 52_000_000));
        assert_eq!(skew.now_ms, 3_601_000);
        skew.see(&at(103_000, 53_000_000));
        assert_eq!(skew.now_ms, 1_000);
    }
}
