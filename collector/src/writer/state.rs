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
    /// Its clock minus the collector's at hello, milliseconds.
    pub(super) skew_ms: i64,
    /// The epochs it may write, and the latest one with samples before them.
    pub(super) streams: BTreeMap<EpochNo, Stream>,
    /// The facts stored last.
    pub(super) facts: Option<Arc<Facts>>,
    /// What `host_status` says; `None` = no sample yet.
    pub(super) present: Option<Present>,
    /// The sample of its last `now`, until history has caught up with it.
    pub(super) ahead: Option<At>,
}

impl HostState {
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
        Some(Status { host, session: self.session, last_seen_ms, skew_ms: self.skew_ms, present, usage })
    }
}
